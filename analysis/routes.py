"""NET-ROUTE, the data plane: which node holds which prefix, by which next hop, on which device, and what not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network

from analysis.expectation import RemoteBlock, is_reflector, remote_blocks
from analysis.facts import Addressing, FibRoute, Forwarding, Inventory, MeshConfiguration, Node, RibRoute, Routing
from analysis.plan import Encapsulation, Plan
from analysis.prefixes import PrefixTable
from analysis.rootcause import Layer
from analysis.verdict import Finding, Verdict, conclude, not_applicable
from analysis.words import NodeKey, gap_findings, listed, name_nodes, node_gap, qualified, together, unseen_regions

BGP_PROTOCOLS = frozenset({"bird", "12", "bgp"})
"""What `ip route` calls a route that the BGP daemon installed; 12 where iproute2 does not know the name."""

KERNEL_PROTOCOL = "kernel"
"""What the names of BIRD's protocols begin with that exchange routes with the kernel."""

DEFAULT_ROUTE = IPv4Network("0.0.0.0/0")


def judge_remote_routes(
    plan: Plan, inventory: Inventory, addressing: Addressing, forwarding: Forwarding, routing: Routing
) -> Verdict:
    """NET-ROUTE-008: every node can forward to every block of the other clusters, and to all of it."""
    fib = _Fib(plan, inventory, addressing, forwarding, routing)
    deviations = []
    for node, block, covering, parts in fib.block_routes():
        if covering is None:
            deviations.append((node, (block, "no route")))
            continue
        dead = [route for route in (covering, *parts) if route.kind != "unicast"]
        if dead:
            deviations.append((node, (block, _article(dead[0]))))
    return conclude(
        expected="every node has a route to every block of the other clusters",
        examined=fib.pairs,
        what="routes from a node to a remote block",
        violations=fib.findings(deviations, "a route that forwards", _why_missing, fib.lacking),
        gaps=fib.gaps,
        remedy="follow the route: the owner's routing agent, what lies between the clusters (route reflectors, or the "
        "owner's mesh store), this node's agent, this node's kernel",
    )


def judge_next_hops(
    plan: Plan, inventory: Inventory, addressing: Addressing, forwarding: Forwarding, routing: Routing
) -> Verdict:
    """NET-ROUTE-009: a route to a remote block, or to a part of it, delivers at the node that owns the block.

    A route into another cluster's pod range that leads to a block nobody owns is left over, and a violation too.
    """
    fib = _Fib(plan, inventory, addressing, forwarding, routing)
    deviations: list[_Deviation] = []
    unknown: list[tuple[NodeKey, RemoteBlock]] = []
    examined = 0
    for node, block, route in fib.forwarding_routes():
        examined += 1
        endpoints = _endpoints(route)
        wrong = [address for address in endpoints if address is not None and address not in block.endpoints]
        if wrong and (block.endpoints or any(address not in fib.hosts for address in wrong)):
            whole = route.prefix.prefixlen <= block.cidr.prefixlen
            part = "" if whole else f"its part {route.prefix} "
            deviations.append((node, (block, f"{part}leads to {listed(map(fib.name_host, wrong))}")))
        elif not block.endpoints or (None in endpoints and route.prefix.prefixlen <= block.cidr.prefixlen):
            unknown.append((node, block))
    stale = [(node, (block, f"leads to {listed(map(fib.name_host, ends))}")) for node, block, ends in fib.stale()]
    return conclude(
        expected="the next hop of every remote block is the node that owns it",
        examined=examined,
        what="routes to remote blocks",
        violations=[
            *fib.findings(deviations, "to lead to the owner of the block", fib.why_elsewhere, fib.misled),
            *fib.findings(
                stale, "no route, for no node owns this block", lambda *_: "the route outlived its block", fib.misled
            ),
        ],
        gaps=[
            *fib.gaps,
            *(
                Finding(
                    f"{name_nodes(nodes, inventory)} -> {fib.name_blocks(blocks)}",
                    "the route's far end to be observed",
                    "it could not be told where the tunnel leads, or who owns the block",
                )
                for nodes, blocks in together(unknown)
            ),
        ],
    )


