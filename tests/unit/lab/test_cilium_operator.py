"""Pod CIDRs: cut from the pool, given out once, and complained about when they cannot be right."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from provision.lab.cilium.cni import NodeAddressing, device_name, node_addressing
from provision.lab.cilium.operator import Claim, Pool, complaint, read_claim, read_pool
from provision.lab.cilium.seed import cilium_node

POOL = Pool((IPv4Network("10.10.0.0/22"),), 24)


def claim(node, *cidrs):
    return Claim(node, tuple(map(IPv4Network, cidrs)))


def test_the_pool_is_what_the_settings_say():
    data = {"cluster-pool-ipv4-cidr": "10.10.0.0/22", "cluster-pool-ipv4-mask-size": "24"}
    assert read_pool({"data": data}) == POOL


def test_the_first_free_cidr_is_given():
    assert POOL.free([]) == IPv4Network("10.10.0.0/24")
    assert POOL.free([IPv4Network("10.10.0.0/23")]) == IPv4Network("10.10.2.0/24")
    assert POOL.free([IPv4Network("10.10.0.0/16")]) is None


@pytest.mark.parametrize(
    ("own", "others", "words"),
    [
        (claim("a", "10.10.1.0/24"), [claim("b", "10.10.2.0/24")], ""),
        (claim("a", "10.42.1.0/24"), [], "not part of the cluster pool"),
        (claim("a", "10.10.1.0/24"), [claim("b", "10.10.1.0/24")], "overlaps with that of node b"),
        (claim("a"), [claim("b", "10.10.0.0/22")], "no CIDR of size /24 is left"),
        (claim("a"), [], ""),
    ],
)
def test_the_operator_says_what_is_wrong(own, others, words):
    said = complaint(own, [own, *others], POOL)
    assert words in said
    assert bool(said) == bool(words)


def test_a_cilium_node_tells_its_pods_their_gateway():
    address = IPv4Address("10.1.1.4")
    assert node_addressing(cilium_node("n", address)) is None
    given = cilium_node("n", address, IPv4Network("10.10.0.0/24"), IPv4Address("10.10.0.1"))
    assert node_addressing(given) == NodeAddressing(IPv4Network("10.10.0.0/24"), IPv4Address("10.10.0.1"))
    assert read_claim(given) == claim("n", "10.10.0.0/24")


def test_devices_fit_into_the_kernels_names_and_differ():
    names = {device_name({"metadata": {"uid": str(number)}}) for number in range(50)}
    assert len(names) == 50
    assert all(name.startswith("lxc") and len(name) == 15 for name in names)
