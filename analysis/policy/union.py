"""Policies that add up: what Kubernetes and Cilium have in common, whatever their objects look like.

A rule allows or denies. Rules of all policies that select a pod are one heap without an order: a denial wins, then
any allowance lets the flow in, and what nothing speaks of is refused where some policy isolates the pod.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

from analysis.policy.identity import Identities
from analysis.policy.label_selector import Operator, Selector, matches
from analysis.policy.model import Direction, Endpoint, Flow, Policy, Protocol

LAST_PORT = 65535
WITH_PORTS = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)


@dataclass(frozen=True)
class Block:
    """Addresses, some of them left out."""

    network: IPv4Network | IPv6Network
    excepted: tuple[IPv4Network | IPv6Network, ...] = ()

    def holds(self, address: IPv4Address) -> bool:
        """Whether the address is meant."""
        return address in self.network and not any(address in each for each in self.excepted)


@dataclass(frozen=True)
class Peers:
    """Who a rule speaks of: whoever one of the selectors or one of the blocks means.

    Attributes:
        unknown: what else it names that only the live system could resolve ("toFQDNs"), "" when nothing.
    """

    selectors: tuple[Selector, ...] = ()
    blocks: tuple[Block, ...] = ()
    unknown: str = ""


@dataclass(frozen=True)
class PortSpan:
    """Ports of a protocol, or those that the target's containers call by a name. Of ICMP: types instead of ports."""

    protocol: Protocol
    first: int = 0
    last: int = LAST_PORT
    name: str = ""

    def covers(self, flow: Flow) -> bool:
        """Whether the flow goes to one of them."""
        if flow.protocol is not self.protocol:
            return False
        if self.name:
            return (self.name, flow.protocol, flow.port) in flow.target.ports
        return self.first <= (flow.icmp_type if flow.protocol is Protocol.ICMP else flow.port) <= self.last


@dataclass(frozen=True)
class Rule:
    """One rule of a policy.

    Attributes:
        path: what it is called by ("knp/web/allow-front/ingress/0").
        peers: None for anybody.
        ports: None for every protocol, ICMP too.
        layer_7: what it allows is judged once more at layer 7.
        hollow: why it allows nothing by its very shape: a reason of `DeadRule`, or "".
    """

    path: str
    direction: Direction
    deny: bool
    peers: Peers | None
    ports: tuple[PortSpan, ...] | None
    layer_7: bool = False
    hollow: str = ""


@dataclass(frozen=True)
class Unit:
    """A policy, or an entry of its `specs`: the pods that it selects, and what it says of their traffic.

    Attributes:
        path: what it is called by ("knp/web/allow-front").
        subject: of pods of the policy's own cluster; it names the cluster, and the namespace where it has one.
        isolates: the directions in which its pods take no more than is allowed.
    """

    policy: Policy
    path: str
    subject: Selector
    rules: tuple[Rule, ...]
    isolates: frozenset[Direction]


@dataclass(frozen=True)
class Standing:
    """All that policies say of one pod in one direction."""

    isolated: bool = False
    denials: tuple[Rule, ...] = ()
    allowances: tuple[Rule, ...] = ()


