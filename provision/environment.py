"""The environment file as typed data: what somebody designed, and where its clusters are.

Its sections are in `provision.sections`. docs/environment.md explains the file to its readers, and the descriptions of
the models' fields are theirs too, by way of the JSON schema. What a single value must be like is said with the models;
what values must be like together is in `provision.environment_checks`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field

from analysis.plan import Budgets, Cni, EgressTarget, Encapsulation, Plan, RegionPlan, UnderlayPlan
from provision.environment_values import DnsLabel, FilePath, Whole, Word, at_least
from provision.errors import EnvironmentSpecError
from provision.lab.host import database_engine
from provision.lab.topology import REFLECTOR_LABEL, TOPOLOGIES, Timers
from provision.sections.access import DnsSettings, Egress, Outside, Probes, Ssh
from provision.sections.budgets import BudgetSettings
from provision.sections.database import Database
from provision.sections.policy import PolicyIntent
from provision.sections.provider import AttachSettings, LabSettings, ProviderSettings
from provision.sections.regions import CniSettings, Region, RouteReflectors, Underlay
from provision.sections.section import Section

DEFAULT_KUBECONFIG = Path("~/.kube/config")
DEFAULT_BLOCK_SIZE = {Cni.CALICO_BGP: 26, Cni.CILIUM_CLUSTERMESH: 24}
DEFAULT_ENCAPSULATION = {Cni.CALICO_BGP: Encapsulation.IPIP, Cni.CILIUM_CLUSTERMESH: Encapsulation.VXLAN}
OTHER_CLOUD = "other"
CLOUDS = {"aws-calico": "aws", "azure-cilium": "azure"}
"""Whose cloud it is where the file does not say, by profile."""

DNS_HOST = 10
"""kubeadm and k3s give kube-dns the tenth address of the service range."""


class Environment(Section):
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
            database=self.database.plan(region.name for region in self.regions) if self.database else None,
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
            database=Database.from_plan(plan.database) if plan.database else None,
            policy=PolicyIntent.from_plan(plan.policy) if plan.policy else None,
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
        size: dict[str, Any] = {"nodes": nodes} if nodes is not None else {}
        topology = TOPOLOGIES[profile](
            name, regions=regions, pods=pods, timers=timers, engine=database_engine(), **size
        )
    except ValueError as error:
        raise EnvironmentSpecError(str(error), where=f"lab:{profile}") from None
    return Environment.from_plan(topology.plan, provider=LabSettings(kind="lab", pods=pods, timers=timers))
