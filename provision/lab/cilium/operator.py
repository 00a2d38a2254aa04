"""The Cilium operator: every node has a CiliumNode, and every CiliumNode a pod CIDR out of the cluster's pool.

What cannot be given is said in `status.ipam.operator-status`, as the real operator says it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from provision.lab.cilium.seed import cilium_node
from provision.lab.cilium.watch import CILIUM_NODES
from provision.lab.kube.client import NODES, ApiClient, ApiError, KubeObject, Reflector, synced

log = logging.getLogger(__name__)

SETTLE_S = 0.02
RETRY_S = 1.0
CONFIG = "cilium-config"
NAMESPACE = "kube-system"


@dataclass(frozen=True)
class Pool:
    """The addresses that pod CIDRs are cut from: `cluster-pool-ipv4-cidr` and `-mask-size`."""

    ranges: tuple[IPv4Network, ...]
    mask_size: int

    def free(self, taken: Iterable[IPv4Network]) -> IPv4Network | None:
        """The first CIDR that overlaps with none of those, or None."""
        held = tuple(taken)
        return next((cidr for cidr in self._cidrs() if not any(cidr.overlaps(other) for other in held)), None)

    def holds(self, cidr: IPv4Network) -> bool:
        """Whether a CIDR is out of this pool."""
        return any(cidr.subnet_of(each) for each in self.ranges)

    def _cidrs(self) -> Iterator[IPv4Network]:
        for each in self.ranges:
            yield from each.subnets(new_prefix=self.mask_size)


@dataclass(frozen=True)
class Claim:
    """The pod CIDRs of one CiliumNode."""

    node: str
    pod_cidrs: tuple[IPv4Network, ...]


def read_pool(config: KubeObject) -> Pool:
    """The pool that cilium-config names.

    Raises:
        KeyError: it names none.
        ValueError: a range or the mask size is none.
    """
    data = config["data"]
    ranges = tuple(IPv4Network(text) for text in data["cluster-pool-ipv4-cidr"].split())
    return Pool(ranges, int(data["cluster-pool-ipv4-mask-size"]))


def read_claim(obj: KubeObject) -> Claim:
    """The claim of a CiliumNode.

    Raises:
        ValueError: a pod CIDR is none.
    """
    cidrs = ((obj.get("spec") or {}).get("ipam") or {}).get("podCIDRs") or ()
    return Claim(obj["metadata"]["name"], tuple(IPv4Network(cidr) for cidr in cidrs))


def complaint(claim: Claim, claims: Sequence[Claim], pool: Pool) -> str:
    """What is wrong with a node's pod CIDRs, empty when nothing is."""
    for cidr in claim.pod_cidrs:
        if not pool.holds(cidr):
            return f"podCIDR {cidr} is not part of the cluster pool {', '.join(map(str, pool.ranges))}"
        for other in claims:
            if other.node != claim.node and any(cidr.overlaps(theirs) for theirs in other.pod_cidrs):
                return f"podCIDR {cidr} overlaps with that of node {other.node}"
    if not claim.pod_cidrs and pool.free(cidr for other in claims for cidr in other.pod_cidrs) is None:
        return f"no CIDR of size /{pool.mask_size} is left in {', '.join(map(str, pool.ranges))}"
    return ""


class CiliumOperator:
    """The operator of one cluster.

    Args:
        client: with the operator's rights.
        cilium_nodes: reflector of CiliumNodes, run by others.
        config_maps: reflector of the ConfigMaps of kube-system, run by others.
    """

    def __init__(self, client: ApiClient, cilium_nodes: Reflector, config_maps: Reflector) -> None:
        self._client = client
        self._nodes = Reflector(client, NODES)
        self._cilium_nodes = cilium_nodes
        self._config_maps = config_maps

    async def run(self) -> None:
        """Run until cancelled."""
        reflectors = (self._nodes, self._cilium_nodes, self._config_maps)
        changed = asyncio.Event()
        for reflector in reflectors:
            reflector.add_handler(lambda _change: changed.set())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._nodes.run())
            await synced(*reflectors)
            changed.set()
            while True:
                await changed.wait()
                await asyncio.sleep(SETTLE_S)
                changed.clear()
                try:
                    await self._reconcile()
                except (ApiError, KeyError, ValueError) as error:
                    log.warning("CiliumNodes are not as they should be: %s", error)
                    await asyncio.sleep(RETRY_S)
                    changed.set()

    async def _reconcile(self) -> None:
        pool = read_pool(self._config_maps.get(CONFIG, NAMESPACE) or {"data": {}})
        addresses = {node["metadata"]["name"]: _internal_address(node) for node in self._nodes}
        for obj in self._cilium_nodes:
            if obj["metadata"]["name"] not in addresses:
                await self._client.delete(CILIUM_NODES, obj["metadata"]["name"])
        for name, address in addresses.items():
            if self._cilium_nodes.get(name) is None and address is not None:
                await self._client.create(CILIUM_NODES, cilium_node(name, address))
        claims = [read_claim(obj) for obj in self._cilium_nodes if obj["metadata"]["name"] in addresses]
        for claim in claims:
            if not claim.pod_cidrs and (cidr := pool.free(cidr for each in claims for cidr in each.pod_cidrs)):
                await self._give(claim.node, cidr)
                return  # its claim is news that the rest must see first
            await self._tell(claim.node, complaint(claim, claims, pool))

    async def _give(self, node: str, cidr: IPv4Network) -> None:
        known = self._cilium_nodes.get(node)
        if known is None:
            return
        addresses = [each for each in known["spec"].get("addresses") or () if each["type"] != "CiliumInternalIP"]
        addresses.append({"type": "CiliumInternalIP", "ip": str(cidr[1])})
        spec = {"addresses": addresses, "ipam": {"podCIDRs": [str(cidr)]}}
        await self._client.patch(CILIUM_NODES, node, {"spec": spec})

    async def _tell(self, node: str, error: str) -> None:
        known = self._cilium_nodes.get(node) or {}
        told = ((known.get("status") or {}).get("ipam") or {}).get("operator-status") or {}
        if told.get("error", "") != error:
            status = {"ipam": {"operator-status": {"error": error or None}}}
            await self._client.patch_status(CILIUM_NODES, node, status)


def _internal_address(node: KubeObject) -> IPv4Address | None:
    for each in (node.get("status") or {}).get("addresses") or ():
        if each["type"] == "InternalIP":
            return IPv4Address(each["address"])
    return None
