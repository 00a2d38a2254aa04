"""Facts: what was observed, one family per subject, before anybody judges it.

Every family is a frozen dataclass that can be written to JSON and read back without loss. `gaps` says what could
not be observed and why; a judge that needs a missing fact says inconclusive, never met. Facts are the same for
every CNI: observers translate, checks do not branch.

A region's name is the key of its cluster. Node and pod names are those of the Kubernetes API.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network


@dataclass(frozen=True)
class Gap:
    """Something that should have been observed and was not.

    Attributes:
        region: whose fact is missing.
        subject: what was to be observed ("node us-east-1-node-2: BGP sessions").
        error: why it could not be had, in the words of the instrument.
    """

    region: str
    subject: str
    error: str


# --- inventory: what the Kubernetes API lists ---------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """A Kubernetes node; `internal_ip` is its first IPv4 InternalIP, `conditions` its (type, status) pairs."""

    region: str
    name: str
    internal_ip: IPv4Address | None
    ready: bool
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    conditions: tuple[tuple[str, str], ...] = ()

    def label(self, key: str) -> str | None:
        """The value of that label, or None."""
        return dict(self.labels).get(key)


@dataclass(frozen=True)
class Pod:
    """A pod that is not finished. `created` is the API's RFC 3339 text, `host_ports` the node's ports it occupies."""

    region: str
    namespace: str
    name: str
    node: str | None
    ip: IPv4Address | None
    host_network: bool
    phase: str
    ready: bool
    labels: tuple[tuple[str, str], ...] = ()
    created: str = ""
    terminating: bool = False
    host_ports: tuple[int, ...] = ()


@dataclass(frozen=True)
class Service:
    """A Service; `cluster_ip` is None for headless ones. `node_ports` are open on every node, `ports` at its own IP."""

    region: str
    namespace: str
    name: str
    cluster_ip: IPv4Address | None
    kind: str
    ports: tuple[int, ...] = ()
    node_ports: tuple[int, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """What the API servers of all regions list. `leftover_pods` are probe pods of earlier runs."""

    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...]
    services: tuple[Service, ...]
    leftover_pods: tuple[Pod, ...] = ()
    gaps: tuple[Gap, ...] = ()


# --- networks: what the cloud (or its stand-in) says --------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A VPC or VNet and its subnets, as the cloud reports them."""

    region: str
    cidr: IPv4Network
    subnets: tuple[IPv4Network, ...]


@dataclass(frozen=True)
class Networks:
    """The regional networks."""

    networks: tuple[Network, ...]
    gaps: tuple[Gap, ...] = ()


