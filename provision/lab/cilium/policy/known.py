"""Whom an agent knows by which address: its ipcache, with the labels of the identities in it.

A pod of another cluster is known as that cluster's store tells it, and as long as the agent remembers what it told. An
address that is not known is the world's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network

from provision.lab.cilium import keys
from provision.lab.cilium.policy.selectors import CLUSTER_KEY, RESERVED, Selector, has_value
from provision.lab.cilium.remote import RemoteCluster
from provision.lab.cilium.state import HEALTH, HOST, REMOTE_NODE, RESERVED_LABELS, Labels, NodeEntry, NodeSource
from provision.lab.cilium.watch import ClusterWatch
from provision.lab.kube.client import KubeObject

_KUBE_API_SERVER = f"{RESERVED}:kube-apiserver"
_NODE_LABELS = frozenset({f"{RESERVED}:host", f"{RESERVED}:remote-node"})

NamedPorts = Mapping[tuple[str, str], int]
"""A container's ports by name and protocol ("http", "tcp")."""


@dataclass(frozen=True)
class Known:
    """All addresses that have an identity.

    Attributes:
        labels: of the identity behind each address; none where the identity itself is not known.
        ports: of the own cluster's pods that have ports with names.
    """

    labels: Mapping[IPv4Address, Labels]
    ports: Mapping[IPv4Address, NamedPorts] = field(default_factory=dict)

    def selected(self, selector: Selector) -> frozenset[IPv4Network]:
        """The addresses whose identities a selector picks."""
        return self._where(selector.matches)

    def entity(self, name: str, cluster: str) -> frozenset[IPv4Network]:
        """The addresses of an entity, except for those of which the agent knows nothing (`all`, `world`)."""
        if name == "cluster":
            of_cluster = has_value(CLUSTER_KEY, cluster)
            return self._where(lambda labels: of_cluster.holds(labels) or any(map(_is_reserved, labels)))
        return self._where(lambda labels: f"{RESERVED}:{name}" in labels)

    @cached_property
    def addresses(self) -> frozenset[IPv4Network]:
        """All of them."""
        return frozenset(map(IPv4Network, self.labels))

    @cached_property
    def nodes(self) -> frozenset[IPv4Network]:
        """Those of nodes."""
        return self._where(lambda labels: not _NODE_LABELS.isdisjoint(labels))

    def _where(self, matches: Callable[[Labels], bool]) -> frozenset[IPv4Network]:
        # Replicas share an identity: each set of labels is looked at once.
        picked = {labels for labels in set(self.labels.values()) if matches(labels)}
        return frozenset(IPv4Network(address) for address, labels in self.labels.items() if labels in picked)


def _is_reserved(label: str) -> bool:
    return label.startswith(f"{RESERVED}:")


def known_addresses(watch: ClusterWatch, nodes: Iterable[NodeEntry], remotes: Collection[RemoteCluster]) -> Known:
    """What the agent of a cluster knows now, by its cluster's objects and what it has learnt of the others.

    Args:
        watch: the own cluster's objects.
        nodes: all nodes that are known.
        remotes: the other clusters.
    """
    labels: dict[IPv4Address, Labels] = {}
    api_servers = _api_servers(watch)
    for node in nodes:
        role = RESERVED_LABELS[HOST if node.source is NodeSource.LOCAL else REMOTE_NODE]
        for address in filter(None, (node.address, node.router)):
            labels[address] = (*role, _KUBE_API_SERVER) if address in api_servers else role
        if node.health is not None:
            labels[node.health] = RESERVED_LABELS[HEALTH]
    own = {int(obj["metadata"]["name"]): keys.labels_of_identity(obj) for obj in watch.identities}
    for obj in watch.endpoints:
        if endpoint := keys.endpoint_of_object(obj):
            labels[endpoint.address] = own.get(endpoint.identity, ())
    for remote in remotes:
        told = dict(remote.knowledge.identities.values())
        for endpoint in remote.knowledge.endpoints.values():
            labels[endpoint.address] = told.get(endpoint.identity, ())
    return Known(labels, _named_ports(watch.pods))


def named_ports(pod: KubeObject) -> dict[tuple[str, str], int]:
    """The ports of a pod's containers that have names."""
    return {
        (str(port["name"]), str(port.get("protocol") or "TCP").lower()): int(port["containerPort"])
        for container in pod["spec"].get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("name")
    }


def _named_ports(pods: Iterable[KubeObject]) -> dict[IPv4Address, NamedPorts]:
    found: dict[IPv4Address, NamedPorts] = {}
    for pod in pods:
        address = (pod.get("status") or {}).get("podIP")
        if address and not pod["spec"].get("hostNetwork") and (ports := named_ports(pod)):
            found[IPv4Address(address)] = ports
    return found


def _api_servers(watch: ClusterWatch) -> frozenset[IPv4Address]:
    """The addresses behind the Service `kubernetes`."""
    return frozenset(
        IPv4Address(address)
        for obj in watch.slices
        if (obj["metadata"]["namespace"], obj["metadata"]["name"]) == ("default", "kubernetes")
        for endpoint in obj.get("endpoints") or ()
        for address in endpoint.get("addresses") or ()
    )
