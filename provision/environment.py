"""The environment file as typed data: what somebody designed, and where its clusters are.

Each model is one mapping of the YAML file; docs/environment.md explains it to its readers, and the descriptions here
are theirs too, by way of the JSON schema. What a single value must be like is said here; what values must be like
together is in `provision.environment_checks`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from analysis.fleet import DEFAULT_FULL_MESH_LIMIT
from analysis.plan import (
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
from provision.environment_values import (
    Address,
    ClusterId,
    ClusterName,
    Command,
    Cpu,
    DnsLabel,
    DnsName,
    Duration,
    FilePath,
    Folder,
    HostPort,
    JumpHost,
    LabelKey,
    Memory,
    Network,
    OutsideName,
    Port,
    PortRange,
    Ports,
    Ratio,
    Selector,
    Source,
    UserName,
    Whole,
    Word,
    at_least,
)
from provision.errors import EnvironmentSpecError
from provision.lab.host import database_engine
from provision.lab.topology import REFLECTOR_LABEL, TOPOLOGIES, DatabaseTimers, PolicyPeers, Timers

DEFAULT_KUBECONFIG = Path("~/.kube/config")
DEFAULT_BLOCK_SIZE = {Cni.CALICO_BGP: 26, Cni.CILIUM_CLUSTERMESH: 24}
DEFAULT_ENCAPSULATION = {Cni.CALICO_BGP: Encapsulation.IPIP, Cni.CILIUM_CLUSTERMESH: Encapsulation.VXLAN}
OTHER_CLOUD = "other"
CLOUDS = {"aws-calico": "aws", "azure-cilium": "azure"}
"""Whose cloud it is where the file does not say, by profile."""

DNS_HOST = 10
"""kubeadm and k3s give kube-dns the tenth address of the service range."""


class _Section(BaseModel):
    """A mapping of the file: unknown keys are mistakes, and nobody changes it once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AttachSettings(_Section):
    """Use clusters that are there. Only the probes' own pods are made in them."""

    kind: Literal["attach"] = Field(default="attach", description="attach: use clusters that are there")


class LabSettings(_Section):
    """The lab: namespaces on this machine that stand in for clouds, nodes and pods."""

    kind: Literal["lab"] = Field(description="lab: the lab on this machine")
    name: DnsLabel | None = Field(
        default=None, description="the running lab to use; without it one is brought up for the run", examples=["demo"]
    )
    pods: Annotated[int, Whole(0, 50)] = Field(
        default=1, description="sample workload pods on each node of a lab that is brought up"
    )
    timers: Timers = Field(default=Timers.FAST, description="BGP timers of a lab that is brought up")
    database: StrictBool = Field(
        default=False,
        description="whether the database of a lab that is brought up runs; without it, it runs when a check needs it",
    )
    database_timers: DatabaseTimers = Field(
        default=DatabaseTimers.FAST, description="how soon the stand-in for CockroachDB replaces a lost primary"
    )
    policy_peers: PolicyPeers = Field(
        default=PolicyPeers.FEDERATION,
        description="by what Calico's policies know the pods of other clusters: federation or network-sets",
    )


ProviderSettings = Annotated[AttachSettings | LabSettings, Field(discriminator="kind")]


class RouteReflectors(_Section):
    """Which nodes reflect routes: either by label or by name."""

    label: Selector | None = Field(
        default=None, description="the label that the reflectors have", examples=[f"{REFLECTOR_LABEL}=true"]
    )
    nodes: tuple[DnsName, ...] = Field(
        default=(), description="the reflectors' node names, where they have no label", examples=[["node-1"]]
    )


