"""The cloud that the lab plays: what it carries, and what it drops as a cloud would."""

import pytest

from provision.lab.topology import EGRESS

ASK_THE_INTERNET = (
    f"import socket; print(socket.create_connection(('{EGRESS.address}', {EGRESS.port}), 3).recv(64).decode())"
)


def test_nodes_of_different_regions_reach_each_other(at):
    assert at("us-east-1/node-1", "ping", "-c1", "-W2", "10.1.1.11").returncode == 0


def test_an_address_that_is_not_the_nodes_own_gets_no_further_than_its_port(at):
    # In none of the pools, so that no rule of the node's own changes it on its way out.
    at("us-east-1/node-2", "ip", "address", "add", "192.168.200.9/32", "dev", "lo")
    try:
        bare = at("us-east-1/node-2", "ping", "-I", "192.168.200.9", "-c1", "-W0.3", "10.0.1.10")
        control = at("us-east-1/node-2", "ping", "-c1", "-W2", "10.0.1.10")
    finally:
        at("us-east-1/node-2", "ip", "address", "delete", "192.168.200.9/32", "dev", "lo")

    assert (bare.returncode, control.returncode) == (1, 0)


def test_the_internet_sees_a_nodes_own_address(at):
    assert at("us-east-2/node-2", "python3", "-c", ASK_THE_INTERNET).stdout.strip() == "10.1.1.11"


def test_the_internet_has_no_way_to_a_pod(at):
    route = at("internet", "ip", "route", "get", "192.168.0.70")

    assert route.returncode != 0
    assert "unreachable" in route.stderr


@pytest.mark.parametrize("place", ["us-east-1/node-1", "us-east-1/us-east-1-node-1"])
def test_a_node_is_entered_by_name_and_by_alias(at, place):
    assert "10.0.1.10/24" in at(place, "ip", "-br", "address", "show", "eth0").stdout
