"""How large packets may be between regions, pod to pod and node to node, and whether bulk transfers come through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any

from analysis.facts import BulkTransfer, Gap, Mtu, PathMtu, Refusal
from probes.client import AgentRun, run_agent
from probes.cluster import Cluster
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.observers.paths import first_on_each_node
from probes.observers.quality import ends_of_regions

FLOOR = 512
"""Bytes. What does not let these pass is no question of size."""

TIMEOUT_S = 1.0
TRIES = 3
SEARCH_WITHIN = timedelta(seconds=20)
MOST_TARGETS = 24
"""In each other region. In larger clusters every probe aims at others of them, so that all are aimed at."""

SLOWEST = 1_000_000
"""Bytes per second. A transfer that is slower is broken off, and told as far as it came."""

LEAST_TIME = timedelta(seconds=8)
STALL_MARGIN = 1.25
"""A transfer that stands still for the budget and a quarter has stalled: the rest of it is not waited for."""


@dataclass(frozen=True)
class Flow:
    """A bulk transfer to be made."""

    source: ProbePod
    target: ProbePod


def observe_mtu(mesh: Mesh, probe_set: ProbeSet) -> Mtu:
    """Search from every probe to those of the other regions, all at once; then make the transfers, all at once."""
    sides = (first_on_each_node(probe_set), list(probe_set.on_hosts()))
    aims = [(source, targets) for side in sides for source in side if (targets := targets_of(source, side))]
    paths: list[PathMtu] = []
    probed = {source.region for source in sides[0]}
    gaps = [Gap(region, "path MTU", "no probe pod runs there") for region in mesh.regions if region not in probed]
    for (source, targets), found in mesh.each(
        aims, lambda aim: aim[0].region, lambda cluster, aim: _find(cluster, *aim)
    ):
        if isinstance(found, ProbeError):
            gaps.append(Gap(source.region, f"{source.identity} on {source.node}: path MTU", str(found)))
        else:
            paths += (read_path(source, target, each) for target, each in zip(targets, found, strict=True))
    pods = [ends.pod for ends in ends_of_regions(probe_set).values()]
    flows = [Flow(a, b) for a in pods for b in pods if a.region != b.region]
    transfers = [
        read_transfer(mesh, flow, answer)
        for flow, answer in mesh.each(
            flows, lambda flow: flow.source.region, lambda cluster, flow: _transfer(mesh, cluster, flow)
        )
    ]
    return Mtu(tuple(paths), tuple(transfers), tuple(gaps))


def targets_of(source: ProbePod, side: Sequence[ProbePod]) -> list[ProbePod]:
    """The probes of the other regions that one aims at: all of them, or as many as there may be, in turn."""
    by_region: dict[str, list[ProbePod]] = {}
    for probe in side:
        by_region.setdefault(probe.region, []).append(probe)
    turn = next(place for place, probe in enumerate(by_region[source.region]) if probe.identity == source.identity)
    return [
        probes[(turn + step) % len(probes)]
        for region, probes in by_region.items()
        if region != source.region
        for step in range(min(MOST_TARGETS, len(probes)))
    ]


def _find(cluster: Cluster, source: ProbePod, targets: Sequence[ProbePod]) -> list[dict[str, Any]]:
    operation = {
        "op": "mtu",
        "targets": [[str(target.address), target.tcp_port, target.udp_port, target.identity] for target in targets],
        "floor": FLOOR,
        "timeout": TIMEOUT_S,
        "tries": TRIES,
    }
    run = run_agent(cluster, source.namespace, source.name, [operation], within=SEARCH_WITHIN, control=source.control)
    found: list[dict[str, Any]] = _answer(source, run)["targets"]
    return found


def _transfer(mesh: Mesh, cluster: Cluster, flow: Flow) -> dict[str, Any]:
    plan = mesh.fleet.plan
    seconds = max(LEAST_TIME.total_seconds(), plan.bulk_bytes / SLOWEST)
    operation = {
        "op": "transfer",
        "target": [str(flow.target.address), flow.target.sink_port, flow.target.identity],
        "bytes": plan.bulk_bytes,
        "seconds": seconds,
        "rounds": 1,
        "patience": plan.budgets.stall.total_seconds() * STALL_MARGIN,
    }
    source = flow.source
    within = timedelta(seconds=seconds + 5)
    run = run_agent(cluster, source.namespace, source.name, [operation], within=within, control=source.control)
    done: dict[str, Any] = _answer(source, run)["rounds"][0]
    return done


def _answer(source: ProbePod, run: AgentRun) -> dict[str, Any]:
    """What the only operation of a run came to. Raises ProbeError when that is nothing to go by."""
    answer = run.operations[0]
    problem = run.control_failure or answer.get("error")
    if problem:
        raise ProbeError(f"{source.identity}: {problem}")
    return answer


def read_path(source: ProbePod, target: ProbePod, found: dict[str, Any]) -> PathMtu:
    """What the agent found out of one path."""
    refusal, by = found.get("refusal"), found.get("refused_by")
    return PathMtu(
        source=source.endpoint,
        target=target.endpoint,
        interface_mtu=found["interface_mtu"],
        route_mtu=found["route_mtu"],
        largest=found["largest"],
        refused=found.get("refused"),
        refusal=Refusal(refusal) if refusal else None,
        refused_by=IPv4Address(by) if by else None,
        reported=found.get("reported"),
        segment=found["segment"],
        detail=found.get("detail") or "",
    )


def read_transfer(mesh: Mesh, flow: Flow, answer: dict[str, Any] | ProbeError) -> BulkTransfer:
    """What came of a transfer; of one that did not begin, why."""
    wanted = mesh.fleet.plan.bulk_bytes
    if isinstance(answer, ProbeError):
        return BulkTransfer(flow.source.endpoint, flow.target.endpoint, wanted, 0, 0.0, 0.0, detail=str(answer))
    return BulkTransfer(
        source=flow.source.endpoint,
        target=flow.target.endpoint,
        wanted=wanted,
        sent=answer["bytes"],
        seconds=answer["seconds"],
        longest_stall=answer["stall"],
        retransmits=answer["retransmits"],
    )
