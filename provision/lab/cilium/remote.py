"""An agent's view of another cluster: the connection to its store, and what was learnt through it.

What was learnt stays when the store goes away: traffic to pods that are known goes on. Once the store is back, it
counts only when it says that it is complete: one that has just been born must not look like a cluster without nodes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from provision.lab.cilium import keys
from provision.lab.cilium.connection import EtcdError, RefusedError, Target, Tls
from provision.lab.cilium.etcd import Backoff, EtcdClient, Range, StoreChange
from provision.lab.cilium.keys import StoredConfig, StoredEndpoint, StoredService
from provision.lab.cilium.state import Labels, NodeEntry, RemoteConfig, RemoteState, RemoteSync

log = logging.getLogger(__name__)

_Value = TypeVar("_Value")

RETRY_FIRST_S = 0.05
RETRY_MOST_S = 0.5
QUORUM_CHECK_S = 15.0
WAITING = "Waiting for initial connection to be established"
ALL_SYNCED = RemoteSync(nodes=True, endpoints=True, identities=True, services=True)


@dataclass(frozen=True)
class Access:
    """Where a store is, and what to show there."""

    target: Target
    tls: Tls


class Knowledge:
    """What is known of one cluster, kept by the store's own keys, so that nothing counts twice."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeEntry] = {}
        self.endpoints: dict[str, StoredEndpoint] = {}
        self.identities: dict[str, tuple[int, Labels]] = {}
        self.services: dict[str, StoredService] = {}

    def take(self, changes: Iterable[StoreChange]) -> None:
        """Take note of changes; what cannot be understood is logged and left out."""
        for change in changes:
            try:
                self._take(change)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("key %s is not understood: %r", change.key, error)

    def replace(self, listed: Range) -> None:
        """Take a full list in the place of everything that was known."""
        fresh = {row.key for row in listed.items}
        for known in (self.nodes, self.endpoints, self.identities, self.services):
            for key in known.keys() - fresh:
                del known[key]
        self.take(StoreChange(row.key, row.value) for row in listed.items)

    def _take(self, change: StoreChange) -> None:
        key, value = change.key, change.value
        if key.startswith(keys.NODES + "/"):
            _set(self.nodes, key, keys.read_node(value) if value is not None else None)
        elif key.startswith(keys.ADDRESSES + "/"):
            _set(self.endpoints, key, keys.read_endpoint(value) if value is not None else None)
        elif key.startswith(keys.IDENTITIES + "/id/"):
            number = int(key.rsplit("/", 1)[1])
            _set(self.identities, key, (number, keys.read_identity(value)) if value is not None else None)
        elif key.startswith(keys.SERVICES + "/"):
            _set(self.services, key, keys.read_service(value) if value is not None else None)