def judge_tunnel_devices(plan: Plan, inventory: Inventory, addressing: Addressing, forwarding: Forwarding) -> Verdict:
    """NET-ROUTE-010: routes to remote blocks leave through a device of the planned encapsulation."""
    expected = f"routes to remote blocks leave through a {plan.encapsulation.value} device"
    if plan.encapsulation is Encapsulation.NONE:
        return not_applicable(expected, "the plan asks for no encapsulation")
    kinds = {(link.region, link.node, link.name): link.kind for link in forwarding.links}
    fib = _Fib(plan, inventory, addressing, forwarding, Routing((), ()))
    deviations: list[_Deviation] = []
    unknown: dict[tuple[str, str, str], None] = {}
    examined = 0
    for node, block, route in fib.forwarding_routes():
        examined += 1
        for _, device in route.gateways:
            kind = kinds.get((*node, device))
            if kind is None:
                unknown[(*node, device)] = None
            elif kind != plan.encapsulation.value:
                deviations.append((node, (block, f"leaves by {device}, which is {kind or 'no tunnel'}")))
    return conclude(
        expected=expected,
        examined=examined,
        what="routes to remote blocks",
        violations=fib.findings(
            deviations,
            f"to leave by a {plan.encapsulation.value} device",
            lambda *_: "this cluster was not told to encapsulate packets for the block",
        ),
        gaps=[
            *fib.gaps,
            *(
                Finding(
                    f"device {device} of {qualified((region, node))}", "its kind to be observed", "it is not listed"
                )
                for region, node, device in unknown
            ),
        ],
    )


def judge_service_routes(
    plan: Plan, inventory: Inventory, configuration: MeshConfiguration, forwarding: Forwarding
) -> Verdict:
    """NET-ROUTE-011: every node has a route to the service range of each other cluster, where these are routed.

    Where they are not, no cluster advertises its own, and no node has a route into another's.
    """
    if not plan.services_routed:
        return _judge_no_service_routes(plan, inventory, configuration, forwarding)
    expected = "every cluster advertises its service range, and every node of the other clusters has a route into it"
    advertised = {identity.region: identity.advertised_service_cidrs for identity in configuration.identities}
    violations = [
        Finding(
            f"cluster {region.name}",
            f"to advertise {region.service_cidr}",
            f"advertises {listed(advertised[region.name]) or 'no service range'}",
            layer=Layer.RIB,
        )
        for region in plan.regions
        if region.name in advertised and region.service_cidr not in advertised[region.name]
    ]
    tables = _tables(forwarding)
    hosts = {node.internal_ip: node for node in inventory.nodes}
    deviations: list[tuple[NodeKey, tuple[str, str]]] = []
    gaps = gap_findings([*inventory.gaps, *configuration.gaps])
    examined = 0
    for node in inventory.nodes:
        key = (node.region, node.name)
        if key not in tables:
            gaps.append(node_gap(node, "routes", forwarding.gaps))
            continue
        for region in plan.others(node.region):
            examined += 1
            route = _preferred(tables[key].longest(region.service_cidr))
            if route is None:
                deviations.append((key, (region.name, "no route")))
            elif route.kind != "unicast":
                deviations.append((key, (region.name, _article(route))))
            else:
                ends = [end for end in _endpoints(route) if end is not None]
                astray = [end for end in ends if end not in hosts or hosts[end].region != region.name]
                if astray:
                    deviations.append((key, (region.name, f"leads to {listed(astray)}, outside {region.name}")))
    for nodes, things in together(deviations):
        for region_name, problem in things:
            planned = plan.region(region_name)
            violations.append(
                Finding(
                    f"{name_nodes(nodes, inventory)} -> {planned.service_cidr}, services of {region_name}",
                    f"a route to a node of {region_name}",
                    problem,
                    layer=Layer.RIB if planned.service_cidr not in advertised.get(region_name, ()) else None,
                )
            )
    return conclude(
        expected=expected, examined=examined, what="routes to remote service ranges", violations=violations, gaps=gaps
    )