class Region(_Section):
    """One region: a network, a Kubernetes cluster in it, and its place in the mesh."""

    name: DnsLabel = Field(description="the region's name, used in every report", examples=["us-east-1"])
    context: Word | None = Field(
        default=None, description="the context in the kubeconfig; by default named like the region"
    )
    kubeconfig: FilePath | None = Field(
        default=None, description="this region's kubeconfig, where it is not the one given for all"
    )
    network: Network | None = Field(
        default=None, description="the VPC's or VNet's range, which holds node_cidr", examples=["10.0.0.0/16"]
    )
    node_cidr: Network = Field(description="the subnet of the nodes", examples=["10.0.1.0/24"])
    pod_cidr: Network = Field(description="the range of pod addresses", examples=["192.168.0.0/18"])
    service_cidr: Network = Field(description="the range of ClusterIPs", examples=["172.20.0.0/16"])
    dns_address: Address | None = Field(
        default=None,
        description="the ClusterIP of kube-dns; by default the tenth address of service_cidr",
        examples=["172.20.0.10"],
    )
    node_count: Annotated[int, Whole(1, 5000)] = Field(
        description="how many nodes there must be, control plane included", examples=[4]
    )
    block_size: Annotated[int, Whole(8, 32)] | None = Field(
        default=None,
        description="prefix length of the block of pod addresses that a node owns; "
        "by default 26 with Calico and 24 with Cilium",
    )
    as_number: Annotated[int, Whole(1, 4294967294)] | None = Field(
        default=None, description="the cluster's AS number (calico-bgp)", examples=[64512]
    )
    cluster_id: ClusterId | None = Field(
        default=None,
        description="the route reflectors' cluster id (calico-bgp) or the cluster's id in the mesh, 1 to 255 "
        "(cilium-clustermesh)",
        examples=["244.0.0.1"],
    )
    cluster_name: ClusterName | None = Field(
        default=None,
        description="the cluster's name in the mesh (cilium-clustermesh)",
        examples=["crdb-cilium-eastus"],
    )
    route_reflectors: RouteReflectors | None = Field(
        default=None,
        description=f"which nodes reflect routes (calico-bgp); by default those labelled {REFLECTOR_LABEL}=true",
    )


class CniSettings(_Section):
    """The mesh that joins the clusters."""

    kind: Cni = Field(description="which mesh", examples=["calico-bgp"])
    encapsulation: Encapsulation | None = Field(
        default=None,
        description="how a pod's packet travels between nodes; by default ipip with Calico and vxlan with Cilium",
    )
    services_routed: StrictBool | None = Field(
        default=None,
        description="whether service ranges are advertised between the clusters; by default yes with Calico only",
    )


class Underlay(_Section):
    """The network below the mesh: the cloud's."""

    cloud: Literal["aws", "azure", "other"] | None = Field(
        default=None, description="whose cloud it is; by default the profile's, else another"
    )
    path_mtu: Annotated[int, Whole(576, 65535)] = Field(
        default=UnderlayPlan().path_mtu,
        description="the largest IP packet, in bytes, that nodes of different regions can send each other whole",
    )
    operators: tuple[Source, ...] = Field(
        default=(),
        description="addresses that may use SSH and the Kubernetes API",
        examples=[["198.51.100.20/32"]],
    )
    open_ports: tuple[PortRange, ...] = Field(
        default=UnderlayPlan().open_ports,
        description="TCP ports that security groups open to the operators, and to nobody else",
        examples=[[22, 6443, "30000-32767"]],
    )


class Outside(_Section):
    """A place outside the regions, without any rights there, where probes can start."""

    command: Command = Field(
        description="what to put before a command so that it runs there", examples=[["ssh", "probe@vantage.example"]]
    )
    address: Address | None = Field(
        default=None, description="the source address that the world sees of it", examples=["198.51.100.66"]
    )


class Ssh(_Section):
    """How administrators reach the nodes, for what only a node's shell can tell."""

    user: UserName = Field(description="whom to log in as; others than root use sudo", examples=["ubuntu"])
    identity_file: FilePath | None = Field(
        default=None,
        description="the private key's file; by default what ssh finds by itself",
        examples=["~/.ssh/mesh"],
    )
    known_hosts: FilePath | None = Field(
        default=None,
        description="the file with the nodes' host keys, which are always verified; by default ~/.ssh/known_hosts",
    )
    port: Port = Field(default=22, description="the nodes' port")
    jump: JumpHost | None = Field(
        default=None, description="the host by which nodes are reached", examples=["ubuntu@bastion.example.net"]
    )


class DnsSettings(_Section):
    """What clusters' DNS must be able to answer beside names of clusters."""

    external_name: OutsideName | None = Field(
        default=None, description="a name outside all clusters that must resolve", examples=["www.example.net"]
    )


