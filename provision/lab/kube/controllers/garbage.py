"""Garbage collection: what is owned goes when its last owner has gone, and pods go with their node."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from provision.lab.kube.client import PODS, ApiClient, Conflict, KubeObject, NotFound, Reflector, Resource
from provision.lab.kube.controllers.queue import Key


class GarbageCollector:
    """Deletes objects whose owners are gone. Owners of kinds that are not watched are taken to be there.

    Args:
        client: an API client.
        reflectors: one for each watched kind.
    """

    def __init__(self, client: ApiClient, reflectors: Mapping[Resource, Reflector]) -> None:
        self._client = client
        self._reflectors = reflectors
        self._by_kind = {(resource.api_version, resource.kind): resource for resource in reflectors}

    async def reconcile_all(self, _key: Key) -> None:
        """Deletes all that is owned and has no owner left."""
        for resource, obj in tuple(self._orphans()):
            if await self._is_orphan(obj):
                meta = obj["metadata"]
                try:
                    await self._client.delete(resource, meta["name"], meta.get("namespace"), uid=meta["uid"])
                except (NotFound, Conflict):
                    continue

    def _orphans(self) -> Iterator[tuple[Resource, KubeObject]]:
        for resource, reflector in self._reflectors.items():
            for obj in reflector:
                owners = obj["metadata"].get("ownerReferences")
                if owners and "deletionTimestamp" not in obj["metadata"] and not self._any_known(obj, owners):
                    yield resource, obj

    def _any_known(self, obj: KubeObject, owners: list[Mapping[str, Any]]) -> bool:
        return any(self._known(owner, obj["metadata"].get("namespace")) for owner in owners)

    def _known(self, reference: Mapping[str, Any], namespace: str | None) -> bool:
        resource = self._by_kind.get((reference["apiVersion"], reference["kind"]))
        if resource is None:
            return True
        owner = self._reflectors[resource].get(reference["name"], namespace if resource.namespaced else None)
        return owner is not None and owner["metadata"]["uid"] == reference["uid"]

    async def _is_orphan(self, obj: KubeObject) -> bool:
        """Asks the server: the owner may be so young that its reflector has not shown it yet."""
        for reference in obj["metadata"]["ownerReferences"]:
            resource = self._by_kind[reference["apiVersion"], reference["kind"]]
            namespace = obj["metadata"].get("namespace") if resource.namespaced else None
            try:
                owner = await self._client.get(resource, reference["name"], namespace)
            except NotFound:
                continue
            if owner["metadata"]["uid"] == reference["uid"]:
                return False
        return True


class PodCollector:
    """Removes pods that were bound to a node which is no longer there: no kubelet is left to finish them."""

    def __init__(self, client: ApiClient, pods: Reflector, nodes: Reflector) -> None:
        self._client = client
        self._pods = pods
        self._nodes = nodes

    async def reconcile_all(self, _key: Key) -> None:
        """Deletes every such pod at once, without grace."""
        for pod in tuple(self._pods):
            node, meta = pod["spec"].get("nodeName"), pod["metadata"]
            if node and self._nodes.get(node) is None:
                with contextlib.suppress(NotFound, Conflict):
                    await self._client.delete(PODS, meta["name"], meta["namespace"], uid=meta["uid"], grace_seconds=0)
