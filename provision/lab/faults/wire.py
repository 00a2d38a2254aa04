"""Faults of what is on the wire: encapsulation that is missing, wrong, filtered, or taken from anybody.

Those that lead a node's packets elsewhere do so by a routing rule and a table of its own: routing daemons, agents and
the main table all stay as they should be.
"""

from __future__ import annotations

from collections.abc import Sequence

from analysis.facts import SecurityRule
from analysis.rootcause import Layer
from provision.faults import Command, Confirm, Fault, Filter, Step
from provision.lab.cloud import ANYBODY, CHECKED, TABLE, UDP
from provision.lab.faults.cloud import RulesChanged, group_changed, router, with_rule
from provision.lab.faults.shared import MESH_PATHS
from provision.lab.faults.steps import command_succeeds, place, table_is_loaded
from provision.lab.topology import AZURE, LabNode, LabRegion, LabTopology

ELSEWHERE = 99
"""The routing table that some packets are led by, and the preference of the rule that leads them to it: before all
others but the one for the node's own addresses."""

_PREFERENCE = 5
_BARE = frozenset({"NET-ROUTE-009", "NET-ROUTE-010", "NET-POD-007", "NET-UNDR-013", "NET-UNDR-016"})
"""What a way past the tunnel has: another route, where all tables are read; more hops; rules of the cloud that nobody
planned."""

_WRONG_DEVICE = "wrong0"


def bare_both_ways(lab: LabTopology, a: LabNode, b: LabNode) -> Fault:
    """Two nodes whose pods' packets travel bare, through a cloud that was taught to carry them."""
    return Fault(
        name="pods-bare-on-the-underlay",
        summary=f"pods of {a.name} and {b.name} reach each other without the tunnel, by routes in the cloud",
        layer=_layer_of_bare_packets(lab),
        requirement="NET-MTU-005",
        steps=(*_carried_bare(lab, a, b), *_led_bare(lab, a, b), *_led_bare(lab, b, a)),
        confirm=_is_led_by(a, b, lab.region(a.region).gateway),
        follows=_BARE | {"NET-MTU-004"},
    )


def bare_one_way(lab: LabTopology, a: LabNode, b: LabNode) -> Fault:
    """As above, in one direction only."""
    return Fault(
        name="not-encapsulated-one-way",
        summary=f"{a.name} sends to pods of {b.name} without the tunnel; the answers come through it",
        layer=_layer_of_bare_packets(lab),
        requirement="NET-MTU-004",
        steps=(*_carried_bare(lab, a, b), *_led_bare(lab, a, b)),
        confirm=_is_led_by(a, b, lab.region(a.region).gateway),
        follows=_BARE | {"NET-MTU-005"},
    )


def _layer_of_bare_packets(lab: LabTopology) -> Layer:
    """The tunnel's; where groups are planned rule by rule, the rule that lets them in is wrong too, and lies lower."""
    return Layer.UNDERLAY if lab.plan.underlay.cloud == "azure" else Layer.ENCAPSULATION


def tunnel_filtered(a: LabNode, b: LabNode, port: int) -> Fault:
    """A filter on the way that knows two nodes and a port."""
    region = a.region
    return Fault(
        name="tunnel-filtered-between-two-nodes",
        summary=f"a filter on the way drops the tunnel from {a.name} to {b.name}, and nothing else",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-010",
        steps=(
            Filter(
                f"{region}/vpc",
                "  chain forward { type filter hook forward priority -10; "
                f"ip saddr {a.address} ip daddr {b.address} udp dport {port} counter drop; }}",
            ),
        ),
        confirm=table_is_loaded(f"{region}/vpc"),
        follows=MESH_PATHS,
    )


def wrong_tunnel(a: LabNode, b: LabNode, name: str, what: str, device: str, route: str) -> Fault:
    """A second tunnel of a node, which is not as the other node expects it, and by which it sends there.

    Args:
        a: the node that has it.
        b: the node that it leads to.
        name: the fault's.
        what: what it has that the other does not expect.
        device: what `ip link add` is told of it.
        route: what `ip route add` is told of the way to the other's pods, before the device.
    """
    there = place(a)
    rule = f"preference {_PREFERENCE} to {b.block} lookup {ELSEWHERE}"
    orders = (
        f"ip link add {_WRONG_DEVICE} {device}",
        f"ip link set {_WRONG_DEVICE} up",
        *_far_end(b),
        f"ip route add {b.block} {route} dev {_WRONG_DEVICE} onlink table {ELSEWHERE}",
        f"ip rule add {rule}",
    )
    return Fault(
        name=name,
        summary=f"{a.name} sends to pods of {b.name} through a tunnel with {what}",
        layer=Layer.ENCAPSULATION,
        requirement="NET-MTU-004",
        steps=(
            Command(
                there,
                ("sh", "-ec", "; ".join(orders)),
                ("sh", "-c", f"ip rule del {rule}; ip link del {_WRONG_DEVICE}"),
            ),
        ),
        confirm=command_succeeds(there, ("ip", "link", "show", _WRONG_DEVICE)),
        follows=MESH_PATHS - {"NET-MTU-004"},
    )


