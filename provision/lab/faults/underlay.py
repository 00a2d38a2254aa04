"""Faults of the underlay as nodes and the outside meet them: cut pairs, filtered ports, settings, sizes.

`underlay_faults` makes those of a lab that it is told. What the cloud itself has wrong is in `cloud`.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from analysis.rootcause import Layer
from provision.faults import Command, Confirm, Control, Fault, Filter, Patch
from provision.lab.agents_config import host_tree
from provision.lab.cloud import NOT_TRANSITIVE
from provision.lab.faults.cloud import (
    SEVERED,
    RulesChanged,
    from_sources,
    group_changed,
    group_says,
    router,
    without_rule,
)
from provision.lab.faults.steps import command_succeeds, object_says, place, table_is_loaded
from provision.lab.images import python_interpreter
from provision.lab.node_files import SYSCTL_FILE
from provision.lab.topology import API_SERVER_PORT, AWS, OPERATOR, LabNode, LabRegion, LabTopology

_KUBELET, _SSH = 10250, 22
_PUBLIC_HOP = IPv4Address("203.0.113.7")
_TOO_SMALL = "300m"
_SECONDS_AHEAD = 30
_PYTHON_OF_ANOTHER_TIME = """\
#!/bin/sh
# python3 -I -S -c PROGRAM ARGUMENTS, as probes are started
program="$4"; shift 4
exec {python} -I -S -c "import time; now = time.time; time.time = lambda: now() + {seconds}
$program" "$@"
"""


def underlay_faults(lab: LabTopology) -> tuple[Fault, ...]:
    """What can go wrong between the nodes of this lab, and on them."""
    first, second, third = lab.regions[:3]
    return (
        _node_pair_cut(first, second),
        _public_hop(first, second),
        _way_round(first, second, third),
        *_bgp_closed(lab, third),
        _mesh_port_filtered(lab, second, first),
        _ssh_closed(third.nodes[-1]),
        _no_forwarding_after_a_reboot(second.nodes[-1]),
        _kubelet_filtered(first.nodes[-1]),
        _small_node(third.nodes[-1]),
        _wrong_time(second.nodes[-1]),
    )


def _cut(region: LabRegion, a: LabNode, b: LabNode) -> Filter:
    """All packets between two nodes, lost in a region's router, whose own rules are tables of their own."""
    ways = "; ".join(f"ip saddr {start.address} ip daddr {end.address} counter drop" for start, end in ((a, b), (b, a)))
    return Filter(router(region), f"  chain forward {{ type filter hook forward priority -10; {ways}; }}")


def _node_pair_cut(region: LabRegion, other: LabRegion) -> Fault:
    a, b = region.nodes[1], other.nodes[1]
    return Fault(
        name="node-pair-cut-on-the-underlay",
        summary=f"something in the network of {region.name} drops what {a.name} and {b.name} send each other",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-006",
        steps=(_cut(region, a, b),),
        confirm=command_succeeds(place(a), ("ping", "-c", "1", "-W", "1", str(b.address)), succeeds=False),
        follows=SEVERED | {"NET-UNDR-010", "NET-UNDR-011", "NET-MTU-002", "MESH-CP-012", "MESH-CP-015"},
    )


def _public_hop(region: LabRegion, other: LabRegion) -> Fault:
    """The other region's router answers under a public address: the two are joined over the internet."""
    there, network = router(other), str(region.plan.network)
    source = ("sh", "-ec")
    return Fault(
        name="peering-over-the-internet",
        summary=f"{region.name} and {other.name} are joined by a tunnel over the internet: a public hop is on the way",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-007",
        steps=(
            Command(
                there,
                (
                    *source,
                    f"ip address add {_PUBLIC_HOP}/32 dev lo; "
                    f"ip route replace $(ip -4 route show exact {network}) src {_PUBLIC_HOP}",
                ),
                (
                    *source,
                    f"ip route replace $(ip -4 route show exact {network} | sed 's/ src [0-9.]*//'); "
                    f"ip address del {_PUBLIC_HOP}/32 dev lo",
                ),
            ),
        ),
        confirm=lambda control: str(_PUBLIC_HOP) in control.run(there, ["ip", "-4", "route", "show"]).out,
    )


def _way_round(a: LabRegion, b: LabRegion, via: LabRegion) -> Fault:
    """Each of two regions has a second, more specific way to the other's nodes: through a third."""

    def detour(region: LabRegion, other: LabRegion) -> Command:
        subnet = other.plan.node_cidr
        next_hop = f"$(ip -4 route show exact {via.plan.network} | sed 's/^[^ ]* //')"
        return Command(
            router(region),
            ("sh", "-ec", f"ip route add {subnet} {next_hop}"),
            ("ip", "route", "del", str(subnet)),
        )

    def leads_round(control: Control) -> bool:
        return via.name in control.run(router(a), ["ip", "-4", "route", "show", "exact", str(b.plan.node_cidr)]).out

    return Fault(
        name="way-round-a-peering",
        summary=f"{a.name} and {b.name} reach each other through an appliance in {via.name}, peering or no peering",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-008",
        steps=(RulesChanged(via, "ip", "peerings", without_rule(NOT_TRANSITIVE)), detour(a, b), detour(b, a)),
        confirm=leads_round,
        follows=frozenset({"NET-UNDR-004"}),
    )


