"""Faults that look the same on every mesh, whichever CNI it has: each function makes one, for the lab it is told.

A requirement in `follows` that a profile does not check simply never turns there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any

from analysis.rootcause import Layer
from provision.faults import Command, Confirm, Control, Create, Fault, Filter, Patch
from provision.lab.cloud import SUBNET_BRIDGE
from provision.lab.faults.policy import BETWEEN_REGIONS, DENIALS
from provision.lab.faults.steps import (
    WATCHDOG_NAME,
    DropsUnlessServed,
    FullMap,
    SlowTunnel,
    between,
    command_succeeds,
    dropped,
    dropped_in,
    object_is_there,
    object_says,
    place,
    table_is_loaded,
)
from provision.lab.seed import PAUSE_IMAGE
from provision.lab.topology import LabNode, LabRegion

REMOTE_NAMES = frozenset(
    {
        "NET-DNS-005",
        "NET-DNS-006",
        "NET-DNS-007",
        "NET-DNS-008",
        "NET-DNS-010",
        "NET-DNS-011",
        "NET-DNS-013",
        "NET-DNS-014",
        "NET-DNS-016",
        "NET-DNS-018",
        "NET-DNS-019",
    }
)
"""What cannot be asked for when questions to another region's DNS servers, or their answers, are lost."""

BETWEEN_PODS = BETWEEN_REGIONS | DENIALS | {"NET-POL-001", "NET-POL-012"}
"""What policy lets pods of different regions do, and what cannot be proven of it where the one does not reach the
other."""

MESH_PATHS = (
    REMOTE_NAMES
    | BETWEEN_PODS
    | {
        "NET-POD-001",
        "NET-POD-002",
        "NET-POD-003",
        "NET-POD-005",
        "NET-MTU-001",
        "NET-MTU-002",
        "NET-MTU-003",
        "NET-MTU-004",
    }
)
"""What is lost with any path between the pods of two regions."""

UNSEEN = MESH_PATHS | {
    "NET-MTU-005",
    "NET-MTU-009",
    "NET-MTU-011",
    "NET-UNDR-010",
    "NET-POD-004",
    "NET-POD-006",
    "NET-POD-007",
    "NET-ROUTE-004",
    "NET-ROUTE-008",
    "NET-ROUTE-009",
    "NET-ROUTE-010",
    "NET-ROUTE-011",
    "NET-ROUTE-012",
    "NET-ROUTE-014",
    "NET-ROUTE-015",
    "NET-ROUTE-016",
    "NET-ROUTE-018",
    "NET-ROUTE-019",
    "NET-ROUTE-020",
    "MESH-CP-001",
    "MESH-CP-002",
    "MESH-CP-012",
    "MESH-CP-014",
    "MESH-CP-015",
    "MESH-CP-016",
    "MESH-CP-017",
}
"""What cannot be told of a node on which no probe and no agent runs."""

_NOBODY_THERE = UNSEEN | {
    "NET-ROUTE-005",
    "NET-ROUTE-006",
    "NET-UNDR-006",
    "NET-UNDR-011",
    "NET-UNDR-017",
    "NET-UNDR-018",
    "NET-UNDR-019",
    "NET-UNDR-020",
}
"""What cannot be seen, or gets no answer, where the API lists a node that does not exist."""


PODS = "/api/v1/namespaces/default/pods"
SERVICES = "/api/v1/namespaces/default/services"
_STRAY_SUBNET = "10.99.1.1/24"
_STRAY_NODE = "10.99.1.12"
_RUN_LABEL = "meshproof/run"
_SLOW = "tbf rate 2mbit burst 16kb latency 400ms"


def stray_pod(node: LabNode, name: str, **metadata: Any) -> dict[str, Any]:
    """A pod that is bound to a node and does nothing."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {
            "nodeName": node.name,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "pause", "image": PAUSE_IMAGE}],
        },
    }


def stray_node(name: str, address: object) -> dict[str, Any]:
    """A node that has registered and is not Ready."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": str(address)}],
            "conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}],
        },
    }


# --- addressing ---------------------------------------------------------------------------------------------------


def networks_overlap(region: LabRegion, other: LabRegion) -> Fault:
    """The region's network was made twice as large, and so took in the other's, its neighbour."""
    router, planned = f"{region.name}/vpc", region.plan.network
    assert planned is not None, "a lab's regions have networks"
    wide = planned.supernet()
    return Fault(
        name="networks-overlap",
        summary=f"the network of {region.name} was made so large that it covers that of {other.name}",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-001",
        steps=(
            Command(
                router,
                ("sh", "-c", f"ip route add blackhole {wide} && ip route del blackhole {planned}"),
                ("sh", "-c", f"ip route add blackhole {planned} && ip route del blackhole {wide}"),
            ),
        ),
        confirm=lambda control: str(wide) in control.run(router, ["ip", "route"]).out,
        follows=frozenset({"NET-ADDR-002"}),
    )


