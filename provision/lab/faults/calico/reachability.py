"""Faults of the data path between pods (NET-POD), on Calico."""

from __future__ import annotations

from analysis.rootcause import Layer
from provision.faults import Command, Fault, Patch
from provision.lab.calico.birdconfig import TUNNEL_DEVICE
from provision.lab.faults import shared
from provision.lab.faults.calico.place import CALICO, EAST, OHIO, WEST
from provision.lab.faults.shared import REMOTE_NAMES
from provision.lab.faults.steps import command_succeeds, filtered_in, object_says, place, table_is_loaded
from provision.lab.topology import VXLAN_PORT

_A, _B, _LAST = EAST.nodes[1:]
_HERE = ("dev", "lo", "table", "main", "metric", "1")

FAULTS: tuple[Fault, ...] = (
    *shared.pod_traffic_faults(EAST, OHIO, WEST, TUNNEL_DEVICE),
    Fault(
        name="remote-service-dead",
        summary=f"{OHIO.name} drops what other clusters send to its ClusterIPs",
        layer=Layer.SERVICE,
        requirement="NET-POD-008",
        steps=filtered_in(
            OHIO,
            "  chain prerouting { type filter hook prerouting priority -200; "
            f'iifname "{TUNNEL_DEVICE}" ip daddr {OHIO.plan.service_cidr} counter drop; }}',
        ),
        confirm=table_is_loaded(place(OHIO.nodes[-1])),
        follows=REMOTE_NAMES,
    ),
    Fault(
        name="egress-not-masqueraded",
        summary=f"pods of {WEST.name} leave for the internet with addresses that nobody can answer",
        layer=Layer.POLICY,
        requirement="NET-POD-009",
        steps=(Patch(WEST.name, f"{CALICO}/ippools/default-ipv4-ippool", {"spec": {"natOutgoing": False}}),),
        confirm=object_says(WEST.name, f"{CALICO}/ippools/default-ipv4-ippool", ("spec", "natOutgoing"), False),
        follows=frozenset({"NET-MTU-005", "NET-DNS-012"}),
    ),
    shared.no_room_for_new_pods(OHIO.nodes[-1]),
    Fault(
        name="freed-addresses-answer",
        summary=f"{_LAST.name} itself answers at every address of its block that no pod has",
        layer=Layer.FIB,
        requirement="NET-POD-011",
        steps=(
            Command(
                place(_LAST),
                ("ip", "route", "add", "local", str(_LAST.block), *_HERE),
                ("ip", "route", "del", "local", str(_LAST.block), *_HERE),
            ),
        ),
        confirm=command_succeeds(place(_A), ("ping", "-c", "1", "-W", "1", str(_LAST.block[-2]))),
    ),
    shared.slow_tunnel(EAST, OHIO, VXLAN_PORT),
    shared.throttled_tunnel(EAST.nodes, TUNNEL_DEVICE),
    shared.probe_pod_left_behind(_A),
)
