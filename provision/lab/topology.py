"""The lab as numbers and names: which regions, routers, nodes and addresses a lab of a given profile and size has.

Pure arithmetic, shared by everything that builds, feeds or breaks the lab. The figures of the first three regions
are those of two published environments, tigera-solutions/calico-cockroachdb-service-federation on AWS and
cockroachlabs-field/cockroachdb-multiregion-k3s-ciliumcni-azure; further regions continue the series.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import combinations
from typing import Any, Protocol

from analysis.facts import COCKROACHDB, POSTGRESQL
from analysis.plan import (
    CLIENT,
    DATABASE,
    AllowedFlow,
    Budgets,
    Cni,
    DatabasePlan,
    EgressTarget,
    Encapsulation,
    Plan,
    PolicyPlan,
    PolicyRole,
    RegionPlan,
    UnderlayPlan,
)

AWS_CALICO = "aws-calico"
AZURE_CILIUM = "azure-cilium"

AWS_REGIONS = (
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "eu-central-1",
    "ap-south-1",
    "ap-northeast-1",
)
AZURE_REGIONS = (
    "eastus",
    "westus",
    "northeurope",
    "southeastasia",
    "uksouth",
    "japaneast",
    "brazilsouth",
    "australiaeast",
)
MAX_REGIONS = 8
MAX_NODES = 200
MAX_PODS = 50
FIRST_AS = 64512
CALICO_BLOCK_SIZE = 26
CILIUM_BLOCK_SIZE = 24
API_SERVER_PORT = 6443
UNDERLAY_MTU = 1500
VXLAN_PORT = 4789
VXLAN_VNI = 4096
CILIUM_PORT = 8472
CILIUM_VNI = 2
"""In Cilium's tunnels the identifier is the sender's security identity; the lab's carry this one, `world`."""

FIRST_STORE_PORT = 32379
FIRST_DNS_PORT = 31449
MESH_DOMAIN = "mesh.cilium.io"
REFLECTOR_LABEL = "route-reflector"
INTERNET = "internet"
EGRESS = EgressTarget(IPv4Address("198.51.100.10"), 80)
OPERATOR = IPv4Address("198.51.100.20")
"""Where the people who run the clusters come from: SSH and the Kubernetes API are open to it."""

STRANGER = IPv4Address("198.51.100.66")
"""Anybody else on the internet."""

AWS, AZURE = "aws", "azure"
_PUBLIC_ADDRESSES = IPv4Network("198.18.0.0/16")
"""RFC 2544 keeps 198.18.0.0/15 for such networks; each region has a /24 of it."""

_BULK_BYTES = 4 << 20
_DNS_CHANGE = timedelta(seconds=10)
"""Names are kept for a fifth of the time that the published Corefiles keep them for, so changes are seen sooner."""

_REJOIN = timedelta(seconds=90)
"""The lab's database is a few megabytes and its machine's own: a member that returns has nothing to fetch from far."""

_EXTERNAL_NAME = "www.example.net"
_DATABASE_CPU, _DATABASE_MEMORY, _DATABASE_STORAGE = 500, 1 << 30, 1 << 30
"""What a database pod asks for: half a processor, 1 GiB and as large a volume, of which no process takes notice."""

DATABASE_REPLICAS = {COCKROACHDB: 3, POSTGRESQL: 1}
"""Pods in each region, by engine. The stand-in needs a vote in each region and no more."""

WORKLOADS_DATABASE = "meshproof"
"""The database, in the sense of SQL, that workloads use: it must survive the loss of a region."""


class Timers(str, Enum):
    """Which BGP timers the lab's nodes run with.

    FAST: hold 3 s, graceful restart 5 s: a lost peer is noticed in under 3 s, and one that starts anew is waited for.
    CALICO: as Calico renders them: hold 240 s (BIRD's default), graceful restart 120 s.
    """

    FAST = "fast"
    CALICO = "calico"


class DatabaseTimers(str, Enum):
    """How soon the stand-in's primary is replaced when it is lost."""

    FAST = "fast"
    """Within about twice its lease of 8 s: nobody should wait for a lab."""

    SLOW = "slow"
    """The shortest lease that newer Patroni allows (20 s): for machines too busy to renew one in time."""


class PolicyPeers(str, Enum):
    """By what Calico's policy knows the pods of other clusters."""

    FEDERATION = "federation"
    """Each by its own labels, read from its cluster (Calico Enterprise, Calico Cloud)."""

    NETWORK_SETS = "network-sets"
    """All of a cluster's pod range by the labels of one set (open-source Calico): a stranger there passes for one of
    the database's."""