def tunnel_open_to_all(
    lab: LabTopology, region: LabRegion, port: int, steps: Sequence[Step], follows: frozenset[str]
) -> Fault:
    """A security group that lets tunnels in from anywhere, and nodes that ask no further.

    Args:
        lab: whose it is.
        region: the region that lets them in.
        port: the tunnel's.
        steps: what else makes the nodes take such packets.
        follows: what follows from that.
    """
    priority = 370 if lab.cloud == AZURE else None
    rule = SecurityRule("tunnel-debug", True, UDP, (ANYBODY,), ports=(port, port), priority=priority)
    return Fault(
        name="foreign-tunnels-accepted",
        summary=f"{region.name} takes encapsulated packets from anybody",
        layer=Layer.UNDERLAY,
        requirement="NET-MTU-009",
        steps=(group_changed(lab, region, with_rule(rule)), *steps),
        confirm=command_succeeds(router(region), ("sh", "-c", f"nft list table bridge {TABLE} | grep -q {rule.name}")),
        follows=frozenset({"NET-UNDR-013", "NET-UNDR-014"}) | follows,
    )


def _far_end(node: LabNode) -> tuple[str, ...]:
    """How the tunnel device learns the MAC of its far end, and the address behind it where the route does not tell."""
    return (
        f"ip neigh add {node.tunnel_address} lladdr {node.tunnel_mac} dev {_WRONG_DEVICE} nud permanent",
        f"ip neigh add {node.address} lladdr {node.tunnel_mac} dev {_WRONG_DEVICE} nud permanent",
        f"bridge fdb add {node.tunnel_mac} dev {_WRONG_DEVICE} dst {node.address} 2> /dev/null || true",
    )


def _led_bare(lab: LabTopology, a: LabNode, b: LabNode) -> tuple[Step, ...]:
    """A node sends what is for another's pods to its gateway, and translates nothing of it."""
    rule = f"preference {_PREFERENCE} to {b.block} lookup {ELSEWHERE}"
    route = f"{b.block} via {lab.region(a.region).gateway} table {ELSEWHERE}"
    return (
        Filter(
            place(a),
            "  chain prerouting { type filter hook prerouting priority raw; "
            f"ip saddr {a.block} ip daddr {b.block} notrack; }}",
        ),
        Command(
            place(a),
            ("sh", "-ec", f"ip route add {route}; ip rule add {rule}"),
            ("sh", "-c", f"ip rule del {rule}; ip route del {route}"),
        ),
    )


def _carried_bare(lab: LabTopology, a: LabNode, b: LabNode) -> tuple[Step, ...]:
    """The cloud carries the pods' packets of two nodes: by its routes, past its address check, into its groups."""
    steps: list[Step] = []
    for node, other in ((a, b), (b, a)):
        region = lab.region(node.region)
        routes = (f"{node.block} via {node.address}", f"{other.block} via {_peer(lab, node.region, other.region)}")
        unchecked = f"element bridge {TABLE} {CHECKED} {{ {node.alias} }}"
        priority = 380 if lab.cloud == AZURE else None
        pods = SecurityRule("pods-of-elsewhere", True, None, (other.block,), priority=priority)
        group: RulesChanged = group_changed(lab, region, with_rule(pods))
        steps += (
            Command(
                router(region),
                ("sh", "-ec", "; ".join(f"ip route add {route}" for route in routes)),
                ("sh", "-c", "; ".join(f"ip route del {route}" for route in routes)),
            ),
            Command(router(region), ("nft", f"delete {unchecked}"), ("nft", f"add {unchecked}")),
            group,
        )
    return tuple(steps)


def _peer(lab: LabTopology, region: str, other: str) -> str:
    """The address of the other region's router on the peering of the two."""
    (peering,) = (each for each in lab.peerings_of(region) if other in (each.a, each.b))
    return str((peering.b_address if peering.a == region else peering.a_address).ip)


def _is_led_by(a: LabNode, b: LabNode, gateway: object) -> Confirm:
    shown = f"ip route get {b.block[2]} | grep -q 'via {gateway} '"
    return command_succeeds(place(a), ("sh", "-c", shown))
