"""What the underlay is asked to be, before any kernel is asked."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from provision.lab import fabric
from provision.lab.topology import aws_calico


@pytest.fixture
def topology():
    return aws_calico("drawn", regions=3, nodes=2)


def commands(topology, netns):
    return [
        command
        for stage in fabric.batches(topology)
        for batch in stage
        if batch.netns == netns
        for command in batch.commands
    ]


def test_a_router_knows_every_peered_network_and_no_pod_range(topology):
    routes = [line for line in commands(topology, "vpc-us-east-1") if line.startswith("route add")]

    assert "route add 10.1.0.0/16 via 169.254.100.2" in routes
    assert "route add 10.2.0.0/16 via 169.254.100.6" in routes
    assert not [line for line in routes if "192.168." in line]


def test_both_ends_of_a_peering_are_addressed(topology):
    assert "address add 169.254.100.1/30 dev us-east-2" in commands(topology, "vpc-us-east-1")
    assert "address add 169.254.100.2/30 dev us-east-1" in commands(topology, "vpc-us-east-2")


def test_a_node_has_its_address_and_leaves_by_the_router(topology):
    assert commands(topology, "us-west-1-node-2") == [
        "address add 10.2.1.11/24 dev eth0",
        "link set eth0 up",
        "route add default via 10.2.1.1",
    ]


def test_the_internet_knows_public_addresses_only(topology):
    routes = [line for line in commands(topology, "internet") if line.startswith("route add")]

    assert [IPv4Network(line.split()[2]) for line in routes] == [region.public_network for region in topology.regions]


@pytest.mark.parametrize("regions", [2, 8])
def test_no_address_is_given_twice(regions):
    topology = aws_calico("drawn", regions=regions, nodes=3)
    given = [
        IPv4Address(line.split()[2].partition("/")[0])
        for stage in fabric.batches(topology)
        for batch in stage
        for line in batch.commands
        if line.startswith("address add")
    ]

    assert len(set(given)) == len(given)


def test_device_names_fit_into_the_kernel():
    topology = aws_calico("drawn", regions=8, nodes=200)

    devices = {
        words[words.index(key) + 1]
        for stage in fabric.batches(topology)
        for batch in stage
        for words in map(str.split, batch.commands)
        for key in ("dev", "name")
        if key in words
    }

    assert max(map(len, devices)) <= 15
