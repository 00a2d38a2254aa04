"""The objects of one cluster, in memory: every change has a revision and is told to the watchers of its kind."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from provision.lab.kube.apiserver.errors import expired
from provision.lab.kube.apiserver.resources import ResourceKey
from provision.lab.kube.apiserver.selectors import Selection

ObjectName: TypeAlias = tuple[str, str]
"""(namespace, name); the namespace of a cluster-scoped object is ""."""

EVENTS_KEPT = 2000
"""How many events of a kind a watcher can still go back to."""
BACKLOG_LIMIT = 20_000
"""A watcher that is further behind than this is dropped; its client lists anew."""

ADDED = "ADDED"
MODIFIED = "MODIFIED"
DELETED = "DELETED"


def encode(document: Any) -> bytes:
    """JSON without blanks."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


class Stored:
    """One state of one object. It never changes: a write puts another state in its place.

    Attributes:
        data: the object. Whoever reads it must leave it as it is, and edit a `copy`.
        revision: the revision that wrote this state.
    """

    __slots__ = ("_json", "data", "revision")

    def __init__(self, data: dict[str, Any], revision: int) -> None:
        self.data = data
        self.revision = revision
        self._json: bytes | None = None

    @property
    def json(self) -> bytes:
        """The object as it goes over the wire, encoded once for all readers."""
        if self._json is None:
            self._json = encode(self.data)
        return self._json

    def json_as(self, api_version: str) -> bytes:
        """The same in another version of its group."""
        return self.json if self.data["apiVersion"] == api_version else encode(self.data | {"apiVersion": api_version})

    def copy(self) -> dict[str, Any]:
        """The object, to be changed by the caller."""
        copied: dict[str, Any] = json.loads(self.json)
        return copied

    @property
    def name(self) -> ObjectName:
        """What the store files it under."""
        metadata = self.data["metadata"]
        return (metadata.get("namespace", ""), metadata["name"])


@dataclass(frozen=True, slots=True)
class Event:
    """A change: `previous` is the state before, None for a new object."""

    kind: str
    resource: ResourceKey
    stored: Stored
    previous: Stored | None

    def seen_through(self, selection: Selection) -> str | None:
        """What the change is for a watcher with that selection: ADDED, MODIFIED, DELETED, or None for nothing.

        An object that leaves the selection is DELETED for this watcher, one that enters it is ADDED.
        """
        was = self.previous is not None and selection.matches(self.previous.data)
        if self.kind == DELETED:
            return DELETED if was else None
        if selection.matches(self.stored.data):
            return MODIFIED if was else ADDED
        return DELETED if was else None


@dataclass(eq=False)
class Subscription:
    """A watcher's own queue of events.

    Attributes:
        overrun: the watcher fell too far behind; no further events come.
    """

    events: deque[Event] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    overrun: bool = False

    def offer(self, event: Event) -> None:
        """Queue an event and wake the watcher."""
        if len(self.events) >= BACKLOG_LIMIT:
            self.overrun = True
        else:
            self.events.append(event)
        self.arrived.set()

    def drain(self) -> list[Event]:
        """Take all queued events."""
        events = list(self.events)
        self.events.clear()
        self.arrived.clear()
        return events


class _Kind:
    """The objects of one kind, its latest events and its watchers."""

    def __init__(self, floor: int) -> None:
        self.objects: dict[ObjectName, Stored] = {}
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.floor = floor  # events up to this revision are no longer kept
        self.watchers: set[Subscription] = set()

    def record(self, event: Event) -> None:
        if len(self.events) == EVENTS_KEPT:
            self.floor = self.events[0].stored.revision
        self.events.append(event)
        for watcher in self.watchers:
            watcher.offer(event)


class Store:
    """The objects of one cluster. Used from one event loop only, so every method is atomic."""

    def __init__(self) -> None:
        self.revision = 1
        self._floor = 1
        self._kinds: defaultdict[ResourceKey, _Kind] = defaultdict(lambda: _Kind(self._floor))
        self._listeners: list[Callable[[Event], None]] = []

    def get(self, key: ResourceKey, namespace: str, name: str) -> Stored | None:
        """The object, or None."""
        return self._kinds[key].objects.get((namespace, name))

    def list(self, key: ResourceKey, selection: Selection) -> list[Stored]:
        """The selected objects, ordered by namespace and name."""
        objects = self._kinds[key].objects
        return [objects[name] for name in sorted(objects) if selection.matches(objects[name].data)]

    def all(self, key: ResourceKey) -> Iterable[Stored]:
        """All objects of a kind, in no order."""
        return tuple(self._kinds[key].objects.values())

    def write(self, key: ResourceKey, data: dict[str, Any]) -> Stored:
        """Put an object in, new or in place of its former state. The store keeps `data`; do not touch it afterwards."""
        return self._commit(key, data, deleted=False)

    def remove(self, key: ResourceKey, data: dict[str, Any]) -> Stored:
        """Take an object out; `data` is its last state, which watchers are told."""
        return self._commit(key, data, deleted=True)

    def _commit(self, key: ResourceKey, data: dict[str, Any], *, deleted: bool) -> Stored:
        self.revision += 1
        data["metadata"]["resourceVersion"] = str(self.revision)
        stored = Stored(data, self.revision)
        kind = self._kinds[key]
        if deleted:
            previous = kind.objects.pop(stored.name)
            event = Event(DELETED, key, stored, previous)
        else:
            former = kind.objects.get(stored.name)
            kind.objects[stored.name] = stored
            event = Event(ADDED if former is None else MODIFIED, key, stored, former)
        kind.record(event)
        for listener in self._listeners:
            listener(event)
        return stored

    def forget(self, key: ResourceKey) -> None:
        """Drop a kind with all its objects."""
        for stored in self.all(key):
            self.remove(key, stored.copy())

    def on_change(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` for every change of any kind, in order, inside the write."""
        self._listeners.append(listener)

    def subscribe(self, key: ResourceKey, since: int | None) -> Subscription:
        """Queue up the changes of a kind for a watcher: those after revision `since`, or, with None, from now on.

        Raises:
            ApiError: 410, the events since then are no longer kept.
        """
        kind = self._kinds[key]
        subscription = Subscription()
        if since is not None:
            if not kind.floor <= since <= self.revision:
                raise expired(f"too old resource version: {since} ({kind.floor})")
            for event in kind.events:
                if event.stored.revision > since:
                    subscription.offer(event)
        kind.watchers.add(subscription)
        return subscription

    def unsubscribe(self, key: ResourceKey, subscription: Subscription) -> None:
        """End a subscription."""
        self._kinds[key].watchers.discard(subscription)

    def compact(self) -> None:
        """Forget how the objects came to be: nobody can watch from before this moment."""
        self._floor = self.revision
        for kind in self._kinds.values():
            kind.events.clear()
            kind.floor = self.revision
