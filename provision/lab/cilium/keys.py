"""What stands in a cluster's store: the keys, and how nodes, addresses, identities and services are written.

Keys and values are those of Cilium's kvstore; only what other clusters' agents read is there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from provision.lab.cilium.state import Backend, Labels, NodeEntry, NodeSource

HEARTBEAT = "cilium/.heartbeat"
HAS_CONFIG = "cilium/.has-cluster-config"
STATE = "cilium/state/"
NODES = "cilium/state/nodes/v1"
ADDRESSES = "cilium/state/ip/v1"
IDENTITIES = "cilium/state/identities/v1"
SERVICES = "cilium/state/services/v1"
LISTS = (NODES, ADDRESSES, IDENTITIES, SERVICES)

GLOBAL_ANNOTATIONS = ("service.cilium.io/global", "io.cilium/global-service")
NAMESPACE_ANNOTATION = "clustermesh.cilium.io/global"
"""On a namespace, "false": nothing of it is told to other clusters. Newer meshes heed it, and the lab's does."""

SHARED_ANNOTATIONS = ("service.cilium.io/shared", "io.cilium/shared-service")


@dataclass(frozen=True)
class StoredEndpoint:
    """A pod's address: on which node it is, and whose identity it has."""

    address: IPv4Address
    host: IPv4Address
    identity: int
    namespace: str
    pod: str


@dataclass(frozen=True)
class StoredService:
    """A service that its cluster shares with the others, and its backends there."""

    cluster: str
    cluster_id: int
    namespace: str
    name: str
    backends: tuple[Backend, ...]
    shared: bool


@dataclass(frozen=True)
class StoredConfig:
    """What a cluster says of itself."""

    cluster_id: int
    synced_canaries: bool
    max_connected_clusters: int = 255


def config_key(cluster: str) -> str:
    """Where a cluster says what it is."""
    return f"cilium/cluster-config/{cluster}"


def synced_prefix(cluster: str) -> str:
    """Below it stands a key for every list that the store holds in full."""
    return f"cilium/synced/{cluster}/"


def synced_key(cluster: str, kind: str) -> str:
    """Says that all of that list (one of LISTS) is in the store."""
    return synced_prefix(cluster) + kind


def config_value(config: StoredConfig) -> bytes:
    """A cluster's word on itself."""
    capabilities = {
        "syncedCanaries": config.synced_canaries,
        "maxConnectedClusters": config.max_connected_clusters,
    }
    return _json({"id": config.cluster_id, "capabilities": capabilities})


def read_config(value: bytes) -> StoredConfig:
    """Reads what `config_value` wrote.

    Raises:
        ValueError: it is no such value.
    """
    data = _object(value)
    capabilities = data.get("capabilities") or {}
    return StoredConfig(
        int(data.get("id", 0)),
        bool(capabilities.get("syncedCanaries")),
        int(capabilities.get("maxConnectedClusters") or 255),
    )


def node_key(node: NodeEntry) -> str:
    """The key of a node."""
    return f"{NODES}/{node.cluster}/{node.name}"


def node_value(node: NodeEntry) -> bytes:
    """A node, in the words of Cilium's own structure."""
    addresses = [{"Type": "InternalIP", "IP": str(node.address)}]
    if node.router:
        addresses.append({"Type": "CiliumInternalIP", "IP": str(node.router)})
    cidr = None
    if node.pod_cidr:
        mask = base64.b64encode(node.pod_cidr.netmask.packed).decode()
        cidr = {"IP": str(node.pod_cidr.network_address), "Mask": mask}
    return _json(
        {
            "Name": node.name,
            "Cluster": node.cluster,
            "IPAddresses": addresses,
            "IPv4AllocCIDR": cidr,
            "IPv4SecondaryAllocCIDRs": None,
            "IPv4HealthIP": str(node.health or ""),
            "IPv4IngressIP": "",
            "ClusterID": node.cluster_id,
            "Source": NodeSource.CUSTOM_RESOURCE.value,
            "EncryptionKey": 0,
            "Labels": {},
            "Annotations": {},
            "NodeIdentity": 1,
            "WireguardPubKey": "",
            "BootID": "",
        }
    )


