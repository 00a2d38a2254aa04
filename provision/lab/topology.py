"""The lab as numbers and names: which regions, routers, nodes and addresses a lab of a given size has.

Pure arithmetic, shared by everything that builds, feeds or breaks the lab. The figures of the first three regions
are those of the published environment (environment.md 1.1 and 1.2); further regions continue the series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import combinations
from typing import Any

from analysis.plan import Budgets, Cni, DatabasePlan, EgressTarget, Encapsulation, Plan, RegionPlan

REGION_NAMES = (
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "eu-central-1",
    "ap-south-1",
    "ap-northeast-1",
)
MAX_REGIONS = len(REGION_NAMES)
MAX_NODES = 200
FIRST_AS = 64512
BLOCK_SIZE = 26
UNDERLAY_MTU = 1500
VXLAN_PORT = 4789
VXLAN_VNI = 4096
REFLECTOR_LABEL = "route-reflector"
INTERNET = "internet"
EGRESS = EgressTarget(IPv4Address("198.51.100.10"), 80)


class Timers(str, Enum):
    """Which BGP timers the lab's nodes run with.

    FAST: hold 3 s, no graceful restart, so that a lost peer is noticed in under 3 s.
    CALICO: as Calico renders them: hold 240 s (BIRD's default), graceful restart 120 s.
    """

    FAST = "fast"
    CALICO = "calico"


@dataclass(frozen=True)
class LabNode:
    """A node. Its network namespace has its name; `alias` is the short name inside the region ("node-2").

    Attributes:
        number: 1 for the control plane, which is the route reflector too.
        address: InternalIP, on eth0.
        block: the block of pod addresses that the node owns from the start.
        tunnel_address: address of the tunnel device: the first of the block.
        tunnel_mac: MAC address of the tunnel device.
    """

    region: str
    number: int
    name: str
    alias: str
    address: IPv4Address
    block: IPv4Network
    tunnel_address: IPv4Address
    tunnel_mac: str

    @property
    def is_reflector(self) -> bool:
        """The first node of a region is its control plane and its route reflector."""
        return self.number == 1

    @property
    def netns(self) -> str:
        """Name of the node's network namespace."""
        return self.name


@dataclass(frozen=True)
class LabRegion:
    """A region: one VPC with its router, one subnet, one cluster. `plan` holds the ranges."""

    index: int
    plan: RegionPlan
    nodes: tuple[LabNode, ...]

    @property
    def name(self) -> str:
        """The region's name, as in the plan."""
        return self.plan.name

    @property
    def router(self) -> str:
        """Name of the VPC router's network namespace."""
        return f"vpc-{self.name}"

    @property
    def gateway(self) -> IPv4Address:
        """The router's address in the node subnet: its first."""
        return self.plan.node_cidr[1]


@dataclass(frozen=True)
class Peering:
    """A VPC peering: a link between two routers with a link-local /30 of its own."""

    a: str
    b: str
    a_address: IPv4Interface
    b_address: IPv4Interface


@dataclass(frozen=True)
class LabTopology:
    """A whole lab."""

    profile: str
    name: str
    regions: tuple[LabRegion, ...]
    pods_per_node: int
    timers: Timers

    @property
    def nodes(self) -> tuple[LabNode, ...]:
        """All nodes, in region order."""
        return tuple(node for region in self.regions for node in region.nodes)

    @property
    def peerings(self) -> tuple[Peering, ...]:
        """A full mesh of peerings between the regions' routers."""
        pairs = combinations([region.name for region in self.regions], 2)
        base = int(IPv4Address("169.254.100.0"))
        return tuple(
            Peering(
                a,
                b,
                IPv4Interface((base + 4 * k + 1, 30)),
                IPv4Interface((base + 4 * k + 2, 30)),
            )
            for k, (a, b) in enumerate(pairs)
        )

    def peerings_of(self, region: str) -> tuple[Peering, ...]:
        """The peerings that end in that region."""
        return tuple(peering for peering in self.peerings if region in (peering.a, peering.b))

    def region(self, name: str) -> LabRegion:
        """The region of that name. Raises KeyError when there is none."""
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(name)

    def to_spec(self) -> dict[str, str | int]:
        """What was asked for, as JSON data: everything else follows from it. `topology_from_spec` reads it."""
        return {
            "profile": self.profile,
            "name": self.name,
            "regions": len(self.regions),
            "nodes": len(self.regions[0].nodes),
            "pods": self.pods_per_node,
            "timers": self.timers.value,
        }

    @property
    def plan(self) -> Plan:
        """What the lab promises to be: the plan that its facts are judged against."""
        return Plan(
            name=self.name,
            profile=self.profile,
            cni=Cni.CALICO_BGP,
            encapsulation=Encapsulation.VXLAN,
            regions=tuple(region.plan for region in self.regions),
            services_routed=True,
            budgets=Budgets(),
            database=DatabasePlan(namespaces=tuple((region.name, region.name) for region in self.regions)),
            egress=EGRESS,
        )


def aws_calico(
    name: str, *, regions: int = 3, nodes: int = 4, pods: int = 1, timers: Timers = Timers.FAST
) -> LabTopology:
    """The `aws-calico` profile.

    Args:
        name: the lab's name, also the environment's.
        regions: how many regions, 2 to 8.
        nodes: nodes in each region, the control plane included, 1 to 200.
        pods: sample workload pods on each node.
        timers: which BGP timers to run with.

    Raises:
        ValueError: a number is out of range.
    """
    if not 2 <= regions <= MAX_REGIONS:
        raise ValueError(f"a lab has 2 to {MAX_REGIONS} regions, not {regions}")
    if not 1 <= nodes <= MAX_NODES:
        raise ValueError(f"a region has 1 to {MAX_NODES} nodes, not {nodes}")
    if not 0 <= pods <= 50:
        raise ValueError(f"a node has 0 to 50 sample pods, not {pods}")
    return LabTopology(
        profile="aws-calico",
        name=name,
        regions=tuple(_region(index, nodes) for index in range(regions)),
        pods_per_node=pods,
        timers=timers,
    )


def topology_from_spec(spec: Mapping[str, Any]) -> LabTopology:
    """The topology that `LabTopology.to_spec` described.

    Raises:
        ValueError: the profile is not known, or a number is out of range.
        KeyError: a field is missing.
    """
    if spec["profile"] != "aws-calico":
        raise ValueError(f"no lab profile {spec['profile']!r}")
    return aws_calico(
        spec["name"],
        regions=spec["regions"],
        nodes=spec["nodes"],
        pods=spec["pods"],
        timers=Timers(spec["timers"]),
    )


def _region(index: int, node_count: int) -> LabRegion:
    name = REGION_NAMES[index]
    # 192.168.0.0/16 holds four /18; further regions take theirs from the shared address space of RFC 6598.
    pod_cidr = IPv4Network(f"192.168.{64 * index}.0/18") if index < 4 else IPv4Network(f"100.{64 + index}.0.0/18")
    service_cidr = IPv4Network(f"172.{20 + index}.0.0/16")
    plan = RegionPlan(
        name=name,
        network=IPv4Network(f"10.{index}.0.0/16"),
        node_cidr=IPv4Network(f"10.{index}.1.0/24"),
        pod_cidr=pod_cidr,
        service_cidr=service_cidr,
        dns_address=service_cidr[10],
        node_count=node_count,
        block_size=BLOCK_SIZE,
        as_number=FIRST_AS + index,
        cluster_id=f"244.0.0.{index + 1}",
        route_reflector_selector=f"{REFLECTOR_LABEL}=true",
    )
    blocks = list(pod_cidr.subnets(new_prefix=BLOCK_SIZE))
    nodes = []
    for number in range(1, node_count + 1):
        block = blocks[number]
        nodes.append(
            LabNode(
                region=name,
                number=number,
                name=f"{name}-node-{number}",
                alias=f"node-{number}",
                address=plan.node_cidr[9 + number],
                block=block,
                tunnel_address=block[0],
                tunnel_mac=f"66:00:00:{index:02x}:{number >> 8:02x}:{number & 255:02x}",
            )
        )
    return LabRegion(index=index, plan=plan, nodes=tuple(nodes))
