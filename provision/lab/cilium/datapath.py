"""A node's datapath: Cilium's devices and routes, and routing tables that play its BPF maps.

In Cilium the main table only leads pod traffic to `cilium_host`, where BPF programs look up the endpoint or the tunnel.
The lab has no BPF: two routing tables that are looked up before the main one play the two maps. What is in neither
falls through to `cilium_host` and is lost there, as a packet is for which Cilium has no tunnel endpoint.

`Datapath` brings a node's kernel to a state; `tunnel_map` and `endpoint_map` read the kernel, whoever wrote there.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from provision.lab import kernel
from provision.lab.cilium.state import TunnelEntry
from provision.lab.topology import CILIUM_PORT, CILIUM_VNI, UNDERLAY_MTU, vtep_mac

HOST_DEVICE = "cilium_host"
NET_DEVICE = "cilium_net"
TUNNEL_DEVICE = "cilium_vxlan"
HEADER = 50
ROUTE_MTU = UNDERLAY_MTU - HEADER
"""Cilium's devices have the underlay's MTU; the room for the tunnel's header is left by the routes."""

ENDPOINT_TABLE = 1001
"""Plays the map `cilium_lxc`: the node's own pods, each with its device."""

TUNNEL_TABLE = 1002
"""Plays the map `cilium_tunnel_map`: the pod CIDR of every other node, with the node to send to."""

FILTER_TABLE = "ip cilium"
POOL_SETTING = "cluster-pool-ipv4-cidr"
MTU_SETTING = "mtu"
"""The MTU of devices; none or 0 for that of the node's own device."""

_PREFERENCES = {ENDPOINT_TABLE: 21, TUNNEL_TABLE: 22}
_TEAR_DOWN = (
    f"link del {HOST_DEVICE}",
    f"link del {TUNNEL_DEVICE}",
    *(f"rule del preference {preference}" for preference in _PREFERENCES.values()),
)
"""Undoes `devices`: routes go with their devices. Pods stay connected."""


@dataclass(frozen=True)
class LocalNode:
    """What a node is told of itself.

    Attributes:
        address: its InternalIP, where the tunnels to it end.
        pod_cidr: the addresses of its pods.
        router: its CiliumInternalIP: the address of `cilium_host`, which its pods have as their gateway.
        pools: the addresses of its cluster's pods, towards which nothing is masqueraded.
        mtu: of its devices and its pods' devices; their routes leave room for the header.
    """

    address: IPv4Address
    pod_cidr: IPv4Network
    router: IPv4Address
    pools: tuple[IPv4Network, ...]
    mtu: int = UNDERLAY_MTU

    @property
    def route_mtu(self) -> int:
        """The MTU of routes into the tunnels."""
        return self.mtu - HEADER


@dataclass(frozen=True, order=True)
class Endpoint:
    """A pod of a node, and the node's end of its veth pair."""

    address: IPv4Address
    device: str


class Datapath:
    """One node's kernel, and what was last put into it. Methods block: call them in a thread, one at a time.

    Args:
        netns: the node's network namespace.
        address: its InternalIP.
    """

    def __init__(self, netns: str, address: IPv4Address) -> None:
        self._netns = netns
        self._address = address
        self._local: LocalNode | None = None
        self._tunnels: frozenset[TunnelEntry] = frozenset()

    def set_up(self, router: IPv4Address, pod_cidr: IPv4Network, settings: Mapping[str, str]) -> None:
        """Make the node's devices, its own routes and its masquerade, unless they are as asked for already.

        Args:
            router: the node's CiliumInternalIP.
            pod_cidr: the addresses of its pods.
            settings: cilium-config.

        Raises:
            KernelError: the kernel refused; nothing is left of the attempt.
        """
        pools = tuple(map(IPv4Network, settings.get(POOL_SETTING, str(pod_cidr)).split()))
        local = LocalNode(self._address, pod_cidr, router, pools, int(settings.get(MTU_SETTING) or UNDERLAY_MTU))
        if local == self._local:
            return
        if self._local is not None:
            self._local, self._tunnels = None, frozenset()
            kernel.forget("ip", self._netns, _TEAR_DOWN)
        try:
            kernel.ip(self._netns, devices(local))
            kernel.load_rules(self._netns, FILTER_TABLE, masquerade(local))
        except kernel.KernelError:
            kernel.forget("ip", self._netns, _TEAR_DOWN)
            raise
        self._local = local

    def sync(self, entries: Collection[TunnelEntry]) -> None:
        """Bring the tunnel map, its neighbours, and the routes that Cilium shows to these entries, by what differs.

        Raises:
            KernelError: the kernel refused; the next call tries again what is missing.
        """
        if self._local is None:
            return
        wanted = frozenset(entries)
        gone, fresh = self._tunnels - wanted, wanted - self._tunnels
        kept = {entry.prefix for entry in wanted}
        orders = [order for entry in gone if entry.prefix not in kept for order in remove_tunnel(entry)]
        orders += [f"neigh del {node} dev {TUNNEL_DEVICE}" for node in _ends(gone) - _ends(wanted)]
        if orders:
            kernel.forget("ip", self._netns, orders)
        kernel.ip(self._netns, [order for entry in sorted(fresh) for order in add_tunnel(self._local, entry)])
        self._tunnels = wanted

    @property
    def mtu(self) -> int:
        """The MTU of devices on this node."""
        return self._local.mtu if self._local is not None else UNDERLAY_MTU

    def tunnel_map(self) -> tuple[TunnelEntry, ...]:
        """The tunnel map as the kernel has it now.

        Raises:
            KernelError: it could not be read.
        """
        return tunnel_map(self._netns)


