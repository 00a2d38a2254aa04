"""Watches: a response that never ends by itself and tells one change per line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from provision.lab.kube.apiserver.errors import ApiError, bad_request
from provision.lab.kube.apiserver.request import is_true
from provision.lab.kube.apiserver.resources import Resource
from provision.lab.kube.apiserver.selectors import Selection
from provision.lab.kube.apiserver.store import ADDED, Store, Stored, Subscription, encode

DEFAULT_TIMEOUT_S = 3600.0
BOOKMARK_EVERY_S = 60.0
_BOOKMARK = "BOOKMARK"
_INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}

Encoder = Callable[[Stored], bytes]


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How to watch.

    Attributes:
        since: the resourceVersion to go on from; None to begin with all objects as they are.
        timeout_s: when the server ends the watch.
        bookmarks: also tell, now and then, which resourceVersion has been reached.
        initial_events: begin with all objects, and mark their end with a bookmark.
    """

    since: int | None
    timeout_s: float = DEFAULT_TIMEOUT_S
    bookmarks: bool = False
    initial_events: bool = False

    @classmethod
    def of(cls, query: Mapping[str, str]) -> WatchOptions:
        """Read the query of a watch request.

        Raises:
            ApiError: 400, a number is none.
        """
        initial_events = is_true(query.get("sendInitialEvents"))
        version = query.get("resourceVersion", "")
        try:
            since = None if initial_events or version in ("", "0") else int(version)
            timeout_s = float(query.get("timeoutSeconds") or DEFAULT_TIMEOUT_S)
        except ValueError as error:
            raise bad_request(f"invalid watch option: {error}") from error
        return cls(since, timeout_s, is_true(query.get("allowWatchBookmarks")), initial_events)


async def serve_watch(
    request: web.Request,
    store: Store,
    resource: Resource,
    selection: Selection,
    options: WatchOptions,
    encoder: Encoder,
) -> web.StreamResponse:
    """Tell the changes of a kind until the time is up or the client has gone."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    # The snapshot and the subscription belong together: nothing may be awaited between them.
    revision = store.revision
    initial = [] if options.since is not None else store.list(resource.key, selection)
    try:
        subscription = store.subscribe(resource.key, options.since)
    except ApiError as error:
        await response.prepare(request)
        await response.write(_line("ERROR", encode(error.status())))
        return response
    try:
        await response.prepare(request)
        head = [_line(ADDED, encoder(stored)) for stored in initial]
        if options.initial_events:
            head.append(_bookmark(resource, revision, _INITIAL_EVENTS_END))
        if head:
            await response.write(b"".join(head))
        await _follow(response, store, resource, selection, options, encoder, subscription)
    except ConnectionResetError:
        pass  # the client has what it wanted
    finally:
        store.unsubscribe(resource.key, subscription)
    return response


async def _follow(
    response: web.StreamResponse,
    store: Store,
    resource: Resource,
    selection: Selection,
    options: WatchOptions,
    encoder: Encoder,
    subscription: Subscription,
) -> None:
    clock = asyncio.get_running_loop().time
    end = clock() + options.timeout_s
    while not subscription.overrun and clock() < end:
        try:
            async with asyncio.timeout_at(min(end, clock() + BOOKMARK_EVERY_S)):
                await subscription.arrived.wait()
        except TimeoutError:
            if options.bookmarks:
                await response.write(_bookmark(resource, store.revision))
            continue
        lines = []
        for event in subscription.drain():
            kind = event.seen_through(selection)
            if kind is not None:
                lines.append(_line(kind, encoder(event.stored)))
        if lines:
            await response.write(b"".join(lines))


def _line(kind: str, obj: bytes) -> bytes:
    return b'{"type":"' + kind.encode() + b'","object":' + obj + b"}\n"


def _bookmark(resource: Resource, revision: int, annotations: Mapping[str, str] | None = None) -> bytes:
    metadata: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
    if annotations:
        metadata["annotations"] = dict(annotations)
    bookmark = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    return _line(_BOOKMARK, json.dumps(bookmark).encode())
