"""Detours: ports of nodes that lead to pods of the database, tried by those whom policy stops on the straight way.

Packets that come by a node port have had their target rewritten, and mostly their sender too: what policy is asked
about them, and where, is not what it is asked about others. A firewall in front of the nodes may close this way; then
there is nothing to go around policy by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from analysis.facts import Gap, Party, ProbeOutcome, Way
from analysis.plan import DATABASE
from probes.flows import TIMEOUT_S, Flow, Tried, knock, try_flows
from probes.mesh import Mesh
from probes.roles import NODE_PORTS
from probes.scene import Scene, first_of_each_region


@dataclass(frozen=True)
class _Detour:
    """A flow by a node, and another by the same node from the same place or from beside it, to whom no policy is about.

    Attributes:
        leads: the flow that shows whether the node's ports lead anywhere; also one of the controls.
        whence: region of the source; `whither` the node.
    """

    flow: Flow
    leads: Flow
    whence: str
    whither: tuple[str, str]


def try_node_ports(mesh: Mesh, scene: Scene) -> Tried:
    """Try them, as far as anybody gets to a pod by them; where nobody does, that is a gap of this part alone."""
    detours = list(_detours(scene))
    leads = list(dict.fromkeys(detour.leads for detour in detours))
    knocked = knock(mesh, scene.sides, leads, timeout=TIMEOUT_S)
    leading = {lead for lead, trial in zip(leads, knocked.trials, strict=True) if trial.outcome is ProbeOutcome.OPEN}
    tried = try_flows(mesh, scene.sides, [detour.flow for detour in detours if detour.leads in leading])
    shut = dict.fromkeys((detour.whither, detour.whence) for detour in detours if detour.leads not in leading)
    gaps = tuple(
        Gap(region, f"ports of node {node}", f"from pods of {whence} they lead to no pod", (NODE_PORTS,))
        for (region, node), whence in shut
    )
    return Tried(tried.trials, tried.unwell, (*tried.gaps, *gaps))


def _detours(scene: Scene) -> Iterator[_Detour]:
    """From strangers, and from database pods to ports that they may not use, by nodes of the target's region."""
    database = scene.places(Party.ROLE, DATABASE)
    for target in database:
        region = scene.sides[target].participant.region
        for source in [*scene.places(Party.STRANGER), *first_of_each_region(scene.sides, database)]:
            for node in scene.places(Party.NODE, region=region) if source != target else ():
                lead = _lead(scene, source, node)
                for port, node_port in scene.sides[target].node_ports:
                    if lead is None or port in scene.must_pass(source, target):
                        continue
                    controls = (*scene.controls(source, target), lead, *_entrance(scene, target, node))
                    flow = Flow(
                        source,
                        target,
                        "tcp",
                        port,
                        Way.NODE_PORT,
                        controls=controls,
                        through=(_address(scene, node), node_port),
                    )
                    whence, by = scene.sides[source].participant, scene.sides[node].participant
                    yield _Detour(flow, lead, whence.region, (by.region, by.node))


def _lead(scene: Scene, source: int, node: int) -> Flow | None:
    """By that node to a stranger, from the source or, where policy may stop it, from a client beside it."""
    own = [source] if scene.sides[source].participant.party is Party.STRANGER else []
    for end in scene.places(Party.STRANGER, region=scene.sides[node].participant.region):
        for port, node_port in scene.sides[end].node_ports:
            for caller in (*own, *scene.clients_near(source)):
                if caller != end:
                    return Flow(caller, end, "tcp", port, through=(_address(scene, node), node_port))
    return None


def _entrance(scene: Scene, target: int, node: int) -> Iterator[Flow]:
    """A client on the target's own node gets in by it, for policy there sees who calls.

    Other nodes put their own address on what they send on, so that nobody gets in by them.
    """
    own = scene.sides[node].participant.node
    for client in scene.clients_near(target)[:1]:
        if own == scene.sides[target].participant.node == scene.sides[client].participant.node:
            for port, node_port in scene.sides[target].node_ports:
                if port in scene.must_pass(client, target):
                    yield Flow(client, target, "tcp", port, through=(_address(scene, node), node_port))


def _address(scene: Scene, node: int) -> str:
    return str(scene.sides[node].participant.address)
