"""The reachability matrix: every probe pod knocks at every other, every node at every other node."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any

from analysis.facts import AgentHealth, Gap, Probe, ProbeOutcome, ProbeProtocol, ReachabilityMatrix
from probes.client import AgentRun, Operation, column, run_agent
from probes.cluster import Cluster
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh

TIMEOUT_S = 3.0
"""Long enough for one more SYN by the kernel (after 1 s), and for three datagrams."""

TRIES = 3
WINDOW = 256
POD_PROTOCOLS = (ProbeProtocol.ICMP, ProbeProtocol.TCP, ProbeProtocol.UDP)
NODE_PROTOCOLS = (ProbeProtocol.ICMP, ProbeProtocol.TCP)


def observe_reachability(mesh: Mesh, probe_set: ProbeSet) -> ReachabilityMatrix:
    """Run one plan in every probe, all at once."""
    return observe_matrix(mesh, probe_set.pods, probe_set.gaps)


def observe_matrix(mesh: Mesh, pods: Sequence[ProbePod], gaps: tuple[Gap, ...] = ()) -> ReachabilityMatrix:
    """The matrix of these probes: pods with pods, hosts with hosts."""
    started = time.monotonic()
    runs = mesh.each(pods, lambda pod: pod.region, lambda cluster, pod: _run(cluster, pod, targets_of(pod, pods)))
    seconds = time.monotonic() - started
    place = {pod.identity: index for index, pod in enumerate(pods)}
    probes: list[Probe] = []
    agents: list[AgentHealth] = []
    for pod, run in runs:
        targets = targets_of(pod, pods)
        source = place[pod.identity]
        indexes = [place[target.identity] for target in targets]
        agents.append(read_health(source, run))
        for number, protocol in enumerate(protocols_of(pod)):
            if isinstance(run, ProbeError):
                probes += (
                    Probe(
                        source, index, protocol, port_of(target, protocol), ProbeOutcome.INCONCLUSIVE, detail=str(run)
                    )
                    for index, target in zip(indexes, targets, strict=True)
                )
            else:
                batch = run.operations[0]["batches"][number]
                ports = [port_of(target, protocol) for target in targets]
                probes += read_batch(source, indexes, ports, protocol, batch)
    rate = len(probes) / seconds if probes else None
    return ReachabilityMatrix(tuple(pod.endpoint for pod in pods), tuple(probes), tuple(agents), rate, gaps)


def protocols_of(pod: ProbePod) -> tuple[ProbeProtocol, ...]:
    """How a probe knocks: nodes are spared UDP, which their firewalls need not let through."""
    return NODE_PROTOCOLS if pod.on_host else POD_PROTOCOLS


def targets_of(pod: ProbePod, pods: Sequence[ProbePod]) -> list[ProbePod]:
    """The others of its kind, beginning with its successor, so that not all knock at the same door at once."""
    peers = [other for other in pods if other.on_host == pod.on_host]
    own = peers.index(pod)
    return peers[own + 1 :] + peers[:own]


def port_of(pod: ProbePod, protocol: ProbeProtocol) -> int:
    """Where to knock; 0 for ICMP."""
    return {ProbeProtocol.ICMP: 0, ProbeProtocol.TCP: pod.tcp_port, ProbeProtocol.UDP: pod.udp_port}[protocol]


def _run(cluster: Cluster, pod: ProbePod, targets: list[ProbePod]) -> AgentRun:
    batches = [
        {
            "kind": protocol.value,
            "targets": [[str(target.address), port_of(target, protocol), target.identity] for target in targets],
            "timeout": TIMEOUT_S,
            "tries": 1 if protocol is ProbeProtocol.TCP else TRIES,
            "window": WINDOW,
        }
        for protocol in protocols_of(pod)
    ]
    operation: Operation = {"op": "probe", "batches": batches}
    # Enough even when every probe is dropped.
    within = timedelta(seconds=10 + TIMEOUT_S * (1 + len(targets) / WINDOW))
    run = run_agent(cluster, pod.namespace, pod.name, [operation], within=within, control=pod.control)
    if "error" in run.operations[0]:
        raise ProbeError(f"{pod.identity}: {run.operations[0]['error']}")
    return run


def read_health(endpoint: int, run: AgentRun | ProbeError) -> AgentHealth:
    """How the instrument fared at that endpoint."""
    if isinstance(run, ProbeError):
        return AgentHealth(endpoint, loopback_ok=False, error=str(run))
    return AgentHealth(endpoint, not run.control_failure, run.retries, run.control_failure)


def read_batch(
    source: int, targets: list[int], ports: list[int], protocol: ProbeProtocol, batch: dict[str, Any]
) -> list[Probe]:
    """The probes of a batch, from the columns of its result."""
    names = ("outcome", "seen", "ttl", "detail")
    rows = zip(targets, ports, batch["rtt_us"], *(column(batch, name) for name in names), strict=True)
    return [
        Probe(
            source=source,
            target=target,
            protocol=protocol,
            port=port,
            outcome=ProbeOutcome(outcome),
            rtt=None if rtt is None else rtt / 1e6,
            seen_source=IPv4Address(seen) if seen else None,
            ttl=ttl,
            detail=detail or "",
        )
        for target, port, rtt, outcome, seen, ttl, detail in rows
    ]
