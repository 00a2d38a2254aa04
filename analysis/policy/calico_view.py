"""What Calico knows in one cluster: endpoints and network sets with their labels, and its policies in their order.

A policy selects endpoints of its own cluster. Its rules also know network sets, and the endpoints of other clusters
where clusters are federated. A packet matches a selector by its address: through whoever is known to have it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from ipaddress import IPv4Address
from math import inf
from typing import TypeAlias

from analysis.policy.calico_convert import TIERS, convert_cluster_policy, convert_network_policy
from analysis.policy.calico_rules import DEFAULT_TIER, CalicoPolicy, Rule, Side, protocol_bit, read_policy
from analysis.policy.endpoint_labels import is_selectable, network_set_labels, pod_labels
from analysis.policy.label_index import LabelIndex, bits, numbers_of
from analysis.policy.model import (
    Direction,
    Endpoint,
    Flow,
    HostEndpoint,
    NetworkSet,
    Policy,
    PolicyKind,
    Protocol,
    Service,
    World,
)
from analysis.policy.nets import addresses

Known: TypeAlias = Endpoint | HostEndpoint | NetworkSet

_OWN_KINDS = {PolicyKind.GLOBAL_NETWORK_POLICY, PolicyKind.NETWORK_POLICY, PolicyKind.STAGED_GLOBAL_NETWORK_POLICY}
_BUILT_IN_TIERS = {
    TIERS["Admin"]: (1_000.0, False),
    DEFAULT_TIER: (1_000_000.0, True),
    TIERS["Baseline"]: (10_000_000.0, False),
}
"""Order, and whether the end of the tier drops."""

_IPV4 = 4


class Stage(Enum):
    """Where policies of a tier act. Host endpoints have three places before or beside the normal one."""

    NORMAL = "normal"
    FORWARDED = "forwarded"
    UNTRACKED = "untracked"
    PRE_DNAT = "pre-dnat"


@dataclass(frozen=True)
class TierPolicies:
    """A tier with its policies, in the order in which they are asked.

    Attributes:
        drops: its end drops what none of its policies decided.
    """

    name: str
    drops: bool
    policies: tuple[CalicoPolicy, ...]


class ClusterView:
    """One cluster's policies, and everything that gives them their meaning.

    Attributes:
        cluster: its name.
        known: every endpoint and network set that selectors of rules can match.
        abroad: the pods of other clusters, known or not.
        index: the labels of what is known, by its place in `known`.
        tiers: those that have policies.
        refused: policies that the API would not take, each with the reason.
    """

    def __init__(self, world: World, cluster: str) -> None:
        self.cluster = cluster
        self._world = world
        federated = world.options.federation
        pods = [each for each in world.endpoints if is_selectable(each) and (federated or each.cluster == cluster)]
        self.abroad = tuple(each for each in world.endpoints if is_selectable(each) and each.cluster != cluster)
        hosts = [each for each in world.host_endpoints if federated or each.cluster == cluster]
        sets = [each for each in world.network_sets if each.cluster == cluster]
        self.known: tuple[Known, ...] = (*pods, *hosts, *sets)
        self.index = LabelIndex(
            [
                *(pod_labels(each, world) for each in pods),
                *(each.labels for each in hosts),
                *(network_set_labels(each, world) for each in sets),
            ]
        )
        self._numbers = {_key(each): number for number, each in enumerate(self.known)}
        first_set = len(pods) + len(hosts)
        self._local = bits(number for number, each in enumerate(self.known[:first_set]) if each.cluster == cluster)
        self._by_address: defaultdict[IPv4Address, list[int]] = defaultdict(list)
        for number, each in enumerate(self.known[:first_set]):
            if isinstance(each, Endpoint):
                self._by_address[each.address].append(number)
            elif isinstance(each, HostEndpoint):
                for address in each.addresses:
                    self._by_address[address].append(number)
        self._sets = [(addresses(each.nets), number) for number, each in enumerate(sets, first_set)]
        self._at: dict[IPv4Address, int] = {}
        self._services: Mapping[tuple[str, str], Service] = {
            (each.namespace, each.name): each for each in world.services if each.cluster == cluster
        }
        self.refused: list[tuple[Policy, str]] = []
        self.tiers = _tiers(world, cluster, list(self._read(world.policies)))
        self._standing: dict[tuple[int, Direction, Stage], list[tuple[TierPolicies, list[CalicoPolicy]]]] = {}

    def _read(self, policies: Iterable[Policy]) -> Iterator[CalicoPolicy]:
        for policy in policies:
            if policy.cluster == self.cluster:
                try:
                    if policy.kind in _OWN_KINDS:
                        yield read_policy(policy)
                    elif policy.kind is PolicyKind.KUBERNETES_NETWORK_POLICY:
                        yield convert_network_policy(policy)
                    elif policy.kind is PolicyKind.CLUSTER_NETWORK_POLICY:
                        yield convert_cluster_policy(policy)
                except (ValueError, KeyError, TypeError, AttributeError) as error:  # of any shape a document can have
                    reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
                    self.refused.append((policy, reason))

    @cached_property
    def abroad_index(self) -> LabelIndex:
        """The labels of the pods of other clusters, by their place in `abroad`."""
        return LabelIndex([pod_labels(each, self._world) for each in self.abroad])

    def number(self, endpoint: Known) -> int | None:
        """The place of an endpoint in `known`, None for one that policies cannot select."""
        return self._numbers.get(_key(endpoint))

    def selected(self, policy: CalicoPolicy) -> int:
        """The endpoints that a policy selects, as bits."""
        return self.index.select(policy.selector) & self._local

    def at(self, address: IPv4Address) -> int:
        """Who is known to have that address: endpoints, and network sets that it is in; as bits."""
        if address not in self._at:
            sets = (number for nets, number in self._sets if int(address) in nets)
            self._at[address] = bits((*self._by_address.get(address, ()), *sets))
        return self._at[address]

    def with_port(self, name: str, members: int) -> Iterator[tuple[Protocol, int]]:
        """What a port's name means on those of the members that have a port of that name."""
        for number in numbers_of(members & self._with_port.get(name, 0)):
            each = self.known[number]
            if not isinstance(each, NetworkSet):
                yield from ((protocol, port) for own, protocol, port in each.ports if own == name)

    @cached_property
    def _with_port(self) -> Mapping[str, int]:
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for number, each in enumerate(self.known):
            if not isinstance(each, NetworkSet):
                for name in dict.fromkeys(name for name, _, _ in each.ports):
                    numbers[name].append(number)
        return {name: bits(each) for name, each in numbers.items()}

    def service(self, name: tuple[str, str]) -> Service | None:
        """The service of that namespace and name."""
        return self._services.get(name)

    def standing(
        self, member: int, direction: Direction, stage: Stage
    ) -> list[tuple[TierPolicies, list[CalicoPolicy]]]:
        """The tiers that take part for an endpoint: those with a policy that selects it and has the direction."""
        key = member, direction, stage
        if key not in self._standing:
            policies = [each for each in self._policies_of.get(member, ()) if direction in each.types]
            acting = [each for each in policies if _acts(each, stage)]
            self._standing[key] = [
                (tier, chosen) for tier in self.tiers if (chosen := [each for each in acting if each.tier == tier.name])
            ]
        return self._standing[key]

    @cached_property
    def _policies_of(self) -> Mapping[int, list[CalicoPolicy]]:
        """The policies in force of every endpoint, in order. Staged ones are never programmed."""
        policies: defaultdict[int, list[CalicoPolicy]] = defaultdict(list)
        for tier in self.tiers:
            for policy in tier.policies:
                if not policy.is_staged:
                    for number in numbers_of(self.selected(policy)):
                        policies[number].append(policy)
        return policies

    def matches(self, rule: Rule, flow: Flow) -> bool:
        """Whether a rule matches the first packet of a connection."""
        if not rule.protocols & protocol_bit(flow.protocol) or _IPV4 not in rule.families or rule.ignored:
            return False
        if rule.icmp is not None and flow.icmp_type * 256 + flow.icmp_code not in rule.icmp:
            return False
        return self._side_matches(
            rule.source, flow.source.address, flow.source_port, flow, by_port=False
        ) and self._side_matches(rule.destination, flow.target.address, flow.port, flow, by_port=True)

    def _side_matches(self, side: Side, address: IPv4Address, port: int, flow: Flow, *, by_port: bool) -> bool:
        peer = side.peer
        members = self.at(address)
        if int(address) not in side.nets:
            return False
        if peer.known is not None:
            members &= self.index.select(peer.known)
            if not members:
                return False
        if peer.excluded is not None and members & self.index.select(peer.excluded):
            return False
        if side.service is not None and not self._serves(side.service, address, flow, by_port=by_port):
            return False
        if side.ports is None and not side.not_ports:
            return True
        if flow.protocol is Protocol.ICMP:
            return False
        if port in side.not_ports.numbers or self._is_named(side.not_ports.names, members, flow.protocol, port):
            return False
        if side.ports is None or port in side.ports.numbers:
            return True
        return self._is_named(side.ports.names, members, flow.protocol, port)

    def _is_named(self, names: Iterable[str], members: int, protocol: Protocol, port: int) -> bool:
        return any((protocol, port) in self.with_port(name, members) for name in names)

    def _serves(self, name: tuple[str, str], address: IPv4Address, flow: Flow, *, by_port: bool) -> bool:
        service = self.service(name)
        return service is not None and any(
            own == address and (not by_port or (protocol, port) == (flow.protocol, flow.port))
            for own, protocol, port in service.backends
        )


