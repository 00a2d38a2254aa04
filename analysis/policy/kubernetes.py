"""Kubernetes NetworkPolicy: what networking.k8s.io/v1 promises, by itself and as the base that other engines enforce.

A pod that no policy selects for a direction is open in it. One that is selected takes only what some rule allows; rules
add up and their order means nothing. A policy sees the pods of its own cluster only: those of others are addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.policy.cluster_policy import ClusterPolicies
from analysis.policy.identity import CLUSTER, NAMESPACE, Identities, pods_of, same_node
from analysis.policy.label_selector import Selector, equals, read_selector
from analysis.policy.model import (
    Direction,
    EndDecision,
    EndpointKind,
    Flow,
    Policy,
    PolicyKind,
    Protocol,
    World,
)
from analysis.policy.union import Block, Matcher, Peers, PortSpan, Rule, Unit, UnitIndex, network, read_units, span

_PEER_FIELDS = {Direction.INGRESS: "from", Direction.EGRESS: "to"}


class KubernetesEngine:
    """Decides as Kubernetes documents it, without the liberties of any plugin."""

    def __init__(self, world: World) -> None:
        identities = Identities(world)
        units, self.refused = read_units(
            (each for each in world.policies if each.kind is PolicyKind.KUBERNETES_NETWORK_POLICY),
            lambda policy: (unit_of(policy, identities.cluster_name(policy.cluster)),),
        )
        self.index = UnitIndex(units, identities)
        self._matcher = Matcher(identities, blocks_mean_pods=True, blocks_mean_nodes=True)
        self._cluster_policies = ClusterPolicies(world, identities, self._matcher)

    def end(self, flow: Flow, direction: Direction) -> EndDecision:
        """What the policies of one end's cluster say."""
        pod, peer = (flow.target, flow.source) if direction is Direction.INGRESS else (flow.source, flow.target)
        if pod.kind is not EndpointKind.POD:
            return EndDecision(True, "not-policed")
        if peer is pod:
            return EndDecision(True, "itself")
        if direction is Direction.INGRESS and peer.kind is not EndpointKind.POD and same_node(pod, peer):
            return EndDecision(True, "node-to-local-pod")
        if (early := self._cluster_policies.admin(flow, direction)) is not None:
            return early
        standing = self.index.standing(pod, direction)
        if standing.isolated:
            rule = self._matcher.first(standing.allowances, flow, direction)
            return EndDecision(True, rule.path) if rule else EndDecision(False, "isolated")
        return self._cluster_policies.baseline(flow, direction) or EndDecision(True, "non-isolated")


def unit_of(policy: Policy, cluster: str, *, local_peers: bool = True) -> Unit:
    """A NetworkPolicy as rules.

    Args:
        policy: the object.
        cluster: what the mesh calls its cluster.
        local_peers: pods that it names by labels are those of its own cluster only.
    """
    spec = policy.specs[0]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    policed = frozenset(direction for direction in Direction if direction.value.capitalize() in types)
    local = equals(CLUSTER, cluster)
    scope = (local,) if local_peers else ()
    return Unit(
        policy=policy,
        path=policy.path,
        subject=(local, equals(NAMESPACE, policy.namespace), *read_selector(spec.get("podSelector"))),
        rules=tuple(
            Rule(
                path=f"{policy.path}/{direction.value}/{number}",
                direction=direction,
                deny=False,
                peers=_peers((rule or {}).get(_PEER_FIELDS[direction]), policy.namespace, scope),
                ports=read_ports((rule or {}).get("ports")),
            )
            for direction in policed
            for number, rule in enumerate(spec.get(direction.value) or ())
        ),
        isolates=policed,
    )


def read_ports(items: Sequence[Mapping[str, Any]] | None) -> tuple[PortSpan, ...] | None:
    """The `ports` of a NetworkPolicy's rule; none and an empty list are no restriction."""
    if not items:
        return None
    return tuple(span(Protocol(each.get("protocol") or "TCP"), each.get("port"), each.get("endPort")) for each in items)


def _peers(items: Sequence[Mapping[str, Any]] | None, namespace: str, scope: Selector) -> Peers | None:
    if not items:
        return None
    selectors, blocks = [], []
    for item in items:
        if (block := item.get("ipBlock")) is not None:
            blocks.append(Block(network(block["cidr"]), tuple(map(network, block.get("except") or ()))))
        elif item.get("namespaceSelector") is not None:
            selectors.append((*scope, *pods_of(item["namespaceSelector"], item.get("podSelector"))))
        elif item.get("podSelector") is not None:
            selectors.append((*scope, equals(NAMESPACE, namespace), *read_selector(item["podSelector"])))
    return Peers(tuple(selectors), tuple(blocks))
