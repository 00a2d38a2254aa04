"""Policies of Kubernetes as Calico takes them in.

NetworkPolicy stands at order 1000 of the tier `default`, ClusterNetworkPolicy in `kube-admin` and `kube-baseline`. One
rule of Kubernetes becomes one of Calico for each peer and each protocol; all of them keep the name of that rule.
Isolation is nothing of its own in Calico: it is the end of the tier.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from analysis.policy.calico_rules import DEFAULT_TIER, CalicoPolicy, Rule, read_rule
from analysis.policy.composition import policy_selector
from analysis.policy.endpoint_labels import KUBERNETES, ORCHESTRATOR
from analysis.policy.model import Direction, Policy
from analysis.policy.terms import All, Equal, Has, In, Not, NotIn, Selector, both

NETWORK_POLICY_ORDER = 1000.0
TIERS = {"Admin": "kube-admin", "Baseline": "kube-baseline"}

_ACTIONS = {"Accept": "Allow", "Deny": "Deny", "Pass": "Pass"}
_KNOWN_PEERS = {"namespaces", "pods", "networks"}
_PEER_FIELDS = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
_SIDES = {Direction.INGRESS: "source", Direction.EGRESS: "destination"}


def convert_network_policy(policy: Policy) -> CalicoPolicy:
    """A NetworkPolicy of Kubernetes.

    Raises:
        ValueError: it says what the API would refuse.
    """
    spec = policy.specs[0]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return CalicoPolicy(
        policy=policy,
        tier=DEFAULT_TIER,
        order=NETWORK_POLICY_ORDER,
        selector=policy_selector({"selector": _pods(spec.get("podSelector"))}, policy.namespace),
        types=frozenset(Direction(each.lower()) for each in types),
        rules={
            direction: tuple(
                rule
                for number, fields in enumerate(spec.get(direction.value) or ())
                for rule in _rules(
                    f"{policy.path}/{direction.value}/{number}",
                    direction,
                    policy.namespace,
                    "Allow",
                    [_peer(peer) for peer in fields.get(_PEER_FIELDS[direction]) or ()],
                    list(_ports(fields.get("ports") or ())),
                )
            )
            for direction in Direction
        },
    )


def convert_cluster_policy(policy: Policy) -> CalicoPolicy:
    """A ClusterNetworkPolicy of Kubernetes (v1alpha2), which acts in the directions that it has rules for.

    Raises:
        ValueError: it says what the API would refuse.
    """
    spec = policy.specs[0]
    return CalicoPolicy(
        policy=policy,
        tier=TIERS[spec["tier"]],
        order=float(spec["priority"]),
        selector=policy_selector(_workloads(spec.get("subject") or {}), ""),
        types=frozenset(direction for direction in Direction if spec.get(direction.value)),
        rules={
            direction: tuple(
                rule
                for number, fields in enumerate(spec.get(direction.value) or ())
                for rule in _cluster_rules(f"{policy.path}/{direction.value}/{number}", direction, fields)
            )
            for direction in Direction
        },
    )


def _rules(
    name: str,
    direction: Direction,
    namespace: str,
    action: str,
    peers: list[dict[str, Any]],
    ports: list[dict[str, Any]],
) -> Iterator[Rule]:
    """One rule for each peer and each protocol; an empty list leaves that open."""
    for peer, port in product(peers or [{}], ports or [{}]):
        fields: dict[str, Any] = {"action": action, _SIDES[direction]: peer}
        if port:
            fields["protocol"] = port["protocol"]
            fields["destination"] = fields.get("destination", {}) | {"ports": port["ports"]}
        yield read_rule(fields, name, direction, namespace)


def _cluster_rules(name: str, direction: Direction, fields: Mapping[str, Any]) -> Iterator[Rule]:
    """A peer of a sort that is not known here lets nobody in, and makes of any other action a denial of everybody."""
    action = _ACTIONS[fields["action"]]
    items = fields.get(_PEER_FIELDS[direction]) or []
    known = [peer for peer in items if _KNOWN_PEERS.intersection(peer)]
    ports = list(_cluster_ports(fields.get("protocols") or ()))
    if len(known) < len(items) and action != "Allow":
        yield from _rules(name, direction, "", "Deny", [], ports)
    elif known or not items:
        yield from _rules(name, direction, "", action, list(map(_cluster_peer, known)), ports)


def _peer(peer: Mapping[str, Any]) -> dict[str, Any]:
    if block := peer.get("ipBlock"):
        return {"nets": [block["cidr"]], "notNets": list(block.get("except") or ())}
    return _workloads(peer)


def _cluster_peer(peer: Mapping[str, Any]) -> dict[str, Any]:
    if networks := peer.get("networks"):
        return {"nets": list(networks)}
    return _workloads(peer)


def _workloads(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Pods by their own labels, by their namespace's, or both; `namespaces` and `pods` are ClusterNetworkPolicy's."""
    if "namespaces" in fields:
        return {"selector": _pods(None), "namespaceSelector": _namespaces(fields["namespaces"])}
    fields = fields.get("pods", fields)
    side = {"selector": _pods(fields.get("podSelector"))}
    if fields.get("namespaceSelector") is not None:
        side["namespaceSelector"] = _namespaces(fields["namespaceSelector"])
    return side


def _pods(selector: Mapping[str, Any] | None) -> str:
    return both(Equal(ORCHESTRATOR, KUBERNETES), *_terms(selector)).canonical


def _namespaces(selector: Mapping[str, Any] | None) -> str:
    return both(*_terms(selector)).canonical if selector else All().canonical


def _terms(selector: Mapping[str, Any] | None) -> Iterator[Selector]:
    selector = selector or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        yield Equal(key, str(value))
    for each in selector.get("matchExpressions") or ():
        key, values = each["key"], frozenset(map(str, each.get("values") or ()))
        match each["operator"]:
            case "In":
                yield In(key, values)
            case "NotIn":
                yield NotIn(key, values)
            case "Exists":
                yield Has(key)
            case "DoesNotExist":
                yield Not(Has(key))
            case operator:
                raise ValueError(f"{operator!r} is no operator; it is In, NotIn, Exists or DoesNotExist")


def _ports(items: Any) -> Iterator[dict[str, Any]]:
    """The ports of each protocol; None of them named means all of it."""
    by_protocol: defaultdict[str, list[Any]] = defaultdict(list)
    for item in items:
        port, last = item.get("port"), item.get("endPort")
        by_protocol[item.get("protocol", "TCP")].append(f"{port}:{last}" if last else port)
    for protocol, ports in by_protocol.items():
        yield {"protocol": protocol, "ports": [] if None in ports else ports}


def _cluster_ports(items: Any) -> Iterator[dict[str, Any]]:
    for item in items:
        for protocol in ("tcp", "udp", "sctp"):
            if protocol in item:
                port = (item[protocol] or {}).get("destinationPort") or {}
                span = port.get("range")
                ports = [f"{span['start']}:{span['end']}"] if span else [port["number"]] if "number" in port else []
                yield {"protocol": protocol.upper(), "ports": ports}
        if name := item.get("destinationNamedPort"):
            yield {"protocol": None, "ports": [name]}