def _judge_no_service_routes(
    plan: Plan, inventory: Inventory, configuration: MeshConfiguration, forwarding: Forwarding
) -> Verdict:
    """A route into a service range is one inside of it, or one around it that leaves by a tunnel."""
    ranges: defaultdict[IPv4Network, list[str]] = defaultdict(list)
    for region in plan.regions:
        ranges[region.service_cidr].append(region.name)
    planned = {region.name for region in plan.regions}
    observed = {(route.region, route.node) for route in forwarding.routes}
    nodes = [node for node in inventory.nodes if node.region in planned]
    deviations: list[tuple[NodeKey, tuple[str, str]]] = []
    for route in forwarding.routes:
        if route.kind != "unicast" or route.region not in planned or route.prefix == DEFAULT_ROUTE:
            continue
        for cidr, owners in ranges.items():
            inside = route.prefix.subnet_of(cidr)
            around = cidr.subnet_of(route.prefix) and any(route.tunnel_endpoints)
            if (inside or around) and owners != [route.region]:
                ends = listed(end for end in _endpoints(route) if end is not None)
                way = f"a route to {ends}" if ends else f"a route by {listed(name for _, name in route.gateways)}"
                deviations.append(
                    ((route.region, route.node), (f"{route.prefix}, in services of {listed(owners)}", way))
                )
    return conclude(
        expected="no cluster advertises its service range, and no node has a route into that of another cluster",
        examined=sum((node.region, node.name) in observed for node in nodes),
        what="nodes",
        violations=[
            *(
                Finding(
                    f"cluster {identity.region}",
                    "to advertise no service range",
                    f"advertises {listed(identity.advertised_service_cidrs)}",
                )
                for identity in configuration.identities
                if identity.region in planned and identity.advertised_service_cidrs
            ),
            *(
                Finding(
                    f"{name_nodes(where, inventory)} -> {target}",
                    "no route: every node serves ClusterIPs itself",
                    way,
                    "the route takes packets for a service of the own cluster to another one",
                )
                for where, things in together(deviations)
                for target, way in things
            ),
        ],
        gaps=[
            *gap_findings([*inventory.gaps, *configuration.gaps]),
            *(node_gap(node, "routes", forwarding.gaps) for node in nodes if (node.region, node.name) not in observed),
        ],
    )


def judge_own_services_kept_out(plan: Plan, inventory: Inventory, forwarding: Forwarding) -> Verdict:
    """NET-ROUTE-012: no node forwards its own cluster's service range by a route that BGP brought."""
    ranges = {region.name: region.service_cidr for region in plan.regions}
    observed = _tables(forwarding)
    deviations = [
        ((route.region, route.node), (str(route.prefix), route.kind))
        for route in forwarding.routes
        if route.protocol in BGP_PROTOCOLS
        and route.region in ranges
        and route.prefix != DEFAULT_ROUTE
        and route.prefix.overlaps(ranges[route.region])
    ]
    nodes = [node for node in inventory.nodes if node.region in ranges]
    return conclude(
        expected="no node has a route from BGP to the service range of its own cluster",
        examined=sum((node.region, node.name) in observed for node in nodes),
        what="nodes",
        violations=[
            Finding(
                f"{name_nodes(where, inventory)} -> {prefix}",
                "no route from BGP",
                f"a {kind} route of the BGP daemon",
                "another node's announcement is taken for a way to the services, which every node serves itself",
            )
            for where, things in together(deviations)
            for prefix, kind in things
        ],
        gaps=[
            *gap_findings(inventory.gaps),
            *(node_gap(node, "routes", forwarding.gaps) for node in nodes if (node.region, node.name) not in observed),
        ],
    )