@dataclass(frozen=True)
class LabNode:
    """A node. Its network namespace has its name; `alias` is the short name inside the region ("node-2").

    Attributes:
        number: from 1, which is a control plane in every profile.
        address: InternalIP, on eth0.
        public_address: what the internet knows it by; its region's gateway translates.
        block: the block of pod addresses that the node owns from the start.
        tunnel_address: the node's own address in its block: that of Calico's tunnel device, or Cilium's internal one.
        tunnel_mac: MAC address of the tunnel device.
        is_control_plane: whether the cluster's servers run on it.
        is_reflector: whether it reflects BGP routes.
    """

    region: str
    number: int
    name: str
    alias: str
    address: IPv4Address
    public_address: IPv4Address
    block: IPv4Network
    tunnel_address: IPv4Address
    tunnel_mac: str
    is_control_plane: bool
    is_reflector: bool

    @property
    def netns(self) -> str:
        """Name of the node's network namespace."""
        return self.name


@dataclass(frozen=True)
class LabRegion:
    """A region: one VPC or VNet with its router, one subnet, one cluster. `plan` holds the ranges."""

    index: int
    plan: RegionPlan
    nodes: tuple[LabNode, ...]

    @property
    def name(self) -> str:
        """The region's name, as in the plan."""
        return self.plan.name

    @property
    def router(self) -> str:
        """Name of the network namespace of the VPC's or VNet's router."""
        return f"vpc-{self.name}"

    @property
    def gateway(self) -> IPv4Address:
        """The router's address in the node subnet: its first."""
        return self.plan.node_cidr[1]

    @property
    def public_network(self) -> IPv4Network:
        """The public addresses that lead to the region's internet gateway."""
        return _public_network(self.index)

    @property
    def store_port(self) -> int:
        """Cilium: the port on every node at which other clusters reach this one's store."""
        return FIRST_STORE_PORT + self.index

    @property
    def store_host(self) -> str:
        """Cilium: the name that other clusters know this one's store by."""
        return f"{self.plan.cluster_name}.{MESH_DOMAIN}"

    @property
    def dns_port(self) -> int:
        """Cilium: the port on every node at which other clusters reach this one's DNS."""
        return FIRST_DNS_PORT + self.index


@dataclass(frozen=True)
class Peering:
    """A peering of two networks: a link between two routers with a link-local /30 of its own."""

    a: str
    b: str
    a_address: IPv4Interface
    b_address: IPv4Interface


@dataclass(frozen=True)
class LabTopology:
    """A whole lab.

    Attributes:
        profile: the key of its profile in `TOPOLOGIES`.
        cloud: the one that it plays, AWS or AZURE.
        database: whether the database's pods run the database; else they do nothing but have names and addresses.
        engine: which one it is, or would be.
        database_timers: how soon the stand-in replaces a lost primary.
        policy_peers: Calico: by what policy knows the pods of other clusters.
    """

    profile: str
    cloud: str
    cni: Cni
    name: str
    regions: tuple[LabRegion, ...]
    pods_per_node: int
    timers: Timers
    database: bool = False
    engine: str = POSTGRESQL
    database_timers: DatabaseTimers = DatabaseTimers.FAST
    policy_peers: PolicyPeers = PolicyPeers.FEDERATION

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

    def neighbours(self, region: str) -> tuple[LabRegion, ...]:
        """The regions at the other ends of those peerings, in their order."""
        return tuple(self.region(each.b if region == each.a else each.a) for each in self.peerings_of(region))

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
            "database": self.database,
            "engine": self.engine,
            "database_timers": self.database_timers.value,
            "policy_peers": self.policy_peers.value,
        }

    @property
    def plan(self) -> Plan:
        """What the lab promises to be: the plan that its facts are judged against."""
        return Plan(
            name=self.name,
            profile=self.profile,
            cni=self.cni,
            encapsulation=Encapsulation.VXLAN,
            regions=tuple(region.plan for region in self.regions),
            services_routed=self.cni is Cni.CALICO_BGP,
            budgets=Budgets(dns_change=_DNS_CHANGE, rejoin=_REJOIN),
            database=DatabasePlan(
                engine=self.engine,
                namespaces=tuple((region.name, region.name) for region in self.regions),
                replicas=DATABASE_REPLICAS[self.engine],
                cpu=_DATABASE_CPU,
                memory=_DATABASE_MEMORY,
                storage=_DATABASE_STORAGE,
                # With two regions, the one that is left would be no majority.
                must_survive=(WORKLOADS_DATABASE,) if len(self.regions) > 2 else (),
            ),
            policy=POLICY,
            egress=EGRESS,
            underlay=UnderlayPlan(cloud=self.cloud, path_mtu=UNDERLAY_MTU, operators=(IPv4Network((OPERATOR, 32)),)),
            external_name=_EXTERNAL_NAME,
            bulk_bytes=_BULK_BYTES,
        )


