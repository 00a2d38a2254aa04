"""Calico's rules that are never asked, because whatever they match was decided before.

The set of packets that a rule matches walks through the tiers as a packet does: what an Allow or a Deny matches leaves,
what a Pass matches goes on in the next tier, and the end of a tier drops the rest. A rule is in the shadow of others
when nothing of its own set reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from analysis.policy.calico_rules import Action, CalicoPolicy, Rule
from analysis.policy.calico_view import ClusterView, Stage, TierPolicies
from analysis.policy.coverage import Bearers, Bits, Product, Space, difference, product_of, product_of_today, within
from analysis.policy.model import Direction

PARTS = 64
"""Parts of a rule's set that are followed; a rule whose set falls into more is not called dead."""

_IPV4 = 4


class TooManyPartsError(Exception):
    """The set of a rule falls into more parts than are followed."""


class Shadows:
    """The rules of one cluster, as they stand in front of each other."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._inhabited = bool(view.known)
        self._tiers = [
            (tier, [(policy, self._subjects(policy)) for policy in tier.policies if not policy.is_staged])
            for tier in view.tiers
        ]
        self._passing = {
            tier.name
            for tier in view.tiers
            for policy in tier.policies
            if any(rule.action is Action.PASS for rules in policy.rules.values() for rule in rules)
        }
        self._today: dict[int, Product] = {}
        self._before: dict[tuple[int, Direction], list[_Stretch]] = {}

    def over(self, policy: CalicoPolicy, rule: Rule) -> tuple[str, ...]:
        """What leaves nothing to a rule: one rule alone if there is such a one, else all that take part.

        Empty for a rule that something reaches, as far as can be told.
        """
        first = self._first_over_one_packet(policy, rule)
        if first is not None:
            front, in_front = first
            if in_front is rule:
                return ()
            whole = self._product(rule, self._subjects(policy))
            if front.tier not in self._passing and not difference(
                whole, self._product(in_front, self._subjects(front))
            ):
                return (in_front.name,)
        before = self._tiers_before(policy, rule.direction)
        if self._inhabited and not self._reckon(policy, rule, before, self._product_today):
            return ()
        return self._reckon(policy, rule, before, self._product)

    def _first_over_one_packet(self, policy: CalicoPolicy, rule: Rule) -> tuple[CalicoPolicy, Rule] | None:
        """What decides about one packet between endpoints of today that the rule matches.

        Tried first, for this alone tells of most rules that they are alive, and of most others which rule is in front.
        """
        packet = self._packet(policy, rule) if policy.is_normal and rule.direction in policy.types else None
        if packet is None:
            return None
        member, product = packet
        for tier, policies in self._view.standing(member, rule.direction, Stage.NORMAL):
            found = next(
                (
                    (each, one)
                    for each in policies
                    for one in each.rules[rule.direction]
                    if one is rule or (_decides(one) and within(product, self._product_today(one, product[0])))
                ),
                None,
            )
            if found is None and tier.drops:
                return None
            if found is not None and (found[1] is rule or found[1].action is not Action.PASS):
                return found
        return None

    def _packet(self, policy: CalicoPolicy, rule: Rule) -> tuple[int, Product] | None:
        """One packet that the rule matches, and the endpoint that is policed; None where none was found at once."""
        ingress = rule.direction is Direction.INGRESS
        policed, peer = (rule.destination, rule.source) if ingress else (rule.source, rule.destination)
        index = self._view.index
        subjects = self._view.selected(policy)
        if policed.peer.known is not None:
            subjects &= index.select(policed.peer.known)
        # One who is not known is matched by the fewest other rules: by none that names labels.
        others = index.everything + 1 if peer.peer.known is None else index.select(peer.peer.known)
        if not subjects or not others:
            return None
        subject, other = Bits(subjects).one(), Bits(others).one()
        sides = (other, subject) if ingress else (subject, other)
        _, _, _, *of_packet = self._product_today(rule, subject)
        return subject.value.bit_length() - 1, (subject, *sides, *(each.one() for each in of_packet))

    def _reckon(self, policy: CalicoPolicy, rule: Rule, before: list[_Stretch], product: _Reading) -> tuple[str, ...]:
        walk = _Walk(product(rule, self._subjects(policy)))
        try:
            for tier, entries in before:
                if self._ask(walk, tier, entries, rule, product):
                    break
                if not walk.rest:
                    return walk.shadows
        except TooManyPartsError:
            return ()
        return () if walk.rest else walk.shadows

    def _ask(self, walk: _Walk, tier: TierPolicies, entries: list[_Entry], until: Rule, product: _Reading) -> bool:
        """Lets the set walk through a tier; True once it has come to its own rule, or nothing is left of it."""
        passed: list[Product] = []
        for policy, subjects in entries:
            for rule in policy.rules[until.direction]:
                if rule is until:
                    return True
                if not _decides(rule):
                    continue
                other = product(rule, subjects)
                if rule.action is Action.PASS:
                    passed += walk.meeting(other)
                walk.meet(rule.name, other)
                if not walk.rest and not passed:
                    return True
        if tier.drops:
            for _, subjects in entries:
                walk.end(f"tier/{tier.name}/end", subjects)
        walk.rest += passed
        return False

    def _tiers_before(self, policy: CalicoPolicy, direction: Direction) -> list[_Stretch]:
        """The tiers up to that of the policy, with what acts where it acts and on some that it selects."""
        key = id(policy), direction
        if key not in self._before:
            self._before[key] = list(self._found_before(policy, direction))
        return self._before[key]

    def _found_before(self, policy: CalicoPolicy, direction: Direction) -> Iterator[_Stretch]:
        own = self._subjects(policy)
        stage = policy.untracked, policy.pre_dnat
        for tier, entries in self._tiers:
            chosen = [
                (each, subjects)
                for each, subjects in entries
                if direction in each.types
                and (each.untracked, each.pre_dnat) == stage
                and (each.on_forward or not policy.on_forward)
                and not own.apart(subjects)
            ]
            if chosen:
                yield (tier if policy.is_normal else replace(tier, drops=False)), chosen
            if tier.name == policy.tier:
                return

    def _subjects(self, policy: CalicoPolicy) -> Space:
        """Whom a policy selects: today's endpoints, or whatever its selector could mean where none are known."""
        return Bits(self._view.selected(policy)) if self._inhabited else Bearers(policy.selector)

    def _product(self, rule: Rule, subjects: Space) -> Product:
        return product_of(rule, subjects, self._view.index)

    def _product_today(self, rule: Rule, subjects: Space) -> Product:
        if id(rule) not in self._today:
            self._today[id(rule)] = product_of_today(rule, subjects, self._view.index)
        return (subjects, *self._today[id(rule)][1:])


