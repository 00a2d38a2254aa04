"""Faults of what is on the wire (NET-MTU, NET-UNDR), on Calico."""

from __future__ import annotations

from provision.faults import Fault, Patch
from provision.lab.calico.felix import TUNNEL_MTU
from provision.lab.cloud import ANYBODY
from provision.lab.faults import wire
from provision.lab.faults.calico.place import CALICO, EAST, LAB, OHIO, WEST
from provision.lab.topology import VXLAN_PORT, VXLAN_VNI

_A, _B = EAST.nodes[2], OHIO.nodes[2]
_FELIX = f"{CALICO}/felixconfigurations/default"

FAULTS: tuple[Fault, ...] = (
    wire.bare_both_ways(LAB, _A, _B),
    wire.bare_one_way(LAB, _A, WEST.nodes[1]),
    wire.wrong_tunnel(
        _A,
        _B,
        "tunnel-identifier-differs",
        f"the network identifier {VXLAN_VNI + 1}",
        f"mtu {TUNNEL_MTU} type vxlan id {VXLAN_VNI + 1} dstport {VXLAN_PORT} local {_A.address} nolearning",
        f"via {_B.tunnel_address}",
    ),
    wire.tunnel_filtered(_A, WEST.nodes[2], VXLAN_PORT),
    wire.tunnel_open_to_all(
        LAB,
        OHIO,
        VXLAN_PORT,
        (Patch(OHIO.name, _FELIX, {"spec": {"externalNodesList": [str(ANYBODY)]}}),),
        frozenset({"NET-ROUTE-015"}),
    ),
)