STORE = "store"
POLICY = PolicyPlan(
    roles=(
        PolicyRole(DATABASE, "app", "cockroachdb"),
        PolicyRole(CLIENT, "app", "cockroachdb-client"),
        PolicyRole(STORE, "app", "database-store"),
    ),
    allow=(
        AllowedFlow(DATABASE, DATABASE, DatabasePlan().ports),
        AllowedFlow(CLIENT, DATABASE, DatabasePlan().ports),
        AllowedFlow(DATABASE, STORE, (2379,), same_region=True),
    ),
)
"""What policy is for in a lab. The store is what the stand-in keeps its leases in."""


class TopologyBuilder(Protocol):
    """Makes the topology of a profile; every number has the published environment's as its default."""

    def __call__(
        self,
        name: str,
        *,
        regions: int = ...,
        nodes: int = ...,
        pods: int = ...,
        timers: Timers = ...,
        database: bool = ...,
        engine: str = ...,
        database_timers: DatabaseTimers = ...,
        policy_peers: PolicyPeers = ...,
    ) -> LabTopology:
        """See `aws_calico`."""


def aws_calico(
    name: str,
    *,
    regions: int = 3,
    nodes: int = 4,
    pods: int = 1,
    timers: Timers = Timers.FAST,
    database: bool = False,
    engine: str = POSTGRESQL,
    database_timers: DatabaseTimers = DatabaseTimers.FAST,
    policy_peers: PolicyPeers = PolicyPeers.FEDERATION,
) -> LabTopology:
    """The `aws-calico` profile.

    Args:
        name: the lab's name, also the environment's.
        regions: how many regions, 2 to 8.
        nodes: nodes in each region, the control plane included, 1 to 200.
        pods: sample workload pods on each node.
        timers: which BGP timers to run with.
        database: whether the database is to run.
        engine: which database, COCKROACHDB or POSTGRESQL.
        database_timers: how soon the stand-in replaces a lost primary.
        policy_peers: by what policy knows the pods of other clusters.

    Raises:
        ValueError: a number is out of range.
    """
    _check_size(regions, nodes, pods)
    return LabTopology(
        profile=AWS_CALICO,
        cloud=AWS,
        cni=Cni.CALICO_BGP,
        name=name,
        regions=tuple(_aws_region(index, nodes) for index in range(regions)),
        pods_per_node=pods,
        timers=timers,
        database=database,
        engine=engine,
        database_timers=database_timers,
        policy_peers=policy_peers,
    )


def azure_cilium(
    name: str,
    *,
    regions: int = 3,
    nodes: int = 3,
    pods: int = 1,
    timers: Timers = Timers.FAST,
    database: bool = False,
    engine: str = POSTGRESQL,
    database_timers: DatabaseTimers = DatabaseTimers.FAST,
    policy_peers: PolicyPeers = PolicyPeers.FEDERATION,
) -> LabTopology:
    """The `azure-cilium` profile. Its arguments have the same meaning as those of `aws_calico`.

    Raises:
        ValueError: a number is out of range, or BGP timers or network sets are asked for.
    """
    _check_size(regions, nodes, pods)
    if policy_peers is not PolicyPeers.FEDERATION:
        raise ValueError(
            f"network sets are Calico's: a lab of the profile {AZURE_CILIUM} knows pods by their identities"
        )
    if timers is not Timers.FAST:
        raise ValueError(f"there is no BGP in a lab of the profile {AZURE_CILIUM}, so it takes no timers")
    return LabTopology(
        profile=AZURE_CILIUM,
        cloud=AZURE,
        cni=Cni.CILIUM_CLUSTERMESH,
        name=name,
        regions=tuple(_azure_region(index, nodes) for index in range(regions)),
        pods_per_node=pods,
        timers=timers,
        database=database,
        engine=engine,
        database_timers=database_timers,
    )


TOPOLOGIES: Mapping[str, TopologyBuilder] = {AWS_CALICO: aws_calico, AZURE_CILIUM: azure_cilium}
"""The builder of every profile's topology, by the profile's name."""


