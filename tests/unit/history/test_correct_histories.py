"""A database without faults is never accused, whatever its clients could not know."""

from __future__ import annotations

from hypothesis import given, settings

from analysis.history.check import check
from analysis.history.operation import Act
from tests.unit.history.histories import certain, correct_histories

REGISTERS = (Act.READ, Act.WRITE, Act.COMPARE_AND_SET)


@given(correct_histories())
@settings(max_examples=40, deadline=None)
def test_no_anomaly_is_reported(history):
    operations, finals = history
    assert certain(check(operations, finals)) == []


@given(correct_histories(acts=REGISTERS, size=40))
@settings(max_examples=40, deadline=None)
def test_registers_are_explained(history):
    assert check(*history) == ()


@given(correct_histories(acts=(Act.TRANSFER, Act.READ_BANK), size=40, late=False))
@settings(max_examples=40, deadline=None)
def test_balances_are_explained(history):
    assert check(*history) == ()


@given(correct_histories(late=False))
@settings(max_examples=40, deadline=None)
def test_everything_is_decided_when_nothing_comes_late(history):
    assert check(*history) == ()
