"""NET-UNDR, what the cloud says: do networks, peerings and route tables carry packets between any two regions?"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from analysis.facts import (
    Addressing,
    CloudRoute,
    Instance,
    Networks,
    PeeringEnd,
    Pool,
    RouteTable,
    RouteTarget,
)
from analysis.flows import ANYWHERE
from analysis.plan import Plan, RegionPlan
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings, listed, unseen_regions

UNUSED_PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
ALWAYS = "always"
UNENCAPSULATED = "none"


def judge_one_network_each(plan: Plan, networks: Networks) -> Verdict:
    """NET-UNDR-001: each region has exactly one network, and no two regions are the same."""
    violations = []
    for region in plan.regions:
        cidrs = [network.cidr for network in networks.networks if network.region == region.name]
        if len(cidrs) > 1:
            violations.append(
                Finding(
                    f"region {region.name}",
                    "exactly one network",
                    listed(cidrs, limit=8),
                    "one of them was left behind, or made by somebody else with the same tags",
                )
            )
        elif not cidrs and networks.networks and not any(gap.region == region.name for gap in networks.gaps):
            violations.append(Finding(f"region {region.name}", "exactly one network", "no network at all"))
    names = [region.name for region in plan.regions]
    violations += [
        Finding(f"region {name}", "to be in the plan once", f"{names.count(name)} times")
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    planned = set(names)
    return conclude(
        expected=f"each of the {len(names)} regions has exactly one network, and no region is there twice",
        examined=len(networks.networks),
        what="networks",
        violations=violations,
        gaps=gap_findings(networks.gaps) + unseen_regions(plan, _seen(networks), "its network"),
        warnings=[
            f"there is a network in {network.region}, which the plan does not have: {network.cidr}"
            for network in networks.networks
            if network.region not in planned
        ],
        remedy="find out which network the nodes are in, and remove the other one",
    )


def _seen(networks: Networks) -> set[str]:
    return {network.region for network in networks.networks}


def judge_ways_out(plan: Plan, networks: Networks) -> Verdict:
    """NET-UNDR-002: the node subnet's default route leads to its region's own gateway, and nodes have public addresses.

    A cloud whose networks need no gateway (Azure) names none in the route.
    """
    violations: list[Finding] = []
    examined = 0
    for region, table in _tables(plan, networks):
        examined += 1
        where = (
            f"{region.name}: route table {table.name}" if table else f"{region.name}: node subnet {region.node_cidr}"
        )
        if table is None:
            violations.append(_no_table(networks, region))
            continue
        default = next((route for route in table.routes if route.destination == ANYWHERE), None)
        if problem := _not_out(networks, region, default):
            violations.append(Finding(where, f"{ANYWHERE} to the internet gateway of {region.name}", problem))
    for instance in networks.instances:
        examined += 1
        if instance.public_address is None:
            violations.append(
                Finding(
                    _instance(instance),
                    "a public address, by which gateways let it out",
                    f"none beside {instance.address}",
                    "the subnet gives none by itself, or it was taken away",
                )
            )
    return conclude(
        expected="every node subnet has a default route to its own region's gateway, and every node a public address",
        examined=examined,
        what="route tables and instances",
        violations=violations,
        gaps=_gaps(plan, networks) + _unseen_instances(plan, networks),
        remedy="associate the route table with the subnet, and let its default route lead to the attached gateway",
    )


def _not_out(networks: Networks, region: RegionPlan, route: CloudRoute | None) -> str | None:
    """Why packets for the internet do not leave by the region's gateway; None when they do."""
    if route is None:
        return "no default route"
    if route.target is not RouteTarget.INTERNET:
        return f"{ANYWHERE} {_leads(route)}"
    if not route.via:
        return None
    gateway = next((gateway for gateway in networks.gateways if gateway.name == route.via), None)
    if gateway is None:
        return f"{ANYWHERE} to {route.via}, which is not there"
    if gateway.region != region.name:
        return f"{ANYWHERE} to {route.via} of {gateway.region}"
    return None if gateway.network_attached else f"{ANYWHERE} to {route.via}, which is not attached to the network"


def judge_peerings(plan: Plan, networks: Networks) -> Verdict:
    """NET-UNDR-003: any two networks are peered, and both ends say that traffic can pass."""
    violations: list[Finding] = []
    pairs = [(region, other) for region, other in plan.ordered_pairs() if region.name in _seen(networks)]
    for region, other in pairs:
        ends = [end for end in networks.peerings if (end.region, end.peer_region) == (region.name, other.name)]
        active = [end for end in ends if end.active]
        where = f"peering of {region.name} with {other.name}, as {region.name} sees it"
        if not active:
            violations.append(
                Finding(
                    where,
                    "active",
                    listed(f"{end.name} is {end.state}" for end in ends) or "there is none",
                    _why_inactive(ends),
                )
            )
        for end in active:
            if end.peer_network is not None and not other.node_cidr.subnet_of(end.peer_network):
                violations.append(
                    Finding(
                        where,
                        f"to reach the nodes of {other.name}, {other.node_cidr}",
                        f"{end.name} leads to {end.peer_network}",
                    )
                )
    known = {region.name for region in plan.regions}
    return conclude(
        expected=f"the {len(plan.regions)} networks are peered, each with each, and both ends are active",
        examined=len(pairs),
        what="ends of peerings",
        violations=violations,
        gaps=gap_findings(networks.gaps) + unseen_regions(plan, _seen(networks), "its peerings"),
        warnings=[
            f"{end.region} has a peering with a network that is not in the plan: {end.name} ({end.state})"
            for end in networks.peerings
            if end.peer_region not in known
        ],
        remedy="accept the peering in the other region, or make it again",
    )