def devices(local: LocalNode) -> tuple[str, ...]:
    """Orders for `ip` that make a node's devices, its own routes, and the rules that look up the maps."""
    return (
        f"link add {HOST_DEVICE} mtu {local.mtu} arp off type veth peer name {NET_DEVICE} mtu {local.mtu}",
        f"link set {NET_DEVICE} arp off up",
        f"link set {HOST_DEVICE} up",
        f"address add {local.router}/32 dev {HOST_DEVICE}",
        # One source port for all flows: each would cost every node on its way two more connections to track.
        f"link add {TUNNEL_DEVICE} address {vtep_mac(local.address)} mtu {local.mtu} type vxlan external "
        f"dstport {CILIUM_PORT} srcport {CILIUM_PORT} {CILIUM_PORT + 1}",
        f"link set {TUNNEL_DEVICE} up",
        f"route add {local.router} dev {HOST_DEVICE} proto kernel scope link",
        f"route add {local.pod_cidr} via {local.router} dev {HOST_DEVICE} proto kernel src {local.router}",
        *(f"rule add preference {preference} lookup {table}" for table, preference in _PREFERENCES.items()),
    )


def add_tunnel(local: LocalNode, entry: TunnelEntry) -> tuple[str, ...]:
    """Orders for `ip`: the neighbour, the entry of the tunnel map, and the route that Cilium shows."""
    pod_cidr, node = entry.prefix, entry.endpoint
    return (
        f"neigh replace {node} lladdr {vtep_mac(node)} dev {TUNNEL_DEVICE} nud permanent",
        f"route replace {pod_cidr} table {TUNNEL_TABLE} encap ip id {CILIUM_VNI} dst {node} "
        f"via {node} dev {TUNNEL_DEVICE} onlink src {local.router} mtu {local.route_mtu}",
        f"route replace {pod_cidr} via {local.router} dev {HOST_DEVICE} proto kernel src {local.router} "
        f"mtu {local.route_mtu}",
    )


def remove_tunnel(entry: TunnelEntry) -> tuple[str, ...]:
    """Orders for `ip` that remove an entry from the tunnel map, and its route from the main table."""
    return f"route del {entry.prefix} table {TUNNEL_TABLE}", f"route del {entry.prefix} dev {HOST_DEVICE}"


def _ends(entries: Collection[TunnelEntry]) -> set[IPv4Address]:
    return {entry.endpoint for entry in entries}


def masquerade(local: LocalNode) -> str:
    """The nftables table of a node: Cilium's two rules, told to `iptables` in its own words.

    What pods send to the outside gets the node's address; what the node itself sends into a tunnel gets the router's,
    for which the answer finds its way back through the tunnel. They come before kube-proxy's masquerade, which would
    choose the node's address for the latter.
    """
    inside = ", ".join(map(str, local.pools))
    return f"""\
table {FILTER_TABLE} {{
    chain POSTROUTING {{
        type nat hook postrouting priority srcnat - 1
        jump CILIUM_POST_nat
    }}
    chain CILIUM_POST_nat {{
        ip saddr {local.pod_cidr} ip daddr != {{ {inside} }} oifname != "cilium_*" counter masquerade \
comment "cilium masquerade non-cluster"
        ip saddr != {local.pod_cidr} oifname "{TUNNEL_DEVICE}" counter snat to {local.router} \
comment "cilium host->cluster masquerade"
    }}
}}
"""


def tunnel_map(netns: str) -> tuple[TunnelEntry, ...]:
    """The tunnel map of a node as its kernel has it now.

    Raises:
        KernelError: it could not be read.
    """
    rows = [row for row in _read_table(netns, TUNNEL_TABLE) if row.get("encap") == "ip"]
    return tuple(sorted(TunnelEntry(IPv4Network(row["dst"]), IPv4Address(row["encap dst"])) for row in rows))


def endpoint_map(netns: str) -> tuple[Endpoint, ...]:
    """The pods that a node's kernel delivers to.

    Raises:
        KernelError: it could not be read.
    """
    return tuple(sorted(Endpoint(IPv4Address(row["dst"]), row["dev"]) for row in _read_table(netns, ENDPOINT_TABLE)))


def _read_table(netns: str, table: int) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["ip", "-n", netns, "-json", "-4", "route", "show", "table", str(table)], capture_output=True, text=True
    )
    if done.returncode:
        # A table that nothing was ever put into does not exist yet.
        if "does not exist" in done.stderr:
            return []
        raise kernel.KernelError(f"in {netns}: table {table} cannot be read: {done.stderr.strip()}")
    rows: list[dict[str, Any]] = json.loads(done.stdout, object_pairs_hook=_distinct)
    return rows


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """iproute2 calls both the destination and the tunnel's end "dst", in one object; the tunnel's comes second."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[f"encap {key}" if key in found else key] = value
    return found