def judge_exchanged_prefixes(plan: Plan, inventory: Inventory, addressing: Addressing, routing: Routing) -> Verdict:
    """NET-ROUTE-016: BGP carries owned blocks and routed service ranges, each from its own cluster, and no more."""
    prefixes = _PlannedPrefixes(plan, addressing)
    as_numbers = {region.name: region.as_number for region in plan.regions}
    names = {node.internal_ip: qualified((node.region, node.name)) for node in inventory.nodes}
    by_hand = _by_hand(routing)
    deviations: list[tuple[NodeKey, tuple[IPv4Network, str, str]]] = []
    sources: defaultdict[IPv4Network, set[IPv4Address]] = defaultdict(set)
    learned = [route for route in routing.routes if route.from_bgp and route.region in as_numbers]
    for route in learned:
        origin = route.as_path[-1] if route.as_path else as_numbers[route.region]
        complaint = prefixes.complaint(route, origin)
        if complaint:
            deviations.append(((route.region, route.node), (route.prefix, f"from AS {origin}", complaint)))
            if route.learned_from:
                sources[route.prefix].add(route.learned_from)
    return conclude(
        expected="only owned blocks and routed service ranges are exchanged, each announced by its own cluster",
        examined=len(learned),
        what="routes learned by BGP",
        violations=[
            Finding(
                f"{prefix} on {name_nodes(nodes, inventory)}",
                "not to be exchanged",
                f"{complaint}; {origin}, learned from "
                + (listed(names.get(source, str(source)) for source in sorted(sources[prefix])) or "an unknown peer"),
                _put_there(by_hand[prefix])
                if prefix in by_hand
                else "an export filter is missing, or a node announces what it does not own",
                Layer.FIB if prefix in by_hand else None,
            )
            for nodes, things in together(deviations)
            for prefix, origin, complaint in sorted(things)
        ],
        gaps=[*gap_findings([*inventory.gaps, *addressing.gaps]), *_unread_ribs(inventory, routing)],
    )


def judge_direct_paths(plan: Plan, inventory: Inventory, addressing: Addressing, routing: Routing) -> Verdict:
    """NET-ROUTE-018: between clusters whose reflectors are in session, the best path crosses no third cluster.

    Clusters whose direct session is down are left out: a detour is then what one wishes for (NET-ROUTE-006 tells).
    """
    regions = {node.internal_ip: node.region for node in inventory.nodes if node.internal_ip is not None}
    direct = {
        (session.region, regions[session.peer_address])
        for session in routing.sessions
        if session.established and session.peer_address in regions
    }
    direct |= {(b, a) for a, b in direct}
    owners = PrefixTable(
        (block.cidr, block.region) for blocks in remote_blocks(plan, inventory, addressing).values() for block in blocks
    )
    services = {region.service_cidr: region.name for region in plan.regions}
    by_hand = _by_hand(routing)
    deviations: list[tuple[NodeKey, tuple[str, tuple[int, ...], IPv4Network]]] = []
    examined = 0
    for route in routing.routes:
        if not (route.best and route.from_bgp):
            continue
        owner = next(iter(owners.exact(route.prefix)), services.get(route.prefix))
        if owner is None or owner == route.region or (route.region, owner) not in direct:
            continue
        examined += 1
        if len(route.as_path) != 1:
            deviations.append(((route.region, route.node), (owner, route.as_path, route.prefix)))
    violations = []
    for nodes, things in together(deviations):
        by_path: defaultdict[tuple[str, tuple[int, ...]], list[IPv4Network]] = defaultdict(list)
        for owner, path, prefix in things:
            by_path[owner, path].append(prefix)
        violations += [
            Finding(
                f"{name_nodes(nodes, inventory)} -> {listed(sorted(prefixes))}, {owner}",
                "an AS path of length 1",
                f"AS path {' '.join(map(str, path)) or 'empty'}",
                "the direct route is filtered or worse than the detour, although the session is up",
                Layer.FIB if by_hand.keys() >= set(prefixes) else None,
            )
            for (owner, path), prefixes in by_path.items()
        ]
    return conclude(
        expected="the best path to every remote prefix has an AS path of length 1",
        examined=examined,
        what="best paths to remote prefixes",
        violations=violations,
        gaps=[*gap_findings([*inventory.gaps, *addressing.gaps]), *_unread_ribs(inventory, routing)],
    )


_Deviation = tuple[NodeKey, tuple[RemoteBlock, str]]
"""A node, the block that it forwards to in a wrong way, and what is wrong."""

_Explain = Callable[[frozenset[NodeKey], Sequence[RemoteBlock], str], str | None]

_Locate = Callable[[NodeKey, RemoteBlock], Layer | None]
"""The layer that a node's wrong route to a block comes from; None when that cannot be told."""