def _why_inactive(ends: list[PeeringEnd]) -> str | None:
    state = ends[0].state.lower() if ends else ""
    if "pending" in state or "initiated" in state:
        return "the other end has not accepted it, or has no peering of its own"
    if state == "disconnected":
        return "the other end has been deleted; this one must be deleted too before both are made again"
    return None


def judge_routes_to_regions(plan: Plan, networks: Networks) -> Verdict:
    """NET-UNDR-004: every address of a remote node subnet goes into the peering that leads there.

    As the cloud does: of all routes that match an address, the longest prefix decides. A subnet may be covered by
    several routes, or by that of the whole network.
    """
    violations: list[Finding] = []
    examined = 0
    for region, table in _tables(plan, networks):
        if table is None:
            violations.append(_no_table(networks, region))
            continue
        for other in plan.others(region.name):
            examined += 1
            for part, route in _decided(table, other.node_cidr):
                if problem := _astray(networks, region, other, route):
                    violations.append(
                        Finding(
                            f"{region.name}: route table {table.name}, {part} of {other.name}",
                            f"into the peering with {other.name}",
                            *problem,
                        )
                    )
        violations += _dead_ends(plan, region, table)
    return conclude(
        expected="every route table sends each remote node subnet into the peering that leads there",
        examined=examined,
        what="ways from one region to another",
        violations=violations,
        gaps=_gaps(plan, networks),
        remedy="correct the route in that route table; the peering's name is what counts",
    )


def _decided(table: RouteTable, subnet: IPv4Network) -> Iterator[tuple[IPv4Network, CloudRoute | None]]:
    """The parts of a subnet, each with the route that decides about it; None where none does."""
    left = [subnet]
    for route in sorted(table.routes, key=lambda route: -route.destination.prefixlen):
        rest: list[IPv4Network] = []
        for part in left:
            if part.subnet_of(route.destination):
                yield part, route
            elif route.destination.subnet_of(part):
                yield route.destination, route
                rest += part.address_exclude(route.destination)
            else:
                rest.append(part)
        left = rest
    yield from ((part, None) for part in left)


def _astray(
    networks: Networks, region: RegionPlan, other: RegionPlan, route: CloudRoute | None
) -> tuple[str, str | None] | None:
    """What is wrong with the route that packets for that region take, and why; None when it is right."""
    if route is None:
        return "no route at all", None
    if route.target is not RouteTarget.PEERING:
        missing = "its own route is missing, so a wider one takes it" if route.destination == ANYWHERE else None
        return f"{route.destination} {_leads(route)}", missing
    ends = [end for end in networks.peerings if (end.region, end.name) == (region.name, route.via)]
    if not ends:
        return f"{route.destination} {_leads(route)}, which {region.name} does not have", "the peering was made again"
    to = ends[0].peer_region
    if to != other.name:
        return (
            f"{route.destination} {_leads(route)}, which leads to {to or ends[0].peer_network or 'another network'}",
            "peerings are not transitive: packets for another region are dropped there",
        )
    return None


def _dead_ends(plan: Plan, region: RegionPlan, table: RouteTable) -> Iterator[Finding]:
    """Routes that lead nowhere, but for those of a remote node subnet, which are told already.

    Azure has such routes for the whole of each private range that no network uses; they count only where they do harm.
    """
    told = [other.node_cidr for other in plan.others(region.name)]
    ours = [each.network or each.node_cidr for each in plan.regions]
    for route in table.routes:
        if route.target is not RouteTarget.NOWHERE:
            continue
        decides = [cidr for cidr in ours for _, decider in _decided(table, cidr) if decider == route]
        remote = any(decider == route for cidr in told for _, decider in _decided(table, cidr))
        if not remote and (decides or route.destination not in UNUSED_PRIVATE):
            yield Finding(
                f"{region.name}: route table {table.name}",
                "no route that is a dead end",
                f"{route.destination} {_leads(route)}",
                "what it led to is gone",
            )


def _leads(route: CloudRoute) -> str:
    """Where a route leads, as the rest of a sentence that begins with its destination."""
    match route.target:
        case RouteTarget.LOCAL:
            return "stays in its own network"
        case RouteTarget.NOWHERE:
            return "is a dead end (blackhole)"
        case RouteTarget.PEERING:
            return f"goes into peering {route.via}"
        case RouteTarget.INTERNET:
            return f"goes to the internet{f' by {route.via}' if route.via else ''}"
        case RouteTarget.INSTANCE:
            return f"goes to instance {route.via}"