@dataclass
class UnitIndex:
    """Units by one label that their subjects need, the rarest: so that few are looked at for each pod."""

    units: tuple[Unit, ...]
    identities: Identities
    _anchored: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    _loose: list[int] = field(default_factory=list)
    _standings: dict[int, tuple[Endpoint, Mapping[Direction, Standing]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        popularity = Counter(pair for unit in self.units for pairs in _needed(unit.subject) for pair in pairs)
        for number, unit in enumerate(self.units):
            needed = min(_needed(unit.subject), key=lambda pairs: sum(map(popularity.__getitem__, pairs)), default=None)
            if needed is None:
                self._loose.append(number)
            for pair in needed or ():
                self._anchored.setdefault(pair, []).append(number)

    def of(self, pod: Endpoint) -> tuple[Unit, ...]:
        """The units that select a pod, in order."""
        labels = self.identities.of_pod(pod)
        near = {number for pair in labels.items() for number in self._anchored.get(pair, ())}
        return tuple(
            self.units[number]
            for number in sorted(near.union(self._loose))
            if matches(self.units[number].subject, labels)
        )

    def standing(self, pod: Endpoint, direction: Direction) -> Standing:
        """What all policies together say of a pod."""
        known = self._standings.get(id(pod))
        if known is None or known[0] is not pod:
            units = self.of(pod)
            known = self._standings[id(pod)] = (pod, {each: _standing(units, each) for each in Direction})
        return known[1][direction]


@dataclass(frozen=True)
class Matcher:
    """Whether rules speak of a flow.

    Attributes:
        blocks_mean_pods: whether a block of addresses means pods that have their address in it.
        blocks_mean_nodes: likewise for nodes.
    """

    identities: Identities
    blocks_mean_pods: bool
    blocks_mean_nodes: bool

    def first(self, rules: Iterable[Rule], flow: Flow, direction: Direction) -> Rule | None:
        """The first rule that speaks of the flow."""
        peer, policed = (flow.source, flow.target) if direction is Direction.INGRESS else (flow.target, flow.source)
        labels = self.identities.of(peer, policed)
        for rule in rules:
            if rule.ports is not None and not any(span.covers(flow) for span in rule.ports):
                continue
            if rule.peers is None or self._means(rule.peers, peer, labels):
                return rule
        return None

    def _means(self, peers: Peers, peer: Endpoint, labels: Mapping[str, str]) -> bool:
        if any(matches(selector, labels) for selector in peers.selectors):
            return True
        return self._by_address(peer) and any(block.holds(peer.address) for block in peers.blocks)

    def _by_address(self, peer: Endpoint) -> bool:
        if peer.kind.value == "pod":
            return self.blocks_mean_pods
        return peer.kind.value == "external" or self.blocks_mean_nodes


Refusals: TypeAlias = tuple[tuple[Policy, str], ...]
"""Policies that no API would have taken, and why: they decide nothing."""


def read_units(
    policies: Iterable[Policy], read: Callable[[Policy], Iterable[Unit]]
) -> tuple[tuple[Unit, ...], Refusals]:
    """Policies as rules, and those that cannot be read as such."""
    units: list[Unit] = []
    refused: list[tuple[Policy, str]] = []
    for policy in policies:
        try:
            units += tuple(read(policy))
        except KeyError as error:
            refused.append((policy, f"a field {error} is missing"))
        except (ValueError, TypeError, AttributeError) as error:
            refused.append((policy, str(error)))
    return tuple(units), tuple(refused)


@lru_cache(maxsize=4096)
def network(text: str) -> IPv4Network | IPv6Network:
    """A CIDR, its host bits ignored as the engines do; an address alone is one of full length."""
    return ip_network(text, strict=False)


def span(protocol: Protocol, port: object, end: object = None) -> PortSpan:
    """Ports as rules write them: a number, perhaps with an end, or a name; None and 0 for all of them."""
    text = "" if port is None else str(port)
    if text in ("", "0"):
        return PortSpan(protocol)
    if not text.isdecimal():
        return PortSpan(protocol, name=text)
    first = int(text)
    return PortSpan(protocol, first, int(str(end)) if end else first)


def _needed(subject: Selector) -> list[list[tuple[str, str]]]:
    """For every label that must have one of some values: those pairs."""
    return [
        [(requirement.key, value) for value in requirement.values]
        for requirement in subject
        if requirement.operator is Operator.IN
    ]


def _standing(units: Iterable[Unit], direction: Direction) -> Standing:
    units = tuple(units)
    rules = [rule for unit in units for rule in unit.rules if rule.direction is direction]
    return Standing(
        isolated=any(direction in unit.isolates for unit in units),
        denials=tuple(rule for rule in rules if rule.deny),
        allowances=tuple(rule for rule in rules if not rule.deny),
    )
