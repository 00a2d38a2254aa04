"""Ports as rules name them: numbers, ranges, and names that mean another number on every pod."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analysis.policy.intervals import IntervalSet

LAST_PORT = 65535
ALL_PORTS = IntervalSet(((0, LAST_PORT),))
NO_PORTS = IntervalSet()


@dataclass(frozen=True)
class Ports:
    """Some ports: by number, and by the names that containers give to theirs."""

    numbers: IntervalSet = NO_PORTS
    names: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.numbers or self.names)


EVERY_PORT = Ports(ALL_PORTS)


def calico_ports(entries: Iterable[int | str]) -> Ports:
    """A rule's `ports`: an integer, `"min:max"` with both ends included, or the name of a port.

    A text of digits is a number, as in Calico's own reader.
    """
    numbers: list[tuple[int, int]] = []
    names: set[str] = set()
    for entry in map(str, entries):
        first, colon, last = entry.partition(":")
        if first.isdigit() and (last.isdigit() if colon else True):
            numbers.append((int(first), int(last if colon else first)))
        else:
            names.add(entry)
    return Ports(IntervalSet.of(numbers), frozenset(names))
