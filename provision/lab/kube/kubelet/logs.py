"""A container's log: a file of time-stamped lines as CRI runtimes write it, with readers that may follow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

ROTATE_AT_BYTES = 1 << 20
"""The log is in memory: an old half is given up when the new one is full."""


@dataclass(frozen=True)
class LogQuery:
    """What a reader of a log asks for, as the API names it."""

    tail_lines: int | None = None
    since: datetime | None = None
    timestamps: bool = False
    limit_bytes: int | None = None
    follow: bool = False


class LogFile:
    """The log of one run of a container. Written by one, read by many.

    Attributes:
        closed: set when the run has ended and all its output is written.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.closed = asyncio.Event()
        self._path = path
        self._old = path.with_suffix(".old")
        self._file: BinaryIO | None = path.open("ab", buffering=0)
        self._size = 0
        self._rest = {"stdout": b"", "stderr": b""}
        self._followers: set[asyncio.Queue[bytes | None]] = set()

    def write(self, stream: str, data: bytes) -> None:
        """Takes output as it comes; only whole lines are written."""
        *lines, self._rest[stream] = (self._rest[stream] + data).split(b"\n")
        self._append(stream, lines)

    def close(self) -> None:
        """Writes what is left of the last line, and lets followers go."""
        for stream, rest in self._rest.items():
            if rest:
                self._append(stream, [rest])
        if self._file is not None:
            self._file.close()
            self._file = None
        self.closed.set()
        for follower in self._followers:
            follower.put_nowait(None)

    def remove(self) -> None:
        """Gives the log up."""
        self.close()
        for path in (self._path, self._old):
            path.unlink(missing_ok=True)

    def _append(self, stream: str, lines: list[bytes]) -> None:
        if not lines or self._file is None:
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        stamped = [b"%s %s F %s" % (now.encode(), stream.encode(), line) for line in lines]
        block = b"\n".join(stamped) + b"\n"
        if self._size + len(block) > ROTATE_AT_BYTES:
            self._file.close()
            self._path.replace(self._old)
            self._file = self._path.open("ab", buffering=0)
            self._size = 0
        self._file.write(block)
        self._size += len(block)
        for follower in self._followers:
            for line in stamped:
                follower.put_nowait(line)

    async def read(self, query: LogQuery) -> AsyncIterator[bytes]:
        """Yields the lines that a query asks for, each with its newline; a following one ends with the container."""
        follower: asyncio.Queue[bytes | None] = asyncio.Queue()
        left = query.limit_bytes if query.limit_bytes is not None else float("inf")
        if query.follow and self._file is not None:
            self._followers.add(follower)
        else:
            follower.put_nowait(None)
        try:
            for record in select(self._records(), query):
                shown = show(record, timestamps=query.timestamps)[: int(left) if left != float("inf") else None]
                left -= len(shown)
                yield shown
                if left <= 0:
                    return
            while (record_or_end := await follower.get()) is not None:
                yield show(record_or_end, timestamps=query.timestamps)
        finally:
            self._followers.discard(follower)

    def _records(self) -> Iterator[bytes]:
        for path in (self._old, self._path):
            if path.exists():
                yield from path.read_bytes().splitlines()


def select(records: Iterator[bytes], query: LogQuery) -> list[bytes]:
    """The records that a query's time and number of lines leave."""
    chosen = list(records)
    if query.since is not None:
        since = query.since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").encode()
        chosen = [record for record in chosen if record[: len(since)] >= since]
    if query.tail_lines is not None:
        chosen = chosen[-query.tail_lines :] if query.tail_lines > 0 else []
    return chosen


def show(record: bytes, *, timestamps: bool) -> bytes:
    """A record as the API shows it: the line, with its time in front when asked."""
    time, _, _, line = record.split(b" ", 3)
    return (time + b" " + line if timestamps else line) + b"\n"
