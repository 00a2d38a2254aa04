"""Each anomaly is found in a history of a few operations, and its innocent twin is not taken for one."""

from __future__ import annotations

import pytest

from analysis.history.anomaly import Kind
from analysis.history.bank import OPENING
from analysis.history.check import check
from analysis.history.operation import Act
from tests.unit.history.histories import EAST, FAILED, OK, SOUTH, UNKNOWN, WEST, Script, kinds

APPEND, READ_LEDGER, TRANSFER, READ_BANK = Act.APPEND, Act.READ_LEDGER, Act.TRANSFER, Act.READ_BANK
READ, WRITE, CAS = Act.READ, Act.WRITE, Act.COMPARE_AND_SET
INCREMENT, READ_COUNTER = Act.INCREMENT, Act.READ_COUNTER


def told(script, finals=1):
    """The kinds of anomalies, with the last so many operations as final reads."""
    return kinds(script.made[:-finals], script.made[-finals:])


def balances(*changes):
    changed = list(OPENING)
    for account, amount in changes:
        changed[account] += amount
    return tuple(changed)


class TestLedger:
    def appended(self, *results):
        do = Script("ledger")
        for entry, result in enumerate(results):
            do(APPEND, (entry,), result=result)
        return do

    @pytest.mark.parametrize(
        ("results", "last", "expected"),
        [
            ([OK, OK], (0, 1), []),
            ([OK, OK], (1,), [Kind.LOST]),
            ([OK, UNKNOWN], (0,), []),
            ([OK, UNKNOWN], (0, 1), []),
            ([OK, FAILED], (0,), []),
            ([OK, FAILED], (0, 1), [Kind.REVIVED]),
            ([OK], (0, 7), [Kind.PHANTOM]),
            ([OK, OK], (0, 1, 1), [Kind.DUPLICATE]),
        ],
    )
    def test_what_is_there_in_the_end(self, results, last, expected):
        do = self.appended(*results)
        do(READ_LEDGER, answer=last)
        assert told(do) == expected

    def test_a_lost_entry_is_named(self):
        do = self.appended(OK, OK)
        do(READ_LEDGER, answer=(0,), region=WEST)
        (found,) = check(do.made[:-1], do.made[-1:])
        assert found.operations == (1, 2)
        assert found.times == (2.0, 5.0)
        assert found.explanation == (
            "ledger: 1 entry acknowledged is missing from the final read in us-west-1 (operation 1)"
        )

    def test_an_acknowledged_entry_that_was_not_seen_in_between(self):
        do = self.appended(OK)
        do(READ_LEDGER, answer=())
        do(READ_LEDGER, answer=(0,))
        assert told(do) == [Kind.STALE_READ]

    def test_a_read_that_asked_for_old_data(self):
        do = self.appended(OK)
        do(READ_LEDGER, answer=(), stale=True)
        do(READ_LEDGER, answer=(0,))
        assert told(do) == []

    def test_an_entry_under_way_may_be_seen_or_not(self):
        do = Script()
        do(APPEND, (0,), at=0, until=10)
        do(READ_LEDGER, answer=(), at=1, until=2)
        do(READ_LEDGER, answer=(0,), at=3, until=4)
        do(READ_LEDGER, answer=(0,), at=11)
        assert told(do) == []

    def test_an_entry_that_was_seen_and_is_gone(self):
        do = self.appended(OK, UNKNOWN)
        do(READ_LEDGER, answer=(0, 1))
        do(READ_LEDGER, answer=(0,))
        assert told(do) == [Kind.VANISHED]

    def test_an_entry_read_before_it_was_written(self):
        do = Script()
        do(READ_LEDGER, answer=(0,))
        do(APPEND, (0,))
        do(READ_LEDGER, answer=(0,))
        assert told(do) == [Kind.PHANTOM]

    def test_a_retry_that_took_effect_twice(self):
        do = self.appended(UNKNOWN)
        do(APPEND, (0,), retry_of=0, attempt=2)
        do(READ_LEDGER, answer=(0, 0))
        assert told(do) == [Kind.APPLIED_TWICE]

    def test_a_retry_that_took_effect_once(self):
        do = self.appended(FAILED)
        do(APPEND, (0,), retry_of=0, attempt=2)
        do(READ_LEDGER, answer=(0,))
        assert told(do) == []

    def test_regions_that_differ(self):
        do = self.appended(OK, UNKNOWN)
        do(READ_LEDGER, answer=(0, 1), region=EAST)
        do(READ_LEDGER, answer=(0,), region=WEST)
        assert set(told(do, finals=2)) == {Kind.VANISHED, Kind.DIVERGENT}

    def test_regions_that_differ_by_what_may_have_come_late(self):
        do = self.appended(OK, UNKNOWN)
        do(READ_LEDGER, answer=(0,), region=EAST)
        do(READ_LEDGER, answer=(0, 1), region=WEST)
        assert told(do, finals=2) == [Kind.NOT_DECIDED]

    def test_a_second_round_decides(self):
        do = self.appended(OK, UNKNOWN)
        for region, answer in [(EAST, (0,)), (WEST, (0, 1)), (EAST, (0,)), (WEST, (0, 1))]:
            do(READ_LEDGER, answer=answer, region=region)
        assert set(told(do, finals=4)) == {Kind.VANISHED, Kind.DIVERGENT}

    def test_nobody_read_it_in_the_end(self):
        assert kinds(self.appended(OK).made) == [Kind.NOT_DECIDED]
        assert kinds(self.appended(UNKNOWN).made) == []


