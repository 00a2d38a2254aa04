"""Port forwarding over WebSocket: for the i-th port, channel 2i carries the bytes and channel 2i+1 an error."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Sequence

from aiohttp import WSMsgType, web

from provision.lab.kube.kubelet.streams import CHUNK_BYTES


async def forward(
    websocket: web.WebSocketResponse, ports: Sequence[int], open_socket: Callable[[], socket.socket]
) -> None:
    """Serves one client until it goes or all connections have ended.

    Args:
        websocket: the client's.
        ports: on the pod's loopback; each is connected at once.
        open_socket: makes a TCP socket in the pod's network namespace.
    """
    writers: dict[int, asyncio.StreamWriter] = {}
    pumps: list[asyncio.Task[None]] = []
    for number, port in enumerate(ports):
        data, error = 2 * number, 2 * number + 1
        for channel in (data, error):
            await websocket.send_bytes(bytes([channel]) + struct.pack("<H", port))
        try:
            reader, writers[data] = await _connect(open_socket(), port)
        except OSError as problem:
            await websocket.send_bytes(bytes([error]) + f"port {port} in the pod: {problem}".encode())
            continue
        pumps.append(asyncio.create_task(_pump(websocket, data, reader)))
    receiving = asyncio.create_task(_receive(websocket, writers))
    ending = asyncio.create_task(_all(pumps))
    try:
        await asyncio.wait({receiving, ending}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*pumps, receiving, ending):
            task.cancel()
        await asyncio.gather(*pumps, receiving, ending, return_exceptions=True)
        for writer in writers.values():
            writer.close()
    with contextlib.suppress(ConnectionError):
        await websocket.close()


async def _connect(connection: socket.socket, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    except OSError:
        connection.close()
        raise
    return await asyncio.open_connection(sock=connection)


async def _all(pumps: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*pumps)


async def _pump(websocket: web.WebSocketResponse, channel: int, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(CHUNK_BYTES):
        await websocket.send_bytes(bytes([channel]) + data)


async def _receive(websocket: web.WebSocketResponse, writers: dict[int, asyncio.StreamWriter]) -> None:
    async for message in websocket:
        if message.type is WSMsgType.BINARY and message.data and message.data[0] in writers:
            writer = writers[message.data[0]]
            writer.write(message.data[1:])
            await writer.drain()
