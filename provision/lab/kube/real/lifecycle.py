"""What comes and goes with a namespace: its default ServiceAccount, the cluster's authority, and all its contents.

In Kubernetes three controllers of the controller manager do this. The lab's own API server does it by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path

from tenacity import AsyncRetrying, retry_if_result, wait_fixed

from provision.lab.kube.client import (
    CONFIG_MAPS,
    NAMESPACES,
    SERVICE_ACCOUNTS,
    AlreadyExists,
    ApiClient,
    ApiError,
    Change,
    ChangeKind,
    Conflict,
    KubeObject,
    NotFound,
    Reflector,
)
from provision.lab.kube.real.discovery import ServedKind, all_served_kinds

ACCOUNT = "default"
AUTHORITY = "kube-root-ca.crt"

_LOOK_EVERY = timedelta(milliseconds=100)
_KEPT_BACK = frozenset({"delete", "list"})


class NamespaceLifecycle:
    """Follows the namespaces of one cluster.

    Args:
        client: with all rights.
        authority: PEM file that pods verify the API server with.
    """

    def __init__(self, client: ApiClient, authority: Path) -> None:
        self._client = client
        self._authority = authority.read_text()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Run until cancelled."""
        namespaces = Reflector(self._client, NAMESPACES)
        async with asyncio.TaskGroup() as group:

            def react(change: Change) -> None:
                uid, name = change.object["metadata"]["uid"], change.object["metadata"]["name"]
                ending = "deletionTimestamp" in change.object["metadata"]
                key = f"{uid} {ending}"
                if change.kind is not ChangeKind.DELETED and key not in self._tasks:
                    self._tasks[key] = group.create_task(self._empty(name) if ending else self._furnish(name))

            namespaces.add_handler(react)
            group.create_task(namespaces.run())

    async def _furnish(self, name: str) -> None:
        for resource, obj in (
            (SERVICE_ACCOUNTS, _named(ACCOUNT, name)),
            (CONFIG_MAPS, _named(AUTHORITY, name) | {"data": {"ca.crt": self._authority}}),
        ):
            with contextlib.suppress(AlreadyExists, NotFound):
                await self._client.create(resource, obj)

    async def _empty(self, name: str) -> None:
        """Delete what is in the namespace until nothing is left, then let it go."""
        again = AsyncRetrying(retry=retry_if_result(lambda left: bool(left)), wait=wait_fixed(_LOOK_EVERY))
        await again(self._delete_contents, name)
        namespace = _named(name) | {"apiVersion": "v1", "kind": "Namespace", "spec": {"finalizers": []}}
        with contextlib.suppress(NotFound, Conflict):
            await self._client.request("PUT", f"{NAMESPACES.path(name=name)}/finalize", body=namespace)

    async def _delete_contents(self, name: str) -> int:
        """How many objects there were."""
        kinds = [kind for kind in await all_served_kinds(self._client) if kind.verbs >= _KEPT_BACK]
        found = await asyncio.gather(*(self._delete_all(kind, name) for kind in kinds if kind.resource.namespaced))
        return sum(found)

    async def _delete_all(self, kind: ServedKind, namespace: str) -> int:
        try:
            items = (await self._client.list(kind.resource, namespace)).items
        except ApiError:  # a kind that has gone meanwhile, or cannot be listed for a moment
            return 0
        for item in items:
            if "deletionTimestamp" not in item["metadata"]:
                with contextlib.suppress(NotFound, Conflict):
                    await self._client.delete(kind.resource, item["metadata"]["name"], namespace)
        return len(items)


def _named(name: str, namespace: str | None = None) -> KubeObject:
    return {"metadata": {"name": name} | ({"namespace": namespace} if namespace else {})}
