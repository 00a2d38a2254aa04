"""BIRD's control socket: one command, one answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

PATIENCE = timedelta(seconds=5)
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


async def reconfigure(control: Path) -> None:
    """Make BIRD read its configuration file again; sessions that did not change stay up.

    Raises:
        BirdRefusedError: the file is wrong; BIRD goes on as before.
        BirdError: BIRD does not answer.
    """
    reply = await asyncio.to_thread(query, control, "configure")
    if reply.code in _ERROR_CODES:
        raise BirdRefusedError(f"{control}: {' '.join(reply.lines)}")


def query(control: Path, command: str, within: timedelta = PATIENCE) -> Reply:
    """Put one command to the BIRD that listens on the socket.

    Raises:
        BirdError: nobody listens there, or it falls silent for that long before its answer is whole.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(within.total_seconds())
            connection.connect(str(control))
            with connection.makefile("rw", errors="replace") as stream:
                _reply(stream)  # the greeting
                stream.write(f"{command}\n")
                stream.flush()
                return _reply(stream)
    except TimeoutError:
        raise BirdError(f"{control}: no answer to {command!r} within {within.total_seconds():g} s") from None
    except OSError as error:
        raise BirdError(f"{control}: {error.strerror or error}") from None


def _reply(stream: Iterable[str]) -> Reply:
    """Read up to the line whose code is followed by a blank; lines that begin with a blank have the code before."""
    lines = []
    for line in stream:
        text = line.rstrip("\n")
        if text.startswith((" ", "+")):
            lines.append(text[1:])
            continue
        lines.append(text[5:])
        if text[4:5] == " ":
            return Reply(int(text[:4]), tuple(each for each in lines if each))
    raise ConnectionAbortedError("it hung up in the middle of an answer")
