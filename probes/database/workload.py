"""The workloads in SQL that both engines understand: their tables, and the statements of each act.

A ledger may hold an entry twice: a client that repeats what was applied must be seen to do so. Whatever is one
statement is atomic by itself, under any isolation; what is more than one asks for SERIALIZABLE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from analysis.history.operation import BANK_ACCOUNTS, BANK_BALANCE, Act

DATABASE = "meshproof"
"""Database (in the sense of SQL) of the workloads."""

ADMINISTRATION = "postgres"
"""The one that is always there, in both engines."""

TABLES = (
    "CREATE TABLE ledger (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, entry bigint NOT NULL)",
    "CREATE TABLE bank (name text, account int, balance bigint NOT NULL, PRIMARY KEY (name, account))",
    "CREATE TABLE register (name text PRIMARY KEY, value bigint NOT NULL)",
    "CREATE TABLE counter (name text PRIMARY KEY, value bigint NOT NULL)",
)

OPEN_ACCOUNT = "INSERT INTO bank VALUES (%s, %s, %s)"

BEGIN, COMMIT, ROLLBACK = "BEGIN ISOLATION LEVEL SERIALIZABLE", "COMMIT", "ROLLBACK"

INSUFFICIENT, MISMATCH = "insufficient", "mismatch"
"""Why an act had certainly no effect, though nothing went wrong."""

Values: TypeAlias = tuple[int | str, ...]
Rows: TypeAlias = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Statement:
    """One statement. With `unless_touched`, the act has no effect for that reason where it touches no row."""

    text: str
    values: Values
    unless_touched: str = ""


def all_values(rows: Rows) -> tuple[int, ...]:
    """The first column."""
    return tuple(int(row[0]) for row in rows)


def nothing(_rows: Rows) -> tuple[int, ...]:
    """What an act answers that asks for nothing."""
    return ()


@dataclass(frozen=True)
class Script:
    """An act as statements; more than one of them are one transaction.

    Attributes:
        answer: what the rows of the last one say.
    """

    statements: tuple[Statement, ...]
    answer: Callable[[Rows], tuple[int, ...]] = nothing


def script(act: Act, key: str, value: tuple[int, ...], moment: str = "") -> Script:
    """The statements of an act.

    Args:
        act: what is to be done.
        key: to which register, counter, ledger or bank.
        value: as in `Operation.value`.
        moment: clause behind the table that makes a read one of the past, in the words of the engine.
    """
    if act in _READS:
        text = _READS[act].format(moment=moment)
        return Script((Statement(text, (key,)),), all_values)
    return _WRITES[act](key, value)


_READS: Mapping[Act, str] = {
    Act.READ_LEDGER: "SELECT entry FROM ledger {moment} WHERE name = %s ORDER BY entry",
    Act.READ_BANK: "SELECT balance FROM bank {moment} WHERE name = %s ORDER BY account",
    Act.READ: "SELECT value FROM register {moment} WHERE name = %s",
    Act.READ_COUNTER: "SELECT value FROM counter {moment} WHERE name = %s",
}


def _append(key: str, value: tuple[int, ...]) -> Script:
    return Script((Statement("INSERT INTO ledger (name, entry) VALUES (%s, %s)", (key, *value)),))


def _transfer(key: str, value: tuple[int, ...]) -> Script:
    source, target, amount = value
    take = "UPDATE bank SET balance = balance - %s WHERE name = %s AND account = %s AND balance >= %s"
    give = "UPDATE bank SET balance = balance + %s WHERE name = %s AND account = %s"
    return Script(
        (
            Statement(take, (amount, key, source, amount), unless_touched=INSUFFICIENT),
            Statement(give, (amount, key, target), unless_touched=MISMATCH),
        )
    )


def _write(key: str, value: tuple[int, ...]) -> Script:
    text = "INSERT INTO register VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    return Script((Statement(text, (key, *value)),))


def _compare_and_set(key: str, value: tuple[int, ...]) -> Script:
    old, new = value
    text = "UPDATE register SET value = %s WHERE name = %s AND value = %s"
    return Script((Statement(text, (new, key, old), unless_touched=MISMATCH),))


def _increment(key: str, _value: tuple[int, ...]) -> Script:
    text = (
        "INSERT INTO counter VALUES (%s, 1) ON CONFLICT (name) DO UPDATE SET value = counter.value + 1 RETURNING value"
    )
    return Script((Statement(text, (key,)),), all_values)


_WRITES: Mapping[Act, Callable[[str, tuple[int, ...]], Script]] = {
    Act.APPEND: _append,
    Act.TRANSFER: _transfer,
    Act.WRITE: _write,
    Act.COMPARE_AND_SET: _compare_and_set,
    Act.INCREMENT: _increment,
}


def openings(keys: Iterable[str]) -> Iterator[Statement]:
    """What must be there before the first act: the accounts of each bank among the keys ("bank", "bank-2")."""
    for key in keys:
        if key.startswith("bank"):
            yield from (Statement(OPEN_ACCOUNT, (key, account, BANK_BALANCE)) for account in range(BANK_ACCOUNTS))
