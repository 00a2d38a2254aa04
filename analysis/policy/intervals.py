"""Sets of whole numbers as sorted intervals: exact union, intersection and difference, however large the ranges."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class IntervalSet:
    """Numbers, as intervals with both ends included, in rising order and with a gap between any two.

    Made with `of`, which puts intervals into that form.
    """

    intervals: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, intervals: Iterable[tuple[int, int]]) -> IntervalSet:
        """The union of intervals in any order; those that end before they begin are empty."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted(each for each in intervals if each[0] <= each[1]):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return cls(tuple(merged))

    @property
    def lowest(self) -> IntervalSet:
        """The lowest of the numbers alone; nothing of an empty set."""
        return IntervalSet(tuple((first, first) for first, _ in self.intervals[:1]))

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __contains__(self, number: int) -> bool:
        after = bisect_right(self.intervals, number, key=lambda interval: interval[0])
        return after > 0 and number <= self.intervals[after - 1][1]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.intervals)

    def __or__(self, other: IntervalSet) -> IntervalSet:
        return IntervalSet.of((*self.intervals, *other.intervals))

    def __and__(self, other: IntervalSet) -> IntervalSet:
        return self - (self - other)

    def __sub__(self, other: IntervalSet) -> IntervalSet:
        rest: list[tuple[int, int]] = []
        for first, last in self.intervals:
            for cut_first, cut_last in other.intervals:
                if cut_last < first:
                    continue
                if cut_first > last:
                    break
                if first < cut_first:
                    rest.append((first, cut_first - 1))
                first = cut_last + 1
            if first <= last:
                rest.append((first, last))
        return IntervalSet(tuple(rest))

    def __le__(self, other: IntervalSet) -> bool:
        return not self - other