def read_node(value: bytes) -> NodeEntry:
    """A node of another cluster.

    Raises:
        ValueError: it is no node with an address.
    """
    data = _object(value)
    addresses = {row["Type"]: IPv4Address(row["IP"]) for row in data.get("IPAddresses") or ()}
    if "InternalIP" not in addresses:
        raise ValueError("the node has no InternalIP")
    cidr = data.get("IPv4AllocCIDR")
    health = data.get("IPv4HealthIP")
    return NodeEntry(
        cluster=str(data["Cluster"]),
        name=str(data["Name"]),
        cluster_id=int(data.get("ClusterID", 0)),
        address=addresses["InternalIP"],
        pod_cidr=_network(cidr) if cidr else None,
        router=addresses.get("CiliumInternalIP"),
        health=IPv4Address(health) if health else None,
        source=NodeSource.CLUSTERMESH,
    )


def endpoint_key(address: IPv4Address) -> str:
    """The key of a pod's address."""
    return f"{ADDRESSES}/default/{address}"


def endpoint_value(endpoint: StoredEndpoint) -> bytes:
    """A pod's address."""
    return _json(
        {
            "IP": str(endpoint.address),
            "Mask": None,
            "HostIP": str(endpoint.host),
            "ID": endpoint.identity,
            "Key": 0,
            "Metadata": "",
            "K8sNamespace": endpoint.namespace,
            "K8sPodName": endpoint.pod,
        }
    )


def read_endpoint(value: bytes) -> StoredEndpoint:
    """A pod's address in another cluster.

    Raises:
        ValueError: it is no such value.
    """
    data = _object(value)
    return StoredEndpoint(
        IPv4Address(data["IP"]),
        IPv4Address(data["HostIP"]),
        int(data["ID"]),
        str(data.get("K8sNamespace") or ""),
        str(data.get("K8sPodName") or ""),
    )


def identity_key(number: int) -> str:
    """The key of an identity."""
    return f"{IDENTITIES}/id/{number}"


def identity_value(labels: Labels) -> bytes:
    """An identity's labels, sorted, each ended by a semicolon."""
    return "".join(f"{label};" for label in sorted(labels)).encode()


def read_identity(value: bytes) -> Labels:
    """An identity's labels."""
    return tuple(sorted(label for label in value.decode(errors="replace").split(";") if label))


def service_key(service: StoredService) -> str:
    """The key of a service."""
    return f"{SERVICES}/{service.cluster}/{service.namespace}/{service.name}"


def service_value(service: StoredService) -> bytes:
    """A service with its backends, by address and port."""
    backends: dict[str, dict[str, Any]] = {}
    for backend in service.backends:
        port = {"Protocol": "TCP", "Port": backend.port}
        backends.setdefault(str(backend.address), {})[str(backend.port)] = port
    return _json(
        {
            "cluster": service.cluster,
            "namespace": service.namespace,
            "name": service.name,
            "frontends": {},
            "backends": backends,
            "labels": {},
            "selector": {},
            "includeExternal": True,
            "shared": service.shared,
            "clusterID": service.cluster_id,
        }
    )


def read_service(value: bytes) -> StoredService:
    """A service of another cluster.

    Raises:
        ValueError: it is no such value.
    """
    data = _object(value)
    cluster = str(data["cluster"])
    backends = tuple(
        Backend(IPv4Address(address), int(port["Port"]), cluster)
        for address, ports in (data.get("backends") or {}).items()
        for port in ports.values()
    )
    cluster_id, shared = int(data.get("clusterID", 0)), bool(data.get("shared"))
    return StoredService(cluster, cluster_id, str(data["namespace"]), str(data["name"]), backends, shared)


