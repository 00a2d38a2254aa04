"""Counter: it only grows, every increment gets a number of its own, and none is counted twice or forgotten.

A value that was read, or given to an increment, is at least the number of increments that had been acknowledged by
then, and at most the number that may have been under way. Nothing that begins after an answer was given sees less.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import attrgetter

from analysis.history.anomaly import Anomaly, Kind, anomaly, numbers
from analysis.history.chains import Chain, chains
from analysis.history.operation import Act, Operation, Result


def check_counter(key: str, operations: Sequence[Operation], finals: Sequence[Operation]) -> list[Anomaly]:
    """Anomalies of one counter, one of each kind: the first.

    Args:
        key: name of the counter.
        operations: INCREMENT and READ_COUNTER of that counter.
        finals: reads of it once everything was over.
    """
    increments = [operation for operation in operations if operation.act is Act.INCREMENT]
    answered = [operation for operation in [*operations, *finals] if operation.result is Result.OK]
    answered.sort(key=attrgetter("invoked"))
    firsts: dict[Kind, Anomaly] = {}
    for found in (
        *_same_number(key, increments),
        *_backwards(key, answered),
        *_beyond(key, chains(increments), answered, {final.number for final in finals}),
    ):
        firsts.setdefault(found.kind, found)
    return list(firsts.values())


def _same_number(key: str, increments: Sequence[Operation]) -> Iterator[Anomaly]:
    holders: defaultdict[int, list[Operation]] = defaultdict(list)
    for increment in increments:
        if increment.result is Result.OK and increment.answer:
            holders[increment.answer[0]].append(increment)
    for value, alike in holders.items():
        if len(alike) > 1:
            words = f"{key}: {numbers(alike)} were each told to have made it {value}; but one of them counts"
            yield anomaly(Kind.LOST_UPDATE, alike, words)


def _backwards(key: str, answered: Sequence[Operation]) -> Iterator[Anomaly]:
    """Answers that are lower than one that was given before they were asked for."""
    given = sorted((operation for operation in answered if not operation.stale), key=attrgetter("completed"))
    highest: Operation | None = None
    following = 0
    for operation in answered:
        while following < len(given) and given[following].completed < operation.invoked:
            if highest is None or _value(given[following]) > _value(highest):
                highest = given[following]
            following += 1
        if highest is None or operation.stale:
            continue
        least = _value(highest) + (operation.act is Act.INCREMENT)
        if _value(operation) < least:
            words = (
                f"{key}: operation {operation.number} in {operation.region} got {_value(operation)}, though operation "
                f"{highest.number} had got {_value(highest)} {operation.invoked - highest.completed:.3f} s before"
            )
            yield anomaly(Kind.BACKWARDS, [highest, operation], words)


def _beyond(key: str, made: Sequence[Chain], answered: Sequence[Operation], finals: set[int]) -> Iterator[Anomaly]:
    """Answers that are too low for what had been acknowledged, or too high for what had been tried."""
    effective = [chain for chain in made if chain.result is not Result.FAILED]
    acknowledged = sorted(chain.completed for chain in effective if chain.result is Result.OK)
    tried = sorted(chain.invoked for chain in effective)
    by_answer = sorted(answered, key=attrgetter("completed"))
    possible = {}
    begun = 0
    for operation in by_answer:
        while begun < len(tried) and tried[begun] <= operation.completed:
            begun += 1
        possible[operation.number] = begun
    certain = 0
    for operation in answered:
        while certain < len(acknowledged) and acknowledged[certain] < operation.invoked:
            certain += 1
        value = _value(operation)
        where = f"{key}: operation {operation.number} in {operation.region} got {value}"
        least = certain + (operation.act is Act.INCREMENT)
        if value < least and not operation.stale:
            kind = Kind.LOST if operation.number in finals else Kind.LOST_UPDATE
            words = f"{where}, though {certain} increments had been acknowledged before it"
            yield anomaly(kind, [operation], words)
        if value > possible[operation.number]:
            yield _too_high(where, operation, made, possible[operation.number])


def _too_high(where: str, operation: Operation, made: Sequence[Chain], possible: int) -> Anomaly:
    """Why a value is higher than the number of increments that may have taken effect."""
    before = [chain for chain in made if chain.attempts[0].invoked <= operation.completed]
    repeated = [attempt for chain in before if len(chain.effective) > 1 for attempt in chain.effective]
    again = sum(len(chain.effective) - 1 for chain in before if chain.effective)
    failed = [a for chain in before for a in chain.attempts if a.result is Result.FAILED]
    excess = _value(operation) - possible
    if excess <= again:
        words = (
            f"{where}, {excess} more than was wanted: a client repeated an increment without knowing the result of its "
            f"first attempt ({numbers(repeated)})"
        )
        return anomaly(Kind.APPLIED_TWICE, [*repeated, operation], words)
    if excess <= again + len(failed):
        words = (
            f"{where}, {excess} more than was wanted: increments reported as failed were counted ({numbers(failed)})"
        )
        return anomaly(Kind.REVIVED, [*failed, operation], words)
    return anomaly(Kind.PHANTOM, [operation], f"{where}, though only {possible} increments had been tried")


def _value(operation: Operation) -> int:
    return operation.answer[0] if operation.answer else 0
