"""Address management: which pod has which address of which block, kept in the IPAMBlock objects.

Addresses are given from memory at once; the objects follow in batches, one write per block for all pods that came or
went meanwhile. A write that meets somebody else's change is repeated on top of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Any, TypeAlias

from provision.lab.calico.resources import (
    BLOCK_AFFINITIES,
    IPAM_BLOCKS,
    IpPool,
    block_name,
    read_all,
    read_block_affinity,
    read_pool,
)
from provision.lab.calico.seed import block_affinity, empty_block
from provision.lab.calico.selector import parse_selector
from provision.lab.kube.client import (
    AlreadyExists,
    ApiClient,
    ApiError,
    Change,
    ChangeKind,
    Conflict,
    KubeObject,
    NotFound,
    Reflector,
    synced,
)

log = logging.getLogger(__name__)

WRITE_DELAY_S = 0.1
RETRY_DELAY_S = 1.0

BlockSpec: TypeAlias = dict[str, Any]
Edit: TypeAlias = Callable[[BlockSpec], None]


class NoAddressError(Exception):
    """There is no address for a pod; the text says why."""


@dataclass(frozen=True)
class Owner:
    """Whom an address is given to. `handle` identifies it; the rest is noted beside it."""

    handle: str
    namespace: str
    pod: str
    node: str

    def attributes(self) -> dict[str, Any]:
        """The entry of an IPAMBlock's `attributes`."""
        return {
            "handle_id": self.handle,
            "secondary": {"namespace": self.namespace, "node": self.node, "pod": self.pod},
        }


def allocate(spec: BlockSpec, ordinal: int, owner: Owner) -> None:
    """Note in a block's spec that its address number `ordinal` is `owner`'s."""
    attributes = spec["attributes"] = list(spec.get("attributes") or ())
    entry = owner.attributes()
    if entry not in attributes:
        attributes.append(entry)
    spec["allocations"][ordinal] = attributes.index(entry)
    spec["unallocated"] = [free for free in spec["unallocated"] if free != ordinal]


def release(spec: BlockSpec, handle: str) -> None:
    """Give back every address of that handle. They are used again last, as in Calico."""
    attributes = list(spec.get("attributes") or ())
    freed = [
        n for n, index in enumerate(spec["allocations"]) if index is not None and _handle(attributes, index) == handle
    ]
    for ordinal in freed:
        spec["allocations"][ordinal] = None
    spec["unallocated"] = [*spec["unallocated"], *freed]
    kept = sorted({index for index in spec["allocations"] if index is not None})
    spec["attributes"] = [attributes[index] for index in kept]
    spec["allocations"] = [None if index is None else kept.index(index) for index in spec["allocations"]]


def ordinals(spec: BlockSpec, handle: str) -> Iterator[int]:
    """The addresses of that handle, counted from the block's first."""
    attributes = spec.get("attributes") or ()
    for ordinal, index in enumerate(spec["allocations"]):
        if index is not None and _handle(attributes, index) == handle:
            yield ordinal


def _handle(attributes: Any, index: int) -> str | None:
    handle: str | None = attributes[index].get("handle_id")
    return handle


@dataclass
class _Block:
    """A block as the server has it, and as it will be once the waiting edits are written."""

    stored: KubeObject
    edits: list[Edit] = field(default_factory=list)
    spec: BlockSpec = field(init=False)

    def __post_init__(self) -> None:
        self.rebase(self.stored)

    def rebase(self, stored: KubeObject) -> None:
        """Take what the server has now, and put the waiting edits on top. Edits may be applied twice without harm."""
        self.stored = stored
        self.spec = deepcopy(stored["spec"])
        for edit in self.edits:
            edit(self.spec)

    def edit(self, edit: Edit) -> None:
        self.edits.append(edit)
        edit(self.spec)

    @property
    def cidr(self) -> IPv4Network:
        return IPv4Network(self.spec["cidr"])


