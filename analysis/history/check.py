"""Does a history show what a correct database never does?

It is judged key by key: each ledger, bank, register and counter by its own rules. All of them are sound: whatever
became of the operations whose result is unknown, what is reported has no innocent explanation. Reads that asked for old
data are not judged as current.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TypeAlias

from analysis.history.anomaly import Anomaly
from analysis.history.bank import check_bank
from analysis.history.counter import check_counter
from analysis.history.ledger import check_ledger
from analysis.history.operation import Act, Operation
from analysis.history.register import check_register

Checker: TypeAlias = Callable[[str, Sequence[Operation], Sequence[Operation]], list[Anomaly]]

_CHECKERS: dict[Act, Checker] = {
    Act.APPEND: check_ledger,
    Act.READ_LEDGER: check_ledger,
    Act.TRANSFER: check_bank,
    Act.READ_BANK: check_bank,
    Act.READ: check_register,
    Act.WRITE: check_register,
    Act.COMPARE_AND_SET: check_register,
    Act.INCREMENT: check_counter,
    Act.READ_COUNTER: check_counter,
}


def check(operations: Sequence[Operation], finals: Sequence[Operation]) -> tuple[Anomaly, ...]:
    """All anomalies of a history, in the order of their beginning; Kind.NOT_DECIDED stands for what could not be told.

    Args:
        operations: of all clients, in any order. All that ever changed a key must be among them.
        finals: reads of everything once all clients were done and the database was whole, from each region.

    Raises:
        ValueError: two operations bear the same number.

    A million operations, most of them of ledgers, take some seconds.
    """
    if len({operation.number for part in (operations, finals) for operation in part}) < len(operations) + len(finals):
        raise ValueError("operations of a history and its final reads must all bear different numbers")
    during, at_last = _by_key(operations), _by_key(finals)
    found = [
        each
        for checker, key in dict.fromkeys([*during, *at_last])
        for each in checker(key, during.get((checker, key), ()), at_last.get((checker, key), ()))
    ]
    return tuple(sorted(found, key=attrgetter("times")))


def _by_key(operations: Sequence[Operation]) -> dict[tuple[Checker, str], list[Operation]]:
    parts: defaultdict[tuple[Checker, str], list[Operation]] = defaultdict(list)
    for operation in operations:
        parts[_CHECKERS[operation.act], operation.key].append(operation)
    return parts
