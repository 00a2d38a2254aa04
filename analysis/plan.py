"""The plan: what the environment was designed to be, as data that judges compare facts with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from ipaddress import IPv4Address, IPv4Network

DATABASE = "database"
"""The role of the database's pods, in what policy is for."""

CLIENT = "client"
"""The role of pods that may use the database. Probe pods wear its labels, since they do."""


class Cni(str, Enum):
    """The mesh that joins the clusters."""

    CALICO_BGP = "calico-bgp"
    CILIUM_CLUSTERMESH = "cilium-clustermesh"


class Encapsulation(str, Enum):
    """How a pod packet crosses the underlay between two nodes."""

    IPIP = "ipip"
    VXLAN = "vxlan"
    GENEVE = "geneve"
    NONE = "none"

    @property
    def overhead(self) -> int:
        """Bytes the encapsulation adds to a packet (RFC 2003, RFC 7348; IPv4 outer header)."""
        return {Encapsulation.IPIP: 20, Encapsulation.VXLAN: 50, Encapsulation.GENEVE: 50, Encapsulation.NONE: 0}[self]


@dataclass(frozen=True)
class Budgets:
    """Time limits of the environment file. All are upper bounds.

    Attributes:
        convergence: until a new or removed route is known everywhere (T-CONV).
        pod_ready: until a pod that runs is reachable from the other regions (T-POD).
        rtt_overhead: pod-to-pod round trip above node-to-node (T-OVH).
        throughput_ratio: least pod-to-pod throughput as a share of node-to-node (0..1).
        rto: time without service after the loss of a region.
        dns_answer: until DNS has answered a question, whatever the answer is.
        dns_change: until a changed address is seen by everybody: caches included (T-DNS).
        clock_offset: between the clocks of any two nodes.
        stall: a transfer may stand still for so long.
        rejoin: until a region that returned takes part in the database again, with all its replicas (T-HEAL).
        certificate: for so long every certificate must still be valid (T-CERT).
    """

    convergence: timedelta = timedelta(seconds=30)
    pod_ready: timedelta = timedelta(seconds=15)
    rtt_overhead: timedelta = timedelta(milliseconds=2)
    throughput_ratio: float = 0.8
    rto: timedelta = timedelta(seconds=30)
    dns_answer: timedelta = timedelta(seconds=1)
    dns_change: timedelta = timedelta(seconds=40)
    clock_offset: timedelta = timedelta(milliseconds=250)
    stall: timedelta = timedelta(seconds=2)
    rejoin: timedelta = timedelta(minutes=10)
    certificate: timedelta = timedelta(days=30)


@dataclass(frozen=True)
class RegionPlan:
    """One region: a network, one Kubernetes cluster in it, and its place in the mesh.

    Attributes:
        name: the region's name; also the key of its cluster everywhere in facts.
        network: the VPC's or VNet's CIDR; None when the file does not say.
        node_cidr: the subnet that holds every node's InternalIP.
        pod_cidr: the cluster's own pool of pod addresses.
        service_cidr: the range of ClusterIPs.
        dns_address: the ClusterIP of kube-dns.
        node_count: how many nodes there must be.
        block_size: prefix length of the block a node owns (26 for Calico, 24 for Cilium).
        as_number: the cluster's AS (Calico), else None.
        cluster_id: the Cilium cluster id, or the Calico route reflector cluster id as text.
        cluster_name: the name that the cluster bears in a Cilium mesh, else None.
        route_reflector_selector: label selector ("key=value") of the nodes that reflect routes.
        route_reflector_nodes: names of those nodes, when the file names them instead.
    """

    name: str
    node_cidr: IPv4Network
    pod_cidr: IPv4Network
    service_cidr: IPv4Network
    dns_address: IPv4Address
    node_count: int
    block_size: int
    network: IPv4Network | None = None
    as_number: int | None = None
    cluster_id: str | None = None
    cluster_name: str | None = None
    route_reflector_selector: str | None = None
    route_reflector_nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EgressTarget:
    """A host outside every region that answers TCP on `port` with the source address it saw, one line of text."""

    address: IPv4Address
    port: int


@dataclass(frozen=True)
class DatabasePlan:
    """The database stretched over the regions.

    Attributes:
        engine: "cockroachdb", or "postgresql" for the lab's stand-in (PostgreSQL with Patroni and etcd).
        namespaces: region and namespace of its pods there.
        ports: the only ones that policy may let through.
        service: name of the headless Service, and of the StatefulSet.
        public_service: name of the Service that clients use.
        replicas: pods in each region.
        cpu: what each pod asks for, in thousandths of a processor; None when it is not planned.
        memory: likewise, in bytes.
        storage: size of each pod's volume (bytes); None when it is not planned.
        service_account: that its pods run as.
        node_secret: the Secret with the certificates of its nodes.
        client_secret: the Secret with those of the client root.
        certificate_folder: where its pods have them.
        must_survive: databases (in the sense of SQL) that must survive the loss of a region.
    """

    engine: str = "cockroachdb"
    namespaces: tuple[tuple[str, str], ...] = ()
    ports: tuple[int, ...] = (26257, 8080)
    service: str = "cockroachdb"
    public_service: str = "cockroachdb-public"
    replicas: int = 3
    cpu: int | None = None
    memory: int | None = None
    storage: int | None = None
    service_account: str = "cockroachdb"
    node_secret: str = "cockroachdb.node"  # noqa: S105 - the name of a Secret
    client_secret: str = "cockroachdb.client.root"  # noqa: S105 - likewise
    certificate_folder: str = "/cockroach/cockroach-certs"
    must_survive: tuple[str, ...] = ()

    @property
    def sql_port(self) -> int:
        """Where SQL and the other nodes are served."""
        return self.ports[0]

    @property
    def console_port(self) -> int:
        """Where health and metrics are told."""
        return self.ports[1]

    def namespace(self, region: str) -> str:
        """The database's namespace in that region: by default it is named like the region."""
        return dict(self.namespaces).get(region, region)

    def pod_name(self, region: str, pod: str) -> str:
        """The full name that a pod advertises, by which it is known in all regions."""
        return f"{pod}.{self.service}.{self.namespace(region)}.svc.cluster.local"