class TestBank:
    @pytest.mark.parametrize(
        ("results", "last", "expected"),
        [
            ([OK, OK], balances((0, -15), (1, 10), (2, 5)), []),
            ([OK, OK], balances((0, -10), (1, 10)), [Kind.LOST]),
            ([OK, UNKNOWN], balances((0, -10), (1, 10)), []),
            ([OK, UNKNOWN], balances((0, -15), (1, 10), (2, 5)), []),
            ([OK, FAILED], balances((0, -15), (1, 10), (2, 5)), [Kind.REVIVED]),
            ([OK, UNKNOWN], balances((0, -20), (1, 10), (2, 10)), [Kind.UNREACHABLE]),
            ([OK, OK], balances((0, -15), (1, 10)), [Kind.TORN]),
            ([OK, OK], balances((0, -15), (1, 10), (2, 5))[:-1], [Kind.TORN]),
            ([OK, OK], balances((0, -115), (1, 110), (2, 5)), [Kind.NEGATIVE, Kind.UNREACHABLE]),
        ],
    )
    def test_what_is_there_in_the_end(self, results, last, expected):
        do = Script("bank")
        for value, result in zip([(0, 1, 10), (0, 2, 5)], results, strict=True):
            do(TRANSFER, value, result=result)
        do(READ_BANK, answer=last)
        assert told(do) == expected

    def test_a_transfer_seen_in_part(self):
        do = Script("bank")
        do(TRANSFER, (0, 1, 10), at=0, until=5)
        do(READ_BANK, answer=balances((0, -10)), at=1, until=2)
        do(READ_BANK, answer=balances((0, -10), (1, 10)), at=9)
        assert told(do) == [Kind.TORN]

    def test_an_acknowledged_transfer_that_was_not_seen_in_between(self):
        do = Script("bank")
        do(TRANSFER, (0, 1, 10))
        do(READ_BANK, answer=OPENING)
        do(READ_BANK, answer=balances((0, -10), (1, 10)))
        assert told(do) == [Kind.STALE_READ]

    def test_a_retry_that_took_effect_twice(self):
        do = Script("bank")
        do(TRANSFER, (0, 1, 10), result=UNKNOWN)
        do(TRANSFER, (0, 1, 10), retry_of=0, attempt=2)
        do(READ_BANK, answer=balances((0, -20), (1, 20)))
        assert told(do) == [Kind.APPLIED_TWICE]

    def test_regions_that_differ(self):
        do = Script("bank")
        do(TRANSFER, (0, 1, 10))
        do(READ_BANK, answer=balances((0, -10), (1, 10)), region=EAST)
        do(READ_BANK, answer=OPENING, region=WEST)
        assert Kind.DIVERGENT in told(do, finals=2)

    def test_too_many_unknown_transfers_to_tell(self):
        do = Script("bank")
        for n in range(60):
            do(TRANSFER, (n % 8, (n * 3 + 1) % 8, 1 + n * n % 89), result=UNKNOWN)
        do(READ_BANK, answer=balances((0, -1), (1, 1)))
        assert told(do) in ([], [Kind.NOT_DECIDED])


