"""FIB, tunnel endpoints, address sets of the packet filter."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from analysis.facts.gap import Gap


@dataclass(frozen=True)
class FibRoute:
    """A route as the kernel (or the CNI's tunnel map) forwards by it.

    Attributes:
        kind: "unicast", "blackhole", "unreachable", "prohibit", "local" or "throw".
        protocol: who installed it ("bird", "kernel", "boot", "static", "80", ...).
        gateways: next hops with their devices; several for ECMP, none for a route that ends on a device.
        tunnel_endpoints: underlay addresses that packets by this route really go to, one per gateway, found by
            following the gateway through the neighbour and forwarding tables of a VXLAN device, or the gateway
            itself on an IPIP device; None in a place where it cannot be told; empty for routes without tunnel.
    """

    region: str
    node: str
    prefix: IPv4Network
    kind: str
    protocol: str
    gateways: tuple[tuple[IPv4Address | None, str], ...] = ()
    tunnel_endpoints: tuple[IPv4Address | None, ...] = ()
    onlink: bool = False
    metric: int | None = None


@dataclass(frozen=True)
class Link:
    """A network device of a node. `kind` is the kernel's ("vxlan", "ipip", "veth", "" for physical)."""

    region: str
    node: str
    name: str
    kind: str
    mtu: int
    up: bool
    addresses: tuple[IPv4Address, ...] = ()
    vni: int | None = None
    port: int | None = None


@dataclass(frozen=True)
class FilterSet:
    """A named address set of the node's packet filter (Felix ipset or nftables set), as it is in the kernel."""

    region: str
    node: str
    name: str
    members: tuple[IPv4Network, ...]


@dataclass(frozen=True)
class Forwarding:
    """FIB, devices and address sets of every node."""

    routes: tuple[FibRoute, ...]
    links: tuple[Link, ...]
    filter_sets: tuple[FilterSet, ...] = ()
    gaps: tuple[Gap, ...] = ()
