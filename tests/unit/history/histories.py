"""Histories written by hand, and by a simulated database that makes no mistake."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from analysis.history.anomaly import Kind
from analysis.history.bank import OPENING
from analysis.history.check import check
from analysis.history.operation import BANK_ACCOUNTS, Act, Operation, Result

OK, FAILED, UNKNOWN = Result.OK, Result.FAILED, Result.UNKNOWN
EAST, WEST, SOUTH = "us-east-1", "us-west-1", "us-east-2"


class Script:
    """Operations one after the other: each takes a second, unless times are given."""

    def __init__(self, key: str = "k") -> None:
        self.key, self.made = key, []

    def __call__(self, act, value=(), answer=(), result=OK, at=None, until=None, **more) -> Operation:
        number = len(self.made)
        at = float(number * 2) if at is None else at
        until = at + 1 if until is None else until
        more = {"client": number, "region": EAST} | more
        operation = Operation(
            number=number,
            act=act,
            key=self.key,
            value=value,
            answer=answer,
            invoked=at,
            completed=until,
            result=result,
            **more,
        )
        self.made.append(operation)
        return operation


def kinds(operations, finals=()):
    return [anomaly.kind for anomaly in check(operations, finals)]


def certain(anomalies):
    return [anomaly for anomaly in anomalies if anomaly.kind is not Kind.NOT_DECIDED]


class CorrectStore:
    """Does what it is told, at once and once."""

    def __init__(self) -> None:
        self.ledger: list[int] = []
        self.balances = list(OPENING)
        self.registers: dict[str, int] = {}
        self.counter = 0

    def do(self, operation: Operation) -> tuple[bool, tuple[int, ...]]:
        """Whether it could be done, and the answer."""
        match operation.act, operation.value:
            case Act.APPEND, (entry,):
                self.ledger.append(entry)
            case Act.READ_LEDGER, _:
                return True, tuple(self.ledger)
            case Act.TRANSFER, (source, target, amount):
                if self.balances[source] < amount:
                    return False, ()
                self.balances[source] -= amount
                self.balances[target] += amount
            case Act.READ_BANK, _:
                return True, tuple(self.balances)
            case Act.WRITE, (value,):
                self.registers[operation.key] = value
            case Act.READ, _:
                return True, (self.registers[operation.key],) if operation.key in self.registers else ()
            case Act.COMPARE_AND_SET, (old, new):
                if self.registers.get(operation.key) != old:
                    return False, ()
                self.registers[operation.key] = new
            case Act.INCREMENT, _:
                self.counter += 1
                return True, (self.counter,)
            case Act.READ_COUNTER, _:
                return True, (self.counter,)
        return True, ()


KEYS = {
    Act.APPEND: ["ledger"],
    Act.READ_LEDGER: ["ledger"],
    Act.TRANSFER: ["bank"],
    Act.READ_BANK: ["bank"],
    Act.READ: ["r1", "r2"],
    Act.WRITE: ["r1", "r2"],
    Act.COMPARE_AND_SET: ["r1", "r2"],
    Act.INCREMENT: ["counter"],
    Act.READ_COUNTER: ["counter"],
}


def _values(act: Act, number: int) -> st.SearchStrategy[tuple[int, ...]]:
    account, few = st.integers(0, BANK_ACCOUNTS - 1), st.integers(0, 3)
    return {
        Act.APPEND: st.just((number,)),
        Act.TRANSFER: st.tuples(account, account, st.integers(1, 120)),
        Act.WRITE: st.tuples(few),
        Act.COMPARE_AND_SET: st.tuples(few, few),
    }.get(act, st.just(()))


@st.composite
def correct_histories(draw, acts=tuple(Act), size=24, late=True):
    """What clients of the correct store may see: (operations, finals).

    Args:
        draw: given by hypothesis.
        acts: that clients may do.
        size: operations at most.
        late: writes of unknown result may take effect long after their client gave up, even during the final reads.
    """
    clock = [0.0] * 3
    client = list(range(3))
    effects: list[tuple[float, int]] = []
    operations: list[Operation] = []
    failed: list[Operation | None] = [None] * 3
    for number in range(draw(st.integers(1, size))):
        place = draw(st.integers(0, 2))
        again = failed[place] if draw(st.booleans()) else None
        act = again.act if again else draw(st.sampled_from(acts))
        invoked = clock[place] + draw(st.integers(0, 3))
        completed = invoked + draw(st.integers(0, 6)) + 0.5
        result = draw(st.sampled_from([OK, OK, OK, UNKNOWN, FAILED]))
        share = draw(st.integers(0, 4)) / 4
        effective = result is OK or (result is UNKNOWN and draw(st.booleans()))
        delay = draw(st.sampled_from([0, 0, 5, 50])) if result is UNKNOWN and late else 0
        if effective:
            effects.append((invoked + share * (completed - invoked) + delay, number))
        operations.append(
            Operation(
                number,
                client[place],
                (EAST, WEST, SOUTH)[place],
                act,
                draw(st.sampled_from(KEYS[act])),
                draw(_values(act, number)),
                (),
                invoked,
                completed,
                result,
            )
        )
        if again:
            first = again.number if again.retry_of is None else again.retry_of
            operations[-1] = replace(
                operations[-1], key=again.key, value=again.value, retry_of=first, attempt=again.attempt + 1
            )
        failed[place] = operations[-1] if result is FAILED else None
        clock[place] = completed + 0.25
        if result is UNKNOWN:
            client[place] += 3
    end = max(clock)
    reads = [
        (Act.READ_LEDGER, "ledger"),
        (Act.READ_BANK, "bank"),
        (Act.READ, "r1"),
        (Act.READ, "r2"),
        (Act.READ_COUNTER, "counter"),
    ]
    finals = []
    for region in (EAST, WEST, SOUTH):
        for act, key in reads:
            number = len(operations) + len(finals)
            effects.append((end + 1 + len(finals), number))
            finals.append(
                Operation(
                    number,
                    1000 + number,
                    region,
                    act,
                    key,
                    (),
                    (),
                    end + 1 + len(finals) - 0.25,
                    end + 1 + len(finals) + 0.25,
                    OK,
                )
            )
    history = [*operations, *finals]
    store = CorrectStore()
    for _, number in sorted(effects):
        done, answer = store.do(history[number])
        operation = history[number]
        if operation.result is OK:
            history[number] = replace(operation, answer=answer) if done else replace(operation, result=FAILED)
    return history[: len(operations)], history[len(operations) :]
