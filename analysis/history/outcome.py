"""How an operation ended, from what its client saw of the end. The same for both engines, which share SQLSTATE.

Only the last step of a write can be in doubt: an autocommitted statement, or COMMIT. Whatever stops a client before
that was sent has had no effect, and no read has any. Of the last step, only the errors named here are certain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from analysis.history.operation import Result


class Phase(str, Enum):
    """How far a client had come."""

    CONNECTING = "connecting"
    """Nothing had been asked yet."""

    BEFORE_COMMIT = "before commit"
    """Within a transaction whose COMMIT was not sent, and never will be: it is rolled back, or the connection ends."""

    COMMIT = "commit"
    """COMMIT, or a statement that commits by itself, was sent."""


@dataclass(frozen=True)
class Problem:
    """What stopped an operation.

    Attributes:
        code: SQLSTATE; "" when the server said nothing: the connection broke, or the client's patience ended.
        message: in the words of the server or of the client library.
    """

    code: str
    message: str


REFUSED = {
    "40001": "serialization failure: the transaction was aborted",
    "25006": "the session is read-only",
    "25P02": "the transaction had failed before",
    "28000": "the login was refused",
    "28P01": "the password was refused",
    "42501": "the user may not do that",
}
"""Errors of a commit after which it has certainly had no effect."""

APPLIED = {"XXA00": "committed, though a change of schema failed"}
"""Errors of a commit that has certainly had its effect."""

UNIQUE_VIOLATION = "23505"
AMBIGUOUS = re.compile(r"result is ambiguous", re.I)
UNREPLICATED = re.compile(r"cancell?ing (the )?wait for synchronous replication|already committed locally", re.I)
"""A warning with which PostgreSQL acknowledges what it has not replicated."""


def result_of(
    phase: Phase,
    problem: Problem | None = None,
    *,
    read: bool = False,
    notices: tuple[str, ...] = (),
    retry: bool = False,
) -> Result:
    """What is known of an operation that has ended.

    Args:
        phase: how far its client had come when it ended.
        problem: what stopped it; None for nothing.
        read: it would not have changed anything in any case.
        notices: the server's warnings meanwhile, with their details.
        retry: it repeats an earlier attempt with the same unique key.
    """
    if problem is None and phase is not Phase.COMMIT:
        raise ValueError(f"nothing stopped it, and yet it ended while {phase.value}")
    if read or phase is Phase.CONNECTING:
        return Result.FAILED if problem else Result.OK
    if any(map(UNREPLICATED.search, notices)):
        return Result.UNKNOWN
    if problem is None:
        return Result.OK
    if problem.code == "40003" or AMBIGUOUS.search(problem.message):
        return Result.UNKNOWN
    if problem.code == UNIQUE_VIOLATION and retry:
        return Result.OK  # by the earlier attempt
    if phase is Phase.BEFORE_COMMIT or problem.code in REFUSED:
        return Result.FAILED
    return Result.OK if problem.code in APPLIED else Result.UNKNOWN
