"""The byte streams of a process as the event loop sees them: pipes and pseudo-terminals."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from typing import IO

CHUNK_BYTES = 32768


class _Reader(asyncio.Protocol):
    def __init__(self, take: Callable[[bytes], None], ended: asyncio.Future[None]) -> None:
        self._take = take
        self._ended = ended

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


async def read_pipe(pipe: IO[bytes], take: Callable[[bytes], None]) -> asyncio.Future[None]:
    """Hands all that comes out of a pipe to `take`; the future is done when its last writer has closed it."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    await loop.connect_read_pipe(lambda: _Reader(take, ended), pipe)
    return ended


async def write_pipe(pipe: IO[bytes]) -> asyncio.StreamWriter:
    """A writer into a pipe, with back pressure."""
    loop = asyncio.get_running_loop()
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, _ = await loop.connect_write_pipe(lambda: protocol, pipe)
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def open_reader(pipe: IO[bytes]) -> asyncio.StreamReader:
    """A reader of a pipe that lets the process wait when nobody takes its output."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def read_some(reader: asyncio.StreamReader) -> bytes:
    """The next piece of output; empty at its end, which a terminal tells by an error."""
    try:
        return await reader.read(CHUNK_BYTES)
    except OSError:
        return b""


class Terminal:
    """A pseudo-terminal: the process has one end, `theirs`; we read and write the other."""

    def __init__(self) -> None:
        self._ours, self.theirs = os.openpty()
        os.set_blocking(self._ours, False)

    def handed_over(self) -> IO[bytes]:
        """To be called when the process has been started: lets go of its end, and returns what it will print."""
        os.close(self.theirs)
        return os.fdopen(os.dup(self._ours), "rb", buffering=0)

    def resize(self, rows: int, columns: int) -> None:
        """Tells the terminal's size; the process in front gets SIGWINCH."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def write(self, data: bytes) -> None:
        """Types into the terminal. What does not fit into its buffer is lost, as on a real line."""
        with contextlib.suppress(OSError):
            os.write(self._ours, data)

    def close(self) -> None:
        """Hangs up."""
        os.close(self._ours)
