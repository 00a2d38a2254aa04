"""Small histories, right and wrong, are judged as trying everything out judges them; seeded anomalies are found."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations, permutations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.history.anomaly import Kind
from analysis.history.check import check
from analysis.history.linearizable import first_unexplained, observed
from analysis.history.operation import Act, Operation
from analysis.history.register import check_register
from analysis.history.transfers import apply, reachable
from tests.unit.history.histories import EAST, FAILED, OK, UNKNOWN, certain, correct_histories

SEVERAL = settings(max_examples=30, deadline=None)


@st.composite
def register_histories(draw):
    """Answers drawn at random: some can be explained, some cannot."""
    value = st.integers(0, 2)
    operations = []
    for number in range(draw(st.integers(2, 5))):
        act = draw(st.sampled_from([Act.READ, Act.READ, Act.WRITE, Act.COMPARE_AND_SET]))
        invoked = draw(st.integers(0, 12))
        result = OK if act is Act.READ else draw(st.sampled_from([OK, OK, UNKNOWN]))
        asked = {Act.WRITE: (draw(value),), Act.COMPARE_AND_SET: (draw(value), draw(value))}.get(act, ())
        answer = draw(st.sampled_from([(), (0,), (1,), (2,)])) if act is Act.READ else ()
        until = invoked + draw(st.integers(1, 8)) - 0.5
        operations.append(Operation(number, number, EAST, act, "r", asked, answer, invoked, until, result))
    return operations


def explained(operations, demanded=None, value=None):
    """Whether some order of the acknowledged operations and some of the unknown ones explains the answers.

    Args:
        operations: all of them.
        demanded: those that must be explained; of the others, writes may have taken effect in their time. By default
            all that were acknowledged.
        value: of the register at first.
    """
    sure = [each for each in operations if each.result is OK] if demanded is None else demanded
    unsure = [each for each in operations if each not in sure and each.act is not Act.READ]
    some = chain.from_iterable(combinations(unsure, size) for size in range(len(unsure) + 1))
    return any(_holds(order, value) for chosen in some for order in permutations([*sure, *chosen]))


def _holds(order, value):
    for place, operation in enumerate(order):
        if any(later.result is OK and later.completed < operation.invoked for later in order[place + 1 :]):
            return False
        if observed(operation) not in ((), (value,)):
            return False
        value = operation.value[-1] if operation.value else value
    return True


@given(register_histories())
@settings(max_examples=150, deadline=None)
def test_linearizability_is_what_trying_all_orders_says(operations):
    assert (first_unexplained(operations) is None) == explained(operations)


@given(register_histories())
@SEVERAL
def test_the_operations_that_are_shown_contradict_each_other(operations):
    """They cannot be explained, whatever the register held before and whatever became of all others."""
    for anomaly in check_register("r", operations, ()):
        shown = [operation for operation in operations if operation.number in anomaly.operations]
        assert not explained(operations, shown)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 6)), max_size=9),
    st.sets(st.integers(0, 8)),
    st.tuples(*[st.integers(-2, 2)] * 4),
)
@SEVERAL
def test_balances_are_reachable_when_trying_all_choices_says_so(transfers, done, off):
    end = tuple(
        a + b for a, b in zip(apply((9,) * 4, [t for n, t in enumerate(transfers) if n in done]), off, strict=True)
    )
    every = chain.from_iterable(combinations(transfers, size) for size in range(len(transfers) + 1))
    assert reachable((9,) * 4, end, transfers) == any(apply((9,) * 4, chosen) == end for chosen in every)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 6)), max_size=12),
    st.sets(st.integers(0, 11)),
)
@SEVERAL
def test_a_search_that_is_cut_short_never_says_no_wrongly(transfers, done):
    end = apply((9,) * 4, [transfer for n, transfer in enumerate(transfers) if n in done])
    assert reachable((9,) * 4, end, transfers, limit=2) is not False


class TestSeededAnomalies:
    """One lie in a history that is otherwise true."""

    @given(correct_histories(acts=(Act.APPEND, Act.READ_LEDGER)), st.data())
    @SEVERAL
    def test_a_lost_entry(self, history, data):
        operations, finals = history
        acknowledged = [o.value[0] for o in operations if o.act is Act.APPEND and o.result is OK]
        assume(acknowledged)
        lost = data.draw(st.sampled_from(acknowledged))
        finals = [replace(final, answer=tuple(e for e in final.answer if e != lost)) for final in finals]
        assert Kind.LOST in {anomaly.kind for anomaly in check(operations, finals)}

    @given(correct_histories(acts=(Act.APPEND, Act.READ_LEDGER)), st.data())
    @SEVERAL
    def test_a_failed_entry(self, history, data):
        operations, finals = history
        made = [o for o in operations if o.act is Act.APPEND and o.result is not FAILED]
        there = [o for o in made if o.value[0] in finals[0].answer]
        assume(there)
        chosen = data.draw(st.sampled_from(there))
        operations = [replace(o, result=FAILED) if o is chosen else o for o in operations]
        assert Kind.REVIVED in {anomaly.kind for anomaly in check(operations, finals)}

    @given(correct_histories(acts=(Act.APPEND, Act.READ_LEDGER)), st.data())
    @SEVERAL
    def test_an_entry_that_is_there_twice(self, history, data):
        operations, finals = history
        place = data.draw(
            st.sampled_from([n for n, f in enumerate(finals) if f.act is Act.READ_LEDGER and f.answer] or [None])
        )
        assume(place is not None)
        finals[place] = replace(finals[place], answer=finals[place].answer + finals[place].answer[:1])
        assert Kind.DUPLICATE in {anomaly.kind for anomaly in check(operations, finals)}

    @given(correct_histories(acts=(Act.TRANSFER, Act.READ_BANK), late=False, size=12), st.data())
    @SEVERAL
    def test_a_transfer_that_is_lost(self, history, data):
        operations, finals = history
        done = [o for o in operations if o.act is Act.TRANSFER and o.result is OK and o.value[0] != o.value[1]]
        assume(done)
        source, target, amount = data.draw(st.sampled_from(done)).value
        finals = [
            replace(final, answer=apply(final.answer, [(target, source, amount)]))
            for final in finals
            if final.act is Act.READ_BANK
        ]
        every = [o.value for o in operations if o.act is Act.TRANSFER and o.result is UNKNOWN]
        sure = [o.value for o in operations if o.act is Act.TRANSFER and o.result is OK]
        choices = chain.from_iterable(combinations(every, size) for size in range(len(every) + 1))
        innocent = any(apply((100,) * 8, [*sure, *chosen]) == finals[0].answer for chosen in choices)
        negative = any(balance < 0 for balance in finals[0].answer)
        assert bool(certain(check(operations, finals))) == (not innocent or negative)

    @given(correct_histories(acts=(Act.INCREMENT, Act.READ_COUNTER)), st.data())
    @SEVERAL
    def test_an_increment_that_is_lost(self, history, data):
        operations, finals = history
        done = [o for o in operations if o.act is Act.INCREMENT and o.result is OK]
        assume(len(done) > 1)
        chosen, other = data.draw(st.permutations(done))[:2]
        operations = [replace(o, answer=other.answer) if o is chosen else o for o in operations]
        assert Kind.LOST_UPDATE in {anomaly.kind for anomaly in check(operations, finals)}

    @given(correct_histories(acts=(Act.READ, Act.WRITE, Act.COMPARE_AND_SET), size=12), st.data())
    @SEVERAL
    def test_a_wrong_answer_of_a_register(self, history, data):
        operations, finals = history
        reads = [o for o in operations if o.act is Act.READ and o.result is OK]
        assume(reads)
        chosen = data.draw(st.sampled_from(reads))
        operations = [replace(o, answer=(99,)) if o is chosen else o for o in operations]
        assert [anomaly.kind for anomaly in check(operations, finals)] == [Kind.PHANTOM]
