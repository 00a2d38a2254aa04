"""Faults of the addressing plan (NET-ADDR)."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from analysis.rootcause import Layer
from provision.faults import Command, Create, Fault, Patch
from provision.lab.calico.seed import block_affinity, empty_block
from provision.lab.fabric import SUBNET_BRIDGE
from provision.lab.faults.steps import (
    CALICO,
    EAST,
    OHIO,
    WEST,
    object_is_there,
    object_says,
    route_is_there,
)
from provision.lab.seed import PAUSE_IMAGE
from provision.lab.topology import LabNode, LabRegion

_FOREIGN_BLOCK = IPv4Network("192.168.20.0/26")
_SMALL_BLOCK = IPv4Network("192.168.60.0/28")
_OUTSIDE_ADDRESS = "10.99.0.5"
_WIDE = "10.0.0.0/15"
_STRAY_SUBNET = "10.9.1.1/24"
_STRAY_POOL = "192.168.0.0/20"

MESH_PATHS = frozenset({"NET-POD-001", "NET-POD-002", "NET-POD-003", "NET-POD-005"})
"""What is lost with any path between the pods of two regions."""


_UNSEEN = MESH_PATHS | {
    "NET-POD-004",
    "NET-POD-006",
    "NET-POD-007",
    "NET-ROUTE-008",
    "NET-ROUTE-009",
    "NET-ROUTE-010",
    "NET-ROUTE-011",
    "NET-ROUTE-012",
    "NET-ROUTE-016",
    "NET-ROUTE-018",
}
"""What cannot be told of a node on which no probe runs."""


def _pool(name: str, cidr: str) -> dict[str, Any]:
    return {
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "IPPool",
        "metadata": {"name": name},
        "spec": {"cidr": cidr, "vxlanMode": "Always", "ipipMode": "Never", "nodeSelector": "all()"},
    }


def _node(name: str, address: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}],
        },
    }


def _claim(region: LabRegion, node: LabNode, block: IPv4Network) -> tuple[Create, Create]:
    """A block that a node claims, as Calico would note it down."""
    return (
        Create(region.name, f"{CALICO}/ipamblocks", empty_block(node.name, block)),
        Create(region.name, f"{CALICO}/blockaffinities", block_affinity(node.name, block)),
    )


def _contested_block() -> Fault:
    owner, rival = EAST.nodes[1], EAST.nodes[2]
    claim = Create(EAST.name, f"{CALICO}/blockaffinities", block_affinity(rival.name, owner.block))
    return Fault(
        name="block-owned-twice",
        summary=f"{rival.name} claims the block of {owner.name} as well, so both announce it",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-010",
        steps=(claim,),
        confirm=route_is_there(rival, owner.block),
        follows=MESH_PATHS
        | {"NET-POD-006", "NET-POD-008", "NET-ROUTE-008", "NET-ROUTE-009", "NET-ROUTE-010", "NET-ROUTE-016"},
    )


FAULTS: tuple[Fault, ...] = (
    Fault(
        name="networks-overlap",
        summary=f"the network of {OHIO.name} was made so large that it covers that of {EAST.name}",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-001",
        steps=(
            Command(
                f"{OHIO.name}/vpc",
                ("sh", "-c", f"ip route add blackhole {_WIDE} && ip route del blackhole {OHIO.plan.network}"),
                ("sh", "-c", f"ip route add blackhole {OHIO.plan.network} && ip route del blackhole {_WIDE}"),
            ),
        ),
        confirm=lambda control: _WIDE in control.run(f"{OHIO.name}/vpc", ["ip", "route"]).out,
        follows=frozenset({"NET-ADDR-002"}),
    ),
    Fault(
        name="subnet-outside-its-network",
        summary=f"the router of {WEST.name} serves a subnet that its network does not hold",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-002",
        steps=(
            Command(
                f"{WEST.name}/vpc",
                ("ip", "address", "add", _STRAY_SUBNET, "dev", SUBNET_BRIDGE),
                ("ip", "address", "del", _STRAY_SUBNET, "dev", SUBNET_BRIDGE),
            ),
        ),
        confirm=lambda control: _STRAY_SUBNET in control.run(f"{WEST.name}/vpc", ["ip", "address"]).out,
    ),
    Fault(
        name="overlapping-pools",
        summary=f"a pool of {OHIO.name} covers {_STRAY_POOL}, which is part of {EAST.name}'s range",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-003",
        steps=(Create(OHIO.name, f"{CALICO}/ippools", _pool("stray", _STRAY_POOL)),),
        confirm=object_is_there(OHIO.name, f"{CALICO}/ippools/stray"),
        follows=frozenset({"NET-ADDR-005", "NET-ROUTE-013"}),
    ),
    Fault(
        name="service-ranges-overlap",
        summary=f"{OHIO.name} announces the service range of {EAST.name} in place of its own",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-004",
        steps=(
            Patch(
                OHIO.name,
                f"{CALICO}/bgpconfigurations/default",
                {"spec": {"serviceClusterIPs": [{"cidr": str(EAST.plan.service_cidr)}]}},
            ),
        ),
        confirm=object_says(
            OHIO.name,
            f"{CALICO}/bgpconfigurations/default",
            ("spec", "serviceClusterIPs"),
            [{"cidr": str(EAST.plan.service_cidr)}],
        ),
        follows=frozenset(
            {"NET-ADDR-005", "NET-ROUTE-011", "NET-ROUTE-012", "NET-ROUTE-016", "NET-ROUTE-018", "NET-POD-008"}
        ),
    ),
    Fault(
        name="pool-over-the-nodes",
        summary=f"a pool of {WEST.name} covers the node subnet of {OHIO.name}",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-005",
        steps=(Create(WEST.name, f"{CALICO}/ippools", _pool("stray", str(OHIO.plan.node_cidr))),),
        confirm=object_is_there(WEST.name, f"{CALICO}/ippools/stray"),
        follows=frozenset({"NET-ROUTE-013"}),
    ),
    Fault(
        name="pod-outside-its-pool",
        summary=f"a pod of {EAST.name} runs on {_OUTSIDE_ADDRESS}, an address of no pool",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-006",
        steps=(
            Create(
                EAST.name,
                "/api/v1/namespaces/default/pods",
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": "stray",
                        "annotations": {"cni.projectcalico.org/ipAddrs": f'["{_OUTSIDE_ADDRESS}"]'},
                    },
                    "spec": {
                        "nodeName": EAST.nodes[1].name,
                        "terminationGracePeriodSeconds": 0,
                        "containers": [{"name": "pause", "image": PAUSE_IMAGE}],
                    },
                },
            ),
        ),
        confirm=object_says(EAST.name, "/api/v1/namespaces/default/pods/stray", ("status", "podIP"), _OUTSIDE_ADDRESS),
    ),
    Fault(
        name="service-address-outside-range",
        summary=f"a Service of {EAST.name} has a ClusterIP of no service range",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-007",
        steps=(
            Create(
                EAST.name,
                "/api/v1/namespaces/default/services",
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"name": "stray"},
                    "spec": {"clusterIP": "10.96.0.50", "ports": [{"port": 80}]},
                },
            ),
        ),
        confirm=object_is_there(EAST.name, "/api/v1/namespaces/default/services/stray"),
    ),
    Fault(
        name="node-address-outside-subnet",
        summary=f"{EAST.nodes[2].name} reports an InternalIP of no region",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-008",
        steps=(
            Patch(
                EAST.name,
                f"/api/v1/nodes/{EAST.nodes[2].name}/status",
                {
                    "status": {
                        "addresses": [
                            {"type": "InternalIP", "address": "10.9.1.12"},
                            {"type": "Hostname", "address": "127.0.0.1"},
                        ]
                    }
                },
            ),
        ),
        confirm=object_says(
            EAST.name,
            f"/api/v1/nodes/{EAST.nodes[2].name}",
            ("status", "addresses"),
            [{"type": "InternalIP", "address": "10.9.1.12"}, {"type": "Hostname", "address": "127.0.0.1"}],
        ),
        follows=frozenset({"NET-ROUTE-005", "NET-ROUTE-009", "NET-ROUTE-011", "NET-POD-005", "NET-POD-009"}),
    ),
    Fault(
        name="block-from-a-foreign-range",
        summary=f"{WEST.nodes[3].name} owns a block of {EAST.name}'s range and announces it",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-009",
        steps=_claim(WEST, WEST.nodes[3], _FOREIGN_BLOCK),
        confirm=route_is_there(WEST.nodes[3], _FOREIGN_BLOCK),
        follows=frozenset({"NET-ROUTE-009", "NET-ROUTE-016"}),
    ),
    _contested_block(),
    Fault(
        name="wrong-block-size",
        summary=f"{EAST.nodes[3].name} owns a /28 where blocks are /26",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-011",
        steps=_claim(EAST, EAST.nodes[3], _SMALL_BLOCK),
        confirm=route_is_there(EAST.nodes[3], _SMALL_BLOCK),
    ),
    Fault(
        name="node-name-used-twice",
        summary=f"{OHIO.name} has a node called {EAST.nodes[1].name} too",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-012",
        steps=(Create(OHIO.name, "/api/v1/nodes", _node(EAST.nodes[1].name, "10.1.1.99")),),
        confirm=object_is_there(OHIO.name, f"/api/v1/nodes/{EAST.nodes[1].name}"),
        follows=_UNSEEN | {"NET-ADDR-013", "NET-ROUTE-005"},
    ),
    Fault(
        name="node-too-many",
        summary=f"{WEST.name} has a fifth node, and it is not Ready",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-013",
        steps=(Create(WEST.name, "/api/v1/nodes", _node(f"{WEST.name}-node-9", "10.2.1.99")),),
        confirm=object_is_there(WEST.name, f"/api/v1/nodes/{WEST.name}-node-9"),
        follows=_UNSEEN | {"NET-ROUTE-005"},
    ),
)
