"""FIB, devices and address sets of every node, as its kernel has them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, summarize_address_range
from typing import Any

from analysis.facts import FilterSet, Forwarding, Gap
from probes.calico import CONTAINER, calico_node_pods
from probes.cluster import Cluster, KubeObject
from probes.deploy import ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.observers.kernel import observe_kernels

WITHIN = timedelta(seconds=20)
SET_PREFIX = "cali40"
SETS_COMMAND = ["/bin/sh", "-c", "ipset save 2>/dev/null; nft -j list sets 2>/dev/null; true"]
"""Felix keeps its sets in one place or the other, by the mode it runs in; the empty one says nothing."""


def observe_forwarding(mesh: Mesh, probe_set: ProbeSet) -> Forwarding:
    """Read the kernels' tables through the probes on the hosts, and Felix's sets in calico-node."""
    kernels = observe_kernels(mesh, probe_set)
    sets, gaps = _filter_sets(mesh)
    return replace(kernels, filter_sets=tuple(sets), gaps=(*kernels.gaps, *gaps))


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
