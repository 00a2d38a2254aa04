"""What remains of policies without the rules that never match: do they still let anything through, and DNS?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from analysis.policy import calico_rules, kubernetes
from analysis.policy.cilium_rules import units_of
from analysis.policy.endpoint_labels import NAME, NAMESPACE_PREFIX, ORCHESTRATOR
from analysis.policy.endpoint_labels import NAMESPACE as CALICO_NAMESPACE
from analysis.policy.identity import CLUSTER, NAMESPACE, NAMESPACE_LABELS
from analysis.policy.label_selector import Selector as LabelSelector
from analysis.policy.label_selector import conflict, matches
from analysis.policy.model import Direction, Policy, PolicyKind, Protocol, World
from analysis.policy.satisfiable import satisfiable
from analysis.policy.terms import Selector as CalicoSelector
from analysis.policy.terms import both
from analysis.policy.union import Peers, PortSpan, Unit

DNS_PORT = 53
_DNS_POD = {"k8s-app": "kube-dns"}
_DNS_NAMESPACE = "kube-system"
_CALICO_DNS = {
    **_DNS_POD,
    CALICO_NAMESPACE: _DNS_NAMESPACE,
    ORCHESTRATOR: "k8s",
    f"{NAMESPACE_PREFIX}{NAME}": _DNS_NAMESPACE,
    f"{NAMESPACE_PREFIX}kubernetes.io/metadata.name": _DNS_NAMESPACE,
}
_CALICO_KINDS = (PolicyKind.GLOBAL_NETWORK_POLICY, PolicyKind.NETWORK_POLICY)
_CILIUM_KINDS = (PolicyKind.CILIUM_NETWORK_POLICY, PolicyKind.CILIUM_CLUSTERWIDE_NETWORK_POLICY)


@dataclass(frozen=True)
class Effect:
    """What a policy comes to.

    Attributes:
        denied: directions that it meant to open somewhat, and in which nothing is let through.
        dns_blocked: its pods may open some connections, and DNS is not among them.
        dns_forgotten: no rule is about DNS, not even one of those that never match.
    """

    policy: Policy
    denied: tuple[Direction, ...]
    dns_blocked: bool
    dns_forgotten: bool


@dataclass(frozen=True)
class _Opening:
    direction: Direction
    works: bool
    dns: bool


@dataclass(frozen=True)
class _View:
    """A policy as far as this question goes; its subject is of its product's own sort."""

    policy: Policy
    subject: CalicoSelector | LabelSelector
    policed: frozenset[Direction]
    openings: tuple[_Opening, ...]

    def meets(self, other: _View) -> bool:
        """Whether some pod may be selected by both. Across products that is taken for granted."""
        if self is other or self.policy.cluster != other.policy.cluster:
            return self is other
        if isinstance(self.subject, CalicoSelector) and isinstance(other.subject, CalicoSelector):
            return satisfiable(both(self.subject, other.subject)) is not False
        if isinstance(self.subject, tuple) and isinstance(other.subject, tuple):
            return not conflict((*self.subject, *other.subject))
        return True

    def opens(self, direction: Direction, *, dns: bool = False) -> bool:
        """Whether some rule that works lets something through, or lets DNS through."""
        return any(each.works and each.direction is direction and (each.dns or not dns) for each in self.openings)


def effects(world: World, dead: Collection[tuple[str, str]]) -> Iterator[Effect]:
    """What the world's policies come to, those of which something is to be said.

    Args:
        world: of manifests.
        dead: cluster and name of the rules that never match.
    """
    views = [view for policy in world.policies for view in _views(policy, world, dead)]
    for view in views:
        denied = tuple(
            direction
            for direction in Direction
            if direction in view.policed
            and any(each.direction is direction for each in view.openings)
            and not any(other.opens(direction) and other.meets(view) for other in views)
        )
        dns_blocked = view.opens(Direction.EGRESS) and not any(
            other.opens(Direction.EGRESS, dns=True) and other.meets(view) for other in views
        )
        if denied or dns_blocked:
            forgotten = not any(each.dns for each in view.openings if each.direction is Direction.EGRESS)
            yield Effect(view.policy, denied, dns_blocked, forgotten)


def _views(policy: Policy, world: World, dead: Collection[tuple[str, str]]) -> Iterator[_View]:
    if policy.kind in _CALICO_KINDS:
        yield from _of_calico(policy, dead)
    elif policy.kind is PolicyKind.KUBERNETES_NETWORK_POLICY:
        yield _of_unit(kubernetes.unit_of(policy, policy.cluster), dead)
    elif policy.kind in _CILIUM_KINDS:
        yield from (_of_unit(unit, dead) for unit in units_of(policy, policy.cluster, world))


def _of_calico(policy: Policy, dead: Collection[tuple[str, str]]) -> Iterator[_View]:
    read = calico_rules.read_policy(policy)
    if read.is_normal:
        openings = tuple(
            _Opening(direction, (policy.cluster, rule.name) not in dead, _asks_dns(rule))
            for direction, rules in read.rules.items()
            for rule in rules
            if rule.action in (calico_rules.Action.ALLOW, calico_rules.Action.PASS)
        )
        yield _View(policy, read.selector, read.types, openings)


def _asks_dns(rule: calico_rules.Rule) -> bool:
    if not rule.protocols & calico_rules.protocol_bit(Protocol.UDP) or DNS_PORT not in rule.destination.numbers:
        return bool(rule.destination.ports and rule.destination.ports.names)
    known = rule.peer.peer.known
    return rule.destination.ports is not None or known is None or known.matches(_CALICO_DNS)


def _of_unit(unit: Unit, dead: Collection[tuple[str, str]]) -> _View:
    cluster = unit.policy.cluster
    openings = tuple(
        _Opening(rule.direction, (cluster, rule.path) not in dead, _lets_dns(rule.ports, rule.peers, cluster))
        for rule in unit.rules
        if not rule.deny and not rule.hollow
    )
    return _View(unit.policy, unit.subject, unit.isolates, openings)


def _lets_dns(ports: Iterable[PortSpan] | None, peers: Peers | None, cluster: str) -> bool:
    if ports is not None:
        return any(
            each.name or (each.protocol is Protocol.UDP and each.first <= DNS_PORT <= each.last) for each in ports
        )
    if peers is None or peers.blocks or peers.unknown:
        return True
    labels = {
        **_DNS_POD,
        NAMESPACE: _DNS_NAMESPACE,
        f"{NAMESPACE_LABELS}kubernetes.io/metadata.name": _DNS_NAMESPACE,
        CLUSTER: cluster,
    }
    return any(matches(selector, labels) for selector in peers.selectors)
