"""Sets of packets, and what is left of one when others are taken away.

A rule matches a product of independent conditions: who is policed, which protocol, which addresses and ports, which
labels. Taking one product from another leaves a union of products, one for each condition. Where a difference cannot be
told exactly it is told too large: what seems to be left may be nothing, what seems to be nothing is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from analysis.policy.calico_rules import ALL_ICMP, Rule, Side
from analysis.policy.intervals import IntervalSet
from analysis.policy.label_index import LabelIndex
from analysis.policy.ports import ALL_PORTS, EVERY_PORT, Ports
from analysis.policy.satisfiable import satisfiable_by_objects
from analysis.policy.terms import All, And, Not, Selector


class Space(Protocol):
    """One condition: what it lets through."""

    def minus(self, other: Any) -> Space | None:
        """What of it the other does not let through, too much rather than too little; None when that is nothing."""

    def apart(self, other: Any) -> bool:
        """Whether the two surely have nothing in common."""

    def one(self) -> Space:
        """As little of it as can be told apart."""


Product: TypeAlias = tuple[Space, ...]


@dataclass(frozen=True)
class Bits:
    """A set of small numbers, as bits."""

    value: int

    def minus(self, other: Bits) -> Bits | None:
        """What the other has not."""
        rest = self.value & ~other.value
        return Bits(rest) if rest else None

    def apart(self, other: Bits) -> bool:
        """Whether no number is in both."""
        return not self.value & other.value

    def one(self) -> Bits:
        """Its lowest number."""
        return Bits(self.value & -self.value)


@dataclass(frozen=True)
class Numbers:
    """A set of numbers, as intervals."""

    value: IntervalSet

    def minus(self, other: Numbers) -> Numbers | None:
        """What the other has not."""
        rest = self.value - other.value
        return Numbers(rest) if rest else None

    def apart(self, other: Numbers) -> bool:
        """Whether no number is in both."""
        return not self.value & other.value

    def one(self) -> Numbers:
        """Its lowest number."""
        return Numbers(self.value.lowest)


@dataclass(frozen=True)
class PortChoice:
    """Ports by number and by name. A name may mean any number, and another one on every pod."""

    value: Ports

    def minus(self, other: PortChoice) -> PortChoice | None:
        """What the other surely has not."""
        names = frozenset() if other.value.numbers == ALL_PORTS else self.value.names - other.value.names
        rest = Ports(self.value.numbers - other.value.numbers, names)
        return PortChoice(rest) if rest else None

    def apart(self, other: PortChoice) -> bool:
        """Whether no number is in both, where names do not leave that open."""
        return not (self.value.names or other.value.names or self.value.numbers & other.value.numbers)

    def one(self) -> PortChoice:
        """Its lowest number, else one of its names."""
        numbers, names = self.value.numbers, self.value.names
        return PortChoice(Ports(numbers.lowest) if numbers else Ports(names=frozenset(sorted(names)[:1])))


@dataclass(frozen=True)
class Bearers:
    """Addresses by the labels of who is known there.

    Attributes:
        known: what one who is known there matches.
        unknown: addresses of nobody known are among them.
        today: the bits of those who match now: where these tell two sets apart, nothing needs to be proven.
    """

    known: Selector
    unknown: bool = False
    today: int = 0

    def minus(self, other: Bearers) -> Bearers | None:
        """Those that the other does not mean."""
        unknown = self.unknown and not other.unknown
        if isinstance(other.known, All):
            return Bearers(Not(other.known), unknown) if unknown else None
        left = Bearers(And((self.known, Not(other.known))), unknown, self.today & ~other.today)
        if unknown or left.today or satisfiable_by_objects(left.known) is not False:
            return self if self.apart(other) else left
        return None

    def apart(self, other: Bearers) -> bool:
        """Whether nobody can be meant by both."""
        if (self.unknown and other.unknown) or self.today & other.today:
            return False
        return satisfiable_by_objects(And((self.known, other.known))) is False

    def one(self) -> Bearers:
        """All of it."""
        return self


@dataclass(frozen=True)
class Conditions:
    """Further conditions that can only be told apart by their names: the more of them, the less passes."""

    names: frozenset[str] = frozenset()

    def minus(self, other: Conditions) -> Conditions | None:
        """Nothing, when the other asks for no more than this one does."""
        return None if other.names <= self.names else self

    def apart(self, other: Conditions) -> bool:
        """Never for sure."""
        return False

    def one(self) -> Conditions:
        """All of it."""
        return self


def product_of(rule: Rule, subjects: Space, index: LabelIndex) -> Product:
    """All that a rule matches, for those endpoints."""
    return (
        subjects,
        _bearers(rule.source, index),
        _bearers(rule.destination, index),
        *_of_packet(rule),
    )


def product_of_today(rule: Rule, subjects: Space, index: LabelIndex) -> Product:
    """The same over those who are known today and one more who is not: quick to reckon with, and no proof for later."""
    return subjects, _members(rule.source, index), _members(rule.destination, index), *_of_packet(rule)


def within(product: Product, other: Product) -> bool:
    """Whether nothing of a product is left when the other is taken away."""
    return all(mine.minus(its) is None for mine, its in zip(product, other, strict=True))


def difference(product: Product, other: Product) -> list[Product]:
    """What is left of a product: the product itself where the two have nothing in common."""
    parts: list[Product] = []
    for place, (mine, its) in enumerate(zip(product, other, strict=True)):
        rest = mine.minus(its)
        if rest == mine:  # nothing in common, so all of it is left
            return [product]
        if rest is not None:
            parts.append((*product[:place], rest, *product[place + 1 :]))
    return parts


def _of_packet(rule: Rule) -> Product:
    return (
        Bits(rule.protocols),
        Numbers(rule.source.nets),
        Numbers(rule.destination.nets),
        PortChoice(_ports(rule.source)),
        PortChoice(_ports(rule.destination)),
        Numbers(ALL_ICMP if rule.icmp is None else rule.icmp),
        Conditions(frozenset(_conditions("from", rule.source) | _conditions("to", rule.destination))),
    )


def _ports(side: Side) -> Ports:
    ports = side.ports or EVERY_PORT
    return Ports(side.numbers, ports.names) if side.not_ports else ports


def _bearers(side: Side, index: LabelIndex) -> Bearers:
    known = side.peer.known
    return Bearers(All(), True, index.everything) if known is None else Bearers(known, today=index.select(known))


def _members(side: Side, index: LabelIndex) -> Bits:
    nobody = index.everything + 1
    return Bits(index.everything | nobody if side.peer.known is None else index.select(side.peer.known))


def _conditions(way: str, side: Side) -> set[str]:
    names = {f"{way} no port {name}" for name in side.not_ports.names}
    if side.peer.excluded is not None:
        names.add(f"{way} nobody of {side.peer.excluded.canonical}")
    if side.service is not None:
        names.add(f"{way} service {'/'.join(side.service)}")
    if side.ports is not None and side.ports.names and side.not_ports.numbers:
        names.add(f"{way} no port of {side.not_ports.numbers.intervals}")
    return names
