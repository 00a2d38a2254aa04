"""What a node's Cilium agent knows and tells: plain data, from which `cilium-dbg` renders its answers.

An `AgentState` is a picture of one moment. It is made by the agent from live kernel, store and API state, and turned
into text and JSON by pure functions (`provision.lab.cilium.dbg`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from typing import Any

NEVER = datetime(1, 1, 1, tzinfo=UTC)
"""How the agent writes a time that has not been: the zero of Go's clock."""

HOST, WORLD, HEALTH, REMOTE_NODE = 1, 2, 4, 6
"""Reserved identities."""

Labels = tuple[str, ...]
"""Labels as Cilium writes them, sorted: "k8s:app=web", "reserved:host"."""

RESERVED_LABELS: dict[int, Labels] = {
    1: ("reserved:host",),
    2: ("reserved:world",),
    3: ("reserved:unmanaged",),
    4: ("reserved:health",),
    5: ("reserved:init",),
    6: ("reserved:remote-node",),
    7: ("reserved:kube-apiserver", "reserved:remote-node"),
    8: ("reserved:ingress",),
}


class NodeSource(str, Enum):
    """Where an agent has learnt of a node."""

    LOCAL = "local"
    CUSTOM_RESOURCE = "custom-resource"
    CLUSTERMESH = "clustermesh"


@dataclass(frozen=True, order=True)
class TunnelEntry:
    """An entry of the tunnel map: packets for `prefix` go, encapsulated, to the node with that address."""

    prefix: IPv4Network
    endpoint: IPv4Address


@dataclass(frozen=True)
class NodeEntry:
    """A node that the agent knows of.

    Attributes:
        cluster: name of its cluster.
        cluster_id: the id of that cluster.
        address: its InternalIP.
        pod_cidr: its block.
        router: its CiliumInternalIP.
        health: the address of its health endpoint, None when it has none.
    """

    cluster: str
    name: str
    cluster_id: int
    address: IPv4Address
    pod_cidr: IPv4Network | None
    router: IPv4Address | None
    health: IPv4Address | None
    source: NodeSource


@dataclass(frozen=True)
class IpcacheEntry:
    """What the agent knows of an address: whose identity it has, and the tunnel endpoint in front of it, if any."""

    prefix: IPv4Network
    identity: int
    tunnel: IPv4Address | None = None
    remote_cluster: bool = False


@dataclass(frozen=True)
class IdentityEntry:
    """A security identity."""

    id: int
    labels: Labels


@dataclass(frozen=True)
class EndpointEntry:
    """A local pod.

    Attributes:
        policed: policy is enforced on what it receives, and on what it sends.
    """

    id: int
    namespace: str
    pod: str
    address: IPv4Address
    identity: int
    labels: Labels
    device: str
    container: str
    state: str = "ready"
    policed: tuple[bool, bool] = (False, False)


@dataclass(frozen=True)
class PolicyEntry:
    """A policy that the agent has taken.

    Attributes:
        kind: "cnp", "ccnp" or "knp".
        namespace: "" for a policy of the whole cluster.
        specs: as in the API object.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    specs: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Backend:
    """A backend of a service, and the cluster that it is in."""

    address: IPv4Address
    port: int
    cluster: str


@dataclass(frozen=True)
class ServiceEntry:
    """One frontend of a service."""

    id: int
    namespace: str
    name: str
    kind: str
    address: IPv4Address
    port: int
    protocol: str
    backends: tuple[Backend, ...]
    shared: bool = False


@dataclass(frozen=True)
class RemoteSync:
    """Which of a remote store's lists have arrived in full, at least once."""

    nodes: bool = False
    endpoints: bool = False
    identities: bool = False
    services: bool = False

    @property
    def complete(self) -> bool:
        """All of them have."""
        return self.nodes and self.endpoints and self.identities and self.services


