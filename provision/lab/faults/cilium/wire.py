"""Faults of what is on the wire (NET-MTU, NET-UNDR), on Cilium."""

from __future__ import annotations

from provision.faults import Fault
from provision.lab.faults import wire
from provision.lab.faults.cilium.place import EASTUS, EUROPE, LAB, WESTUS
from provision.lab.topology import CILIUM_PORT, CILIUM_VNI, UNDERLAY_MTU

_A, _B = EASTUS.nodes[1], WESTUS.nodes[1]

FAULTS: tuple[Fault, ...] = (
    wire.bare_both_ways(LAB, _A, _B),
    wire.bare_one_way(LAB, _A, EUROPE.nodes[1]),
    wire.wrong_tunnel(
        _A,
        _B,
        "tunnel-port-differs",
        f"the port {CILIUM_PORT + 1}",
        f"mtu {UNDERLAY_MTU} type vxlan external dstport {CILIUM_PORT + 1}",
        f"encap ip id {CILIUM_VNI} dst {_B.address} via {_B.address}",
    ),
    wire.tunnel_filtered(_A, EUROPE.nodes[2], CILIUM_PORT),
    # Cilium asks nobody who sends where from: without the security group, nothing keeps strangers out.
    wire.tunnel_open_to_all(LAB, WESTUS, CILIUM_PORT, (), frozenset()),
)
