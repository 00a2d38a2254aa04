"""One node's BIRD configuration, as confd renders it from Calico's objects.

Two things differ from Calico's own file. It is BIRD 2's dialect; and where Calico's fork of BIRD sends the routes of an
encapsulated pool into `tunl0`, here a second table resolves BGP next hops to VXLAN tunnel endpoints (VXLAN stands in
for IPIP, which many kernels lack). As in Calico it is the pool that a prefix lies in, at the receiving node, that
decides on encapsulation: routes of no known pool leave bare, and the underlay drops what they carry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from provision.lab.calico.resources import BgpPeer, CalicoCluster, CalicoNode, IpPool
from provision.lab.calico.selector import parse_selector
from provision.lab.topology import Timers

TUNNEL_DEVICE = "vxlan.calico"
_EXPORT = "calico_export_to_bgp_peers"
_IMPORT = "calico_next_hops"
_KERNEL = "calico_kernel_programming"

_PACE = {
    Timers.FAST: "connect delay time 1; connect retry time 1; error wait time 1,5; hold time 3; keepalive time 1; "
    "graceful restart on; graceful restart time 5;",
    Timers.CALICO: "connect delay time 2; connect retry time 5; error wait time 5,30; graceful restart on;",
}
_RECOVERY_S = {Timers.FAST: 5, Timers.CALICO: 240}
"""How long a daemon that starts waits for all its peers before it trusts what it has heard."""


@dataclass(frozen=True)
class Session:
    """One BGP session as this node is to hold it. `name` is the protocol's, as confd makes it.

    With a `password` both ends sign their TCP segments (RFC 2385); a session whose ends differ in it never comes up.
    """

    name: str
    address: IPv4Address
    as_number: int
    keep_next_hop: bool = False
    passive: bool = False
    reflector_client: bool = False
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class _Candidate:
    """A session that one object asks for; `prefix` is the first part of its protocol's name."""

    prefix: str
    address: IPv4Address
    as_number: int
    keep_next_hop: bool = False
    password: str | None = field(default=None, repr=False)


def sessions(cluster: CalicoCluster, node: CalicoNode) -> tuple[Session, ...]:
    """The sessions of a node: of the mesh, of its BGPPeers, and the reverse side of other nodes' BGPPeers.

    A peer that several objects name gets one session; a node-specific BGPPeer goes before a global one, and that
    before the mesh.
    """
    own_as = _as_number(cluster, node)
    found: dict[IPv4Address, Session] = {}
    ranked = [
        *_peerings(cluster, node, specific=True),
        *_peerings(cluster, node, specific=False),
        *_mesh(cluster, node),
    ]
    for candidate in ranked:
        address = candidate.address
        if address == node.address.ip or address in found:
            continue
        remote = next((other for other in cluster.nodes if other.address.ip == address), None)
        internal = candidate.as_number == own_as
        found[address] = Session(
            name=f"{candidate.prefix}_{str(address).replace('.', '_')}",
            address=address,
            as_number=candidate.as_number,
            keep_next_hop=candidate.keep_next_hop and not internal,
            passive=candidate.prefix != "Node" and remote is not None and address > node.address.ip,
            reflector_client=internal
            and node.reflector_cluster_id is not None
            and (remote is None or remote.reflector_cluster_id != node.reflector_cluster_id),
            password=candidate.password,
        )
    return tuple(sorted(found.values(), key=lambda session: session.address))


def render(
    cluster: CalicoCluster, node: CalicoNode, tunnel_nodes: Iterable[CalicoNode], timers: Timers = Timers.FAST
) -> str:
    """The text of bird.cfg.

    Args:
        cluster: the node's cluster.
        node: the node.
        tunnel_nodes: every node, of any cluster, that a tunnel may lead to.
        timers: fast ones, or those that Calico renders.
    """
    blocks = [block.cidr for block in cluster.blocks if block.node == node.name]
    parts = [
        _preamble(node, timers),
        _tunnel_table(node, tunnel_nodes),
        _own_ranges(blocks, cluster.bgp.service_cidrs),
        _filters(cluster, node, blocks),
        _kernel(),
        *(_bgp(cluster, node, session, timers) for session in sessions(cluster, node)),
    ]
    return "\n".join(parts)