@dataclass(frozen=True)
class RemoteConfig:
    """What the agent knows of a remote cluster's own settings (the key cilium/cluster-config/NAME)."""

    required: bool
    retrieved: bool
    cluster_id: int = 0
    kvstoremesh: bool = False
    sync_canaries: bool = False
    service_exports: bool | None = None


@dataclass(frozen=True)
class RemoteState:
    """The connection to one remote cluster's store.

    Attributes:
        connected: there is a connection to the store.
        ready: there is, and the remote cluster's settings were read and accepted.
        status: the connection in the agent's words.
        config: None until it was asked for.
        failures: how often the connection could not be made or was lost.
        last_failure: NEVER when there was none.
        last_error: the reason of the last failure, "" when all is well.
    """

    name: str
    connected: bool
    ready: bool
    status: str
    config: RemoteConfig | None = None
    synced: RemoteSync = RemoteSync()
    nodes: int = 0
    endpoints: int = 0
    identities: int = 0
    services: int = 0
    failures: int = 0
    last_failure: datetime = NEVER
    last_error: str = ""


@dataclass(frozen=True)
class PathHealth:
    """One probe. `status` is empty for an answer, else the error."""

    status: str
    latency_ns: int = 0
    probed: datetime = NEVER


@dataclass(frozen=True)
class AddressHealth:
    """The probes of one address."""

    address: IPv4Address
    icmp: PathHealth
    http: PathHealth


@dataclass(frozen=True)
class NodeHealth:
    """Whether a node, and its health endpoint where it has one, answer this node's probes."""

    name: str
    host: AddressHealth
    endpoint: AddressHealth | None = None

    @property
    def reachable(self) -> bool:
        """The node answers by at least one of the ways, and so does its health endpoint."""
        return all(
            not path.icmp.status or not path.http.status for path in (self.host, self.endpoint) if path is not None
        )


@dataclass(frozen=True)
class HealthReport:
    """The last round of health probes."""

    local: str
    nodes: tuple[NodeHealth, ...]
    timestamp: datetime
    interval_s: float


@dataclass(frozen=True)
class ControllerState:
    """One of the agent's background tasks, as `status` lists them."""

    name: str
    failures: int = 0
    last_error: str = ""


@dataclass(frozen=True)
class AgentState:
    """Everything that `cilium-dbg` can ask the agent of a node.

    Attributes:
        version: the version in the tag of the pod's image, "1.16.5".
        settings: the ConfigMap cilium-config, as it was when the agent started.
        allocated: addresses of the node's block that are in use, with their owners ("kube-system/coredns-x", "router").
        kubernetes_error: why the API server does not answer, "" when it does.
        tunnels: the tunnel map, read from the kernel.
        policy_revision: counts the changes of the policies that the agent has seen.
        foreign_interfaces: other CNIs' network devices on the node.
    """

    version: str
    cluster: str
    cluster_id: int
    node: str
    address: IPv4Address
    router: IPv4Address | None
    pod_cidr: IPv4Network | None
    started: datetime
    settings: dict[str, str] = field(default_factory=dict)
    kubernetes_error: str = ""
    kubernetes_version: str = ""
    allocated: tuple[tuple[IPv4Address, str], ...] = ()
    nodes: tuple[NodeEntry, ...] = ()
    tunnels: tuple[TunnelEntry, ...] = ()
    ipcache: tuple[IpcacheEntry, ...] = ()
    identities: tuple[IdentityEntry, ...] = ()
    endpoints: tuple[EndpointEntry, ...] = ()
    services: tuple[ServiceEntry, ...] = ()
    policies: tuple[PolicyEntry, ...] = ()
    policy_revision: int = 1
    remotes: tuple[RemoteState, ...] = ()
    health: HealthReport | None = None
    controllers: tuple[ControllerState, ...] = ()

    @property
    def minor(self) -> tuple[int, int]:
        """The version's first two numbers: (1, 16)."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)
