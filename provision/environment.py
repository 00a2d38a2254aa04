"""The environment file as typed data: what somebody designed, and where its clusters are.

Each model is one mapping of the YAML file; docs/environment.md explains it to its readers, and the descriptions here
are theirs too, by way of the JSON schema. What a single value must be like is said here; what values must be like
together is in `provision.environment_checks`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    StrictBool,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError, core_schema

from analysis.fleet import DEFAULT_FULL_MESH_LIMIT
from analysis.plan import Budgets, Cni, DatabasePlan, EgressTarget, Encapsulation, Plan, RegionPlan
from provision.errors import EnvironmentSpecError
from provision.lab.topology import REFLECTOR_LABEL, TOPOLOGIES, Timers

DEFAULT_KUBECONFIG = Path("~/.kube/config")
DEFAULT_BLOCK_SIZE = {Cni.CALICO_BGP: 26, Cni.CILIUM_CLUSTERMESH: 24}
DEFAULT_ENCAPSULATION = {Cni.CALICO_BGP: Encapsulation.IPIP, Cni.CILIUM_CLUSTERMESH: Encapsulation.VXLAN}
DNS_HOST = 10
"""kubeadm and k3s give kube-dns the tenth address of the service range."""

_DURATION_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours"}
_DURATION = re.compile(r"^(\d+(\.\d+)?(ms|s|m|h))+$")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_CLUSTER_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$")
_DNS_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
_LABEL_SELECTOR = re.compile(r"^([A-Za-z0-9][-A-Za-z0-9_./]*)=([-A-Za-z0-9_.]*)$")


def wrong(what: str, advice: str) -> PydanticCustomError:
    """An error about one value: what is wrong with it, and what would be right."""
    # Braces in a template are placeholders, so the texts travel in the context.
    return PydanticCustomError("wrong", "{what}", {"what": what, "advice": advice})


def _network(value: Any) -> IPv4Network:
    if isinstance(value, IPv4Network):
        return value
    if not isinstance(value, str):
        raise wrong("is not a network", "an IPv4 network in CIDR notation, like 10.0.0.0/16")
    if "/" not in value:
        raise wrong("has no prefix length", f"address/length, like {value}/16")
    try:
        network = IPv4Network(value, strict=False)
    except NetmaskValueError:
        raise wrong("has a bad prefix length", "a length from 0 to 32 after the slash, like 10.0.0.0/16") from None
    except (AddressValueError, ValueError):
        if ":" in value:
            raise wrong("is IPv6", "an IPv4 network; IPv6 is not verified yet") from None
        raise wrong("is not an IPv4 network", "four numbers from 0 to 255 and a length, like 10.0.0.0/16") from None
    if str(network) != value:
        if value.partition("/")[2] != str(network.prefixlen):
            raise wrong("has a netmask where a prefix length belongs", str(network))
        raise wrong("has host bits set", f"{network}, the network that holds this address")
    return network


def _address(value: Any) -> IPv4Address:
    if isinstance(value, IPv4Address):
        return value
    try:
        if not isinstance(value, str):
            raise ValueError
        return IPv4Address(value)
    except ValueError:
        raise wrong("is not an IPv4 address", "four numbers from 0 to 255, like 172.20.0.10") from None


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise wrong("has no unit", f"a number with ms, s, m or h, like {value}s")
    if not isinstance(value, str) or not _DURATION.match(value):
        raise wrong("is not a duration", "numbers with ms, s, m or h, like 30s, 2ms or 1m30s")
    total = timedelta()
    for number, unit in _DURATION_PART.findall(value):
        total += timedelta(**{_DURATION_UNITS[unit]: float(number)})
    if not total:
        raise wrong("is no time at all", "more than zero, like 30s")
    return total


def write_duration(value: timedelta) -> str:
    """A duration as the file has it: 30s, 2ms."""
    milliseconds = value / timedelta(milliseconds=1)
    return f"{milliseconds / 1000:g}s" if milliseconds % 1000 == 0 else f"{milliseconds:g}ms"


def _path(value: Any, info: ValidationInfo) -> Path:
    """An absolute path: `~` is the user's home, and a relative path starts at the environment file's folder."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip():
        raise wrong("is not a path", "the path of a kubeconfig file, like ~/.kube/config")
    folder = (info.context or {}).get("folder", Path())
    return Path(folder / Path(value).expanduser()).absolute()


def _cluster_id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise wrong("is not a cluster id", "a number (Cilium) or four numbers with dots (Calico), like 1 or 244.0.0.1")
    return str(value)


def _selector(value: Any) -> str:
    if not isinstance(value, str) or not _LABEL_SELECTOR.match(value):
        raise wrong("is not a label", f"key=value, like {REFLECTOR_LABEL}=true")
    return value


