"""Round trips and throughput between regions, pod to pod and node to node, on the same pair of nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Any

from analysis.facts import Gap, PathQuality, ProbeOutcome, RegionPairQuality
from probes.client import Operation, column, run_agent
from probes.cluster import Cluster
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.observers.paths import first_on_each_node

SAMPLES = 20
TIMEOUT_S = 1.0
PATIENCE = 2
ROUNDS = 10
"""At most. A transfer is repeated until the two best agree: the question is what the path can carry, and a busy
machine can only make a transfer slower."""

TRANSFER_BYTES = 4 << 20
TRANSFER_SECONDS = 1.0
ECHOES = ("icmp", "tcp")
"""In order of preference; both are answered by the kernel, so that neither side's scheduling is measured."""


@dataclass(frozen=True)
class Ends:
    """The probes that stand for a region: a pod, and its node."""

    pod: ProbePod
    host: ProbePod | None


@dataclass
class Measured:
    """What was measured from one probe to another, as far as it has come.

    Attributes:
        echoes: round trips in seconds, by kind of echo; only of those that were answered.
        throughput: bytes per second of the best transfer, None when there was none.
        errors: why something is missing.
    """

    echoes: dict[str, list[float]]
    throughput: float | None
    errors: list[str]


Flow = tuple[ProbePod, ProbePod]


def observe_quality(mesh: Mesh, probe_set: ProbeSet) -> PathQuality:
    """Measure every ordered pair of regions.

    Round trips of all regions at once, pods first and nodes then; transfers one after the other, because two at once
    would measure each other, and only where echoes were answered.
    """
    ends = ends_of_regions(probe_set)
    gaps = [
        Gap(region, "round trips and throughput", "no probe pod runs there")
        for region in mesh.regions
        if region not in ends
    ]
    sides = [[end.pod for end in ends.values()], [end.host for end in ends.values() if end.host]]
    measured = {flow: seen for side in sides for flow, seen in _echoes(mesh, side).items()}
    for turn in zip(*sides, strict=False):
        for source in turn:
            targets = [target for (start, target), seen in measured.items() if start == source and seen.echoes]
            answers = _transfer(mesh.cluster(source.region), source, targets)
            for target, (throughput, error) in zip(targets, answers, strict=True):
                measured[source, target].throughput = throughput
                measured[source, target].errors += [error] if error else []
    pairs = [
        compare(a, b, measured[ends[a].pod, ends[b].pod], _between(measured, ends[a].host, ends[b].host))
        for a in ends
        for b in ends
        if a != b
    ]
    return PathQuality(tuple(pairs), tuple(gaps))


def ends_of_regions(probe_set: ProbeSet) -> dict[str, Ends]:
    """For each region its last node's pod and host: a plain worker rather than the reflector."""
    hosts = {(pod.region, pod.node): pod for pod in probe_set.on_hosts()}
    return {pod.region: Ends(pod, hosts.get((pod.region, pod.node))) for pod in first_on_each_node(probe_set)}


def others(source: ProbePod, probes: Iterable[ProbePod]) -> list[ProbePod]:
    """Those of the other regions."""
    return [probe for probe in probes if probe.region != source.region]


def _between(measured: dict[Flow, Measured], source: ProbePod | None, target: ProbePod | None) -> Measured | None:
    return measured[source, target] if source and target else None


def _echoes(mesh: Mesh, side: list[ProbePod]) -> dict[Flow, Measured]:
    """Round trips between all of one kind, every source at once."""
    runs = mesh.each(side, lambda pod: pod.region, lambda cluster, pod: _echo(cluster, pod, others(pod, side)))
    return {
        (source, target): Measured({}, None, [str(seen)]) if isinstance(seen, ProbeError) else seen[number]
        for source, seen in runs
        for number, target in enumerate(others(source, side))
    }


