"""What an agent knows, put together from its cluster's objects and from what it has learnt of the other clusters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Network

from provision.lab.cilium import keys
from provision.lab.cilium.endpoints import ClusterIdentity
from provision.lab.cilium.remote import RemoteCluster
from provision.lab.cilium.state import (
    HEALTH,
    HOST,
    REMOTE_NODE,
    RESERVED_LABELS,
    WORLD,
    Backend,
    IdentityEntry,
    IpcacheEntry,
    NodeEntry,
    NodeSource,
    ServiceEntry,
    TunnelEntry,
)
from provision.lab.cilium.watch import ClusterWatch

_EVERYWHERE = IPv4Network("0.0.0.0/0")


def ipcache(
    watch: ClusterWatch,
    cluster: ClusterIdentity,
    nodes: Sequence[NodeEntry],
    remotes: Collection[RemoteCluster],
    tunnels: Sequence[TunnelEntry],
    *,
    pod_cidrs: bool,
) -> tuple[IpcacheEntry, ...]:
    """Every address that is known, with its identity and the tunnel that the kernel has in front of it.

    Args:
        watch: the own cluster's objects.
        cluster: who the own cluster is.
        nodes: all nodes that are known.
        remotes: the other clusters.
        tunnels: the tunnel map as the kernel has it.
        pod_cidrs: whether the blocks of other nodes are entries, too.
    """
    ends = {entry.prefix: entry.endpoint for entry in tunnels}
    lengths = sorted({prefix.prefixlen for prefix in ends}, reverse=True)
    found = {_EVERYWHERE: IpcacheEntry(_EVERYWHERE, WORLD)}
    if pod_cidrs:
        found |= {prefix: IpcacheEntry(prefix, WORLD, end) for prefix, end in ends.items()}

    def add(address: IPv4Address, identity: int, cluster_id: int) -> None:
        outer = (IPv4Network((address, length), strict=False) for length in lengths)
        through = next((ends[prefix] for prefix in outer if prefix in ends), None)
        prefix = IPv4Network(address)
        found[prefix] = IpcacheEntry(prefix, identity, through, cluster_id != cluster.number)

    for node in nodes:
        role = HOST if node.source is NodeSource.LOCAL else REMOTE_NODE
        add(node.address, role, node.cluster_id)
        if node.router is not None:
            add(node.router, role, node.cluster_id)
        if node.health is not None:
            add(node.health, HEALTH, node.cluster_id)
    for obj in watch.endpoints:
        if endpoint := keys.endpoint_of_object(obj):
            add(endpoint.address, endpoint.identity, cluster.number)
    for remote in remotes:
        number = remote.state.config.cluster_id if remote.state.config else 0
        for endpoint in remote.knowledge.endpoints.values():
            add(endpoint.address, endpoint.identity, number)
    return tuple(found[prefix] for prefix in sorted(found))


def identities(watch: ClusterWatch, remotes: Collection[RemoteCluster]) -> tuple[IdentityEntry, ...]:
    """The reserved identities, the own cluster's and the others'."""
    found = dict(RESERVED_LABELS)
    for obj in watch.identities:
        found[int(obj["metadata"]["name"])] = keys.labels_of_identity(obj)
    for remote in remotes:
        found |= dict(remote.knowledge.identities.values())
    return tuple(IdentityEntry(number, found[number]) for number in sorted(found))


def services(watch: ClusterWatch, cluster: str, remotes: Collection[RemoteCluster]) -> tuple[ServiceEntry, ...]:
    """The own cluster's services; a global one has the backends that the other clusters share, too."""
    found: list[ServiceEntry] = []
    for obj in sorted(watch.services, key=lambda obj: (obj["metadata"]["namespace"], obj["metadata"]["name"])):
        spec, meta = obj["spec"], obj["metadata"]
        address = spec.get("clusterIP")
        if not address or address == "None":
            continue
        backends = keys.backends_of(watch.slices, meta["namespace"], meta["name"], cluster)
        shared = keys.is_global(obj)
        if shared:
            backends += _shared_backends(remotes, meta["namespace"], meta["name"])
        for port in spec.get("ports") or ():
            found.append(
                ServiceEntry(
                    id=len(found) + 1,
                    namespace=meta["namespace"],
                    name=meta["name"],
                    kind=spec.get("type") or "ClusterIP",
                    address=IPv4Address(address),
                    port=int(port["port"]),
                    protocol=port.get("protocol") or "TCP",
                    backends=backends,
                    shared=shared,
                )
            )
    return tuple(found)


def _shared_backends(remotes: Collection[RemoteCluster], namespace: str, name: str) -> tuple[Backend, ...]:
    return tuple(
        backend
        for remote in remotes
        for service in remote.knowledge.services.values()
        if (service.namespace, service.name, service.shared) == (namespace, name, True)
        for backend in service.backends
    )
