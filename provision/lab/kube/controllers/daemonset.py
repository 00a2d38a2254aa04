"""DaemonSet: one pod on every node that its template fits, bound directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from provision.lab.kube.client import DAEMON_SETS, ApiClient, KubeObject, Reflector
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
from provision.lab.kube.controllers.rollout import amount
from provision.lab.kube.controllers.selectors import node_fits, repels

HASH_LABEL = "controller-revision-hash"
TOLERATIONS: tuple[dict[str, str], ...] = (
    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/network-unavailable", "operator": "Exists", "effect": "NoSchedule"},
)
"""What Kubernetes adds to every pod of a DaemonSet: it is there as long as its node is."""


class DaemonSetController:
    """Makes, replaces and deletes the pods of DaemonSets."""

    def __init__(self, client: ApiClient, sets: Reflector, nodes: Reflector, pods: PodControl) -> None:
        self._client = client
        self._sets = sets
        self._nodes = nodes
        self._pods = pods

    async def reconcile(self, key: Key) -> None:
        """Brings a DaemonSet's pods in line with the nodes and with its template, and reports."""
        namespace, name = key
        daemon_set = self._sets.get(name, namespace)
        if daemon_set is None or "deletionTimestamp" in daemon_set["metadata"]:
            return
        await self._pods.adopt_orphans(daemon_set, DAEMON_SETS)
        fitting = {node["metadata"]["name"] for node in self._nodes if runs_on(daemon_set, node)}
        by_node: dict[str, KubeObject] = {}
        for pod in self._pods.owned_by(daemon_set):
            node = pod["spec"].get("nodeName", "")
            if "deletionTimestamp" in pod["metadata"]:
                by_node.setdefault(node, pod)  # its successor waits until it has gone
            elif not is_active(pod) or node not in fitting or is_active(by_node.get(node, _NOBODY)):
                await self._pods.delete(pod)
            else:
                by_node[node] = pod
        for node in sorted(fitting - by_node.keys()):
            by_node[node] = await self._create(daemon_set, node)
        await self._replace_outdated(daemon_set, list(by_node.values()))
        status = daemon_set_status(daemon_set, len(fitting), list(by_node.values()))
        await report(self._client, DAEMON_SETS, daemon_set, status)

    async def _create(self, daemon_set: KubeObject, node: str) -> KubeObject:
        template = daemon_set["spec"]["template"]
        pod = pod_from_template(daemon_set, DAEMON_SETS, template, {HASH_LABEL: short_hash(template)})
        pod["metadata"]["generateName"] = f"{daemon_set['metadata']['name']}-"
        pod["spec"]["nodeName"] = node
        pod["spec"]["tolerations"] = [*(pod["spec"].get("tolerations") or ()), *TOLERATIONS]
        return await self._pods.create(pod)

    async def _replace_outdated(self, daemon_set: KubeObject, pods: Sequence[KubeObject]) -> None:
        strategy = daemon_set["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        limit = amount((strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1), len(pods), up=True)
        missing = sum(not (is_active(pod) and is_ready(pod)) for pod in pods)
        for pod in pods:
            if not is_active(pod) or is_current(daemon_set, pod):
                continue
            if is_ready(pod):
                if missing >= limit:
                    continue
                missing += 1
            await self._pods.delete(pod)


def runs_on(daemon_set: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Whether a DaemonSet wants a pod on a node."""
    spec = daemon_set["spec"]["template"]["spec"]
    if "deletionTimestamp" in node["metadata"]:
        return False
    return node_fits(spec, node) and not repels(node, [*(spec.get("tolerations") or ()), *TOLERATIONS])


def is_current(daemon_set: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether a pod is of the DaemonSet's present template. One without a hash is of its first."""
    revision = (pod["metadata"].get("labels") or {}).get(HASH_LABEL)
    if revision is None:
        return bool(daemon_set["metadata"].get("generation", FIRST_GENERATION) == FIRST_GENERATION)
    return bool(revision == short_hash(daemon_set["spec"]["template"]))


def daemon_set_status(daemon_set: KubeObject, desired: int, pods: Sequence[KubeObject]) -> dict[str, Any]:
    """What a DaemonSet reports of itself."""
    active = [pod for pod in pods if is_active(pod)]
    ready = sum(map(is_ready, active))
    return {
        "observedGeneration": daemon_set["metadata"].get("generation", FIRST_GENERATION),
        "currentNumberScheduled": len(active),
        "desiredNumberScheduled": desired,
        "numberAvailable": ready,
        "numberMisscheduled": 0,
        "numberReady": ready,
        "numberUnavailable": desired - ready,
        "updatedNumberScheduled": sum(is_current(daemon_set, pod) for pod in active),
    }


_NOBODY: KubeObject = {"metadata": {"deletionTimestamp": ""}}
