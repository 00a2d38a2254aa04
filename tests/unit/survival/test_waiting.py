"""Waiting counts from the question on, and silence where nobody asks."""

from __future__ import annotations

import pytest

from analysis.history.operation import Act, Operation, Result
from analysis.survival.waiting import longest_silence, longest_wait


def asked(*operations):
    """Operations from (invoked, completed, acknowledged), by time of completion."""
    made = [
        Operation(n, n, "east", Act.READ, "r", (), (), invoked, completed, Result.OK if well else Result.FAILED)
        for n, (invoked, completed, well) in enumerate(operations)
    ]
    return sorted(made, key=lambda operation: operation.completed)


@pytest.mark.parametrize(
    ("operations", "wait"),
    [
        ([(1, 1.5, True), (8, 8.5, True)], 0.5),  # nobody asked in between
        ([(1, 1.5, True), (2, 8.5, True)], 6.5),  # somebody did
        ([(1, 7, True), (2, 3, True)], 4),  # another one was answered in between
        ([(1, 1.5, True), (2, 2.1, False), (5, 5.1, False), (6, 6.5, True)], 4.5),  # refused is not answered
        ([(1, 1.5, True), (6, 20, True)], 4),  # until it is over
        ([(-3, 2, True)], 2),  # from the beginning
        ([], 0),
    ],
)
def test_the_longest_wait(operations, wait):
    assert longest_wait(asked(*operations), 0, 10) == pytest.approx(wait)


@pytest.mark.parametrize(
    ("operations", "silence"),
    [
        ([], 10),
        ([(0, 10, True)], 0),
        ([(-5, 3, True), (4, 9.5, True)], 1),
        ([(1, 8, True), (2, 3, True)], 2),
        ([(-5, -1, True), (11, 12, True)], 10),
    ],
)
def test_the_longest_silence(operations, silence):
    assert longest_silence(asked(*operations), 0, 10) == pytest.approx(silence)
