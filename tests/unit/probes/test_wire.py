"""Whom marked probes go between, who sends packets made by hand to whom, and which devices take them in."""

from ipaddress import IPv4Address

import pytest

from analysis.plan import Encapsulation
from probes.deploy import ProbePod
from probes.observers import wire


def pods(**sizes):
    """So many pods, each on a node of its own, in each region."""
    return [
        ProbePod(region, f"{region}-{n}", "meshproof", f"probe-{region}-{n}", False, IPv4Address(n), 20257, 20257)
        for region, size in sizes.items()
        for n in range(size)
    ]


def crossed(pairs):
    return {frozenset((pair.source.node, pair.target.node)) for pair in pairs}


def test_every_two_nodes_of_different_regions_are_probed_once():
    everyone = pods(east=4, west=3, north=2)
    pairs = wire.choose_pairs(everyone)
    assert len(pairs) == len(crossed(pairs)) == 4 * 3 + 4 * 2 + 3 * 2
    assert all(pair.source.region != pair.target.region for pair in pairs)


def test_probes_begin_on_both_sides_so_that_one_way_can_be_closed():
    sides = [(pair.source.region, pair.target.region) for pair in wire.choose_pairs(pods(east=4, west=4))]
    assert sides.count(("east", "west")) == sides.count(("west", "east")) == 8


def test_marks_are_unlike_each_other():
    pairs = wire.choose_pairs(pods(east=4, west=3, north=2))
    assert len({pair.mark for pair in pairs}) == len(pairs)


def test_in_a_large_mesh_every_node_takes_part_and_the_number_is_bounded():
    everyone = pods(east=60, west=60, north=60)
    pairs = wire.choose_pairs(everyone)
    assert len(pairs) <= wire.MOST_PAIRS
    assert {node for pair in crossed(pairs) for node in pair} == {pod.node for pod in everyone}


def test_one_region_has_nobody_to_probe():
    assert wire.choose_pairs(pods(east=3)) == []


def test_nodes_send_to_all_others_and_in_large_regions_to_some():
    everyone = pods(east=3, west=2 * wire.MOST_TARGETS)
    aims = wire.aims(everyone[0], everyone)
    assert everyone[0] not in aims
    assert [each.region for each in aims].count("east") == 2
    assert [each.region for each in aims].count("west") == wire.MOST_TARGETS
    assert len(set(aims)) == len(aims)


LINKS = [
    {"name": "eth0", "kind": "", "up": True, "mac": "02:00:00:00:00:01"},
    {"name": "somebody0", "kind": "vxlan", "up": True, "mac": "02:00:00:00:00:02", "vni": 7, "port": 4790},
    {"name": "vxlan.calico", "kind": "vxlan", "up": True, "mac": "66:00:00:00:00:01", "vni": 4096, "port": 4789},
    {"name": "tunl0", "kind": "ipip", "up": True, "mac": "00:00:00:00"},
    {"name": "cilium_geneve", "kind": "geneve", "up": False, "mac": "02:00:00:00:00:03"},
]


def test_the_cnis_own_tunnel_comes_before_somebody_elses():
    ends = wire.tunnel_ends("east", "east-1", LINKS, Encapsulation.VXLAN)
    assert [(end.name, end.port, end.vni) for end in ends] == [("vxlan.calico", 4789, 4096), ("somebody0", 4790, 7)]


@pytest.mark.parametrize("vni", [0, None])
def test_a_device_that_takes_any_identifier_has_none(vni):
    link = {"name": "cilium_vxlan", "kind": "vxlan", "up": True, "mac": "66:c1:00:00:00:01", "vni": vni, "port": 8472}
    (end,) = wire.tunnel_ends("east", "east-1", [link], Encapsulation.VXLAN)
    assert (end.vni, end.port) == (None, 8472)


def test_ip_in_ip_has_no_port_and_a_device_that_is_down_takes_nothing():
    (end,) = wire.tunnel_ends("east", "east-1", LINKS, Encapsulation.IPIP)
    assert (end.name, end.port, end.vni) == ("tunl0", None, None)
    assert wire.tunnel_ends("east", "east-1", LINKS, Encapsulation.GENEVE) == []