def _key(known: Known) -> tuple[type[Known], str, str, str]:
    return type(known), known.cluster, "" if isinstance(known, HostEndpoint) else known.namespace, known.name


def _acts(policy: CalicoPolicy, stage: Stage) -> bool:
    match stage:
        case Stage.NORMAL:
            return policy.is_normal
        case Stage.FORWARDED:
            return policy.is_normal and policy.on_forward
        case Stage.UNTRACKED:
            return policy.untracked
        case Stage.PRE_DNAT:
            return policy.pre_dnat


def _tiers(world: World, cluster: str, policies: list[CalicoPolicy]) -> tuple[TierPolicies, ...]:
    """Tiers by order and name. One that there is no object for comes last, and drops."""
    places = {
        each.name: (inf if each.order is None else each.order, each.default_action != "Pass")
        for each in world.tiers
        if each.cluster == cluster
    } | _BUILT_IN_TIERS
    by_tier: defaultdict[str, list[CalicoPolicy]] = defaultdict(list)
    for policy in policies:
        by_tier[policy.tier].append(policy)
    names = sorted(by_tier, key=lambda name: (name not in places, places.get(name, (inf, True))[0], name))
    return tuple(
        TierPolicies(
            name,
            places.get(name, (inf, True))[1],
            tuple(sorted(by_tier[name], key=lambda policy: policy.sort_key)),
        )
        for name in names
    )
