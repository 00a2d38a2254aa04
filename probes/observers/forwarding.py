"""FIB, devices and address sets of every node, as its kernel has them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, summarize_address_range
from typing import Any

from analysis.facts import FibRoute, FilterSet, Forwarding, Gap, Link
from probes.calico import CONTAINER, calico_node_pods
from probes.client import run_agent
from probes.cluster import Cluster, KubeObject
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh

WITHIN = timedelta(seconds=20)
LOCAL_TABLE = 255
FORWARDING_KINDS = ("unicast", "blackhole", "unreachable", "prohibit", "throw")
PROTOCOLS = {2: "kernel", 3: "boot", 4: "static", 11: "zebra", 12: "bird", 16: "dhcp", 186: "bgp"}
SET_PREFIX = "cali40"
SETS_COMMAND = ["/bin/sh", "-c", "ipset save 2>/dev/null; nft -j list sets 2>/dev/null; true"]
"""Felix keeps its sets in one place or the other, by the mode it runs in; the empty one says nothing."""


def observe_forwarding(mesh: Mesh, probe_set: ProbeSet) -> Forwarding:
    """Read the kernels' tables through the probes on the hosts, and Felix's sets in calico-node."""
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
            routes += read_routes(pod.region, pod.node, tables)
            links += read_links(pod.region, pod.node, tables)
    sets, set_gaps = _filter_sets(mesh)
    return Forwarding(tuple(routes), tuple(links), tuple(sets), (*gaps, *set_gaps))


def _kernel_tables(cluster: Cluster, pod: ProbePod) -> dict[str, Any]:
    run = run_agent(cluster, pod.namespace, pod.name, [{"op": "kernel"}], within=WITHIN)
    tables = run.operations[0]
    if "error" in tables:
        raise ProbeError(f"{pod.identity}: {tables['error']}")
    return tables


def read_routes(region: str, node: str, tables: dict[str, Any]) -> Iterable[FibRoute]:
    """The routes that packets may leave by; those to the node's own addresses are left out."""
    links = {link["index"]: link for link in tables["links"]}
    resolve = TunnelResolver(tables)
    for route in tables["routes"]:
        if route["table"] == LOCAL_TABLE or route["kind"] not in FORWARDING_KINDS:
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


TUNNEL_KINDS = ("vxlan", "ipip")


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


def _filter_sets(mesh: Mesh) -> tuple[list[FilterSet], list[Gap]]:
    sets: list[FilterSet] = []
    gaps: list[Gap] = []
    pods: list[tuple[str, KubeObject]] = []
    for region, found in mesh.each_region(calico_node_pods):
        if isinstance(found, ProbeError):
            gaps.append(Gap(region, "address sets of the packet filter", str(found)))
        else:
            pods += ((region, pod) for pod in found)

    def ask(cluster: Cluster, item: tuple[str, KubeObject]) -> str:
        metadata = item[1]["metadata"]
        completed = cluster.exec(
            metadata["namespace"], metadata["name"], SETS_COMMAND, within=WITHIN, container=CONTAINER
        )
        return completed.stdout.decode("utf-8", "replace")

    for (region, pod), told in mesh.each(pods, lambda item: item[0], ask):
        node = pod["spec"]["nodeName"]
        subject = f"node {node}: address sets of the packet filter"
        if isinstance(told, ProbeError):
            gaps.append(Gap(region, subject, str(told)))
            continue
        try:
            found_sets = [FilterSet(region, node, name, members) for name, members in read_sets(told)]
        except (ValueError, KeyError, TypeError) as error:
            gaps.append(Gap(region, subject, f"the answer is not understood: {error}"))
            continue
        if not found_sets:
            gaps.append(Gap(region, subject, f"no set named {SET_PREFIX}… in ipset or nftables"))
        sets += found_sets
    return sets, gaps


def read_sets(told: str) -> list[tuple[str, tuple[IPv4Network, ...]]]:
    """Calico's IPv4 sets in what `ipset save` and `nft -j list sets` print, one after the other.

    Raises:
        ValueError: an address or the JSON is not understood.
    """
    members: dict[str, list[IPv4Network]] = {}
    for line in told.splitlines():
        words = line.split()
        if words[:1] == ["create"] and words[1].startswith(SET_PREFIX):
            members.setdefault(words[1], [])
        elif words[:1] == ["add"] and words[1] in members and "," not in words[2]:
            members[words[1]].append(IPv4Network(words[2]))
        elif line.startswith("{"):
            for item in json.loads(line).get("nftables", ()):
                found = item.get("set") or {}
                if str(found.get("name", "")).startswith(SET_PREFIX):
                    networks = (_nft_networks(element) for element in found.get("elem") or ())
                    members.setdefault(found["name"], []).extend(network for many in networks for network in many)
    return [(name, tuple(networks)) for name, networks in members.items()]


def _nft_networks(element: Any) -> Iterable[IPv4Network]:
    """An element of a set: an address, a prefix, a range, or one of these with options around it."""
    if isinstance(element, str):
        return [IPv4Network(element)]
    if "elem" in element:
        return _nft_networks(element["elem"]["val"])
    if "prefix" in element:
        return [IPv4Network(f"{element['prefix']['addr']}/{element['prefix']['len']}")]
    if "range" in element:
        first, last = element["range"]
        return summarize_address_range(IPv4Address(first), IPv4Address(last))
    return []  # a concatenation: no set of plain addresses


def _address(text: str | None) -> IPv4Address | None:
    return IPv4Address(text) if text else None