def _bgp_closed(lab: LabTopology, region: LabRegion) -> Iterator[Fault]:
    """Sessions that are up stay up: a security group lets in what belongs to a connection."""
    if lab.cloud != AWS:
        return
    yield Fault(
        name="bgp-closed-between-regions",
        summary=f"the security group of {region.name} opens the BGP port to its own nodes only",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-009",
        steps=(group_changed(lab, region, from_sources("bgp", str(region.plan.node_cidr))),),
        confirm=group_says(lab, region, rf'ip saddr {region.plan.node_cidr} tcp dport 179 .*comment "bgp"'),
        follows=frozenset({"NET-ROUTE-006", "NET-ROUTE-021"}),
    )


def _mesh_port_filtered(lab: LabTopology, region: LabRegion, other: LabRegion) -> Fault:
    """Only new connections: those that stand carry on, and so does the mesh."""
    node = region.nodes[0]
    port = API_SERVER_PORT if lab.cloud == AWS else region.store_port
    match = f"ip saddr {other.plan.node_cidr} tcp dport {port} tcp flags & (syn | ack) == syn"
    return Fault(
        name="mesh-port-filtered",
        summary=f"{node.name} lets no node of {other.name} connect to the mesh's control plane any more",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-011",
        # Before a node port is translated to that of a pod.
        steps=(_dropped_on_arrival(node, match),),
        confirm=table_is_loaded(place(node)),
        follows=frozenset({"MESH-CP-004", "MESH-CP-006", "MESH-CP-009", "MESH-CP-012"}),
    )


def _ssh_closed(node: LabNode) -> Fault:
    return Fault(
        name="ssh-closed-to-the-operator",
        summary=f"{node.name} keeps the operator's SSH out",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-012",
        steps=(_dropped_on_arrival(node, f"ip saddr {OPERATOR} tcp dport {_SSH}"),),
        confirm=table_is_loaded(place(node)),
        # Who does not get in himself cannot tell whether others are kept out.
        follows=frozenset({"NET-UNDR-014", "NET-DNS-017"}),
    )


def _kubelet_filtered(node: LabNode) -> Fault:
    return Fault(
        name="kubelet-port-filtered",
        summary=f"{node.name} lets nobody connect to its kubelet",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-018",
        steps=(_dropped_on_arrival(node, f"tcp dport {_KUBELET}"),),
        confirm=table_is_loaded(place(node)),
    )


def _no_forwarding_after_a_reboot(node: LabNode) -> Fault:
    file = f"/{SYSCTL_FILE}"
    return Fault(
        name="no-forwarding-after-a-reboot",
        summary=f"no file makes {node.name} forward packets after a reboot",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-017",
        steps=(
            Command(
                place(node),
                ("sed", "-i", "s/^net.ipv4.ip_forward/#&/", file),
                ("sed", "-i", "s/^#net.ipv4.ip_forward/net.ipv4.ip_forward/", file),
            ),
        ),
        confirm=command_succeeds(place(node), ("grep", "-q", "^#net.ipv4.ip_forward", file)),
    )


def _small_node(node: LabNode) -> Fault:
    path = f"/api/v1/nodes/{node.name}/status"
    return Fault(
        name="node-too-small-for-the-database",
        summary=f"{node.name} is a machine of a smaller kind than the others",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-019",
        steps=(Patch(node.region, path, {"status": {"allocatable": {"cpu": _TOO_SMALL}}}),),
        confirm=object_says(node.region, f"/api/v1/nodes/{node.name}", ("status", "allocatable", "cpu"), _TOO_SMALL),
    )


def _wrong_time(node: LabNode) -> Fault:
    """All processes of a lab share the machine's clock; the node's Python, which its pods run, tells another time."""
    folder = host_tree(node.name) / "usr/local/bin"
    program = folder / "python3"
    script = _PYTHON_OF_ANOTHER_TIME.format(python=python_interpreter(), seconds=_SECONDS_AHEAD)
    return Fault(
        name="clock-ahead",
        summary=f"the clock of {node.name} is {_SECONDS_AHEAD} s ahead",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-020",
        steps=(
            Command(
                place(node),
                ("sh", "-ec", f'mkdir -p {folder}; printf %s "$1" > {program}; chmod 755 {program}', "sh", script),
                ("rm", "-rf", str(folder)),
            ),
        ),
        confirm=_tells_another_time(node, str(program)),
    )


def _tells_another_time(node: LabNode, program: str) -> Confirm:
    asking = ("-I", "-S", "-c", "import time; print(time.time())")

    def confirm(control: Control) -> bool:
        told = float(control.run(place(node), [program, *asking]).out)
        return told - float(control.run(place(node), ["date", "+%s.%N"]).out) > _SECONDS_AHEAD / 2

    return confirm


def _dropped_on_arrival(node: LabNode, match: str) -> Filter:
    return Filter(
        place(node), f"  chain arrivals {{ type filter hook prerouting priority -300; {match} counter drop; }}"
    )
