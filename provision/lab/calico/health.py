"""The health ports of Calico's daemons: an HTTP server in a node's network that says whether the daemon is ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from provision.lab import netns

log = logging.getLogger(__name__)

BIND_RETRY_S = 0.1


async def serve_health(namespace: str, address: str, port: int, is_ready: Callable[[], bool]) -> None:
    """Serve until cancelled; a port that is taken, by a daemon that is about to end, is waited for.

    Args:
        namespace: the node's network namespace.
        address: where to listen in it.
        port: likewise.
        is_ready: asked for every answer: 200 when it is, 503 when it is not.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(b"\r\n\r\n")
            status = "200 OK" if is_ready() else "503 Service Unavailable"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    while True:
        try:
            listener = netns.listening_socket(namespace, address, port)
        except OSError as error:
            log.debug("%s: %s:%d is not free: %s", namespace, address, port, error)
            await asyncio.sleep(BIND_RETRY_S)
            continue
        async with await asyncio.start_server(answer, sock=listener) as server:
            await server.serve_forever()
