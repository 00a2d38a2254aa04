"""What an agent makes of its node's pods: a CiliumEndpoint for each, and the CiliumIdentity that its labels ask for."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from provision.lab.cilium.cni import device_name
from provision.lab.cilium.keys import labels_of_identity
from provision.lab.cilium.state import EndpointEntry, Labels
from provision.lab.cilium.watch import CILIUM_ENDPOINTS, CILIUM_IDENTITIES, ClusterWatch
from provision.lab.kube.client import AlreadyExists, ApiError, KubeObject, NotFound

log = logging.getLogger(__name__)

_OWN_LABELS = "io.cilium.k8s"
_IGNORED = ("pod-template-generation", "pod-template-hash", "controller-revision-hash")
FINISHED = frozenset({"Succeeded", "Failed"})
_AT_ONCE = 8
_FIRST_ENDPOINT, _ENDPOINTS = 10, 4000


@dataclass(frozen=True)
class ClusterIdentity:
    """Who a cluster is in the mesh, as its settings say.

    Attributes:
        name: the cluster's name.
        number: its id.
        id_bits: how many bits of an identity's number are the cluster's own to give: 16, or 15 in a mesh of 511.
    """

    name: str
    number: int
    id_bits: int = 16

    @classmethod
    def of_settings(cls, settings: Mapping[str, str]) -> ClusterIdentity:
        """The cluster's identity by cilium-config."""
        bits = 15 if settings.get("max-connected-clusters") == "511" else 16
        return cls(settings.get("cluster-name", "default"), int(settings.get("cluster-id", 0)), bits)

    def identity(self, labels: Labels, attempt: int) -> int:
        """A number for an identity with these labels; `attempt` counts those that were taken.

        The same labels get the same number in every lab, which makes runs comparable.
        """
        digest = hashlib.sha256(";".join(labels).encode()).digest()
        first = 256 if self.number == 0 else 1
        size = (1 << self.id_bits) - first
        return (self.number << self.id_bits) + first + (int.from_bytes(digest[:4], "big") + attempt) % size


def identity_labels(pod: KubeObject, namespace: KubeObject | None, cluster: str) -> Labels:
    """The labels that a pod's identity is made of: its own, without those that every replica has another value of."""
    meta = pod["metadata"]
    account = pod["spec"].get("serviceAccountName") or "default"
    found = {key: value for key, value in (meta.get("labels") or {}).items() if _counts(key)}
    for key, value in ((namespace or {}).get("metadata", {}).get("labels") or {}).items():
        found[f"{_OWN_LABELS}.namespace.labels.{key}"] = value
    found[f"{_OWN_LABELS}.policy.cluster"] = cluster
    found[f"{_OWN_LABELS}.policy.serviceaccount"] = account
    found["io.kubernetes.pod.namespace"] = meta["namespace"]
    return tuple(sorted(f"k8s:{key}={value}" for key, value in found.items()))


def _counts(key: str) -> bool:
    if key in _IGNORED:
        return False
    return key.startswith("app.kubernetes.io/") or ("kubernetes.io/" not in key and "k8s.io/" not in key)


class IdentityAllocator:
    """Gives every set of labels one number in its cluster; the agents of a cluster share it, as they do a kvstore."""

    def __init__(self, watch: ClusterWatch) -> None:
        self._watch = watch
        self._own: dict[Labels, int] = {}
        self._lock = asyncio.Lock()

    async def number(self, labels: Labels, cluster: ClusterIdentity) -> int:
        """The identity of these labels, made when there is none.

        Raises:
            ApiError: the API server refused.
        """
        async with self._lock:
            for obj in self._watch.identities:
                if labels_of_identity(obj) == labels and _in_range(obj, cluster):
                    return int(obj["metadata"]["name"])
            if (known := self._own.get(labels)) is not None and known >> cluster.id_bits == cluster.number:
                return known  # the watch has not told yet
            attempt = 0
            while True:
                number = cluster.identity(labels, attempt)
                try:
                    await self._watch.client.create(CILIUM_IDENTITIES, _identity_object(number, labels))
                except AlreadyExists:
                    attempt += 1
                    continue
                self._own[labels] = number
                return number


def _in_range(obj: KubeObject, cluster: ClusterIdentity) -> bool:
    return int(obj["metadata"]["name"]) >> cluster.id_bits == cluster.number


def _identity_object(number: int, labels: Labels) -> KubeObject:
    security = dict(label.split("=", 1) for label in labels)
    shown = {key.removeprefix("k8s:"): value for key, value in security.items() if key.startswith("k8s:io.kubernetes")}
    return {"metadata": {"name": str(number), "labels": shown}, "security-labels": security}


