"""What a cluster's Calico policies come to: how much they leave of the traffic of the pods that they select."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from analysis.policy.calico import CalicoEngine
from analysis.policy.calico_rules import Action
from analysis.policy.calico_view import ClusterView
from analysis.policy.dead import dead_rules_of_calico
from analysis.policy.label_index import numbers_of
from analysis.policy.model import Direction, Endpoint, EndpointKind, Flow, Protocol, World

DNS_PORT = 53
DNS_LABEL = ("k8s-app", "kube-dns")


class Effect(str, Enum):
    """Of policies on one direction of the traffic of those whom they select."""

    UNCHANGED = "unchanged"
    """No policy speaks of it."""

    RESTRICTED = "restricted"
    """Some of it gets through, by rules."""

    DENY_ALL = "deny-all"
    """No rule that is alive lets anything through, and the end of the tier drops."""


class DnsEffect(str, Enum):
    """Whether the selected pods can ask the DNS servers of their own cluster, over UDP."""

    OPEN = "open"
    PARTLY = "partly"
    BLOCKED = "blocked"
    UNKNOWN = "unknown"
    """No DNS server is known, or nobody is selected."""


@dataclass(frozen=True)
class Effects:
    """What policies come to for the pods that they select."""

    ingress: Effect
    egress: Effect
    dns: DnsEffect

    @property
    def isolates(self) -> bool:
        """Whether the pods are cut off from everything, both ways."""
        return self.ingress is Effect.DENY_ALL and self.egress is Effect.DENY_ALL


def effects_of(world: World, cluster: str) -> Effects:
    """What the policies of a cluster come to for all pods that any of them selects."""
    engine = CalicoEngine(world)
    view = engine.view(cluster)
    dead = {each.rule for each in dead_rules_of_calico(world, engine) if each.cluster == cluster}
    return Effects(
        ingress=_effect(view, Direction.INGRESS, dead),
        egress=_effect(view, Direction.EGRESS, dead),
        dns=_dns(engine, view),
    )


def _effect(view: ClusterView, direction: Direction, dead: Collection[str]) -> Effect:
    selected = dropped = 0
    for tier in view.tiers:
        for policy in tier.policies:
            if not policy.is_normal or policy.is_staged or direction not in policy.types:
                continue
            members = view.selected(policy)
            selected |= members
            dropped |= members if tier.drops else 0
            opens = any(
                rule.action in (Action.ALLOW, Action.PASS) and rule.name not in dead for rule in policy.rules[direction]
            )
            if members and opens:
                return Effect.RESTRICTED
    if not selected:
        return Effect.UNCHANGED
    return Effect.DENY_ALL if dropped == selected else Effect.RESTRICTED


def _dns(engine: CalicoEngine, view: ClusterView) -> DnsEffect:
    pods = _pods(view, view.index.everything)
    key, value = DNS_LABEL
    servers = [pod for pod in pods if pod.cluster == view.cluster and pod.labels.get(key) == value]
    selected = 0
    for tier in view.tiers:
        for policy in tier.policies:
            selected |= view.selected(policy)
    answers = {
        all(engine.end(Flow(pod, server, Protocol.UDP, DNS_PORT), direction).allowed for direction in Direction)
        for pod in _pods(view, selected)
        for server in servers
        if pod is not server
    }
    if not answers:
        return DnsEffect.UNKNOWN
    if len(answers) > 1:
        return DnsEffect.PARTLY
    return DnsEffect.OPEN if answers == {True} else DnsEffect.BLOCKED


def _pods(view: ClusterView, members: int) -> list[Endpoint]:
    known = (view.known[number] for number in numbers_of(members))
    return [each for each in known if isinstance(each, Endpoint) and each.kind is EndpointKind.POD]
