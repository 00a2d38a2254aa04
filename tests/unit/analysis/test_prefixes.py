"""Longest match and overlaps agree with their definitions."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from analysis.addressing import spare_block
from analysis.facts import Addressing, Block
from analysis.prefixes import PrefixTable, overlaps
from provision.lab.topology import aws_calico

# A small space, so that prefixes really nest and collide.
networks = st.builds(
    lambda base, length: IPv4Network((0x0A000000 | base << 16 | base, length), strict=False),
    st.integers(0, 255),
    st.integers(8, 32),
)


@given(st.lists(networks, max_size=30), networks)
def test_longest_match_is_the_most_specific_that_holds_all_of_it(entries, wanted):
    table = PrefixTable((entry, entry) for entry in entries)
    holding = [entry for entry in entries if wanted.subnet_of(entry)]
    found = table.longest(wanted)
    if not holding:
        assert not found
    else:
        best = max(holding, key=lambda entry: entry.prefixlen)
        assert list(found) == [entry for entry in entries if entry == best]


@given(st.lists(networks, max_size=30))
def test_overlaps_are_all_pairs_that_share_an_address(entries):
    labelled = list(enumerate(entries))
    expected = {frozenset((a, b)) for (a, first), (b, second) in combinations(labelled, 2) if first.overlaps(second)}
    found = overlaps((entry, label) for label, entry in labelled)
    assert {frozenset((a, b)) for (_, a), (_, b) in found} == expected
    assert all(narrow.subnet_of(wide) for (wide, _), (narrow, _) in found)


def test_addresses_can_be_looked_up_too():
    table = PrefixTable([(IPv4Network("10.0.0.0/8"), "wide"), (IPv4Network("10.1.0.0/16"), "narrow")])
    assert table.longest(IPv4Address("10.1.2.3")) == ["narrow"]
    assert table.longest(IPv4Address("10.2.2.3")) == ["wide"]
    assert not table.longest(IPv4Address("11.0.0.1"))


def test_a_prefix_may_have_several_values():
    table = PrefixTable([(IPv4Network("10.0.0.0/8"), "a"), (IPv4Network("10.0.0.0/8"), "b")])
    assert table.exact(IPv4Network("10.0.0.0/8")) == ["a", "b"]
    assert not table.exact(IPv4Network("10.0.0.0/9"))


def test_a_spare_block_is_one_that_nobody_has():
    region = aws_calico("demo").plan.regions[0]
    blocks = [
        Block(region.name, IPv4Network("192.168.63.192/26"), "node-2"),
        Block(region.name, IPv4Network("192.168.63.144/28"), "node-3"),
        Block("elsewhere", IPv4Network("192.168.63.0/25"), None),
    ]
    assert spare_block(region, Addressing((), ())) == IPv4Network("192.168.63.192/26")
    assert spare_block(region, Addressing((), tuple(blocks))) == IPv4Network("192.168.62.192/26")
    assert spare_block(region, Addressing((), (Block(region.name, region.pod_cidr, "node-2"),))) is None
