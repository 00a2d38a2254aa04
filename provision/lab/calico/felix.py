"""Felix: a node's tunnel device, its tunnel endpoints, and its packet filter table.

What should be there is computed by pure functions from the objects; `Dataplane` brings one node's kernel to it, by
differences for the endpoints and in one transaction for the table, and leaves alone what did not change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from provision.lab import kernel
from provision.lab.calico.birdconfig import TUNNEL_DEVICE
from provision.lab.calico.resources import CalicoCluster, CalicoNode, FelixConfiguration
from provision.lab.topology import UNDERLAY_MTU, VXLAN_PORT

TUNNEL_MTU = UNDERLAY_MTU - 50
TABLE = "ip calico"


@dataclass(frozen=True)
class TunnelDevice:
    """The node's own end: the device's address and MAC, the node's address that tunnels start from, VNI and MTU."""

    address: IPv4Address
    mac: str
    local: IPv4Address
    vni: int
    mtu: int = TUNNEL_MTU


@dataclass(frozen=True, order=True)
class TunnelEndpoint:
    """Another node's end: its tunnel address and MAC, and the node's address that tunnels to it go to."""

    address: IPv4Address
    mac: str
    remote: IPv4Address


@dataclass(frozen=True)
class DataplaneState:
    """What a node's kernel should hold. `device` is None until the node has a tunnel address."""

    device: TunnelDevice | None
    endpoints: frozenset[TunnelEndpoint]
    rules: str


def desired_state(cluster: CalicoCluster, node: CalicoNode, tunnel_nodes: Iterable[CalicoNode]) -> DataplaneState:
    """What the objects ask of the node's kernel.

    The endpoints are those of every cluster's nodes. Real Calico knows no tunnel endpoint of another cluster's nodes
    unless clusters are federated, and with IPIP it needs none: the next hop of a route is the endpoint. VXLAN stands in
    for IPIP here, so the lab fills the map that IPIP does without from the other clusters' Node objects.
    """
    endpoints = frozenset(
        TunnelEndpoint(other.tunnel_address, other.tunnel_mac, other.address.ip)
        for other in tunnel_nodes
        if other.address.ip != node.address.ip and other.tunnel_address is not None and other.tunnel_mac is not None
    )
    device = None
    if node.tunnel_address is not None and node.tunnel_mac is not None:
        felix = cluster.felix
        device = TunnelDevice(node.tunnel_address, node.tunnel_mac, node.address.ip, felix.vxlan_vni, tunnel_mtu(felix))
    return DataplaneState(device, endpoints, filter_table(cluster))


def tunnel_mtu(felix: FelixConfiguration) -> int:
    """The MTU of the tunnel device; Calico gives new pods the same."""
    return felix.vxlan_mtu or TUNNEL_MTU


def filter_table(cluster: CalicoCluster) -> str:
    """The nftables table of every node of the cluster, sets and chains named as Felix names them."""
    own_nodes = [IPv4Network(node.address.ip) for node in cluster.nodes]
    hosts = [*own_nodes, *cluster.felix.external_nodes]
    pools = [pool.cidr for pool in cluster.pools]
    masquerading = [pool.cidr for pool in cluster.pools if pool.nat_outgoing]
    return f"""\
table {TABLE} {{
{_address_set("cali40all-hosts-net", hosts)}
{_address_set("cali40all-vxlan-net", hosts)}
{_address_set("cali40all-ipam-pools", pools)}
{_address_set("cali40masq-ipam-pools", masquerading)}
    chain raw-PREROUTING {{
        type filter hook prerouting priority raw
        iifname "cali*" fib saddr . iif oif 0 counter drop comment "Drop spoofed packets from workloads"
    }}
    chain filter-INPUT {{
        type filter hook input priority filter
        udp dport {VXLAN_PORT} jump filter-cali-INPUT
    }}
    chain filter-cali-INPUT {{
        ip saddr @cali40all-vxlan-net counter accept comment "Allow IPv4 VXLAN packets from allowed hosts"
        counter drop comment "Drop IPv4 VXLAN packets from non-allowed hosts"
    }}
    chain nat-POSTROUTING {{
        type nat hook postrouting priority srcnat
        jump nat-cali-nat-outgoing
    }}
    chain nat-cali-nat-outgoing {{
        ip saddr @cali40masq-ipam-pools ip daddr != @cali40all-ipam-pools counter masquerade
    }}
}}
"""