class AccessSettings(_Section):
    """How to log in to the database: with a certificate and its key, or with a password, all in files of their own."""

    user: UserName = Field(description="whom to log in as", examples=["root"])
    authority: FilePath = Field(
        description="the file with the certificate of the database's authority", examples=["~/.meshproof/prod/ca.crt"]
    )
    certificate: FilePath | None = Field(default=None, description="the file with the user's certificate")
    key: FilePath | None = Field(default=None, description="the file with its private key, readable by its owner only")
    password_file: FilePath | None = Field(
        default=None, description="the file with the user's password and nothing else, readable by its owner only"
    )
    addresses: dict[str, HostPort] = Field(
        default_factory=dict,
        description="where this machine reaches a region's database; a region without is reached from its probe pods",
        examples=[{"us-east-1": "db-east.example.net:26257"}],
    )


class Database(_Section):
    """The database that is stretched over the regions."""

    engine: Literal["cockroachdb", "postgresql"] = Field(
        default="cockroachdb",
        description="which database: cockroachdb; postgresql is the lab's stand-in, PostgreSQL with Patroni and etcd",
    )
    namespaces: dict[str, DnsLabel] = Field(
        default_factory=dict,
        description="the database's namespace in each region; by default named like the region",
        examples=[{"us-east-1": "us-east-1"}],
    )
    ports: Ports = Field(
        default=(26257, 8080), description="the TCP ports of the database: SQL and peers, then the console"
    )
    service: DnsLabel = Field(
        default=DatabasePlan().service, description="the name of its headless Service, and of its StatefulSet"
    )
    public_service: DnsLabel = Field(
        default=DatabasePlan().public_service, description="the name of the Service that clients use"
    )
    replicas: Annotated[int, Whole(1, 1000)] = Field(
        default=DatabasePlan().replicas, description="its pods in each region"
    )
    cpu: Cpu | None = Field(default=None, description="processors that each of its pods asks for", examples=[4])
    memory: Memory | None = Field(default=None, description="memory that each of its pods asks for", examples=["8Gi"])
    storage: Memory | None = Field(
        default=None, description="size of the volume of each of its pods", examples=["50Gi"]
    )
    must_survive: tuple[Word, ...] = Field(
        default=(),
        description="its databases, in the sense of SQL, that must survive the loss of a region",
        examples=[["orders"]],
    )
    service_account: DnsName = Field(
        default=DatabasePlan().service_account, description="the ServiceAccount that its pods run as"
    )
    node_secret: DnsName = Field(
        default=DatabasePlan().node_secret, description="the Secret with the certificates of its members"
    )
    client_secret: DnsName = Field(
        default=DatabasePlan().client_secret, description="the Secret with those of the client root"
    )
    certificate_folder: Folder = Field(
        default=DatabasePlan().certificate_folder, description="where its pods have their certificates"
    )
    access: AccessSettings | None = Field(
        default=None, description="how to log in; without it what only the database can tell does not apply"
    )


class Flow(_Section):
    """Traffic that the policy must let through; everything between roles that is not listed must be blocked."""

    source: Word = Field(alias="from", description="the role that opens the connection", examples=["client"])
    target: Word = Field(alias="to", description="the role that is connected to", examples=["database"])
    ports: Ports = Field(description="TCP ports", examples=[[26257, 8080]])
    regions: tuple[str, ...] = Field(
        default=(), description="the regions of the target where this holds; by default all", examples=[["us-east-1"]]
    )
    same_region: StrictBool = Field(default=False, description="whether it holds between pods of one region only")


class PolicyIntent(_Section):
    """What the network policy is meant to do, in the words of its owner and not of its implementation."""

    roles: dict[str, Selector] = Field(
        default_factory=dict,
        description="a name for the pods that have a label",
        examples=[{"database": "app=cockroachdb", "client": "app=cockroachdb-client"}],
    )
    allow: tuple[Flow, ...] = Field(default=(), description="what must get through")
    region_label: LabelKey = Field(
        default="geography", description="the label by which database pods say their region; empty where none does"
    )
    namespace: DnsLabel | None = Field(
        default=None,
        description="where pods that wear the roles' labels are put to try what gets through; by default with the "
        "probes",
    )

    def plan(self) -> PolicyPlan:
        """The same as judges know it."""
        return PolicyPlan(
            roles=tuple(PolicyRole(name, *label.split("=", 1)) for name, label in self.roles.items()),
            allow=tuple(
                AllowedFlow(flow.source, flow.target, flow.ports, flow.regions, flow.same_region) for flow in self.allow
            ),
            region_label=self.region_label,
            namespace=self.namespace or "",
        )

    @classmethod
    def from_plan(cls, plan: PolicyPlan) -> Self:
        """The section that says the same."""
        return cls(
            roles={role.name: f"{role.key}={role.value}" for role in plan.roles},
            allow=tuple(
                Flow.model_validate(
                    {
                        "from": flow.source,
                        "to": flow.target,
                        "ports": flow.ports,
                        "regions": flow.regions,
                        "same_region": flow.same_region,
                    }
                )
                for flow in plan.allow
            ),
            region_label=plan.region_label,
            namespace=plan.namespace or None,
        )


