"""Register: every answer is explained by one order of the operations, each at one moment between call and answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter

from analysis.history.anomaly import Anomaly, Kind, anomaly
from analysis.history.linearizable import TooMuchError, Value, first_unexplained, observed
from analysis.history.operation import Act, Operation, Result
from analysis.words import listed

_FEW = 60
"""A window of so many operations is thinned out one by one, to show only those that contradict each other."""


def check_register(key: str, operations: Sequence[Operation], finals: Sequence[Operation]) -> list[Anomaly]:
    """The first anomaly of one register, by the fewest operations that show it; or none.

    Args:
        key: name of the register.
        operations: READ, WRITE and COMPARE_AND_SET of that register.
        finals: reads of it once everything was over.
    """
    judged = sorted(filter(_speaks, [*operations, *finals]), key=attrgetter("invoked"))
    try:
        stuck = first_unexplained(judged)
        witness = None if stuck is None else _witness(judged, stuck)
    except TooMuchError:
        words = f"{key}: too many of its {len(judged)} operations overlap to try all their orders"
        return [anomaly(Kind.NOT_DECIDED, judged, words)]
    if stuck is None or witness is None:
        return []
    return [_explain(key, stuck, witness, operations, is_final=any(stuck is final for final in finals))]


def _speaks(operation: Operation) -> bool:
    """Whether it says anything: what failed had no effect, and only an acknowledged read of current data tells."""
    if operation.act is Act.READ:
        return operation.result is Result.OK and not operation.stale
    return operation.result is not Result.FAILED


def _witness(operations: Sequence[Operation], stuck: Operation) -> list[Operation]:
    """Few operations that contradict each other, whatever had been before and whatever became of the others.

    First the latest start is sought from which the answer cannot be explained, whatever the register held then. Then
    one operation after the other is left out, if the rest still cannot be explained.
    """
    until = [_demanding(operation, operation.completed <= stuck.completed) for operation in operations]
    history = [operation for operation in until if operation and operation.invoked <= stuck.completed]
    starts = sorted({operation.completed for operation in history if operation.completed < stuck.invoked})
    shown, openings = history, _NOTHING
    low, high = 0, len(starts) - 1
    while low <= high:
        middle = (low + high) // 2
        window = _since(starts[middle], history)
        if first_unexplained(window, _anything(window)) is None:
            high = middle - 1
        else:
            shown, openings, low = window, _anything(window), middle + 1
    if len(shown) <= _FEW:
        for operation in [operation for operation in shown if operation.result is Result.OK and operation is not stuck]:
            fewer = _replaced(shown, operation, _demanding(operation, False))
            if first_unexplained(fewer, openings) is not None:
                shown = fewer
    return [operation for operation in shown if operation.result is Result.OK]


def _since(start: float, operations: Sequence[Operation]) -> list[Operation]:
    """What is certain after that time; what was under way then may have taken effect before, so it is only possible."""
    later = [
        _demanding(operation, operation.invoked > start)
        for operation in operations
        if operation.completed > start or operation.result is not Result.OK
    ]
    return [operation for operation in later if operation]


def _demanding(operation: Operation, demanded: bool) -> Operation | None:
    """The operation as it is, or only as a possibility: a write may have taken effect, a read then says nothing."""
    if demanded or operation.result is not Result.OK:
        return operation
    return None if operation.act is Act.READ else replace(operation, result=Result.UNKNOWN)


def _replaced(operations: Sequence[Operation], one: Operation, other: Operation | None) -> list[Operation]:
    changed = [other if operation is one else operation for operation in operations]
    return [operation for operation in changed if operation]


_NOTHING: tuple[Value, ...] = (None,)


def _anything(operations: Sequence[Operation]) -> tuple[Value, ...]:
    """Every value that the register may hold at first, as far as it makes a difference to these operations."""
    told = {value for operation in operations for value in observed(operation)}
    another = max((value for value in told if value is not None), default=0) + 1
    return (*told, another)


def _explain(
    key: str, stuck: Operation, witness: Sequence[Operation], everything: Sequence[Operation], is_final: bool
) -> Anomaly:
    (value,) = observed(stuck)
    others = [operation for operation in witness if operation.number != stuck.number]
    before = f", after {listed([_told(other) for other in others], limit=4)}" if others else ""
    story = f"{key}: {_told(stuck)}{before}"
    writers = [
        operation
        for operation in everything
        if operation.value and operation.value[-1] == value and operation.invoked <= stuck.completed
    ]
    if value is not None and not any(writer.result is not Result.FAILED for writer in writers):
        if writers:
            words = f"{story}, though the only write of {value} was reported as failed (operation {writers[0].number})"
            return anomaly(Kind.REVIVED, [*writers, stuck], words)
        return anomaly(Kind.PHANTOM, [stuck], f"{story}, which nobody had written")
    if stuck.act is Act.COMPARE_AND_SET:
        return anomaly(Kind.LOST_UPDATE, witness, f"{story}: it changed a value that was no longer there")
    if any(other.completed < stuck.invoked for other in others):
        kind = Kind.LOST if is_final else Kind.STALE_READ
        words = "what was acknowledged is gone" if is_final else "what was acknowledged before it began was not seen"
        return anomaly(kind, witness, f"{story}: {words}")
    return anomaly(Kind.NOT_LINEARIZABLE, witness, f"{story}: no order of these operations explains their answers")


_TELLING: dict[Act, Callable[[Operation], str]] = {
    Act.READ: lambda read: f"read {read.answer[0] if read.answer else 'nothing'}",
    Act.WRITE: lambda write: f"wrote {write.value[0]}",
    Act.COMPARE_AND_SET: lambda swap: f"changed {swap.value[0]} to {swap.value[1]}",
}


def _told(operation: Operation) -> str:
    did = _TELLING[operation.act](operation)
    when = f"{operation.invoked:.3f}-{operation.completed:.3f} s"
    return f"operation {operation.number} in {operation.region} {did} ({when})"
