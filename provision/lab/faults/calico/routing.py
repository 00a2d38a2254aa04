"""Faults of route exchange (NET-ROUTE), on Calico."""

from __future__ import annotations

from analysis.rootcause import Layer
from provision.faults import Command, Delete, Fault, Filter, Patch
from provision.lab.calico.birdconfig import TUNNEL_DEVICE
from provision.lab.calico.resources import REFLECTOR_ANNOTATION
from provision.lab.faults.calico.bird import (
    Birdcl,
    BirdConfig,
    Signal,
    birdcl,
    protocol,
    session_is,
    session_is_absent,
)
from provision.lab.faults.calico.place import CALICO, EAST, OHIO, WEST
from provision.lab.faults.shared import MESH_PATHS, REMOTE_NAMES
from provision.lab.faults.steps import (
    object_is_gone,
    object_says,
    place,
    route_is_gone,
    route_is_there,
    table_is_loaded,
)
from provision.lab.images import BIRD_CONFIG
from provision.lab.topology import REFLECTOR_LABEL, VXLAN_VNI

_BGP = f"{CALICO}/bgpconfigurations/default"
_FELIX = f"{CALICO}/felixconfigurations/default"
_VACANT = "192.168.130.0/26"
"""A block of the third region's range that nobody owns."""

_EXPORT_BEGINS = "filter calico_export_to_bgp_peers {"
_IMPORT_BEGINS = "filter calico_next_hops {"

_TO_OHIO = f"{CALICO}/bgppeers/remote-rr-{OHIO.name}"
_TO_WEST = f"{CALICO}/bgppeers/remote-rr-{WEST.name}"

_EAST_RR, _EAST_A, _EAST_B = EAST.nodes[0], EAST.nodes[1], EAST.nodes[2]
_OHIO_RR, _OHIO_A = OHIO.nodes[0], OHIO.nodes[1]
_WEST_RR, _WEST_A = WEST.nodes[0], WEST.nodes[1]

CUT_OFF = MESH_PATHS | {
    "NET-POD-006",
    "NET-POD-008",
    "NET-POD-010",
    "NET-POD-011",
    "NET-POD-012",
    "NET-POD-013",
    "NET-ROUTE-008",
    "NET-ROUTE-011",
    "NET-ROUTE-017",
    "NET-ROUTE-018",
    "NET-ROUTE-021",
    "MESH-CP-010",
    "MESH-CP-011",
    "MESH-CP-015",
    "NET-DNS-012",
    "NET-DNS-015",
    "NET-MTU-005",
}
"""What a node, or a region, that has lost its sessions takes with it."""

_NO_PEERING = frozenset({"NET-ROUTE-018", "MESH-CP-015"})
"""What follows when two regions do not peer: the third carries their routes."""


_LEARNED = {"NET-ROUTE-016", "NET-ROUTE-018"}
"""BIRD learns a route that somebody else puts into the kernel, and passes it on."""


_NO_NEW_BGP = "\n".join(
    f"  chain {hook} {{ type filter hook {hook} priority -10; "
    "tcp dport 179 tcp flags & (syn | ack) == syn counter drop; }"
    for hook in ("input", "output")
)


def _announce(prefix: str) -> BirdConfig:
    """A worker of the first region that announces a prefix which is not its own."""
    return BirdConfig(
        _EAST_A,
        append=f"protocol static planted {{ ipv4; route {prefix} blackhole; }}",
        replace=((_EXPORT_BEGINS, f"{_EXPORT_BEGINS}\n  if net = {prefix} then accept;"),),
    )


