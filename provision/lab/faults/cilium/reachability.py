"""Faults of the data path between pods (NET-POD), on Cilium."""

from __future__ import annotations

from analysis.rootcause import Layer
from provision.faults import Fault, Filter
from provision.lab.cilium.datapath import HOST_DEVICE, TUNNEL_DEVICE
from provision.lab.faults import shared
from provision.lab.faults.cilium.place import EASTUS, EUROPE, WESTUS
from provision.lab.faults.steps import command_succeeds, filtered_in, place, table_is_loaded
from provision.lab.topology import CILIUM_PORT, EGRESS

_A, _B, _LAST = EASTUS.nodes

FAULTS: tuple[Fault, ...] = (
    *shared.pod_traffic_faults(EASTUS, WESTUS, EUROPE, TUNNEL_DEVICE),
    Fault(
        name="service-of-another-cluster",
        summary=f"in {EASTUS.name}, kube-dns leads to the DNS of {WESTUS.name}",
        layer=Layer.SERVICE,
        requirement="NET-POD-008",
        steps=filtered_in(
            EASTUS,
            "  chain services { type nat hook prerouting priority dstnat - 10; "
            f"ip daddr {EASTUS.plan.dns_address} meta l4proto {{ tcp, udp }} th dport 53 "
            f"dnat ip to {WESTUS.nodes[0].address}:{WESTUS.dns_port}; }}",
        ),
        confirm=table_is_loaded(place(EASTUS.nodes[-1])),
        follows=frozenset({"NET-DNS-018"}),
    ),
    Fault(
        name="egress-not-masqueraded",
        summary=f"pods of {EUROPE.name} leave for the internet with addresses that nobody can answer",
        layer=Layer.POLICY,
        requirement="NET-POD-009",
        steps=tuple(
            # What is not tracked is not translated either.
            Filter(
                place(node),
                "  chain egress { type filter hook prerouting priority raw; "
                f"ip saddr {node.block} ip daddr {EGRESS.address} notrack; }}",
            )
            for node in EUROPE.nodes
        ),
        confirm=table_is_loaded(place(EUROPE.nodes[-1])),
    ),
    shared.no_room_for_new_pods(WESTUS.nodes[-1]),
    Fault(
        name="freed-addresses-answer",
        summary=f"{_LAST.name} itself answers at every address of its block that no pod has",
        layer=Layer.FIB,
        requirement="NET-POD-011",
        steps=(
            Filter(
                place(_LAST),
                "  chain freed { type nat hook prerouting priority dstnat - 10; "
                f'ip daddr {_LAST.block} fib daddr oifname "{HOST_DEVICE}" dnat ip to {_LAST.tunnel_address}; }}',
            ),
        ),
        confirm=command_succeeds(place(_A), ("ping", "-c", "1", "-W", "1", str(_LAST.block[-2]))),
    ),
    shared.slow_tunnel(EASTUS, WESTUS, CILIUM_PORT),
    shared.throttled_tunnel(EASTUS.nodes, TUNNEL_DEVICE),
    shared.probe_pod_left_behind(_A),
)
