"""What the plan asks of the mesh, worked out for the nodes and blocks that are really there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from analysis.facts import Addressing, Inventory, Node
from analysis.plan import Plan, RegionPlan


@dataclass(frozen=True)
class ExpectedSession:
    """A BGP session that must be up. `peer` is in another cluster exactly when the AS numbers differ.

    Attributes:
        node: the end that is looked at.
        peer: the other end.
        peer_as: the AS number that the plan gives the peer's cluster; None when it gives none.
    """

    node: Node
    peer: Node
    peer_as: int | None


@dataclass(frozen=True)
class RemoteBlock:
    """A block of another cluster, and where packets for it must be delivered.

    Attributes:
        region: the cluster that the block belongs to.
        owners: names of the nodes that own it: one, unless NET-ADDR-010 is violated.
        endpoints: the owners' InternalIPs; empty when the inventory does not know them.
    """

    region: str
    cidr: IPv4Network
    owners: tuple[str, ...]
    endpoints: frozenset[IPv4Address]


def is_reflector(region: RegionPlan, node: Node) -> bool:
    """Whether the plan makes that node a route reflector: it is named, or carries the label that the plan names."""
    if region.route_reflector_nodes:
        return node.name in region.route_reflector_nodes
    key, equals, value = (region.route_reflector_selector or "").partition("=")
    label = node.label(key)
    return label is not None and (not equals or label == value)


def reflectors(plan: Plan, inventory: Inventory, region: str) -> tuple[Node, ...]:
    """The route reflectors of a cluster."""
    planned = plan.region(region)
    return tuple(node for node in inventory.nodes if node.region == region and is_reflector(planned, node))


def internal_sessions(plan: Plan, inventory: Inventory) -> Iterator[ExpectedSession]:
    """Every ordinary node with each reflector of its own cluster, seen from the ordinary node."""
    for region in plan.regions:
        local = reflectors(plan, inventory, region.name)
        for node in inventory.nodes:
            if node.region == region.name and node not in local:
                for reflector in local:
                    yield ExpectedSession(node, reflector, region.as_number)


def remote_blocks(plan: Plan, inventory: Inventory, addressing: Addressing) -> dict[str, list[RemoteBlock]]:
    """For each region, the owned blocks of all the other clusters.

    A block outside its own cluster's pod range is no concern of routing, but of the addressing plan.
    """
    addresses = {(node.region, node.name): node.internal_ip for node in inventory.nodes}
    ranges = {region.name: region.pod_cidr for region in plan.regions}
    owners: defaultdict[tuple[str, IPv4Network], list[str]] = defaultdict(list)
    for block in addressing.blocks:
        if block.node is not None and block.region in ranges and block.cidr.subnet_of(ranges[block.region]):
            owners[block.region, block.cidr].append(block.node)
    blocks = []
    for (region, cidr), names in owners.items():
        known = (addresses.get((region, name)) for name in names)
        blocks.append(RemoteBlock(region, cidr, tuple(sorted(set(names))), frozenset(filter(None, known))))
    return {planned: [block for block in blocks if block.region != planned] for planned in ranges}


def mesh_name(region: RegionPlan) -> str:
    """The name that the other clusters know a cluster by: its own in the mesh, else its region's."""
    return region.cluster_name or region.name


def regions_by_mesh_name(plan: Plan) -> dict[str, RegionPlan]:
    """Every region by the name that the other clusters know its cluster by."""
    return {mesh_name(region): region for region in plan.regions}


def planned_nodes(plan: Plan, inventory: Inventory) -> list[Node]:
    """The nodes of the plan's regions."""
    names = {region.name for region in plan.regions}
    return [node for node in inventory.nodes if node.region in names]
