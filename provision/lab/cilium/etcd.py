"""A client of etcd's API (version 3), as much of it as the mesh uses.

An `EtcdClient` is one connection, made from a given network namespace and never made again: who needs the store for
long connects anew with a `Backoff`. Every call has a deadline. What goes wrong is an `EtcdError`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self

from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from provision.lab.cilium import wire
from provision.lab.cilium.connection import (
    CompactedError,
    EtcdError,
    PermissionDeniedError,
    RefusedError,
    StoreChannel,
    Target,
    Tls,
    UnreachableError,
)
from provision.lab.cilium.wire import Message

DEADLINE_S = 5.0
BATCH = 100
"""etcd takes up to 128 operations in a transaction."""


@dataclass(frozen=True)
class KeyValue:
    """A key of the store. `lease` is 0 for a key that stays for ever."""

    key: str
    value: bytes
    revision: int
    lease: int = 0


@dataclass(frozen=True)
class Range:
    """The keys that were asked for, as they were at `revision`."""

    items: tuple[KeyValue, ...]
    revision: int
    cluster: int


@dataclass(frozen=True)
class StoreChange:
    """A key was written, or deleted (`value` is None)."""

    key: str
    value: bytes | None


class Permission(Enum):
    """What a role may do with a range of keys; the values are etcd's."""

    READ = 0
    READ_WRITE = 2


def prefix_end(prefix: str) -> bytes:
    """The first key after all that start with `prefix`."""
    key = prefix.encode()
    return key[:-1] + bytes([key[-1] + 1]) if key else b"\0"


class EtcdClient:
    """One connection to one store, from `connect` to `close`; also an async context manager."""

    def __init__(self, channel: StoreChannel, target: Target) -> None:
        self._channel = channel
        self.target = target

    @classmethod
    async def connect(cls, target: Target, tls: Tls) -> EtcdClient:
        """Connect to the first of the target's addresses that answers.

        Raises:
            UnreachableError: none does.
            BadCertificateError: one does, and its certificate is not trusted or not valid for the host.
        """
        channel = StoreChannel(target, tls.context())
        await channel.open()
        return cls(channel, target)

    @property
    def connected(self) -> bool:
        """The connection stands."""
        return self._channel.standing

    @property
    def peer(self) -> str:
        """Address and port of the store."""
        return self._channel.peer

    @property
    def protocol(self) -> str:
        """The version of TLS that was agreed upon."""
        return self._channel.tls_version

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def get(self, key: str) -> KeyValue | None:
        """One key, or None.

        Raises:
            EtcdError: the store could not be asked, or refused.
        """
        answer = await self._range(wire.encode((1, key)))
        return answer.items[0] if answer.items else None

    async def get_prefix(self, prefix: str) -> Range:
        """All keys that start with `prefix`.

        Raises:
            EtcdError: the store could not be asked, or refused.
        """
        return await self._range(wire.encode((1, prefix), (2, prefix_end(prefix))))

    async def put(self, key: str, value: bytes, lease: int = 0) -> None:
        """Write a key.

        Raises:
            EtcdError: the store could not be asked, or refused.
        """
        await self._call("KV/Put", _put(key, value, lease))

    async def delete(self, key: str) -> int:
        """Delete a key; returns how many there were.

        Raises:
            EtcdError: the store could not be asked, or refused.
        """
        return (await self._call("KV/DeleteRange", wire.encode((1, key)))).number(2)

    async def delete_prefix(self, prefix: str) -> int:
        """Delete all keys that start with `prefix`; returns how many there were.

        Raises:
            EtcdError: the store could not be asked, or refused.
        """
        return (await self._call("KV/DeleteRange", wire.encode((1, prefix), (2, prefix_end(prefix))))).number(2)

    async def write(self, puts: Sequence[tuple[str, bytes]], deletes: Sequence[str] = (), lease: int = 0) -> None:
        """Write and delete many keys, in transactions of a hundred.

        Raises:
            EtcdError: the store could not be asked, or refused.
        """
        operations = [wire.nested(2, wire.nested(2, _put(key, value, lease))) for key, value in puts]
        operations += [wire.nested(2, wire.nested(3, wire.encode((1, key)))) for key in deletes]
        for start in range(0, len(operations), BATCH):
            await self._call("KV/Txn", b"".join(operations[start : start + BATCH]))

    async def watch(self, prefixes: Iterable[str], revision: int) -> AsyncGenerator[tuple[StoreChange, ...], None]:
        """Changes of all keys below these prefixes, from `revision` on, until the caller ends it.

        Raises:
            CompactedError: the revision is too old.
            EtcdError: the store could not be asked, or refused, or the connection broke.
        """
        try:
            async with self._channel.request(
                "/etcdserverpb.Watch/Watch", Cardinality.STREAM_STREAM, bytes, bytes
            ) as stream:
                for prefix in prefixes:
                    create = wire.encode((1, prefix), (2, prefix_end(prefix)), (3, revision))
                    await stream.send_message(wire.nested(1, create))
                while (data := await stream.recv_message()) is not None:
                    answer = Message(data)
                    if answer.number(4):
                        raise _cancelled(answer)
                    if events := answer.messages(11):
                        yield tuple(_change(event) for event in events)
        except _FAILURES as error:
            raise self._failure("Watch", error) from error
        raise UnreachableError(f"the store at {self.target} ended the watch")

    async def grant_lease(self, seconds: int) -> int:
        """A lease for keys that are to go when nobody keeps it alive.

        Raises:
            EtcdError: the store could not be asked, or refused.
        """
        return (await self._call("Lease/LeaseGrant", wire.encode((1, seconds)))).number(2)

    async def keep_alive(self, lease: int) -> bool:
        """Renew a lease once; False when it has ended.

        Raises:
            EtcdError: the store could not be asked, or refused.
        """
        answer = await self._call("Lease/LeaseKeepAlive", wire.encode((1, lease)), Cardinality.STREAM_STREAM)
        return answer.number(3) > 0

    async def version(self) -> str:
        """The version of the store's program.

        Raises:
            EtcdError: the store could not be asked, or refused.
        """
        return (await self._call("Maintenance/Status", b"")).text(2)

    async def add_user(self, name: str, roles: Sequence[str]) -> None:
        """A user who is known by the common name of a certificate and has no password.

        Raises:
            EtcdError: the store could not be asked, or refused.
        """
        await self._call("Auth/UserAdd", wire.encode((1, name)) + wire.nested(3, wire.encode((1, 1))))
        for role in roles:
            await self._call("Auth/UserGrantRole", wire.encode((1, name), (2, role)))

    async def add_role(self, name: str, permission: Permission, ranges: Sequence[tuple[str, bytes]]) -> None:
        """A role with one permission on ranges of keys, each a first key and an end (b"" for the key alone).

        Raises:
            EtcdError: the store could not be asked, or refused.
        """
        await self._call("Auth/RoleAdd", wire.encode((1, name)))
        for key, end in ranges:
            granted = wire.encode((1, permission.value), (2, key), (3, end))
            await self._call("Auth/RoleGrantPermission", wire.encode((1, name)) + wire.nested(2, granted))

    async def enable_authentication(self) -> None:
        """From now on everybody has the permissions of their roles, and no others.

        Raises:
            EtcdError: the store could not be asked, or refused.
        """
        await self._call("Auth/AuthEnable", b"")

    async def authentication_enabled(self) -> bool:
        """Whether permissions are looked at.

        Raises:
            EtcdError: the store could not be asked.
        """
        try:
            return bool((await self._call("Auth/AuthStatus", b"")).number(2))
        except PermissionDeniedError:
            return True  # only an administrator is told, and only then is anybody refused

    async def _range(self, request: bytes) -> Range:
        answer = await self._call("KV/Range", request)
        items = tuple(KeyValue(row.text(1), row.bytes(5), row.number(3), row.number(6)) for row in answer.messages(2))
        header = answer.message(1)
        return Range(items, header.number(3), header.unsigned(1))

    async def _call(self, method: str, request: bytes, cardinality: Cardinality = Cardinality.UNARY_UNARY) -> Message:
        name = f"/etcdserverpb.{method}"
        try:
            async with self._channel.request(name, cardinality, bytes, bytes, timeout=DEADLINE_S) as stream:
                await stream.send_message(request, end=True)
                reply = await stream.recv_message()
        except _FAILURES as error:
            raise self._failure(method, error) from error
        return Message(reply or b"")

    def _failure(self, method: str, error: BaseException) -> EtcdError:
        _take_back_cancellation()
        what = f"{method.split('/')[-1]} at the store {self.target}"
        if isinstance(error, GRPCError):
            return _refusal(what, error)
        if isinstance(error, TimeoutError):
            return UnreachableError(f"{what}: no answer in {DEADLINE_S:.0f} s")
        return self._channel.loss() or UnreachableError(f"{what}: the connection was lost")