def _peerings(cluster: CalicoCluster, node: CalicoNode, *, specific: bool) -> Iterator[_Candidate]:
    """The sessions that BGPPeers ask of the node, and the reverse side of what they ask of others."""
    prefix = "Node" if specific else "Global"
    passwords = dict(cluster.passwords)
    for peer in cluster.peers:
        if (peer.node is not None or peer.node_selector is not None) != specific:
            continue
        password = passwords.get(peer.password) if peer.password else None
        remote_side = _remote_side(cluster, peer)
        if _is_local_side(peer, node):
            if peer.peer_ip is not None:
                as_number = peer.as_number or cluster.bgp.as_number
                yield _Candidate(prefix, peer.peer_ip, as_number, peer.keep_next_hop, password)
            for other in remote_side if peer.peer_selector is not None else ():
                as_number = _as_number(cluster, other)
                yield _Candidate(prefix, other.address.ip, as_number, peer.keep_next_hop, password)
        if node in remote_side:
            for other in cluster.nodes:
                if _is_local_side(peer, other):
                    as_number = _as_number(cluster, other)
                    yield _Candidate("Node", other.address.ip, as_number, peer.keep_next_hop, password)


def _mesh(cluster: CalicoCluster, node: CalicoNode) -> Iterator[_Candidate]:
    if not cluster.bgp.node_mesh or node.reflector_cluster_id is not None:
        return
    for other in cluster.nodes:
        if other.reflector_cluster_id is None:
            yield _Candidate("Mesh", other.address.ip, _as_number(cluster, other))


def _is_local_side(peer: BgpPeer, node: CalicoNode) -> bool:
    if peer.node is not None:
        return peer.node == node.name
    return peer.node_selector is None or node.matches(parse_selector(peer.node_selector))


def _remote_side(cluster: CalicoCluster, peer: BgpPeer) -> tuple[CalicoNode, ...]:
    """The nodes of the own cluster that a peering points at: they get the reverse side of it by themselves."""
    if peer.peer_selector is not None:
        selects = parse_selector(peer.peer_selector)
        return tuple(node for node in cluster.nodes if node.matches(selects))
    return tuple(node for node in cluster.nodes if node.address.ip == peer.peer_ip)


def _as_number(cluster: CalicoCluster, node: CalicoNode) -> int:
    return node.as_number or cluster.bgp.as_number


def _preamble(node: CalicoNode, timers: Timers) -> str:
    # Without a log line BIRD writes to syslog, and with it to the console of the machine: that costs a second.
    return f"""\
# Rendered from Calico's objects; a change by hand lasts until one of them changes.
log stderr all;
router id {node.address.ip};
graceful restart wait {_RECOVERY_S[timers]};
ipv4 table master4;
ipv4 table tunnels;

protocol device device1 {{
  scan time 2;
}}
protocol direct direct1 {{
  ipv4;
  interface -"cali*", -"kube-ipvs*", "*";
}}
"""


def _tunnel_table(node: CalicoNode, tunnel_nodes: Iterable[CalicoNode]) -> str:
    routes = "\n".join(
        f"  route {other.address.ip}/32 via {other.tunnel_address}%'{TUNNEL_DEVICE}' onlink;"
        for other in sorted(tunnel_nodes, key=lambda each: each.address.ip)
        if other.tunnel_address is not None and other.address.ip != node.address.ip
    )
    return f"""\
# Next hop of BGP -> tunnel endpoint.
protocol static tunnels1 {{
  ipv4 {{ table tunnels; }};
{routes}
}}
"""


