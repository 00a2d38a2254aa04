"""StatefulSet: pods with stable names and storage, started in order, replaced from the last to the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from provision.lab.kube.client import (
    PERSISTENT_VOLUME_CLAIMS,
    STATEFUL_SETS,
    AlreadyExists,
    ApiClient,
    KubeObject,
    Reflector,
)
from provision.lab.kube.controllers.ownership import (
    FIRST_GENERATION,
    PodControl,
    is_active,
    is_ready,
    pod_from_template,
    report,
    short_hash,
)
from provision.lab.kube.controllers.queue import Key
from provision.lab.kube.objects import POD_INDEX_LABEL, POD_NAME_LABEL

HASH_LABEL = "controller-revision-hash"


class StatefulSetController:
    """Makes, replaces and deletes the pods of StatefulSets, and makes the claims that hold their data."""

    def __init__(self, client: ApiClient, sets: Reflector, pods: PodControl) -> None:
        self._client = client
        self._sets = sets
        self._pods = pods

    async def reconcile(self, key: Key) -> None:
        """Takes the next step that the order of a StatefulSet's pods allows, and reports."""
        namespace, name = key
        stateful_set = self._sets.get(name, namespace)
        if stateful_set is None or "deletionTimestamp" in stateful_set["metadata"]:
            return
        await self._pods.adopt_orphans(stateful_set, STATEFUL_SETS)
        owned = self._pods.owned_by(stateful_set)
        pods = {number: pod for pod in owned if (number := ordinal(pod, name)) is not None}
        if not await self._replace_ended(pods):
            await self._step(stateful_set, pods)
        await report(self._client, STATEFUL_SETS, stateful_set, stateful_set_status(stateful_set, list(pods.values())))

    async def _replace_ended(self, pods: Mapping[int, KubeObject]) -> bool:
        ended = [pod for pod in pods.values() if not is_active(pod) and "deletionTimestamp" not in pod["metadata"]]
        for pod in ended:
            await self._pods.delete(pod)
        return bool(ended)

    async def _step(self, stateful_set: KubeObject, pods: dict[int, KubeObject]) -> None:
        spec = stateful_set["spec"]
        wanted = range(first_ordinal(spec), first_ordinal(spec) + spec.get("replicas", 1))
        parallel = spec.get("podManagementPolicy") == "Parallel"
        for index in wanted:
            if index not in pods:
                pods[index] = await self._create(stateful_set, index)
            if not parallel and not (is_active(pods[index]) and is_ready(pods[index])):
                return
        for index in sorted(pods.keys() - set(wanted), reverse=True):
            if is_active(pods[index]):
                await self._pods.delete(pods[index])
            if not parallel:
                return
        await self._replace_outdated(stateful_set, pods, wanted)

    async def _replace_outdated(self, stateful_set: KubeObject, pods: Mapping[int, KubeObject], wanted: range) -> None:
        strategy = stateful_set["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        first = (strategy.get("rollingUpdate") or {}).get("partition") or 0
        for index in reversed(wanted):
            pod = pods[index]
            if not is_active(pod):
                return
            if index >= first and not is_current(stateful_set, pod):
                await self._pods.delete(pod)
                return
            if not is_ready(pod):
                return

    async def _create(self, stateful_set: KubeObject, index: int) -> KubeObject:
        meta, spec = stateful_set["metadata"], stateful_set["spec"]
        name = f"{meta['name']}-{index}"
        labels = {HASH_LABEL: short_hash(spec["template"]), POD_NAME_LABEL: name, POD_INDEX_LABEL: str(index)}
        pod = pod_from_template(stateful_set, STATEFUL_SETS, spec["template"], labels)
        pod["metadata"]["name"] = name
        pod["spec"]["hostname"] = name
        if spec.get("serviceName"):
            pod["spec"]["subdomain"] = spec["serviceName"]
        claims = await self._claims(stateful_set, name)
        own = [row for row in pod["spec"].get("volumes") or () if row["name"] not in claims]
        pod["spec"]["volumes"] = own + [
            {"name": volume, "persistentVolumeClaim": {"claimName": claim}} for volume, claim in claims.items()
        ]
        return await self._pods.create(pod)

    async def _claims(self, stateful_set: KubeObject, pod: str) -> dict[str, str]:
        """The claims of one pod, by volume. They outlive the pod, and are found again by its successor."""
        namespace = stateful_set["metadata"]["namespace"]
        claims = {}
        for template in stateful_set["spec"].get("volumeClaimTemplates") or ():
            meta = template["metadata"]
            name = claims[meta["name"]] = f"{meta['name']}-{pod}"
            selector = stateful_set["spec"]["selector"].get("matchLabels") or {}
            claim = {
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "labels": {**(meta.get("labels") or {}), **selector},
                    "annotations": dict(meta.get("annotations") or {}),
                },
                "spec": deepcopy(template["spec"]),
            }
            try:
                await self._client.create(PERSISTENT_VOLUME_CLAIMS, claim)
            except AlreadyExists:
                continue
        return claims


def ordinal(pod: Mapping[str, Any], stateful_set: str) -> int | None:
    """The number at the end of a pod's name; None for a name that this StatefulSet would not give."""
    base, _, number = pod["metadata"]["name"].rpartition("-")
    return int(number) if base == stateful_set and number.isdecimal() else None


def first_ordinal(spec: Mapping[str, Any]) -> int:
    """Where a StatefulSet begins to count."""
    return int((spec.get("ordinals") or {}).get("start") or 0)


def is_current(stateful_set: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether a pod is of the StatefulSet's present template. One without a hash is of its first."""
    revision = pod["metadata"]["labels"].get(HASH_LABEL)
    if revision is None:
        return bool(stateful_set["metadata"].get("generation", FIRST_GENERATION) == FIRST_GENERATION)
    return bool(revision == short_hash(stateful_set["spec"]["template"]))


def stateful_set_status(stateful_set: KubeObject, pods: Sequence[KubeObject]) -> dict[str, Any]:
    """What a StatefulSet reports of itself."""
    active = [pod for pod in pods if is_active(pod)]
    ready = sum(map(is_ready, active))
    current = sum(is_current(stateful_set, pod) for pod in active)
    revision = f"{stateful_set['metadata']['name']}-{short_hash(stateful_set['spec']['template'])}"
    before = (stateful_set.get("status") or {}).get("currentRevision")
    return {
        "observedGeneration": stateful_set["metadata"].get("generation", 1),
        "replicas": len(active),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "currentReplicas": current,
        "updatedReplicas": current,
        # The revision that is being left stays the current one until the last pod has left it.
        "currentRevision": revision if current == len(active) or before is None else before,
        "updateRevision": revision,
    }