@dataclass
class _Fib:
    """Every node's FIB against the blocks of the other clusters, and against its RIB where there is one."""

    plan: Plan
    inventory: Inventory
    addressing: Addressing
    forwarding: Forwarding
    routing: Routing
    pairs: int = field(default=0, init=False)
    """Pairs of a node and a remote block that were looked at."""

    @cached_property
    def hosts(self) -> dict[IPv4Address, Node]:
        """Nodes by InternalIP."""
        return {node.internal_ip: node for node in self.inventory.nodes if node.internal_ip is not None}

    @cached_property
    def blocks(self) -> dict[str, list[RemoteBlock]]:
        """The blocks of the other clusters, by the region that looks at them."""
        return remote_blocks(self.plan, self.inventory, self.addressing)

    @cached_property
    def _tables(self) -> dict[NodeKey, PrefixTable[FibRoute]]:
        return _tables(self.forwarding)

    @cached_property
    def _nodes(self) -> list[NodeKey]:
        planned = {region.name for region in self.plan.regions}
        keys = [(node.region, node.name) for node in self.inventory.nodes if node.region in planned]
        return [key for key in keys if key in self._tables]

    @cached_property
    def _finer_routes(self) -> tuple[dict[tuple[NodeKey, IPv4Network], list[FibRoute]], list[FibRoute]]:
        """Routes to parts of remote blocks, by node and block; and routes into remote pod ranges but to no block."""
        known = {region: PrefixTable((block.cidr, block) for block in blocks) for region, blocks in self.blocks.items()}
        ranges = {
            region.name: PrefixTable((other.pod_cidr, other.block_size) for other in self.plan.others(region.name))
            for region in self.plan.regions
        }
        parts: defaultdict[tuple[NodeKey, IPv4Network], list[FibRoute]] = defaultdict(list)
        strays: list[FibRoute] = []
        for route in self.forwarding.routes:
            if route.region not in ranges or route.prefix.prefixlen < min(
                (*ranges[route.region].longest(route.prefix), 33)
            ):
                continue
            holders = known[route.region].longest(route.prefix)
            if not holders:
                strays.append(route)
            elif holders[0].cidr != route.prefix:
                parts[(route.region, route.node), holders[0].cidr].append(route)
        return parts, strays

    def block_routes(self) -> Iterator[tuple[NodeKey, RemoteBlock, FibRoute | None, Sequence[FibRoute]]]:
        """For each node and remote block the route that covers it, if any, and routes to parts of it."""
        self.pairs = 0
        parts, _ = self._finer_routes
        for key in self._nodes:
            table = self._tables[key]
            for block in self.blocks[key[0]]:
                self.pairs += 1
                yield key, block, _preferred(table.longest(block.cidr)), parts.get((key, block.cidr), ())

    def forwarding_routes(self) -> Iterator[tuple[NodeKey, RemoteBlock, FibRoute]]:
        """Every route by which a node forwards into a remote block, or a part of it."""
        for key, block, covering, parts in self.block_routes():
            for route in (covering, *parts):
                if route is not None and route.kind == "unicast":
                    yield key, block, route

    def stale(self) -> Iterator[tuple[NodeKey, RemoteBlock, list[IPv4Address]]]:
        """Forwarding routes into another cluster's pod range, to blocks that no node owns."""
        unowned = {block.cidr for block in self.addressing.blocks if block.node is None}
        _, strays = self._finer_routes
        for route in strays:
            if route.kind == "unicast" and route.prefix not in unowned:
                region = next(other.name for other in self.plan.regions if route.prefix.subnet_of(other.pod_cidr))
                ends = [end for end in _endpoints(route) if end is not None]
                yield (route.region, route.node), RemoteBlock(region, route.prefix, ("no node",), frozenset()), ends

    @property
    def gaps(self) -> list[Finding]:
        """Nodes whose FIB is unknown, and regions whose blocks are."""
        return [
            *gap_findings([*self.inventory.gaps, *self.addressing.gaps]),
            *unseen_regions(self.plan, (block.region for block in self.addressing.blocks), "its blocks"),
            *(
                node_gap(node, "routes", self.forwarding.gaps)
                for node in self.inventory.nodes
                if (node.region, node.name) not in self._tables
            ),
        ]

    def lacking(self, node: NodeKey, block: RemoteBlock) -> Layer | None:
        """Whether a node's routing daemon lacks a good route too, or its kernel alone."""
        held = self._rib.get(node)
        return Layer.RIB if held is not None and block.cidr not in held else None

    def misled(self, node: NodeKey, block: RemoteBlock) -> Layer | None:
        """Whether BGP brought a wrong route into the kernel, or somebody else did, here or at the node it came from."""
        if block.cidr in self._by_hand:
            return Layer.FIB
        routes = self._tables[node].longest(block.cidr)
        return Layer.RIB if routes and all(route.protocol in BGP_PROTOCOLS for route in routes) else None

    @cached_property
    def _rib(self) -> dict[NodeKey, set[IPv4Network]]:
        """The prefixes that the routing daemon of each node holds."""
        held: defaultdict[NodeKey, set[IPv4Network]] = defaultdict(set)
        for route in self.routing.routes:
            held[route.region, route.node].add(route.prefix)
        return dict(held)

    @cached_property
    def _by_hand(self) -> dict[IPv4Network, list[NodeKey]]:
        return _by_hand(self.routing)

    def findings(
        self,
        deviations: Iterable[_Deviation],
        expected: str,
        explain: _Explain,
        locate: _Locate = lambda *_: None,
    ) -> list[Finding]:
        """One finding for all nodes and blocks that deviate in the same way."""
        findings = []
        for nodes, things in together(deviations):
            alike: defaultdict[tuple[str, str], list[RemoteBlock]] = defaultdict(list)
            for block, problem in things:
                alike[block.region, problem].append(block)
            for (_, problem), blocks in alike.items():
                layers = {locate(node, block) for node in nodes for block in blocks}
                findings.append(
                    Finding(
                        f"{name_nodes(nodes, self.inventory)} -> {self.name_blocks(blocks)}",
                        expected,
                        problem,
                        explain(nodes, blocks, problem),
                        layers.pop() if len(layers) == 1 else None,
                    )
                )
        return findings

    def name_blocks(self, blocks: Sequence[RemoteBlock]) -> str:
        """The blocks in words: all of a cluster's, or each with its owner."""
        region = blocks[0].region
        everything = {
            block.cidr for block in self.addressing.blocks if block.region == region and block.node is not None
        }
        if len(blocks) > 1 and {block.cidr for block in blocks} >= everything:
            return f"all {len(blocks)} blocks of {region} ({listed(sorted(block.cidr for block in blocks))})"
        return listed(f"{block.cidr} ({listed(block.owners)})" for block in blocks)

    def name_host(self, address: IPv4Address) -> str:
        """An underlay address with the node that has it."""
        node = self.hosts.get(address)
        return f"{qualified((node.region, node.name))} ({address})" if node else f"{address}, which is no node"

    def why_elsewhere(self, nodes: frozenset[NodeKey], blocks: Sequence[RemoteBlock], problem: str) -> str | None:
        """Why packets for a block are delivered at the wrong place."""
        if problem.startswith("its part"):
            return "a more specific route goes before the one for the block"
        region = self.plan.region(blocks[0].region)
        for address, host in self.hosts.items():
            if f"({address})" in problem and is_reflector(self.plan.region(host.region), host):
                return (
                    f"a reflector put itself in as next hop: keepOriginalNextHop is off on a peering with {region.name}"
                )
        return "a static, foreign or outdated route goes before the right one" if len(nodes) == 1 else None