# --- addressing: pools and blocks ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """A range of pod (or remote) addresses known to a cluster's CNI, defaults filled in.

    `encapsulation` is "ipip", "vxlan" or "none"; `encapsulation_mode` "always", "cross-subnet" or "never".
    """

    region: str
    name: str
    cidr: IPv4Network
    disabled: bool
    nat_outgoing: bool
    encapsulation: str
    encapsulation_mode: str
    block_size: int


@dataclass(frozen=True)
class Block:
    """A block of addresses and the node that owns it; `addresses` are the ones given out."""

    region: str
    cidr: IPv4Network
    node: str | None
    confirmed: bool = True
    addresses: tuple[IPv4Address, ...] = ()


@dataclass(frozen=True)
class Addressing:
    """Pools and blocks of every cluster."""

    pools: tuple[Pool, ...]
    blocks: tuple[Block, ...]
    gaps: tuple[Gap, ...] = ()


# --- mesh configuration: what the clusters were told about each other ---------------------------------------------


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


# --- routing: sessions and RIB ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Session:
    """One end of a BGP session, as the node's routing daemon shows it.

    Attributes:
        state: the daemon's word ("Established", "Active", "Idle", ...; "Down" when administratively down).
        error: the last error text, "" when none. An established session may carry an old one.
        reflector_client: True when this end treats the peer as its route reflector client.
        imported: routes accepted from the peer; None when the daemon does not say.
    """

    region: str
    node: str
    name: str
    peer_address: IPv4Address | None
    peer_as: int | None
    state: str
    local_as: int | None = None
    error: str = ""
    reflector_client: bool = False
    imported: int | None = None
    exported: int | None = None
    hold_time: float | None = None

    @property
    def established(self) -> bool:
        """True when the session is up and routes flow."""
        return self.state == "Established"


@dataclass(frozen=True)
class RibRoute:
    """A route as the routing daemon holds it.

    Attributes:
        protocol: name of the daemon's protocol that learned it ("Node_10_1_1_10", "static1", "kernel1").
        kind: "unicast", "blackhole", "unreachable", "prohibit" or "multipath".
        best: it is the one in use for its prefix.
        from_bgp: it was learned by BGP; `as_path` and `next_hop` are then the BGP attributes.
        as_path: nearest AS first; empty for routes of the own AS.
    """

    region: str
    node: str
    prefix: IPv4Network
    protocol: str
    kind: str
    best: bool
    from_bgp: bool = False
    next_hop: IPv4Address | None = None
    as_path: tuple[int, ...] = ()
    learned_from: IPv4Address | None = None
    device: str | None = None
    gateway: IPv4Address | None = None


@dataclass(frozen=True)
class Routing:
    """Sessions and RIB of every node."""

    sessions: tuple[Session, ...]
    routes: tuple[RibRoute, ...]
    gaps: tuple[Gap, ...] = ()


# --- forwarding: FIB, tunnel endpoints, filters -------------------------------------------------------------------


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


# --- reachability: what probes saw --------------------------------------------------------------------------------


class ProbeOutcome(str, Enum):
    """What one probe saw. Only `OPEN` proves a path; only `INCONCLUSIVE` says nothing about the network.

    DROPPED: no answer until the deadline. REFUSED: a reset, or port unreachable from the target itself.
    PROHIBITED: an ICMP error said so (administratively prohibited, host or net unreachable).
    """

    OPEN = "open"
    REFUSED = "refused"
    DROPPED = "dropped"
    PROHIBITED = "prohibited"
    INCONCLUSIVE = "inconclusive"


class ProbeProtocol(str, Enum):
    """How a probe knocks."""

    ICMP = "icmp"
    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True)
class Endpoint:
    """A place that probes start from or aim at: a probe pod, or a node (its host network)."""

    region: str
    node: str
    name: str
    address: IPv4Address
    on_host: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe and what came of it.

    Attributes:
        source: index into `ReachabilityMatrix.endpoints`.
        target: index into `ReachabilityMatrix.endpoints`.
        rtt: seconds, for an open probe.
        seen_source: the source address that the listener saw.
        ttl: time to live left in the answer (ICMP), from a start value of 64.
        detail: what the instrument said, for anything but open.
    """

    source: int
    target: int
    protocol: ProbeProtocol
    port: int
    outcome: ProbeOutcome
    rtt: float | None = None
    seen_source: IPv4Address | None = None
    ttl: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class AgentHealth:
    """The instrument's own state while it probed: a pod whose agent was unwell proves nothing about the network.

    Attributes:
        endpoint: index into `ReachabilityMatrix.endpoints`.
        loopback_ok: the agent reached its own listener before and after its probes (the positive control).
        retries: how often the instrument (never the measurement) had to be tried again.
        error: why the agent gave no result, "" when it did.
    """

    endpoint: int
    loopback_ok: bool
    retries: int = 0
    error: str = ""


@dataclass(frozen=True)
class Sampling:
    """Which pairs of pods were to be probed where all of them were too many (`analysis.sampling`).

    Attributes:
        seed: what the sample was drawn from: with it and the endpoints, anybody can draw it again.
        node_pairs: ordered pairs of distinct nodes; the sample has a pair of pods for each.
        pod_pairs: ordered pairs of pods in the sample.
        all_pod_pairs: ordered pairs of pods that there are.
    """

    seed: str
    node_pairs: int
    pod_pairs: int
    all_pod_pairs: int


@dataclass(frozen=True)
class ReachabilityMatrix:
    """Every ordered pair of probe endpoints, by protocol, or a sample of them.

    `probes` holds pod-to-pod probes and, where node probes are allowed, node-to-node ones; pods and nodes are told
    apart by `Endpoint.on_host` and never mixed in one probe. With a `sampling`, not every pair of pods was probed, but
    every ordered pair of nodes.
    """

    endpoints: tuple[Endpoint, ...]
    probes: tuple[Probe, ...]
    agents: tuple[AgentHealth, ...]
    probes_per_second: float | None = None
    gaps: tuple[Gap, ...] = ()
    sampling: Sampling | None = None


@dataclass(frozen=True)
class ServiceProbe:
    """A knock on a remote cluster's kube-dns ClusterIP (DNS over TCP and UDP, port 53) from a pod."""

    source: Endpoint
    target_region: str
    address: IPv4Address
    protocol: ProbeProtocol
    outcome: ProbeOutcome
    answered_by: str = ""
    detail: str = ""


