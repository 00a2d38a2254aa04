"""Calico's rules that are never asked, because whatever they match was decided before.

The set of packets that a rule matches walks through the tiers as a packet does: what an Allow or a Deny matches leaves,
what a Pass matches goes on in the next tier, and the end of a tier drops the rest. A rule is in the shadow of others
when nothing of its own set reaches it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from analysis.policy.calico_rules import Action, CalicoPolicy, Rule
from analysis.policy.calico_view import ClusterView, TierPolicies
from analysis.policy.coverage import Bearers, Bits, Product, Space, difference, product_of
from analysis.policy.model import Direction

PRODUCTS = 200
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

    def over(self, policy: CalicoPolicy, rule: Rule) -> tuple[str, ...]:
        """What leaves nothing to a rule: one rule alone if there is such a one, else all that take part.

        Empty for a rule that something reaches, as far as can be told.
        """
        walk = _Walk(product_of(rule, self._subjects(policy)))
        try:
            for tier, entries in self._tiers_before(policy, rule.direction):
                if self._ask(walk, tier, entries, rule):
                    break
                if not walk.rest:
                    return walk.shadows
        except TooManyPartsError:
            return ()
        return () if walk.rest else walk.shadows

    def _ask(self, walk: _Walk, tier: TierPolicies, entries: list[tuple[CalicoPolicy, Space]], until: Rule) -> bool:
        """Lets the set walk through a tier; True once it has come to its own rule."""
        passed: list[Product] = []
        for policy, subjects in entries:
            for rule in policy.rules[until.direction]:
                if rule is until:
                    return True
                if rule.action is not Action.LOG and _IPV4 in rule.families and not (rule.ignored or rule.layer_7):
                    matched = walk.meet(rule.name, product_of(rule, subjects))
                    if rule.action is Action.PASS:
                        passed += matched
        if tier.drops:
            for _, subjects in entries:
                walk.end(f"tier/{tier.name}/end", subjects)
        walk.rest += passed
        return False

    def _tiers_before(
        self, policy: CalicoPolicy, direction: Direction
    ) -> Iterator[tuple[TierPolicies, list[tuple[CalicoPolicy, Space]]]]:
        """The tiers up to that of the policy, with what acts where it acts and on some that it selects."""
        own = self._subjects(policy)
        stage = policy.untracked, policy.pre_dnat
        for tier, entries in self._tiers:
            chosen = [
                (each, subjects)
                for each, subjects in entries
                if direction in each.types
                and (each.untracked, each.pre_dnat) == stage
                and (each.on_forward or not policy.on_forward)
                and own.overlaps(subjects)
            ]
            if chosen:
                yield (tier if policy.is_normal else replace(tier, drops=False)), chosen
            if tier.name == policy.tier:
                return

    def _subjects(self, policy: CalicoPolicy) -> Space:
        """Whom a policy selects: today's endpoints, or whatever its selector could mean where none are known."""
        return Bits(self._view.selected(policy)) if self._inhabited else Bearers(policy.selector)


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

    def meet(self, name: str, other: Product) -> list[Product]:
        """Takes away what a rule matches, and tells of which parts that was."""
        return self._take(name, [difference(part, other) for part in self.rest], difference(self.origin, other))

    def end(self, name: str, subjects: Space) -> None:
        """Takes away what belongs to those endpoints."""

        def without(part: Product) -> list[Product]:
            rest = part[0].minus(subjects)
            return [] if rest is None else [(rest, *part[1:])]

        self._take(name, [without(part) for part in self.rest], without(self.origin))

    def _take(self, name: str, rests: list[list[Product]], of_origin: list[Product]) -> list[Product]:
        touched = [part for part, rest in zip(self.rest, rests, strict=True) if rest != [part]]
        if touched:
            self._met[name] = self._met.get(name, False) or not of_origin
        self.rest = [part for rest in rests for part in rest]
        if len(self.rest) > PRODUCTS:
            raise TooManyPartsError
        return touched
