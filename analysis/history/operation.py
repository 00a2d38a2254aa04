"""One operation of one client: what was asked, what came of it, and when.

The vocabulary is Jepsen's, in words: an operation is `OK` (acknowledged), `FAILED` (certainly without effect) or
`UNKNOWN` (it may have taken effect, then or later). Only what is certain counts as failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Result(str, Enum):
    """What is known of an operation once its client has let go of it."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Act(str, Enum):
    """What an operation does. The value of each is described in `Operation`."""

    APPEND = "append"
    """Ledger: insert an entry that nobody else inserts."""

    READ_LEDGER = "read-ledger"
    """Ledger: all entries."""

    TRANSFER = "transfer"
    """Bank: move an amount between two accounts, in one transaction."""

    READ_BANK = "read-bank"
    """Bank: all balances, in one transaction."""

    READ = "read"
    """Register: its value."""

    WRITE = "write"
    """Register: set it."""

    COMPARE_AND_SET = "compare-and-set"
    """Register: set it if it has a certain value."""

    INCREMENT = "increment"
    """Counter: add one, and learn the new value."""

    READ_COUNTER = "read-counter"
    """Counter: its value, which never goes down."""


READS = frozenset({Act.READ_LEDGER, Act.READ_BANK, Act.READ, Act.READ_COUNTER})

BANK_ACCOUNTS = 8
BANK_BALANCE = 100
"""Each account begins with so much; none may come to have less than nothing, and the sum never changes."""

INSUFFICIENT, MISMATCH = "insufficient", "mismatch"
IN_VAIN = frozenset({INSUFFICIENT, MISMATCH})
"""Messages of operations that had certainly no effect, though nothing went wrong: too low a balance, another value."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        number: unique in its history, in the order of invocation.
        client: unique; one client has one operation at a time, and is not used again after an UNKNOWN one.
        region: where the client is.
        act: what it does.
        key: which register, counter, ledger or bank.
        value: what was asked: APPEND (entry,); TRANSFER (from, to, amount); WRITE (new,); COMPARE_AND_SET (old, new);
            INCREMENT and reads ().
        answer: what came back: READ_LEDGER the entries; READ_BANK the balances in the order of accounts; READ and
            READ_COUNTER (value,), with () for none; INCREMENT (new value,); else ().
        invoked: when it was sent (s, monotonic clock of the runner).
        completed: when the client knew the result, or gave up (s).
        result: what is known of it.
        code: SQLSTATE of the error, "" for none.
        message: the first words of the error.
        node: name of the node that the session was with, "" when there was none.
        stale: a read that asked for old data on purpose.
        attempt: 1 for the first; a retry bears the number of its first attempt in `retry_of`.
        retry_of: number of the operation that this one repeats; None for none.
    """

    number: int
    client: int
    region: str
    act: Act
    key: str
    value: tuple[int, ...]
    answer: tuple[int, ...]
    invoked: float
    completed: float
    result: Result
    code: str = ""
    message: str = ""
    node: str = ""
    stale: bool = False
    attempt: int = 1
    retry_of: int | None = None

    @property
    def declined(self) -> bool:
        """Whether nothing went wrong, though nothing was done: there was too little to move, or another value."""
        return self.result is Result.FAILED and self.message in IN_VAIN
