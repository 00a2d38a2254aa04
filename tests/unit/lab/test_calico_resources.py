"""Calico's objects as values, and what is no such object."""

from ipaddress import IPv4Network

import pytest

from provision.lab.calico.resources import (
    BadObjectError,
    read_all,
    read_bgp_configuration,
    read_bgp_peer,
    read_block_affinity,
    read_node,
    read_pool,
)


def test_raw_objects_get_the_defaults_that_calico_fills_in():
    pool = read_pool({"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/16"}})
    assert (pool.block_size, pool.vxlan_mode, pool.disabled, pool.nat_outgoing) == (26, "Never", False, False)

    bgp = read_bgp_configuration({"metadata": {"name": "default"}, "spec": {}})
    assert (bgp.as_number, bgp.node_mesh) == (64512, True)


@pytest.mark.parametrize(
    ("spec", "counts"),
    [
        ({"state": "confirmed", "deleted": "false"}, True),
        ({}, True),
        ({"state": "pending"}, False),
        ({"state": "pendingDeletion"}, False),
        ({"state": "confirmed", "deleted": "true"}, False),
    ],
)
def test_only_confirmed_blocks_count(spec, counts):
    affinity = read_block_affinity({"metadata": {"name": "a"}, "spec": {"node": "n", "cidr": "10.0.0.0/26"} | spec})
    assert (affinity is not None) is counts


@pytest.mark.parametrize(
    ("read", "obj", "words"),
    [
        (read_pool, {"kind": "IPPool", "metadata": {"name": "p"}, "spec": {}}, "IPPool/p: cidr is missing"),
        (read_pool, {"kind": "IPPool", "metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.1/8"}}, "host bits"),
        (read_node, {"kind": "Node", "metadata": {"name": "n"}}, "projectcalico.org/IPv4Address is missing"),
        (read_bgp_peer, {"kind": "BGPPeer", "metadata": {"name": "b"}, "spec": {}}, "exactly one of"),
        (
            read_bgp_peer,
            {"kind": "BGPPeer", "metadata": {"name": "b"}, "spec": {"peerSelector": "x =", "nodeSelector": "all()"}},
            "selector 'x ='",
        ),
    ],
)
def test_an_object_that_calico_would_refuse_is_named(read, obj, words):
    with pytest.raises(BadObjectError, match=words):
        read(obj)


def test_a_bad_object_does_not_hide_the_good_ones():
    good = {"metadata": {"name": "b"}, "spec": {"cidr": "10.0.0.0/16"}}
    errors = []
    pools = read_all(read_pool, [good, {"metadata": {"name": "a"}, "spec": {}}], errors.append)
    assert [pool.cidr for pool in pools] == [IPv4Network("10.0.0.0/16")]
    assert len(errors) == 1
