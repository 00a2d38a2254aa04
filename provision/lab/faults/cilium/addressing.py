"""Faults of the addressing plan (NET-ADDR), on Cilium."""

from __future__ import annotations

from typing import Any

from analysis.rootcause import Layer
from provision.faults import Create, Fault, FaultError, Patch
from provision.lab.cilium.cni import ADDRESS_ANNOTATION
from provision.lab.faults import shared
from provision.lab.faults.cilium.place import CONFIG, EASTUS, EUROPE, SYSTEM, WESTUS, cilium_node
from provision.lab.faults.shared import PODS, REMOTE_NAMES, stray_pod
from provision.lab.faults.steps import Edited, object_says
from provision.lab.topology import LabNode, LabRegion

_DEFAULT_RANGE_ADDRESS = "10.42.0.17"
"""Of the range that k3s gives pods by itself."""

_COREDNS = f"{SYSTEM}/configmaps/coredns"
_POOL = "cluster-pool-ipv4-cidr"
_FOREIGN_BLOCK = EASTUS.plan.pod_cidr[77 * 256]
_SMALL_BLOCK = EASTUS.plan.pod_cidr[200 * 256]

_UNKNOWN_BLOCK = frozenset({"NET-ROUTE-008", "NET-ROUTE-009", "NET-ROUTE-019", "NET-ROUTE-021"})
"""A block that only the API knows of: no node has a route to it, no agent has it in its list."""


def _pool(region: LabRegion, further: object, name: str, summary: str, requirement: str, *follows: str) -> Fault:
    """A region whose pool has one more range."""
    ranges = f"{region.plan.pod_cidr} {further}"
    return Fault(
        name=name,
        summary=summary,
        layer=Layer.ADDRESSING,
        requirement=requirement,
        steps=(Patch(region.name, CONFIG, {"data": {_POOL: ranges}}),),
        confirm=object_says(region.name, CONFIG, ("data", _POOL), ranges),
        # Whose pods they are decides what is masqueraded.
        follows=frozenset(follows) | {"NET-ROUTE-014"},
    )


def _block(node: LabNode, further: str, name: str, summary: str, requirement: str, *follows: str) -> Fault:
    """A node that has been given one more block."""
    blocks = [str(node.block), further]
    return Fault(
        name=name,
        summary=summary,
        layer=Layer.ADDRESSING,
        requirement=requirement,
        steps=(Patch(node.region, cilium_node(node), {"spec": {"ipam": {"podCIDRs": blocks}}}),),
        confirm=object_says(node.region, cilium_node(node), ("spec", "ipam", "podCIDRs"), blocks),
        follows=_UNKNOWN_BLOCK.union(follows),
    )


def _forward_to_service(coredns: dict[str, Any]) -> dict[str, Any]:
    """The Corefile with the addresses of the second region's nodes replaced by the address of its DNS service."""
    nodes = " ".join(f"{node.address}:{WESTUS.dns_port}" for node in WESTUS.nodes)
    corefile = coredns["data"]["Corefile"]
    if nodes not in corefile:
        raise FaultError(f"the Corefile does not forward to {nodes}: {corefile}")
    return {"data": {"Corefile": corefile.replace(nodes, str(WESTUS.plan.dns_address))}}


FAULTS: tuple[Fault, ...] = (
    shared.networks_overlap(WESTUS, EUROPE),
    shared.subnet_outside_its_network(EUROPE),
    _pool(
        WESTUS,
        next(EASTUS.plan.pod_cidr.subnets()),
        "overlapping-pools",
        f"the pool of {WESTUS.name} has half of {EASTUS.name}'s pod range in it",
        "NET-ADDR-003",
        "NET-ADDR-005",
        "NET-ADDR-009",
    ),
    Fault(
        name="dns-forwards-to-a-remote-service",
        summary=f"DNS of {EASTUS.name} asks for names of {WESTUS.name} at a ClusterIP of that cluster",
        layer=Layer.DNS,
        requirement="NET-ADDR-004",
        steps=(Edited(EASTUS.name, _COREDNS, _forward_to_service),),
        confirm=lambda control: f"forward . {WESTUS.plan.dns_address}" in str(control.get(EASTUS.name, _COREDNS)),
        follows=REMOTE_NAMES | {"NET-DNS-001", "NET-DNS-002"},
    ),
    _pool(
        EUROPE,
        WESTUS.plan.node_cidr,
        "pool-over-the-nodes",
        f"the pool of {EUROPE.name} covers the node subnet of {WESTUS.name}",
        "NET-ADDR-005",
    ),
    Fault(
        name="pod-on-the-default-range",
        summary=f"a pod of {EASTUS.name} was started before the CNI and runs on {_DEFAULT_RANGE_ADDRESS}",
        layer=Layer.ADDRESSING,
        requirement="NET-ADDR-006",
        steps=(
            Create(
                EASTUS.name,
                PODS,
                stray_pod(EASTUS.nodes[1], "early", annotations={ADDRESS_ANNOTATION: _DEFAULT_RANGE_ADDRESS}),
            ),
        ),
        confirm=object_says(EASTUS.name, f"{PODS}/early", ("status", "podIP"), _DEFAULT_RANGE_ADDRESS),
    ),
    shared.service_address_outside_range(EASTUS),
    shared.node_address_outside_subnet(
        EASTUS.nodes[1],
        frozenset({"NET-ROUTE-009", "NET-ROUTE-019", "NET-POD-005", "NET-POD-009", "NET-ROUTE-007", "MESH-CP-012"}),
    ),
    _block(
        EUROPE.nodes[2],
        f"{_FOREIGN_BLOCK}/24",
        "block-from-a-foreign-range",
        f"{EUROPE.nodes[2].name} was given a block of {EASTUS.name}'s range",
        "NET-ADDR-009",
    ),
    _block(
        EASTUS.nodes[2],
        str(EASTUS.nodes[1].block),
        "block-owned-twice",
        f"{EASTUS.nodes[2].name} was given the block of {EASTUS.nodes[1].name} as well",
        "NET-ADDR-010",
    ),
    _block(
        EASTUS.nodes[2],
        f"{_SMALL_BLOCK}/25",
        "wrong-block-size",
        f"{EASTUS.nodes[2].name} was given a /25 where blocks are /24",
        "NET-ADDR-011",
    ),
    shared.node_name_used_twice(WESTUS, EASTUS.nodes[1]),
    shared.node_too_many(EUROPE),
)
