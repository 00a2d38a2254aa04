"""Sets of flows, and arithmetic on them that leaves nothing out: unions, what is common, what is left over.

A flow is where a packet comes from, its IP protocol, and what it is for: the destination port of TCP and UDP, type and
code of ICMP. Sets of them are boxes in those three dimensions, so that "every address and port" costs no more than one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from ipaddress import IPv4Address, IPv4Network, summarize_address_range
from operator import or_
from typing import TypeAlias

from analysis.words import listed

ICMP, IPIP, TCP, UDP = 1, 4, 6, 17
PROTOCOL_NAMES = {ICMP: "ICMP", IPIP: "IP-in-IP (protocol 4)", TCP: "TCP", UDP: "UDP"}
WITH_PORTS = (TCP, UDP)
ANYWHERE = IPv4Network("0.0.0.0/0")

Interval: TypeAlias = tuple[int, int]
"""First and last of a run of numbers, both included."""

EVERY_SOURCE: Interval = (0, 2**32 - 1)
EVERY_PROTOCOL: Interval = (0, 255)
EVERY_DETAIL: Interval = (0, 65535)
_CODES = 256


@dataclass(frozen=True)
class Box:
    """Flows with a source, a protocol and a detail out of three runs of numbers.

    The detail is the destination port of TCP and UDP, and 256 times the type plus the code of ICMP. Other protocols
    have none: theirs is the whole run.
    """

    sources: Interval
    protocols: Interval = EVERY_PROTOCOL
    details: Interval = EVERY_DETAIL

    @property
    def sides(self) -> tuple[Interval, Interval, Interval]:
        """The three runs."""
        return self.sources, self.protocols, self.details

    def common(self, other: Box) -> Box | None:
        """What is in both."""
        sides = [(max(a[0], b[0]), min(a[1], b[1])) for a, b in zip(self.sides, other.sides, strict=True)]
        return None if any(first > last for first, last in sides) else Box(*sides)

    def without(self, other: Box) -> Iterator[Box]:
        """What is only in this one: up to six boxes that share nothing."""
        hole = self.common(other)
        if hole is None:
            yield self
            return
        sides = list(self.sides)
        for axis, (first, last) in enumerate(hole.sides):
            low, high = sides[axis]
            if low < first:
                yield Box(*(*sides[:axis], (low, first - 1), *sides[axis + 1 :]))
            if last < high:
                yield Box(*(*sides[:axis], (last + 1, high), *sides[axis + 1 :]))
            sides[axis] = (first, last)


@dataclass(frozen=True)
class Flows:
    """A set of flows: boxes that share nothing. Combined by ``|``, ``&`` and ``-``; an empty one is false."""

    boxes: tuple[Box, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any flow in it."""
        return bool(self.boxes)

    def __sub__(self, other: Flows) -> Flows:
        """The flows that are not in the other set."""
        left = self.boxes
        for hole in other.boxes:
            left = tuple(rest for box in left for rest in box.without(hole))
        return Flows(left)

    def __or__(self, other: Flows) -> Flows:
        """The flows of both."""
        return Flows((*self.boxes, *(other - self).boxes))

    def __and__(self, other: Flows) -> Flows:
        """The flows that are in both."""
        return Flows(tuple(both for box in self.boxes for hole in other.boxes if (both := box.common(hole))))

    def __str__(self) -> str:
        """In words: "TCP 179 from 10.1.1.0/24"; the same from elsewhere is named once."""
        sources: dict[tuple[Interval, Interval], list[Interval]] = {}
        for box in self.boxes:
            sources.setdefault((box.protocols, box.details), []).append(box.sources)
        origins: dict[str, list[str]] = {}
        for (protocols, details), runs in sources.items():
            origins.setdefault(listed(networks_of(runs)), []).append(_kind(protocols, details))
        return "; ".join(f"{listed(kinds, limit=4)} from {source}" for source, kinds in origins.items()) or "nothing"

    @property
    def kinds(self) -> list[str]:
        """What the flows are, wherever they come from: "TCP 179"."""
        return [_kind(*kind) for kind in dict.fromkeys((box.protocols, box.details) for box in self.boxes)]

    @property
    def sources(self) -> list[IPv4Network]:
        """Where the flows come from."""
        return networks_of(box.sources for box in self.boxes)


NOTHING = Flows()
EVERYTHING = Flows((Box(EVERY_SOURCE),))


def flows(sources: Iterable[IPv4Network], protocol: int | None = None, details: Interval = EVERY_DETAIL) -> Flows:
    """Flows from those networks, of that protocol (None: of all), with those details."""
    protocols = EVERY_PROTOCOL if protocol is None else (protocol, protocol)
    return union(Flows((Box(_run(source), protocols, details),)) for source in sources)


def icmp_detail(kind: int, code: int | None) -> Interval:
    """The details of ICMP packets of that type and code (None: any)."""
    return (kind * _CODES, kind * _CODES + _CODES - 1) if code is None else (kind * _CODES + code,) * 2


def union(sets: Iterable[Flows]) -> Flows:
    """The flows of all of them."""
    return reduce(or_, sets, NOTHING)


def networks_of(runs: Iterable[Interval]) -> list[IPv4Network]:
    """The fewest networks that hold the addresses of those runs, and no others."""
    merged: list[list[int]] = []
    for first, last in sorted(runs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1][1] = max(last, merged[-1][1])
        else:
            merged.append([first, last])
    return [
        network for first, last in merged for network in summarize_address_range(IPv4Address(first), IPv4Address(last))
    ]


def _run(network: IPv4Network) -> Interval:
    return int(network.network_address), int(network.broadcast_address)


def _kind(protocols: Interval, details: Interval) -> str:
    """What the flows are, but for where they come from."""
    first, last = protocols
    if first != last:
        what = "everything" if protocols == EVERY_PROTOCOL else f"IP protocols {first} to {last}"
        return what if details == EVERY_DETAIL else f"{what} (ports {_span(*details)})"
    name = PROTOCOL_NAMES.get(first, f"IP protocol {first}")
    if details == EVERY_DETAIL:
        return name
    if first != ICMP:
        return f"{name} {_span(*details)}"
    (kind, code), (last_kind, last_code) = divmod(details[0], _CODES), divmod(details[1], _CODES)
    if kind != last_kind:
        return f"{name} types {kind} to {last_kind}"
    return f"{name} type {kind}" + ("" if (code, last_code) == (0, _CODES - 1) else f" code {_span(code, last_code)}")


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