def node_of_object(
    obj: Mapping[str, Any], cluster: str, cluster_id: int, source: NodeSource = NodeSource.CUSTOM_RESOURCE
) -> NodeEntry | None:
    """A node of the own cluster by its CiliumNode object, None when that has no address yet."""
    spec = obj.get("spec") or {}
    addresses = {row["type"]: row["ip"] for row in spec.get("addresses") or ()}
    if "InternalIP" not in addresses:
        return None
    cidrs = (spec.get("ipam") or {}).get("podCIDRs") or ()
    router, health = addresses.get("CiliumInternalIP"), (spec.get("health") or {}).get("ipv4")
    return NodeEntry(
        cluster=cluster,
        name=str(obj["metadata"]["name"]),
        cluster_id=cluster_id,
        address=IPv4Address(addresses["InternalIP"]),
        pod_cidr=IPv4Network(cidrs[0]) if cidrs else None,
        router=IPv4Address(router) if router else None,
        health=IPv4Address(health) if health else None,
        source=source,
    )


def endpoint_of_object(obj: Mapping[str, Any]) -> StoredEndpoint | None:
    """A pod's address by its CiliumEndpoint object, None when that has none."""
    status, meta = obj.get("status") or {}, obj["metadata"]
    networking = status.get("networking") or {}
    addressing, host = networking.get("addressing") or (), networking.get("node")
    if not addressing or not host or "ipv4" not in addressing[0]:
        return None
    identity = int((status.get("identity") or {}).get("id") or 0)
    address = IPv4Address(addressing[0]["ipv4"])
    return StoredEndpoint(address, IPv4Address(host), identity, str(meta["namespace"]), str(meta["name"]))


def labels_of_identity(obj: Mapping[str, Any]) -> Labels:
    """The labels of a CiliumIdentity object."""
    return tuple(sorted(f"{key}={value}" for key, value in (obj.get("security-labels") or {}).items()))


def backends_of(slices: Iterable[Mapping[str, Any]], namespace: str, name: str, cluster: str) -> tuple[Backend, ...]:
    """The ready backends of a service by its EndpointSlice objects."""
    found = set()
    for obj in slices:
        meta = obj["metadata"]
        if meta["namespace"] != namespace or (meta.get("labels") or {}).get("kubernetes.io/service-name") != name:
            continue
        for endpoint in obj.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            for address in endpoint.get("addresses") or ():
                for port in obj.get("ports") or ():
                    found.add(Backend(IPv4Address(address), int(port["port"]), cluster))
    return tuple(sorted(found, key=lambda backend: (backend.address, backend.port)))


def hidden_namespaces(namespaces: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The names of those Namespace objects that other clusters are not to know of."""
    return frozenset(
        str(obj["metadata"]["name"])
        for obj in namespaces
        if (obj["metadata"].get("annotations") or {}).get(NAMESPACE_ANNOTATION) == "false"
    )


def is_global(service: Mapping[str, Any]) -> bool:
    """A Service object is annotated as one that several clusters answer for."""
    annotations = service["metadata"].get("annotations") or {}
    return any(annotations.get(name) == "true" for name in GLOBAL_ANNOTATIONS)


def is_shared(service: Mapping[str, Any]) -> bool:
    """A global Service object gives its backends to the other clusters, which is so unless it is told not to."""
    annotations = service["metadata"].get("annotations") or {}
    return not any(annotations.get(name) == "false" for name in SHARED_ANNOTATIONS)


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def _object(value: bytes) -> dict[str, Any]:
    try:
        data = json.loads(value)
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    return data


def _network(cidr: Mapping[str, str]) -> IPv4Network:
    mask = IPv4Address(base64.b64decode(cidr["Mask"]))
    return IPv4Network(f"{cidr['IP']}/{mask}")
