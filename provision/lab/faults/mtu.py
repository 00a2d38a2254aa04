"""Faults of packet sizes (NET-MTU) that look alike on every mesh: each function makes one, for the lab it is told."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.plan import DatabasePlan
from analysis.rootcause import Layer
from provision.faults import Command, Confirm, Control, Fault, Filter, Step
from provision.lab.faults.steps import between, dropped_in, place, table_is_loaded
from provision.lab.topology import UNDERLAY_MTU, LabNode, LabRegion

NARROW = 1400
"""What a lowered hop carries: enough for the RIB, too little for a full packet of a pod with its header."""

_HEADERS = 28
_SPEED = frozenset({"NET-POD-012", "NET-POD-013"})
"""Fragments are slower than whole packets, and packets that are lost and sent again slower still."""


def hop_lowered(a: LabRegion, b: LabRegion) -> Fault:
    """A peering that carries less than both networks behind it. Whoever sends too much is told so."""
    return Fault(
        name="mtu-lowered-on-a-hop",
        summary=f"the peering of {a.name} and {b.name} carries {NARROW} bytes, and says so",
        layer=Layer.MTU,
        requirement="NET-MTU-001",
        steps=lowered(a, b),
        confirm=_too_large(a.nodes[-1], b.nodes[-1]),
        follows=_SPEED,
    )


def sizes_swallowed(a: LabRegion, b: LabRegion, follows: frozenset[str]) -> Fault:
    """As above, but the messages that would tell the senders are filtered: a black hole for nodes."""
    messages = "icmp type destination-unreachable icmp code frag-needed counter drop;"
    return Fault(
        name="frag-needed-filtered",
        summary=f"the peering of {a.name} and {b.name} carries {NARROW} bytes, and its errors are dropped",
        layer=Layer.MTU,
        requirement="NET-MTU-001",
        steps=(
            *lowered(a, b),
            *(
                Filter(
                    router(region),
                    f"  chain output {{ type filter hook output priority -10; {messages} }}\n"
                    f"  chain forward {{ type filter hook forward priority -10; {messages} }}",
                )
                for region in (a, b)
            ),
        ),
        confirm=_too_large(a.nodes[-1], b.nodes[-1]),
        follows=_SPEED | follows,
    )


def outer_packets_whole(a: LabRegion, b: LabRegion, marks: Sequence[Step], confirm: Confirm) -> Fault:
    """Outer packets that must not be fragmented, on a path that is too narrow for them: a black hole for pods.

    Args:
        a: the region whose nodes send them.
        b: the region that the narrow peering leads to.
        marks: what makes the nodes set the DF bit in the outer header.
        confirm: that they do.
    """
    return Fault(
        name="outer-packets-not-fragmented",
        summary=f"nodes of {a.name} forbid to fragment their tunnels' packets; the peering to {b.name} is too narrow",
        layer=Layer.MTU,
        requirement="NET-MTU-002",
        steps=(*lowered(a, b), *marks),
        confirm=lambda control: confirm(control) and _too_large(a.nodes[-1], b.nodes[-1])(control),
        follows=_SPEED | {"NET-MTU-001", "NET-MTU-003"},
    )


def tunnel_narrower_than_pods(nodes: Sequence[LabNode], steps: Sequence[Step], confirm: Confirm) -> Fault:
    """Tunnels that take less than the pods were told: the node refuses, and says so."""
    return Fault(
        name="tunnel-narrower-than-pods",
        summary=f"the tunnels of {nodes[0].region} take {NARROW - 50} bytes, its pods send more",
        layer=Layer.MTU,
        requirement="NET-MTU-002",
        steps=tuple(steps),
        confirm=confirm,
    )


def pods_too_large(region: LabRegion, steps: Sequence[Step], confirm: Confirm) -> Fault:
    """Pods that were told to fill the underlay's packets, with no room for a header."""
    return Fault(
        name="pod-mtu-too-large",
        summary=f"the MTU of pods in {region.name} is the underlay's: full packets have no room for the header",
        layer=Layer.MTU,
        requirement="NET-MTU-001",
        steps=tuple(steps),
        confirm=confirm,
        follows=_SPEED | {"NET-MTU-002", "NET-MTU-008"},
    )


