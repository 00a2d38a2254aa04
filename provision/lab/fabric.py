"""The links and routes under the clusters: VPC routers, peerings, node links, internet gateways.

`batches` says what to build, in the language of `ip`; `build` does it. A VPC is one namespace: a bridge that the nodes
are plugged into, and the router's own legs to the peered VPCs and to the internet. What its rules let through says
`provision.lab.cloud`.

Devices are named after what is at their other end, so that a router's `ip link` reads as a map; the alias of a device
is the name that the cloud would give what it leads to: instance, peering or gateway.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from provision.lab import cloud, kernel, netns
from provision.lab.cloud import SUBNET_BRIDGE
from provision.lab.node_files import write_node_files
from provision.lab.topology import (
    EGRESS,
    INTERNET,
    OPERATOR,
    STRANGER,
    UNDERLAY_MTU,
    LabNode,
    LabRegion,
    LabTopology,
)

NODE_INTERFACE = "eth0"

PEERING_RATE = "300mbit"
"""Regions are joined by lines of a limited rate. Without one, veth would carry plain packets at the speed of memory and
encapsulated ones at the speed of the processor, and the share of throughput that pods get would say nothing."""

_SIDE_BY_SIDE = 4
_GATEWAY_LINKS = int(IPv4Address("169.254.200.0"))

_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    # The lab is judged by its routes; the strict reverse path filter would hide a wrong one behind a drop.
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    # Routers answer every packet whose time to live is over, so that many paths can be traced at once.
    "net/ipv4/icmp_ratelimit": "0",
    # IPv4 only: no router solicitations and duplicate address detection on hundreds of links.
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
}
_PING_GROUPS = "net/ipv4/ping_group_range"


@dataclass(frozen=True)
class Batch:
    """Commands for `ip` in one network namespace."""

    netns: str
    commands: tuple[str, ...]


@dataclass(frozen=True)
class GatewayLink:
    """The link between a VPC router and the internet, a /30 of its own."""

    region: str
    router_address: IPv4Interface
    internet_address: IPv4Interface


def gateway_links(topology: LabTopology) -> tuple[GatewayLink, ...]:
    """One internet gateway per region."""
    return tuple(
        GatewayLink(
            region.name,
            IPv4Interface((_GATEWAY_LINKS + 4 * region.index + 1, 30)),
            IPv4Interface((_GATEWAY_LINKS + 4 * region.index + 2, 30)),
        )
        for region in topology.regions
    )


def namespaces(topology: LabTopology) -> tuple[str, ...]:
    """Every namespace of the fabric: routers, nodes, the internet."""
    return (
        *(region.router for region in topology.regions),
        *(node.netns for node in topology.nodes),
        INTERNET,
    )


def batches(topology: LabTopology) -> tuple[tuple[Batch, ...], ...]:
    """What to build, in stages: links first (a link appears in two namespaces), then addresses and routes.

    The batches of one stage do not depend on each other.
    """
    links = tuple(_links(topology, region) for region in topology.regions)
    configuration = (
        *(_router(topology, region) for region in topology.regions),
        *(_node(region, node) for region in topology.regions for node in region.nodes),
        _internet(topology),
    )
    return links, configuration


def build(topology: LabTopology) -> None:
    """Make the whole fabric in the calling process's `/run/netns`.

    Raises:
        KernelError: a command failed.
        OSError: a namespace could not be made.
    """
    write_node_files(topology)
    for name in namespaces(topology):
        netns.create(name)
        with netns.inside(name):
            for key, value in _SYSCTLS.items():
                _write_sysctl(key, value)
            _allow_ping_to_all()
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        for stage in batches(topology):
            list(pool.map(_run_batch, stage))
        list(pool.map(partial(_load_rules, topology), topology.regions))
        list(pool.map(partial(_limit_peerings, topology), topology.regions))


def _links(topology: LabTopology, region: LabRegion) -> Batch:
    """The router's bridge, and every link that the router is the first end of."""
    return Batch(
        region.router,
        (
            f"link add {SUBNET_BRIDGE} type bridge mcast_snooping 0",
            *(
                f"link add {node.alias} mtu {UNDERLAY_MTU} type veth "
                f"peer name {NODE_INTERFACE} mtu {UNDERLAY_MTU} netns {node.netns}"
                for node in region.nodes
            ),
            *(
                f"link add {peering.b} mtu {UNDERLAY_MTU} type veth "
                f"peer name {peering.a} mtu {UNDERLAY_MTU} netns {topology.region(peering.b).router}"
                for peering in topology.peerings
                if peering.a == region.name
            ),
            f"link add {INTERNET} type veth peer name {region.name} netns {INTERNET}",
        ),
    )


