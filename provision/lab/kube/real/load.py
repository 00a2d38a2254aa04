"""Filling a new cluster through its API with what the lab's clusters hold from the start.

Objects that have an owner are left to their owners' controllers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from itertools import groupby

from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_fixed

from provision.lab.kube.client import (
    AlreadyExists,
    ApiClient,
    ApiError,
    Forbidden,
    Invalid,
    NotFound,
    Patch,
    Unreachable,
)
from provision.lab.kube.objects import KubeObject
from provision.lab.kube.real.discovery import ServedKind, served_kinds

PATIENCE = timedelta(seconds=60)
"""How long a new API server may take until it knows a kind, an account or an address range that it was just given."""

_LOOK_EVERY = timedelta(milliseconds=50)
_SERVER_ERROR = 500


class LoadError(Exception):
    """An object was refused; the text names it and says why."""


async def load(client: ApiClient, objects: Iterable[KubeObject]) -> None:
    """Create the objects in their order; neighbours of one kind do not need each other and go together.

    Args:
        client: with all rights.
        objects: as `provision.lab.seed` makes them.

    Raises:
        LoadError: one is refused, or still is after a while where that may pass.
    """
    loader = _Loader(client)
    free = (obj for obj in objects if "ownerReferences" not in obj["metadata"])
    for _, neighbours in groupby(free, key=lambda obj: (obj["apiVersion"], obj["kind"])):
        first = None
        try:
            async with asyncio.TaskGroup() as group:
                for obj in neighbours:
                    group.create_task(loader.create(obj))
        except* LoadError as refused:
            first = refused.exceptions[0]
        if first is not None:  # raised here: what `except*` raises is a group again
            raise first


class _Loader:
    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._kinds: dict[tuple[str, str], ServedKind] = {}

    async def create(self, obj: KubeObject) -> None:
        retrying = AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_delay(PATIENCE),
            wait=wait_fixed(_LOOK_EVERY),
            reraise=True,
        )
        try:
            await retrying(self._create, obj)
        except ApiError as error:
            metadata = obj["metadata"]
            raise LoadError(f"{obj['kind']} {metadata.get('namespace', '')}/{metadata['name']}: {error}") from error

    async def _create(self, obj: KubeObject) -> None:
        kind = await self._kind(obj["apiVersion"], obj["kind"])
        metadata = obj["metadata"]
        resource, name, namespace = kind.resource, metadata["name"], metadata.get("namespace")
        try:
            await self._client.create(resource, obj)
        except (AlreadyExists, Invalid) as refusal:
            # Made by the server itself, or by an attempt whose answer was lost. Of a Service the server says that its
            # address is taken before it says that its name is.
            wish = {key: value for key, value in obj.items() if key != "status"}
            wish["metadata"] = {key: value for key, value in metadata.items() if key != "uid"}
            try:
                await self._client.patch(resource, name, wish, namespace, kind=Patch.MERGE)
            except NotFound:
                raise refusal from None
        if kind.has_status and "status" in obj:
            await self._client.patch_status(resource, name, obj["status"], namespace)

    async def _kind(self, api_version: str, kind: str) -> ServedKind:
        if (api_version, kind) not in self._kinds:
            for served in await served_kinds(self._client, api_version):
                self._kinds[api_version, served.resource.kind] = served
        try:
            return self._kinds[api_version, kind]
        except KeyError:
            raise NotFound(404, "NotFound", f"no kind {kind} in {api_version}", "discovery") from None


def _may_pass(error: BaseException) -> bool:
    """A kind that is not served yet, an account that its controller has not made yet, a server that is still busy."""
    return isinstance(error, NotFound | Forbidden | Unreachable) or (
        isinstance(error, ApiError) and error.code >= _SERVER_ERROR
    )
