"""Waiting: for how long somebody who had asked was left without an answer, and for how long nobody had asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from analysis.history.operation import Operation, Result


def longest_wait(operations: Sequence[Operation], since: float, until: float) -> float:
    """The longest time (s) in which operations were under way, or had failed, and none succeeded.

    It begins with the last success, or when somebody asked after it, whichever is later: while nobody asks, nothing is
    missed. What was asked and failed at once goes on being waited for.

    Args:
        operations: of one kind, of one region's clients, by time of completion.
        since: from when on (s, monotonic).
        until: a wait that is still going on then counts as far as there.
    """
    answered = [each.completed for each in operations if each.result is Result.OK and since < each.completed < until]
    first_asked = list(accumulate((each.invoked for each in reversed(operations)), min, initial=until))[::-1]
    longest, place = 0.0, 0
    for last, answer in pairwise((since, *answered, until)):
        while place < len(operations) and operations[place].completed <= last:
            place += 1
        longest = max(longest, answer - max(last, first_asked[place]))
    return longest


def longest_silence(operations: Iterable[Operation], since: float, until: float) -> float:
    """The longest time (s) between those two moments in which no operation was under way: a pause could hide there."""
    longest, covered = 0.0, since
    for operation in sorted(operations, key=lambda operation: operation.invoked):
        if operation.completed > since and operation.invoked < until:
            longest = max(longest, operation.invoked - covered)
            covered = max(covered, operation.completed)
    return max(longest, until - covered)
