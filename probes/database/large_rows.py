"""Large rows: written through one region's client and read back through another's, each region in turn.

A small statement fits into one packet. A row of megabytes needs full ones, on the way to the leaseholder or primary, to
the replicas and back: what a path MTU that is too small for its tunnel loses first.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from analysis.facts import Crossing
from probes.database.port import DatabaseError
from probes.database.session import SqlSession

SIZE = 4 << 20
"""Bytes of a row."""

TABLE, COLUMNS = "large_rows", "id INT8 PRIMARY KEY, content TEXT NOT NULL"
WITHIN = timedelta(seconds=15)
_WRITE, _READ = f"INSERT INTO {TABLE} VALUES (%s, %s)", f"SELECT content FROM {TABLE} WHERE id = %s"  # noqa: S608


def cross_large_rows(
    regions: Sequence[str], sessions: Mapping[str, SqlSession], *, size: int = SIZE
) -> Iterator[Crossing]:
    """Write a row through each region's client, and read it through the next region's.

    Args:
        regions: in the order of the plan.
        sessions: a client's by region, where it has one; the table is there.
        size: bytes of a row.
    """
    for number, source in enumerate(regions):
        target = regions[(number + 1) % len(regions)]
        content = secrets.token_hex(size // 2)
        try:
            _session(sessions, source).query(_WRITE, (number, content), within=WITHIN)
        except DatabaseError as error:
            yield Crossing(source, target, None, None, f"not written: {error}", size)
            continue
        written = time.monotonic()
        try:
            rows = _session(sessions, target).query(_READ, (number,), within=WITHIN)
        except DatabaseError as error:
            yield Crossing(source, target, None, None, f"not read: {error}", size)
            continue
        yield Crossing(
            source, target, [tuple(row) for row in rows] == [(content,)], time.monotonic() - written, "", size
        )


def _session(sessions: Mapping[str, SqlSession], region: str) -> SqlSession:
    if region not in sessions:
        raise DatabaseError(f"there is no session for a client of {region}")
    return sessions[region]