class RemoteCluster:
    """One agent's connection to one cluster's store.

    Args:
        owner: the node whose agent it is, for the log.
        name: the cluster, as the settings name it.
        access: says how to reach the store, by the settings as they are now; raises EtcdError when they are no good.
        accept: raises RefusedError when a cluster of that id must not be joined.
        changed: called whenever something was learnt or forgotten.
    """

    def __init__(
        self,
        owner: str,
        name: str,
        access: Callable[[], Access],
        accept: Callable[[str, StoredConfig], None],
        changed: Callable[[], None],
    ) -> None:
        self.name = name
        self._owner = owner
        self.knowledge = Knowledge()
        self._access = access
        self._accept = accept
        self._changed = changed
        self._client: EtcdClient | None = None
        self._outdated = False
        self._state = RemoteState(name, connected=False, ready=False, status=WAITING)

    @property
    def state(self) -> RemoteState:
        """The connection as it is now."""
        known = self.knowledge
        return replace(
            self._state,
            nodes=len(known.nodes),
            endpoints=len(known.endpoints),
            identities=len(known.identities),
            services=len(known.services),
        )

    def reconnect(self) -> None:
        """End the connection, so that it is made anew by the settings as they are now."""
        self._outdated = True
        if self._client is not None:
            self._client.close()

    async def run(self) -> None:
        """Connect, learn, follow, and connect again, until cancelled."""
        backoff = Backoff(RETRY_FIRST_S, RETRY_MOST_S)
        while True:
            try:
                self._outdated = False
                access = self._access()
                async with await EtcdClient.connect(access.target, access.tls) as client:
                    if self._outdated:  # changed while this one was made
                        continue
                    self._client = client
                    await self._follow(client, backoff)
            except EtcdError as error:
                self._fail(error)
            finally:
                self._client = None
            await backoff.wait()

    async def _follow(self, client: EtcdClient, backoff: Backoff) -> None:
        self._state = replace(self._state, connected=True, status="etcd: 1/1 connected, has-quorum=true")
        config = await self._read_config(client)
        self._accept(self.name, config)
        self._state = replace(self._state, ready=True, last_error="")
        self._changed()
        if config.synced_canaries:
            wanted = {keys.synced_key(self.name, kind) for kind in keys.LISTS}
            await _await_keys(client, keys.synced_prefix(self.name), wanted)
        listed = await client.get_prefix(keys.STATE)
        self.knowledge.replace(listed)
        self._state = replace(self._state, synced=ALL_SYNCED, status=_good_status(listed.cluster))
        self._changed()
        log.info("%s: cluster %s is followed: %d nodes", self._owner, self.name, len(self.knowledge.nodes))
        backoff.reset()
        check = asyncio.create_task(self._check_quorum(client))
        try:
            watched = (keys.STATE, keys.config_key(self.name))
            async with aclosing(client.watch(watched, listed.revision + 1)) as changes:
                async for change in changes:
                    self._take(change)
        finally:
            check.cancel()

    async def _read_config(self, client: EtcdClient) -> StoredConfig:
        self._state = replace(self._state, config=RemoteConfig(required=True, retrieved=False))
        key = keys.config_key(self.name)
        value = (await _await_keys(client, key, {key}))[key]
        try:
            config = keys.read_config(value)
        except (ValueError, TypeError) as error:
            raise RefusedError(f"{key} is not understood: {error}") from error
        told = RemoteConfig(True, True, config.cluster_id, sync_canaries=config.synced_canaries)
        self._state = replace(self._state, config=told)
        return config

    def _take(self, changes: tuple[StoreChange, ...]) -> None:
        if any(change.key == keys.config_key(self.name) for change in changes):
            raise RefusedError(f"cluster {self.name} has changed its settings")
        self.knowledge.take(changes)
        self._changed()

    async def _check_quorum(self, client: EtcdClient) -> None:
        """A store that stands but does not answer is no store: end its connection, and so what waits for it."""
        while True:
            await asyncio.sleep(QUORUM_CHECK_S)
            try:
                await client.get(keys.HEARTBEAT)
            except EtcdError:
                client.close()
                return

    def _fail(self, error: EtcdError) -> None:
        state = self._state
        if str(error) != state.last_error:
            log.info("%s: cluster %s: %s", self._owner, self.name, error)
        self._state = replace(
            state,
            connected=False,
            ready=False,
            status=f"Err: quorum check failed: {error}" if state.synced.complete else WAITING,
            failures=state.failures + 1,
            last_failure=datetime.now(UTC),
            last_error=str(error),
        )


class ClusterIds:
    """The ids of the clusters that an agent has joined: no two may have the same, for identities carry them."""

    def __init__(self, name: str, own: int) -> None:
        self._own_name = name
        self._own = own
        self._taken: dict[int, str] = {}

    def accept(self, name: str, config: StoredConfig) -> None:
        """Take a cluster's id for it.

        Raises:
            RefusedError: the id is another cluster's, or none.
        """
        number = config.cluster_id
        if not number:
            raise RefusedError(f"cluster {name} has no cluster id")
        if number == self._own:
            raise RefusedError(f"cluster {name} has the cluster id {number}, which is that of {self._own_name} itself")
        if self._taken.get(number, name) != name:
            raise RefusedError(f"cluster {name} has the cluster id {number}, which is that of {self._taken[number]}")
        self.release(name)
        self._taken[number] = name

    def release(self, name: str) -> None:
        """A cluster is no longer joined."""
        self._taken = {number: other for number, other in self._taken.items() if other != name}


async def _await_keys(client: EtcdClient, prefix: str, wanted: set[str]) -> Mapping[str, bytes]:
    """The wanted keys below a prefix, once all of them are there."""
    listed = await client.get_prefix(prefix)
    found = {row.key: row.value for row in listed.items}
    if wanted <= found.keys():
        return found
    async with aclosing(client.watch([prefix], listed.revision + 1)) as changes:
        async for batch in changes:
            for change in batch:
                if change.value is None:
                    found.pop(change.key, None)
                else:
                    found[change.key] = change.value
            if wanted <= found.keys():
                return found
    raise AssertionError("a watch ends by an error only")


def _set(known: dict[str, _Value], key: str, value: _Value | None) -> None:
    if value is None:
        known.pop(key, None)
    else:
        known[key] = value


def _good_status(cluster: int) -> str:
    quorum = "has-quorum=true: endpoint status checks are disabled"
    return f"etcd: 1/1 connected, leases=0, lock leases=0, {quorum}, ID: {cluster:x}"
