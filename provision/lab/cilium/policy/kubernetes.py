"""Reads Kubernetes' own NetworkPolicy objects, as a Cilium agent understands them."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any

from provision.lab.cilium.policy.model import (
    Dialect,
    Direction,
    Networks,
    Peer,
    PolicyError,
    PolicyRule,
    PolicySpec,
    Port,
)
from provision.lab.cilium.policy.reading import in_cluster
from provision.lab.cilium.policy.selectors import (
    K8S,
    NAMESPACE_KEY,
    NAMESPACE_LABELS,
    Selector,
    SelectorError,
    exists,
    has_value,
    read_selector,
)

_SIDES = {Direction.INGRESS: "from", Direction.EGRESS: "to"}


def read_network_policy(obj: Mapping[str, Any], dialect: Dialect) -> PolicySpec:
    """What a NetworkPolicy comes to.

    Raises:
        PolicyError: it is none.
    """
    meta, spec = obj["metadata"], obj.get("spec") or {}
    name, namespace = f"knp/{meta['namespace']}/{meta['name']}", str(meta["namespace"])
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    try:
        subject = _pods(spec.get("podSelector") or {}).also(has_value(NAMESPACE_KEY, namespace))
        directions = [direction for direction in Direction if direction.value.title() in types]
        rules = [
            PolicyRule(
                direction,
                deny=False,
                peers=_peers(entry.get(_SIDES[direction]), namespace, dialect),
                ports=tuple(map(_port, entry["ports"])) if entry.get("ports") else None,
                icmp_types=None,
                name=f"{name}/{direction.value}/{number}",
            )
            for direction in directions
            for number, entry in enumerate(spec.get(direction.value) or ())
        ]
    except (SelectorError, TypeError, AttributeError, KeyError, ValueError) as error:
        raise PolicyError(f"{name} is not taken: {error}") from error
    return PolicySpec(name, subject, tuple(rules), frozenset(directions))


def _peers(rows: Any, namespace: str, dialect: Dialect) -> tuple[Peer, ...] | None:
    """None, or an empty list, is anybody."""
    return tuple(_peer(row, namespace, dialect) for row in rows) if rows else None


def _peer(row: Mapping[str, Any], namespace: str, dialect: Dialect) -> Peer:
    if block := row.get("ipBlock"):
        return Networks(IPv4Network(block["cidr"]), tuple(map(IPv4Network, block.get("except") or ())))
    if row.get("podSelector") is None and row.get("namespaceSelector") is None:
        raise PolicyError(f"{row!r} names no peer")
    pods = _pods(row.get("podSelector") or {})
    if row.get("namespaceSelector") is None:
        pods = pods.also(has_value(NAMESPACE_KEY, namespace))
    else:
        namespaces = read_selector(row["namespaceSelector"], lambda key: (K8S, NAMESPACE_LABELS + key))
        pods = pods.also(*(namespaces.requirements or (exists(NAMESPACE_KEY),)))
    return in_cluster(pods, dialect)


def _pods(selector: Mapping[str, Any]) -> Selector:
    return read_selector(selector, lambda key: (K8S, key))


def _port(row: Mapping[str, Any]) -> Port:
    protocol, port = str(row.get("protocol") or "TCP").lower(), row.get("port")
    if port is None:
        return Port(protocol)
    if isinstance(port, str) and not port.isdigit():
        return Port(protocol, name=port)
    return Port(protocol, int(port), int(row.get("endPort") or port))
