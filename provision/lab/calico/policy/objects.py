"""Policy objects as typed values: tiers, policies with their rules, and network sets.

Selectors are composed here as Calico composes them: a policy in a namespace is about that namespace, a rule's side
joins selector, namespaces and accounts. Every defect that Calico's own clients would refuse is a `BadObjectError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, ip_network
from typing import Any

from provision.lab.calico.resources import GROUP, naming
from provision.lab.calico.selector import Labels, Predicate, parse_selector
from provision.lab.kube.objects import KubeObject, Resource

NAMESPACE_LABEL = "projectcalico.org/namespace"
ACCOUNT_LABEL = "projectcalico.org/serviceaccount"
ORCHESTRATOR_LABEL = "projectcalico.org/orchestrator"
NAME_LABEL = "projectcalico.org/name"
NAMESPACE_PREFIX, ACCOUNT_PREFIX = "pcns.", "pcsa."

GLOBAL_POLICIES = Resource(GROUP, "v1", "globalnetworkpolicies", "GlobalNetworkPolicy", namespaced=False)
POLICIES = Resource(GROUP, "v1", "networkpolicies", "NetworkPolicy")
GLOBAL_SETS = Resource(GROUP, "v1", "globalnetworksets", "GlobalNetworkSet", namespaced=False)
SETS = Resource(GROUP, "v1", "networksets", "NetworkSet")
TIERS = Resource(GROUP, "v1", "tiers", "Tier", namespaced=False)

DEFAULT_TIER = "default"
_TIER_ORDERS: Mapping[str, float] = {"kube-admin": 1_000, DEFAULT_TIER: 1_000_000, "kube-baseline": 10_000_000}
"""Tiers that are always there; the first and the last of them pass on what they do not decide."""

_LAST = float("inf")
_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp", "ICMP": "icmp", "ICMPv6": "58", "UDPLite": "136"}
_NUMBERS = {1: "icmp", 6: "tcp", 17: "udp", 132: "sctp"}

Port = tuple[int, int] | str
"""The first and the last of a range, or the name of a container's port."""


class Verb(str, Enum):
    """What a rule says."""

    ALLOW = "Allow"
    DENY = "Deny"
    PASS = "Pass"  # noqa: S105 - a verdict
    LOG = "Log"


@dataclass(frozen=True)
class Side:
    """What a rule says of one end of a connection; everything that is said must hold.

    Attributes:
        known: chooses among endpoints and sets that are known; None where any address will do.
        not_known: chooses those that are left out, where `known` is None.
        nets: None for any.
    """

    known: Predicate | None = None
    not_known: Predicate | None = None
    nets: frozenset[IPv4Network] | None = None
    not_nets: frozenset[IPv4Network] = frozenset()
    ports: tuple[Port, ...] | None = None
    not_ports: tuple[Port, ...] = ()


@dataclass(frozen=True)
class PolicyRule:
    """A rule. `protocol` is as nftables calls it, None for any; `icmp` is type and code."""

    verb: Verb
    source: Side = Side()
    target: Side = Side()
    protocol: str | None = None
    not_protocol: str | None = None
    icmp: tuple[int | None, int | None] = (None, None)


@dataclass(frozen=True)
class Tier:
    """A tier. What its policies leave undecided is dropped, or else passed on."""

    name: str
    order: float
    drops: bool = True


@dataclass(frozen=True)
class Policy:
    """A policy of any kind, as Felix sees it.

    Attributes:
        path: what its rules are called by: "gnp/deny-all", "np/web/allow-front", "knp/web/front".
        place: what sorts it within its tier.
        selects: the pods it is about.
        ingress: None where it says nothing of that direction; `egress` likewise.
    """

    path: str
    tier: str
    place: tuple[float, str]
    selects: Predicate
    ingress: tuple[PolicyRule, ...] | None
    egress: tuple[PolicyRule, ...] | None


