"""Cilium's CNI plugin: an address from the node's pod CIDR, and a veth pair wired as Cilium wires it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network
from itertools import chain

from provision.lab import kernel
from provision.lab.cilium.datapath import ENDPOINT_TABLE, HEADER
from provision.lab.kube.client import KubeObject, Reflector

ADDRESS_ANNOTATION = "lab.meshproof/address"
"""A pod that bears it gets this address, whatever its node's pod CIDR: the lab's way to a pod outside the plan."""

POD_DEVICE = "eth0"
_RESERVED = 3
"""The first addresses of a pod CIDR: the network's, the node's own, and that of its health endpoint."""


class NoAddressError(Exception):
    """There is no address for a pod; the text says why."""


@dataclass(frozen=True)
class NodeAddressing:
    """What a node's pods are addressed with: its pod CIDR, and its own address as their gateway."""

    pod_cidr: IPv4Network
    router: IPv4Address


def node_addressing(cilium_node: KubeObject) -> NodeAddressing | None:
    """What the operator has given a node; None as long as it has given nothing.

    Raises:
        ValueError: the object does not hold addresses.
    """
    spec = cilium_node.get("spec") or {}
    cidrs = (spec.get("ipam") or {}).get("podCIDRs") or ()
    routers = [each["ip"] for each in spec.get("addresses") or () if each.get("type") == "CiliumInternalIP"]
    if not cidrs or not routers:
        return None
    return NodeAddressing(IPv4Network(cidrs[0]), IPv4Address(routers[0]))


class CiliumPodNetwork:
    """The pod network of one cluster; the kubelets call it.

    Args:
        nodes: each node's network namespace, by the node's name.
        cilium_nodes: reflector of CiliumNodes.
        mtu: tells the MTU of devices on a node, by its name.
        admit: returns once policy is in place for a pod that is to have that address.
        fabric_ready: set once the nodes' namespaces are there.
    """

    def __init__(
        self,
        nodes: Mapping[str, str],
        cilium_nodes: Reflector,
        mtu: Callable[[str], int],
        admit: Callable[[KubeObject, IPv4Address], Awaitable[None]],
        fabric_ready: asyncio.Event,
    ) -> None:
        self._nodes = nodes
        self._cilium_nodes = cilium_nodes
        self._mtu = mtu
        self._admit = admit
        self._fabric_ready = fabric_ready
        self._held: dict[str, IPv4Address] = {}
        self._freed: list[IPv4Address] = []

    async def attach(self, pod: KubeObject, netns: str) -> IPv4Address:
        """Connect the pod's namespace to the node and return the pod's address.

        Raises:
            NoAddressError: the node has no pod CIDR yet, or no address of it is free.
            KernelError: the kernel refused a device, an address or a route.
        """
        await self._fabric_ready.wait()
        await self._cilium_nodes.synced.wait()
        node = pod["spec"]["nodeName"]
        known = self._cilium_nodes.get(node)
        addressing = node_addressing(known) if known is not None else None
        if addressing is None:
            raise NoAddressError(f"{node} has no pod CIDR: see status.ipam.operator-status of its CiliumNode")
        address = self._assign(pod, addressing.pod_cidr)
        await self._admit(pod, address)
        link = Link(device_name(pod), self._mtu(node))
        await asyncio.to_thread(wire, self._nodes[node], netns, link, address, addressing.router)
        return address

    async def detach(self, pod: KubeObject, netns: str) -> None:
        """Remove the pod's device, its route with it, and give its address back."""
        node = pod["spec"]["nodeName"]
        await asyncio.to_thread(kernel.forget, "ip", self._nodes[node], [f"link del {device_name(pod)}"])
        if (address := self._held.pop(pod["metadata"]["uid"], None)) is not None:
            self._freed.append(address)

    def _assign(self, pod: KubeObject, pod_cidr: IPv4Network) -> IPv4Address:
        metadata = pod["metadata"]
        taken = {address for uid, address in self._held.items() if uid != metadata["uid"]}
        asked_for = (metadata.get("annotations") or {}).get(ADDRESS_ANNOTATION)
        if asked_for:
            address = IPv4Address(asked_for)
        else:
            # The address that was given back last comes first, so that a test can have it again.
            freed = (address for address in reversed(self._freed) if address in pod_cidr)
            others = (pod_cidr[number] for number in range(_RESERVED, pod_cidr.num_addresses - 1))
            free = next((address for address in chain(freed, others) if address not in taken), None)
            if free is None:
                raise NoAddressError(f"no address of {pod_cidr}, the pod CIDR of {pod['spec']['nodeName']}, is free")
            address = free
        self._freed = [freed for freed in self._freed if freed != address]
        self._held[metadata["uid"]] = address
        return address


def device_name(pod: KubeObject) -> str:
    """The host's end of the pod's veth pair: "lxc" and twelve digits made from what identifies the pod's sandbox."""
    return f"lxc{sha256(pod['metadata']['uid'].encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Link:
    """The link of a pod: the name of the host's end, and the MTU of both."""

    device: str
    mtu: int


def wire(node_netns: str, pod_netns: str, link: Link, address: IPv4Address, router: IPv4Address) -> None:
    """Make the veth pair, the pod's routes by way of the node's own address, and the node's entry for the pod.

    Raises:
        KernelError: the kernel refused a step.
    """
    device = link.device
    pair = f"link add {device} mtu {link.mtu} type veth peer name {POD_DEVICE}"
    kernel.ip(
        node_netns,
        [
            f"{pair} mtu {link.mtu} netns {pod_netns}",
            f"link set {device} up",
            f"route add {address}/32 dev {device} scope link table {ENDPOINT_TABLE}",
        ],
    )
    kernel.ip(
        pod_netns,
        [
            f"address add {address}/32 dev {POD_DEVICE}",
            f"link set {POD_DEVICE} up",
            f"route add {router} dev {POD_DEVICE} scope link",
            f"route add default via {router} dev {POD_DEVICE} mtu {link.mtu - HEADER}",
        ],
    )