def _own_ranges(blocks: Iterable[IPv4Network], services: Iterable[IPv4Network]) -> str:
    routes = "\n".join(f"  route {cidr} blackhole;" for cidr in (*blocks, *services))
    return f"""\
protocol static static1 {{
  ipv4;
{routes}
}}
"""


def _filters(cluster: CalicoCluster, node: CalicoNode, blocks: Iterable[IPv4Network]) -> str:
    pools = sorted(cluster.pools, key=lambda pool: (-pool.cidr.prefixlen, pool.cidr))
    lines = [f"filter {_EXPORT} {{", "  # Own blocks go out whole, what lies in them does not."]
    for block in blocks:
        lines += [f"  if net = {block} then accept;", f"  if net ~ {block} then reject;"]
    lines.append("  # Any pool, be it disabled, and any range of services that is advertised.")
    lines += [f"  if net ~ {pool.cidr} then {'reject' if pool.disable_bgp_export else 'accept'};" for pool in pools]
    lines += [f"  if net ~ {cidr} then accept;" for cidr in cluster.bgp.service_cidrs]
    lines += ["  reject;", "}", ""]

    lines += [f"filter {_KERNEL} {{", "  if source = RTS_DEVICE then reject;"]
    lines += [f'  if proto = "static1" && net ~ {cidr} then reject;' for cidr in cluster.bgp.service_cidrs]
    lines += ["  accept;", "}", ""]

    subnet = node.address.network
    lines += [f"filter {_IMPORT} {{"]
    lines += [line for pool in pools for line in _pool_encapsulation(pool, subnet)]
    # What recursive resolution of an unencapsulated route comes to: the neighbour itself, or the subnet's router,
    # which in a VPC has the first address. A route resolved to a tunnel is "onlink" until told otherwise, and would
    # keep the tunnel's device.
    lines += ["  onlink = false;"]
    lines += [f"  if bgp_next_hop ~ {subnet} then gw = bgp_next_hop; else gw = {subnet[1]};", "  accept;", "}", ""]
    return "\n".join(lines)


def _pool_encapsulation(pool: IpPool, subnet: IPv4Network) -> Iterator[str]:
    if pool.vxlan_mode == "Always":
        yield f"  if net ~ {pool.cidr} then accept;"
    elif pool.vxlan_mode == "CrossSubnet":
        yield f"  if net ~ {pool.cidr} && !(bgp_next_hop ~ {subnet}) then accept;"


def _kernel() -> str:
    return f"""\
protocol kernel kernel1 {{
  learn;
  persist;
  graceful restart;
  scan time 2;
  merge paths on;
  ipv4 {{
    import all;
    export filter {_KERNEL};
  }};
}}
"""


def _bgp(cluster: CalicoCluster, node: CalicoNode, session: Session, timers: Timers) -> str:
    lines = [
        f"protocol bgp {session.name} {{",
        '  description "Connection to BGP peer";',
        f"  local {node.address.ip} as {_as_number(cluster, node)};",
        f"  neighbor {session.address} as {session.as_number};",
        f"  source address {node.address.ip};",
        "  multihop;",
        f"  {_PACE[timers]}",
    ]
    if session.password is not None:
        lines.append(f'  password "{session.password}";')
    if session.passive:
        lines.append("  passive on;")
    if session.reflector_client:
        lines += ["  rr client;", f"  rr cluster id {node.reflector_cluster_id};"]
    lines += [
        "  ipv4 {",
        f"    import filter {_IMPORT};",
        f"    export filter {_EXPORT};",
        "    gateway recursive;",
        "    igp table tunnels;",
    ]
    if session.as_number == _as_number(cluster, node):
        # Calico has this on for every session. Between reflectors in a full mesh each would then pass on a route by
        # every simple path of clusters: 2 for three clusters, 16 for five, 1,957 for eight, and that for each prefix.
        lines.append("    add paths on;")
    if session.keep_next_hop:
        lines.append("    next hop keep;")
    lines += ["  };", "}", ""]
    return "\n".join(lines)