class _PlannedPrefixes:
    """What may be exchanged, and what to say of a prefix that may not."""

    def __init__(self, plan: Plan, addressing: Addressing) -> None:
        self._plan = plan
        self._as_numbers = {region.name: region.as_number for region in plan.regions}
        self._owned = PrefixTable((block.cidr, block) for block in addressing.blocks if block.node is not None)
        self._services = {region.service_cidr: region.name for region in plan.regions if plan.services_routed}

    def complaint(self, route: RibRoute, origin: int | None) -> str | None:
        """What is wrong with a route being exchanged; None when it is as planned."""
        owners = {block.region for block in self._owned.exact(route.prefix)} or {self._services.get(route.prefix)} - {
            None
        }
        if owners:
            expected = {self._as_numbers.get(region) for region in owners if region}
            return (
                None
                if origin in expected or None in expected
                else f"it belongs to {listed(sorted(filter(None, owners)))}"
            )
        return self._complaint(route.prefix)

    def _complaint(self, prefix: IPv4Network) -> str | None:
        if prefix == DEFAULT_ROUTE:
            return "the default route"
        around = self._owned.longest(prefix)
        if around:
            return f"a part of block {around[0].cidr}, which {around[0].node} owns"
        for region in self._plan.regions:
            if prefix.subnet_of(region.pod_cidr):
                if prefix.prefixlen < region.block_size:
                    return None  # an aggregate of the cluster's own range
                return f"a block of {region.name} that no node owns"
            for kind, cidr in (("network", region.network), ("node subnet", region.node_cidr)):
                if cidr is not None and prefix.overlaps(cidr):
                    return f"it overlaps the {kind} {cidr} of {region.name}"
            if prefix.overlaps(region.service_cidr):
                return f"it overlaps the service range {region.service_cidr} of {region.name}"
        return "it is in no range of the plan"


