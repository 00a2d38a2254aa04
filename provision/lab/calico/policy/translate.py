"""From policies and what is known of endpoints to the rules of a pod, with addresses in the place of selectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from provision.lab.calico.policy.objects import NetworkSet, Policy, PolicyRule, Port, Side, Tier, Verb
from provision.lab.policy.rules import Action, Chain, Match, PolicedPod, Rule

_ACTIONS = {Verb.ALLOW: Action.ACCEPT, Verb.DENY: Action.DROP, Verb.PASS: Action.PASS}
_MOST_PORT = (1 << 16) - 1


@dataclass(frozen=True)
class Known:
    """An endpoint or a network set: what selectors of rules choose among.

    Attributes:
        labels: its own and those that it inherits.
        ports: name, protocol ("tcp") and number of its containers' ports.
    """

    nets: tuple[IPv4Network, ...]
    labels: Mapping[str, str]
    ports: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True)
class LocalPod:
    """A pod of the own cluster: policies select it, and its node polices it."""

    node: str
    device: str
    address: IPv4Address
    known: Known


class Translation:
    """What a cluster's policies come to, pod by pod.

    Args:
        tiers: every tier that there is, by name.
        policies: of all kinds.
        known: endpoints of this cluster and of others, and network sets.
    """

    def __init__(self, tiers: Mapping[str, Tier], policies: Iterable[Policy], known: Sequence[Known]) -> None:
        self._known = known
        self._chosen: dict[int, frozenset[IPv4Network]] = {}
        by_tier: dict[str, list[Policy]] = {}
        for policy in policies:
            by_tier.setdefault(policy.tier, []).append(policy)
        # A tier that does not exist comes after all others, and drops.
        found = [tiers.get(name) or Tier(name, float("inf")) for name in by_tier]
        self._tiers = [
            (tier, sorted(by_tier[tier.name], key=lambda policy: (policy.place, policy.path)))
            for tier in sorted(found, key=lambda tier: (tier.name not in tiers, tier.order, tier.name))
        ]

    def pod(self, pod: LocalPod) -> PolicedPod:
        """The rules of a pod."""
        selecting = [
            (tier, [policy for policy in policies if policy.selects(pod.known.labels)])
            for tier, policies in self._tiers
        ]
        ingress = [(tier, [(each.path, each.ingress) for each in policies]) for tier, policies in selecting]
        egress = [(tier, [(each.path, each.egress) for each in policies]) for tier, policies in selecting]
        return PolicedPod(pod.device, pod.address, self._chain(pod, ingress), self._chain(pod, egress, outwards=True))

    def _chain(
        self,
        pod: LocalPod,
        tiers: list[tuple[Tier, list[tuple[str, tuple[PolicyRule, ...] | None]]]],
        *,
        outwards: bool = False,
    ) -> Chain | None:
        chain: Chain | None = None
        for tier, policies in reversed(tiers):
            speaking = [(path, rules) for path, rules in policies if rules is not None]
            if not speaking:
                continue
            side = "egress" if outwards else "ingress"
            rules = tuple(
                Rule(_ACTIONS[rule.verb], match, f"{path}/{side}/{index}")
                for path, listed in speaking
                for index, rule in enumerate(listed)
                if rule.verb is not Verb.LOG
                for match in self._matches(rule, pod, outwards=outwards)
            )
            chain = Chain(rules, Action.DROP if tier.drops else Action.PASS, chain)
        return chain

    def _matches(self, rule: PolicyRule, pod: LocalPod, *, outwards: bool) -> Iterator[Match]:
        """What the rule comes to for this pod; nothing where its own side is about others."""
        own, other = (rule.source, rule.target) if outwards else (rule.target, rule.source)
        if not _is_about(own, pod):
            return
        peers = self._peers(other)
        left_out = other.not_nets | (self._all_of(other.not_known) if other.not_known else frozenset())
        source_ports = _numbers(rule.source.ports) if rule.source.ports is not None else None
        if rule.source.not_ports:
            allowed = _complement(_numbers(rule.source.not_ports))
            source_ports = allowed if source_ports is None else _common(source_ports, allowed)
        not_ports = _numbers(rule.target.not_ports)
        kind, code = rule.icmp

        def match(
            ports: tuple[tuple[int, int], ...] | None, peers: frozenset[IPv4Network] | None, protocol: str | None
        ) -> Match:
            return Match(
                peers=peers,
                not_peers=left_out,
                protocol=protocol,
                not_protocol=rule.not_protocol,
                ports=ports,
                not_ports=not_ports,
                source_ports=source_ports,
                icmp_type=kind,
                icmp_code=code,
            )

        if rule.target.ports is None:
            yield match(None, peers, rule.protocol)
            return
        if numbers := _numbers(rule.target.ports):
            yield match(numbers, peers, rule.protocol)
        names = {port for port in rule.target.ports if isinstance(port, str)}
        if names and outwards:
            for (protocol, number), nets in self._named(names, other).items():
                if rule.protocol in (None, protocol):
                    yield match(((number, number),), _both(nets, peers), protocol)
        elif names:
            for name, protocol, number in pod.known.ports:
                if name in names and rule.protocol in (None, protocol):
                    yield match(((number, number),), peers, protocol)

    def _peers(self, side: Side) -> frozenset[IPv4Network] | None:
        return side.nets if side.known is None else _both(self._all_of(side.known), side.nets)

    def _all_of(self, term: object) -> frozenset[IPv4Network]:
        """The addresses of what a predicate chooses; each is asked once."""
        if id(term) not in self._chosen:
            assert callable(term)
            self._chosen[id(term)] = frozenset(net for each in self._known if term(each.labels) for net in each.nets)
        return self._chosen[id(term)]

    def _named(self, names: set[str], side: Side) -> dict[tuple[str, int], frozenset[IPv4Network]]:
        """Who has ports of these names, by protocol and number."""
        found: dict[tuple[str, int], frozenset[IPv4Network]] = {}
        for each in self._known:
            if side.known is None or side.known(each.labels):
                for name, protocol, number in each.ports:
                    if name in names:
                        key = (protocol, number)
                        found[key] = found.get(key, frozenset()) | frozenset(each.nets)
        return found


def known_set(found: NetworkSet, namespace_labels: Mapping[str, str]) -> Known:
    """A network set as rules see it, with what it inherits from its namespace if it has one."""
    return Known(found.nets, {**namespace_labels, **found.labels})


def _is_about(side: Side, pod: LocalPod) -> bool:
    """Whether what a rule says of the policed end holds for that pod."""
    labels = pod.known.labels
    return (
        (side.known is None or side.known(labels))
        and not (side.not_known is not None and side.not_known(labels))
        and (side.nets is None or any(pod.address in net for net in side.nets))
        and not any(pod.address in net for net in side.not_nets)
    )


def _both(a: frozenset[IPv4Network] | None, b: frozenset[IPv4Network] | None) -> frozenset[IPv4Network] | None:
    """Addresses in both; None stands for all."""
    if a is None or b is None:
        return b if a is None else a
    return frozenset(
        inner for one in a for two in b for inner, outer in ((one, two), (two, one)) if inner.subnet_of(outer)
    )


def _numbers(ports: Iterable[Port] | None) -> tuple[tuple[int, int], ...]:
    return tuple(port for port in ports or () if not isinstance(port, str))


def _complement(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    found, begin = [], 0
    for first, last in sorted(ranges):
        if begin < first:
            found.append((begin, first - 1))
        begin = max(begin, last + 1)
    return (*found, (begin, _MOST_PORT)) if begin <= _MOST_PORT else tuple(found)


def _common(one: tuple[tuple[int, int], ...], two: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    return tuple((max(a, c), min(b, d)) for a, b in one for c, d in two if max(a, c) <= min(b, d))
