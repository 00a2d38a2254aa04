"""What a history may show that a correct database never does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from analysis.history.operation import Operation
from analysis.words import count, listed


class Kind(str, Enum):
    """Kinds of anomalies. Each is certain: it holds whatever became of the operations whose result is unknown."""

    LOST = "lost write"
    """Acknowledged, and gone."""

    VANISHED = "vanished write"
    """Never acknowledged, but read by somebody, and gone later: what was read had not been committed."""

    REVIVED = "failed write applied"
    """Reported as failed, and there all the same."""

    PHANTOM = "phantom"
    """Read, though nobody ever wrote it, or before anybody had."""

    DUPLICATE = "duplicate"
    """Written once, and there twice."""

    APPLIED_TWICE = "applied twice"
    """Written again by a client that did not know the result of its first attempt, and both took effect."""

    DIVERGENT = "divergent regions"
    """Two regions hold different data, and no unknown operation explains it."""

    STALE_READ = "stale read"
    """A read of current data that did not see what had been acknowledged before it began."""

    LOST_UPDATE = "lost update"
    """Two operations were both told to have changed the same old value."""

    TORN = "total not conserved"
    """A transaction was seen, or survived, in part."""

    NEGATIVE = "negative balance"
    """A transfer went through that the balance did not allow."""

    UNREACHABLE = "unexplained balances"
    """No choice among the unknown transfers leads to these balances."""

    BACKWARDS = "value went back"
    """A value that only grows was read lower than before."""

    NOT_LINEARIZABLE = "not linearizable"
    """No order of the operations, each at one moment between its call and its answer, explains all the answers."""

    NOT_DECIDED = "not decided"
    """No anomaly: there was too little to see, or too much to search."""


@dataclass(frozen=True)
class Anomaly:
    """Something that a correct database never shows, or that could not be decided.

    Attributes:
        operations: numbers of the operations that show it together, the smallest set that was found.
        explanation: what was seen, in a sentence.
        times: when the first of them was invoked, and when the last was completed (s, monotonic clock of the runner).
    """

    kind: Kind
    operations: tuple[int, ...]
    explanation: str
    times: tuple[float, float]


def anomaly(kind: Kind, operations: Sequence[Operation], explanation: str) -> Anomaly:
    """The anomaly that these operations show together."""
    span = (
        min((operation.invoked for operation in operations), default=0.0),
        max((operation.completed for operation in operations), default=0.0),
    )
    return Anomaly(kind, tuple(operation.number for operation in operations), explanation, span)


def numbers(operations: Sequence[Operation]) -> str:
    """Operations by their numbers: "operation 7", "operations 7, 8, 9 and 12 more"."""
    if len(operations) == 1:
        return f"operation {operations[0].number}"
    return f"operations {listed(operation.number for operation in operations)}"


def things(number: int, noun: str) -> str:
    """The number with its noun, also for nouns that end in y: "1 entry", "2 entries"."""
    return f"{number} {noun[:-1]}ies" if noun.endswith("y") and number != 1 else count(number, noun)