@dataclass(frozen=True)
class UnderlayPlan:
    """The network below the mesh.

    Attributes:
        cloud: "aws", "azure", or "" for another: clouds differ in what they carry (Azure drops IP-in-IP).
        path_mtu: the largest IP packet that nodes of different regions can send each other whole (bytes).
        operators: addresses that may use SSH and the Kubernetes API.
        open_ports: TCP ports (first, last) that security groups open to the operators, and to nobody else.
    """

    cloud: str = ""
    path_mtu: int = 1500
    operators: tuple[IPv4Network, ...] = ()
    open_ports: tuple[tuple[int, int], ...] = ((22, 22), (6443, 6443), (30000, 32767))


@dataclass(frozen=True)
class PolicyRole:
    """Pods that policy speaks of, by a label: "database" is "app" = "cockroachdb"."""

    name: str
    key: str
    value: str


@dataclass(frozen=True)
class AllowedFlow:
    """Traffic that policy must let through.

    Attributes:
        source: the role that opens the connection; `target` is the one that it opens it to.
        ports: TCP ports of the target.
        regions: regions of the target where this holds; all when empty.
        same_region: it holds between pods of one region only.
    """

    source: str
    target: str
    ports: tuple[int, ...]
    regions: tuple[str, ...] = ()
    same_region: bool = False


@dataclass(frozen=True)
class PolicyPlan:
    """What network policy is for. Whatever is not allowed here must be blocked for the pods of the role `database`.

    Every role may ask its own cluster's DNS.

    Attributes:
        region_label: the label by which database pods say their region, from their template on; "" where they need
            none (a cluster label does it).
        namespace: where pods that wear the roles' labels are put to try flows; the probes' own when empty.
    """

    roles: tuple[PolicyRole, ...]
    allow: tuple[AllowedFlow, ...]
    region_label: str = "geography"
    namespace: str = ""

    def role(self, name: str) -> PolicyRole:
        """The role of that name. Raises KeyError when there is none."""
        return {role.name: role for role in self.roles}[name]

    def labels(self, role: str, region: str) -> dict[str, str]:
        """The labels that a pod of that role wears in that region."""
        found = self.role(role)
        return {found.key: found.value} | (
            {self.region_label: region} if role == DATABASE and self.region_label else {}
        )

    def ports(self, source: tuple[str, str], target: tuple[str, str]) -> frozenset[int]:
        """The TCP ports that must be open from a role in a region to another; each is (role, region)."""
        return frozenset(
            port
            for flow in self.allow
            if (flow.source, flow.target) == (source[0], target[0])
            and (not flow.regions or target[1] in flow.regions)
            and (not flow.same_region or source[1] == target[1])
            for port in flow.ports
        )


@dataclass(frozen=True)
class Plan:
    """The whole environment as it was designed.

    Attributes:
        name: the environment's name; disruption must name it.
        profile: "aws-calico", "azure-cilium" or the user's own word.
        services_routed: True where service CIDRs are advertised between clusters (Calico), so that a remote
            ClusterIP must answer; False where it must not be relied on.
        egress: where to knock to prove that pods reach the internet; None makes that check not applicable.
        underlay: the network below the mesh.
        policy: what network policy is for; None where there is none.
        external_name: a name outside all clusters that their DNS must resolve.
        bulk_bytes: size of a bulk transfer between two regions (T-BULK).
    """

    name: str
    profile: str
    cni: Cni
    encapsulation: Encapsulation
    regions: tuple[RegionPlan, ...]
    services_routed: bool
    budgets: Budgets = Budgets()
    database: DatabasePlan | None = None
    policy: PolicyPlan | None = None
    egress: EgressTarget | None = None
    underlay: UnderlayPlan = UnderlayPlan()
    external_name: str | None = None
    bulk_bytes: int = 100_000_000

    def region(self, name: str) -> RegionPlan:
        """The region of that name. Raises KeyError when the plan has none."""
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(name)

    def others(self, name: str) -> tuple[RegionPlan, ...]:
        """Every region but the one named, in plan order."""
        return tuple(region for region in self.regions if region.name != name)

    def ordered_pairs(self) -> tuple[tuple[RegionPlan, RegionPlan], ...]:
        """Every (from, to) pair of distinct regions: six for three regions."""
        return tuple((a, b) for a in self.regions for b in self.regions if a is not b)
