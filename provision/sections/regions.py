"""The regions, the mesh that joins them, and the network below it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from analysis.plan import Cni, Encapsulation, UnderlayPlan
from provision.environment_values import (
    Address,
    ClusterId,
    ClusterName,
    DnsLabel,
    DnsName,
    FilePath,
    Network,
    PortRange,
    Selector,
    Source,
    Whole,
    Word,
)
from provision.lab.topology import REFLECTOR_LABEL
from provision.sections.section import Section


class RouteReflectors(Section):
    """Which nodes reflect routes: either by label or by name."""

    label: Selector | None = Field(
        default=None, description="the label that the reflectors have", examples=[f"{REFLECTOR_LABEL}=true"]
    )
    nodes: tuple[DnsName, ...] = Field(
        default=(), description="the reflectors' node names, where they have no label", examples=[["node-1"]]
    )


class Region(Section):
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


class CniSettings(Section):
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


class Underlay(Section):
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