def judge_peerings_permit(plan: Plan, networks: Networks) -> Verdict:
    """NET-UNDR-005: every peering lets the other network's packets in, and those that its hosts only forward."""
    known = {region.name for region in plan.regions}
    ends = [end for end in networks.peerings if end.region in known and end.peer_region in known]
    violations: list[Finding] = []
    gaps = gap_findings(networks.gaps) + unseen_regions(plan, _seen(networks), "its peerings")
    for end in ends:
        where = f"peering {end.name} of {end.region} with {end.peer_region}"
        for allowed, what, switch in (
            (end.allows_traffic, "traffic", "allowVirtualNetworkAccess"),
            (end.allows_forwarded, "forwarded traffic", "allowForwardedTraffic"),
        ):
            if allowed is None:
                gaps.append(Finding(where, f"{switch} to be told", "the cloud has not told it"))
            elif not allowed:
                violations.append(Finding(where, f"{what} let through", f"{switch} is off"))
    return conclude(
        expected="every peering lets direct and forwarded traffic through",
        examined=len(ends),
        what="ends of peerings",
        violations=violations,
        gaps=gaps,
        remedy="switch it on at that end: az network vnet peering update",
    )


def judge_foreign_addresses(plan: Plan, networks: Networks, addressing: Addressing) -> Verdict:
    """NET-UNDR-016: instances may use foreign addresses, or else every pool of their cluster always encapsulates.

    Pools that are disabled hand out no addresses but still say how packets to them travel, so they count alike where
    they are a part of the plan.
    """
    violations: list[Finding] = []
    gaps = [*gap_findings([*networks.gaps, *addressing.gaps]), *_unseen_instances(plan, networks)]
    ranges = [cidr for region in plan.regions for cidr in (region.pod_cidr, region.service_cidr)]
    examined = 0
    for region in plan.regions:
        instances = [instance for instance in networks.instances if instance.region == region.name]
        checked = [instance for instance in instances if instance.forwards_foreign is False]
        gaps += [
            Finding(_instance(instance), "its source/destination check to be told", "the cloud has not told it")
            for instance in instances
            if instance.forwards_foreign is None
        ]
        examined += len(instances)
        pools = [
            pool
            for pool in addressing.pools
            if pool.region == region.name and any(pool.cidr.overlaps(cidr) for cidr in ranges)
        ]
        if checked and not pools:
            gaps.append(Finding(f"cluster {region.name}", "its pools to be observed", "nothing was observed"))
        bare = [pool for pool in pools if not _always_encapsulates(pool)]
        if checked and bare:
            names = listed(instance.node or str(instance.address) for instance in checked)
            violations.append(
                Finding(
                    f"{region.name}: source/destination check of {names}",
                    "off, or every pool always encapsulated",
                    f"on, and {listed(_mode(pool) for pool in bare)}",
                    "the cloud drops every packet with a pod address that no tunnel header hides",
                )
            )
    return conclude(
        expected="the source/destination check is off on every node, or every pool of its cluster always encapsulates",
        examined=examined,
        what="instances",
        violations=violations,
        gaps=gaps,
        remedy="set the pool's mode to Always, or switch the check off on every instance",
    )


def _always_encapsulates(pool: Pool) -> bool:
    return pool.encapsulation != UNENCAPSULATED and pool.encapsulation_mode == ALWAYS


def _mode(pool: Pool) -> str:
    if pool.encapsulation == UNENCAPSULATED:
        return f"pool {pool.name} ({pool.cidr}) does not encapsulate"
    return f"pool {pool.name} ({pool.cidr}) encapsulates {pool.encapsulation_mode}"


def _tables(plan: Plan, networks: Networks) -> Iterator[tuple[RegionPlan, RouteTable | None]]:
    """The route table of each planned node subnet, of the regions that any table was observed of; None without one."""
    for region in plan.regions:
        tables = [table for table in networks.route_tables if table.region == region.name]
        serving = [table for table in tables if region.node_cidr in table.subnets]
        if tables:
            yield region, serving[0] if serving else None


def _no_table(networks: Networks, region: RegionPlan) -> Finding:
    tables = [table.name for table in networks.route_tables if table.region == region.name]
    return Finding(
        f"{region.name}: node subnet {region.node_cidr}",
        "a route table of its own",
        f"none of {listed(tables)} is associated with it",
        "the subnet falls back to the network's main table, which knows no peering",
    )


def _gaps(plan: Plan, networks: Networks) -> list[Finding]:
    """What could not be read, and the regions that no route table was read of."""
    seen = {table.region for table in networks.route_tables}
    return gap_findings(networks.gaps) + unseen_regions(plan, seen, "its route tables")


def _unseen_instances(plan: Plan, networks: Networks) -> list[Finding]:
    return unseen_regions(plan, {instance.region for instance in networks.instances}, "its instances")


def _instance(instance: Instance) -> str:
    return f"{instance.region}: instance {instance.node or instance.address}"