def _decides(rule: Rule) -> bool:
    """Whether it takes packets out of the way of those after it."""
    return rule.action is not Action.LOG and _IPV4 in rule.families and not (rule.ignored or rule.layer_7)


_Entry: TypeAlias = tuple[CalicoPolicy, Space]
_Stretch: TypeAlias = tuple[TierPolicies, list[_Entry]]
_Reading: TypeAlias = Callable[[Rule, Space], Product]


@dataclass
class _Walk:
    """What is left of a set on its way."""

    origin: Product

    def __post_init__(self) -> None:
        self.rest = [self.origin]
        self._met: dict[str, bool] = {}

    @property
    def shadows(self) -> tuple[str, ...]:
        """What took the set away."""
        alone = next((name for name, enough in self._met.items() if enough), None)
        return (alone,) if alone else tuple(self._met)

    def meeting(self, other: Product) -> list[Product]:
        """The parts in which a rule may match something."""
        return [part for part in self.rest if not any(mine.apart(its) for mine, its in zip(part, other, strict=True))]

    def meet(self, name: str, other: Product) -> None:
        """Takes away what a rule matches."""
        rests = [difference(part, other) for part in self.rest]
        self._take(name, rests, lambda: difference(self.origin, other))

    def end(self, name: str, subjects: Space) -> None:
        """Takes away what belongs to those endpoints."""

        def without(part: Product) -> list[Product]:
            rest = part[0].minus(subjects)
            return [] if rest is None else [(rest, *part[1:])]

        self._take(name, [without(part) for part in self.rest], lambda: without(self.origin))

    def _take(self, name: str, rests: list[list[Product]], of_origin: Callable[[], list[Product]]) -> None:
        if any(rest != [part] for part, rest in zip(self.rest, rests, strict=True)):
            self._met[name] = self._met.get(name, False) or not of_origin()
            self.rest = [part for rest in rests for part in rest]
            if len(self.rest) > PARTS:
                raise TooManyPartsError