def subnet_outside_its_network(region: LabRegion) -> Fault:
    """The region's router serves a further subnet."""
    router = f"{region.name}/vpc"
    return Fault(
        name="subnet-outside-its-network",
        summary=f"the router of {region.name} serves a subnet that its network does not hold",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-002",
        steps=(
            Command(
                router,
                ("ip", "address", "add", _STRAY_SUBNET, "dev", SUBNET_BRIDGE),
                ("ip", "address", "del", _STRAY_SUBNET, "dev", SUBNET_BRIDGE),
            ),
        ),
        confirm=lambda control: _STRAY_SUBNET in control.run(router, ["ip", "address"]).out,
    )


def service_address_outside_range(region: LabRegion) -> Fault:
    """A Service with a ClusterIP of no service range."""
    return Fault(
        name="service-address-outside-range",
        summary=f"a Service of {region.name} has a ClusterIP of no service range",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-007",
        steps=(
            Create(
                region.name,
                SERVICES,
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"name": "stray"},
                    "spec": {"clusterIP": "10.96.0.50", "ports": [{"port": 80}]},
                },
            ),
        ),
        confirm=object_is_there(region.name, f"{SERVICES}/stray"),
    )


def node_address_outside_subnet(node: LabNode, follows: frozenset[str]) -> Fault:
    """A node that reports an InternalIP of no region."""
    addresses = [{"type": "InternalIP", "address": _STRAY_NODE}, {"type": "Hostname", "address": "127.0.0.1"}]
    return Fault(
        name="node-address-outside-subnet",
        summary=f"{node.name} reports an InternalIP of no region",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-008",
        steps=(Patch(node.region, f"/api/v1/nodes/{node.name}/status", {"status": {"addresses": addresses}}),),
        confirm=object_says(node.region, f"/api/v1/nodes/{node.name}", ("status", "addresses"), addresses),
        # Doors are knocked at, and packets awaited, where the node no longer is.
        follows=follows
        | {"NET-UNDR-006", "NET-UNDR-010", "NET-UNDR-011", "NET-UNDR-018", "NET-MTU-004", "NET-DNS-005", "NET-DNS-017"},
    )


def node_name_used_twice(region: LabRegion, node: LabNode) -> Fault:
    """The region has a node with the name of another region's."""
    return Fault(
        name="node-name-used-twice",
        summary=f"{region.name} has a node called {node.name} too",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-012",
        steps=(Create(region.name, "/api/v1/nodes", stray_node(node.name, region.plan.node_cidr[99])),),
        confirm=object_is_there(region.name, f"/api/v1/nodes/{node.name}"),
        follows=_NOBODY_THERE | {"NET-ADDR-013"},
    )


def node_too_many(region: LabRegion) -> Fault:
    """A node that nobody planned, and that is not Ready."""
    name = f"{region.name}-node-9"
    return Fault(
        name="node-too-many",
        summary=f"{region.name} has a node more than planned, and it is not Ready",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-013",
        steps=(Create(region.name, "/api/v1/nodes", stray_node(name, region.plan.node_cidr[99])),),
        confirm=object_is_there(region.name, f"/api/v1/nodes/{name}"),
        follows=_NOBODY_THERE,
    )


# --- the data path between pods -----------------------------------------------------------------------------------


def one_way_drop(source: LabRegion, target: LabRegion) -> Fault:
    """What pods of one region begin towards another is dropped."""
    return Fault(
        name="one-way-drop",
        summary=f"nodes of {source.name} drop what pods there begin towards {target.name}; the other way is open",
        layer=Layer.POLICY,
        requirement="NET-POD-001",
        steps=dropped_in(source, f"{between(source, target)} ct state new"),
        confirm=table_is_loaded(place(source.nodes[-1])),
        follows=MESH_PATHS
        | {"NET-ROUTE-014", "NET-POD-010", "NET-POD-011", "NET-POD-012", "NET-POD-013", "MESH-CP-010", "MESH-CP-011"},
    )


def tcp_blocked(source: LabRegion, target: LabRegion) -> Fault:
    """TCP is dropped, ping is not."""
    return Fault(
        name="tcp-blocked",
        summary=f"TCP from pods of {source.name} to pods of {target.name} is dropped; ping works",
        layer=Layer.POLICY,
        requirement="NET-POD-002",
        steps=dropped_in(source, f"{between(source, target)} meta l4proto tcp ct state new"),
        confirm=table_is_loaded(place(source.nodes[-1])),
        follows=frozenset(
            {
                "NET-POD-005",
                "NET-POD-010",
                "NET-POD-011",
                "NET-POD-013",
                "NET-ROUTE-014",
                "NET-MTU-003",
                "MESH-CP-010",
                "MESH-CP-011",
            }
        ),
    )


