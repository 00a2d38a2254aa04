"""The agent's socket: where `cilium-dbg` asks, one question to a connection.

A question is a line of JSON, {"argv": ["cilium-dbg", "status", "-o", "json"]}; the answer is one, too:
{"code": 0, "out": "...", "err": ""}, which the program prints and exits with.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

log = logging.getLogger(__name__)

SOCKET = "var/run/cilium/cilium.sock"
"""Where it is below a node's tree."""

_LONGEST_QUESTION = 1 << 20


@dataclass(frozen=True)
class Question:
    """What the program was called with, and by which process."""

    argv: tuple[str, ...]
    pid: int


@dataclass(frozen=True)
class Reply:
    """What the program prints, and its exit code."""

    out: str = ""
    err: str = ""
    code: int = 0


def failure(text: str, code: int = 1) -> Reply:
    """A reply of an error alone."""
    return Reply(err=text.rstrip("\n") + "\n", code=code)


async def serve(path: Path, answer: Callable[[Question], Awaitable[Reply]]) -> None:
    """Answer at that socket until cancelled, and leave none behind: no agent, no socket."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError):
            argv = _argv(await reader.readline())
            try:
                reply = await answer(Question(argv, _peer(writer)))
            except Exception:  # a bug in one answer must not cost the others theirs
                log.exception("no answer to %s", argv)
                reply = failure("Error: the agent failed to answer")
            writer.write(json.dumps(asdict(reply)).encode() + b"\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(one, path, limit=_LONGEST_QUESTION)
    path.chmod(0o600)
    try:
        async with server:
            await server.serve_forever()
    finally:
        path.unlink(missing_ok=True)


def _argv(line: bytes) -> tuple[str, ...]:
    argv: Sequence[object] = json.loads(line)["argv"]
    return tuple(map(str, argv))


def _peer(writer: asyncio.StreamWriter) -> int:
    end: socket.socket = writer.get_extra_info("socket")
    pid, _, _ = struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid)