def _address_set(name: str, members: Iterable[IPv4Network]) -> str:
    # An interval set takes no range twice, and one that lies in another adds nothing.
    networks = sorted(set(members), key=lambda network: network.prefixlen)
    outermost: list[IPv4Network] = []
    for network in networks:
        if not any(network.subnet_of(known) for known in outermost):
            outermost.append(network)
    elements = f"\n        elements = {{ {', '.join(map(str, sorted(outermost)))} }}" if outermost else ""
    return f"""\
    set {name} {{
        type ipv4_addr
        flags interval{elements}
    }}"""


class Dataplane:
    """One node's kernel, and what was last put into it. `apply` blocks: call it in a thread, one call at a time."""

    def __init__(self, netns: str) -> None:
        self._netns = netns
        self._applied = DataplaneState(None, frozenset(), "")

    def apply(self, state: DataplaneState) -> None:
        """Bring the kernel to that state.

        Raises:
            KernelError: the kernel refused; the next call tries again what is missing.
        """
        if state.device != self._applied.device:
            if not self._resized(state.device):
                self._set_device(state.device)
                self._applied = replace(self._applied, endpoints=frozenset())
            self._applied = replace(self._applied, device=state.device)
        if state.device is not None and state.endpoints != self._applied.endpoints:
            self._set_endpoints(state.endpoints)
            self._applied = DataplaneState(state.device, state.endpoints, self._applied.rules)
        if state.rules != self._applied.rules:
            kernel.load_rules(self._netns, TABLE, state.rules)
            self._applied = state

    def _resized(self, device: TunnelDevice | None) -> bool:
        """Whether only the MTU was another, and is changed now: the device stays, and with it all that uses it."""
        before = self._applied.device
        if before is None or device is None or replace(before, mtu=device.mtu) != device:
            return False
        kernel.ip(self._netns, [f"link set {TUNNEL_DEVICE} mtu {device.mtu}"])
        return True

    def _set_device(self, device: TunnelDevice | None) -> None:
        if self._applied.device is not None:
            kernel.forget("ip", self._netns, [f"link del {TUNNEL_DEVICE}"])
        if device is not None:
            # One source port for all flows, where Calico lets the kernel spread them: a lab has no parallel links to
            # spread over, and every connection would cost each node two more entries in its connection tracker.
            add = (
                f"link add {TUNNEL_DEVICE} address {device.mac} mtu {device.mtu} type vxlan "
                f"id {device.vni} dstport {VXLAN_PORT} local {device.local} "
                f"srcport {VXLAN_PORT} {VXLAN_PORT + 1} nolearning"
            )
            up = f"link set {TUNNEL_DEVICE} up"
            kernel.ip(self._netns, [add, f"address add {device.address}/32 dev {TUNNEL_DEVICE}", up])

    def _set_endpoints(self, wanted: frozenset[TunnelEndpoint]) -> None:
        gone = sorted(self._applied.endpoints - wanted)
        if gone:
            neighbours = [f"neigh del {old.address} dev {TUNNEL_DEVICE}" for old in gone]
            kernel.forget("ip", self._netns, neighbours)
            kernel.forget("bridge", self._netns, [f"fdb del {old.mac} dev {TUNNEL_DEVICE}" for old in gone])
        new = sorted(wanted - self._applied.endpoints)
        neighbours = [f"neigh replace {e.address} lladdr {e.mac} dev {TUNNEL_DEVICE} nud permanent" for e in new]
        kernel.ip(self._netns, neighbours)
        kernel.bridge(self._netns, [f"fdb replace {e.mac} dev {TUNNEL_DEVICE} dst {e.remote}" for e in new])
