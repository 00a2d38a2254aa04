"""Is there one order of a register's operations that explains all the answers?

The search is Wing and Gong's, in the just-in-time form with memoization that Lowe gave it: the history is followed
event by event with the set of all situations that it may have led to, each the register's value and the operations
under way that have already taken effect. An answer that no situation allows cannot be explained. An operation of
unknown result stays under way for good, and may take effect or not, until nobody is left who could tell the difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from analysis.history.operation import Act, Operation, Result

Value: TypeAlias = int | None
"""What a register holds; None before anything was written to it."""

Situation: TypeAlias = tuple[Value, frozenset[int]]
"""A value, and the numbers of the operations under way that have taken effect."""

SITUATIONS = 20_000
"""So many are followed side by side: some 20 MB."""

STEPS = 2_000_000
"""So many are looked at in all, for one history: a few seconds."""


class TooMuchError(Exception):
    """The search goes beyond its bounds."""


def first_unexplained(operations: Sequence[Operation], openings: Iterable[Value] = (None,)) -> Operation | None:
    """The first operation, by the time of its answer, whose answer no order explains; None when all are explained.

    Args:
        operations: acknowledged reads of current data, and writes that were acknowledged or are of unknown result.
        openings: what the register may hold at first.

    Raises:
        TooMuchError: the search went beyond its bounds.
    """
    by_number = {operation.number: operation for operation in operations}
    situations: set[Situation] = {(value, frozenset()) for value in openings}
    under_way: dict[int, Operation] = {}
    observers = Counter(value for operation in operations for value in observed(operation))
    steps = 0
    for _, is_answer, number in _events(operations):
        operation = by_number[number]
        if not is_answer:
            if operation.result is Result.OK or observers[operation.value[-1]]:
                under_way[number] = operation
            continue
        situations, tried = _answered(situations, number, under_way)
        steps += tried
        if not situations:
            return operation
        if steps > STEPS:
            raise TooMuchError
        del under_way[number]
        observers.subtract(observed(operation))
        unseen = [
            n for n, write in under_way.items() if write.result is not Result.OK and not observers[write.value[-1]]
        ]
        for other in unseen:
            observers.subtract(observed(under_way.pop(other)))
        if unseen:
            situations = {(value, taken.difference(unseen)) for value, taken in situations}
    return None


def observed(operation: Operation) -> tuple[Value, ...]:
    """The value that the register must hold for this operation to take effect as it did; () for any."""
    if operation.act is Act.READ:
        return (operation.answer[0] if operation.answer else None,)
    return (operation.value[0],) if operation.act is Act.COMPARE_AND_SET else ()


def _events(operations: Sequence[Operation]) -> list[tuple[float, bool, int]]:
    """Calls and answers by time. A call comes before an answer of the same time: the two may be concurrent."""
    calls = [(operation.invoked, False, operation.number) for operation in operations]
    answers = [
        (operation.completed, True, operation.number) for operation in operations if operation.result is Result.OK
    ]
    return sorted(calls + answers)


def _answered(
    situations: set[Situation], number: int, under_way: Mapping[int, Operation]
) -> tuple[set[Situation], int]:
    """The situations in which that operation has taken effect, as it must by its answer; and how many were tried."""
    reads = [
        (other, operation.answer[0] if operation.answer else None)
        for other, operation in under_way.items()
        if operation.act is Act.READ
    ]
    writes = [(other, operation) for other, operation in under_way.items() if operation.act is not Act.READ]

    def settled(value: Value, taken: frozenset[int]) -> Situation:
        """With all reads that the value answers: to let them be answered at once spoils nothing."""
        now = [other for other, answer in reads if answer == value and other not in taken]
        return (value, taken.union(now)) if now else (value, taken)

    reached = {settled(*situation) for situation in situations}
    waiting = list(reached)
    after: set[Situation] = set()
    while waiting:
        value, taken = waiting.pop()
        if number in taken:
            after.add((value, taken - {number}))
            continue
        for other, write in writes:
            if other not in taken and (write.act is Act.WRITE or write.value[0] == value):
                situation = settled(write.value[-1], taken | {other})
                if situation not in reached:
                    reached.add(situation)
                    waiting.append(situation)
        if len(reached) > SITUATIONS:
            raise TooMuchError
    return after, len(reached)
