"""What policy stops, tried again while it is away and once it is back: few flows, of the kinds that it is for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from analysis.facts import Party, ProbeOutcome, Way
from analysis.plan import DATABASE
from probes.flows import Flow, Tried, knock, try_flows
from probes.mesh import Mesh
from probes.roles import ARBITRARY
from probes.scene import Scene


def few(scene: Scene) -> list[Flow]:
    """Between pods of the database, and from and to strangers: the ports that somebody may use, and one for nobody."""
    ports = {ARBITRARY, *(port for flow in scene.policy.allow if flow.target == DATABASE for port in flow.ports)}
    database = set(scene.places(Party.ROLE, DATABASE))
    ours = database | set(scene.places(Party.STRANGER))
    return [
        flow
        for flow in scene.flows()
        if flow.way is Way.DIRECT
        and flow.kind in ("tcp", "udp")
        and flow.port in ports
        and {flow.source, flow.target} <= ours
        and database & {flow.source, flow.target}
    ]


def stopped(flows: Iterable[Flow]) -> list[Flow]:
    """One of every ordered pair of regions that policy must stop, from strangers to the database."""
    return [flow for flow in flows if flow.kind == "tcp" and not flow.must_pass and flow.port != ARBITRARY]


def try_without(mesh: Mesh, scene: Scene, flows: Sequence[Flow]) -> Tried:
    """Try them where all must pass: whoever does not is asked again."""
    return try_flows(mesh, scene.sides, [replace(flow, must_pass=True, controls=()) for flow in flows])


def are_open(mesh: Mesh, scene: Scene, flows: Sequence[Flow]) -> bool:
    """Whether all of them pass."""
    return all(trial.outcome is ProbeOutcome.OPEN for trial in knock(mesh, scene.sides, flows).trials)


def are_closed(mesh: Mesh, scene: Scene, flows: Sequence[Flow]) -> bool:
    """Whether none of them passes."""
    return all(trial.outcome is not ProbeOutcome.OPEN for trial in knock(mesh, scene.sides, flows).trials)