def _take_back_cancellation() -> None:
    """Forget that the library has cancelled the current task.

    That is how it wakes a task whose call has failed, sometimes twice, and it leaves the requests for cancellation
    standing. Python's first releases with `asyncio.timeout` would then take the task's next time-out for a
    cancellation, and the task would end without a word.
    """
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


class Backoff:
    """How long to wait before another attempt: ever longer, a little at random so that many do not come at once."""

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first, self._most = first_s, most_s
        self._next = first_s

    def reset(self) -> None:
        """An attempt succeeded."""
        self._next = self._first

    async def wait(self) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(self._next * random.uniform(0.75, 1.0))  # noqa: S311 - spreads attempts, no secret
        self._next = min(2 * self._next, self._most)


_FAILURES = (GRPCError, StreamTerminatedError, ProtocolError, OSError, TimeoutError)


def _put(key: str, value: bytes, lease: int) -> bytes:
    return wire.encode((1, key), (2, value), (3, lease))


def _change(event: Message) -> StoreChange:
    entry = event.message(2)
    return StoreChange(entry.text(1), None if event.number(1) else entry.bytes(5))


def _cancelled(answer: Message) -> EtcdError:
    reason = answer.text(6)
    if answer.number(5):
        return CompactedError(f"the store has forgotten what changed before revision {answer.number(5)}")
    if "permission denied" in reason:
        return PermissionDeniedError("permission denied")
    return RefusedError(f"the store ended the watch: {reason or 'no reason given'}")


def _refusal(what: str, error: GRPCError) -> EtcdError:
    message = error.message or error.status.name
    if error.status in (Status.PERMISSION_DENIED, Status.UNAUTHENTICATED) or "permission denied" in message:
        return PermissionDeniedError(message)
    if error.status is Status.DEADLINE_EXCEEDED:
        return UnreachableError(f"{what}: no answer in {DEADLINE_S:.0f} s")
    if error.status is Status.UNAVAILABLE:
        return UnreachableError(f"{what}: {message}")
    return RefusedError(f"{what}: {message}")
