"""Sets of flows and what rules let in, against an oracle that asks for one packet at a time."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.facts import SecurityGroup, SecurityRule
from analysis.flows import (
    ANYWHERE,
    EVERYTHING,
    ICMP,
    IPIP,
    NOTHING,
    TCP,
    UDP,
    Box,
    Flows,
    flows,
    icmp_detail,
    networks_of,
    union,
)
from analysis.security import Part, decide, flows_of

# A small world, in which every packet can be tried: addresses, protocols and ports at the edges of what rules speak of.
ADDRESSES = [int(IPv4Address("10.0.0.0")) + offset for offset in (0, 1, 3, 4, 7, 8, 15, 16)] + [0]
PORTS = [0, 3, 4, 5, 22, 65535]
ICMP_KINDS = [(3, 0), (3, 4), (8, 0), (8, 1)]
PACKETS = [
    (source, protocol, detail)
    for source in ADDRESSES
    for protocol, details in (
        (TCP, PORTS),
        (UDP, PORTS),
        (IPIP, [0]),
        (ICMP, [kind * 256 + code for kind, code in ICMP_KINDS]),
    )
    for detail in details
]
Packet = tuple[int, int, int]

A_FEW = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))

networks = st.sampled_from(
    [
        *(IPv4Network(text) for text in ("0.0.0.0/0", "10.0.0.0/28", "10.0.0.0/29", "10.0.0.8/29", "10.0.0.4/30")),
        *(IPv4Network((address, 32)) for address in ADDRESSES[:4]),
    ]
)
sources = st.lists(networks, min_size=1, max_size=3).map(tuple)
spans = st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS)).map(lambda span: (min(span), max(span)))


@st.composite
def rules(draw: st.DrawFn, *, azure: bool) -> SecurityRule:
    protocol = draw(st.sampled_from([None, TCP, UDP, ICMP, IPIP]))
    ports = draw(st.none() | spans) if protocol in (None, TCP, UDP) else None
    icmp = (
        draw(st.none() | st.tuples(st.sampled_from([3, 8]), st.sampled_from([None, 0, 4])))
        if protocol == ICMP
        else None
    )
    return SecurityRule(
        "rule",
        draw(st.booleans()) if azure else True,
        protocol,
        draw(sources),
        ports=ports,
        icmp=icmp,
        priority=draw(st.integers(100, 65000)) if azure else None,
    )


def groups(*, azure: bool) -> st.SearchStrategy[SecurityGroup]:
    ordered = st.lists(rules(azure=azure), min_size=1, max_size=5, unique_by=(lambda r: r.priority) if azure else None)
    return ordered.map(lambda chosen: SecurityGroup("r", "g", tuple(chosen)))


@st.composite
def flow_sets(draw: st.DrawFn) -> Flows:
    return union(map(flows_of, draw(st.lists(rules(azure=False), max_size=2))))


def holds(found: Flows, packet: Packet) -> bool:
    return any(
        all(first <= number <= last for number, (first, last) in zip(packet, box.sides, strict=True))
        for box in found.boxes
    )


def matches(rule: SecurityRule, packet: Packet) -> bool:
    """As a packet filter would look at it, in plain words."""
    source, protocol, detail = packet
    if not any(IPv4Address(source) in network for network in rule.sources):
        return False
    if rule.protocol is not None and rule.protocol != protocol:
        return False
    if rule.ports is not None:
        return protocol in (TCP, UDP) and rule.ports[0] <= detail <= rule.ports[1]
    if rule.icmp is not None:
        kind, code = divmod(detail, 256)
        return kind == rule.icmp[0] and rule.icmp[1] in (None, code)
    return True


def one_group_lets_in(group: SecurityGroup, packet: Packet) -> bool:
    ordered = sorted(group.rules, key=lambda rule: rule.priority or 0)
    return next((rule.allow for rule in ordered if matches(rule, packet)), False)


def let_in(parts: list[Part]) -> Flows:
    return union(part.flows for part in parts if part.allowed)


@A_FEW
@given(groups(azure=True))
def test_priorities_decide_as_for_single_packets(group: SecurityGroup) -> None:
    admitted = let_in(decide([group], EVERYTHING))
    for packet in PACKETS:
        assert holds(admitted, packet) is one_group_lets_in(group, packet)


@A_FEW
@given(st.lists(groups(azure=False), min_size=1, max_size=3))
def test_rules_that_only_let_in_all_count(found: list[SecurityGroup]) -> None:
    admitted = let_in(decide(found, EVERYTHING))
    for packet in PACKETS:
        assert holds(admitted, packet) is any(one_group_lets_in(group, packet) for group in found)


@A_FEW
@given(groups(azure=True), groups(azure=True))
def test_of_several_groups_with_priorities_each_must_let_in(one: SecurityGroup, other: SecurityGroup) -> None:
    admitted = let_in(decide([one, other], EVERYTHING))
    for packet in PACKETS:
        assert holds(admitted, packet) is (one_group_lets_in(one, packet) and one_group_lets_in(other, packet))


@A_FEW
@given(groups(azure=True), flow_sets())
def test_every_flow_is_decided_about_once_and_by_the_rule_that_is_named(group: SecurityGroup, wanted: Flows) -> None:
    parts = decide([group], wanted)
    ordered = sorted(group.rules, key=lambda rule: rule.priority or 0)
    for packet in PACKETS:
        deciding = [part for part in parts if holds(part.flows, packet)]
        assert len(deciding) == holds(wanted, packet)
        for part in deciding:
            assert part.rule == next((rule for rule in ordered if matches(rule, packet)), None)


@A_FEW
@given(flow_sets(), flow_sets())
def test_sets_combine_as_sets_do(a: Flows, b: Flows) -> None:
    for packet in PACKETS:
        in_a, in_b = holds(a, packet), holds(b, packet)
        assert holds(a | b, packet) is (in_a or in_b)
        assert holds(a & b, packet) is (in_a and in_b)
        assert holds(a - b, packet) is (in_a and not in_b)


@A_FEW
@given(flow_sets(), flow_sets())
def test_nothing_is_counted_twice_and_nothing_gets_lost(a: Flows, b: Flows) -> None:
    """By the number of flows, so that no part of the world is left untried."""
    assert size(a | b) == size(a) + size(b) - size(a & b)
    assert size(a - b) == size(a) - size(a & b)
    assert not (a - a)
    assert not (a - (a | b))


def size(found: Flows) -> int:
    total = 0
    for box in found.boxes:
        volume = 1
        for first, last in box.sides:
            volume *= last - first + 1
        total += volume
    return total


def test_a_hole_in_the_middle_leaves_what_is_around_it() -> None:
    around = list(Box((0, 9), (0, 9), (0, 9)).without(Box((4, 5), (4, 5), (4, 5))))
    assert len(around) == 6
    assert size(Flows(tuple(around))) == 1000 - 8


@A_FEW
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)).map(lambda run: (run[0], run[0] + run[1]))))
def test_runs_of_addresses_become_the_networks_that_hold_just_them(runs: list[tuple[int, int]]) -> None:
    held = sorted(int(address) for network in networks_of(runs) for address in network)
    assert held == sorted({number for first, last in runs for number in range(first, last + 1)})


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (NOTHING, "nothing"),
        (EVERYTHING, "everything from 0.0.0.0/0"),
        (flows([IPv4Network("10.0.0.0/24")], TCP, (179, 179)), "TCP 179 from 10.0.0.0/24"),
        (
            flows([IPv4Network("10.0.0.0/25"), IPv4Network("10.0.0.128/25")], IPIP),
            "IP-in-IP (protocol 4) from 10.0.0.0/24",
        ),
        (flows([ANYWHERE], ICMP, icmp_detail(3, 4)), "ICMP type 3 code 4 from 0.0.0.0/0"),
        (flows([ANYWHERE], ICMP, icmp_detail(8, None)), "ICMP type 8 from 0.0.0.0/0"),
        (flows([ANYWHERE], UDP, (4789, 4790)), "UDP 4789-4790 from 0.0.0.0/0"),
        (
            flows([IPv4Network("10.0.0.0/24")], TCP, (22, 22)) | flows([IPv4Network("10.0.0.0/24")], TCP, (6443, 6443)),
            "TCP 22 and TCP 6443 from 10.0.0.0/24",
        ),
        (flows([IPv4Network("10.0.0.0/24")], 50), "IP protocol 50 from 10.0.0.0/24"),
        (EVERYTHING - flows([ANYWHERE], 4), "IP protocols 0 to 3 and IP protocols 5 to 255 from 0.0.0.0/0"),
    ],
)
def test_sets_are_told_in_the_words_of_engineers(found: Flows, words: str) -> None:
    assert str(found) == words


def test_ports_without_a_protocol_are_those_of_tcp_and_udp() -> None:
    rule = SecurityRule("any", True, None, (ANYWHERE,), ports=(22, 22))
    assert str(flows_of(rule)) == "TCP 22 and UDP 22 from 0.0.0.0/0"