FAULTS: tuple[Fault, ...] = (
    Fault(
        name="one-as-for-two-clusters",
        summary=f"{OHIO.name} uses the AS number of {EAST.name}",
        layer=Layer.CONTROL,
        requirement="NET-ROUTE-001",
        steps=(Patch(OHIO.name, _BGP, {"spec": {"asNumber": EAST.plan.as_number}}),),
        confirm=session_is(_EAST_RR, protocol(_OHIO_RR), up=False),
        follows=CUT_OFF | {"NET-ROUTE-005", "NET-ROUTE-006"},
    ),
    Fault(
        name="full-node-mesh-on",
        summary=f"{WEST.name} has reflectors and the full node mesh at once",
        layer=Layer.CONTROL,
        requirement="NET-ROUTE-002",
        steps=(Patch(WEST.name, _BGP, {"spec": {"nodeToNodeMeshEnabled": True}}),),
        confirm=lambda control: "Mesh_" in birdcl(control, _WEST_A, "show", "protocols"),
    ),
    Fault(
        name="reflector-id-used-twice",
        summary=f"the reflectors of {EAST.name} and {OHIO.name} share a cluster id",
        layer=Layer.CONTROL,
        requirement="NET-ROUTE-003",
        steps=(
            Patch(
                OHIO.name,
                f"/api/v1/nodes/{_OHIO_RR.name}",
                {"metadata": {"annotations": {REFLECTOR_ANNOTATION: EAST.plan.cluster_id}}},
            ),
        ),
        confirm=object_says(
            OHIO.name,
            f"/api/v1/nodes/{_OHIO_RR.name}",
            ("metadata", "annotations", REFLECTOR_ANNOTATION),
            EAST.plan.cluster_id,
        ),
        follows=frozenset({"NET-ROUTE-018"}),
    ),
    Fault(
        name="reflector-unlabelled",
        summary=f"the reflector of {OHIO.name} has lost its label, so nobody peers with it",
        layer=Layer.CONTROL,
        requirement="NET-ROUTE-004",
        steps=(Patch(OHIO.name, f"/api/v1/nodes/{_OHIO_RR.name}", {"metadata": {"labels": {REFLECTOR_LABEL: None}}}),),
        confirm=session_is_absent(_OHIO_A, protocol(_OHIO_RR)),
        follows=CUT_OFF | {"NET-ROUTE-003", "NET-ROUTE-005", "NET-ROUTE-006", "NET-ROUTE-007", "MESH-CP-016"},
    ),
    Fault(
        name="worker-session-down",
        summary=f"{_EAST_A.name} has shut its session to the reflector",
        layer=Layer.SESSION,
        requirement="NET-ROUTE-005",
        steps=(Birdcl(_EAST_A, ("disable", protocol(_EAST_RR)), ("enable", protocol(_EAST_RR))),),
        confirm=route_is_gone(_EAST_A, _OHIO_A.block),
        follows=CUT_OFF,
    ),
    Fault(
        name="reflector-lost",
        summary=f"the routing daemon of {WEST.name}'s reflector hangs",
        layer=Layer.SESSION,
        requirement="NET-ROUTE-005",
        steps=(Signal(_WEST_RR),),
        confirm=session_is(_WEST_A, protocol(_WEST_RR), up=False),
        follows=CUT_OFF
        | {"NET-ROUTE-002", "NET-ROUTE-006", "NET-ROUTE-009", "NET-ROUTE-012", "NET-ROUTE-016", "MESH-CP-016"},
    ),
    Fault(
        name="reflector-peering-down",
        summary=f"the session between the reflectors of {EAST.name} and {WEST.name} is shut",
        layer=Layer.SESSION,
        requirement="NET-ROUTE-006",
        steps=(Birdcl(_EAST_RR, ("disable", protocol(_WEST_RR)), ("enable", protocol(_WEST_RR))),),
        confirm=session_is(_WEST_RR, protocol(_EAST_RR), up=False),
        follows=_NO_PEERING,
    ),
    Fault(
        name="wrong-remote-as",
        summary=f"{EAST.name} expects another AS of {WEST.name} than it has",
        layer=Layer.SESSION,
        requirement="NET-ROUTE-006",
        steps=(Patch(EAST.name, _TO_WEST, {"spec": {"asNumber": 64599}}),),
        confirm=session_is(_EAST_RR, protocol(_WEST_RR), up=False),
        follows=_NO_PEERING,
    ),
    Fault(
        name="peering-deleted",
        summary=f"{OHIO.name} has lost its BGPPeer for {WEST.name}",
        layer=Layer.CONTROL,
        requirement="NET-ROUTE-006",
        steps=(Delete(OHIO.name, _TO_WEST),),
        confirm=session_is_absent(_OHIO_RR, protocol(_WEST_RR)),
        follows=_NO_PEERING | {"NET-ROUTE-007"},
    ),
    Fault(
        name="stale-peer-address",
        summary=f"{EAST.name} dials an address that {WEST.name}'s reflector no longer has",
        layer=Layer.CONTROL,
        requirement="NET-ROUTE-007",
        steps=(Patch(EAST.name, _TO_WEST, {"spec": {"peerIP": "10.2.1.99"}}),),
        confirm=session_is_absent(_EAST_RR, protocol(_WEST_RR)),
        follows=_NO_PEERING | {"NET-ROUTE-006"},
    ),
    Fault(
        name="route-withheld-from-one-node",
        summary=f"{_EAST_A.name} rejects one block of {OHIO.name}; every other node has it",
        layer=Layer.RIB,
        requirement="NET-ROUTE-008",
        steps=(
            BirdConfig(
                _EAST_A, replace=((_IMPORT_BEGINS, f"{_IMPORT_BEGINS}\n  if net = {_OHIO_A.block} then reject;"),)
            ),
        ),
        confirm=route_is_gone(_EAST_A, _OHIO_A.block),
        follows=MESH_PATHS | {"NET-MTU-005"},
    ),
    Fault(
        name="route-unreachable",
        summary=f"{_EAST_B.name} holds a route to a block of {WEST.name} that says unreachable",
        layer=Layer.FIB,
        requirement="NET-ROUTE-008",
        steps=(
            Command(
                place(_EAST_B),
                ("ip", "route", "add", "unreachable", str(_WEST_A.block), "metric", "1"),
                ("ip", "route", "del", "unreachable", str(_WEST_A.block), "metric", "1"),
            ),
        ),
        confirm=route_is_there(_EAST_B, _WEST_A.block),
        follows=MESH_PATHS | {"NET-ROUTE-009", "NET-ROUTE-010"} | _LEARNED,
    ),
    Fault(
        name="next-hop-is-the-reflector",
        summary=f"{EAST.name}'s reflector puts itself in as next hop of what it announces to {OHIO.name}",
        layer=Layer.RIB,
        requirement="NET-ROUTE-009",
        steps=(Patch(EAST.name, _TO_OHIO, {"spec": {"keepOriginalNextHop": False}}),),
        confirm=lambda control: (
            str(_EAST_RR.address) in birdcl(control, _OHIO_A, "show", "route", "all", str(_EAST_A.block))
        ),
        follows=frozenset({"NET-POD-007", "NET-POD-012", "NET-MTU-004"}),
    ),
    Fault(
        name="bare-on-the-underlay",
        summary=f"{_EAST_A.name} sends to a block of {OHIO.name} without the tunnel",
        layer=Layer.ENCAPSULATION,
        requirement="NET-ROUTE-010",
        steps=(
            Command(
                place(_EAST_A),
                ("ip", "route", "add", str(_OHIO_A.block), "via", str(EAST.gateway), "metric", "1"),
                ("ip", "route", "del", str(_OHIO_A.block), "via", str(EAST.gateway), "metric", "1"),
            ),
        ),
        confirm=lambda control: (
            "eth0" in control.run(place(_EAST_A), ["ip", "route", "get", str(_OHIO_A.block[2])]).out
        ),
        follows=MESH_PATHS | {"NET-ROUTE-009", "NET-MTU-005"} | _LEARNED,
    ),
    Fault(
        name="service-range-withheld",
        summary=f"{OHIO.name} does not announce its service range",
        layer=Layer.RIB,
        requirement="NET-ROUTE-011",
        steps=(Patch(OHIO.name, _BGP, {"spec": {"serviceClusterIPs": []}}),),
        confirm=route_is_gone(_EAST_A, OHIO.plan.service_cidr),
        follows=REMOTE_NAMES | {"NET-POD-008"},
    ),
    Fault(
        name="own-service-range-installed",
        summary=f"{_EAST_A.name} has its own cluster's service range in its kernel",
        layer=Layer.FIB,
        requirement="NET-ROUTE-012",
        steps=(
            BirdConfig(
                _EAST_A,
                replace=((f'  if proto = "static1" && net ~ {EAST.plan.service_cidr} then reject;\n', ""),),
            ),
        ),
        confirm=route_is_there(_EAST_A, EAST.plan.service_cidr),
    ),
    Fault(
        name="remote-pool-missing",
        summary=f"{EAST.name} does not know the pod range of {OHIO.name} as a pool",
        layer=Layer.RIB,
        requirement="NET-ROUTE-013",
        steps=(Delete(EAST.name, f"{CALICO}/ippools/fed-ipv4-clusterb"),),
        confirm=object_is_gone(EAST.name, f"{CALICO}/ippools/fed-ipv4-clusterb"),
        follows=CUT_OFF | {"NET-POD-004", "NET-ROUTE-009", "NET-ROUTE-010"},
    ),
    Fault(
        name="remote-pool-enabled",
        summary=f"{EAST.name} may hand out addresses of {WEST.name}'s pod range",
        layer=Layer.ADDRESSING,
        requirement="NET-ROUTE-013",
        steps=(Patch(EAST.name, f"{CALICO}/ippools/fed-ipv4-clusterc", {"spec": {"disabled": False}}),),
        confirm=object_says(EAST.name, f"{CALICO}/ippools/fed-ipv4-clusterc", ("spec", "disabled"), False),
        follows=frozenset({"NET-ADDR-003", "NET-ADDR-005"}),
    ),
    Fault(
        name="nat-for-a-remote-pool",
        summary=f"{EAST.name} masquerades what comes from {WEST.name}'s pod range",
        layer=Layer.POLICY,
        requirement="NET-ROUTE-014",
        steps=(Patch(EAST.name, f"{CALICO}/ippools/fed-ipv4-clusterc", {"spec": {"natOutgoing": True}}),),
        confirm=object_says(EAST.name, f"{CALICO}/ippools/fed-ipv4-clusterc", ("spec", "natOutgoing"), True),
        follows=frozenset({"NET-ROUTE-013"}),
    ),
    Fault(
        name="wrong-vni",
        summary=f"Felix in {WEST.name} was given another VXLAN identifier than in the other clusters",
        layer=Layer.ENCAPSULATION,
        requirement="MESH-CP-014",
        steps=(Patch(WEST.name, _FELIX, {"spec": {"vxlanVNI": VXLAN_VNI + 1}}),),
        confirm=lambda control: (
            f"vxlan id {VXLAN_VNI + 1} "
            in control.run(place(_WEST_A), ["ip", "-details", "link", "show", TUNNEL_DEVICE], check=False).out
        ),
        follows=CUT_OFF | {"NET-ROUTE-009", "NET-ROUTE-010"},
    ),
    Fault(
        name="tunnel-source-not-accepted",
        summary=f"Felix in {EAST.name} does not accept tunnels from {WEST.name}'s nodes",
        layer=Layer.ENCAPSULATION,
        requirement="NET-ROUTE-015",
        steps=(Patch(EAST.name, _FELIX, {"spec": {"externalNodesList": [str(OHIO.plan.node_cidr)]}}),),
        confirm=lambda control: (
            control.run(
                place(_WEST_A),
                ["ping", "-c", "1", "-W", "1", "-I", str(_WEST_A.tunnel_address), str(_EAST_A.tunnel_address)],
                check=False,
            ).code
            != 0
        ),
        follows=CUT_OFF,
    ),
    Fault(
        name="default-route-exchanged",
        summary=f"{_EAST_A.name} announces a default route",
        layer=Layer.RIB,
        requirement="NET-ROUTE-016",
        steps=(_announce("0.0.0.0/0"),),
        confirm=lambda control: (
            "0.0.0.0/0" in birdcl(control, _EAST_RR, "show", "route", "protocol", protocol(_EAST_A))
        ),
    ),
    Fault(
        name="foreign-prefix-leaked",
        summary=f"{_EAST_A.name} announces 203.0.113.0/24, which is in nobody's plan",
        layer=Layer.RIB,
        requirement="NET-ROUTE-016",
        steps=(_announce("203.0.113.0/24"),),
        confirm=lambda control: (
            "203.0.113.0/24" in birdcl(control, _EAST_RR, "show", "route", "protocol", protocol(_EAST_A))
        ),
    ),
    Fault(
        name="more-specific-hijack",
        summary=f"{_EAST_A.name} announces half of a block that {_OHIO_A.name} owns",
        layer=Layer.RIB,
        requirement="NET-ROUTE-016",
        steps=(_announce(str(next(_OHIO_A.block.subnets(prefixlen_diff=1)))),),
        confirm=route_is_there(_EAST_B, next(_OHIO_A.block.subnets(prefixlen_diff=1))),
        follows=MESH_PATHS | {"NET-POD-006", "NET-POD-008", "NET-ROUTE-008", "NET-ROUTE-009", "NET-DNS-015"},
    ),
    Fault(
        name="stale-route",
        summary=f"{_EAST_B.name} still has the route of a block of {WEST.name} that nobody owns any more",
        layer=Layer.FIB,
        requirement="NET-ROUTE-016",
        steps=(
            Command(
                place(_EAST_B),
                ("ip", "route", "add", _VACANT, "via", str(_WEST_A.tunnel_address), "dev", TUNNEL_DEVICE, "onlink"),
                ("ip", "route", "del", _VACANT),
            ),
        ),
        confirm=route_is_there(_EAST_B, _VACANT),
        follows=frozenset({"NET-ROUTE-009"}),
    ),
    Fault(
        name="new-blocks-withheld",
        summary=f"{EAST.name}'s reflector passes on the blocks it knows today, and no new one",
        layer=Layer.RIB,
        requirement="NET-ROUTE-017",
        steps=(
            BirdConfig(
                _EAST_RR,
                replace=(
                    (
                        _EXPORT_BEGINS,
                        f"{_EXPORT_BEGINS}\n  if net ~ {EAST.plan.pod_cidr} && "
                        f"!(net ~ [ {', '.join(str(node.block) for node in EAST.nodes)} ]) then reject;",
                    ),
                ),
            ),
        ),
        confirm=lambda control: "then reject" in control.run(place(_EAST_RR), ["cat", BIRD_CONFIG]).out,
    ),
    Fault(
        name="agent-cannot-come-back",
        summary=f"{EAST.nodes[-1].name} drops new BGP connections; the one that stands goes on",
        layer=Layer.SESSION,
        requirement="NET-ROUTE-021",
        steps=(Filter(place(EAST.nodes[-1]), _NO_NEW_BGP),),
        confirm=table_is_loaded(place(EAST.nodes[-1])),
        # The checks run side by side: those that look after the restart see a node without sessions.
        follows=CUT_OFF | {"NET-ROUTE-005", "NET-ROUTE-009"},
    ),
    Fault(
        name="detour-preferred",
        summary=f"{EAST.name}'s reflector prefers routes that come by way of a third cluster",
        layer=Layer.RIB,
        requirement="NET-ROUTE-018",
        steps=(
            BirdConfig(
                _EAST_RR,
                replace=(
                    (
                        _IMPORT_BEGINS,
                        f"{_IMPORT_BEGINS}\n"
                        f"  if bgp_path.len = 1 && net ~ {OHIO.plan.pod_cidr} then bgp_local_pref = 50;",
                    ),
                ),
            ),
        ),
        confirm=lambda control: (
            f"{WEST.plan.as_number} {OHIO.plan.as_number}"
            in birdcl(control, _EAST_A, "show", "route", "primary", "all", str(_OHIO_A.block))
        ),
    ),
)
