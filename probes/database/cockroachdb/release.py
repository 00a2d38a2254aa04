"""Which release of CockroachDB answers, and what that release lets a client read."""

from __future__ import annotations

import re
from dataclasses import dataclass

_VERSION = re.compile(r"\bv(?P<tag>(?P<major>\d+)\.(?P<minor>\d+)\.\d+\S*)")


@dataclass(frozen=True)
class Release:
    """A release by its tag ("v25.2.3")."""

    tag: str
    number: tuple[int, int]

    @property
    def lists_voters(self) -> bool:
        """`SHOW CLUSTER RANGES` is there, which tells voters from other replicas; before, a table must be asked."""
        return self.number >= (23, 2)

    @property
    def guards_internals(self) -> bool:
        """`crdb_internal` is readable only for sessions that say that they want it (from v26.1 on by default)."""
        return self.number >= (25, 4)

    @property
    def tells_connectivity(self) -> bool:
        """`/_status/connectivity` is there."""
        return self.number >= (23, 2)


def parse_release(version: str) -> Release:
    """The release in what `SELECT version()` says.

    Raises:
        ValueError: this is not CockroachDB.
    """
    found = _VERSION.search(version)
    if found is None or "cockroachdb" not in version.lower():
        raise ValueError(f"not a CockroachDB: {version}")
    return Release(f"v{found['tag']}", (int(found["major"]), int(found["minor"])))


def tier(locality: str, name: str) -> str:
    """A tier of a locality ("region" of "region=us-east-1,zone=a"), "" when it is not there."""
    tiers = dict(part.partition("=")[::2] for part in locality.split(","))
    return tiers.get(name, "")
