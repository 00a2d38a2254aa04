"""Calico's policies and their rules, read from API objects into what decides about packets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Any

from analysis.policy.composition import Peer, policy_selector, rule_peer
from analysis.policy.intervals import IntervalSet
from analysis.policy.model import Direction, Policy, PolicyKind, Protocol
from analysis.policy.nets import ALL_ADDRESSES, addresses, any_network
from analysis.policy.ports import EVERY_PORT, Ports, calico_ports
from analysis.policy.terms import Selector

DEFAULT_TIER = "default"
PROTOCOL_NUMBERS = {"ICMP": 1, "TCP": 6, "UDP": 17, "ICMPv6": 58, "SCTP": 132, "UDPLite": 136}
ALL_PROTOCOLS = (1 << 256) - 1
"""Protocols are a set of bits, one for each number."""

ALL_ICMP = IntervalSet(((0, 65535),))
"""ICMP messages are numbered by type * 256 + code."""

_IPV4 = 4
_IPV6 = 6
_EMPTY: Mapping[str, Any] = {}


class Action(str, Enum):
    """What a rule does with what it matches."""

    ALLOW = "Allow"
    DENY = "Deny"
    LOG = "Log"
    PASS = "Pass"  # noqa: S105


@dataclass(frozen=True)
class Side:
    """What a rule asks of a packet's source, or of its destination.

    Attributes:
        nets: addresses, with `notNets` taken away.
        ports: None where the rule names no ports.
        not_ports: ports that it leaves out.
        service: namespace and name of the service that it names.
    """

    peer: Peer = Peer()  # noqa: RUF009  it is frozen
    nets: IntervalSet = ALL_ADDRESSES
    ports: Ports | None = None
    not_ports: Ports = Ports()  # noqa: RUF009
    service: tuple[str, str] | None = None

    @property
    def numbers(self) -> IntervalSet:
        """The ports that it matches by number."""
        return (self.ports or EVERY_PORT).numbers - self.not_ports.numbers


@dataclass(frozen=True)
class Rule:
    """A rule. Everything that it asks of a packet must hold.

    Attributes:
        name: what it is called by ("gnp/name/ingress/0").
        protocols: bits by protocol number.
        families: IP versions that it can match.
        icmp: messages that it matches, if it speaks of ICMP at all.
        ignored: the product leaves it out altogether (a `notNets` that covers every address).
        layer_7: it asks something of HTTP requests too, which Felix's own data plane does not look at.
    """

    name: str
    direction: Direction
    action: Action
    source: Side = Side()
    destination: Side = Side()
    protocols: int = ALL_PROTOCOLS
    families: frozenset[int] = frozenset({_IPV4, _IPV6})
    icmp: IntervalSet | None = None
    ignored: bool = False
    layer_7: bool = False

    @property
    def peer(self) -> Side:
        """The side that is not the policed endpoint."""
        return self.source if self.direction is Direction.INGRESS else self.destination


@dataclass(frozen=True)
class CalicoPolicy:
    """A policy as Felix sees it.

    Attributes:
        order: infinite where the object has none.
        types: directions that it takes part in.
        rules: of each direction, those out of `types` included.
        untracked: `doNotTrack`; it acts on host endpoints alone, and so does a `pre_dnat` one.
    """

    policy: Policy
    tier: str
    order: float
    selector: Selector
    types: frozenset[Direction]
    rules: Mapping[Direction, tuple[Rule, ...]] = field(hash=False)
    untracked: bool = False
    pre_dnat: bool = False
    on_forward: bool = False

    @property
    def is_normal(self) -> bool:
        """Whether it acts on pods, and on host endpoints after the special ones."""
        return not self.untracked and not self.pre_dnat

    @property
    def is_staged(self) -> bool:
        """Whether it is only shown, never programmed."""
        return self.policy.kind is PolicyKind.STAGED_GLOBAL_NETWORK_POLICY

    @property
    def sort_key(self) -> tuple[float, str, str, str]:
        """Its place in its tier."""
        return self.order, self.policy.name, self.policy.namespace, self.policy.kind.value


def read_policy(policy: Policy) -> CalicoPolicy:
    """A policy of Calico's own kinds.

    Raises:
        ValueError: it says what the API would refuse (a selector, a net or an action that is none).
    """
    spec = policy.specs[0]
    rules = {
        direction: tuple(
            read_rule(fields, f"{policy.path}/{direction.value}/{number}", direction, policy.namespace)
            for number, fields in enumerate(spec.get(direction.value) or ())
        )
        for direction in Direction
    }
    order = spec.get("order")
    return CalicoPolicy(
        policy=policy,
        tier=spec.get("tier") or DEFAULT_TIER,
        order=inf if order is None else float(order),
        selector=policy_selector(spec, policy.namespace),
        types=_types(spec),
        rules=rules,
        untracked=bool(spec.get("doNotTrack")),
        pre_dnat=bool(spec.get("preDNAT")),
        on_forward=bool(spec.get("applyOnForward")),
    )


def read_rule(fields: Mapping[str, Any], name: str, direction: Direction, namespace: str) -> Rule:
    """One rule of a policy in that namespace, "" for a global one.

    Raises:
        ValueError: it says what the API would refuse.
    """
    sides = [fields.get("source") or _EMPTY, fields.get("destination") or _EMPTY]
    source, destination = (_side(side, namespace) for side in sides)
    protocols = _protocols(fields)
    excluded = [net for side in sides for net in side.get("notNets") or ()]
    return Rule(
        name=name,
        direction=direction,
        action=Action(fields.get("action", "")),
        source=source,
        destination=destination,
        protocols=protocols,
        families=_families(fields, sides, protocols),
        icmp=_icmp(fields),
        ignored=any(any_network(net).prefixlen == 0 for net in excluded),
        layer_7=bool(fields.get("http")),
    )


def protocol_bits(*protocols: str | int) -> int:
    """The set of these protocols, by name or number.

    Raises:
        ValueError: there is no protocol of such a name.
    """
    found = 0
    for protocol in protocols:
        text = str(protocol)
        number = int(text) if text.isdigit() else PROTOCOL_NUMBERS.get(text)
        if number is None or number > 255:
            raise ValueError(f"there is no protocol {text!r}; rules know {', '.join(PROTOCOL_NUMBERS)} and 1 to 255")
        found |= 1 << number
    return found


def protocol_bit(protocol: Protocol) -> int:
    """The protocol of a flow, as bits."""
    return 1 << PROTOCOL_NUMBERS[protocol.value]


def _types(spec: Mapping[str, Any]) -> frozenset[Direction]:
    """Its directions; without `types`, those that have rules, and ingress where neither has."""
    if types := spec.get("types"):
        return frozenset(Direction(str(each).lower()) for each in types)
    if not spec.get("egress"):
        return frozenset({Direction.INGRESS})
    return frozenset(Direction) if spec.get("ingress") else frozenset({Direction.EGRESS})


def _side(fields: Mapping[str, Any], namespace: str) -> Side:
    nets, not_nets = fields.get("nets"), fields.get("notNets")
    service = fields.get("services")
    ports = fields.get("ports")
    return Side(
        peer=rule_peer(fields, namespace),
        nets=(addresses(nets) if nets else ALL_ADDRESSES) - addresses(not_nets or ()),
        ports=calico_ports(ports) if ports else None,
        not_ports=calico_ports(fields.get("notPorts") or ()),
        service=(service.get("namespace") or namespace, service["name"]) if service else None,
    )


def _protocols(fields: Mapping[str, Any]) -> int:
    protocol, excluded = fields.get("protocol"), fields.get("notProtocol")
    wanted = ALL_PROTOCOLS if protocol is None else protocol_bits(protocol)
    return wanted if excluded is None else wanted & ~protocol_bits(excluded)


def _families(fields: Mapping[str, Any], sides: list[Mapping[str, Any]], protocols: int) -> frozenset[int]:
    families = {_IPV4, _IPV6}
    if version := fields.get("ipVersion"):
        families &= {int(version)}
    for side in sides:
        if nets := side.get("nets"):
            families &= {any_network(net).version for net in nets}
    if protocols == protocol_bits("ICMP"):
        families &= {_IPV4}
    if protocols == protocol_bits("ICMPv6"):
        families &= {_IPV6}
    return frozenset(families)


def _icmp(fields: Mapping[str, Any]) -> IntervalSet | None:
    wanted, excluded = fields.get("icmp"), fields.get("notICMP")
    if not wanted and not excluded:
        return None
    return (_messages(wanted) if wanted else ALL_ICMP) - (_messages(excluded) if excluded else IntervalSet())


def _messages(fields: Mapping[str, Any]) -> IntervalSet:
    if "type" not in fields:
        return ALL_ICMP
    first = int(fields["type"]) * 256
    if "code" in fields:
        first += int(fields["code"])
        return IntervalSet(((first, first),))
    return IntervalSet(((first, first + 255),))