def topology_from_spec(spec: Mapping[str, Any]) -> LabTopology:
    """The topology that `LabTopology.to_spec` described.

    Raises:
        ValueError: the profile is not known, or a number is out of range.
        KeyError: a field is missing.
    """
    if spec["profile"] not in TOPOLOGIES:
        raise ValueError(f"no lab profile {spec['profile']!r}")
    return TOPOLOGIES[spec["profile"]](
        spec["name"],
        regions=spec["regions"],
        nodes=spec["nodes"],
        pods=spec["pods"],
        timers=Timers(spec["timers"]),
        database=spec["database"],
        engine=spec["engine"],
        database_timers=DatabaseTimers(spec["database_timers"]),
        policy_peers=PolicyPeers(spec["policy_peers"]),
    )


def vtep_mac(node: IPv4Address) -> str:
    """The MAC address of a Cilium node's tunnel device, which the other nodes know from the node's address alone."""
    return "66:c1:" + ":".join(f"{byte:02x}" for byte in node.packed)


def _check_size(regions: int, nodes: int, pods: int) -> None:
    if not 2 <= regions <= MAX_REGIONS:
        raise ValueError(f"a lab has 2 to {MAX_REGIONS} regions, not {regions}")
    if not 1 <= nodes <= MAX_NODES:
        raise ValueError(f"a region has 1 to {MAX_NODES} nodes, not {nodes}")
    if not 0 <= pods <= MAX_PODS:
        raise ValueError(f"a node has 0 to {MAX_PODS} sample pods, not {pods}")


def _aws_region(index: int, node_count: int) -> LabRegion:
    name = AWS_REGIONS[index]
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
        block_size=CALICO_BLOCK_SIZE,
        as_number=FIRST_AS + index,
        cluster_id=f"244.0.0.{index + 1}",
        route_reflector_selector=f"{REFLECTOR_LABEL}=true",
    )
    blocks = _blocks(plan)
    return LabRegion(index, plan, tuple(_aws_node(index, plan, number, blocks) for number in _numbers(node_count)))


def _aws_node(index: int, plan: RegionPlan, number: int, blocks: Sequence[IPv4Network]) -> LabNode:
    """The first node is the control plane and the reflector. Calico leaves the pool's first block to nobody here."""
    block = blocks[number]
    return LabNode(
        region=plan.name,
        number=number,
        name=f"{plan.name}-node-{number}",
        alias=f"node-{number}",
        address=plan.node_cidr[9 + number],
        public_address=_public_network(index)[9 + number],
        block=block,
        tunnel_address=block[0],
        tunnel_mac=f"66:00:00:{index:02x}:{number >> 8:02x}:{number & 255:02x}",
        is_control_plane=number == 1,
        is_reflector=number == 1,
    )


def _azure_region(index: int, node_count: int) -> LabRegion:
    name = AZURE_REGIONS[index]
    service_cidr = IPv4Network("10.43.0.0/16")  # k3s' default, in every cluster
    plan = RegionPlan(
        name=name,
        network=IPv4Network(f"10.{index + 1}.0.0/16"),
        node_cidr=IPv4Network(f"10.{index + 1}.1.0/24"),
        pod_cidr=IPv4Network(f"10.{index + 10}.0.0/16"),
        service_cidr=service_cidr,
        dns_address=service_cidr[10],
        node_count=node_count,
        block_size=CILIUM_BLOCK_SIZE,
        cluster_id=str(index + 1),
        cluster_name=f"crdb-cilium-{name}",
    )
    blocks = _blocks(plan)
    return LabRegion(index, plan, tuple(_azure_node(index, plan, number, blocks) for number in _numbers(node_count)))


def _azure_node(index: int, plan: RegionPlan, number: int, blocks: Sequence[IPv4Network]) -> LabNode:
    """All nodes are servers of k3s. Azure keeps the first four addresses of a subnet to itself."""
    address, block = plan.node_cidr[3 + number], blocks[number - 1]
    return LabNode(
        region=plan.name,
        number=number,
        name=f"crdb-{plan.name}-node{number}",
        alias=f"node-{number}",
        address=address,
        public_address=_public_network(index)[9 + number],
        block=block,
        tunnel_address=block[1],
        tunnel_mac=vtep_mac(address),
        is_control_plane=True,
        is_reflector=False,
    )


def _public_network(index: int) -> IPv4Network:
    return IPv4Network((_PUBLIC_ADDRESSES[256 * index], 24))


def _blocks(plan: RegionPlan) -> list[IPv4Network]:
    return list(plan.pod_cidr.subnets(new_prefix=plan.block_size))


def _numbers(node_count: int) -> range:
    return range(1, node_count + 1)