@dataclass(frozen=True)
class EgressProbe:
    """A knock on the egress target from a pod; `seen_source` is the address that the target reports."""

    source: Endpoint
    address: IPv4Address
    port: int
    outcome: ProbeOutcome
    seen_source: IPv4Address | None = None
    detail: str = ""


@dataclass(frozen=True)
class Paths:
    """Probes that go elsewhere than from pod to pod."""

    services: tuple[ServiceProbe, ...]
    egress: tuple[EgressProbe, ...]
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True)
class RegionPairQuality:
    """Round trips and throughput from one region to another, pod to pod and node to node.

    Round-trip times are medians in seconds over `samples` echoes; throughput is in bytes per second, None when not
    measured.
    """

    source_region: str
    target_region: str
    samples: int
    pod_rtt: float | None
    node_rtt: float | None
    pod_throughput: float | None = None
    node_throughput: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class PathQuality:
    """Speed of every ordered pair of regions, measured pod to pod and node to node in turn."""

    pairs: tuple[RegionPairQuality, ...]
    gaps: tuple[Gap, ...] = ()


# --- components: what runs the mesh -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Component:
    """A part of the CNI in one cluster, as its own status or its workload object shows it.

    Attributes:
        name: "calico-node", "tigerastatus/calico", "cilium", "cilium-operator", "clustermesh-apiserver", or, for an
            agent that tells its own state, "cilium-agent on NODE".
        healthy: what it says of itself; None when it says nothing.
        wanted: replicas that there should be, None where that means nothing.
        ready: replicas that are ready.
        version: the version that runs ("v3.24.5", "1.16.5"), "" when it is not told.
        message: its own words, for evidence.
    """

    region: str
    name: str
    healthy: bool | None
    wanted: int | None = None
    ready: int | None = None
    version: str = ""
    message: str = ""


@dataclass(frozen=True)
class Datapath:
    """How a node says that it forwards, which must be the same in all clusters.

    Attributes:
        routing: "tunnel" or "native".
        encapsulation: "vxlan", "geneve", "ipip" or "none".
        port: the tunnel's UDP port, None without one.
        vni: the VXLAN identifier where the device has a fixed one.
        foreign_devices: names of network devices that another CNI has made (flannel.1, cni0, ...).
        masquerades: None when not told, else whether the node rewrites the source of pods' packets that leave.
        not_masqueraded: destinations that keep the pod's source address, as the node tells them.
    """

    region: str
    node: str
    routing: str
    encapsulation: str
    port: int | None = None
    vni: int | None = None
    foreign_devices: tuple[str, ...] = ()
    masquerades: bool | None = None
    not_masqueraded: tuple[IPv4Network, ...] = ()


@dataclass(frozen=True)
class Components:
    """Health, versions and settings of what runs the mesh, in every cluster."""

    components: tuple[Component, ...]
    datapaths: tuple[Datapath, ...] = ()
    gaps: tuple[Gap, ...] = ()


# --- federation: what the clusters' control planes know of each other ---------------------------------------------


@dataclass(frozen=True)
class RemoteCluster:
    """A connection from one cluster (or one of its nodes' agents) to the store of another cluster.

    The store is the clustermesh etcd (Cilium) or the remote API server (Calico federation).

    Attributes:
        region: who looks.
        node: whose agent looks; None where the cluster as a whole has one connection.
        remote: the name that the other cluster is configured under.
        connected: there is a connection now.
        ready: connected, and the remote cluster's own settings are known where they must be.
        synced: everything that the store holds has arrived once; None when not told.
        nodes: nodes of the remote cluster that are known through it, None when not told.
        endpoints: endpoints likewise.
        identities: identities likewise.
        cluster_id: what the remote cluster says its id is.
        failures: how often the connection was lost.
        message: the agent's own words, for evidence.
    """

    region: str
    node: str | None
    remote: str
    connected: bool
    ready: bool
    synced: bool | None = None
    nodes: int | None = None
    endpoints: int | None = None
    identities: int | None = None
    cluster_id: int | None = None
    failures: int | None = None
    message: str = ""


