"""Connections that are passed on."""

from __future__ import annotations

import asyncio
import socket

from provision.lab.kube.real import relay
from provision.lab.kube.real.servers import free_port

LOOPBACK = "127.0.0.1"
PLENTY = bytes(range(256)) * 4096


async def talk(behind: int, *, say: bytes) -> bytes:
    """What comes back through a relay to that port, until its end."""
    listener = socket.create_server((LOOPBACK, 0))
    async with await relay.listen(listener, LOOPBACK, behind):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(say)
        writer.write_eof()
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


def test_bytes_go_both_ways_and_so_does_their_end():
    async def answer_after_the_end(reader, writer):
        writer.write(b"got " + await reader.read())
        writer.close()

    async def run():
        async with await asyncio.start_server(answer_after_the_end, LOOPBACK, 0) as server:
            return await talk(server.sockets[0].getsockname()[1], say=PLENTY)

    assert asyncio.run(run()) == b"got " + PLENTY


def test_nobody_behind_it_ends_the_connection():
    assert asyncio.run(talk(free_port(), say=b"hello")) == b""
