from ipaddress import IPv4Network

import pytest

from provision.lab.calico.ipam import Owner, allocate, ordinals, release
from provision.lab.calico.seed import empty_block

A = Owner("handle-a", "default", "a", "node-1")
B = Owner("handle-b", "default", "b", "node-1")


@pytest.fixture
def spec():
    return empty_block("node-1", IPv4Network("192.168.0.0/29"))["spec"]


def test_a_block_knows_whom_its_addresses_belong_to(spec):
    allocate(spec, 3, A)
    allocate(spec, 5, B)
    assert list(ordinals(spec, "handle-a")) == [3]
    assert spec["unallocated"] == [0, 1, 2, 4, 6, 7]
    assert spec["attributes"][spec["allocations"][5]]["secondary"] == {
        "namespace": "default",
        "node": "node-1",
        "pod": "b",
    }


def test_a_released_address_is_used_again_last(spec):
    allocate(spec, 0, A)
    release(spec, "handle-a")
    assert spec["unallocated"] == [1, 2, 3, 4, 5, 6, 7, 0]
    assert spec["attributes"] == []


def test_a_release_leaves_the_others_their_attributes(spec):
    allocate(spec, 0, A)
    allocate(spec, 1, B)
    release(spec, "handle-a")
    assert list(ordinals(spec, "handle-b")) == [1]
    assert [entry["handle_id"] for entry in spec["attributes"]] == ["handle-b"]


def test_edits_may_be_applied_twice(spec):
    """After a conflict the edits are put on top of what the server has, which may include them."""
    for _ in range(2):
        allocate(spec, 0, A)
    assert spec["allocations"].count(0) == 1
    for _ in range(2):
        release(spec, "handle-a")
    assert sorted(spec["unallocated"]) == list(range(8))
