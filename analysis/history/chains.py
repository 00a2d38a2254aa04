"""A write and its retries as one: whatever its client tried, it meant it once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from analysis.history.operation import Operation, Result


@dataclass(frozen=True, slots=True)
class Chain:
    """All attempts at one write, in the order of their invocation.

    Attributes:
        result: OK when an attempt was acknowledged, else UNKNOWN when one may have taken effect, else FAILED.
        invoked: when the first attempt was sent that may have taken effect (s).
        completed: when the first acknowledgement came; infinite when none did.
    """

    attempts: tuple[Operation, ...]
    result: Result
    invoked: float
    completed: float

    @property
    def effective(self) -> tuple[Operation, ...]:
        """The attempts that may have taken effect: more than one only when a client repeated what it must not."""
        return tuple(attempt for attempt in self.attempts if attempt.result is not Result.FAILED)

    @property
    def value(self) -> tuple[int, ...]:
        """What was asked, the same each time."""
        return self.attempts[0].value


def chains(operations: Iterable[Operation]) -> list[Chain]:
    """The writes among these operations, which must be of one kind, each with its retries."""
    attempts: defaultdict[int, list[Operation]] = defaultdict(list)
    for operation in operations:
        attempts[operation.number if operation.retry_of is None else operation.retry_of].append(operation)
    return [_chain(made) for made in attempts.values()]


def _chain(attempts: list[Operation]) -> Chain:
    if len(attempts) > 1:
        attempts.sort(key=lambda attempt: attempt.invoked)
    effective = [attempt for attempt in attempts if attempt.result is not Result.FAILED]
    acknowledged = [attempt.completed for attempt in effective if attempt.result is Result.OK]
    result = Result.OK if acknowledged else Result.UNKNOWN if effective else Result.FAILED
    first = (effective or attempts)[0].invoked
    return Chain(tuple(attempts), result, first, min(acknowledged, default=float("inf")))
