"""What the clusters were told about each other."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from analysis.facts.gap import Gap


@dataclass(frozen=True)
class ClusterIdentity:
    """How a cluster presents itself to the mesh.

    Attributes:
        as_number: AS of the cluster's nodes (BGP), else None.
        cluster_id: Cilium cluster id, else None.
        cluster_name: Cilium cluster name, else None.
        full_node_mesh: every node peers with every other (must be off with reflectors); None when not BGP.
        advertised_service_cidrs: service ranges announced to the other clusters.
        accepted_tunnel_sources: CIDRs outside the cluster from which tunnel packets are accepted.
    """

    region: str
    as_number: int | None = None
    cluster_id: int | None = None
    cluster_name: str | None = None
    full_node_mesh: bool | None = None
    advertised_service_cidrs: tuple[IPv4Network, ...] = ()
    accepted_tunnel_sources: tuple[IPv4Network, ...] = ()


@dataclass(frozen=True)
class NodeOverride:
    """A per-node deviation from the cluster's identity: its own AS, its reflector cluster id."""

    region: str
    node: str
    as_number: int | None = None
    reflector_cluster_id: str | None = None


@dataclass(frozen=True)
class Peering:
    """A configured peering (Calico BGPPeer).

    `peer_ip` or `peer_selector` names the remote side; `node`/`node_selector` the local one (both None: all nodes).
    `authenticated` says that a password is configured (RFC 2385).
    """

    region: str
    name: str
    node: str | None = None
    node_selector: str | None = None
    peer_ip: IPv4Address | None = None
    peer_selector: str | None = None
    as_number: int | None = None
    keep_next_hop: bool = False
    authenticated: bool = False


@dataclass(frozen=True)
class DnsForward:
    """Where a cluster's DNS sends questions about a zone (CoreDNS `forward`); files are left out."""

    region: str
    zone: str
    targets: tuple[tuple[IPv4Address, int], ...]


@dataclass(frozen=True)
class MeshConfiguration:
    """What the clusters were told about each other."""

    identities: tuple[ClusterIdentity, ...]
    node_overrides: tuple[NodeOverride, ...] = ()
    peerings: tuple[Peering, ...] = ()
    dns_forwards: tuple[DnsForward, ...] = ()
    gaps: tuple[Gap, ...] = ()