def _tables(forwarding: Forwarding) -> dict[NodeKey, PrefixTable[FibRoute]]:
    """A table of routes for each node that was observed. The default route says nothing about the mesh: left out."""
    routes: defaultdict[NodeKey, list[tuple[IPv4Network, FibRoute]]] = defaultdict(list)
    for route in forwarding.routes:
        entries = routes[route.region, route.node]
        if route.prefix != DEFAULT_ROUTE:
            entries.append((route.prefix, route))
    return {node: PrefixTable(entries) for node, entries in routes.items()}


def _preferred(routes: Sequence[FibRoute]) -> FibRoute | None:
    """The route that the kernel takes among several to one prefix: the one of least metric."""
    return min(routes, key=lambda route: route.metric or 0, default=None)


def _article(route: FibRoute) -> str:
    """The kind of a route that does not forward: "an unreachable route"."""
    return f"{'an' if route.kind[0] in 'aeiou' else 'a'} {route.kind} route"


def _endpoints(route: FibRoute) -> Sequence[IPv4Address | None]:
    """The underlay addresses that packets by this route are sent to."""
    return route.tunnel_endpoints or [gateway for gateway, _ in route.gateways if gateway is not None]


def _why_missing(nodes: frozenset[NodeKey], blocks: Sequence[RemoteBlock], problem: str) -> str | None:
    regions, owners = {region for region, _ in nodes}, {block.owners for block in blocks}
    if problem != "no route":
        return "the routing agent cannot resolve the route's next hop" if "unreachable" in problem else None
    if len(nodes) == 1:
        return "this node alone is without it: its routing agent was not told, or its kernel lost the route"
    if len(owners) == 1:
        return f"{listed(blocks[0].owners)} does not announce it"
    if len(regions) == 1:
        return f"{next(iter(regions))} learns nothing of {blocks[0].region}: see the connections between the two"
    return f"{blocks[0].region} announces nothing to the others: see its connections to them"


def _by_hand(routing: Routing) -> dict[IPv4Network, list[NodeKey]]:
    """What routing daemons have learnt from their kernels, and where: routes that somebody else put there."""
    found: defaultdict[IPv4Network, list[NodeKey]] = defaultdict(list)
    for route in routing.routes:
        if route.protocol.startswith(KERNEL_PROTOCOL) and not route.from_bgp:
            found[route.prefix].append((route.region, route.node))
    return dict(found)


def _put_there(nodes: Sequence[NodeKey]) -> str:
    return f"somebody put the route into the kernel of {listed(map(qualified, nodes))}, whose daemon passes it on"


def _unread_ribs(inventory: Inventory, routing: Routing) -> list[Finding]:
    read = {(route.region, route.node) for route in routing.routes}
    return [
        node_gap(node, "the routing daemon's table", routing.gaps)
        for node in inventory.nodes
        if (node.region, node.name) not in read
    ]
