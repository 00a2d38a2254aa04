"""Knocks: from every node, a bare TCP connection to places in other clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address

from analysis.facts import Gap, ProbeOutcome, StoreKnock
from analysis.fleet import Capability
from probes.client import AgentRun, Operation, column, run_agent
from probes.cluster import Cluster
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh

KNOCK_TIMEOUT_S = 3.0
WITHIN = timedelta(seconds=20)
PARTS = ("knocks",)
"""The fields of `Federation` that a knock fills."""


@dataclass(frozen=True)
class Place:
    """Where to knock.

    Attributes:
        remote: the name of the cluster that it is in.
    """

    remote: str
    address: IPv4Address
    port: int


def observe_knocks(
    mesh: Mesh, probe_set: ProbeSet, places: Mapping[str, Sequence[Place]]
) -> tuple[tuple[StoreKnock, ...], tuple[Gap, ...]]:
    """Knock from the probe of every node, one exec each.

    Args:
        mesh: the clusters.
        probe_set: the probes.
        places: where each region's nodes knock.
    """
    hosts = [pod for pod in probe_set.on_hosts() if places.get(pod.region)]
    knocks: list[StoreKnock] = []
    gaps: list[Gap] = []
    if Capability.NODE_PROBES in mesh.fleet.capabilities:  # without it, what is missing is missing by choice
        covered = {pod.region for pod in hosts}
        silent = [region for region in places if places[region] and region not in covered]
        gaps += (
            Gap(region, "knocks from its nodes", "no probe runs in the nodes' network", PARTS) for region in silent
        )

    def knock(cluster: Cluster, pod: ProbePod) -> AgentRun:
        targets = [[str(place.address), place.port, ""] for place in places[pod.region]]
        batch = {"kind": "knock", "targets": targets, "timeout": KNOCK_TIMEOUT_S}
        operation: Operation = {"op": "probe", "batches": [batch]}
        run = run_agent(cluster, pod.namespace, pod.name, [operation], within=WITHIN, control=pod.control)
        if run.control_failure or "error" in run.operations[0]:
            raise ProbeError(f"{pod.identity}: {run.control_failure or run.operations[0]['error']}")
        return run

    for pod, run in mesh.each(hosts, lambda pod: pod.region, knock):
        if isinstance(run, ProbeError):
            gaps.append(Gap(pod.region, f"node {pod.node}: knocks at other clusters", str(run), PARTS))
            continue
        batch = run.operations[0]["batches"][0]
        rows = zip(places[pod.region], column(batch, "outcome"), column(batch, "detail"), strict=True)
        knocks += (
            StoreKnock(
                pod.region, pod.node, place.remote, place.address, place.port, ProbeOutcome(outcome), detail or ""
            )
            for place, outcome, detail in rows
        )
    return tuple(knocks), tuple(gaps)
