"""Kubernetes NetworkPolicy inside Calico: a policy of the default tier, order 1000, that only allows.

That it isolates comes from the tier's end, as with every policy of Calico; so one of Calico's that comes later can
still open what it leaves closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from provision.lab.calico.policy.objects import (
    DEFAULT_TIER,
    NAMESPACE_LABEL,
    NAMESPACE_PREFIX,
    ORCHESTRATOR_LABEL,
    Policy,
    PolicyRule,
    Port,
    Side,
    Verb,
    both,
    in_namespace,
    nets_of,
    protocol_name,
)
from provision.lab.calico.resources import naming
from provision.lab.calico.selector import Predicate
from provision.lab.kube.objects import KubeObject, Resource

NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
_ORDER = 1000.0


def read_network_policy(obj: KubeObject) -> Policy:
    """A Kubernetes NetworkPolicy. Raises BadObjectError."""
    with naming(obj):
        spec, metadata = obj.get("spec") or {}, obj["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
        selects = both(in_namespace(namespace), _pods(spec.get("podSelector") or {}))
        assert selects is not None
        return Policy(
            path=f"knp/{namespace}/{name}",
            tier=DEFAULT_TIER,
            place=(_ORDER, f"knp.default.{name}"),
            selects=selects,
            ingress=tuple(_rules(spec.get("ingress"), "from", namespace)) if "Ingress" in types else None,
            egress=tuple(_rules(spec.get("egress"), "to", namespace)) if "Egress" in types else None,
        )


def _rules(rules: Iterable[Mapping[str, Any]] | None, peers: str, namespace: str) -> Iterator[PolicyRule]:
    for rule in rules or ():
        for peer in rule.get(peers) or [None]:
            for protocol, ports in _ports(rule.get("ports")):
                other = _peer(peer, namespace) if peer else Side()
                if peers == "from":
                    yield PolicyRule(Verb.ALLOW, source=other, target=Side(ports=ports), protocol=protocol)
                else:
                    target = Side(other.known, None, other.nets, other.not_nets, ports)
                    yield PolicyRule(Verb.ALLOW, target=target, protocol=protocol)


def _ports(ports: Iterable[Mapping[str, Any]] | None) -> Iterator[tuple[str | None, tuple[Port, ...] | None]]:
    """A protocol with its ports for each rule that the list comes to."""
    if not ports:
        yield None, None
        return
    by_protocol: dict[str | None, list[Port] | None] = {}
    for entry in ports:
        protocol, port = protocol_name(entry.get("protocol") or "TCP"), entry.get("port")
        listed = by_protocol.setdefault(protocol, [])
        if port is None:
            by_protocol[protocol] = None
        elif listed is not None:
            listed.append(port if isinstance(port, str) else (port, entry.get("endPort") or port))
    for protocol, found in by_protocol.items():
        yield protocol, None if found is None else tuple(found)


def _peer(peer: Mapping[str, Any], namespace: str) -> Side:
    block, namespaces = peer.get("ipBlock"), peer.get("namespaceSelector")
    if block:
        return Side(nets=nets_of([block["cidr"]]), not_nets=nets_of(block.get("except")) or frozenset())
    where = in_namespace(namespace) if namespaces is None else _namespaces(namespaces)
    pods = peer.get("podSelector")
    return Side(known=both(where, _pods(pods) if pods is not None else _is_pod))


def _is_pod(labels: Mapping[str, str]) -> bool:
    return labels.get(ORCHESTRATOR_LABEL) == "k8s"


def _pods(selector: Mapping[str, Any]) -> Predicate:
    chosen = both(_is_pod, *_terms(selector, ""))
    assert chosen is not None
    return chosen


def _namespaces(selector: Mapping[str, Any]) -> Predicate:
    return both(*_terms(selector, NAMESPACE_PREFIX)) or (lambda labels: NAMESPACE_LABEL in labels)


def _terms(selector: Mapping[str, Any], prefix: str) -> Iterator[Predicate]:
    for key, value in (selector.get("matchLabels") or {}).items():
        yield _is_one_of(prefix + key, frozenset({value}))
    for expression in selector.get("matchExpressions") or ():
        key, values = prefix + expression["key"], frozenset(expression.get("values") or ())
        match expression["operator"]:
            case "In":
                yield _is_one_of(key, values)
            case "NotIn":
                yield _is_none_of(key, values)
            case "Exists":
                yield _is_there(key)
            case "DoesNotExist":
                yield _is_missing(key)
            case other:
                raise ValueError(f"{other!r} is no operator of a label selector")


def _is_one_of(key: str, values: frozenset[str]) -> Predicate:
    return lambda labels: labels.get(key) in values


def _is_none_of(key: str, values: frozenset[str]) -> Predicate:
    return lambda labels: labels.get(key) not in values


def _is_there(key: str) -> Predicate:
    return lambda labels: key in labels


def _is_missing(key: str) -> Predicate:
    return lambda labels: key not in labels
