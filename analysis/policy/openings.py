"""The whole-set question: do the policies together open exactly what was meant, and nothing else?

A verdict can change only at a port that some rule names or some container calls its own. Between two such edges it is
the same for every port, so one flow for each stretch tells of all 65,535.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from analysis.plan import DATABASE, PolicyPlan
from analysis.policy.decide import Evaluator
from analysis.policy.model import Decision, Endpoint, EndpointKind, Flow, Protocol, World

Span: TypeAlias = tuple[int, int]
"""First and last of a run of ports, both included."""

Concerns: TypeAlias = Callable[[str | None, str | None], bool]
"""Of the roles of a flow's ends, whether it is asked about; None is the role of a stranger."""

ALL_PORTS: Span = (1, 65535)
DNS_PORT = 53
_DNS_LABEL = "k8s-app"
_PORT_KEYS = {"port", "endPort", "ports", "notPorts", "number", "start", "end", "portNumber", "destinationPort"}
_ABOUT_ADDRESSES = ('"nets"', '"notNets"', '"ipBlock"', '"services"', "CIDR", '"networks"')
_WITH_PORTS = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)


@dataclass(frozen=True)
class Opening:
    """All that gets from one endpoint to another.

    Attributes:
        ranges: protocol, first and last port of what is open, in order; ICMP (echo) has port 0.
    """

    source: Endpoint
    target: Endpoint
    ranges: tuple[tuple[Protocol, int, int], ...]

    def is_open(self, protocol: Protocol, port: int) -> bool:
        """Whether a flow to that port gets through."""
        return any(each is protocol and first <= port <= last for each, first, last in self.ranges)


@dataclass(frozen=True)
class Deviation:
    """Ports between two pods that are not as they were meant.

    Attributes:
        protocol: of the ports from `first` to `last`.
        intended: they were meant to be open, and are closed; else they are open and were not meant to be.
        decider: the rule that closes them, or that opens them at the target's end.
    """

    source: Endpoint
    target: Endpoint
    protocol: Protocol
    first: int
    last: int
    intended: bool
    decider: str


def openings(evaluator: Evaluator, sources: Iterable[Endpoint], targets: Iterable[Endpoint]) -> tuple[Opening, ...]:
    """What is open from every source to every target but itself."""
    edges = port_edges(evaluator.world)
    ends = list(targets)
    return tuple(
        Opening(source, target, tuple(_open(evaluator, source, target, edges)))
        for source in sources
        for target in ends
        if source is not target
    )


def with_database(source: str | None, target: str | None) -> bool:
    """Whether one of two roles is the database's."""
    return DATABASE in (source, target)


def deviations(evaluator: Evaluator, intent: PolicyPlan, concerns: Concerns = with_database) -> tuple[Deviation, ...]:
    """Everything that is not as meant between the world's pods, of roles that `concerns` picks.

    Every role may ask the DNS of its own cluster, and whether it may ask that of others is not spoken of; pods without
    a role may do nothing with the database. Of pods that neither policies nor the intent tell apart two stand for all.
    """
    pods = _examples(evaluator.world, {role.key for role in intent.roles})
    edges = port_edges(evaluator.world, {port for flow in intent.allow for port in flow.ports} | {DNS_PORT})
    roles = {id(pod): role_of(pod, intent) for pod in pods}
    return tuple(
        deviation
        for source in pods
        for target in pods
        if source is not target and concerns(roles[id(source)], roles[id(target)])
        for deviation in _deviations(evaluator, source, target, meant(source, target, intent), edges)
        if not _asks_dns_abroad(deviation)
    )


def role_of(endpoint: Endpoint, intent: PolicyPlan) -> str | None:
    """The role whose label the pod wears; None for a stranger."""
    return next((role.name for role in intent.roles if endpoint.labels.get(role.key) == role.value), None)


def is_dns(endpoint: Endpoint) -> bool:
    """Whether the pod is a DNS server of its cluster."""
    return endpoint.labels.get(_DNS_LABEL) == "kube-dns"


def meant(source: Endpoint, target: Endpoint, intent: PolicyPlan) -> frozenset[tuple[Protocol, int]]:
    """What was meant to be open between two pods. `Endpoint.cluster` must be the region's name."""
    role, other = role_of(source, intent), role_of(target, intent)
    if role and is_dns(target) and source.cluster == target.cluster:
        return frozenset({(Protocol.UDP, DNS_PORT), (Protocol.TCP, DNS_PORT)})
    if role is None or other is None:
        return frozenset()
    ports = intent.ports((role, source.cluster), (other, target.cluster))
    return frozenset((Protocol.TCP, port) for port in ports)


