"""From policies, and what the agent knows of addresses, to rules for the pods of its node.

Among the policies that are about a pod, a rule that denies beats every one that allows; apart from that, their order
means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Network

from provision.lab.cilium.policy.known import Known, NamedPorts
from provision.lab.cilium.policy.model import Direction, Entity, Networks, PolicyRule, PolicySpec, Port
from provision.lab.cilium.policy.selectors import Selector
from provision.lab.cilium.state import RESERVED_LABELS, WORLD, Labels
from provision.lab.policy.rules import Action, Chain, Match, PolicedPod, Rule

_WORLD = frozenset({"world", "world-ipv4"})


class Mode(str, Enum):
    """The agent's `enable-policy`."""

    DEFAULT = "default"
    """A direction is closed once a policy speaks of it."""

    ALWAYS = "always"
    """Everything is closed that no policy opens."""

    NEVER = "never"
    """Policies are not enforced."""


@dataclass(frozen=True)
class Settings:
    """What of cilium-config changes the meaning of policies.

    Attributes:
        cluster: the own cluster's name.
        nodes_by_address: rules that name networks mean nodes, too (`policy-cidr-match-mode: nodes`).
    """

    cluster: str
    mode: Mode = Mode.DEFAULT
    nodes_by_address: bool = False

    @classmethod
    def of(cls, cluster: str, settings: Mapping[str, str]) -> Settings:
        """The settings of an agent; in audit mode it enforces nothing either.

        Raises:
            ValueError: the mode is none.
        """
        mode = Mode(settings.get("enable-policy", "default"))
        audits = settings.get("policy-audit-mode") == "true"
        by_address = "nodes" in settings.get("policy-cidr-match-mode", "").split(",")
        return cls(cluster, Mode.NEVER if audits else mode, by_address)


@dataclass(frozen=True)
class LocalPod:
    """A pod of the node.

    Attributes:
        labels: of its identity.
        device: the node's end of its veth pair.
    """

    address: IPv4Address
    labels: Labels
    device: str
    ports: NamedPorts = field(default_factory=dict)


@dataclass(frozen=True)
class _Addresses:
    """Peers of a rule as addresses: any when `within` is None, save `without`."""

    within: frozenset[IPv4Network] | None
    without: frozenset[IPv4Network] = frozenset()


def translate(
    pods: Iterable[LocalPod], policies: Sequence[PolicySpec], known: Known, settings: Settings
) -> tuple[PolicedPod, ...]:
    """The rules of those pods that policy has something to say about."""
    if settings.mode is Mode.NEVER:
        return ()
    writer = _Writer(known, settings)
    found = []
    for pod in pods:
        about = [policy for policy in policies if policy.subject.matches(pod.labels)]
        ingress, egress = (writer.chain(pod, about, direction) for direction in Direction)
        if ingress is not None or egress is not None:
            found.append(PolicedPod(pod.device, pod.address, ingress, egress))
    return tuple(found)


class _Writer:
    """Remembers whom a rule's peers come to: pods of one identity share their policies."""

    def __init__(self, known: Known, settings: Settings) -> None:
        self._known = known
        self._settings = settings
        self._addresses: dict[PolicyRule, tuple[_Addresses, ...]] = {}

    def chain(self, pod: LocalPod, policies: Sequence[PolicySpec], direction: Direction) -> Chain | None:
        rules = [rule for policy in policies for rule in policy.rules if rule.direction is direction]
        closed = self._settings.mode is Mode.ALWAYS or any(direction in policy.isolates for policy in policies)
        if not closed and not rules:
            return None
        written = [self._written(rule, pod) for rule in sorted(rules, key=lambda rule: not rule.deny)]
        return Chain(tuple(each for group in written for each in group), Action.DROP if closed else Action.ACCEPT)

    def _written(self, rule: PolicyRule, pod: LocalPod) -> Iterator[Rule]:
        action = Action.DROP if rule.deny else Action.ACCEPT
        for addresses in self._peers(rule):
            for match in self._matches(rule, pod, addresses):
                yield Rule(action, match, rule.name)

    def _matches(self, rule: PolicyRule, pod: LocalPod, peers: _Addresses) -> Iterator[Match]:
        if rule.icmp_types is not None:
            for number in rule.icmp_types:
                yield Match(peers.within, peers.without, protocol="icmp", icmp_type=number)
        elif rule.ports is None:
            yield Match(peers.within, peers.without)
        else:
            for port in (port for port in rule.ports if port.name):
                yield from self._by_name(port, rule, pod, peers)
            for protocol, ranges in _by_protocol(port for port in rule.ports if not port.name).items():
                yield Match(peers.within, peers.without, protocol=protocol, ports=ranges)

    def _by_name(self, port: Port, rule: PolicyRule, pod: LocalPod, peers: _Addresses) -> Iterator[Match]:
        """A port's name stands for a number at the pod that is called: one without such a port is not meant."""
        key = (port.name, port.protocol)
        if rule.direction is Direction.INGRESS:
            if (number := pod.ports.get(key)) is not None:
                yield Match(peers.within, peers.without, protocol=port.protocol, ports=((number, number),))
            return
        by_number: dict[int, set[IPv4Network]] = {}
        for address, ports in self._known.ports.items():
            network = IPv4Network(address)
            if key in ports and (peers.within is None or network in peers.within) and network not in peers.without:
                by_number.setdefault(ports[key], set()).add(network)
        for number, networks in sorted(by_number.items()):
            yield Match(frozenset(networks), protocol=port.protocol, ports=((number, number),))

    def _peers(self, rule: PolicyRule) -> tuple[_Addresses, ...]:
        if rule not in self._addresses:
            self._addresses[rule] = tuple(self._resolved(rule))
        return self._addresses[rule]

    def _resolved(self, rule: PolicyRule) -> Iterator[_Addresses]:
        if rule.peers is None or Entity("all") in rule.peers:
            yield _Addresses(None)
            return
        identified: set[IPv4Network] = set()
        for peer in rule.peers:
            match peer:
                case Selector():
                    identified |= self._known.selected(peer)
                    if peer.matches(RESERVED_LABELS[WORLD]):
                        yield _Addresses(None, self._known.addresses)
                case Entity(name) if name in _WORLD:
                    yield _Addresses(None, self._known.addresses)
                case Entity(name):
                    identified |= self._known.entity(name, self._settings.cluster)
                case Networks(network, without):
                    nodes = self._known.nodes if self._settings.nodes_by_address else frozenset()
                    identities = {each for each in self._known.addresses - nodes if each.subnet_of(network)}
                    yield _Addresses(frozenset({network}), frozenset({*without, *identities}))
        if identified:
            yield _Addresses(frozenset(identified))


def _by_protocol(ports: Iterable[Port]) -> dict[str, tuple[tuple[int, int], ...] | None]:
    """Ranges of ports for each protocol, None for all of them."""
    found: dict[str, tuple[tuple[int, int], ...] | None] = {}
    for port in ports:
        ranges = found.get(port.protocol, ())
        found[port.protocol] = None if ranges is None or port.first == 0 else (*ranges, (port.first, port.last))
    return found
