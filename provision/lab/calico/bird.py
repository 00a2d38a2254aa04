"""BIRD's control socket: one command, one answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

ANSWER_TIMEOUT_S = 5.0
_ERROR_CODES = range(8000, 10000)


class BirdError(Exception):
    """BIRD is not there or does not answer; the text tells which."""


class BirdRefusedError(BirdError):
    """BIRD does not accept its configuration; the text says where and why."""


@dataclass(frozen=True)
class Reply:
    """What BIRD answered: its final code (8xxx: it cannot, 9xxx: it does not understand) and the text."""

    code: int
    lines: tuple[str, ...]


async def reconfigure(socket: Path) -> None:
    """Make BIRD read its configuration file again; sessions that did not change stay up.

    Raises:
        BirdRefusedError: the file is wrong; BIRD goes on as before.
        BirdError: BIRD does not answer.
    """
    reply = await query(socket, "configure")
    if reply.code in _ERROR_CODES:
        raise BirdRefusedError(f"{socket}: {' '.join(reply.lines)}")


async def query(socket: Path, command: str) -> Reply:
    """Put one command to the BIRD that listens on the socket.

    Raises:
        BirdError: nobody listens there, or there is no whole answer within five seconds.
    """
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                await _reply(reader)  # the greeting
                writer.write(f"{command}\n".encode())
                return await _reply(reader)
            finally:
                writer.close()
    except TimeoutError:
        raise BirdError(f"{socket}: no answer to {command!r} within {ANSWER_TIMEOUT_S:.0f} s") from None
    except (OSError, asyncio.IncompleteReadError) as error:
        raise BirdError(f"{socket}: {error}") from None


async def _reply(reader: asyncio.StreamReader) -> Reply:
    """Read up to the line whose code is followed by a blank; lines that begin with a blank have the code before."""
    lines = []
    while True:
        line = (await reader.readuntil(b"\n")).decode(errors="replace").rstrip("\n")
        if line.startswith((" ", "+")):
            lines.append(line[1:])
            continue
        lines.append(line[5:])
        if line[4:5] == " ":
            return Reply(int(line[:4]), tuple(text for text in lines if text))
