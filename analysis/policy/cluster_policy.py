"""Kubernetes ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2): tiers around NetworkPolicy.

Rules of the tier Admin come first, by rising priority, and the first that speaks of a flow accepts, denies or passes it
on; then NetworkPolicy decides for the pods that it isolates; for the others rules of the tier Baseline do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.policy.identity import CLUSTER, Identities, pods_of
from analysis.policy.label_selector import Selector, equals, matches
from analysis.policy.model import Direction, EndDecision, Flow, Policy, PolicyKind, Protocol, World
from analysis.policy.union import Block, Matcher, Peers, PortSpan, Rule, network, span

_PEER_FIELDS = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
_KNOWN_PEERS = {"namespaces", "pods", "networks"}


@dataclass(frozen=True)
class _Entry:
    subject: Selector
    action: str
    rule: Rule


class ClusterPolicies:
    """The two tiers of a world."""

    def __init__(self, world: World, identities: Identities, matcher: Matcher) -> None:
        self._identities, self._matcher = identities, matcher
        policies = sorted(
            (each for each in world.policies if each.kind is PolicyKind.CLUSTER_NETWORK_POLICY),
            key=lambda policy: policy.specs[0].get("priority", 0),
        )
        self._tiers = {
            tier: [
                entry
                for policy in policies
                if policy.specs[0].get("tier") == tier
                for entry in _entries(policy, identities.cluster_name(policy.cluster))
            ]
            for tier in ("Admin", "Baseline")
        }

    def admin(self, flow: Flow, direction: Direction) -> EndDecision | None:
        """What the tier Admin decides; None when it leaves the flow to those below."""
        return self._decide("Admin", flow, direction)

    def baseline(self, flow: Flow, direction: Direction) -> EndDecision | None:
        """Likewise for pods that no NetworkPolicy isolates."""
        return self._decide("Baseline", flow, direction)

    def _decide(self, tier: str, flow: Flow, direction: Direction) -> EndDecision | None:
        pod = flow.target if direction is Direction.INGRESS else flow.source
        labels = self._identities.of_pod(pod)
        for entry in self._tiers[tier]:
            if entry.rule.direction is not direction or not matches(entry.subject, labels):
                continue
            if self._matcher.first((entry.rule,), flow, direction):
                return None if entry.action == "Pass" else EndDecision(entry.action == "Accept", entry.rule.path)
        return None


def _entries(policy: Policy, cluster: str) -> Iterator[_Entry]:
    spec = policy.specs[0]
    local = equals(CLUSTER, cluster)
    subject = _pods(spec.get("subject") or {}, (local,))
    for direction in Direction:
        for number, rule in enumerate(spec.get(direction.value) or ()):
            action = rule.get("action", "")
            items = rule.get(_PEER_FIELDS[direction]) or ()
            peers: Peers | None = _peers(items, (local,))
            if any(not _KNOWN_PEERS.intersection(item) for item in items) and action != "Accept":
                # A peer that this version does not know makes a rule that denies or passes one that denies everybody.
                action, peers = "Deny", None
            path = f"{policy.path}/{direction.value}/{number}"
            yield _Entry(subject, action, Rule(path, direction, action == "Deny", peers, _ports(rule.get("protocols"))))


def _peers(items: Sequence[Mapping[str, Any]], local_to: Selector) -> Peers:
    return Peers(
        selectors=tuple(_pods(item, local_to) for item in items if "namespaces" in item or "pods" in item),
        blocks=tuple(Block(network(each)) for item in items for each in item.get("networks") or ()),
    )


def _pods(item: Mapping[str, Any], local_to: Selector) -> Selector:
    namespaces, pods = item.get("namespaces"), None
    if (both := item.get("pods")) is not None:
        namespaces, pods = both.get("namespaceSelector"), both.get("podSelector")
    return (*local_to, *pods_of(namespaces, pods))


def _ports(items: Sequence[Mapping[str, Any]] | None) -> tuple[PortSpan, ...] | None:
    if not items:
        return None
    return tuple(each for item in items for each in _spans(item))


def _spans(item: Mapping[str, Any]) -> Iterator[PortSpan]:
    if name := item.get("destinationNamedPort"):
        yield from (PortSpan(protocol, name=name) for protocol in (Protocol.TCP, Protocol.UDP, Protocol.SCTP))
    for protocol in (Protocol.TCP, Protocol.UDP, Protocol.SCTP):
        if (said := item.get(protocol.value.lower())) is not None:
            port = said.get("destinationPort") or {}
            numbers = port.get("range") or {"start": port.get("number"), "end": None}
            yield span(protocol, numbers["start"], numbers["end"])
