"""Passes TCP connections on: from listening sockets that others know to the API server's own.

The launcher makes the sockets on the host's loopback, and kube-apiserver cannot be handed one; and nobody gets through
before the cluster holds what it starts with.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

_CHUNK_BYTES = 1 << 18


async def listen(listener: socket.socket, host: str, port: int) -> asyncio.Server:
    """Serve the socket: every connection to it becomes one to that port. The bytes stay as they are, TLS included."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port, limit=_CHUNK_BYTES)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
        finally:
            for end in (writer, far_writer):
                end.transport.abort()

    return await asyncio.start_server(connected, sock=listener, limit=_CHUNK_BYTES)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side has no more; a side that has broken ends both."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
        return
    writer.transport.abort()