@dataclass(frozen=True)
class Whole:
    """Marks a whole number in a range, both ends included. Text and truth values are no numbers here."""

    low: int
    high: int

    def _check(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong("is not a whole number", f"a whole number from {self.low} to {self.high}, without quotes")
        if not self.low <= value <= self.high:
            raise wrong("is out of range", f"a whole number from {self.low} to {self.high}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Check first, for the words of the error; pydantic's own bounds are there for the JSON schema."""
        return core_schema.no_info_before_validator_function(
            self._check, core_schema.int_schema(ge=self.low, le=self.high)
        )


def _ratio(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
        raise wrong("is not a share", "a number above 0 and up to 1, like 0.8")
    return float(value)


def _at_least(count: int, what: str) -> AfterValidator:
    """A list must have so many items; said only once the items themselves are right, and so can be counted."""

    def check(value: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(value) < count:
            raise wrong(f"has {len(value) or 'nothing in it'}", f"at least {count} {what}")
        return value

    return AfterValidator(check)


def _matching(pattern: re.Pattern[str], what: str, advice: str) -> BeforeValidator:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise wrong(f"is not {what}", f'{advice}; quotes make it text: "{value}"')
        if not pattern.match(value):
            raise wrong(f"is not {what}", advice)
        return value

    return BeforeValidator(check)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or any(c.isspace() for c in value):
        raise wrong("is not a word", "some text without spaces")
    return value


Network = Annotated[IPv4Network, BeforeValidator(_network)]
Address = Annotated[IPv4Address, BeforeValidator(_address)]
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(write_duration),
    WithJsonSchema({"type": "string", "pattern": _DURATION.pattern}),
]
KubeconfigPath = Annotated[Path, BeforeValidator(_path)]
ClusterId = Annotated[str, BeforeValidator(_cluster_id), WithJsonSchema({"type": ["string", "integer"]})]
Selector = Annotated[str, BeforeValidator(_selector), WithJsonSchema({"type": "string"})]
DnsLabel = Annotated[
    str, _matching(_DNS_LABEL, "a name", "small letters, digits and hyphens, at most 63, like us-east-1")
]
ClusterName = Annotated[
    str,
    _matching(
        _CLUSTER_NAME, "a cluster's name", "small letters, digits and hyphens, at most 32, like crdb-cilium-eastus"
    ),
]
DnsName = Annotated[str, _matching(_DNS_NAME, "a name", "small letters, digits, hyphens and dots, like node-1")]
Word = Annotated[str, BeforeValidator(_text)]
Port = Annotated[int, Whole(1, 65535)]
Ports = Annotated[tuple[Port, ...], _at_least(1, "port"), Field(json_schema_extra={"minItems": 1})]
Ratio = Annotated[
    float,
    BeforeValidator(_ratio),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
]


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
    kubeconfig: KubeconfigPath | None = Field(
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


class Database(_Section):
    """The database that is stretched over the regions."""

    engine: Literal["cockroachdb"] = Field(default="cockroachdb", description="which database")
    namespaces: dict[str, DnsLabel] = Field(
        default_factory=dict,
        description="the database's namespace in each region; by default named like the region",
        examples=[{"us-east-1": "us-east-1"}],
    )
    ports: Ports = Field(
        default=(26257, 8080), description="the TCP ports of the database: SQL and peers, then the console"
    )


class Flow(_Section):
    """Traffic that the policy must let through; everything between roles that is not listed must be blocked."""

    source: Word = Field(alias="from", description="the role that opens the connection", examples=["client"])
    target: Word = Field(alias="to", description="the role that is connected to", examples=["database"])
    ports: Ports = Field(description="TCP ports", examples=[[26257, 8080]])
    regions: tuple[str, ...] = Field(
        default=(), description="the regions of the target where this holds; by default all", examples=[["us-east-1"]]
    )


class PolicyIntent(_Section):
    """What the network policy is meant to do, in the words of its owner and not of its implementation."""

    roles: dict[str, Selector] = Field(
        default_factory=dict,
        description="a name for the pods that have a label",
        examples=[{"database": "app=cockroachdb", "client": "app=cockroachdb-client"}],
    )
    allow: tuple[Flow, ...] = Field(default=(), description="what must get through")


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
    kubeconfig: KubeconfigPath | None = Field(
        default=None, description="the kubeconfig of every region that names none; by default ~/.kube/config"
    )
    cni: CniSettings = Field(description="the mesh that joins the clusters")
    regions: Annotated[tuple[Region, ...], _at_least(2, "regions")] = Field(
        description="the regions, at least two", json_schema_extra={"minItems": 2}
    )
    database: Database | None = Field(default=None, description="the database, where there is one")
    policy: PolicyIntent | None = Field(default=None, description="what the network policy is meant to do")
    budgets: BudgetSettings = Field(default=BudgetSettings(), description="upper bounds")
    egress: Egress | None = Field(default=None, description="where to knock to prove that pods reach the internet")
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
            egress=EgressTarget(self.egress.address, self.egress.port) if self.egress else None,
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
        return DatabasePlan(engine=database.engine, namespaces=tuple(namespaces.items()), ports=database.ports)

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
            database=Database(
                engine="cockroachdb", namespaces=dict(plan.database.namespaces), ports=plan.database.ports
            )
            if plan.database
            else None,
            budgets=BudgetSettings(**{name: getattr(plan.budgets, name) for name in BudgetSettings.model_fields}),
            egress=Egress(address=plan.egress.address, port=plan.egress.port) if plan.egress else None,
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
        size = {"nodes": nodes} if nodes is not None else {}
        topology = TOPOLOGIES[profile](name, regions=regions, pods=pods, timers=timers, **size)
    except ValueError as error:
        raise EnvironmentSpecError(str(error), where=f"lab:{profile}") from None
    return Environment.from_plan(topology.plan, provider=LabSettings(kind="lab", pods=pods, timers=timers))
