"""ReplicaSet: as many pods of one template as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from provision.lab.kube.client import REPLICA_SETS, ApiClient, KubeObject, Reflector
from provision.lab.kube.controllers.ownership import PodControl, is_active, is_ready, pod_from_template, report
from provision.lab.kube.controllers.queue import Key


class ReplicaSetController:
    """Makes and deletes the pods of ReplicaSets."""

    def __init__(self, client: ApiClient, sets: Reflector, pods: PodControl) -> None:
        self._client = client
        self._sets = sets
        self._pods = pods

    async def reconcile(self, key: Key) -> None:
        """Brings the number of a ReplicaSet's pods to what its spec says, and reports."""
        namespace, name = key
        replica_set = self._sets.get(name, namespace)
        if replica_set is None or "deletionTimestamp" in replica_set["metadata"]:
            return
        await self._pods.adopt_orphans(replica_set, REPLICA_SETS)
        pods = [pod for pod in self._pods.owned_by(replica_set) if is_active(pod)]
        wanted = replica_set["spec"].get("replicas", 1)
        for _ in range(wanted - len(pods)):
            pod = pod_from_template(replica_set, REPLICA_SETS, replica_set["spec"]["template"], {})
            pod["metadata"]["generateName"] = f"{name}-"
            pods.append(await self._pods.create(pod))
        for pod in dispensable_first(pods)[: max(0, len(pods) - wanted)]:
            await self._pods.delete(pod)
            pods.remove(pod)
        await report(self._client, REPLICA_SETS, replica_set, replica_set_status(replica_set, pods))


def dispensable_first(pods: Sequence[KubeObject]) -> list[KubeObject]:
    """The pods in the order in which they are given up: unbound, then not ready, then the youngest."""

    def youngest_first(pod: KubeObject) -> list[int]:
        return [-ord(letter) for letter in pod["metadata"].get("creationTimestamp") or ""]

    return sorted(pods, key=lambda pod: (bool(pod["spec"].get("nodeName")), is_ready(pod), youngest_first(pod)))


def replica_set_status(replica_set: KubeObject, pods: Sequence[KubeObject]) -> dict[str, Any]:
    """What a ReplicaSet reports of itself. A pod counts as available as soon as it is ready."""
    labels = replica_set["spec"]["template"]["metadata"].get("labels") or {}
    ready = sum(map(is_ready, pods))
    return {
        "replicas": len(pods),
        "fullyLabeledReplicas": sum(labels.items() <= (pod["metadata"].get("labels") or {}).items() for pod in pods),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "observedGeneration": replica_set["metadata"].get("generation", 1),
    }
