"""The inventory: what the Kubernetes API of every region lists."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import IPv4Address
from math import ceil

from analysis.facts import Gap, Inventory, Node, Pod, Service
from probes.cluster import Cluster, KubeObject
from probes.deploy import OWNED, RUN, ProbeSet, expired, ipv4_of
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.quantity import parse_quantity

COLLECTIONS = ("nodes", "pods", "services")
FINISHED = ("Succeeded", "Failed")
KEEPS_OFF = ("NoSchedule", "NoExecute")
THOUSANDTHS = 1000
MANUAL_TEST_POD = "network-test"
"""What the published walk-through calls the pods that it starts by hand and forgets."""


def observe_inventory(mesh: Mesh, probe_set: ProbeSet) -> Inventory:
    """List nodes, pods and services of every region."""
    gaps: list[Gap] = []
    listed: dict[tuple[str, str], list[KubeObject]] = {}
    questions = [(region, collection) for region in mesh.regions for collection in COLLECTIONS]

    def ask(cluster: Cluster, question: tuple[str, str]) -> list[KubeObject]:
        return cluster.items(f"/api/v1/{question[1]}")

    for (region, collection), answer in mesh.each(questions, lambda question: question[0], ask):
        if isinstance(answer, ProbeError):
            gaps.append(Gap(region, collection, str(answer)))
            answer = []
        listed[region, collection] = answer
    pods = [(pod, read_pod(region, pod)) for region in mesh.regions for pod in listed[region, "pods"]]
    return Inventory(
        nodes=tuple(read_node(region, node) for region in mesh.regions for node in listed[region, "nodes"]),
        pods=tuple(pod for _, pod in pods if pod.phase not in FINISHED),
        services=tuple(read_service(region, item) for region in mesh.regions for item in listed[region, "services"]),
        leftover_pods=tuple(pod for found, pod in pods if is_leftover(found, probe_set.run)),
        gaps=tuple(gaps),
    )


def read_node(region: str, node: KubeObject) -> Node:
    """A Node object."""
    status = node.get("status", {})
    addresses = [
        (item["type"], item["address"]) for item in status.get("addresses") or [] if ":" not in item["address"]
    ]
    conditions = {item["type"]: item["status"] for item in status.get("conditions") or []}
    return Node(
        region=region,
        name=node["metadata"]["name"],
        internal_ip=next((IPv4Address(address) for kind, address in addresses if kind == "InternalIP"), None),
        ready=conditions.get("Ready") == "True",
        labels=_pairs(node, "labels"),
        annotations=_pairs(node, "annotations"),
        conditions=tuple(sorted(conditions.items())),
        cpu=_allocatable(status, "cpu", THOUSANDTHS),
        memory=_allocatable(status, "memory", 1),
        external_ip=next((IPv4Address(address) for kind, address in addresses if kind == "ExternalIP"), None),
        takes_pods=takes_pods(node.get("spec") or {}),
    )


def takes_pods(spec: KubeObject) -> bool:
    """Whether pods that tolerate nothing may be put on a node with that spec."""
    kept_off = any(taint.get("effect") in KEEPS_OFF for taint in spec.get("taints") or [])
    return not spec.get("unschedulable") and not kept_off


def read_pod(region: str, pod: KubeObject) -> Pod:
    """A Pod object."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    conditions = {item["type"]: item["status"] for item in status.get("conditions") or []}
    return Pod(
        region=region,
        namespace=metadata["namespace"],
        name=metadata["name"],
        node=spec.get("nodeName"),
        ip=ipv4_of(pod),
        host_network=bool(spec.get("hostNetwork")),
        phase=status.get("phase", "Pending"),
        ready=conditions.get("Ready") == "True",
        labels=_pairs(pod, "labels"),
        created=metadata.get("creationTimestamp") or "",
        terminating=bool(metadata.get("deletionTimestamp")),
        host_ports=tuple(
            port["hostPort"]
            for container in spec.get("containers") or []
            for port in container.get("ports") or []
            if port.get("hostPort")
        ),
        cpu=ceil(THOUSANDTHS * _requested(spec, "cpu")),
        memory=ceil(_requested(spec, "memory")),
    )


def _requested(spec: KubeObject, resource: str) -> Fraction:
    """What a pod asks for: its containers together, or one that runs before them if that asks for more."""

    def asked(container: KubeObject) -> Fraction:
        resources = container.get("resources") or {}
        # A limit without a request is a request too.
        text = (resources.get("requests") or {}).get(resource) or (resources.get("limits") or {}).get(resource)
        return parse_quantity(text) if text is not None else Fraction(0)

    before = [container for container in spec.get("initContainers") or [] if container.get("restartPolicy") != "Always"]
    beside = [container for container in spec.get("initContainers") or [] if container.get("restartPolicy") == "Always"]
    together = sum(map(asked, [*(spec.get("containers") or []), *beside]), Fraction(0))
    overhead = (spec.get("overhead") or {}).get(resource)
    return max([together, *map(asked, before)]) + (parse_quantity(overhead) if overhead is not None else 0)


def _allocatable(status: KubeObject, resource: str, units: int) -> int | None:
    quantity = (status.get("allocatable") or {}).get(resource)
    return None if quantity is None else int(units * parse_quantity(quantity))


def read_service(region: str, service: KubeObject) -> Service:
    """A Service object; an IPv6 ClusterIP counts as none."""
    spec = service["spec"]
    addresses = [*(spec.get("clusterIPs") or []), spec.get("clusterIP") or "None"]
    return Service(
        region=region,
        namespace=service["metadata"]["namespace"],
        name=service["metadata"]["name"],
        cluster_ip=next((IPv4Address(text) for text in addresses if text != "None" and ":" not in text), None),
        kind=spec.get("type", "ClusterIP"),
        ports=tuple(port["port"] for port in spec.get("ports") or []),
        node_ports=tuple(port["nodePort"] for port in spec.get("ports") or [] if port.get("nodePort")),
    )


def is_leftover(pod: KubeObject, run: str) -> bool:
    """Whether an earlier run has left this pod: ours, of another run, and past its time or at its end.

    A pod of another run that has neither ended nor expired belongs to a run that is alive.
    """
    metadata = pod["metadata"]
    if metadata.get("deletionTimestamp"):
        return False
    if metadata["name"].startswith(MANUAL_TEST_POD):
        return True
    labels = metadata.get("labels") or {}
    if labels.get(OWNED) != "true" or labels.get(RUN) == run:
        return False
    return expired(pod) or pod.get("status", {}).get("phase") in FINISHED


def _pairs(found: KubeObject, field: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((found["metadata"].get(field) or {}).items()))
