"""Calico's CNI plugin: an address from the node's blocks, and a veth pair wired as Calico wires it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha1, sha256
from ipaddress import IPv4Address
from pathlib import Path

from provision.lab import kernel, netns
from provision.lab.calico.ipam import Ipam, Owner
from provision.lab.kube.client import KubeObject

ADDRESSES_ANNOTATION = "cni.projectcalico.org/ipAddrs"
POD_DEVICE = "eth0"
_GATEWAY = IPv4Address("169.254.1.1")
_HOST_SIDE_MAC = "ee:ee:ee:ee:ee:ee"

Admit = Callable[[KubeObject, IPv4Address], Awaitable[None]]
"""Returns once a pod that is to have that address may be connected."""


class CalicoPodNetwork:
    """The pod network of one cluster; the kubelets call it.

    Args:
        nodes: each node's network namespace, by the node's name.
        ipam: the cluster's addresses.
        mtu: tells the MTU of a new pod.
        admit: has policy in place for it.
        fabric_ready: set once the nodes' namespaces are there.
    """

    def __init__(
        self, nodes: Mapping[str, str], ipam: Ipam, mtu: Callable[[], int], admit: Admit, fabric_ready: asyncio.Event
    ) -> None:
        self._nodes = nodes
        self._ipam = ipam
        self._mtu = mtu
        self._admit = admit
        self._fabric_ready = fabric_ready

    async def attach(self, pod: KubeObject, netns: str) -> IPv4Address:
        """Connect the pod's namespace to the node and return the pod's address.

        The annotation `cni.projectcalico.org/ipAddrs` (a JSON list of one address) is obeyed without question, unlike
        in Calico: that is how a pod comes to have an address outside its pool, for tests that must find it.

        Raises:
            NoAddressError: no pool has an address left.
            KernelError: the kernel refused a device, an address or a route.
        """
        await self._fabric_ready.wait()
        owner = _owner(pod)
        asked_for = (pod["metadata"].get("annotations") or {}).get(ADDRESSES_ANNOTATION)
        if asked_for:
            address = IPv4Address(json.loads(asked_for)[0])
            await self._ipam.assign_given(owner, address)
        else:
            address = await self._ipam.assign(owner)
        await self._admit(pod, address)
        await asyncio.to_thread(wire, self._nodes[owner.node], netns, device_name(pod), address, self._mtu())
        return address

    async def detach(self, pod: KubeObject, netns: str) -> None:
        """Remove the pod's device and give its address back."""
        owner = _owner(pod)
        await asyncio.to_thread(kernel.forget, "ip", self._nodes[owner.node], [f"link del {device_name(pod)}"])
        self._ipam.release(owner.handle)


def _owner(pod: KubeObject) -> Owner:
    meta = pod["metadata"]
    sandbox = sha256(meta["uid"].encode()).hexdigest()
    return Owner(f"k8s-pod-network.{sandbox}", meta["namespace"], meta["name"], pod["spec"]["nodeName"])


def device_name(pod: KubeObject) -> str:
    """The host's end of the pod's veth pair: "cali" and eleven digits made from namespace and name."""
    meta = pod["metadata"]
    name = f"{meta['namespace']}.{meta['name']}"
    return f"cali{sha1(name.encode(), usedforsecurity=False).hexdigest()[:11]}"


def wire(node_netns: str, pod_netns: str, device: str, address: IPv4Address, mtu: int) -> None:
    """Make the veth pair: the pod has one address and one way out, a neighbour that the host answers for.

    Raises:
        KernelError: the kernel refused a step.
    """
    pair = f"link add {device} address {_HOST_SIDE_MAC} mtu {mtu} type veth peer name {POD_DEVICE}"
    kernel.ip(
        node_netns,
        [
            f"{pair} mtu {mtu} netns {pod_netns}",
            f"link set {device} up",
            f"route add {address}/32 dev {device} scope link",
        ],
    )
    with netns.inside(node_netns):
        Path(f"/proc/sys/net/ipv4/conf/{device}/proxy_arp").write_text("1")
        # Else the kernel waits up to 0.8 s before it answers for the gateway.
        Path(f"/proc/sys/net/ipv4/neigh/{device}/proxy_delay").write_text("0")
    kernel.ip(
        pod_netns,
        [
            f"address add {address}/32 dev {POD_DEVICE}",
            f"link set {POD_DEVICE} up",
            f"route add {_GATEWAY} dev {POD_DEVICE} scope link",
            f"route add default via {_GATEWAY} dev {POD_DEVICE}",
        ],
    )
