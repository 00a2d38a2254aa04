"""What the cloud (or its stand-in) says of the regional networks: routes, peerings, gateways, rules, instances."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network

from analysis.facts.gap import Gap


@dataclass(frozen=True)
class Network:
    """A VPC or VNet and its subnets, as the cloud reports them."""

    region: str
    cidr: IPv4Network
    subnets: tuple[IPv4Network, ...]


class RouteTarget(str, Enum):
    """Where a cloud's route leads."""

    LOCAL = "local"
    PEERING = "peering"
    INTERNET = "internet"
    INSTANCE = "instance"
    NOWHERE = "nowhere"
    """A dead end: the cloud calls it a blackhole, or its next hop is "None"."""


@dataclass(frozen=True)
class CloudRoute:
    """A route of a route table. `via` is the name of the peering, gateway or instance, "" for the others."""

    destination: IPv4Network
    target: RouteTarget
    via: str = ""


@dataclass(frozen=True)
class RouteTable:
    """A route table and the subnets that it is associated with."""

    region: str
    name: str
    subnets: tuple[IPv4Network, ...]
    routes: tuple[CloudRoute, ...]


@dataclass(frozen=True)
class PeeringEnd:
    """A peering of two networks as one of them sees it; a whole one has two ends.

    Attributes:
        region: whose network looks.
        name: what the peering is called there; routes name it in `CloudRoute.via`.
        peer_region: the region at the other end, "" when it is none of the plan's.
        peer_network: the other network's range, None when not told.
        active: traffic can pass, by the cloud's word.
        state: that word ("active", "pending-acceptance", "Connected", "Initiated").
        allows_traffic: addresses of the other network may come in; None where the cloud has no such switch.
        allows_forwarded: so may packets that another network's host has only forwarded; None likewise.
    """

    region: str
    name: str
    peer_region: str
    peer_network: IPv4Network | None
    active: bool
    state: str
    allows_traffic: bool | None = None
    allows_forwarded: bool | None = None


@dataclass(frozen=True)
class InternetGateway:
    """A way out to the internet. `network_attached` says that it belongs to the region's network."""

    region: str
    name: str
    network_attached: bool


@dataclass(frozen=True)
class SecurityRule:
    """A rule of a security group, for packets that come in.

    Attributes:
        name: as the cloud shows it, or the rule's description.
        allow: it lets in; else it keeps out (Azure only).
        protocol: IP protocol number (6 TCP, 17 UDP, 1 ICMP, 4 IP-in-IP), None for all.
        ports: first and last destination port, None for all (and where the protocol has none).
        icmp: ICMP type and code, None for all.
        sources: where from; tags of the cloud ("VirtualNetwork") resolved to ranges.
        priority: lower is looked at first (Azure); None where all rules count alike (AWS).
        builtin: the cloud's own, not ours.
    """

    name: str
    allow: bool
    protocol: int | None
    sources: tuple[IPv4Network, ...]
    ports: tuple[int, int] | None = None
    icmp: tuple[int, int | None] | None = None
    priority: int | None = None
    builtin: bool = False


@dataclass(frozen=True)
class SecurityGroup:
    """A security group (AWS) or network security group (Azure). What no rule lets in is kept out."""

    region: str
    name: str
    rules: tuple[SecurityRule, ...]


@dataclass(frozen=True)
class Instance:
    """A node's virtual machine.

    Attributes:
        node: name of the Kubernetes node that it is, "" when it is none.
        public_address: what the internet knows it by, None without one.
        forwards_foreign: it may send and receive packets under other addresses than its own (source/destination check
            off; IP forwarding on); None when not told.
        groups: names of the security groups that guard it.
    """

    region: str
    node: str
    address: IPv4Address
    public_address: IPv4Address | None = None
    forwards_foreign: bool | None = None
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Networks:
    """The regional networks, and everything in the cloud that a packet between two of them meets."""

    networks: tuple[Network, ...]
    route_tables: tuple[RouteTable, ...] = ()
    peerings: tuple[PeeringEnd, ...] = ()
    gateways: tuple[InternetGateway, ...] = ()
    security_groups: tuple[SecurityGroup, ...] = ()
    instances: tuple[Instance, ...] = ()
    gaps: tuple[Gap, ...] = ()
