"""Paths that lead elsewhere than to a pod: the service addresses of the clusters, and the world outside."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from analysis.facts import EgressProbe, Gap, Paths, ProbeOutcome, ProbeProtocol, ServiceProbe
from analysis.plan import Plan
from probes.client import AgentRun, Operation, column, run_agent
from probes.cluster import Cluster, KubeObject
from probes.cluster_dns import DNS_PORT, IDENTIFYING_NAME
from probes.deploy import ProbePod, ProbeSet, ipv4_of
from probes.errors import ProbeError
from probes.mesh import Mesh

TIMEOUT_S = 3.0
TRIES = 3
WITHIN = timedelta(seconds=15)
DNS_PODS = "k8s-app=kube-dns"
DNS_NAMESPACE = "kube-system"
ENDPOINT_NAME = "{}.kube-dns.kube-system.svc.cluster.local"
"""The name of an endpoint of cluster DNS, which begins with its address: no cluster but its own knows it, so that the
answer tells which cluster gave it, even where all have the same service range."""

KINDS = {"dns-udp": ProbeProtocol.UDP, "dns-tcp": ProbeProtocol.TCP}


def observe_paths(mesh: Mesh, probe_set: ProbeSet) -> Paths:
    """Ask every region's DNS address from one pod of each region, and knock at the egress target from every node."""
    plan = mesh.fleet.plan
    sources = first_on_each_node(probe_set)
    askers = {pod.region: pod.identity for pod in reversed(sources)}
    services: list[ServiceProbe] = []
    egress: list[EgressProbe] = []
    gaps = [
        Gap(region, "service addresses and egress", "no probe pod runs there")
        for region in mesh.regions
        if region not in askers
    ]

    def asks(pod: ProbePod) -> bool:
        return askers[pod.region] == pod.identity

    endpoints = {region: told for region, told in mesh.each_region(dns_endpoint) if isinstance(told, IPv4Address)}
    wanted = [pod for pod in sources if asks(pod) or plan.egress]
    for pod, run in mesh.each(
        wanted,
        lambda pod: pod.region,
        lambda cluster, pod: _run(cluster, pod, operations(plan, endpoints if asks(pod) else None)),
    ):
        if isinstance(run, ProbeError):
            gaps.append(Gap(pod.region, f"service addresses and egress from {pod.name}", str(run)))
            continue
        if run.control_failure:
            gaps.append(Gap(pod.region, f"service addresses and egress from {pod.name}", run.control_failure))
            continue
        for batch in run.operations[0]["batches"]:
            if batch["kind"] == "line":
                egress.append(read_egress(plan, pod, batch))
            else:
                services += read_services(plan, endpoints, pod, batch)
    return Paths(tuple(services), tuple(egress), tuple(gaps))


def first_on_each_node(probe_set: ProbeSet) -> list[ProbePod]:
    """One probe pod per node."""
    found: dict[tuple[str, str], ProbePod] = {}
    for pod in probe_set.on_pods():
        found.setdefault((pod.region, pod.node), pod)
    return list(found.values())


def dns_endpoint(cluster: Cluster) -> IPv4Address | None:
    """The address of a pod that serves that cluster's DNS. Raises ApiError."""
    pods = cluster.items("/api/v1/pods", labelSelector=DNS_PODS)
    ready = [pod for pod in pods if pod["metadata"]["namespace"] == DNS_NAMESPACE and _is_ready(pod)]
    return next(filter(None, map(ipv4_of, ready)), None)


def _is_ready(pod: KubeObject) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def operations(plan: Plan, endpoints: Mapping[str, IPv4Address] | None) -> list[Operation]:
    """What one pod does.

    Args:
        plan: what to knock at.
        endpoints: a DNS server's own address by region, as far as it is known; None for a pod that does not ask DNS.
    """
    batches: list[dict[str, Any]] = []
    if endpoints is not None:
        servers = [
            [str(region.dns_address), DNS_PORT, identifying_name(endpoints.get(region.name))] for region in plan.regions
        ]
        batches += ({"kind": kind, "targets": servers, "timeout": TIMEOUT_S, "tries": TRIES} for kind in KINDS)
    if plan.egress:
        target = [str(plan.egress.address), plan.egress.port, ""]
        batches.append({"kind": "line", "targets": [target], "timeout": TIMEOUT_S})
    return [{"op": "probe", "batches": batches}]


def identifying_name(endpoint: IPv4Address | None) -> str:
    """What to ask a cluster's DNS for."""
    return ENDPOINT_NAME.format(str(endpoint).replace(".", "-")) if endpoint else IDENTIFYING_NAME


def _run(cluster: Cluster, pod: ProbePod, plan: list[Operation]) -> AgentRun:
    run = run_agent(cluster, pod.namespace, pod.name, plan, within=WITHIN, control=pod.control)
    if "error" in run.operations[0]:
        raise ProbeError(f"{pod.identity}: {run.operations[0]['error']}")
    return run


def read_services(
    plan: Plan, endpoints: Mapping[str, IPv4Address], pod: ProbePod, batch: dict[str, Any]
) -> list[ServiceProbe]:
    """The answers of the regions' DNS addresses."""
    rows = zip(plan.regions, *(column(batch, name) for name in ("outcome", "answer", "detail")), strict=True)
    return [
        ServiceProbe(
            source=pod.endpoint,
            target_region=region.name,
            address=region.dns_address,
            protocol=KINDS[batch["kind"]],
            outcome=ProbeOutcome(outcome),
            answered_by=region_of_answer(plan, endpoints, answer or ""),
            detail=detail or answer or "",
        )
        for region, outcome, answer, detail in rows
    ]


def region_of_answer(plan: Plan, endpoints: Mapping[str, IPv4Address], answer: str) -> str:
    """The region whose DNS must have given that answer; "" when it could be any or none.

    It is known by its endpoint, or by its service range where no other region has the same.
    """
    regions = {address: region for region, address in endpoints.items()}
    for word in answer.split()[1:]:
        try:
            address = IPv4Address(word)
        except AddressValueError:
            continue
        if address in regions:
            return regions[address]
        owners = [region.name for region in plan.regions if address in region.service_cidr]
        if len(owners) == 1:
            return owners[0]
    return ""


def read_egress(plan: Plan, pod: ProbePod, batch: dict[str, Any]) -> EgressProbe:
    """What the host outside answered."""
    assert plan.egress is not None
    outcome, answer, detail = (column(batch, name)[0] for name in ("outcome", "answer", "detail"))
    try:
        seen = IPv4Address(answer.split()[0]) if answer else None
    except AddressValueError:
        seen, detail = None, f"the target answered something else than an address: {answer!r}"
    return EgressProbe(pod.endpoint, plan.egress.address, plan.egress.port, ProbeOutcome(outcome), seen, detail or "")
