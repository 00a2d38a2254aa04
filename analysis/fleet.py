"""The fleet: an environment that is up, as data that any process can pick up and attach to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from analysis.plan import Plan

DEFAULT_FULL_MESH_LIMIT = 100_000
"""Ordered pairs of pods, so 316 pods: about a minute of probing on the two processors of a small machine."""


class Capability(str, Enum):
    """What an environment lets a check do. Checks ask for these, never for a provider by name."""

    BGP = "bgp"
    """Routes are exchanged by BGP; sessions and RIB can be read in the routing daemon."""

    TUNNEL_MAP = "tunnel-map"
    """The data path is a tunnel map kept by agents (Cilium)."""

    CLOUD_NETWORK = "cloud-network"
    """The provider can read networks and subnets from the cloud (or the lab's stand-in of it)."""

    NODE_PROBES = "node-probes"
    """Probe pods may use the host network, so that nodes can be observed and compared with pods."""

    EGRESS_TARGET = "egress-target"
    """The environment file names a host outside that reports the source address it sees."""

    DISRUPTION = "disruption"
    """Checks may restart agents, drain nodes and take addresses away for a moment."""

    FEDERATION = "federation"
    """Control planes of the clusters read each other's stores: Cilium Cluster Mesh, or Calico's remote cluster
    configurations (Enterprise, Cloud). Endpoints of the other clusters are then known by identity."""

    NODE_SHELL = "node-shell"
    """The provider can run privileged commands on nodes."""

    PACKET_CAPTURE = "packet-capture"
    """Probe pods in the nodes' network may capture and craft packets (NET_RAW)."""

    OUTSIDE = "outside"
    """There is a place outside the regions, without any rights, that probes can start from."""

    DATABASE_PODS = "database-pods"
    """The pods and Services of the database are there, by their planned names, whether or not they serve yet."""

    DATABASE = "database"
    """The database is there, serves or is about to, and the environment says how to log in."""

    POLICY = "policy"
    """The environment says what network policy is for, and pods may be started that wear its roles' labels."""

    FRESH_BUILD = "fresh-build"
    """The provider built the environment in this run, and saw how it started."""


class Stand(str, Enum):
    """Where somebody stands who looks at an environment from elsewhere than a pod."""

    NODE = "node"
    """On a node, as its administrator."""

    ROUTER = "router"
    """On the path between two regions (lab only)."""

    OPERATOR = "operator"
    """Outside the regions, at an address that may administer them: where the suite runs, for example."""

    INTERNET = "internet"
    """Outside the regions, at an address that has no rights whatsoever."""


class OutageMode(str, Enum):
    """Ways to lose a region, or a part of one."""

    PODS = "pods"
    """Its database pods are scaled to zero; everything else stays."""

    ISOLATION = "isolation"
    """Its network to the other regions is cut; all its parts run on."""

    POWER = "power"
    """All is gone at once: first the links of its nodes, then every process of the database and its stores."""

    ONE_WAY = "one-way"
    """What it sends is lost; what is sent to it arrives."""

    HANG = "hang"
    """Its database processes stand still (SIGSTOP), with all their connections open."""

    CONTROL_PLANE = "control-plane"
    """Its Kubernetes control plane stops; pods run on."""

    ROUTING = "routing"
    """Its part of the mesh's control plane restarts: the route reflector's daemon, or the clustermesh store."""

    POD_EACH = "pod-each"
    """One database pod of every region is killed at once."""

    SHUTDOWN = "shutdown"
    """One database pod is told to end, with its grace period."""


@dataclass(frozen=True)
class Outpost:
    """A place other than a pod where commands can be run.

    Attributes:
        region: for nodes and routers, else "".
        name: the node's name, or what the place is called in reports.
        command: what stands before the command ("ssh", "-o", ..., "host"); nothing for the runner itself.
        address: what the place's packets bear as their source, as far as it is known; it may differ from what is seen.
    """

    stand: Stand
    name: str
    command: tuple[str, ...]
    region: str = ""
    address: IPv4Address | None = None


@dataclass(frozen=True)
class ClusterHandle:
    """How to reach one region's Kubernetes API: a kubeconfig file and a context in it."""

    region: str
    kubeconfig: str
    context: str


@dataclass(frozen=True)
class DatabaseAccess:
    """How to log in to the database. Keys and passwords stay in files; none is ever part of the fleet.

    Attributes:
        user: whom to log in as.
        authority: file with the authority's certificate, by which servers are believed.
        certificate: file with the user's certificate; None where a password is used.
        key: file with its key.
        password: file with the user's password; None where a certificate is used.
        addresses: (region, host, port) where a region's database is reached from the runner; a region without one is
            reached from its probe pods.
    """

    user: str
    authority: str
    certificate: str | None = None
    key: str | None = None
    password: str | None = None
    addresses: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True)
class Fleet:
    """An environment that is up.

    Attributes:
        plan: what it was designed to be.
        provider: who brought it up ("attach", "lab", ...), for the report only.
        clusters: one handle per region, in plan order.
        capabilities: what checks may do here.
        stand_ins: parts that play a real component, by component ("encapsulation" -> "VXLAN for IPIP").
        state_dir: the provider's folder for this environment (lab only), else None.
        probe_image: the image that probe pods run; any with python3 >= 3.8.
        probe_namespace: the namespace that probe pods live in.
        probe_pull_secret: name of the Secret there that the image is pulled with.
        probes_per_node: probe pods in the pod network on each node.
        full_mesh_limit: ordered pairs of probe pods that are all probed; of more, a sample is (`analysis.sampling`).
        outposts: places other than pods where commands can be run.
        database: how to log in to the database; None where nobody may.
        outage_modes: ways in which the provider can make an outage.
    """

    plan: Plan
    provider: str
    clusters: tuple[ClusterHandle, ...]
    capabilities: frozenset[Capability]
    stand_ins: tuple[tuple[str, str], ...] = ()
    state_dir: str | None = None
    probe_image: str = "python:3.12-slim"
    probe_namespace: str = "meshproof"
    probe_pull_secret: str | None = None
    probes_per_node: int = 1
    full_mesh_limit: int = DEFAULT_FULL_MESH_LIMIT
    outposts: tuple[Outpost, ...] = ()
    database: DatabaseAccess | None = None
    outage_modes: frozenset[OutageMode] = frozenset()

    def cluster(self, region: str) -> ClusterHandle:
        """The handle of that region's cluster. Raises KeyError when there is none."""
        for handle in self.clusters:
            if handle.region == region:
                return handle
        raise KeyError(region)
