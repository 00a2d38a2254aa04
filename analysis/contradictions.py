"""Where control plane and data path say different things: each alone would send an engineer the wrong way.

A control plane that is well while packets are lost hides what is wrong: nobody gets an alarm. Packets that pass while
the control plane is down live on what was learnt before: routes that a graceful restart keeps, entries that outlive
their agent. The next change is then an outage. Both are told per direction between two regions, from facts that were
gathered for the checks, without another look at the environment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from analysis.expectation import RemoteBlock, mesh_name, remote_blocks
from analysis.facts import (
    Addressing,
    Federation,
    FibRoute,
    Forwarding,
    Inventory,
    Probe,
    ProbeOutcome,
    ProbeProtocol,
    ReachabilityMatrix,
    Routing,
)
from analysis.plan import Plan, RegionPlan
from analysis.prefixes import PrefixTable
from analysis.words import NodeKey, count, listed, qualified

NAMED_NODE_PAIRS = 3


@dataclass(frozen=True)
class Contradiction:
    """One direction between two regions, or two parties, on which control plane and data path disagree.

    Attributes:
        subject: the direction ("us-east-1 -> us-west-1").
        control: what the control plane says.
        data: what the data path says.
        meaning: what is likely behind it.
        remedy: where to look.
        between: the two that disagree, in words.
    """

    subject: str
    control: str
    data: str
    meaning: str
    remedy: str
    between: str = "control plane and data path"


@dataclass(frozen=True)
class Observed:
    """The facts that are compared. Families that were not gathered are left empty: nothing is then said about them."""

    inventory: Inventory
    addressing: Addressing
    reachability: ReachabilityMatrix
    routing: Routing
    forwarding: Forwarding
    federation: Federation


@dataclass
class _Control:
    """What the control plane says of a direction: what it holds for good, and what for broken."""

    well: list[str] = field(default_factory=list)
    down: list[str] = field(default_factory=list)


@dataclass
class _Data:
    """What pods saw in a direction, by pair of nodes."""

    passed: int = 0
    by_pair: defaultdict[tuple[str, str], list[bool]] = field(default_factory=lambda: defaultdict(list))
    by_protocol: defaultdict[ProbeProtocol, list[bool]] = field(default_factory=lambda: defaultdict(list))

    @property
    def probed(self) -> int:
        """Probes that say something."""
        return sum(map(len, self.by_pair.values()))

    @property
    def dead_pairs(self) -> list[tuple[str, str]]:
        """Pairs of nodes between which nothing passes."""
        return [pair for pair, passed in self.by_pair.items() if not any(passed)]

    @property
    def dead_protocols(self) -> list[ProbeProtocol]:
        """Protocols by which nothing passes, while others do."""
        return [protocol for protocol, passed in self.by_protocol.items() if not any(passed)]


def find_contradictions(plan: Plan, observed: Observed) -> tuple[Contradiction, ...]:
    """Every direction between two regions on which control plane and data path disagree, in plan order."""
    data = _data(observed.reachability)
    routed = _Routed(plan, observed)
    found = []
    for here, there in plan.ordered_pairs():
        seen = data.get((here.name, there.name))
        if seen is None or not seen.probed:
            continue
        control = _control(here, there, observed, routed)
        subject = f"{here.name} -> {there.name}"
        lost = _lost(here, there, seen)
        if lost and control.well and not control.down:
            found.append(
                Contradiction(
                    subject,
                    listed(control.well, limit=8),
                    lost,
                    "packets are lost below what the control plane looks at: in a packet filter, the tunnel or the "
                    "underlay",
                    "capture on both nodes' underlay interface and on the tunnel device, and see where packets end",
                )
            )
        elif control.down and seen.passed == seen.probed and not routed.by_a_detour(here, there):
            found.append(
                Contradiction(
                    subject,
                    listed(control.down, limit=8),
                    f"pods reach each other all the same: {count(seen.passed, 'probe')} of {seen.probed} passed",
                    "traffic lives on what was learnt before (graceful restart, entries that outlive their agent): "
                    "new pods, blocks and nodes will not be reached, and what goes will be missed too late",
                    "bring the control plane back before anything changes: sessions, then the store or reflector",
                )
            )
    return tuple(found)


def _lost(here: RegionPlan, there: RegionPlan, seen: _Data) -> str:
    """What does not pass although it should, in words; "" when nothing is missing."""
    if not seen.passed:
        return f"no pod of {here.name} reaches one of {there.name}: 0 of {count(seen.probed, 'probe')} passed"
    if pairs := seen.dead_pairs:
        names = (f"{a} -> {b}" for a, b in pairs)
        return f"nothing passes between the pods of {len(pairs)} of {count(len(seen.by_pair), 'pair')} of nodes: " + (
            listed(names, limit=NAMED_NODE_PAIRS)
        )
    if protocols := seen.dead_protocols:
        return f"nothing passes by {listed(protocol.value.upper() for protocol in protocols)}, while the rest does"
    return ""


def _data(matrix: ReachabilityMatrix) -> dict[tuple[str, str], _Data]:
    """What pods saw, by direction. An agent that did not reach its own listener proves nothing."""
    sound = {agent.endpoint for agent in matrix.agents if agent.loopback_ok and not agent.error}
    data: defaultdict[tuple[str, str], _Data] = defaultdict(_Data)
    for probe in matrix.probes:
        if probe.outcome is not ProbeOutcome.INCONCLUSIVE and {probe.source, probe.target} <= sound:
            _count(matrix, probe, data)
    return dict(data)


def _count(matrix: ReachabilityMatrix, probe: Probe, data: defaultdict[tuple[str, str], _Data]) -> None:
    source, target = matrix.endpoints[probe.source], matrix.endpoints[probe.target]
    if source.on_host or target.on_host or source.region == target.region:
        return
    passed = probe.outcome is ProbeOutcome.OPEN
    direction = data[source.region, target.region]
    direction.passed += passed
    direction.by_protocol[probe.protocol].append(passed)
    direction.by_pair[qualified((source.region, source.node)), qualified((target.region, target.node))].append(passed)


def _control(here: RegionPlan, there: RegionPlan, observed: Observed, routed: _Routed) -> _Control:
    """What the control planes of two regions say of the way from one to the other."""
    said = _Control()
    _sessions(here, there, observed, said)
    _stores(here, there, observed, said)
    missing = routed.missing(here, there)
    if missing is not None:
        if missing:
            said.down.append(f"{count(missing, 'route')} of {here.name}'s nodes to blocks of {there.name} are missing")
        else:
            said.well.append(f"every node of {here.name} has a route to every block of {there.name}")
    health = [
        item.reachable
        for item in observed.federation.health
        if item.region == here.name and item.cluster == mesh_name(there)
    ]
    if health and all(health):
        said.well.append(f"the agents' own health probes reach all nodes of {there.name}")
    return said


def _sessions(here: RegionPlan, there: RegionPlan, observed: Observed, said: _Control) -> None:
    regions = {node.internal_ip: node.region for node in observed.inventory.nodes if node.internal_ip is not None}
    states = [
        session.established
        for session in observed.routing.sessions
        if session.peer_address is not None
        and {session.region, regions.get(session.peer_address)} == {here.name, there.name}
    ]
    if states and all(states):
        said.well.append("the BGP sessions between the two are established")
    elif states and not any(states):
        said.down.append("no BGP session between the two is established")


def _stores(here: RegionPlan, there: RegionPlan, observed: Observed, said: _Control) -> None:
    """Agents that read each other's stores; a cluster's one connection says nothing about how packets are forwarded."""
    links = [
        remote.connected and remote.ready
        for remote in observed.federation.remotes
        if remote.node is not None and remote.region == here.name and remote.remote == mesh_name(there)
    ]
    if links and all(links):
        said.well.append(f"every agent of {here.name} is connected to the store of {there.name}")
    elif links and not any(links):
        said.down.append(f"no agent of {here.name} is connected to the store of {there.name}")


class _Routed:
    """By what routes nodes forward to the blocks of other regions."""

    def __init__(self, plan: Plan, observed: Observed) -> None:
        self._observed = observed
        self._blocks = remote_blocks(plan, observed.inventory, observed.addressing)
        tables: defaultdict[NodeKey, list[FibRoute]] = defaultdict(list)
        for route in observed.forwarding.routes:
            if route.prefix.prefixlen:  # the default route leads out of the mesh
                tables[route.region, route.node].append(route)
        self._tables = {node: PrefixTable((route.prefix, route) for route in routes) for node, routes in tables.items()}

    def missing(self, here: RegionPlan, there: RegionPlan) -> int | None:
        """How many routes nodes lack to blocks of the other region; None where no table or no block was seen."""
        pairs = list(self._pairs(here, there))
        if not pairs:
            return None
        return sum(not any(route.kind == "unicast" for route in table.longest(block.cidr)) for table, block in pairs)

    def by_a_detour(self, here: RegionPlan, there: RegionPlan) -> bool:
        """Whether BGP brings the routes to the other region by way of a third one, which is how it should be."""
        return any(
            route.best and route.from_bgp and len(route.as_path) > 1 and route.prefix.subnet_of(there.pod_cidr)
            for route in self._observed.routing.routes
            if route.region == here.name
        )

    def _pairs(self, here: RegionPlan, there: RegionPlan) -> Iterator[tuple[PrefixTable[FibRoute], RemoteBlock]]:
        blocks = [block for block in self._blocks.get(here.name, ()) if block.region == there.name]
        for (region, _), table in self._tables.items():
            if region == here.name:
                yield from ((table, block) for block in blocks)
