"""The port: what is asked of a database, whichever engine it is.

An adapter knows the statements and endpoints of its engine and translates what they say into facts. It judges nothing.
Sessions are opened from a region: the connection begins in a probe pod there (or at an address that the environment
file names), so that a client of region R sees what region R's network lets through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Protocol

from analysis.facts import Database as DatabaseFacts
from analysis.facts import NodeSight
from analysis.history.operation import Act, Result


class Access(str, Enum):
    """What a session is for."""

    WRITE = "write"
    """Reads of current data, and writes."""

    STALE = "stale"
    """Reads of possibly old data, of whoever is near."""


@dataclass(frozen=True)
class Limits:
    """What the engine takes by design, from which the experiments' patience is derived; no verdict rests on it.

    Attributes:
        failover: the longest time without service after the loss of a region.
        settle: the longest time from the return of a region until the database is whole.
        give_up: after so long a client lets go of an operation; its result is then unknown.
    """

    failover: timedelta
    settle: timedelta
    give_up: timedelta


@dataclass(frozen=True)
class Answer:
    """What one operation came to, before the client adds whose it was and when.

    Attributes:
        answer: as in `Operation.answer`.
        broken: the session cannot be used any more.
    """

    result: Result
    answer: tuple[int, ...] = ()
    code: str = ""
    message: str = ""
    node: str = ""
    broken: bool = False


class Session(Protocol):
    """One client's connection. Not to be shared between threads. Its deadline is the client's: it closes the socket."""

    node: str
    """Name of the node that answers; "" when that is not known."""

    def run(self, act: Act, key: str, value: tuple[int, ...], *, within: timedelta) -> Answer:
        """Do one operation of a workload. Never raises for what the database or the network does."""

    def close(self) -> None:
        """Let go of the connection, at once and for good."""


class Database(Protocol):
    """A database over several regions."""

    engine: str
    limits: Limits

    def observe(self) -> DatabaseFacts:
        """Everything that it tells of itself: the family "database". What cannot be seen is a gap."""

    def connect(self, region: str, access: Access, *, within: timedelta) -> Session:
        """A session for a client in that region.

        Raises:
            SessionError: none came about in time; nothing was asked, so nothing can have taken effect.
        """

    def prepare(self, keys: Sequence[str]) -> None:
        """Make the workloads' tables, empty, in a database of our own that must survive the loss of a region.

        Raises:
            DatabaseError: they could not be made.
        """

    def clear(self) -> None:
        """Remove what `prepare` made. Safe to call twice, and when nothing was made."""

    def whole(self) -> str:
        """What is still missing until all nodes are live and nothing lacks replicas, in a few words; "" when whole."""

    def primary_region(self) -> str:
        """Where writes are decided: the primary's region, or that of the workloads' leaseholders; "" when not known."""

    def sight(self, region: str) -> Sequence[NodeSight]:
        """What the pods of that region say of themselves now, asked from inside the region."""

    def close(self) -> None:
        """Close all connections and tunnels."""


class DatabaseError(Exception):
    """Something was asked of the database outside of a workload, and it did not do it."""


class SessionError(DatabaseError):
    """No session came about.

    Attributes:
        code: SQLSTATE, "" for none.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code
