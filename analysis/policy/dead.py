"""Rules of Calico's policies that never decide anything, and why, from what can never be to what merely is not now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from analysis.policy.calico import CalicoEngine
from analysis.policy.calico_rules import (
    ALL_PROTOCOLS,
    PROTOCOL_NUMBERS,
    CalicoPolicy,
    Rule,
    Side,
    protocol_bit,
    protocol_bits,
)
from analysis.policy.calico_view import ClusterView
from analysis.policy.conflict import conflict
from analysis.policy.model import DeadRule, Direction, World
from analysis.policy.nobody import why_nobody
from analysis.policy.satisfiable import satisfiable, satisfiable_by_objects, satisfiable_by_subjects
from analysis.policy.shadow import Shadows
from analysis.policy.terms import Selector
from analysis.words import listed

_NO_SUCH_LABELS = "the labels that Calico itself gives to pods, network sets and host endpoints rule it out"


def dead_rules_of_calico(world: World, engine: CalicoEngine | None = None) -> tuple[DeadRule, ...]:
    """The dead rules of a Calico world, cluster by cluster and in the order in which they are asked.

    A policy that acts on nothing as a whole is told once, under its own name. What depends on the endpoints that there
    are today is told only of a cluster that has any.
    """
    engine = engine or CalicoEngine(world)
    return tuple(
        replace(dead, cluster=cluster)
        for cluster in clusters(world)
        for dead in DeadRules(engine.view(cluster), world).found()
    )


def clusters(world: World) -> tuple[str, ...]:
    """The clusters that have policies."""
    return tuple(dict.fromkeys(policy.cluster for policy in world.policies))


class DeadRules:
    """The dead rules of one cluster."""

    def __init__(self, view: ClusterView, world: World) -> None:
        self._view = view
        self._world = world
        self._inhabited = bool(view.known)
        self._shadows = Shadows(view)

    def found(self) -> Iterator[DeadRule]:
        """Them, tier by tier. One rule of Kubernetes is dead when all are that Calico makes of it."""
        for refused, reason in self._view.refused:
            yield DeadRule(refused.path, "refused", explanation=f"the API would not take this policy: {reason}")
        for tier in self._view.tiers:
            for policy in tier.policies:
                if whole := self._dead_policy(policy):
                    yield whole
                    continue
                for direction in Direction:
                    verdicts: dict[str, list[DeadRule | None]] = {}
                    for rule in policy.rules[direction]:
                        verdicts.setdefault(rule.name, []).append(self._dead(policy, rule))
                    for of_rule in verdicts.values():
                        dead = [each for each in of_rule if each]
                        if len(dead) == len(of_rule):
                            yield dead[0]

    def _dead_policy(self, policy: CalicoPolicy) -> DeadRule | None:
        path = policy.policy.path
        if policy.is_staged:
            return DeadRule(path, "staged-not-enforced", explanation="a staged policy is shown and never enforced")
        if why := _impossible(policy.selector):
            return DeadRule(path, "unsatisfiable-selector", explanation=f"it can never select anything: {why}")
        if satisfiable_by_subjects(policy.selector) is False:
            why = "the labels that Calico itself gives to pods and host endpoints rule it out"
            return DeadRule(path, "unsatisfiable-by-implicit-labels", explanation=f"it selects nothing: {why}")
        if self._inhabited and not self._view.selected(policy):
            why = why_nobody(self._view, self._world, policy.selector, subjects=True)
            return DeadRule(path, "policy-selects-nobody", explanation=f"it selects no endpoint of its cluster: {why}")
        return None

    def _dead(self, policy: CalicoPolicy, rule: Rule) -> DeadRule | None:
        if dead := _contradiction(rule):
            return dead
        if rule.direction not in policy.types:
            types = listed(sorted(each.value for each in policy.types))
            return DeadRule(
                rule.name,
                "direction-not-in-types",
                explanation=f"the policy's types are {types} alone, so its {rule.direction.value} rules are not asked",
            )
        if self._inhabited and (dead := self._without_match(policy, rule)):
            return dead
        if shadows := self._shadows.over(policy, rule):
            return DeadRule(
                rule.name,
                "shadowed",
                by=", ".join(shadows),
                explanation=f"whatever it matches has been decided before, by {listed(shadows)}",
            )
        return None

    def _without_match(self, policy: CalicoPolicy, rule: Rule) -> DeadRule | None:
        """Rules that match nothing as things are today."""
        sides = {True: (rule.destination, "destination"), False: (rule.source, "source")}
        for towards, (side, name) in sides.items():
            policed = towards is (rule.direction is Direction.INGRESS)
            members = self._view.selected(policy) if policed else self._view.index.everything
            if side.peer.known is not None:
                members &= self._view.index.select(side.peer.known)
                if not members:
                    why = why_nobody(self._view, self._world, side.peer.known, subjects=policed)
                    return DeadRule(rule.name, "matches-nobody-now", explanation=f"its {name} is nobody: {why}")
            if why := self._undefined_ports(rule, side, members):
                return DeadRule(rule.name, "named-port-undefined", explanation=why)
        return None

    def _undefined_ports(self, rule: Rule, side: Side, members: int) -> str:
        """Why the names of ports mean none; "" where one of them does, or a number stands beside them."""
        if side.ports is None or side.ports.numbers or not side.ports.names:
            return ""
        for name in side.ports.names:
            if any(rule.protocols & protocol_bit(protocol) for protocol, _ in self._view.with_port(name, members)):
                return ""
        names = listed([f'"{name}"' for name in sorted(side.ports.names)])
        of = _protocol_names(rule.protocols)
        return f"no endpoint that it could match has {of}port that is called {names}"


def _contradiction(rule: Rule) -> DeadRule | None:
    """What within the rule itself rules everything out."""
    for side, name in ((rule.source, "source"), (rule.destination, "destination")):
        known = side.peer.known
        if known is not None:
            if why := _impossible(known):
                return DeadRule(rule.name, "unsatisfiable-selector", explanation=f"its {name} is nobody, ever: {why}")
            if satisfiable_by_objects(known) is False:
                why = f"{_NO_SUCH_LABELS}; only a label of that name put there by hand could match"
                return DeadRule(
                    rule.name, "unsatisfiable-by-implicit-labels", explanation=f"its {name} is nobody: {why}"
                )
        if side.ports is None and not side.numbers:
            return DeadRule(rule.name, "contradictory-ports", explanation=f"notPorts of its {name} leave no port")
        if side.ports is not None and not side.ports.names and not side.numbers:
            return DeadRule(
                rule.name, "contradictory-ports", explanation=f"every port of its {name} is in notPorts as well"
            )
        if not side.nets and 4 in rule.families:
            return DeadRule(
                rule.name,
                "contradictory-nets",
                explanation=f"every address of nets of its {name} is in notNets as well",
            )
    if rule.ignored:
        return DeadRule(
            rule.name, "contradictory-nets", explanation="its notNets cover every address: Felix leaves such a rule out"
        )
    if not rule.protocols or (rule.icmp is not None and not rule.icmp):
        return DeadRule(
            rule.name, "contradictory-protocol", explanation="what it asks of the protocol is what it excludes as well"
        )
    if not rule.families:
        return DeadRule(
            rule.name, "contradictory-ip-version", explanation="parts of it are for IPv4 and others for IPv6 alone"
        )
    return None


def _impossible(selector: Selector) -> str:
    """Why no labels whatever satisfy it; "" when some do, or it was not decided."""
    return conflict(selector) if satisfiable(selector) is False else ""


def _protocol_names(protocols: int) -> str:
    names = [name for name in PROTOCOL_NUMBERS if protocols & protocol_bits(name)]
    return "a " if protocols == ALL_PROTOCOLS else f"a {' or '.join(names)} "
