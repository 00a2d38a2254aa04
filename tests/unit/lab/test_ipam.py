"""Addresses are given once, and given back."""

import asyncio
from copy import deepcopy
from ipaddress import IPv4Address, IPv4Network

import pytest

from provision.lab.calico.ipam import Ipam, NoAddressError, Owner, allocate, ordinals, release
from provision.lab.calico.seed import block_affinity, empty_block
from provision.lab.kube.client import Change, ChangeKind, Conflict

A = Owner("handle-a", "default", "a", "node-1")
FIRST = IPv4Network("192.168.0.4/30")
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


class Api:
    """An API server's part in this: it keeps blocks and claims, and can be made to refuse a write."""

    def __init__(self):
        self.objects = {}
        self.handlers = []
        self.conflicts = 0
        self._version = 0

    def put(self, obj):
        self._version += 1
        stored = obj | {"metadata": obj["metadata"] | {"resourceVersion": str(self._version)}}
        self.objects[obj["kind"], obj["metadata"]["name"]] = stored
        for kind, handler in self.handlers:
            if kind == obj["kind"]:
                handler(Change(ChangeKind.ADDED, stored))
        return deepcopy(stored)

    async def create(self, resource, obj):
        return self.put(deepcopy(obj))

    async def replace(self, resource, obj):
        if self.conflicts:
            self.conflicts -= 1
            raise Conflict(409, "Conflict", "changed", "PUT")
        return self.put(deepcopy(obj))

    async def delete(self, resource, name):
        self._version += 1
        gone = self.objects.pop((resource.kind, name))
        gone = gone | {"metadata": gone["metadata"] | {"resourceVersion": str(self._version)}}
        for kind, handler in self.handlers:
            if kind == resource.kind:
                handler(Change(ChangeKind.DELETED, gone))

    async def get(self, resource, name):
        return deepcopy(self.objects[resource.kind, name])

    def reflector(self, kind):
        return Mirror(self, kind)


class Mirror:
    """A reflector that is always up to date."""

    def __init__(self, api, kind):
        self.synced = asyncio.Event()
        self.synced.set()
        self._api, self._kind = api, kind

    def __iter__(self):
        return iter([obj for (kind, _), obj in self._api.objects.items() if kind == self._kind])

    def get(self, name, namespace=None):
        return self._api.objects.get((self._kind, name))

    def add_handler(self, handler):
        self._api.handlers.append((self._kind, handler))
        for obj in self:
            handler(Change(ChangeKind.ADDED, obj))


@pytest.fixture
def api():
    api = Api()
    pool = {"kind": "IPPool", "metadata": {"name": "own"}, "spec": {"cidr": "192.168.0.0/28", "blockSize": 30}}
    api.put(pool)
    api.put({"kind": "Node", "metadata": {"name": "node-1", "labels": {"zone": "a"}}})
    api.put(block_affinity("node-1", FIRST))
    api.put(empty_block("node-1", FIRST))
    return api


def with_ipam(api, use):
    async def run():
        mirrors = {
            "nodes": api.reflector("Node"),
            "pools": api.reflector("IPPool"),
            "affinities": api.reflector("BlockAffinity"),
            "blocks": api.reflector("IPAMBlock"),
        }
        ipam = Ipam(api, **mirrors)
        writer, user = asyncio.create_task(ipam.run()), asyncio.create_task(use(ipam))
        await asyncio.wait({writer, user}, return_when=asyncio.FIRST_COMPLETED)
        writer.cancel()
        return await (user if user.done() else writer)

    return asyncio.run(run())


def owner(name):
    return Owner(f"handle-{name}", "default", name, "node-1")


async def written(api, handle):
    async with asyncio.timeout(5):
        while not list(ordinals(api.objects["IPAMBlock", "192-168-0-4-30"]["spec"], handle)):
            await asyncio.sleep(0.01)


def test_a_pod_that_asks_again_keeps_its_address(api):
    async def use(ipam):
        return [await ipam.assign(owner("a")), await ipam.assign(owner("b")), await ipam.assign(owner("a"))]

    first, second, again = with_ipam(api, use)
    assert first == again == FIRST[0]
    assert second == FIRST[1]


def test_addresses_reach_the_api_even_after_a_conflict(api):
    api.conflicts = 1

    async def use(ipam):
        await ipam.assign(owner("a"))
        await written(api, "handle-a")

    with_ipam(api, use)


def test_a_full_block_is_followed_by_the_pools_next_free_one(api):
    async def use(ipam):
        return await asyncio.gather(*(ipam.assign(owner(str(n))) for n in range(6)))

    addresses = with_ipam(api, use)
    assert len(set(addresses)) == 6
    assert [address for address in addresses if address not in FIRST] == [
        IPv4Address("192.168.0.0"),
        IPv4Address("192.168.0.1"),
    ]
    assert api.objects["BlockAffinity", "node-1-192-168-0-0-30"]["spec"]["state"] == "confirmed"


@pytest.mark.parametrize("change", [{"disabled": True}, {"nodeSelector": "zone == 'b'"}])
def test_a_pool_that_is_not_for_the_node_gives_nothing(api, change):
    pool = api.objects["IPPool", "own"]
    api.put(pool | {"spec": pool["spec"] | change})
    with pytest.raises(NoAddressError, match=r"node-1: .* default/a"):
        with_ipam(api, lambda ipam: ipam.assign(owner("a")))


def test_a_used_up_pool_gives_nothing(api):
    async def use(ipam):
        return await asyncio.gather(*(ipam.assign(owner(str(n))) for n in range(17)), return_exceptions=True)

    results = with_ipam(api, use)
    assert sum(isinstance(result, NoAddressError) for result in results) == 1


def test_a_given_address_of_the_pool_makes_the_node_claim_its_block(api):
    async def use(ipam):
        await ipam.assign_given(owner("a"), IPv4Address("192.168.0.13"))

    with_ipam(api, use)
    assert api.objects["BlockAffinity", "node-1-192-168-0-12-30"]["spec"]["node"] == "node-1"


def test_a_given_address_of_no_pool_is_nobodys_business(api):
    before = dict(api.objects)
    with_ipam(api, lambda ipam: ipam.assign_given(owner("a"), IPv4Address("10.9.9.9")))
    assert api.objects == before


def claims(api):
    return [name for kind, name in api.objects if kind == "BlockAffinity"]


def test_a_block_that_is_empty_again_is_given_up_but_never_the_last_one(api):
    async def use(ipam):
        await ipam.assign(owner("a"))
        await ipam.assign_given(owner("b"), IPv4Address("192.168.0.13"))
        assert len(claims(api)) == 2
        ipam.release("handle-a")
        ipam.release("handle-b")
        async with asyncio.timeout(5):
            while len(claims(api)) > 1:
                await asyncio.sleep(0.01)
        return await ipam.assign(owner("c"))

    address = with_ipam(api, use)
    (name,) = claims(api)
    assert address in IPv4Network(api.objects["BlockAffinity", name]["spec"]["cidr"])
