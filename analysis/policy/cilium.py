"""Cilium's verdict: denials first, then allowances, then default deny where some rule turned it on.

Whoever Cilium knows as a pod or a node is matched by identity, never by address: a CIDR means the outside alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from analysis.policy import kubernetes
from analysis.policy.cilium_rules import units_of
from analysis.policy.identity import Identities, same_node
from analysis.policy.model import Direction, EndDecision, EndpointKind, Flow, Policy, PolicyKind, World
from analysis.policy.union import Matcher, Refusals, Unit, UnitIndex, read_units

_OWN_KINDS = (PolicyKind.CILIUM_NETWORK_POLICY, PolicyKind.CILIUM_CLUSTERWIDE_NETWORK_POLICY)


class CiliumEngine:
    """Decides as Cilium's agents do, each with the policies of its own cluster.

    Not evaluated: host policies (`nodeSelector`), which act on nodes and are off unless enabled, and
    ClusterNetworkPolicy, which no release is known to enforce.
    """

    def __init__(self, world: World) -> None:
        identities = Identities(world)
        self._options = world.options
        self.index = UnitIndex(units(world, identities), identities)
        self._matcher = Matcher(
            identities, blocks_mean_pods=False, blocks_mean_nodes=world.options.cidr_match_mode == "nodes"
        )

    def end(self, flow: Flow, direction: Direction) -> EndDecision:
        """What the policies of one end's cluster say."""
        pod, peer = (flow.target, flow.source) if direction is Direction.INGRESS else (flow.source, flow.target)
        if pod.kind is not EndpointKind.POD or self._options.enforcement_mode == "never":
            return EndDecision(True, "not-policed")
        if peer is pod:
            return EndDecision(True, "itself")
        standing = self.index.standing(pod, direction)
        if rule := self._matcher.first(standing.denials, flow, direction):
            return EndDecision(False, rule.path)
        if (
            direction is Direction.INGRESS
            and peer.kind is not EndpointKind.POD
            and same_node(pod, peer)
            and self._options.allow_localhost != "policy"
        ):
            return EndDecision(True, "localhost")
        if not standing.isolated and self._options.enforcement_mode != "always":
            return EndDecision(True, "default-allow")
        if rule := self._matcher.first(standing.allowances, flow, direction):
            return EndDecision(True, rule.path, layer_7=rule.layer_7)
        return EndDecision(False, "default-deny")


def units(world: World, identities: Identities) -> tuple[Unit, ...]:
    """All policies that Cilium enforces on pods, as rules."""
    return read_policies(world, identities)[0]


def read_policies(world: World, identities: Identities) -> tuple[tuple[Unit, ...], Refusals]:
    """Likewise, and those that cannot be read as such."""

    def read(policy: Policy) -> Iterable[Unit]:
        cluster = identities.cluster_name(policy.cluster)
        if policy.kind in _OWN_KINDS:
            return units_of(policy, cluster, world)
        return (kubernetes.unit_of(policy, cluster, local_peers=world.options.default_local_cluster),)

    kinds = (*_OWN_KINDS, PolicyKind.KUBERNETES_NETWORK_POLICY)
    return read_units((policy for policy in world.policies if policy.kind in kinds), read)
