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
from analysis.policy.ports import ALL_PORTS, EVERY_PORT, Ports
from analysis.policy.satisfiable import satisfiable_by_objects
from analysis.policy.terms import All, And, Not, Selector


class Space(Protocol):
    """One condition: what it lets through."""

    def minus(self, other: Any) -> Space | None:
        """What of it the other does not let through; None when that is nothing."""

    def overlaps(self, other: Any) -> bool:
        """Whether something may pass both."""


Product: TypeAlias = tuple[Space, ...]


@dataclass(frozen=True)
class Bits:
    """A set of small numbers, as bits."""

    value: int

    def minus(self, other: Bits) -> Bits | None:
        """What the other has not."""
        rest = self.value & ~other.value
        return Bits(rest) if rest else None

    def overlaps(self, other: Bits) -> bool:
        """Whether both have one in common."""
        return bool(self.value & other.value)


@dataclass(frozen=True)
class Numbers:
    """A set of numbers, as intervals."""

    value: IntervalSet

    def minus(self, other: Numbers) -> Numbers | None:
        """What the other has not."""
        rest = self.value - other.value
        return Numbers(rest) if rest else None

    def overlaps(self, other: Numbers) -> bool:
        """Whether both have one in common."""
        return bool(self.value & other.value)


@dataclass(frozen=True)
class PortChoice:
    """Ports by number and by name. A name may mean any number, and another one on every pod."""

    value: Ports

    def minus(self, other: PortChoice) -> PortChoice | None:
        """What the other surely has not."""
        names = frozenset() if other.value.numbers == ALL_PORTS else self.value.names - other.value.names
        rest = Ports(self.value.numbers - other.value.numbers, names)
        return PortChoice(rest) if rest else None

    def overlaps(self, other: PortChoice) -> bool:
        """Whether a number is in both, or could be for all that the names tell."""
        return bool(self.value.names or other.value.names or self.value.numbers & other.value.numbers)


@dataclass(frozen=True)
class Bearers:
    """Addresses by the labels of who is known there.

    Attributes:
        known: what one who is known there matches.
        unknown: addresses of nobody known are among them.
    """

    known: Selector
    unknown: bool = False

    def minus(self, other: Bearers) -> Bearers | None:
        """Those that the other does not mean. Two may be known by one address, so nothing more can be said."""
        unknown = self.unknown and not other.unknown
        if isinstance(other.known, All):
            return Bearers(Not(other.known), unknown) if unknown else None
        rest = And((self.known, Not(other.known)))
        if not unknown and satisfiable_by_objects(rest) is False:
            return None
        return self if satisfiable_by_objects(And((self.known, other.known))) is False else Bearers(rest, unknown)

    def overlaps(self, other: Bearers) -> bool:
        """Always possible, by the same token."""
        return True


@dataclass(frozen=True)
class Conditions:
    """Further conditions that can only be told apart by their names: the more of them, the less passes."""

    names: frozenset[str] = frozenset()

    def minus(self, other: Conditions) -> Conditions | None:
        """Nothing, when the other asks for no more than this one does."""
        return None if other.names <= self.names else self

    def overlaps(self, other: Conditions) -> bool:
        """Always possible."""
        return True


def product_of(rule: Rule, subjects: Space) -> Product:
    """All that a rule matches, for those endpoints."""
    return (
        subjects,
        Bits(rule.protocols),
        Numbers(ALL_ICMP if rule.icmp is None else rule.icmp),
        *_of_side(rule.source),
        *_of_side(rule.destination),
        Conditions(frozenset(_conditions("from", rule.source) | _conditions("to", rule.destination))),
    )


def difference(product: Product, other: Product) -> list[Product]:
    """What is left of a product: the product itself where the two have nothing in common."""
    if not all(mine.overlaps(its) for mine, its in zip(product, other, strict=True)):
        return [product]
    rests = (mine.minus(its) for mine, its in zip(product, other, strict=True))
    return [(*product[:place], rest, *product[place + 1 :]) for place, rest in enumerate(rests) if rest is not None]


def _of_side(side: Side) -> Product:
    known = side.peer.known
    ports = (side.ports or EVERY_PORT) if not side.not_ports else Ports(side.numbers, (side.ports or EVERY_PORT).names)
    return (Bearers(All(), unknown=True) if known is None else Bearers(known), Numbers(side.nets), PortChoice(ports))


def _conditions(way: str, side: Side) -> set[str]:
    names = {f"{way} no port {name}" for name in side.not_ports.names}
    if side.peer.excluded is not None:
        names.add(f"{way} nobody of {side.peer.excluded.canonical}")
    if side.service is not None:
        names.add(f"{way} service {'/'.join(side.service)}")
    if side.ports is not None and side.ports.names and side.not_ports.numbers:
        names.add(f"{way} no port of {side.not_ports.numbers.intervals}")
    return names