def udp_blocked(source: LabRegion, target: LabRegion) -> Fault:
    """UDP is dropped, TCP and ping are not."""
    return Fault(
        name="udp-blocked",
        summary=f"UDP from pods of {source.name} to pods of {target.name} is dropped; TCP and ping work",
        layer=Layer.POLICY,
        requirement="NET-POD-003",
        steps=dropped_in(source, f"{between(source, target)} meta l4proto udp ct state new"),
        confirm=table_is_loaded(place(source.nodes[-1])),
        follows=frozenset({"NET-POD-005"}),
    )


def source_nat(node: LabNode, source: LabRegion, target: LabRegion, tunnel_device: str) -> Fault:
    """A node hides its pods behind its own address."""
    return Fault(
        name="source-nat",
        summary=f"{node.name} masquerades its pods towards {target.name}",
        layer=Layer.POLICY,
        requirement="NET-POD-004",
        steps=(
            Filter(
                place(node),
                "  chain postrouting { type nat hook postrouting priority 90; "
                f'oifname "{tunnel_device}" {between(source, target)} counter snat ip to {node.tunnel_address}; }}',
            ),
        ),
        confirm=table_is_loaded(place(node)),
        # One observation, two promises: addresses survive, and the mesh is not masqueraded.
        follows=frozenset({"NET-ROUTE-014"}),
    )


def one_node_pair_dropped(node: LabNode, remote: LabNode) -> Fault:
    """One node drops what it sends to one other, of another region."""
    return Fault(
        name="one-node-pair-dropped",
        summary=f"{node.name} drops what its pods send to those of {remote.name}, and to no other node's",
        layer=Layer.POLICY,
        requirement="NET-POD-005",
        steps=(dropped(node, f"ip saddr {node.block} ip daddr {remote.block}"),),
        confirm=table_is_loaded(place(node)),
        follows=MESH_PATHS,
    )


def neighbour_dropped(node: LabNode, neighbour: LabNode) -> Fault:
    """One node drops what it sends to one other, of its own cluster."""
    return Fault(
        name="neighbour-dropped",
        summary=f"{node.name} and {neighbour.name} of one cluster cannot exchange pod traffic",
        layer=Layer.POLICY,
        requirement="NET-POD-006",
        steps=(dropped(node, f"ip saddr {node.block} ip daddr {neighbour.block}"),),
        confirm=table_is_loaded(place(node)),
        # Among the pods are those that answer for names.
        follows=REMOTE_NAMES | {"NET-POD-005", "NET-POD-008", "NET-DNS-012", "NET-DNS-015"},
    )


def hidden_hop(node: LabNode, own: LabRegion, other: LabRegion, ttl: int) -> Fault:
    """Echoes come back with one hop less to live than they should."""
    return Fault(
        name="hidden-hop",
        summary=f"something between {node.name} and {other.name} takes one more hop off the TTL",
        layer=Layer.FIB,
        requirement="NET-POD-007",
        steps=(
            Filter(
                place(node),
                "  chain forward { type filter hook forward priority -10; "
                f"{between(other, own)} icmp type echo-reply ip ttl set {ttl}; }}",
            ),
        ),
        confirm=table_is_loaded(place(node)),
    )


def no_room_for_new_pods(node: LabNode) -> Fault:
    """A node's table of pods is full. It should be the last of a region in the middle: others serve more checks."""
    return Fault(
        name="no-room-for-new-pods",
        summary=f"a table of {node.name} is full: pods that were there are delivered to, a further one is not",
        layer=Layer.FIB,
        requirement="NET-POD-010",
        steps=(FullMap(node),),
        confirm=table_is_loaded(place(node)),
    )


def no_room_after_an_outage(node: LabNode) -> Fault:
    """As above, in the region whose control plane is taken away: the last one."""
    return Fault(
        name="no-room-after-an-outage",
        summary=f"a table of {node.name} is full: a pod that was made during an outage is not delivered to afterwards",
        layer=Layer.FIB,
        requirement="MESH-CP-011",
        steps=(FullMap(node),),
        confirm=table_is_loaded(place(node)),
        follows=frozenset({"NET-POD-010"}),
    )