class BudgetSettings(_Section):
    """Upper bounds that checks hold the environment to."""

    convergence: Duration = Field(
        default=Budgets().convergence, description="until a new or removed route is known everywhere"
    )
    pod_ready: Duration = Field(
        default=Budgets().pod_ready, description="until a running pod is reachable from the other regions"
    )
    rtt_overhead: Duration = Field(
        default=Budgets().rtt_overhead, description="round trip of pods above that of their nodes"
    )
    throughput_ratio: Ratio = Field(
        default=Budgets().throughput_ratio, description="least throughput of pods as a share of that of their nodes"
    )
    rto: Duration = Field(default=Budgets().rto, description="time without service after the loss of a region")
    dns_answer: Duration = Field(default=Budgets().dns_answer, description="until DNS has answered, whatever it says")
    dns_change: Duration = Field(
        default=Budgets().dns_change, description="until everybody sees a changed address, caches included"
    )
    clock_offset: Duration = Field(default=Budgets().clock_offset, description="between the clocks of any two nodes")
    stall: Duration = Field(default=Budgets().stall, description="how long a transfer may stand still")
    rejoin: Duration = Field(
        default=Budgets().rejoin,
        description="until a region that returned takes part in the database again, with all its replicas",
    )
    certificate: Duration = Field(
        default=Budgets().certificate, description="for so long every certificate must still be valid"
    )


class Egress(_Section):
    """A host outside every region that answers a TCP connection with the source address it saw, on one line."""

    address: Address = Field(description="its address", examples=["198.51.100.10"])
    port: Port = Field(description="its TCP port", examples=[80])


class Probes(_Section):
    """The pods that observe the network from inside."""

    image: Word = Field(default="python:3.12-slim", description="the image they run; any with python3, 3.8 or newer")
    namespace: DnsLabel = Field(default="meshproof", description="the namespace they live in")
    host_network: StrictBool = Field(
        default=True,
        description="whether probe pods may use the nodes' network; without them nodes are not observed",
    )
    capture: StrictBool = Field(
        default=False,
        description="whether probe pods in the nodes' network may capture and craft packets (NET_RAW)",
    )
    pull_secret: DnsName | None = Field(
        default=None, description="name of the Secret, in that namespace, that the image is pulled with"
    )
    per_node: Annotated[int, Whole(1, 50)] = Field(default=1, description="probe pods in the pod network on each node")
    full_mesh_limit: Annotated[int, Whole(1, 10_000_000)] = Field(
        default=DEFAULT_FULL_MESH_LIMIT,
        description="ordered pairs of probe pods that are all probed; where there are more, a sample of about so many "
        "that leaves out no ordered pair of nodes",
    )


