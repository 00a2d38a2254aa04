"""A second reading of Kubernetes' and Cilium's policies, for tests alone: slow, direct, with none of the first's code.

Nothing is compiled, indexed or shared: each flow walks over the objects as they are written.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from analysis.policy.model import Endpoint, Flow, Policy, World

NS, CLUSTER, NS_LABELS = (
    "io.kubernetes.pod.namespace",
    "io.cilium.k8s.policy.cluster",
    "io.cilium.k8s.namespace.labels.",
)


def allowed(world: World, flow: Flow) -> bool:
    end = kubernetes_end if world.engine.value == "kubernetes" else cilium_end
    return end(world, flow, "egress") and end(world, flow, "ingress")


def kubernetes_end(world: World, flow: Flow, direction: str) -> bool:
    pod, peer = (flow.source, flow.target) if direction == "egress" else (flow.target, flow.source)
    if pod.kind.value != "pod" or pod is peer:
        return True
    if direction == "ingress" and is_on_own_node(pod, peer):
        return True
    isolated = False
    for policy in world.policies:
        if policy.cluster == pod.cluster and policy.namespace == pod.namespace:
            spec = policy.specs[0]
            if meets(spec.get("podSelector") or {}, pod.labels) and direction in kubernetes_directions(spec):
                isolated = True
                for rule in spec.get(direction) or []:
                    if kubernetes_rule(world, policy, rule, direction, flow, peer, by_address=True):
                        return True
    return not isolated


def kubernetes_directions(spec: dict[str, Any]) -> list[str]:
    if spec.get("policyTypes"):
        return [each.lower() for each in spec["policyTypes"]]
    return ["ingress", "egress"] if spec.get("egress") else ["ingress"]


def kubernetes_rule(
    world: World, policy: Policy, rule: dict[str, Any], direction: str, flow: Flow, peer: Endpoint, *, by_address: bool
) -> bool:
    ports = rule.get("ports") or []
    if ports and not any(kubernetes_port(port, flow) for port in ports):
        return False
    peers = rule.get("from" if direction == "ingress" else "to") or []
    return not peers or any(kubernetes_peer(world, policy, each, peer, by_address) for each in peers)


def kubernetes_port(port: dict[str, Any], flow: Flow) -> bool:
    if port.get("protocol", "TCP") != flow.protocol.value:
        return False
    number = port.get("port")
    if number is None:
        return True
    if isinstance(number, str):
        return any(
            (name, protocol, at) == (number, flow.protocol, flow.port) for name, protocol, at in flow.target.ports
        )
    return bool(number <= flow.port <= port.get("endPort", number))


def kubernetes_peer(world: World, policy: Policy, item: dict[str, Any], peer: Endpoint, by_address: bool) -> bool:
    if "ipBlock" in item:
        by_mode = peer.kind.value != "pod" and world.options.cidr_match_mode == "nodes"
        knows_address = by_address or by_mode or peer.kind.value == "external"
        return knows_address and in_block(peer, item["ipBlock"]["cidr"], item["ipBlock"].get("except") or [])
    if peer.kind.value != "pod":
        return False
    if (world.engine.value == "kubernetes" or world.options.default_local_cluster) and peer.cluster != policy.cluster:
        return False
    if "namespaceSelector" in item:
        namespace = world.namespaces.get((peer.cluster, peer.namespace), {})
        return meets(item["namespaceSelector"], namespace) and meets(item.get("podSelector") or {}, peer.labels)
    return peer.namespace == policy.namespace and meets(item["podSelector"], peer.labels)


def cilium_end(world: World, flow: Flow, direction: str) -> bool:
    pod, peer = (flow.source, flow.target) if direction == "egress" else (flow.target, flow.source)
    if pod.kind.value != "pod" or pod is peer or world.options.enforcement_mode == "never":
        return True
    closed, lets = world.options.enforcement_mode == "always", False
    for policy in world.policies:
        if policy.cluster != pod.cluster:
            continue
        if policy.kind.value == "knp":
            spec = policy.specs[0]
            here = policy.namespace == pod.namespace and meets(spec.get("podSelector") or {}, pod.labels)
            if here and direction in kubernetes_directions(spec):
                closed = True
                for rule in spec.get(direction) or []:
                    lets |= kubernetes_rule(world, policy, rule, direction, flow, peer, by_address=False)
            continue
        for spec in policy.specs:
            if not cilium_subject(world, policy, spec, pod):
                continue
            if any(
                cilium_rule(world, policy, rule, direction, flow, peer) for rule in spec.get(direction + "Deny") or []
            ):
                return False
            if spec.get(direction) or spec.get(direction + "Deny"):
                closed |= (spec.get("enableDefaultDeny") or {}).get(direction, True)
            lets |= any(cilium_rule(world, policy, rule, direction, flow, peer) for rule in spec.get(direction) or [])
    if direction == "ingress" and is_on_own_node(pod, peer) and world.options.allow_localhost != "policy":
        return True
    return lets or not closed


def cilium_subject(world: World, policy: Policy, spec: dict[str, Any], pod: Endpoint) -> bool:
    if policy.namespace and pod.namespace != policy.namespace:
        return False
    return meets(spec["endpointSelector"], cilium_labels(world, pod))


def cilium_labels(world: World, pod: Endpoint) -> dict[str, str]:
    labels = {**pod.labels, NS: pod.namespace, CLUSTER: pod.cluster}
    for key, value in world.namespaces.get((pod.cluster, pod.namespace), {}).items():
        labels[NS_LABELS + key] = value
    return labels


def cilium_rule(world: World, policy: Policy, rule: dict[str, Any], direction: str, flow: Flow, peer: Endpoint) -> bool:
    side = "from" if direction == "ingress" else "to"
    ports = rule.get("toPorts")
    if ports and not any(cilium_port(port, flow) for item in ports for port in item["ports"]):
        return False
    peers = {key: value for key, value in rule.items() if key not in ("toPorts", "icmps") and key.startswith(side)}
    if not peers:
        return bool(ports)
    outside = peer.kind.value == "external" or (peer.kind.value != "pod" and world.options.cidr_match_mode == "nodes")
    pod = flow.target if direction == "ingress" else flow.source
    return (
        any(cilium_peer(world, policy, each, peer) for each in peers.get(side + "Endpoints", []))
        or any(cilium_entity(policy, each, peer, pod) for each in peers.get(side + "Entities", []))
        or (outside and any(in_block(peer, each, []) for each in peers.get(side + "CIDR", [])))
        or (outside and any(in_block(peer, s["cidr"], s.get("except", [])) for s in peers.get(side + "CIDRSet", [])))
    )


def cilium_peer(world: World, policy: Policy, selector: dict[str, Any], peer: Endpoint) -> bool:
    if peer.kind.value != "pod":
        return False
    keys = [*selector.get("matchLabels", {}), *(each["key"] for each in selector.get("matchExpressions", []))]
    if policy.namespace and NS not in keys and peer.namespace != policy.namespace:
        return False
    if CLUSTER not in keys and world.options.default_local_cluster and peer.cluster != policy.cluster:
        return False
    return meets(selector, cilium_labels(world, peer))


def cilium_entity(policy: Policy, entity: str, peer: Endpoint, pod: Endpoint) -> bool:
    is_pod, is_node = peer.kind.value == "pod", peer.kind.value in ("node", "hostpod")
    if entity == "cluster":
        return is_node or (is_pod and peer.cluster == policy.cluster)
    if entity == "host":
        return is_on_own_node(pod, peer)
    if entity == "remote-node":
        return is_node and not is_on_own_node(pod, peer)
    if entity == "world":
        return peer.kind.value == "external"
    return entity == "all"


def cilium_port(port: dict[str, Any], flow: Flow) -> bool:
    protocol = port.get("protocol", "ANY")
    if flow.protocol.value == "ICMP" or protocol not in ("ANY", flow.protocol.value):
        return False
    if not port["port"].isdigit():
        return (port["port"], flow.protocol, flow.port) in flow.target.ports
    first = int(port["port"])
    return first == 0 or first <= flow.port <= port.get("endPort", first)


def is_on_own_node(pod: Endpoint, peer: Endpoint) -> bool:
    return peer.kind.value in ("node", "hostpod") and (pod.cluster, pod.node) == (peer.cluster, peer.node)


def in_block(peer: Endpoint, cidr: str, exceptions: list[str]) -> bool:
    address = ip_address(str(peer.address))
    return address in ip_network(cidr) and not any(address in ip_network(each) for each in exceptions)


def meets(selector: dict[str, Any], labels: Any) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if key not in labels or labels[key] != value:
            return False
    for each in selector.get("matchExpressions", []):
        key, values = each["key"], each.get("values", [])
        present = key in labels
        if each["operator"] == "In" and not (present and labels[key] in values):
            return False
        if each["operator"] == "NotIn" and present and labels[key] in values:
            return False
        if each["operator"] == "Exists" and not present:
            return False
        if each["operator"] == "DoesNotExist" and present:
            return False
    return True