@dataclass(frozen=True)
class RemoteSetting:
    """How a cluster is told to reach the store of another: where, under which name, with which files.

    Attributes:
        remote: the name that the other cluster is configured under.
        host: host name of the endpoint ("crdb-cilium-westus.mesh.cilium.io"), or an address.
        port: TCP port.
        addresses: what the host name stands for on the nodes (hostAliases); the host itself when it is an address.
        credentials: names of the credentials that are there and are not empty ("ca", "certificate", "key", "token").
        trusted: SHA-256 fingerprints (hex) of the authorities that the store's certificate is checked against.
    """

    region: str
    remote: str
    host: str
    port: int
    addresses: tuple[IPv4Address, ...] = ()
    credentials: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoreCertificate:
    """The certificate that a cluster's store shows to those who connect from another cluster.

    Attributes:
        region: whose store.
        seen_from: the region that it was seen from.
        host: the name that it was asked under.
        names: DNS names and addresses that it is valid for.
        verified: it was verified by the authorities that `seen_from` trusts and for `host`; None when not tried.
        problem: why the verification failed, in the library's words.
        issuer: subject of its issuer (RFC 4514).
        not_after: its end, RFC 3339.
    """

    region: str
    seen_from: str
    host: str
    names: tuple[str, ...]
    verified: bool | None
    problem: str = ""
    issuer: str = ""
    not_after: str = ""


class Credential(str, Enum):
    """As whom an access to a store was tried."""

    REMOTE = "remote"
    """As the other cluster, with what it was given for this."""

    NONE = "none"
    """Without any credential, over TLS."""

    FOREIGN = "foreign"
    """With a client certificate (or token) that an unknown authority has issued."""

    PLAIN = "plain"
    """Without TLS."""


class Access(str, Enum):
    """What was tried at a store."""

    READ = "read"
    WRITE = "write"
    CONNECT = "connect"


@dataclass(frozen=True)
class AccessTrial:
    """One attempt to use a cluster's store, and whether it was let in.

    A write is tried so that nothing changes where it is let through (a key of one's own, removed again; a dry run, an
    access review).

    Attributes:
        region: whose store.
        tried_from: the region it was tried from.
        allowed: True when it was let through, False when the store refused it, None when the store could not be asked.
        detail: what the store said.
    """

    region: str
    tried_from: str
    credential: Credential
    access: Access
    allowed: bool | None
    detail: str = ""


@dataclass(frozen=True)
class StoreKnock:
    """A TCP connection from a node to the store of another cluster, at an address it is configured with."""

    region: str
    node: str
    remote: str
    address: IPv4Address
    port: int
    outcome: ProbeOutcome
    detail: str = ""


@dataclass(frozen=True)
class StoreContent:
    """How many entries of a cluster's store belong to which cluster. `cached` ones are declared copies of others'."""

    region: str
    owner: str
    kind: str
    entries: int
    cached: bool = False


@dataclass(frozen=True)
class KnownNode:
    """A node that a node's agent knows of, in its own cluster or another.

    Attributes:
        region: whose agent.
        node: the node that the agent runs on.
        cluster: name of the cluster that the known node is said to be in.
        name: the known node.
        address: where its agent sends packets for it.
        pod_cidrs: the blocks it is said to own.
    """

    region: str
    node: str
    cluster: str
    name: str
    address: IPv4Address | None
    pod_cidrs: tuple[IPv4Network, ...] = ()


@dataclass(frozen=True)
class KnownIdentity:
    """How many identities of a cluster a node's agent knows; `foreign_numbers` of them lie outside its id's range."""

    region: str
    node: str
    cluster: str
    identities: int
    foreign_numbers: int = 0


@dataclass(frozen=True)
class NodeHealth:
    """Whether a node's agent reaches another node, by its own health probe."""

    region: str
    node: str
    cluster: str
    name: str
    reachable: bool
    detail: str = ""


@dataclass(frozen=True)
class GlobalService:
    """A Service that several clusters answer for, and its backends as one cluster's agents see them, by cluster."""

    region: str
    namespace: str
    name: str
    backends: tuple[tuple[str, int], ...]
    shared: bool = True


@dataclass(frozen=True)
class Federation:
    """What the clusters' control planes know of each other, and how they may get at it."""

    remotes: tuple[RemoteCluster, ...] = ()
    settings: tuple[RemoteSetting, ...] = ()
    certificates: tuple[StoreCertificate, ...] = ()
    trials: tuple[AccessTrial, ...] = ()
    knocks: tuple[StoreKnock, ...] = ()
    contents: tuple[StoreContent, ...] = ()
    nodes: tuple[KnownNode, ...] = ()
    identities: tuple[KnownIdentity, ...] = ()
    health: tuple[NodeHealth, ...] = ()
    services: tuple[GlobalService, ...] = ()
    gaps: tuple[Gap, ...] = ()
