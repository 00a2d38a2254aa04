"""Faults of the data path between pods (NET-POD)."""

from __future__ import annotations

from analysis.rootcause import Layer
from provision.faults import Command, Create, Fault, Filter, Patch
from provision.lab.calico.birdconfig import TUNNEL_DEVICE
from provision.lab.faults.addressing import MESH_PATHS
from provision.lab.faults.steps import CALICO, EAST, OHIO, WEST, object_is_there, object_says, place, table_is_loaded
from provision.lab.seed import PAUSE_IMAGE
from provision.lab.topology import LabNode, LabRegion

_A, _B = EAST.nodes[1], EAST.nodes[2]
_REMOTE = OHIO.nodes[1]
_SLOW = "tbf rate 2mbit burst 16kb latency 400ms"
_HERE = ("dev", "lo", "table", "main", "metric", "1")
_RUN_LABEL = "meshproof/run"


def _drop(node: LabNode, match: str) -> Filter:
    """Drop what a node forwards and that matches."""
    return Filter(place(node), f"  chain forward {{ type filter hook forward priority -10; {match} counter drop; }}")


def _between(source: LabRegion, target: LabRegion) -> str:
    return f"ip saddr {source.plan.pod_cidr} ip daddr {target.plan.pod_cidr}"


FAULTS: tuple[Fault, ...] = (
    Fault(
        name="one-way-drop",
        summary=f"nodes of {EAST.name} drop what pods there begin towards {OHIO.name}; the other way is open",
        layer=Layer.POLICY,
        requirement="NET-POD-001",
        steps=tuple(_drop(node, f"{_between(EAST, OHIO)} ct state new") for node in EAST.nodes),
        confirm=table_is_loaded(place(EAST.nodes[-1])),
        follows=MESH_PATHS | {"NET-POD-010", "NET-POD-011", "NET-POD-012", "NET-POD-013"},
    ),
    Fault(
        name="tcp-blocked",
        summary=f"TCP from pods of {EAST.name} to pods of {WEST.name} is dropped; ping works",
        layer=Layer.POLICY,
        requirement="NET-POD-002",
        steps=tuple(_drop(node, f"{_between(EAST, WEST)} meta l4proto tcp ct state new") for node in EAST.nodes),
        confirm=table_is_loaded(place(EAST.nodes[-1])),
        follows=frozenset({"NET-POD-005", "NET-POD-010", "NET-POD-011", "NET-POD-013"}),
    ),
    Fault(
        name="udp-blocked",
        summary=f"UDP from pods of {WEST.name} to pods of {OHIO.name} is dropped; TCP and ping work",
        layer=Layer.POLICY,
        requirement="NET-POD-003",
        steps=tuple(_drop(node, f"{_between(WEST, OHIO)} meta l4proto udp ct state new") for node in WEST.nodes),
        confirm=table_is_loaded(place(WEST.nodes[-1])),
        follows=frozenset({"NET-POD-005"}),
    ),
    Fault(
        name="source-nat",
        summary=f"{_A.name} masquerades its pods towards {OHIO.name}",
        layer=Layer.POLICY,
        requirement="NET-POD-004",
        steps=(
            Filter(
                place(_A),
                "  chain postrouting { type nat hook postrouting priority 90; "
                f'oifname "{TUNNEL_DEVICE}" {_between(EAST, OHIO)} counter masquerade; }}',
            ),
        ),
        confirm=table_is_loaded(place(_A)),
    ),
    Fault(
        name="one-node-pair-dropped",
        summary=f"{_A.name} drops what its pods send to those of {_REMOTE.name}, and to no other node's",
        layer=Layer.POLICY,
        requirement="NET-POD-005",
        steps=(_drop(_A, f"ip saddr {_A.block} ip daddr {_REMOTE.block}"),),
        confirm=table_is_loaded(place(_A)),
        follows=MESH_PATHS,
    ),
    Fault(
        name="neighbour-dropped",
        summary=f"{_A.name} and {_B.name} of one cluster cannot exchange pod traffic",
        layer=Layer.POLICY,
        requirement="NET-POD-006",
        steps=(_drop(_A, f"ip saddr {_A.block} ip daddr {_B.block}"),),
        confirm=table_is_loaded(place(_A)),
        follows=frozenset({"NET-POD-005", "NET-POD-008"}),
    ),
    Fault(
        name="hidden-hop",
        summary=f"something between {_A.name} and {OHIO.name} takes one more hop off the TTL",
        layer=Layer.FIB,
        requirement="NET-POD-007",
        steps=(
            Filter(
                place(_A),
                "  chain forward { type filter hook forward priority -10; "
                f"{_between(OHIO, EAST)} icmp type echo-reply ip ttl set 61; }}",
            ),
        ),
        confirm=table_is_loaded(place(_A)),
    ),
    Fault(
        name="remote-service-dead",
        summary=f"{OHIO.name} drops what other clusters send to its ClusterIPs",
        layer=Layer.SERVICE,
        requirement="NET-POD-008",
        steps=tuple(
            Filter(
                place(node),
                "  chain prerouting { type filter hook prerouting priority -200; "
                f'iifname "{TUNNEL_DEVICE}" ip daddr {OHIO.plan.service_cidr} counter drop; }}',
            )
            for node in OHIO.nodes
        ),
        confirm=table_is_loaded(place(OHIO.nodes[-1])),
    ),
    Fault(
        name="egress-not-masqueraded",
        summary=f"pods of {WEST.name} leave for the internet with addresses that nobody can answer",
        layer=Layer.POLICY,
        requirement="NET-POD-009",
        steps=(Patch(WEST.name, f"{CALICO}/ippools/default-ipv4-ippool", {"spec": {"natOutgoing": False}}),),
        confirm=object_says(WEST.name, f"{CALICO}/ippools/default-ipv4-ippool", ("spec", "natOutgoing"), False),
    ),
    Fault(
        name="freed-addresses-answer",
        summary=f"{EAST.nodes[-1].name} itself answers at every address of its block that no pod has",
        layer=Layer.FIB,
        requirement="NET-POD-011",
        steps=(
            Command(
                place(EAST.nodes[-1]),
                ("ip", "route", "add", "local", str(EAST.nodes[-1].block), *_HERE),
                ("ip", "route", "del", "local", str(EAST.nodes[-1].block), *_HERE),
            ),
        ),
        confirm=lambda control: (
            control.run(place(_A), ["ping", "-c", "1", "-W", "1", str(EAST.nodes[-1].block[-2])], check=False).code == 0
        ),
    ),
    Fault(
        name="throttled-tunnel",
        summary=f"the tunnel device of {_A.name} carries no more than 2 Mbit/s",
        layer=Layer.ENCAPSULATION,
        requirement="NET-POD-013",
        steps=tuple(
            Command(
                place(node),
                ("tc", "qdisc", "add", "dev", TUNNEL_DEVICE, "root", *_SLOW.split()),
                ("tc", "qdisc", "del", "dev", TUNNEL_DEVICE, "root"),
            )
            for node in EAST.nodes
        ),
        confirm=lambda control: "tbf" in control.run(place(_A), ["tc", "qdisc", "show", "dev", TUNNEL_DEVICE]).out,
        follows=frozenset({"NET-POD-012"}),
    ),
    Fault(
        name="probe-pod-left-behind",
        summary=f"a probe pod of an earlier run is still in {EAST.name}",
        layer=Layer.HYGIENE,
        requirement="NET-POD-014",
        steps=(
            Create(
                EAST.name,
                "/api/v1/namespaces/default/pods",
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": "network-test-1", "labels": {_RUN_LABEL: "run-of-last-month"}},
                    "spec": {
                        "nodeName": _A.name,
                        "terminationGracePeriodSeconds": 0,
                        "containers": [{"name": "pause", "image": PAUSE_IMAGE}],
                    },
                },
            ),
        ),
        confirm=object_is_there(EAST.name, "/api/v1/namespaces/default/pods/network-test-1"),
    ),
)