def port_edges(world: World, more: Iterable[int] = ()) -> tuple[Span, ...]:
    """All ports, cut into stretches within which every verdict is the same.

    Args:
        world: whose rules, containers and services name ports.
        more: ports that are to stand by themselves too.
    """
    spans = {(port, port) for port in more}
    spans |= {(number, number) for endpoint in world.endpoints for _, _, number in endpoint.ports}
    spans |= {(number, number) for service in world.services for *_, number in service.backends}
    for policy in world.policies:
        for spec in policy.specs:
            spans.update(_named_ports(spec, ""))
    lowest, highest = ALL_PORTS
    starts = {lowest, highest + 1}
    for first, last in spans:
        starts |= {first, last + 1}
    return tuple(
        (first, after - 1) for first, after in pairwise(sorted(s for s in starts if lowest <= s <= highest + 1))
    )


def _asks_dns_abroad(deviation: Deviation) -> bool:
    abroad = is_dns(deviation.target) and deviation.source.cluster != deviation.target.cluster
    asks = deviation.protocol in (Protocol.UDP, Protocol.TCP) and deviation.first == deviation.last == DNS_PORT
    return abroad and asks


def _examples(world: World, told_by: Collection[str]) -> list[Endpoint]:
    """Pods, of each sort that policies can tell apart no more than two: one may talk to the other."""
    said = json.dumps([policy.specs for policy in world.policies], default=str)
    by_address = world.network_sets or world.services or any(word in said for word in _ABOUT_ADDRESSES)
    sorts: dict[object, list[Endpoint]] = {}
    for pod in world.endpoints:
        if pod.kind is EndpointKind.POD:
            labels = frozenset(
                (key, value) for key, value in pod.labels.items() if key in said or key in told_by or key == _DNS_LABEL
            )
            sort = pod.cluster, pod.namespace, pod.service_account, pod.ports, labels
            sorts.setdefault((pod.address, sort) if by_address else sort, []).append(pod)
    return [pod for alike in sorts.values() for pod in alike[:2]]


def _open(
    evaluator: Evaluator, source: Endpoint, target: Endpoint, edges: tuple[Span, ...]
) -> Iterator[tuple[Protocol, int, int]]:
    for protocol, spans in _stretches(edges):
        run: Span | None = None
        for first, last in spans:
            if evaluator.decide(Flow(source, target, protocol, first)).allowed:
                run = (run[0] if run else first, last)
            elif run:
                yield protocol, *run
                run = None
        if run:
            yield protocol, *run


def _deviations(
    evaluator: Evaluator,
    source: Endpoint,
    target: Endpoint,
    wanted: frozenset[tuple[Protocol, int]],
    edges: tuple[Span, ...],
) -> Iterator[Deviation]:
    for protocol, spans in _stretches(edges):
        run: Deviation | None = None
        for first, last in spans:
            decision = evaluator.decide(Flow(source, target, protocol, first))
            intended = (protocol, first) in wanted
            if decision.allowed is intended:
                found = None
            else:
                found = Deviation(source, target, protocol, first, last, intended, _decider(decision))
            if run and found and (run.intended, run.decider) == (found.intended, found.decider):
                run = Deviation(source, target, protocol, run.first, last, intended, run.decider)
                continue
            if run:
                yield run
            run = found
        if run:
            yield run


def _decider(decision: Decision) -> str:
    """The end that is policed says more than the one that is not."""
    if decision.allowed and "/" not in decision.ingress.decider and "/" in decision.egress.decider:
        return decision.egress.decider
    return decision.decider


def _stretches(edges: tuple[Span, ...]) -> Iterator[tuple[Protocol, tuple[Span, ...]]]:
    yield from ((protocol, edges) for protocol in _WITH_PORTS)
    yield Protocol.ICMP, ((0, 0),)


def _named_ports(value: Any, key: str) -> Iterator[Span]:
    """Every port and range that a policy's document names, whatever product it is for: a superset does no harm."""
    if isinstance(value, Mapping):
        if "port" in value and value.get("endPort") is not None:
            yield from _span(f"{value['port']}:{value['endPort']}")
        if "start" in value and "end" in value:
            yield from _span(f"{value['start']}:{value['end']}")
        for name, inner in value.items():
            yield from _named_ports(inner, name)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _named_ports(inner, key)
    elif key in _PORT_KEYS:
        yield from _span(str(value))


def _span(text: str) -> Iterator[Span]:
    first, _, last = text.partition(":")
    if first.isdecimal() and (last or first).isdecimal():
        yield int(first), int(last or first)
