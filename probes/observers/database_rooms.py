"""The room for database pods: what they request, and what nodes that they may run on have left for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import ceil
from typing import Any

from analysis.facts import NodeRoom
from analysis.plan import DatabasePlan
from probes.cluster import Cluster, KubeObject
from probes.observers.database_members import is_member
from probes.quantity import parse_quantity

CPU, MEMORY = "cpu", "memory"
ENDED = ("Succeeded", "Failed")
KEEPING_OUT = ("NoSchedule", "NoExecute")


def read_rooms(cluster: Cluster, database: DatabasePlan) -> tuple[NodeRoom, ...]:
    """What the nodes that database pods may run on have for them. Raises ApiError."""
    taken: defaultdict[str, dict[str, int]] = defaultdict(dict)
    members = []
    for pod in cluster.items("/api/v1/pods"):
        if is_member(pod, database, cluster.region):
            members.append(pod["spec"])
        elif (node := pod["spec"].get("nodeName")) and (pod.get("status") or {}).get("phase") not in ENDED:
            for resource, amount in requested(pod).items():
                taken[node][resource] = taken[node].get(resource, 0) + amount
    nodes = cluster.items("/api/v1/nodes")
    return tuple(
        NodeRoom(
            cluster.region,
            node["metadata"]["name"],
            cpu=thousandths(allocatable[CPU]),
            memory=whole(allocatable[MEMORY]),
            cpu_taken=taken[node["metadata"]["name"]].get(CPU, 0),
            memory_taken=taken[node["metadata"]["name"]].get(MEMORY, 0),
        )
        for node in nodes
        if all(may_run_on(node, pod) for pod in members[:1]) and (allocatable := node["status"].get("allocatable"))
    )


def may_run_on(node: KubeObject, pod_spec: Mapping[str, Any]) -> bool:
    """Whether taints, the node's cordon and the pod's node selector let it run there. Affinity is not looked at."""
    spec, labels = node.get("spec") or {}, node["metadata"].get("labels") or {}
    if not (pod_spec.get("nodeSelector") or {}).items() <= labels.items():
        return False
    taints = [taint for taint in spec.get("taints") or () if taint.get("effect") in KEEPING_OUT]
    if spec.get("unschedulable"):
        taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    tolerations = pod_spec.get("tolerations") or ()
    return all(any(_tolerates(toleration, taint) for toleration in tolerations) for taint in taints)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return toleration.get("key") == taint["key"] and (toleration.get("value") or "") == (taint.get("value") or "")


def requested(pod: KubeObject) -> dict[str, int]:
    """What a pod requests: of processors in thousandths, of memory in bytes; what it does not ask for is absent.

    Containers run together, and init containers before them one after the other, so the larger of both counts.
    """
    spec = pod["spec"]
    together: dict[str, int] = {}
    for container in spec["containers"]:
        for resource, amount in _requests(container).items():
            together[resource] = together.get(resource, 0) + amount
    for container in spec.get("initContainers") or ():
        for resource, amount in _requests(container).items():
            together[resource] = max(together.get(resource, 0), amount)
    return together


def _requests(container: KubeObject) -> dict[str, int]:
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}  # a limit alone is a request too
    measures = {CPU: thousandths, MEMORY: whole}
    return {resource: measure(asked[resource]) for resource, measure in measures.items() if resource in asked}


def thousandths(quantity: str | int) -> int:
    """An amount in thousandths, rounded up."""
    return ceil(parse_quantity(quantity) * 1000)


def whole(quantity: str | int) -> int:
    """An amount as a whole number, rounded up."""
    return ceil(parse_quantity(quantity))
