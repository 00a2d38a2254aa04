"""What the Kubernetes API lists."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from analysis.facts.gap import Gap


@dataclass(frozen=True)
class Node:
    """A Kubernetes node.

    Attributes:
        internal_ip: its first IPv4 InternalIP.
        conditions: (type, status) pairs.
        cpu: what pods may have of it, in thousandths of a processor; None when it does not tell.
        memory: likewise, in bytes.
        external_ip: its first IPv4 ExternalIP: what the internet knows it by, where somebody told the cluster.
        takes_pods: pods without special leave may be put on it: it is not cordoned, and no taint keeps them off.
    """

    region: str
    name: str
    internal_ip: IPv4Address | None
    ready: bool
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    conditions: tuple[tuple[str, str], ...] = ()
    cpu: int | None = None
    memory: int | None = None
    external_ip: IPv4Address | None = None
    takes_pods: bool = True

    def label(self, key: str) -> str | None:
        """The value of that label, or None."""
        return dict(self.labels).get(key)


@dataclass(frozen=True)
class Pod:
    """A pod that is not finished.

    Attributes:
        created: the API's RFC 3339 text.
        host_ports: the node's ports that it occupies.
        cpu: what its containers ask for together, in thousandths of a processor; `memory` likewise, in bytes.
    """

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
    cpu: int = 0
    memory: int = 0


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
