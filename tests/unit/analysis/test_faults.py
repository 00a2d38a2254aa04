"""Every way to break the mesh turns exactly the requirements that speak of it, and names the place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from analysis.facts import (
    Block,
    Endpoint,
    FibRoute,
    FilterSet,
    Node,
    NodeOverride,
    Peering,
    Pod,
    Pool,
    Probe,
    ProbeOutcome,
    ProbeProtocol,
    RibRoute,
    Session,
)
from analysis.verdict import Outcome
from tests.unit.analysis.judges import verdicts
from tests.unit.analysis.world import TUNNEL, World, address, gone, network, perfect

PERFECT = perfect()
EAST, OHIO, WEST = "us-east-1", "us-east-2", "us-west-1"
OHIO_BLOCK, OHIO_OWNER = network("192.168.64.128/26"), address("10.1.1.11")
OHIO_REFLECTOR, EAST_REFLECTOR = address("10.1.1.10"), address("10.0.1.10")


@dataclass(frozen=True)
class Fault:
    """A way to break the mesh.

    Attributes:
        violates: all requirements that must be violated; every other must stay met.
        says: words that the first verdict of `violates` must have in its finding.
    """

    name: str
    break_it: Callable[[World], World]
    violates: tuple[str, ...]
    says: tuple[str, ...] = ()


def where(**wanted):
    """Picks items by their attributes."""
    return lambda item: all(getattr(item, name) == value for name, value in wanted.items())


def session_end(node: str, peer: str, **change):
    return lambda w: w.edit(
        "routing", "sessions", lambda s: replace(s, **change), where(node=node, peer_address=address(peer))
    )


def fib(change, **picked):
    return lambda w: w.edit("forwarding", "routes", change, where(**picked))


def lose(w: World, lost: Callable[[Endpoint, Endpoint, Probe], bool], outcome=ProbeOutcome.DROPPED) -> World:
    """Probes that do not come through any more."""
    ends = w.reachability.endpoints
    return w.edit(
        "reachability",
        "probes",
        lambda p: replace(p, outcome=outcome, rtt=None, seen_source=None, ttl=None),
        lambda p: lost(ends[p.source], ends[p.target], p),
    )


def on_pods(test: Callable[[Endpoint, Endpoint, Probe], bool]) -> Callable[[Endpoint, Endpoint, Probe], bool]:
    return lambda s, t, p: not s.on_host and test(s, t, p)


ADDRESSING = [
    Fault(
        "networks overlap",
        lambda w: w.edit("networks", "networks", lambda n: replace(n, cidr=network("10.0.0.0/8")), where(region=WEST)),
        ("NET-ADDR-001", "NET-ADDR-002"),
        ("us-west-1", "10.0.0.0/8 and 10.0.0.0/16 overlap"),
    ),
    Fault(
        "node subnet missing",
        lambda w: w.edit(
            "networks", "networks", lambda n: replace(n, subnets=(network("10.2.9.0/24"),)), where(region=WEST)
        ),
        ("NET-ADDR-002",),
        ("us-west-1", "10.2.9.0/24"),
    ),
    Fault(
        "subnet outside its network",
        lambda w: w.edit(
            "networks",
            "networks",
            lambda n: replace(n, subnets=(*n.subnets, network("10.9.9.0/24"))),
            where(region=EAST),
        ),
        ("NET-ADDR-002",),
        ("10.9.9.0/24", "outside"),
    ),
    Fault(
        "overlapping pools",
        lambda w: w.add(
            "addressing", "pools", Pool(EAST, "greedy", network("192.168.64.0/19"), False, False, "vxlan", "always", 26)
        ),
        ("NET-ADDR-003", "NET-ADDR-005"),
        ("greedy", "us-east-2", "192.168.64.0/18 and 192.168.64.0/19 overlap"),
    ),
    Fault(
        "service range advertised twice",
        lambda w: w.edit(
            "configuration",
            "identities",
            lambda i: replace(i, advertised_service_cidrs=(network("172.20.0.0/16"), network("172.21.0.0/16"))),
            where(region=OHIO),
        ),
        ("NET-ADDR-004", "NET-ADDR-005"),
        ("us-east-1", "us-east-2", "172.20.0.0/16"),
    ),
    Fault(
        "pod range inside a node range",
        lambda w: w.add(
            "addressing", "pools", Pool(EAST, "odd", network("10.2.1.128/25"), False, False, "vxlan", "always", 26)
        ),
        ("NET-ADDR-005",),
        ("node range of us-west-1", "pod range of us-east-1", "10.2.1.128/25"),
    ),
    Fault(
        "pod outside the pool",
        lambda w: w.add(
            "inventory",
            "pods",
            Pod(OHIO, "default", "early-bird", "us-east-2-node-2", address("10.42.0.7"), False, "Running", True),
        ),
        ("NET-ADDR-006",),
        ("default/early-bird", "us-east-2-node-2", "10.42.0.7", "192.168.64.0/18"),
    ),
    Fault(
        "kube-dns at another address",
        lambda w: w.edit(
            "inventory",
            "services",
            lambda s: replace(s, cluster_ip=address("172.22.0.11")),
            where(region=WEST, name="kube-dns"),
        ),
        ("NET-ADDR-007",),
        ("kube-dns", "172.22.0.10", "172.22.0.11"),
    ),
    Fault(
        "no kube-dns",
        lambda w: w.edit("inventory", "services", gone, where(region=WEST, name="kube-dns")),
        ("NET-ADDR-007",),
        ("us-west-1", "there is no such service"),
    ),
    Fault(
        "ClusterIP of another range",
        lambda w: w.edit(
            "inventory",
            "services",
            lambda s: replace(s, cluster_ip=address("10.96.0.1")),
            where(region=EAST, name="kubernetes"),
        ),
        ("NET-ADDR-007",),
        ("default/kubernetes", "172.20.0.0/16", "10.96.0.1"),
    ),
    Fault(
        "node in another region's subnet",
        lambda w: w.add("inventory", "nodes", Node(EAST, "us-east-1-node-9", address("10.1.1.99"), True)).edit(
            "inventory", "nodes", gone, where(name="us-east-1-node-4")
        ),
        ("NET-ADDR-008", "NET-ROUTE-005", "NET-ROUTE-009", "MESH-CP-016"),
        ("us-east-1-node-9", "10.0.1.0/24", "10.1.1.99", "us-east-2"),
    ),
    Fault(
        "block from another cluster's range",
        lambda w: w.add("addressing", "blocks", Block(EAST, network("192.168.100.0/26"), "us-east-1-node-2")),
        ("NET-ADDR-009",),
        ("192.168.100.0/26", "us-east-1-node-2", "pod range 192.168.64.0/18 of us-east-2"),
    ),
    Fault(
        "block owned twice",
        lambda w: w.add("addressing", "blocks", Block(OHIO, OHIO_BLOCK, "us-east-2-node-4")),
        ("NET-ADDR-010",),
        ("192.168.64.128/26", "us-east-2-node-2 and us-east-2-node-4"),
    ),
    Fault(
        "block of the wrong size",
        lambda w: w.add("addressing", "blocks", Block(WEST, network("192.168.190.0/24"), None)),
        ("NET-ADDR-011",),
        ("192.168.190.0/24", "/26", "/24"),
    ),
    Fault(
        "pool with another block size",
        lambda w: w.edit(
            "addressing", "pools", lambda p: replace(p, block_size=24), where(region=EAST, name="default-ipv4-ippool")
        ),
        ("NET-ADDR-011",),
        ("default-ipv4-ippool", "/24"),
    ),
    Fault(
        "node missing",
        lambda w: w.edit("inventory", "nodes", gone, where(name="us-west-1-node-4")).edit(
            "addressing", "blocks", gone, where(node="us-west-1-node-4")
        ),
        ("NET-ADDR-013", "NET-ROUTE-009", "NET-ROUTE-016", "MESH-CP-016"),
        ("us-west-1", "4 nodes", "3 nodes registered"),
    ),
    Fault(
        "node not ready",
        lambda w: w.edit("inventory", "nodes", lambda n: replace(n, ready=False), where(name="us-west-1-node-4")),
        ("NET-ADDR-013",),
        ("us-west-1-node-4", "not Ready"),
    ),
]

SESSIONS = [
    Fault(
        "wrong AS of a cluster",
        lambda w: w.edit("configuration", "identities", lambda i: replace(i, as_number=64999), where(region=OHIO)),
        ("NET-ROUTE-001",),
        ("us-east-2", "AS 64513", "AS 64999"),
    ),
    Fault(
        "AS of another cluster",
        lambda w: w.edit("configuration", "identities", lambda i: replace(i, as_number=64512), where(region=OHIO)),
        ("NET-ROUTE-001",),
        ("us-east-2", "AS 64513", "AS 64512"),
    ),
    Fault(
        "AS of one node",
        lambda w: w.add("configuration", "node_overrides", NodeOverride(OHIO, "us-east-2-node-3", 64999)),
        ("NET-ROUTE-001",),
        ("us-east-2-node-3", "AS 64999 of its own"),
    ),
    Fault(
        "full mesh on",
        lambda w: w.edit("configuration", "identities", lambda i: replace(i, full_node_mesh=True), where(region=OHIO)),
        ("NET-ROUTE-002",),
        ("us-east-2", "node-to-node mesh"),
    ),
    Fault(
        "mesh sessions left",
        lambda w: w.add(
            "routing",
            "sessions",
            Session(EAST, "us-east-1-node-2", "Mesh_10_0_1_12", address("10.0.1.12"), 64512, "Established"),
        ),
        ("NET-ROUTE-002", "MESH-CP-016"),
        ("us-east-1-node-2", "1 session of the mesh"),
    ),
    Fault(
        "duplicate cluster id",
        lambda w: w.edit(
            "configuration",
            "node_overrides",
            lambda o: replace(o, reflector_cluster_id="244.0.0.1"),
            where(region=OHIO),
        ),
        ("NET-ROUTE-003",),
        ("us-east-2-node-1", "244.0.0.2", "244.0.0.1"),
    ),
    Fault(
        "reflector without cluster id",
        lambda w: w.edit("configuration", "node_overrides", gone, where(node="us-east-2-node-1")),
        ("NET-ROUTE-003",),
        ("us-east-2-node-1", "none"),
    ),
    Fault(
        "session down",
        session_end("us-east-1-node-3", "10.0.1.10", state="Active", error="Socket: Connection timed out"),
        ("NET-ROUTE-005", "MESH-CP-015"),
        ("us-east-1-node-3 -> us-east-1-node-1 (10.0.1.10)", "Active (Socket: Connection timed out)", "TCP 179"),
    ),
    Fault(
        "session down, told by the reflector alone",
        lambda w: session_end("us-east-1-node-1", "10.0.1.12", state="Connect")(
            w.edit("routing", "sessions", gone, where(node="us-east-1-node-3")).edit(
                "routing", "routes", lambda r: r, where(node="us-east-1-node-3")
            )
        ),
        ("NET-ROUTE-005", "MESH-CP-015"),
        ("us-east-1-node-3", "us-east-1-node-1"),
    ),
    Fault(
        "reflector lost",
        lambda w: w.edit(
            "routing",
            "sessions",
            lambda s: replace(s, state="Connect", error="BGP Error: Hold timer expired"),
            where(peer_address=EAST_REFLECTOR),
        ).edit("routing", "sessions", gone, where(node="us-east-1-node-1")),
        ("NET-ROUTE-005", "NET-ROUTE-006", "MESH-CP-015"),
        ("us-east-1-node-2, us-east-1-node-3 and us-east-1-node-4 -> us-east-1-node-1", "Hold timer expired"),
    ),
    Fault(
        "peering gone",
        lambda w: w.edit("routing", "sessions", gone, where(node="us-east-1-node-1", peer_address=OHIO_REFLECTOR)).edit(
            "configuration", "peerings", gone, where(region=EAST, name="remote-rr-us-east-2")
        ),
        ("NET-ROUTE-006", "NET-ROUTE-007"),
        ("us-east-1-node-1 -> us-east-2-node-1 (10.1.1.10)", "no BGPPeer of us-east-1 selects these two nodes"),
    ),
    Fault(
        "wrong AS of a peering",
        lambda w: w.edit(
            "routing",
            "sessions",
            lambda s: replace(s, peer_as=64999, state="Idle", error="BGP Error: Bad peer AS"),
            where(node="us-east-1-node-1", peer_address=OHIO_REFLECTOR),
        ).edit(
            "configuration",
            "peerings",
            lambda p: replace(p, as_number=64999),
            where(region=EAST, peer_ip=OHIO_REFLECTOR),
        ),
        ("NET-ROUTE-006", "MESH-CP-015"),
        ("configured for AS 64999", "the peering names AS 64999 where the plan says 64513"),
    ),
    Fault(
        "peer refuses our AS",
        session_end("us-east-2-node-1", "10.0.1.10", state="Idle", error="Received: Bad peer AS"),
        ("NET-ROUTE-006", "MESH-CP-015"),
        ("us-east-2-node-1 -> us-east-1-node-1", "the two ends disagree about an AS number"),
    ),
    Fault(
        "session administratively down",
        session_end("us-west-1-node-1", "10.1.1.10", state="Down"),
        ("NET-ROUTE-006", "MESH-CP-015"),
        ("us-west-1-node-1", "administratively down"),
    ),
    Fault(
        "peerIP of a dead reflector",
        lambda w: w.edit(
            "configuration",
            "peerings",
            lambda p: replace(p, peer_ip=address("10.1.1.99")),
            where(region=EAST, peer_ip=OHIO_REFLECTOR),
        ),
        ("NET-ROUTE-007", "MESH-CP-016"),
        ("remote-rr-us-east-2 of us-east-1", "10.1.1.99, which belongs to no node"),
    ),
    Fault(
        "peerIP of an ordinary node",
        lambda w: w.edit(
            "configuration",
            "peerings",
            lambda p: replace(p, peer_ip=address("10.1.1.12")),
            where(region=EAST, peer_ip=OHIO_REFLECTOR),
        ),
        ("NET-ROUTE-007", "MESH-CP-016"),
        ("10.1.1.12 is node us-east-2-node-3, no reflector"),
    ),
    Fault(
        "peerIP left empty",
        lambda w: w.add("configuration", "peerings", Peering(WEST, "remote-rr-new", as_number=64515)),
        ("NET-ROUTE-007",),
        ("remote-rr-new of us-west-1", "peerIP is empty"),
    ),
]

ROUTES = [
    Fault(
        "route withdrawn on one node only",
        fib(gone, node="us-west-1-node-2", prefix=OHIO_BLOCK),
        ("NET-ROUTE-008",),
        ("us-west-1-node-2 -> 192.168.64.128/26 (us-east-2-node-2)", "no route", "this node alone"),
    ),
    Fault(
        "block not announced",
        lambda w: w.edit(
            "forwarding", "routes", gone, lambda r: r.prefix == OHIO_BLOCK and r.region != OHIO and r.gateways
        ),
        ("NET-ROUTE-008",),
        ("all 4 nodes of us-east-1", "all 4 nodes of us-west-1", "us-east-2-node-2 does not announce it"),
    ),
    Fault(
        "two clusters exchange nothing",
        lambda w: w.edit(
            "forwarding",
            "routes",
            gone,
            lambda r: r.region == EAST and r.prefix.subnet_of(network("192.168.64.0/18")) and r.protocol == "bird",
        ),
        ("NET-ROUTE-008",),
        ("all 4 nodes of us-east-1 -> all 4 blocks of us-east-2", "us-east-1 learns nothing of us-east-2"),
    ),
    Fault(
        "unreachable route",
        fib(
            lambda r: replace(r, kind="unreachable", gateways=(), tunnel_endpoints=()),
            node="us-west-1-node-2",
            prefix=OHIO_BLOCK,
        ),
        ("NET-ROUTE-008",),
        ("us-west-1-node-2", "an unreachable route", "cannot resolve"),
    ),
    Fault(
        "part of a block blackholed",
        lambda w: w.add(
            "forwarding",
            "routes",
            FibRoute(WEST, "us-west-1-node-2", network("192.168.64.160/27"), "blackhole", "static"),
        ),
        ("NET-ROUTE-008",),
        ("us-west-1-node-2", "192.168.64.128/26", "a blackhole route"),
    ),
    Fault(
        "next hop rewritten to the reflector",
        lambda w: w.edit(
            "forwarding",
            "routes",
            lambda r: replace(r, tunnel_endpoints=(OHIO_REFLECTOR,)),
            lambda r: (
                r.region == EAST
                and r.prefix.prefixlen == 26
                and r.tunnel_endpoints
                and r.prefix.subnet_of(network("192.168.64.0/18"))
            ),
        ),
        ("NET-ROUTE-009",),
        ("all 4 nodes of us-east-1", "us-east-2-node-1 (10.1.1.10)", "keepOriginalNextHop"),
    ),
    Fault(
        "more specific hijack",
        lambda w: w.add(
            "forwarding",
            "routes",
            FibRoute(
                WEST,
                "us-west-1-node-2",
                network("192.168.64.128/27"),
                "unicast",
                "bird",
                ((address("192.168.0.128"), TUNNEL),),
                (address("10.0.1.11"),),
            ),
        ).add(
            "routing",
            "routes",
            RibRoute(
                WEST,
                "us-west-1-node-2",
                network("192.168.64.128/27"),
                "Node_10_2_1_10",
                "unicast",
                True,
                True,
                address("10.0.1.11"),
                (64512,),
                address("10.2.1.10"),
            ),
        ),
        ("NET-ROUTE-009", "NET-ROUTE-016"),
        ("its part 192.168.64.128/27 leads to us-east-1-node-2 (10.0.1.11)",),
    ),
    Fault(
        "stale route in the kernel",
        lambda w: w.add(
            "forwarding",
            "routes",
            FibRoute(
                WEST,
                "us-west-1-node-2",
                network("192.168.99.0/26"),
                "unicast",
                "bird",
                ((address("192.168.99.0"), TUNNEL),),
                (address("10.1.1.99"),),
            ),
        ),
        ("NET-ROUTE-009",),
        ("us-west-1-node-2 -> 192.168.99.0/26", "10.1.1.99, which is no node", "outlived"),
    ),
    Fault(
        "route past the tunnel",
        fib(
            lambda r: replace(r, gateways=((address("10.2.1.1"), "eth0"),), tunnel_endpoints=()),
            node="us-west-1-node-2",
            prefix=OHIO_BLOCK,
        ),
        ("NET-ROUTE-010", "NET-ROUTE-009"),
        ("us-west-1-node-2", "leaves by eth0"),
    ),
    Fault(
        "service range not advertised",
        lambda w: w.edit(
            "configuration", "identities", lambda i: replace(i, advertised_service_cidrs=()), where(region=OHIO)
        ),
        ("NET-ROUTE-011",),
        ("us-east-2", "172.21.0.0/16", "no service range"),
    ),
    Fault(
        "service route missing",
        fib(gone, node="us-west-1-node-3", prefix=network("172.21.0.0/16")),
        ("NET-ROUTE-011",),
        ("us-west-1-node-3 -> 172.21.0.0/16, services of us-east-2", "no route"),
    ),
    Fault(
        "service route to a wrong region",
        fib(
            lambda r: replace(r, tunnel_endpoints=(EAST_REFLECTOR,)),
            node="us-west-1-node-3",
            prefix=network("172.21.0.0/16"),
        ),
        ("NET-ROUTE-011",),
        ("10.0.1.10, outside us-east-2",),
    ),
    Fault(
        "own service range from BGP",
        lambda w: w.add(
            "forwarding",
            "routes",
            *(
                FibRoute(
                    EAST, f"us-east-1-node-{n}", network("172.20.0.0/16"), "unicast", "12", ((EAST_REFLECTOR, "eth0"),)
                )
                for n in (2, 3)
            ),
        ),
        ("NET-ROUTE-012",),
        ("us-east-1-node-2 and us-east-1-node-3 -> 172.20.0.0/16",),
    ),
    Fault(
        "missing disabled pool",
        lambda w: w.edit("addressing", "pools", gone, where(region=EAST, cidr=network("192.168.64.0/18"))),
        ("NET-ROUTE-013",),
        ("us-east-1: pool for 192.168.64.0/18, the pod range of us-east-2", "there is no such pool"),
    ),
    Fault(
        "remote pool enabled",
        lambda w: w.edit(
            "addressing", "pools", lambda p: replace(p, disabled=False), where(region=EAST, name="fed-ipv4-us-east-2")
        ),
        ("NET-ROUTE-013", "NET-ADDR-003", "NET-ADDR-005"),
        ("fed-ipv4-us-east-2", "disabled: true", "enabled"),
    ),
    Fault(
        "remote pool not encapsulated",
        lambda w: w.edit(
            "addressing",
            "pools",
            lambda p: replace(p, encapsulation="none", encapsulation_mode="never"),
            where(region=EAST, name="fed-ipv4-us-east-2"),
        ),
        ("NET-ROUTE-013",),
        ("vxlan always, as in its own cluster", "none never"),
    ),
    Fault(
        "foreign disabled pool",
        lambda w: w.add(
            "addressing", "pools", Pool(EAST, "old", network("192.168.200.0/24"), True, False, "vxlan", "always", 26)
        ),
        ("NET-ROUTE-013",),
        ("pool old, 192.168.200.0/24",),
    ),
    Fault(
        "NAT on a remote pool",
        lambda w: w.edit(
            "addressing",
            "pools",
            lambda p: replace(p, nat_outgoing=True),
            where(region=EAST, name="fed-ipv4-us-east-2"),
        ),
        ("NET-ROUTE-014", "NET-ROUTE-013"),
        ("fed-ipv4-us-east-2", "natOutgoing on"),
    ),
    Fault(
        "tunnel source missing",
        lambda w: w.edit(
            "configuration",
            "identities",
            lambda i: replace(i, accepted_tunnel_sources=(network("10.2.1.0/24"),)),
            where(region=EAST),
        ),
        ("NET-ROUTE-015",),
        ("us-east-1", "10.1.1.0/24, the nodes of us-east-2"),
    ),
    Fault(
        "tunnel sources too wide",
        lambda w: w.edit(
            "configuration",
            "identities",
            lambda i: replace(i, accepted_tunnel_sources=(network("10.0.0.0/8"),)),
            where(region=EAST),
        ),
        ("NET-ROUTE-015",),
        ("us-east-1", "accepts them from 10.0.0.0/8 too"),
    ),
    Fault(
        "packet filter of one node out of date",
        lambda w: w.edit(
            "forwarding",
            "filter_sets",
            lambda s: FilterSet(s.region, s.node, s.name, (network("10.0.1.0/24"), network("10.2.1.0/24"))),
            where(node="us-east-1-node-3"),
        ),
        ("NET-ROUTE-015",),
        ("the packet filter of us-east-1-node-3", "10.1.1.0/24"),
    ),
]


def leaked(prefix: str):
    """All nodes of one cluster learn a prefix from another, which they should not."""
    return lambda w: w.add(
        "routing",
        "routes",
        *(
            RibRoute(
                EAST,
                f"us-east-1-node-{n}",
                network(prefix),
                "Node_10_1_1_10",
                "unicast",
                True,
                True,
                OHIO_REFLECTOR,
                (64513,),
                OHIO_REFLECTOR if n == 1 else EAST_REFLECTOR,
            )
            for n in (1, 2, 3, 4)
        ),
    )


LEAKS = {
    "prefix leaked": (
        "203.0.113.0/24",
        "203.0.113.0/24 on all 4 nodes of us-east-1",
        "no range of the plan",
        "AS 64513",
    ),
    "default route exchanged": ("0.0.0.0/0", "the default route", "us-east-2-node-1"),
    "underlay leaked": ("10.1.0.0/16", "overlaps the network 10.1.0.0/16 of us-east-2"),
    "part of a block": ("192.168.64.128/27", "a part of block 192.168.64.128/26, which us-east-2-node-2 owns"),
    "block that nobody owns": ("192.168.99.0/26", "a block of us-east-2 that no node owns"),
    "part of a service range": ("172.21.3.0/24", "overlaps the service range 172.21.0.0/16"),
    "block announced by another cluster": ("192.168.128.128/26", "it belongs to us-west-1", "AS 64513"),
}
EXCHANGE = [
    *(Fault(name, leaked(prefix), ("NET-ROUTE-016",), tuple(says)) for name, (prefix, *says) in LEAKS.items()),
    Fault(
        "detour through the third cluster",
        lambda w: w.edit(
            "routing",
            "routes",
            lambda r: replace(r, as_path=(64514, 64513)),
            lambda r: r.region == EAST and r.as_path == (64513,),
        ),
        ("NET-ROUTE-018",),
        ("all 4 nodes of us-east-1", "us-east-2", "64514 64513"),
    ),
]

CROSSING = ("NET-POD-001", "NET-POD-002", "NET-POD-003")
PODS = [
    Fault(
        "one direction between regions dropped",
        lambda w: lose(w, on_pods(lambda s, t, p: s.region == EAST and t.region == OHIO)),
        (*CROSSING, "NET-POD-005"),
        ("all 4 pods of us-east-1 -> all 4 pods of us-east-2", "16 x no answer", "one way only"),
    ),
    Fault(
        "region cut off",
        lambda w: lose(w, on_pods(lambda s, t, p: (s.region == WEST) != (t.region == WEST))),
        (*CROSSING, "NET-POD-005"),
        ("us-west-1", "their nodes reach each other"),
    ),
    Fault(
        "underlay between regions cut",
        lambda w: lose(w, lambda s, t, p: {s.region, t.region} == {EAST, OHIO}),
        (*CROSSING, "NET-POD-005"),
        ("us-east-1", "us-east-2", "the nodes do not reach each other either"),
    ),
    Fault(
        "one pair of nodes dropped",
        lambda w: lose(w, on_pods(lambda s, t, p: {s.node, t.node} == {"us-east-1-node-2", "us-east-2-node-3"})),
        (*CROSSING, "NET-POD-005"),
        ("pod on us-east-1-node-2 (192.168.0.130) -> pod on us-east-2-node-3 (192.168.64.194)",),
    ),
    Fault(
        "UDP only blocked",
        lambda w: lose(
            w,
            on_pods(lambda s, t, p: p.protocol is ProbeProtocol.UDP and {s.region, t.region} == {EAST, WEST}),
        ),
        ("NET-POD-003",),
        ("us-east-1", "us-west-1", "ICMP and TCP between the same pods works: a packet filter, not a route"),
    ),
    Fault(
        "TCP refused",
        lambda w: lose(
            w,
            on_pods(
                lambda s, t, p: (
                    p.protocol is ProbeProtocol.TCP and s.region != t.region and t.node == "us-west-1-node-3"
                )
            ),
            ProbeOutcome.REFUSED,
        ),
        ("NET-POD-002",),
        ("-> pod on us-west-1-node-3 (192.168.128.194)", "refused"),
    ),
    Fault(
        "prohibited by ICMP",
        lambda w: lose(
            w, on_pods(lambda s, t, p: s.region != t.region and s.node == "us-west-1-node-3"), ProbeOutcome.PROHIBITED
        ),
        (*CROSSING, "NET-POD-005"),
        (
            "pod on us-west-1-node-3 (192.168.128.194) -> all 4 pods of us-east-1 and all 4 pods of us-east-2",
            "prohibited",
        ),
    ),
    Fault(
        "nodes of one cluster apart",
        lambda w: lose(w, on_pods(lambda s, t, p: s.region == t.region == EAST and t.node == "us-east-1-node-4")),
        ("NET-POD-006",),
        ("-> pod on us-east-1-node-4 (192.168.1.2)", "3 x no answer"),
    ),
    Fault(
        "source NAT",
        lambda w: w.edit(
            "reachability",
            "probes",
            lambda p: replace(p, seen_source=address("10.0.1.11")),
            lambda p: (
                w.reachability.endpoints[p.source].name == "probe-node-2-0"
                and w.reachability.endpoints[p.source].region == EAST
                and w.reachability.endpoints[p.target].region == OHIO
                and p.seen_source is not None
            ),
        ),
        ("NET-POD-004",),
        ("pod on us-east-1-node-2 (192.168.0.130) -> us-east-2", "its node's address"),
    ),
    Fault(
        "gateway on the way",
        lambda w: w.edit(
            "reachability",
            "probes",
            lambda p: replace(p, ttl=60),
            lambda p: (
                p.ttl is not None
                and w.reachability.endpoints[p.source].region == EAST
                and w.reachability.endpoints[p.target].region == WEST
            ),
        ),
        ("NET-POD-007",),
        ("all 4 pods of us-east-1 -> all 4 pods of us-west-1", "TTL 60", "gateway"),
    ),
    Fault(
        "remote service silent",
        lambda w: w.edit(
            "paths", "services", lambda p: replace(p, outcome=ProbeOutcome.DROPPED), where(target_region=WEST)
        ),
        ("NET-POD-008",),
        ("kube-dns of us-west-1 (172.22.0.10:53)", "no answer over"),
    ),
    Fault(
        "no way out",
        lambda w: w.edit("paths", "egress", lambda p: replace(p, outcome=ProbeOutcome.DROPPED, seen_source=None)),
        ("NET-POD-009",),
        ("198.51.100.10:80", "no answer"),
    ),
    Fault(
        "pod address seen outside",
        lambda w: w.edit("paths", "egress", lambda p: replace(p, seen_source=p.source.address)),
        ("NET-POD-009",),
        ("seen under the pod address 192.168.0.66", "natOutgoing"),
    ),
    Fault(
        "another node's address seen outside",
        lambda w: w.edit("paths", "egress", lambda p: replace(p, seen_source=address("10.0.1.77"))),
        ("NET-POD-009",),
        ("seen as 10.0.1.77",),
    ),
    Fault(
        "slow pods",
        lambda w: w.edit(
            "quality", "pairs", lambda p: replace(p, pod_rtt=0.0101), where(source_region=EAST, target_region=WEST)
        ),
        ("NET-POD-012",),
        ("us-east-1 -> us-west-1", "10.10 ms between pods", "9.70 ms above"),
    ),
    Fault(
        "throttled pods",
        lambda w: w.edit("quality", "pairs", lambda p: replace(p, pod_throughput=2e8), where(target_region=WEST)),
        ("NET-POD-013",),
        ("us-east-1 -> us-west-1", "200 MB/s, 20%"),
    ),
    Fault(
        "leftover test pod",
        lambda w: w.add(
            "inventory",
            "leftover_pods",
            Pod(WEST, "meshproof", "probe-old", "us-west-1-node-1", None, False, "Running", True),
        ),
        ("NET-POD-014",),
        ("us-west-1", "meshproof/probe-old"),
    ),
]

FAULTS = [*ADDRESSING, *SESSIONS, *ROUTES, *EXCHANGE, *PODS]


def test_nothing_is_wrong_with_a_perfect_mesh():
    assert {outcome.outcome for outcome in verdicts(PERFECT).values()} == {Outcome.MET}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_turns_what_speaks_of_it_and_nothing_else(fault):
    told = verdicts(fault.break_it(PERFECT))
    violated = {requirement for requirement, verdict in told.items() if verdict.outcome is Outcome.VIOLATED}
    assert violated == set(fault.violates)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_finding_tells_an_engineer_what_is_wrong_and_where(fault):
    verdict = verdicts(fault.break_it(PERFECT))[fault.violates[0]]
    text = "\n".join(
        f"{finding.subject}: expected {finding.expected}; observed {finding.observed}; {finding.cause}"
        for finding in verdict.findings
    )
    for words in (fault.says,) if isinstance(fault.says, str) else fault.says:
        assert words in text


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_one_fault_takes_few_findings(fault):
    verdict = verdicts(fault.break_it(PERFECT))[fault.violates[0]]
    assert len(verdict.findings) <= 24