class LocalEndpoints:
    """The endpoints of one node.

    Args:
        node: the node's name.
        address: its InternalIP.
        cluster: who its cluster is.
        watch: the cluster's objects.
        allocator: the cluster's identities.
    """

    def __init__(
        self,
        node: str,
        address: IPv4Address,
        cluster: ClusterIdentity,
        watch: ClusterWatch,
        allocator: IdentityAllocator,
    ) -> None:
        self._node = node
        self._address = address
        self._cluster = cluster
        self._watch = watch
        self._allocator = allocator
        self._written: dict[str, dict[str, Any]] = {}  # by the pod's uid, what the watch has not told yet
        self.entries: tuple[EndpointEntry, ...] = ()

    async def sync(self) -> None:
        """Bring the endpoints to the pods that are there now.

        Raises:
            ApiError: the API server refused; the next call tries again what is missing.
        """
        pods = [pod for pod in self._watch.pods if self._is_local(pod)]
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(pod: KubeObject) -> EndpointEntry:
            async with limit:
                return await self._sync_pod(pod)

        results = await asyncio.gather(*map(one, pods), return_exceptions=True)
        self.entries = tuple(result for result in results if isinstance(result, EndpointEntry))
        await self._remove_leftovers({(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in pods})
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _sync_pod(self, pod: KubeObject) -> EndpointEntry:
        meta = pod["metadata"]
        namespace = self._watch.namespaces.get(meta["namespace"])
        labels = identity_labels(pod, namespace, self._cluster.name)
        identity = await self._allocator.number(labels, self._cluster)
        known = self._watch.endpoints.get(meta["name"], meta["namespace"])
        number = _endpoint_number(meta["uid"])
        entry = EndpointEntry(
            id=number,
            namespace=meta["namespace"],
            pod=meta["name"],
            address=IPv4Address(pod["status"]["podIP"]),
            identity=identity,
            labels=labels,
            device=device_name(pod),
            container=hashlib.sha256(meta["uid"].encode()).hexdigest(),
        )
        status = self._status(entry)
        owner = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        if known is None and meta["uid"] not in self._written:
            obj: KubeObject = {
                "metadata": {
                    "name": meta["name"],
                    "namespace": meta["namespace"],
                    "ownerReferences": [owner],
                    "labels": meta.get("labels") or {},
                },
                "status": status,
            }
            try:
                await self._watch.client.create(CILIUM_ENDPOINTS, obj)
            except AlreadyExists:
                await self._patch(entry, status, owner)
            self._written[meta["uid"]] = status
        elif (known["status"] if known else self._written[meta["uid"]]) != status:
            await self._patch(entry, status, owner)
        if known is not None:
            self._written.pop(meta["uid"], None)
        return entry

    async def _patch(self, entry: EndpointEntry, status: Mapping[str, Any], owner: Mapping[str, Any]) -> None:
        """A pod of the same name, in a StatefulSet for instance, takes over the object of the one before."""
        patch = {"metadata": {"ownerReferences": [owner]}, "status": status}
        await self._watch.client.patch(CILIUM_ENDPOINTS, entry.pod, patch, entry.namespace)

    def _status(self, entry: EndpointEntry) -> dict[str, Any]:
        return {
            "id": entry.id,
            "identity": {"id": entry.identity, "labels": list(entry.labels)},
            "networking": {"addressing": [{"ipv4": str(entry.address)}], "node": str(self._address)},
            "external-identifiers": {
                "container-id": entry.container,
                "k8s-namespace": entry.namespace,
                "k8s-pod-name": entry.pod,
                "pod-name": f"{entry.namespace}/{entry.pod}",
            },
            "encryption": {},
            "state": entry.state,
        }

    async def _remove_leftovers(self, present: set[tuple[str, str]]) -> None:
        for obj in self._watch.endpoints:
            meta = obj["metadata"]
            here = ((obj.get("status") or {}).get("networking") or {}).get("node") == str(self._address)
            if here and (meta["namespace"], meta["name"]) not in present:
                try:
                    await self._watch.client.delete(CILIUM_ENDPOINTS, meta["name"], meta["namespace"], uid=meta["uid"])
                except NotFound:
                    pass
                except ApiError as error:
                    log.warning("%s: the endpoint of a pod that is gone was not removed: %s", self._node, error)

    def _is_local(self, pod: KubeObject) -> bool:
        spec, status = pod["spec"], pod.get("status") or {}
        return (
            spec.get("nodeName") == self._node
            and not spec.get("hostNetwork")
            and bool(status.get("podIP"))
            and status.get("phase") not in FINISHED
        )


def _endpoint_number(uid: str) -> int:
    """A pod keeps its number when its agent restarts."""
    return _FIRST_ENDPOINT + int(hashlib.sha256(uid.encode()).hexdigest()[:8], 16) % _ENDPOINTS
