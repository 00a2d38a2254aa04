"""What Calico decides about a flow: tiers in order, policies in order, rules in order; the first match acts.

An endpoint that no policy selects in a direction is open in it, by its namespace's profile. The end of a tier that
takes part drops. A node reaches its own pods past all policy, and traffic of a pod to its own node ends at one setting.
"""

from __future__ import annotations

from analysis.policy.calico_rules import Action
from analysis.policy.calico_view import ClusterView, Stage
from analysis.policy.model import Direction, EndDecision, Endpoint, EndpointKind, Flow, HostEndpoint, Protocol, World

NOT_POLICED = EndDecision(True, "not-policed")
_OWN_NODE = EndDecision(True, "node-to-local-pod")
_ENCAPSULATED = EndDecision(False, "encapsulated-by-pod")

_VXLAN_PORT = 4789
_OPEN_PROFILE = "projectcalico-default-allow"

_TCP, _UDP = Protocol.TCP, Protocol.UDP
_CLUSTER_SERVICES = [(_TCP, port) for port in (179, 2379, 2380, 5473, 6443, 6666, 6667)]
FAILSAFE = {
    Direction.INGRESS: {(_TCP, 22), (_UDP, 68), *_CLUSTER_SERVICES},
    Direction.EGRESS: {(_UDP, 53), (_UDP, 67), *_CLUSTER_SERVICES},
}
"""Ports of a host endpoint that no policy closes, by Felix's defaults."""


class CalicoEngine:
    """Decides flows of a world. Every cluster's policies are indexed once, when they are first asked."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._views: dict[str, ClusterView] = {}

    def view(self, cluster: str) -> ClusterView:
        """What Calico knows in a cluster."""
        if cluster not in self._views:
            self._views[cluster] = ClusterView(self.world, cluster)
        return self._views[cluster]

    def end(self, flow: Flow, direction: Direction) -> EndDecision:
        """What one end of a flow says: its source for egress, its target for ingress."""
        if flow.target.kind is EndpointKind.POD and _is_on_node(flow.source) and _share_node(flow):
            return _OWN_NODE
        policed = flow.source if direction is Direction.EGRESS else flow.target
        if policed.kind is EndpointKind.POD:
            return self._pod(policed, flow, direction)
        if not _is_on_node(policed) or (_share_node(flow) and _is_on_node(flow.source)):
            return NOT_POLICED
        if _share_node(flow):
            action = self.world.options.default_endpoint_to_host_action
            return EndDecision(action != "Drop", f"endpoint-to-host/{action}")
        host = self._host_endpoint(policed)
        return self._host(host, flow, direction) if host else NOT_POLICED

    def _pod(self, pod: Endpoint, flow: Flow, direction: Direction) -> EndDecision:
        """A pod's own policy, and on the way between its node and the others that of its node's host endpoint."""
        if direction is Direction.EGRESS and (flow.protocol, flow.port) == (_UDP, _VXLAN_PORT):
            return _ENCAPSULATED
        view = self.view(pod.cluster)
        number = view.number(pod)
        if number is None:
            raise ValueError(f"{pod.name} is no endpoint of this world")
        host = None if _share_node(flow) else self._host_endpoint(pod)
        forwarded = self._forwarded(host, flow, direction) if host else None
        if direction is Direction.INGRESS and forwarded and not forwarded.allowed:
            return forwarded
        own = self._walk(view, number, flow, direction, Stage.NORMAL)
        own = own or EndDecision(True, f"profile/kns.{pod.namespace}")
        return forwarded if own.allowed and forwarded and not forwarded.allowed else own

    def _host(self, host: HostEndpoint, flow: Flow, direction: Direction) -> EndDecision:
        """Traffic of a node's own processes through one of its host endpoints."""
        if (flow.protocol, flow.port) in FAILSAFE[direction]:
            return EndDecision(True, "failsafe")
        decided = self._early(host, flow, direction) or self._host_walk(host, flow, direction, Stage.NORMAL)
        if decided:
            return decided
        if _OPEN_PROFILE in host.profiles:
            return EndDecision(True, f"profile/{_OPEN_PROFILE}")
        return EndDecision(False, "profile/none")

    def _forwarded(self, host: HostEndpoint, flow: Flow, direction: Direction) -> EndDecision | None:
        """What passes through a node is open where no policy that applies on forwarding speaks of it."""
        return self._early(host, flow, direction) or self._host_walk(host, flow, direction, Stage.FORWARDED)

    def _early(self, host: HostEndpoint, flow: Flow, direction: Direction) -> EndDecision | None:
        """Untracked policy, then that before address translation, which speaks of ingress alone."""
        decided = self._host_walk(host, flow, direction, Stage.UNTRACKED)
        if decided is None and direction is Direction.INGRESS:
            decided = self._host_walk(host, flow, direction, Stage.PRE_DNAT)
        return decided

    def _host_walk(self, host: HostEndpoint, flow: Flow, direction: Direction, stage: Stage) -> EndDecision | None:
        view = self.view(host.cluster)
        number = view.number(host)
        return None if number is None else self._walk(view, number, flow, direction, stage)

    def _walk(
        self, view: ClusterView, member: int, flow: Flow, direction: Direction, stage: Stage
    ) -> EndDecision | None:
        """What the tiers say of a flow of an endpoint; None when it comes out at their end."""
        for tier, policies in view.standing(member, direction, stage):
            rule = next(
                (
                    rule
                    for policy in policies
                    for rule in policy.rules[direction]
                    if rule.action is not Action.LOG and view.matches(rule, flow)
                ),
                None,
            )
            if rule is None:
                if tier.drops and stage in (Stage.NORMAL, Stage.FORWARDED):
                    return EndDecision(False, f"tier/{tier.name}/end")
            elif rule.action is not Action.PASS:
                allowed = rule.action is Action.ALLOW
                return EndDecision(allowed, rule.name, layer_7=allowed and rule.layer_7)
        return None

    def _host_endpoint(self, there: Endpoint) -> HostEndpoint | None:
        """The host endpoint through which traffic of a node, or of a pod on it, comes and goes."""
        hosts = [
            each for each in self.world.host_endpoints if each.cluster == there.cluster and each.node == there.node
        ]
        return next((each for each in hosts if there.address in each.addresses), hosts[0] if hosts else None)


def _is_on_node(endpoint: Endpoint) -> bool:
    """Whether it is a node's own network: the node itself, or a pod in its network."""
    return endpoint.kind in (EndpointKind.NODE, EndpointKind.HOST_POD)


def _share_node(flow: Flow) -> bool:
    source, target = flow.source, flow.target
    return bool(source.node) and (source.cluster, source.node) == (target.cluster, target.node)
