"""Faults of packet sizes and encapsulation (NET-MTU), on Cilium."""

from __future__ import annotations

from analysis.rootcause import Layer
from provision.faults import Fault, Patch
from provision.lab.cilium.datapath import HEADER, MTU_SETTING, ROUTE_MTU
from provision.lab.faults import mtu
from provision.lab.faults.cilium.place import CONFIG, EASTUS, EUROPE, WESTUS
from provision.lab.faults.cilium.routing import tunnel
from provision.lab.faults.cilium.steps import AGENT, Restarted, TunnelMapEntry, tunnel_map_says
from provision.lab.faults.steps import filtered_in, object_says, place, table_is_loaded
from provision.lab.topology import CILIUM_PORT, UNDERLAY_MTU, LabRegion

_DONT_FRAGMENT = 0x4000
_LARGE_ANSWERS = frozenset({f"MESH-CP-{number:03}" for number in (2, 3, 4, 5, 6, 7, 9, 18)})
"""What is asked of the stores from nodes of another region: certificates and lists are larger than the hop takes."""


def _restarted_with(region: LabRegion, setting: str, value: str) -> Restarted:
    return Restarted(Patch(region.name, CONFIG, {"data": {setting: value}}), region.name, (AGENT,))


def _narrowed(region: LabRegion, size: int) -> list[TunnelMapEntry]:
    """The tunnel maps of a region's nodes take smaller packets for all other nodes."""
    return [
        TunnelMapEntry(node, other.block, tunnel(node, other).replace(f"mtu {ROUTE_MTU}", f"mtu {size}"))
        for node in region.nodes
        for target in (EASTUS, WESTUS, EUROPE)
        if target is not region
        for other in target.nodes
    ]


FAULTS: tuple[Fault, ...] = (
    mtu.hop_lowered(EASTUS, EUROPE),
    mtu.sizes_swallowed(EASTUS, WESTUS, _LARGE_ANSWERS),
    mtu.outer_packets_whole(
        WESTUS,
        EUROPE,
        # A device that takes the tunnel's end from the route takes DF from there too, and routes cannot set it.
        filtered_in(
            WESTUS,
            "  chain output { type filter hook output priority -10; "
            f"udp dport {CILIUM_PORT} ip frag-off set {_DONT_FRAGMENT}; }}",
        ),
        table_is_loaded(place(WESTUS.nodes[-1])),
    ),
    mtu.tunnel_narrower_than_pods(
        EASTUS.nodes,
        _narrowed(EASTUS, mtu.NARROW - HEADER),
        tunnel_map_says(EASTUS.nodes[-1], EUROPE.nodes[-1].block, f"mtu {mtu.NARROW - HEADER}"),
    ),
    mtu.pods_too_large(
        EUROPE,
        [_restarted_with(EUROPE, MTU_SETTING, str(UNDERLAY_MTU + HEADER))],
        tunnel_map_says(EUROPE.nodes[-1], EASTUS.nodes[-1].block, f"mtu {UNDERLAY_MTU}"),
    ),
    mtu.pods_unequal(
        WESTUS,
        [_restarted_with(WESTUS, MTU_SETTING, str(mtu.NARROW))],
        tunnel_map_says(WESTUS.nodes[-1], EASTUS.nodes[-1].block, f"mtu {mtu.NARROW - HEADER}"),
    ),
    mtu.transfers_starved(EUROPE, EASTUS),
    mtu.large_rows_starved(EUROPE),
    Fault(
        name="encapsulation-differs",
        summary=f"agents of {EUROPE.name} were started with Geneve, those of the other clusters with VXLAN",
        layer=Layer.ENCAPSULATION,
        requirement="NET-MTU-006",
        steps=(_restarted_with(EUROPE, "tunnel-protocol", "geneve"),),
        confirm=object_says(EUROPE.name, CONFIG, ("data", "tunnel-protocol"), "geneve"),
        follows=frozenset({"MESH-CP-014"}),
    ),
    Fault(
        name="ipip-on-azure",
        summary=f"the settings of {WESTUS.name} ask for IP-in-IP, which Azure drops",
        layer=Layer.ENCAPSULATION,
        requirement="NET-MTU-007",
        steps=(Patch(WESTUS.name, CONFIG, {"data": {"tunnel-protocol": "ipip"}}),),
        confirm=object_says(WESTUS.name, CONFIG, ("data", "tunnel-protocol"), "ipip"),
        follows=frozenset({"NET-MTU-006"}),
    ),
    mtu.flannel_left(EASTUS.nodes[1]),
)
