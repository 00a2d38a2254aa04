"""A client of etcd's API (version 3), as much of it as the mesh uses.

An `EtcdClient` is one connection, made from a given network namespace and never made again: who needs the store for
long connects anew with a `Backoff`. Every call has a deadline. What goes wrong is an `EtcdError`.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address
from types import TracebackType
from typing import Any, Self, cast

from grpclib.client import Channel, Handler
from grpclib.config import Configuration
from grpclib.const import Cardinality, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.protocol import H2Protocol

from provision.lab import netns
from provision.lab.cilium import wire
from provision.lab.cilium.wire import Message

DEADLINE_S = 5.0
CONNECT_S = 2.0
HANDSHAKE_S = 10.0
"""Longer than a connection, which is the kernel's work: a handshake is a busy machine's."""

BATCH = 100
"""etcd takes up to 128 operations in a transaction."""

_TCP_OPTIONS = (
    (socket.TCP_NODELAY, 1),
    (socket.TCP_KEEPIDLE, 2),
    (socket.TCP_KEEPINTVL, 1),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 5000),
)
"""The kernel notices a peer that does not answer within 5 s, which costs no process anything."""


class EtcdError(Exception):
    """The store could not be asked, or refused; the text is a sentence."""


class UnreachableError(EtcdError):
    """There is no connection: nobody listens, packets are lost, or the connection broke."""


class BadCertificateError(EtcdError):
    """One side did not accept the other's certificate."""


class PermissionDeniedError(EtcdError):
    """The store knows who asks, and does not allow it."""


class RefusedError(EtcdError):
    """The store answered with another error."""


class CompactedError(RefusedError):
    """The revision to watch from is no longer remembered: read everything again."""


@dataclass(frozen=True)
class Tls:
    """Who to trust and who to be: PEM contents. Without a certificate none is shown."""

    ca: bytes
    certificate: bytes = b""
    key: bytes = b""

    def __repr__(self) -> str:
        return "Tls(...)"

    def context(self) -> ssl.SSLContext:
        """A context that verifies the other side's certificate and host name.

        Raises:
            BadCertificateError: a content is no certificate or key, or they do not belong together.
        """
        return _context(self)


@dataclass(frozen=True)
class Target:
    """Where a store is.

    Attributes:
        namespace: the network namespace to connect from, None for the caller's own.
        host: the name that the store's certificate must be valid for.
        addresses: what the name stands for, in the order in which they are tried.
    """

    namespace: str | None
    host: str
    addresses: tuple[IPv4Address, ...]
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


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

    def __init__(self, channel: _Channel, target: Target) -> None:
        self._channel = channel
        self.target = target

    @classmethod
    async def connect(cls, target: Target, tls: Tls) -> EtcdClient:
        """Connect to the first of the target's addresses that answers.

        Raises:
            UnreachableError: none does.
            BadCertificateError: one does, and its certificate is not trusted or not valid for the host.
        """
        channel = _Channel(target, tls.context())
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
        what = f"{method.split('/')[-1]} at the store {self.target}"
        if isinstance(error, GRPCError):
            return _refusal(what, error)
        if isinstance(error, TimeoutError):
            return UnreachableError(f"{what}: no answer in {DEADLINE_S:.0f} s")
        return self._channel.loss() or UnreachableError(f"{what}: the connection was lost")


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


@lru_cache(maxsize=32)
def _context(tls: Tls) -> ssl.SSLContext:
    """Making one takes longer than a handshake, and all agents of a cluster need the same."""
    try:
        context = ssl.create_default_context(cadata=tls.ca.decode(errors="replace"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        if tls.certificate or tls.key:
            # The library reads files only; one in memory, of this process alone, keeps the key off every disk.
            descriptor = os.memfd_create("client", os.MFD_CLOEXEC)
            with os.fdopen(descriptor, "wb") as file:
                file.write(tls.certificate + b"\n" + tls.key)
                file.flush()
                context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except (ssl.SSLError, ValueError) as error:
        raise BadCertificateError(f"the client's own certificates cannot be used: {_tls_reason(error)}") from error
    return context


class _RawCodec(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return cast(bytes, message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class _Protocol(H2Protocol):
    """HTTP/2 that remembers why its connection was lost: TLS tells a client late that its certificate is refused."""

    ended = False
    reason: BaseException | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended, self.reason = True, exc
        super().connection_lost(exc)


class _Channel(Channel):
    """A channel over a socket of a network namespace, which is opened once."""

    def __init__(self, target: Target, context: ssl.SSLContext) -> None:
        super().__init__(target.host, target.port, codec=_RawCodec(), ssl=context, config=Configuration())
        self._target = target
        self._context = context
        self._opened: _Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self.peer = ""

    @property
    def standing(self) -> bool:
        return self._opened is not None and not self._opened.ended

    @property
    def tls_version(self) -> str:
        tls = self._transport.get_extra_info("ssl_object") if self._transport else None
        return str(tls.version()) if tls else ""

    def loss(self) -> EtcdError | None:
        """What ended the connection, or None while it stands."""
        if self._opened is None or not self._opened.ended:
            return None
        if isinstance(self._opened.reason, ssl.SSLError):
            why = _tls_reason(self._opened.reason)
            return BadCertificateError(f"the store at {self._target} refused the connection: {why}")
        return UnreachableError(f"the connection to the store at {self._target} was lost")

    async def open(self) -> None:
        await self.__connect__()

    def _protocol_factory(self) -> _Protocol:
        return _Protocol(Handler(), self._config, self._h2_config)

    async def _create_connection(self) -> H2Protocol:
        if self._opened is not None:
            raise StreamTerminatedError("Connection lost")
        failure: EtcdError = UnreachableError(f"no address is known for {self._target.host}")
        for address in self._target.addresses:
            try:
                return await self._connect_to(address)
            except ssl.SSLError as error:
                failure = BadCertificateError(f"TLS with the store at {self._target}: {_tls_reason(error)}")
            except TimeoutError:
                failure = UnreachableError(f"dial tcp {address}:{self._target.port}: i/o timeout")
            except ConnectionRefusedError:
                # The node is there and forwards to nobody: the others have it from the same Service.
                raise UnreachableError(f"dial tcp {address}:{self._target.port}: connect: connection refused") from None
            except OSError as error:
                reason = os.strerror(error.errno).lower() if error.errno else str(error)
                failure = UnreachableError(f"dial tcp {address}:{self._target.port}: connect: {reason}")
        raise failure

    async def _connect_to(self, address: IPv4Address) -> H2Protocol:
        loop = asyncio.get_running_loop()
        end = self._socket()
        try:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _TCP_OPTIONS:
                end.setsockopt(socket.IPPROTO_TCP, option, value)
            async with asyncio.timeout(CONNECT_S):
                await loop.sock_connect(end, (str(address), self._target.port))
            transport, protocol = await loop.create_connection(
                self._protocol_factory,
                sock=end,
                ssl=self._context,
                server_hostname=self._target.host,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
        except BaseException:
            end.close()
            raise
        self._transport, self._opened = transport, protocol
        self.peer = f"{address}:{self._target.port}"
        return protocol

    def _socket(self) -> socket.socket:
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        if self._target.namespace is None:
            return socket.socket(socket.AF_INET, kind)
        return netns.open_socket(self._target.namespace, socket.AF_INET, kind)


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


def _tls_reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error) or type(error).__name__
