"""Faults of the addressing plan (NET-ADDR), on Calico."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from analysis.rootcause import Layer
from provision.faults import Create, Fault, Patch
from provision.lab.calico.seed import block_affinity, empty_block
from provision.lab.faults import shared
from provision.lab.faults.calico.place import CALICO, EAST, OHIO, WEST
from provision.lab.faults.shared import MESH_PATHS, PODS, REMOTE_NAMES, stray_pod
from provision.lab.faults.steps import object_is_there, object_says, route_is_there
from provision.lab.topology import LabNode, LabRegion

_FOREIGN_BLOCK = IPv4Network("192.168.20.0/26")
_SMALL_BLOCK = IPv4Network("192.168.60.0/28")
_OUTSIDE_ADDRESS = "10.99.0.5"
_STRAY_POOL = "192.168.0.0/20"


def _pool(name: str, cidr: str) -> dict[str, Any]:
    return {
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "IPPool",
        "metadata": {"name": name},
        "spec": {"cidr": cidr, "vxlanMode": "Always", "ipipMode": "Never", "nodeSelector": "all()"},
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
        | {"NET-POD-006", "NET-POD-008", "NET-ROUTE-008", "NET-ROUTE-009", "NET-ROUTE-010", "NET-ROUTE-016"}
        | {"NET-DNS-012"},
    )


FAULTS: tuple[Fault, ...] = (
    shared.networks_overlap(OHIO, EAST),
    shared.subnet_outside_its_network(WEST),
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
        # Nobody has a route to the region's own services any more, its DNS among them.
        follows=REMOTE_NAMES
        | {"NET-ADDR-005", "NET-ROUTE-011", "NET-ROUTE-012", "NET-ROUTE-016", "NET-ROUTE-018", "NET-POD-008"},
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
                PODS,
                stray_pod(
                    EAST.nodes[1], "stray", annotations={"cni.projectcalico.org/ipAddrs": f'["{_OUTSIDE_ADDRESS}"]'}
                ),
            ),
        ),
        confirm=object_says(EAST.name, f"{PODS}/stray", ("status", "podIP"), _OUTSIDE_ADDRESS),
    ),
    shared.service_address_outside_range(EAST),
    shared.node_address_outside_subnet(
        EAST.nodes[2],
        frozenset({"NET-ROUTE-005", "NET-ROUTE-009", "NET-ROUTE-011", "NET-POD-005", "NET-POD-009", "MESH-CP-016"}),
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
    shared.node_name_used_twice(OHIO, EAST.nodes[1]),
    shared.node_too_many(WEST),
)
