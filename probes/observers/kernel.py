"""Kernel routes and devices of every node: what any CNI's data path comes down to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from analysis.facts import FibRoute, Forwarding, Gap, Link
from analysis.plan import Plan
from probes.client import run_agent
from probes.cluster import Cluster
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh

WITHIN = timedelta(seconds=20)
MAIN_TABLE, LOCAL_TABLE = 254, 255
FORWARDING_KINDS = ("unicast", "blackhole", "unreachable", "prohibit", "throw")
PROTOCOLS = {2: "kernel", 3: "boot", 4: "static", 11: "zebra", 12: "bird", 16: "dhcp", 186: "bgp"}
TUNNEL_KINDS = ("vxlan", "ipip")


def observe_kernels(mesh: Mesh, probe_set: ProbeSet, table: int | None = None) -> Forwarding:
    """Read the kernels' tables through the probes on the hosts. A node without one is a gap.

    Args:
        mesh: the clusters.
        probe_set: the probes.
        table: the only routing table to read; None for all but the local one.
    """
    routes: list[FibRoute] = []
    links: list[Link] = []
    gaps: list[Gap] = list(probe_set.gaps)
    hosts = probe_set.on_hosts()
    if not hosts:
        gaps += (Gap(region, "kernel routes", "no probe runs in the nodes' network") for region in mesh.regions)
    for pod, tables in mesh.each(hosts, lambda pod: pod.region, _kernel_tables):
        if isinstance(tables, ProbeError):
            gaps.append(Gap(pod.region, f"node {pod.node}: kernel routes", str(tables)))
        else:
            routes += read_routes(pod.region, pod.node, tables, table)
            links += read_links(pod.region, pod.node, tables)
    return Forwarding(tuple(routes), tuple(links), gaps=tuple(gaps))


def routed_prefixes(cluster: Cluster, observer: ProbePod, _plan: Plan) -> set[IPv4Network]:
    """The prefixes that the kernel of a probe's node forwards. Raises ProbeError."""
    routes = read_routes(observer.region, observer.node, _kernel_tables(cluster, observer))
    return {route.prefix for route in routes if route.kind == "unicast"}


def _kernel_tables(cluster: Cluster, pod: ProbePod) -> dict[str, Any]:
    run = run_agent(cluster, pod.namespace, pod.name, [{"op": "kernel"}], within=WITHIN)
    tables = run.operations[0]
    if "error" in tables:
        raise ProbeError(f"{pod.identity}: {tables['error']}")
    return tables


def read_routes(region: str, node: str, tables: dict[str, Any], only: int | None = None) -> Iterable[FibRoute]:
    """The routes that packets may leave by; those to the node's own addresses are left out.

    Args:
        region: the node's.
        node: its name.
        tables: the agent's answer.
        only: the number of the one routing table that is wanted; None for all.
    """
    links = {link["index"]: link for link in tables["links"]}
    resolve = TunnelResolver(tables)
    for route in tables["routes"]:
        if route["table"] == LOCAL_TABLE or route["kind"] not in FORWARDING_KINDS:
            continue
        if only is not None and route["table"] != only:
            continue
        hops = [(_address(gateway), index, onlink) for gateway, index, onlink in route["hops"]]
        forwards = route["kind"] == "unicast"
        endpoints = [resolve(gateway, index) for gateway, index, _ in hops] if forwards else []
        tunnelled = any(links.get(index, {}).get("kind") in TUNNEL_KINDS for _, index, _ in hops)
        yield FibRoute(
            region=region,
            node=node,
            prefix=IPv4Network(route["prefix"]),
            kind=route["kind"],
            protocol=PROTOCOLS.get(route["protocol"], str(route["protocol"])),
            gateways=tuple((gateway, links.get(index, {}).get("name") or f"#{index}") for gateway, index, _ in hops)
            if forwards
            else (),
            tunnel_endpoints=tuple(endpoints) if tunnelled else (),
            onlink=bool(hops) and all(onlink for _, _, onlink in hops),
            metric=route["metric"],
        )


class TunnelResolver:
    """Finds where a tunnel device really sends what is routed to a gateway, in the kernel's own tables."""

    def __init__(self, tables: dict[str, Any]) -> None:
        self._kinds = {link["index"]: link["kind"] for link in tables["links"]}
        self._macs = {
            (entry["index"], entry["address"]): entry["mac"] for entry in tables["neighbours"] if entry["address"]
        }
        self._destinations = {
            (entry["index"], entry["mac"]): entry["address"] for entry in tables["forwarding"] if entry["address"]
        }

    def __call__(self, gateway: IPv4Address | None, index: int) -> IPv4Address | None:
        """The underlay address behind that gateway; None when the device is no tunnel or its tables do not tell."""
        if gateway is None:
            return None
        kind = self._kinds.get(index)
        if kind == "ipip":
            return gateway
        if kind != "vxlan":
            return None
        mac = self._macs.get((index, str(gateway)))
        return _address(self._destinations.get((index, mac)))


def read_links(region: str, node: str, tables: dict[str, Any]) -> Iterable[Link]:
    """The node's devices with their addresses."""
    for link in tables["links"]:
        own = [item["address"] for item in tables["addresses"] if item["index"] == link["index"] and item["address"]]
        yield Link(
            region=region,
            node=node,
            name=link["name"],
            kind=link["kind"],
            mtu=link["mtu"],
            up=link["up"],
            addresses=tuple(IPv4Address(text) for text in own),
            vni=link.get("vni"),
            port=link.get("port"),
        )


def _address(text: str | None) -> IPv4Address | None:
    return IPv4Address(text) if text else None