@dataclass(frozen=True)
class NetworkSet:
    """Addresses with labels of their own."""

    nets: tuple[IPv4Network, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""


def standing_tiers() -> dict[str, Tier]:
    """The tiers that need no object."""
    return {name: Tier(name, order, drops=name == DEFAULT_TIER) for name, order in _TIER_ORDERS.items()}


def read_tier(obj: KubeObject) -> Tier:
    """A Tier. Raises BadObjectError."""
    with naming(obj):
        spec, name = obj.get("spec") or {}, obj["metadata"]["name"]
        order = _TIER_ORDERS.get(name, _order(spec))
        drops = standing_tiers()[name].drops if name in _TIER_ORDERS else spec.get("defaultAction") != "Pass"
        return Tier(name, order, drops)


def read_network_set(obj: KubeObject) -> NetworkSet:
    """A GlobalNetworkSet or NetworkSet. Raises BadObjectError."""
    with naming(obj):
        metadata = obj["metadata"]
        return NetworkSet(
            nets=tuple(nets_of((obj.get("spec") or {}).get("nets")) or ()),
            labels=metadata.get("labels") or {},
            namespace=metadata.get("namespace", ""),
        )


def read_policy(obj: KubeObject) -> Policy | None:
    """A policy of Calico's own kinds; None for one that is about hosts alone. Raises BadObjectError."""
    with naming(obj):
        spec, metadata = obj.get("spec") or {}, obj["metadata"]
        if spec.get("preDNAT") or spec.get("doNotTrack"):
            return None
        namespace = metadata.get("namespace", "")
        directions = spec.get("types") or _default_types(spec)
        return Policy(
            path="/".join(filter(None, ("np" if namespace else "gnp", namespace, metadata["name"]))),
            tier=spec.get("tier") or DEFAULT_TIER,
            place=(_order(spec), metadata["name"]),
            selects=_selects(spec, namespace),
            ingress=_rules(spec.get("ingress"), namespace) if "Ingress" in directions else None,
            egress=_rules(spec.get("egress"), namespace) if "Egress" in directions else None,
        )


def both(*terms: Predicate | None) -> Predicate | None:
    """A predicate for all of those that are given; None when none is."""
    given = [term for term in terms if term is not None]
    if len(given) < 2:
        return given[0] if given else None
    return lambda labels: all(term(labels) for term in given)


def in_namespace(namespace: str) -> Predicate:
    """What is in that namespace."""
    return lambda labels: labels.get(NAMESPACE_LABEL) == namespace


def protocol_name(protocol: str | int | None) -> str | None:
    """A protocol as nftables calls it. Raises ValueError for one that Calico does not know."""
    if protocol is None:
        return None
    if isinstance(protocol, int) or protocol.isdigit():
        return _NUMBERS.get(int(protocol), str(int(protocol)))
    if protocol not in _PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} is none of {', '.join(_PROTOCOLS)} and no number")
    return _PROTOCOLS[protocol]


def _order(spec: Mapping[str, Any]) -> float:
    order = spec.get("order")
    return _LAST if order is None else float(order)


def _default_types(spec: Mapping[str, Any]) -> list[str]:
    """Ingress, unless there are rules for egress alone; Egress where there are rules for it."""
    ingress, egress = bool(spec.get("ingress")), bool(spec.get("egress"))
    return [name for name, wanted in (("Ingress", ingress or not egress), ("Egress", egress)) if wanted]


def _selects(spec: Mapping[str, Any], namespace: str) -> Predicate:
    namespaces, accounts = spec.get("namespaceSelector"), spec.get("serviceAccountSelector")
    # `all()` is about what has a namespace, or an account, where the policy speaks of those.
    within = NAMESPACE_LABEL if namespaces and not namespace else ACCOUNT_LABEL if accounts else ""
    chosen = both(
        parse_selector(spec.get("selector") or "", within=within),
        parse_selector(namespaces, prefix=NAMESPACE_PREFIX, within=within) if namespaces and not namespace else None,
        parse_selector(accounts, prefix=ACCOUNT_PREFIX, within=within) if accounts else None,
        in_namespace(namespace) if namespace else None,
    )
    assert chosen is not None
    return chosen