class TestRegister:
    def test_a_stale_read(self):
        do = Script("r")
        do(WRITE, (1,))
        do(WRITE, (2,), region=WEST)
        do(READ, answer=(2,))
        do(READ, answer=(1,))
        (found,) = check(do.made, ())
        assert found.kind is Kind.STALE_READ
        assert 3 in found.operations
        assert 0 not in found.operations, "the window begins where the contradiction does"
        assert "operation 3 in us-east-1 read 1 (6.000-7.000 s)" in found.explanation

    def test_it_asked_for_old_data(self):
        do = Script("r")
        do(WRITE, (1,))
        do(WRITE, (2,))
        do(READ, answer=(1,), stale=True)
        assert kinds(do.made) == []

    def test_writes_at_the_same_time_have_either_order(self):
        for answer in (1, 2):
            do = Script("r")
            do(WRITE, (1,), at=0, until=5)
            do(WRITE, (2,), at=1, until=4)
            do(READ, answer=(answer,), at=6)
            assert kinds(do.made) == []

    def test_but_only_one_order(self):
        do = Script("r")
        do(WRITE, (1,), at=0, until=5)
        do(WRITE, (2,), at=1, until=4)
        do(READ, answer=(1,), at=6)
        do(READ, answer=(2,), at=8)
        assert kinds(do.made) == [Kind.STALE_READ]

    def test_two_that_changed_the_same_value(self):
        do = Script("r")
        do(WRITE, (1,))
        do(CAS, (1, 2))
        do(CAS, (1, 3))
        assert kinds(do.made) == [Kind.LOST_UPDATE]

    def test_an_unknown_write_may_come_at_any_time_or_never(self):
        do = Script("r")
        do(WRITE, (1,))
        do(WRITE, (2,), result=UNKNOWN)
        do(READ, answer=(1,))
        do(READ, answer=(2,))
        do(READ, answer=(2,))
        assert kinds(do.made) == []

    def test_but_not_more_than_once(self):
        do = Script("r")
        do(WRITE, (2,), result=UNKNOWN)
        do(READ, answer=(2,))
        do(WRITE, (1,))
        do(READ, answer=(1,))
        do(READ, answer=(2,))
        assert kinds(do.made) == [Kind.STALE_READ]

    def test_nor_before_it_was_sent(self):
        do = Script("r")
        do(READ, answer=(2,))
        do(WRITE, (2,), result=UNKNOWN)
        assert kinds(do.made) == [Kind.PHANTOM]

    def test_a_failed_write_that_was_read(self):
        do = Script("r")
        do(WRITE, (2,), result=FAILED)
        do(READ, answer=(2,))
        assert kinds(do.made) == [Kind.REVIVED]

    def test_what_was_written_last_is_gone_in_the_end(self):
        do = Script("r")
        do(WRITE, (1,))
        do(WRITE, (2,))
        do(READ, answer=(1,))
        assert told(do) == [Kind.LOST]

    def test_nothing_was_there_before(self):
        do = Script("r")
        do(READ, answer=())
        do(WRITE, (1,))
        do(READ, answer=())
        assert kinds(do.made) == [Kind.STALE_READ]

    def test_keys_are_apart(self):
        one, other = Script("a"), Script("b")
        one(WRITE, (1,))
        other(WRITE, (2,))
        other(READ, answer=(2,))
        assert kinds([*one.made, *(o for o in other.made if o.number)]) == [Kind.PHANTOM]

    def test_too_much_to_search_is_said(self):
        do = Script("r")
        for n in range(40):
            do(WRITE, (n,), at=0, until=100)
        for n in range(40):
            do(READ, answer=(n,), at=0, until=101)
        assert kinds(do.made) == [Kind.NOT_DECIDED]

    def test_many_unknown_writes_that_nobody_saw(self):
        do = Script("r")
        for n in range(300):
            do(WRITE, (n,), result=UNKNOWN if n % 2 else OK)
            do(READ, answer=(n - n % 2,))
        assert kinds(do.made) == []


class TestCounter:
    @pytest.mark.parametrize(
        ("results", "last", "expected"),
        [
            ([OK, OK], 2, []),
            ([OK, UNKNOWN], 2, []),
            ([OK, UNKNOWN], 1, []),
            ([OK, FAILED], 2, [Kind.REVIVED]),
            ([UNKNOWN, UNKNOWN], 3, [Kind.PHANTOM]),
        ],
    )
    def test_how_far_it_got(self, results, last, expected):
        do = Script("counter")
        for n, result in enumerate(results, 1):
            do(INCREMENT, answer=(n,) if result is OK else (), result=result)
        do(READ_COUNTER, answer=(last,))
        assert told(do) == expected

    def test_an_increment_is_gone_in_the_end(self):
        do = Script("counter")
        do(INCREMENT, answer=(1,))
        do(INCREMENT, answer=(2,))
        do(READ_COUNTER, answer=(1,))
        assert set(told(do)) == {Kind.LOST, Kind.BACKWARDS}

    def test_two_that_got_the_same_number(self):
        do = Script("counter")
        do(INCREMENT, answer=(1,), at=0, until=5)
        do(INCREMENT, answer=(1,), at=1, until=4)
        do(READ_COUNTER, answer=(1,), at=9)
        assert Kind.LOST_UPDATE in told(do)

    def test_it_went_back(self):
        do = Script("counter")
        do(INCREMENT, result=UNKNOWN)
        do(READ_COUNTER, answer=(1,))
        do(READ_COUNTER, answer=(0,), region=SOUTH)
        (found,) = check(do.made, ())
        assert found.kind is Kind.BACKWARDS
        assert found.explanation == (
            "counter: operation 2 in us-east-2 got 0, though operation 1 had got 1 1.000 s before"
        )

    def test_it_asked_for_old_data(self):
        do = Script("counter")
        do(INCREMENT, answer=(1,))
        do(READ_COUNTER, answer=(0,), stale=True)
        do(READ_COUNTER, answer=(1,))
        assert told(do) == []

    def test_a_retry_that_was_counted_twice(self):
        do = Script("counter")
        do(INCREMENT, result=UNKNOWN)
        do(INCREMENT, answer=(2,), retry_of=0, attempt=2)
        do(READ_COUNTER, answer=(2,))
        assert told(do) == [Kind.APPLIED_TWICE]

    def test_nothing_was_counted_yet(self):
        do = Script("counter")
        do(READ_COUNTER, answer=())
        assert kinds(do.made) == []


def test_two_operations_of_one_number_are_refused():
    do = Script()
    do(APPEND, (0,))
    with pytest.raises(ValueError, match="different numbers"):
        check(do.made * 2, ())
