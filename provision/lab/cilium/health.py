"""cilium-health: every node asks every other for a sign of life, at its own address and at its health endpoint's.

Each node listens on TCP 4240. A round is made when somebody asks and the last one is old, and once a minute by itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import IPv4Address

from provision.lab import netns
from provision.lab.cilium.state import AddressHealth, HealthReport, NodeEntry, NodeHealth, PathHealth

PORT = 4240
INTERVAL_S = 60.0
FRESH_S = 1.0
ANSWER_S = 3.0
"""Long, because a busy machine is no lost node."""

_HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_REQUEST = b"GET /hello HTTP/1.1\r\nHost: health\r\nConnection: close\r\n\r\n"
_AT_ONCE = 32
_ECHO_REQUEST, _ECHO_REPLY = 8, 0


class HealthProber:
    """One node's part in it.

    Args:
        namespace: the node's network namespace.
        name: what the node calls itself: "CLUSTER/NODE".
        nodes: the nodes that it knows of now, itself included.
    """

    def __init__(self, namespace: str, name: str, nodes: Callable[[], Sequence[NodeEntry]]) -> None:
        self._namespace = namespace
        self._name = name
        self._nodes = nodes
        self._report: HealthReport | None = None
        self._round = asyncio.Lock()

    @property
    def last(self) -> HealthReport | None:
        """The last round, None before the first."""
        return self._report

    async def run(self) -> None:
        """Answer, and probe once in a while, until cancelled."""
        listener = netns.open_socket(self._namespace, socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", PORT))  # noqa: S104 - of the node's namespace
        server = await asyncio.start_server(_answer, sock=listener)
        async with server:
            while True:
                await asyncio.sleep(INTERVAL_S)
                await self.probe()

    async def probe(self) -> HealthReport:
        """A round that is no older than a second; who asks meanwhile gets the same."""
        async with self._round:
            if self._report is None or (datetime.now(UTC) - self._report.timestamp).total_seconds() > FRESH_S:
                self._report = await self._probe_all()
            return self._report

    async def _probe_all(self) -> HealthReport:
        nodes = sorted(self._nodes(), key=lambda node: (node.cluster, node.name))
        addresses = [address for node in nodes for address in (node.address, node.health) if address is not None]
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(address: IPv4Address) -> PathHealth:
            async with limit:
                return await self._ask(address)

        echoes, answers = await asyncio.gather(ping(self._namespace, addresses), asyncio.gather(*map(one, addresses)))
        found = {
            address: AddressHealth(address, echo, answer)
            for address, echo, answer in zip(addresses, echoes, answers, strict=True)
        }
        health = tuple(
            NodeHealth(
                f"{node.cluster}/{node.name}",
                found[node.address],
                found[node.health] if node.health is not None else None,
            )
            for node in nodes
        )
        return HealthReport(self._name, health, datetime.now(UTC), INTERVAL_S)

    async def _ask(self, address: IPv4Address) -> PathHealth:
        loop = asyncio.get_running_loop()
        begun = time.monotonic_ns()
        with netns.open_socket(self._namespace, socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as end:
            try:
                async with asyncio.timeout(ANSWER_S):
                    await loop.sock_connect(end, (str(address), PORT))
                    await loop.sock_sendall(end, _REQUEST)
                    answer = await loop.sock_recv(end, 256)
            except TimeoutError:
                return _bad(f'Get "http://{address}:{PORT}/hello": dial tcp {address}:{PORT}: i/o timeout')
            except OSError as error:
                reason = os.strerror(error.errno or 0).lower()
                return _bad(f'Get "http://{address}:{PORT}/hello": dial tcp {address}:{PORT}: connect: {reason}')
        if b" 200 " not in answer[:16]:
            return _bad(f'Get "http://{address}:{PORT}/hello": unexpected answer')
        return PathHealth("", time.monotonic_ns() - begun, datetime.now(UTC))


def _bad(reason: str) -> PathHealth:
    return PathHealth(reason, 0, datetime.now(UTC))


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(ANSWER_S):
            await reader.readline()
        writer.write(_HELLO)
        await writer.drain()
    writer.close()


async def ping(namespace: str, addresses: Sequence[IPv4Address]) -> list[PathHealth]:
    """One ICMP echo to each address, all by one socket, and what came of each."""
    loop = asyncio.get_running_loop()
    try:
        end = netns.open_socket(namespace, socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
    except OSError as error:
        return [_bad(f"no ICMP: {error}") for _ in addresses]
    token = os.urandom(2)
    sent: dict[int, int] = {}
    results: dict[int, PathHealth] = {}
    done = asyncio.Event()

    def take() -> None:
        with suppress(BlockingIOError):
            while True:
                packet = end.recv(256)
                header = packet[(packet[0] & 15) * 4 :][:8]
                if len(header) < 8 or header[0] != _ECHO_REPLY or header[4:6] != token:
                    continue
                index = int.from_bytes(header[6:8], "big")
                if index in sent and index not in results:
                    results[index] = PathHealth("", time.monotonic_ns() - sent[index], datetime.now(UTC))
                    if len(results) == len(addresses):
                        done.set()

    with end:
        loop.add_reader(end, take)
        try:
            for index, address in enumerate(addresses):
                sent[index] = time.monotonic_ns()
                try:
                    end.sendto(_echo(token, index), (str(address), 0))
                except OSError as error:
                    results[index] = _bad(f"write ip {address}: {os.strerror(error.errno or 0).lower()}")
            if len(results) < len(addresses):
                with suppress(TimeoutError):
                    async with asyncio.timeout(ANSWER_S):
                        await done.wait()
        finally:
            loop.remove_reader(end)
    return [results.get(index) or _bad("Connection timed out") for index in range(len(addresses))]


def _echo(token: bytes, index: int) -> bytes:
    rest = token + struct.pack("!H", index)
    return struct.pack("!BBH", _ECHO_REQUEST, 0, checksum(struct.pack("!BBH", _ECHO_REQUEST, 0, 0) + rest)) + rest


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