def _rules(rules: Iterable[Mapping[str, Any]] | None, namespace: str) -> tuple[PolicyRule, ...]:
    return tuple(_rule(rule, namespace) for rule in rules or () if _is_for_ipv4(rule))


def _is_for_ipv4(rule: Mapping[str, Any]) -> bool:
    """Not for IPv6, and not one that Felix ignores: whose `notNets` leave nothing."""
    sides = [rule.get(name) or {} for name in ("source", "destination")]
    everything = any(ip_network(net).prefixlen == 0 for side in sides for net in side.get("notNets") or ())
    other_family = any(side.get("nets") and not nets_of(side["nets"]) for side in sides)
    return rule.get("ipVersion") != 6 and not everything and not other_family


def _rule(rule: Mapping[str, Any], namespace: str) -> PolicyRule:
    icmp = rule.get("icmp") or {}
    if rule.get("notICMP"):
        raise ValueError("notICMP is not supported by the lab")
    return PolicyRule(
        verb=Verb(rule["action"]),
        source=_side(rule.get("source") or {}, namespace),
        target=_side(rule.get("destination") or {}, namespace),
        protocol=protocol_name(rule.get("protocol")),
        not_protocol=protocol_name(rule.get("notProtocol")),
        icmp=(icmp.get("type"), icmp.get("code")),
    )


def _side(side: Mapping[str, Any], namespace: str) -> Side:
    if side.get("services"):
        raise ValueError("services in a rule are not supported by the lab")
    selector, left_out = side.get("selector"), side.get("notSelector")
    accounts, namespaces = side.get("serviceAccounts") or {}, side.get("namespaceSelector")
    where: Predicate | None = None
    if namespaces:
        where = parse_selector(namespaces, prefix=NAMESPACE_PREFIX, within=NAMESPACE_LABEL)
        if namespaces.strip() == "global()":
            where = parse_selector("global()", within=NAMESPACE_LABEL)
    elif namespace and (selector or left_out or accounts):
        where = in_namespace(namespace)
    known = both(_account_term(accounts), parse_selector(selector) if selector else None, where)
    excluded = parse_selector(left_out) if left_out else None
    ports, not_ports = side.get("ports"), tuple(map(_port, side.get("notPorts") or ()))
    if any(isinstance(port, str) for port in not_ports):
        raise ValueError("names in notPorts are not supported by the lab")
    return Side(
        known=known if known is None or excluded is None else both(known, negated(excluded)),
        not_known=excluded if known is None else None,
        nets=nets_of(side.get("nets")),
        not_nets=nets_of(side.get("notNets")) or frozenset(),
        ports=tuple(map(_port, ports)) if ports else None,
        not_ports=not_ports,
    )


def negated(term: Predicate) -> Callable[[Labels], bool]:
    """What the predicate does not choose."""
    return lambda labels: not term(labels)


def _account_term(accounts: Mapping[str, Any]) -> Predicate | None:
    names, selector = accounts.get("names"), accounts.get("selector")
    return both(
        (lambda labels: labels.get(ACCOUNT_LABEL) in names) if names else None,
        parse_selector(selector, prefix=ACCOUNT_PREFIX) if selector else None,
    )


def nets_of(nets: Iterable[str] | None) -> frozenset[IPv4Network] | None:
    """Those of IPv4; None where none are given."""
    if not nets:
        return None
    return frozenset(
        network for network in (ip_network(net, strict=False) for net in nets) if isinstance(network, IPv4Network)
    )


def _port(port: int | str) -> Port:
    if isinstance(port, int) or port.isdigit():
        first = last = int(port)
    elif ":" in port:
        first, last = map(int, port.split(":"))
    else:
        return port
    if not 0 < first <= last < 1 << 16:
        raise ValueError(f"{port} is no port and no range of ports")
    return (first, last)
