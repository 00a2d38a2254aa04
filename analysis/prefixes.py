"""Arithmetic on address ranges: longest match, and which ranges share addresses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Generic, TypeVar

T = TypeVar("T")

ADDRESS_BITS = 32


class PrefixTable(Generic[T]):
    """Values by prefix, found by longest match. One prefix may hold several values, in the order they came."""

    def __init__(self, entries: Iterable[tuple[IPv4Network, T]]) -> None:
        self._values: dict[tuple[int, int], list[T]] = {}
        for prefix, value in entries:
            self._values.setdefault((int(prefix.network_address), prefix.prefixlen), []).append(value)
        self._lengths = sorted({length for _, length in self._values}, reverse=True)

    def exact(self, prefix: IPv4Network) -> Sequence[T]:
        """The values of exactly that prefix."""
        return self._values.get((int(prefix.network_address), prefix.prefixlen), ())

    def longest(self, prefix: IPv4Network | IPv4Address) -> Sequence[T]:
        """The values of the most specific entry that holds all of that prefix; none when no entry does."""
        if isinstance(prefix, IPv4Address):
            first, own_length = int(prefix), ADDRESS_BITS
        else:
            first, own_length = int(prefix.network_address), prefix.prefixlen
        for length in self._lengths:
            if length <= own_length:
                shift = ADDRESS_BITS - length
                values = self._values.get((first >> shift << shift, length))
                if values:
                    return values
        return ()


def overlaps(ranges: Iterable[tuple[IPv4Network, T]]) -> list[tuple[tuple[IPv4Network, T], tuple[IPv4Network, T]]]:
    """Every pair of entries that share an address, the wider range first.

    Linear in the number of entries and of pairs found, after sorting: prefixes nest or are apart, so a stack of the
    ranges that are still open holds all that the next one can overlap with.
    """
    ordered = sorted(ranges, key=lambda entry: (int(entry[0].network_address), entry[0].prefixlen))
    found: list[tuple[tuple[IPv4Network, T], tuple[IPv4Network, T]]] = []
    open_ranges: list[tuple[IPv4Network, T]] = []
    for entry in ordered:
        while open_ranges and int(open_ranges[-1][0].broadcast_address) < int(entry[0].network_address):
            open_ranges.pop()
        found += [(wider, entry) for wider in open_ranges]
        open_ranges.append(entry)
    return found