def _router(topology: LabTopology, region: LabRegion) -> Batch:
    """Bridge and legs up; routes to the peered networks and to the internet; the rest of the VPC leads nowhere."""
    gateway = gateway_links(topology)[region.index]
    commands = [
        f"link set {SUBNET_BRIDGE} up",
        f"address add {region.gateway}/{region.plan.node_cidr.prefixlen} dev {SUBNET_BRIDGE}",
        *(f"link set {node.alias} alias {node.name} master {SUBNET_BRIDGE} up" for node in region.nodes),
        f"address add {gateway.router_address} dev {INTERNET}",
        f"link set {INTERNET} alias {cloud.gateway_name(topology, region.name)} up",
        f"route add default via {gateway.internet_address.ip}",
        f"route add blackhole {region.plan.network}",
    ]
    for peering, other in zip(topology.peerings_of(region.name), topology.neighbours(region.name), strict=True):
        ends = (peering.a_address, peering.b_address)
        mine, theirs = ends if region.name == peering.a else reversed(ends)
        commands += [
            f"address add {mine} dev {other.name}",
            f"link set {other.name} alias {cloud.peering_name(topology, region.name, other.name)} up",
            f"route add {other.plan.network} via {theirs.ip}",
        ]
    return Batch(region.router, tuple(commands))


def _node(region: LabRegion, node: LabNode) -> Batch:
    return Batch(
        node.netns,
        (
            f"address add {node.address}/{region.plan.node_cidr.prefixlen} dev {NODE_INTERFACE}",
            f"link set {NODE_INTERFACE} up",
            f"route add default via {region.gateway}",
        ),
    )


def _internet(topology: LabTopology) -> Batch:
    """Hosts with addresses of their own, and routes to the instances' public ones; nobody out there knows others."""
    commands = [f"address add {address}/32 dev lo" for address in (EGRESS.address, OPERATOR, STRANGER)]
    for link in gateway_links(topology):
        commands += [
            f"address add {link.internet_address} dev {link.region}",
            f"link set {link.region} up",
            f"route add {topology.region(link.region).public_network} via {link.router_address.ip}",
        ]
    return Batch(INTERNET, tuple(commands))


def _write_sysctl(key: str, value: str) -> None:
    file = Path("/proc/sys", key)
    try:
        file.write_text(value)
    except FileNotFoundError:
        if not key.startswith("net/ipv6/"):  # a kernel without IPv6 has nothing to switch off
            raise


def _allow_ping_to_all() -> None:
    """Ping needs no privileges then, as container runtimes have it."""
    try:
        _write_sysctl(_PING_GROUPS, "0 2147483647")
    except OSError:  # EINVAL: the lab's user namespace has a single group, 0
        _write_sysctl(_PING_GROUPS, "0 0")


def _run_batch(batch: Batch) -> None:
    kernel.ip(batch.netns, batch.commands)


def _limit_peerings(topology: LabTopology, region: LabRegion) -> None:
    kernel.tc(
        region.router,
        (
            f"qdisc add dev {other.name} root tbf rate {PEERING_RATE} burst 128kb latency 50ms"
            for other in topology.neighbours(region.name)
        ),
    )


def _load_rules(topology: LabTopology, region: LabRegion) -> None:
    kernel.load_tables(region.router, cloud.tables(topology, region))
