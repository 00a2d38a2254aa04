"""Faults of packet sizes and encapsulation (NET-MTU), on Calico."""

from __future__ import annotations

from analysis.rootcause import Layer
from provision.faults import Command, Confirm, Fault, Patch
from provision.lab.calico.birdconfig import TUNNEL_DEVICE
from provision.lab.calico.felix import TUNNEL_MTU
from provision.lab.faults import mtu
from provision.lab.faults.calico.place import CALICO, EAST, OHIO, WEST
from provision.lab.faults.steps import object_says, place
from provision.lab.topology import UNDERLAY_MTU, LabNode, LabRegion

_FELIX = f"{CALICO}/felixconfigurations/default"
_OWN_POOL = f"{CALICO}/ippools/default-ipv4-ippool"


def _tunnels_say(node: LabNode, text: str) -> Confirm:
    """The node's tunnel device is so."""
    show = ["ip", "-details", "link", "show", TUNNEL_DEVICE]
    return lambda control: text in control.run(place(node), show, check=False).out


def _vxlan_mtu(region: LabRegion, size: int) -> Patch:
    return Patch(region.name, _FELIX, {"spec": {"vxlanMTU": size}})


FAULTS: tuple[Fault, ...] = (
    mtu.hop_lowered(EAST, WEST),
    mtu.sizes_swallowed(EAST, OHIO, frozenset({"MESH-CP-006"})),
    mtu.outer_packets_whole(
        OHIO,
        WEST,
        [
            Command(
                place(node),
                ("ip", "link", "set", TUNNEL_DEVICE, "type", "vxlan", "df", "set"),
                ("ip", "link", "set", TUNNEL_DEVICE, "type", "vxlan", "df", "unset"),
            )
            for node in OHIO.nodes
        ],
        _tunnels_say(OHIO.nodes[-1], " df set "),
    ),
    mtu.tunnel_narrower_than_pods(
        EAST.nodes,
        [
            Command(
                place(node),
                ("ip", "link", "set", TUNNEL_DEVICE, "mtu", str(mtu.NARROW - 50)),
                ("ip", "link", "set", TUNNEL_DEVICE, "mtu", str(TUNNEL_MTU)),
            )
            for node in EAST.nodes
        ],
        _tunnels_say(EAST.nodes[-1], f" mtu {mtu.NARROW - 50} "),
    ),
    mtu.pods_too_large(WEST, [_vxlan_mtu(WEST, UNDERLAY_MTU)], _tunnels_say(WEST.nodes[-1], f" mtu {UNDERLAY_MTU} ")),
    mtu.pods_unequal(OHIO, [_vxlan_mtu(OHIO, mtu.NARROW)], _tunnels_say(OHIO.nodes[-1], f" mtu {mtu.NARROW} ")),
    mtu.transfers_starved(WEST, EAST),
    mtu.large_rows_starved(WEST),
    Fault(
        name="encapsulation-modes-differ",
        # Calico's own API refuses both modes in one pool; who writes the custom resource itself gets past it.
        summary=f"the pool of {OHIO.name} asks for IP-in-IP too, those of the other clusters for VXLAN alone",
        layer=Layer.ENCAPSULATION,
        requirement="NET-MTU-006",
        steps=(Patch(OHIO.name, _OWN_POOL, {"spec": {"ipipMode": "Always"}}),),
        confirm=object_says(OHIO.name, _OWN_POOL, ("spec", "ipipMode"), "Always"),
        follows=frozenset({"NET-ROUTE-013"}),
    ),
)
