"""The connection to a store: HTTP/2 over TLS, from a given network namespace, and what can be wrong with it."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Any, cast

from grpclib.client import Channel, Handler
from grpclib.config import Configuration
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import StreamTerminatedError
from grpclib.protocol import H2Protocol

from provision.lab import netns

CONNECT_S = 2.0
HANDSHAKE_S = 10.0
"""Longer than a connection, which is the kernel's work: a handshake is a busy machine's."""

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


class StoreChannel(Channel):
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
        """The connection was made and has not ended."""
        return self._opened is not None and not self._opened.ended

    @property
    def tls_version(self) -> str:
        """The version of TLS that was agreed upon, "" before that."""
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
        """Connect to the first of the target's addresses that answers.

        Raises:
            UnreachableError: none does.
            BadCertificateError: one does, and one side does not accept the other's certificate.
        """
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
            await asyncio.wait_for(loop.sock_connect(end, (str(address), self._target.port)), CONNECT_S)
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


def _tls_reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error) or type(error).__name__
