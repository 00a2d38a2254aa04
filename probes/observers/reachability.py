"""The reachability matrix: every probe pod knocks at every other, or at a sample, every node at every other node."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any

from analysis.facts import AgentHealth, Probe, ProbeOutcome, ProbeProtocol, ReachabilityMatrix, Sampling
from analysis.sampling import choose_pairs
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
    """Run one plan in every probe, all at once: pods with pods, hosts with hosts.

    Where the pairs of pods are more than the fleet wants probed, a sample of them is; hosts always probe all others.
    """
    pods = probe_set.pods
    targets, sampling = choose_targets(pods, mesh.fleet.full_mesh_limit, mesh.run_id)

    def run(cluster: Cluster, source: int) -> AgentRun:
        return _run(cluster, pods[source], [pods[target] for target in targets[source]])

    started = time.monotonic()
    runs = mesh.each(range(len(pods)), lambda source: pods[source].region, run)
    seconds = time.monotonic() - started
    probes: list[Probe] = []
    for source, outcome in runs:
        for number, protocol in enumerate(protocols_of(pods[source])):
            ports = [port_of(pods[target], protocol) for target in targets[source]]
            if isinstance(outcome, ProbeError):
                probes += (
                    Probe(source, target, protocol, port, ProbeOutcome.INCONCLUSIVE, detail=str(outcome))
                    for target, port in zip(targets[source], ports, strict=True)
                )
            else:
                probes += read_batch(source, targets[source], ports, protocol, outcome.operations[0]["batches"][number])
    return ReachabilityMatrix(
        endpoints=tuple(pod.endpoint for pod in pods),
        probes=tuple(probes),
        agents=tuple(read_health(source, outcome) for source, outcome in runs),
        probes_per_second=len(probes) / seconds if probes else None,
        gaps=probe_set.gaps,
        sampling=sampling,
    )


def choose_targets(
    pods: Sequence[ProbePod], limit: int, seed: str
) -> tuple[dict[int, tuple[int, ...]], Sampling | None]:
    """Whom each probe knocks at, by places in the row of probes, and what was left out on the way.

    Args:
        pods: pods and hosts.
        limit: ordered pairs of pods that are not too many.
        seed: what a sample is drawn from.
    """
    targets: dict[int, tuple[int, ...]] = {}
    sampling = None
    for on_host in (False, True):
        places = [place for place, pod in enumerate(pods) if pod.on_host == on_host]
        homes = [(pods[place].region, pods[place].node) for place in places]
        choice = choose_pairs(homes, limit=len(places) ** 2 if on_host else limit, seed=seed)
        for place, chosen in zip(places, choice.targets, strict=True):
            targets[place] = tuple(places[target] for target in chosen)
        sampling = sampling or choice.sampling
    return targets, sampling


def protocols_of(pod: ProbePod) -> tuple[ProbeProtocol, ...]:
    """How a probe knocks: nodes are spared UDP, which their firewalls need not let through."""
    return NODE_PROTOCOLS if pod.on_host else POD_PROTOCOLS


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
    source: int, targets: Sequence[int], ports: Sequence[int], protocol: ProbeProtocol, batch: dict[str, Any]
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