def _echo(cluster: Cluster, source: ProbePod, targets: list[ProbePod]) -> list[Measured]:
    """Round trips to every target, one at a time; none to those who do not answer a first knock of all at once.

    Raises:
        ProbeError: the agent gave no result, or its own listener did not answer it.
    """
    knocks = [_batch(kind, targets, {"tries": PATIENCE}) for kind in ECHOES]
    (first,) = _ask(cluster, source, [{"op": "probe", "batches": knocks}])
    if "error" in first:
        raise ProbeError(f"{source.identity}: {first['error']}")
    measured = [Measured({}, None, []) for _ in targets]
    answering: list[tuple[int, str]] = []
    for kind, batch in zip(ECHOES, first["batches"], strict=True):
        for number, (outcome, detail) in enumerate(zip(column(batch, "outcome"), column(batch, "detail"), strict=True)):
            if outcome == ProbeOutcome.OPEN.value:
                answering.append((number, kind))
            else:
                measured[number].errors.append(f"{kind}: {detail}")
    trains = [
        _batch(kind, [targets[number]] * SAMPLES, {"window": 1, "patience": PATIENCE}) for number, kind in answering
    ]
    answers = _ask(cluster, source, [{"op": "probe", "batches": [train]} for train in trains])
    for (number, kind), answer in zip(answering, answers, strict=True):
        trips = read_trips(answer)
        if isinstance(trips, str):
            measured[number].errors.append(f"{kind}: {trips}")
        else:
            measured[number].echoes[kind] = trips
    return measured


def _batch(kind: str, targets: list[ProbePod], manner: dict[str, int]) -> dict[str, Any]:
    places = [[str(target.address), target.tcp_port if kind == "tcp" else 0, target.identity] for target in targets]
    return {"kind": kind, "targets": places, "timeout": TIMEOUT_S, **manner}


def _ask(cluster: Cluster, source: ProbePod, operations: list[Operation]) -> Sequence[dict[str, Any]]:
    """What the agent answers. Raises ProbeError."""
    within = timedelta(seconds=5 + len(operations) * ((PATIENCE + 1) * TIMEOUT_S + SAMPLES * 0.2))
    run = run_agent(cluster, source.namespace, source.name, operations, within=within, control=source.control)
    if run.control_failure:
        raise ProbeError(f"{source.identity}: {run.control_failure}")
    return run.operations


def read_trips(answer: dict[str, Any]) -> list[float] | str:
    """The round trips of a train of echoes in seconds, or why there is none."""
    if "error" in answer:
        return str(answer["error"])
    batch = answer["batches"][0]
    trips = [microseconds / 1e6 for microseconds in batch["rtt_us"] if microseconds is not None]
    return trips or str(column(batch, "detail")[0])


def _transfer(cluster: Cluster, source: ProbePod, targets: list[ProbePod]) -> list[tuple[float | None, str]]:
    """The best rate to every target, or why there is none."""
    if not targets:
        return []
    operations: list[Operation] = [
        {
            "op": "transfer",
            "target": [str(target.address), target.sink_port, target.identity],
            "bytes": TRANSFER_BYTES,
            "seconds": TRANSFER_SECONDS,
            "rounds": ROUNDS,
        }
        for target in targets
    ]
    within = timedelta(seconds=len(targets) * (ROUNDS * TRANSFER_SECONDS + 4))
    try:
        run = run_agent(cluster, source.namespace, source.name, operations, within=within, control=source.control)
    except ProbeError as error:
        return [(None, str(error))] * len(targets)
    if run.control_failure:
        return [(None, run.control_failure)] * len(targets)
    return [read_transfer(answer) for answer in run.operations]


def read_transfer(answer: dict[str, Any]) -> tuple[float | None, str]:
    """The best rate in bytes per second, or why there is none."""
    if "error" in answer:
        return None, str(answer["error"])
    return max(done["bytes"] / done["seconds"] for done in answer["rounds"]), ""


def compare(source: str, target: str, pods: Measured, nodes: Measured | None) -> RegionPairQuality:
    """Pods and nodes side by side, by the same kind of echo."""
    kinds = [kind for kind in ECHOES if kind in pods.echoes and (nodes is None or kind in nodes.echoes)]
    pod_trips = pods.echoes[kinds[0]] if kinds else []
    node_trips = nodes.echoes[kinds[0]] if kinds and nodes else []
    errors = [f"pods: {error}" for error in pods.errors]
    errors += [f"nodes: {error}" for error in nodes.errors] if nodes else ["no probe runs in the nodes' network"]
    return RegionPairQuality(
        source_region=source,
        target_region=target,
        samples=len(pod_trips),
        pod_rtt=median(pod_trips) if pod_trips else None,
        node_rtt=median(node_trips) if node_trips else None,
        pod_throughput=pods.throughput,
        node_throughput=nodes.throughput if nodes else None,
        detail="; ".join(errors),
    )