def pods_unequal(region: LabRegion, steps: Sequence[Step], confirm: Confirm) -> Fault:
    """One cluster that was given a smaller MTU than the others."""
    return Fault(
        name="pod-mtu-unequal",
        summary=f"pods of {region.name} were given a smaller MTU than those of the other clusters",
        layer=Layer.MTU,
        requirement="NET-MTU-008",
        steps=tuple(steps),
        confirm=confirm,
        # Pods elsewhere send what the smaller ones cannot take.
        follows=frozenset({"NET-MTU-002"}),
    )


def transfers_starved(source: LabRegion, target: LabRegion) -> Fault:
    """A filter that has had enough of large segments: transfers begin well and stand still then."""
    match = f"{between(source, target)} meta l4proto tcp meta length > 1000"
    return Fault(
        name="transfers-stall",
        summary=f"nodes of {source.name} forward half a megabyte of large TCP segments to {target.name}, and no more",
        layer=Layer.MTU,
        requirement="NET-MTU-003",
        steps=dropped_in(source, f"{match} quota over 500 kbytes"),
        confirm=table_is_loaded(place(source.nodes[-1])),
        follows=_SPEED,
    )


def large_rows_starved(source: LabRegion) -> Fault:
    """A policer that lets few full segments a second through to the database: small rows do not notice it."""
    match = f"ip saddr {source.plan.pod_cidr} tcp dport {DatabasePlan().sql_port} meta length > 1000"
    return Fault(
        name="large-rows-starved",
        summary=f"nodes of {source.name} forward 100 kB a second of large segments to the database, and drop the rest",
        layer=Layer.MTU,
        requirement="NET-MTU-010",
        steps=dropped_in(source, f"{match} limit rate over 100 kbytes/second burst 300 kbytes"),
        confirm=table_is_loaded(place(source.nodes[-1])),
        database=True,
    )


def flannel_left(node: LabNode) -> Fault:
    """The bridge that Flannel puts its pods on."""
    return Fault(
        name="flannel-left-behind",
        summary=f"{node.name} still has the bridge of Flannel, which k3s brings unless it is told not to",
        layer=Layer.CONTROL,
        requirement="NET-MTU-011",
        steps=(Command(place(node), ("ip", "link", "add", "cni0", "type", "bridge"), ("ip", "link", "del", "cni0")),),
        confirm=lambda control: control.run(place(node), ["ip", "link", "show", "cni0"], check=False).code == 0,
        follows=frozenset({"MESH-CP-017"}),
    )


def lowered(a: LabRegion, b: LabRegion) -> tuple[Step, ...]:
    """Both ends of a peering take less. When it is mended, what nodes have learnt of the path is forgotten."""
    flush = ("ip", "route", "flush", "cache")
    return (
        *(Command(place(node), ("true",), flush) for region in (a, b) for node in region.nodes),
        *(
            Command(router(here), _set_mtu(there.name, NARROW), _set_mtu(there.name, UNDERLAY_MTU))
            for here, there in ((a, b), (b, a))
        ),
    )


def router(region: LabRegion) -> str:
    """A region's router as `Control.run` names it."""
    return f"{region.name}/vpc"


def _set_mtu(device: str, mtu: int) -> tuple[str, ...]:
    return ("ip", "link", "set", "dev", device, "mtu", str(mtu))


def _too_large(source: LabNode, target: LabNode) -> Confirm:
    """A packet that fits the devices of both nodes is not answered, while a smaller one is."""

    def passes(control: Control, size: int) -> bool:
        ping = ["ping", "-M", "do", "-c", "1", "-W", "1", "-s", str(size - _HEADERS), str(target.address)]
        return control.run(place(source), ping, check=False).code == 0

    return lambda control: passes(control, NARROW) and not passes(control, NARROW + 1)