class Ipam:
    """One cluster's addresses, for all nodes that this process runs.

    Args:
        client: as calico-node.
        nodes: reflector of the cluster's Nodes, for pools that are meant for some of them.
        pools: reflector of IPPools.
        affinities: reflector of BlockAffinities.
        blocks: reflector of IPAMBlocks.
    """

    def __init__(
        self, client: ApiClient, *, nodes: Reflector, pools: Reflector, affinities: Reflector, blocks: Reflector
    ) -> None:
        self._client = client
        self._nodes = nodes
        self._pools = pools
        self._affinities = affinities
        self._reflectors = (nodes, pools, affinities, blocks)
        self._blocks: dict[str, _Block] = {}
        self._leaving: set[str] = set()
        self._claiming = asyncio.Lock()
        self._to_write = asyncio.Event()
        self._affinities_changed = asyncio.Event()
        affinities.add_handler(lambda _change: self._affinities_changed.set())
        blocks.add_handler(self._take)

    async def run(self) -> None:
        """Write changed blocks to the API until cancelled."""
        while True:
            await self._to_write.wait()
            await asyncio.sleep(WRITE_DELAY_S)
            self._to_write.clear()
            try:
                await asyncio.gather(*(self._write(name) for name, block in self._blocks.items() if block.edits))
            except ApiError as error:
                log.warning("address blocks are not written: %s", error)
                self._to_write.set()
                await asyncio.sleep(RETRY_DELAY_S)

    async def assign(self, owner: Owner) -> IPv4Address:
        """An address for `owner`: the one it has, else the next of the node's blocks, else the first of a new block.

        Raises:
            NoAddressError: no pool has anything left for this node.
            ApiError: a new block was needed and could not be written.
        """
        await synced(*self._reflectors)
        address = self._address_of(owner.handle) or self._next(owner)
        if address is None:
            async with self._claiming:
                address = self._next(owner)
                if address is None:
                    await self._claim_any(owner.node)
                    address = self._next(owner)
        if address is None:
            raise NoAddressError(
                f"node {owner.node}: no enabled pool has a free address for {owner.namespace}/{owner.pod}"
            )
        return address

    async def assign_given(self, owner: Owner, address: IPv4Address) -> None:
        """Note an address that somebody else has chosen. In a pool, the node claims its block when nobody has it.

        An address outside every pool is nobody's business: there is nothing to note.

        Raises:
            ApiError: a new block was needed and could not be written.
        """
        await synced(*self._reflectors)
        async with self._claiming:
            for pool in self._usable_pools(owner.node):
                cidr = IPv4Network((address, pool.block_size), strict=False)
                if address in pool.cidr and block_name(cidr) not in self._blocks:
                    await self._claim(owner.node, cidr)
        for block in self._blocks.values():
            if address in block.cidr:
                self._edit(block, partial(allocate, ordinal=int(address) - int(block.cidr[0]), owner=owner))

    def release(self, handle: str) -> None:
        """Give back all addresses of that handle."""
        for block in self._blocks.values():
            if next(ordinals(block.spec, handle), None) is not None:
                self._edit(block, partial(release, handle=handle))

    def _edit(self, block: _Block, edit: Edit) -> None:
        block.edit(edit)
        self._to_write.set()

    def _address_of(self, handle: str) -> IPv4Address | None:
        for block in self._blocks.values():
            for ordinal in ordinals(block.spec, handle):
                return block.cidr[ordinal]
        return None

    def _next(self, owner: Owner) -> IPv4Address | None:
        pools = self._usable_pools(owner.node)
        for affinity in read_all(read_block_affinity, self._affinities, log.warning):
            block = self._blocks.get(block_name(affinity.cidr))
            if affinity.node != owner.node or block is None or not block.spec["unallocated"]:
                continue
            if not any(affinity.cidr.subnet_of(pool.cidr) for pool in pools):
                continue
            ordinal = block.spec["unallocated"][0]
            self._edit(block, partial(allocate, ordinal=ordinal, owner=owner))
            return block.cidr[ordinal]
        return None

    def _usable_pools(self, node: str) -> list[IpPool]:
        labels = ((self._nodes.get(node) or {}).get("metadata") or {}).get("labels") or {}
        return [
            pool
            for pool in read_all(read_pool, self._pools, log.warning)
            if not pool.disabled and parse_selector(pool.node_selector)(labels)
        ]

    async def _claim_any(self, node: str) -> None:
        """Take the first block that nobody has for the node."""
        for pool in self._usable_pools(node):
            for cidr in pool.cidr.subnets(new_prefix=pool.block_size):
                if block_name(cidr) not in self._blocks and await self._claim(node, cidr):
                    return

    async def _claim(self, node: str, cidr: IPv4Network) -> bool:
        """Take a block for the node and wait until the watches have brought the claim back; False: it was taken."""
        name = block_name(cidr)
        try:
            stored = await self._client.create(IPAM_BLOCKS, empty_block(node, cidr))
        except AlreadyExists:
            return False
        self._blocks.setdefault(name, _Block(stored))
        await self._client.create(BLOCK_AFFINITIES, block_affinity(node, cidr))
        while self._affinities.get(f"{node}-{name}") is None:
            self._affinities_changed.clear()
            await self._affinities_changed.wait()
        return True

    async def _give_up_if_spare(self, name: str) -> None:
        """Release a block without addresses when its node has another one, as calico-kube-controllers does."""
        block = self._blocks[name]
        claims = read_all(read_block_affinity, self._affinities, log.warning)
        held = [claim for claim in claims if claim.cidr == block.cidr]
        if len(held) != 1 or any(index is not None for index in block.spec["allocations"]):
            return
        (own,) = held
        if not any(claim.node == own.node for claim in claims if claim is not own):
            return
        self._leaving.add(name)
        del self._blocks[name]  # from here on nobody is given an address of it
        with suppress(NotFound):
            await self._client.delete(BLOCK_AFFINITIES, own.name)
        with suppress(NotFound):
            await self._client.delete(IPAM_BLOCKS, name)

    def _take(self, change: Change) -> None:
        name = change.object["metadata"]["name"]
        known = self._blocks.get(name)
        if change.kind is ChangeKind.DELETED:
            self._leaving.discard(name)
            if known is not None and _version(change.object) >= _version(known.stored):
                del self._blocks[name]
        elif known is not None:
            if _version(change.object) > _version(known.stored):
                known.rebase(change.object)
        elif name not in self._leaving:
            self._blocks[name] = _Block(change.object)

    async def _write(self, name: str) -> None:
        block = self._blocks[name]
        written = len(block.edits)
        try:
            stored = await self._client.replace(IPAM_BLOCKS, block.stored | {"spec": deepcopy(block.spec)})
        except Conflict:
            stored, written = await self._client.get(IPAM_BLOCKS, name), 0
            self._to_write.set()
        except NotFound:
            self._blocks.pop(name, None)
            return
        del block.edits[:written]
        block.rebase(stored)
        if not block.edits:
            await self._give_up_if_spare(name)


def _version(obj: KubeObject) -> int:
    # Versions of one server's objects grow; the number itself is never shown or compared across servers.
    return int(obj["metadata"]["resourceVersion"])
