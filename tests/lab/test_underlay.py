"""The cloud that the lab plays: what it carries, and what it drops as a cloud would."""

import pytest

from provision.lab.topology import EGRESS, OPERATOR, STRANGER

ASK_THE_INTERNET = (
    f"import socket; print(socket.create_connection(('{EGRESS.address}', {EGRESS.port}), 3).recv(64).decode())"
)

KNOCK = """
import socket, sys
source, address, port = sys.argv[1:]
try:
    socket.create_connection((address, int(port)), 0.5, (source, 0))
    print("open")
except TimeoutError:
    print("dropped")
"""


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


def test_the_internet_sees_a_nodes_public_address(at):
    assert at("us-east-2/node-2", "python3", "-c", ASK_THE_INTERNET).stdout.strip() == "198.18.1.11"


@pytest.mark.parametrize("address", ["192.168.0.70", "10.0.1.10"])
def test_the_internet_has_no_way_to_private_addresses(at, address):
    route = at("internet", "ip", "route", "get", address)

    assert route.returncode != 0
    assert "unreachable" in route.stderr


@pytest.mark.parametrize(
    ("source", "port", "outcome"),
    [(OPERATOR, 6443, "open"), (OPERATOR, 179, "dropped"), (STRANGER, 6443, "dropped"), (STRANGER, 22, "dropped")],
)
def test_a_security_group_lets_the_operator_in_and_nobody_else(at, source, port, outcome):
    assert at("internet", "python3", "-c", KNOCK, str(source), "198.18.1.10", str(port)).stdout.strip() == outcome


def test_neither_side_of_a_port_that_no_rule_names_hears_of_the_other(at):
    denied = at("us-east-1/node-2", "python3", "-c", KNOCK, "10.0.1.11", "10.0.1.10", "9099")
    allowed = at("us-east-1/node-2", "python3", "-c", KNOCK, "10.0.1.11", "10.0.1.10", "6443")

    assert (denied.stdout.strip(), allowed.stdout.strip()) == ("dropped", "open")


def test_a_peering_is_not_transitive(at):
    detour = (str(EGRESS.address), "via", "169.254.100.1")
    knock = ("python3", "-c", KNOCK, "10.1.1.11", str(EGRESS.address), str(EGRESS.port))
    at("us-east-2/vpc", "ip", "route", "add", *detour)
    try:
        by_the_peering = at("us-east-2/node-2", *knock)
    finally:
        at("us-east-2/vpc", "ip", "route", "delete", *detour)
    control = at("us-east-2/node-2", *knock)

    assert (by_the_peering.stdout.strip(), control.stdout.strip()) == ("dropped", "open")


@pytest.mark.parametrize("place", ["us-east-1/node-1", "us-east-1/us-east-1-node-1"])
def test_a_node_is_entered_by_name_and_by_alias(at, place):
    assert "10.0.1.10/24" in at(place, "ip", "-br", "address", "show", "eth0").stdout
