"""Rules of Kubernetes and Cilium that never let anything in, never keep anything out, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from ipaddress import IPv6Network

from analysis.policy.cilium import read_policies
from analysis.policy.identity import CLUSTER, NAMESPACE, NAMESPACE_LABELS, RESERVED, Identities, PodIndex
from analysis.policy.intervals import IntervalSet
from analysis.policy.kubernetes import KubernetesEngine
from analysis.policy.label_selector import Operator, Requirement, Selector, conflict, implies
from analysis.policy.model import DeadRule, Engine, Protocol, World
from analysis.policy.nets import addresses
from analysis.policy.union import Block, Peers, PortSpan, Rule, Unit

_HOLLOW = {
    "empty-rule": "it names neither a peer nor a port, and such a rule allows nothing",
    "empty-peer-list": "its list of peers is there and empty, which means nobody",
    "entity-none": 'the entity "none" is nobody',
}


def dead_rules_of_union(world: World) -> tuple[DeadRule, ...]:
    """The dead rules of a Kubernetes or Cilium world, policy by policy.

    A policy that selects nobody is told once, under its own name. What depends on the pods that there are today is told
    only of a cluster that has any.
    """
    return tuple(_DeadRules(world).found())


class _DeadRules:
    def __init__(self, world: World) -> None:
        identities = Identities(world)
        self._pods = PodIndex(world.endpoints, identities)
        self._inhabited = {endpoint.cluster for endpoint in world.endpoints}
        self._managed = addresses(world.options.pod_cidrs) if world.engine is Engine.CILIUM else IntervalSet()
        if world.engine is Engine.KUBERNETES:
            engine = KubernetesEngine(world)
            self._units, self._refused = engine.index.units, engine.refused
        else:
            self._units, self._refused = read_policies(world, identities)
        self._denials: dict[tuple[str, Selector], list[Rule]] = {}
        for unit in self._units:
            for rule in (rule for rule in unit.rules if rule.deny):
                self._denials.setdefault((unit.policy.cluster, unit.subject), []).append(rule)
        self._denied: dict[tuple[str, Selector], list[Rule]] = {}
        self._met: dict[Selector, bool] = {}

    def found(self) -> Iterator[DeadRule]:
        for policy, reason in self._refused:
            why = f"the API would not take this policy: {reason}"
            yield DeadRule(policy.path, "refused", explanation=why, cluster=policy.cluster)
        for unit in self._units:
            dead = self._dead_unit(unit)
            for each in (dead,) if dead else map(partial(self._dead, unit), unit.rules):
                if each is not None:
                    yield replace(each, cluster=unit.policy.cluster)

    def _dead_unit(self, unit: Unit) -> DeadRule | None:
        if why := conflict(unit.subject):
            return DeadRule(unit.path, "unsatisfiable-selector", explanation=f"it can never select anything: {why}")
        if self._is_inhabited(unit) and not any(True for _ in self._pods.selected(unit.subject)):
            wanted = _told((unit.subject,))
            return DeadRule(unit.path, "policy-selects-nobody", explanation=f"no pod of its cluster has {wanted}")
        return None

    def _is_inhabited(self, unit: Unit) -> bool:
        return unit.policy.cluster in self._inhabited

    def _dead(self, unit: Unit, rule: Rule) -> DeadRule | None:
        if rule.hollow:
            return DeadRule(rule.path, rule.hollow, explanation=_HOLLOW[rule.hollow])
        peers = rule.peers
        if peers is not None and not peers.unknown:
            if dead := self._contradiction(rule, peers):
                return dead
            if peers.blocks and not peers.selectors and self._managed and _all(peers.blocks) <= self._managed:
                return DeadRule(
                    rule.path,
                    "cidr-covers-only-managed-endpoints",
                    explanation="all its addresses are of pods, and Cilium knows pods by labels, never by address",
                )
        if why := self._undefined_ports(unit, rule):
            return DeadRule(rule.path, "named-port-undefined", explanation=why)
        if not rule.deny and (by := self._denial_over(unit, rule)):
            return DeadRule(
                rule.path, "covered-by-deny", by=by, explanation=f"{by} denies all that it allows, and a denial wins"
            )
        if peers is not None and self._is_inhabited(unit) and self._is_about_nobody(peers):
            return DeadRule(
                rule.path, "matches-nobody-now", explanation=f"no pod there is today is meant: {_told(peers.selectors)}"
            )
        return None

    def _contradiction(self, rule: Rule, peers: Peers) -> DeadRule | None:
        conflicts = [conflict(selector) for selector in peers.selectors]
        empty = [block for block in peers.blocks if not _is_six(block) and not _held(block)]
        if not all(conflicts) or len(empty) < len(peers.blocks):
            return None
        if conflicts:
            return DeadRule(rule.path, "unsatisfiable-selector", explanation=conflicts[0])
        if empty:
            network = empty[0].network
            return DeadRule(rule.path, "contradictory-nets", explanation=f"its exceptions leave nothing of {network}")
        return None

    def _undefined_ports(self, unit: Unit, rule: Rule) -> str:
        """Why none of its ports is one; "" where some is. The pod that a flow goes to says what a name means."""
        if not self._is_inhabited(unit) or not rule.ports or not all(port.name for port in rule.ports):
            return ""
        if rule.direction.value == "ingress":
            targets = list(self._pods.selected(unit.subject))
        else:
            selectors = ((),) if rule.peers is None else rule.peers.selectors
            targets = [pod for selector in selectors for pod in self._pods.selected(selector)]
        defined = {(name, protocol) for pod in targets for name, protocol, _ in pod.ports}
        if not targets or any((port.name, port.protocol) in defined for port in rule.ports):
            return ""
        names = " or ".join(f'"{name}"' for name in dict.fromkeys(port.name for port in rule.ports))
        return f"no container of the pods it leads to has a port called {names}"

    def _denial_over(self, unit: Unit, rule: Rule) -> str:
        return next(
            (
                denial.path
                for denial in self._denials_for(unit)
                if denial.direction is rule.direction
                and _within_ports(rule.ports, denial.ports)
                and _within_peers(rule.peers, denial.peers)
            ),
            "",
        )

    def _denials_for(self, unit: Unit) -> list[Rule]:
        """The denials that hold for everybody whom the unit selects. A policy acts in its own cluster alone."""
        key = unit.policy.cluster, unit.subject
        if key not in self._denied:
            self._denied[key] = [
                denial
                for (cluster, subject), denials in self._denials.items()
                if cluster == unit.policy.cluster and implies(unit.subject, subject)
                for denial in denials
            ]
        return self._denied[key]

    def _is_about_nobody(self, peers: Peers) -> bool:
        if peers.blocks or peers.unknown:
            return False
        return not any(self._is_met(selector) for selector in peers.selectors)

    def _is_met(self, selector: Selector) -> bool:
        """Whether a pod is meant. Whoever is known by a reserved label is there always: nodes, and the world."""
        if selector not in self._met:
            reserved = any(each.key.startswith(RESERVED) for each in selector)
            self._met[selector] = not selector or reserved or any(True for _ in self._pods.selected(selector))
        return self._met[selector]


def _is_six(block: Block) -> bool:
    return isinstance(block.network, IPv6Network)


def _held(block: Block) -> IntervalSet:
    return addresses([str(block.network)]) - addresses([str(each) for each in block.excepted])


def _all(blocks: tuple[Block, ...]) -> IntervalSet:
    """All addresses of the blocks; every address there is where one of them is of IPv6."""
    if any(map(_is_six, blocks)):
        return addresses(["0.0.0.0/0"])
    held = IntervalSet()
    for block in blocks:
        held = held | _held(block)
    return held


def _within_peers(inner: Peers | None, outer: Peers | None) -> bool:
    """Whether `outer` surely means all that `inner` means. Where that is doubtful, no."""
    if outer is None:
        return True
    if any(not selector for selector in outer.selectors):
        return True
    if inner is None or inner.unknown:
        return False
    if inner.blocks and (any(map(_is_six, inner.blocks)) or not _all(inner.blocks) <= _all(outer.blocks)):
        return False
    return all(any(implies(one, other) for other in outer.selectors) for one in inner.selectors)


def _within_ports(inner: tuple[PortSpan, ...] | None, outer: tuple[PortSpan, ...] | None) -> bool:
    if outer is None:
        return True
    if inner is None:
        return False
    by_number = [each for each in outer if not each.name]
    numbers = {
        protocol: IntervalSet.of((each.first, each.last) for each in by_number if each.protocol is protocol)
        for protocol in Protocol
    }
    return all(
        each in outer if each.name else IntervalSet.of([(each.first, each.last)]) <= numbers[each.protocol]
        for each in inner
    )


def _told(selectors: tuple[Selector, ...]) -> str:
    """Selectors as a reader writes them."""
    named = [[_in_words(each) for each in selector if each.operator is not Operator.EXISTS] for selector in selectors]
    said = [" and ".join(filter(None, each)) for each in named]
    return "; or ".join(filter(None, said)) or "any pod"


def _in_words(requirement: Requirement) -> str:
    """A requirement with the words of a reader for what is no label of the pod's own."""
    if requirement.key == CLUSTER and requirement.values == {""}:
        return ""
    words = {NAMESPACE: "namespace", CLUSTER: "cluster"}
    key = requirement.key.replace(NAMESPACE_LABELS, "its namespace's label ")
    return str(replace(requirement, key=words.get(key, key)))