def slow_tunnel(source: LabRegion, target: LabRegion, port: int) -> Fault:
    """Encapsulated packets are delayed, others are not."""
    asking = source.nodes[0]
    return Fault(
        name="slow-tunnel",
        summary=f"the tunnels from {source.name} to {target.name} take 20 ms longer than the way beside them",
        layer=Layer.ENCAPSULATION,
        requirement="NET-POD-012",
        steps=tuple(SlowTunnel(node, target, port) for node in source.nodes),
        confirm=_takes_longer_than(asking, target.nodes[0].tunnel_address, milliseconds=15),
        follows=frozenset({"NET-POD-013"}),
    )


def _takes_longer_than(node: LabNode, address: object, milliseconds: int) -> Confirm:
    """A ping from the node is answered, and not before that time."""

    def confirm(control: Control) -> bool:
        ping = control.run(
            place(node), ["ping", "-c", "1", "-W", "1", "-I", str(node.tunnel_address), str(address)], check=False
        )
        told = re.search(r"time=([\d.]+) ms", ping.out)
        return told is not None and float(told[1]) > milliseconds

    return confirm


def throttled_tunnel(nodes: Sequence[LabNode], tunnel_device: str) -> Fault:
    """The tunnel devices carry little."""
    return Fault(
        name="throttled-tunnel",
        summary=f"the tunnel devices of {nodes[0].region} carry no more than 2 Mbit/s",
        layer=Layer.ENCAPSULATION,
        requirement="NET-POD-013",
        steps=tuple(
            Command(
                place(node),
                ("tc", "qdisc", "add", "dev", tunnel_device, "root", *_SLOW.split()),
                ("tc", "qdisc", "del", "dev", tunnel_device, "root"),
            )
            for node in nodes
        ),
        confirm=lambda control: (
            "tbf" in control.run(place(nodes[0]), ["tc", "qdisc", "show", "dev", tunnel_device]).out
        ),
        follows=frozenset({"NET-POD-012", "NET-MTU-003"}),
    )


def probe_pod_left_behind(node: LabNode) -> Fault:
    """A pod of an earlier run was never removed."""
    pod = stray_pod(node, "network-test-1", labels={_RUN_LABEL: "run-of-last-month"})
    return Fault(
        name="probe-pod-left-behind",
        summary=f"a probe pod of an earlier run is still in {node.region}",
        layer=Layer.HYGIENE,
        requirement="NET-POD-014",
        steps=(Create(node.region, PODS, pod),),
        confirm=object_is_there(node.region, f"{PODS}/network-test-1"),
    )


# --- the mesh's control plane -------------------------------------------------------------------------------------


def second_plugin(node: LabNode) -> Fault:
    """A device that another network plug-in makes."""
    return Fault(
        name="second-plugin",
        summary=f"{node.name} has Flannel's device: another network plug-in was there, or still is",
        layer=Layer.CONTROL,
        requirement="MESH-CP-017",
        steps=(
            Command(
                place(node),
                ("ip", "link", "add", "flannel.1", "type", "vxlan", "id", "1", "dev", "eth0", "dstport", "8471"),
                ("ip", "link", "del", "flannel.1"),
            ),
        ),
        confirm=command_succeeds(place(node), ("ip", "link", "show", "flannel.1")),
        follows=frozenset({"NET-MTU-011"}),
    )


def health_script(node: LabNode, addresses: tuple[IPv4Address, ...], port: int) -> Fault:
    """A node whose traffic depends on the control plane. It should be the last one of the last region."""
    return Fault(
        name="traffic-depends-on-the-control-plane",
        summary=f"a script on {node.name} stops forwarding as long as its cluster's mesh control plane does not answer",
        layer=Layer.SERVICE,
        requirement="MESH-CP-010",
        steps=(DropsUnlessServed(node, addresses, port),),
        confirm=command_succeeds(place(node), ("pgrep", "-f", WATCHDOG_NAME)),
        follows=frozenset({"MESH-CP-011"}),
    )


def pod_traffic_faults(first: LabRegion, second: LabRegion, third: LabRegion, tunnel: str) -> tuple[Fault, ...]:
    """What can go wrong with the traffic of pods alone, whatever carries it: drops, rewritten sources, one more hop.

    Args:
        first: the region on whose third and second last node most of it happens.
        second: the region that most of it is about.
        third: the one that TCP and UDP fail with.
        tunnel: the nodes' tunnel device.
    """
    a, b = first.nodes[-3:-1]
    return (
        one_way_drop(first, second),
        tcp_blocked(first, third),
        udp_blocked(third, second),
        source_nat(a, first, second, tunnel),
        one_node_pair_dropped(a, second.nodes[1]),
        neighbour_dropped(a, b),
        hidden_hop(a, first, second, ttl=61),
    )