class Environment(_Section):
    """A whole environment file."""

    name: DnsLabel = Field(description="the environment's name; whoever wants to disrupt it must say it")
    profile: Word = Field(default="custom", description="what kind of environment it is, for the report")
    provider: ProviderSettings = Field(
        default=AttachSettings(), description="who brings it up; by default nobody: it is there"
    )
    kubeconfig: FilePath | None = Field(
        default=None, description="the kubeconfig of every region that names none; by default ~/.kube/config"
    )
    cni: CniSettings = Field(description="the mesh that joins the clusters")
    regions: Annotated[tuple[Region, ...], at_least(2, "regions")] = Field(
        description="the regions, at least two", json_schema_extra={"minItems": 2}
    )
    underlay: Underlay = Field(default=Underlay(), description="the network below the mesh")
    outside: Outside | None = Field(
        default=None, description="a place outside the regions, without any rights, where probes can start"
    )
    ssh: Ssh | None = Field(default=None, description="how administrators reach the nodes")
    dns: DnsSettings = Field(default=DnsSettings(), description="what DNS must answer")
    database: Database | None = Field(default=None, description="the database, where there is one")
    policy: PolicyIntent | None = Field(default=None, description="what the network policy is meant to do")
    budgets: BudgetSettings = Field(default=BudgetSettings(), description="upper bounds")
    egress: Egress | None = Field(default=None, description="where to knock to prove that pods reach the internet")
    bulk_bytes: Annotated[int, Whole(100_000, 100_000_000_000)] = Field(
        default=Plan.bulk_bytes, description="size of a bulk transfer between two regions, in bytes"
    )
    probes: Probes = Field(default=Probes(), description="the pods that observe the network")

    @property
    def encapsulation(self) -> Encapsulation:
        """As the file says, else what the CNI does by default."""
        return self.cni.encapsulation or DEFAULT_ENCAPSULATION[self.cni.kind]

    @property
    def services_routed(self) -> bool:
        """As the file says, else True for Calico."""
        if self.cni.services_routed is None:
            return self.cni.kind is Cni.CALICO_BGP
        return self.cni.services_routed

    @property
    def cloud(self) -> str:
        """As the file says, else the profile's; "" for another."""
        cloud = self.underlay.cloud or CLOUDS.get(self.profile, OTHER_CLOUD)
        return "" if cloud == OTHER_CLOUD else cloud

    def kubeconfig_of(self, region: Region) -> Path:
        """The kubeconfig file that reaches that region's cluster."""
        return region.kubeconfig or self.kubeconfig or DEFAULT_KUBECONFIG.expanduser()

    @staticmethod
    def context_of(region: Region) -> str:
        """The kubeconfig context that reaches that region's cluster."""
        return region.context or region.name

    def block_size_of(self, region: Region) -> int:
        """Prefix length of a node's block in that region."""
        return region.block_size or DEFAULT_BLOCK_SIZE[self.cni.kind]

    def plan(self) -> Plan:
        """The plan that facts are judged against, every default filled in."""
        return Plan(
            name=self.name,
            profile=self.profile,
            cni=self.cni.kind,
            encapsulation=self.encapsulation,
            regions=tuple(self._region_plan(region) for region in self.regions),
            services_routed=self.services_routed,
            budgets=Budgets(**{name: getattr(self.budgets, name) for name in BudgetSettings.model_fields}),
            database=self._database_plan(self.database) if self.database else None,
            policy=self.policy.plan() if self.policy else None,
            egress=EgressTarget(self.egress.address, self.egress.port) if self.egress else None,
            underlay=UnderlayPlan(
                cloud=self.cloud,
                path_mtu=self.underlay.path_mtu,
                operators=self.underlay.operators,
                open_ports=self.underlay.open_ports,
            ),
            external_name=self.dns.external_name,
            bulk_bytes=self.bulk_bytes,
        )

    def _region_plan(self, region: Region) -> RegionPlan:
        reflectors = region.route_reflectors
        if reflectors is None and self.cni.kind is Cni.CALICO_BGP:
            reflectors = RouteReflectors(label=f"{REFLECTOR_LABEL}=true")
        return RegionPlan(
            name=region.name,
            network=region.network,
            node_cidr=region.node_cidr,
            pod_cidr=region.pod_cidr,
            service_cidr=region.service_cidr,
            dns_address=region.dns_address or region.service_cidr[DNS_HOST],
            node_count=region.node_count,
            block_size=self.block_size_of(region),
            as_number=region.as_number,
            cluster_id=region.cluster_id,
            cluster_name=region.cluster_name,
            route_reflector_selector=reflectors.label if reflectors else None,
            route_reflector_nodes=reflectors.nodes if reflectors else (),
        )

    def _database_plan(self, database: Database) -> DatabasePlan:
        namespaces = {region.name: region.name for region in self.regions} | database.namespaces
        return DatabasePlan(
            engine=database.engine,
            namespaces=tuple(namespaces.items()),
            ports=database.ports,
            service=database.service,
            public_service=database.public_service,
            replicas=database.replicas,
            cpu=database.cpu,
            memory=database.memory,
            storage=database.storage,
            must_survive=database.must_survive,
            service_account=database.service_account,
            node_secret=database.node_secret,
            client_secret=database.client_secret,
            certificate_folder=database.certificate_folder,
        )

    @classmethod
    def from_plan(cls, plan: Plan, *, provider: AttachSettings | LabSettings, kubeconfig: Path | None = None) -> Self:
        """The environment that has this plan; contexts are named like their regions.

        Args:
            plan: what the environment is to be.
            provider: who brings it up.
            kubeconfig: the file that reaches all clusters, once there is one.
        """
        return cls(
            name=plan.name,
            profile=plan.profile,
            provider=provider,
            kubeconfig=kubeconfig,
            cni=CniSettings(kind=plan.cni, encapsulation=plan.encapsulation, services_routed=plan.services_routed),
            regions=tuple(
                Region(
                    name=region.name,
                    network=region.network,
                    node_cidr=region.node_cidr,
                    pod_cidr=region.pod_cidr,
                    service_cidr=region.service_cidr,
                    dns_address=region.dns_address,
                    node_count=region.node_count,
                    block_size=region.block_size,
                    as_number=region.as_number,
                    cluster_id=region.cluster_id,
                    cluster_name=region.cluster_name,
                    route_reflectors=RouteReflectors(
                        label=region.route_reflector_selector, nodes=region.route_reflector_nodes
                    )
                    if region.route_reflector_selector or region.route_reflector_nodes
                    else None,
                )
                for region in plan.regions
            ),
            underlay=Underlay.model_validate(
                {
                    "cloud": plan.underlay.cloud or OTHER_CLOUD,
                    "path_mtu": plan.underlay.path_mtu,
                    "operators": plan.underlay.operators,
                    "open_ports": plan.underlay.open_ports,
                }
            ),
            dns=DnsSettings(external_name=plan.external_name),
            bulk_bytes=plan.bulk_bytes,
            database=cls._database(plan.database) if plan.database else None,
            policy=PolicyIntent.from_plan(plan.policy) if plan.policy else None,
            budgets=BudgetSettings(**{name: getattr(plan.budgets, name) for name in BudgetSettings.model_fields}),
            egress=Egress(address=plan.egress.address, port=plan.egress.port) if plan.egress else None,
        )

    @staticmethod
    def _database(plan: DatabasePlan) -> Database:
        return Database.model_validate(
            {
                "engine": plan.engine,
                "namespaces": dict(plan.namespaces),
                "ports": plan.ports,
                "service": plan.service,
                "public_service": plan.public_service,
                "replicas": plan.replicas,
                # Whole numbers are processors in the file, and thousandths of them in the plan.
                "cpu": None if plan.cpu is None else f"{plan.cpu}m",
                "memory": plan.memory,
                "storage": plan.storage,
                "must_survive": plan.must_survive,
                "service_account": plan.service_account,
                "node_secret": plan.node_secret,
                "client_secret": plan.client_secret,
                "certificate_folder": plan.certificate_folder,
            }
        )

    def to_yaml(self) -> str:
        """The text of an environment file that says the same, and nothing that goes without saying."""
        data = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120)


def lab_environment(
    profile: str,
    *,
    name: str = "lab",
    regions: int = 3,
    nodes: int | None = None,
    pods: int = 1,
    timers: Timers = Timers.FAST,
) -> Environment:
    """The environment of a lab that is yet to be brought up.

    Args:
        profile: "aws-calico" or "azure-cilium".
        name: the environment's name.
        regions: how many regions.
        nodes: nodes in each region, control plane included; None for as many as the published environment has.
        pods: sample workload pods on each node.
        timers: BGP timers.

    Raises:
        EnvironmentSpecError: a number is out of range.
    """
    try:
        size: dict[str, Any] = {"nodes": nodes} if nodes is not None else {}
        topology = TOPOLOGIES[profile](
            name, regions=regions, pods=pods, timers=timers, engine=database_engine(), **size
        )
    except ValueError as error:
        raise EnvironmentSpecError(str(error), where=f"lab:{profile}") from None
    return Environment.from_plan(topology.plan, provider=LabSettings(kind="lab", pods=pods, timers=timers))
