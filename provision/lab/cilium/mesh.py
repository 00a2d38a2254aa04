"""Cilium as the agents process runs it: an agent on every node, the operator and CNI plugin of every cluster."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address

from provision.lab.cilium.agent import CiliumController
from provision.lab.cilium.cni import CiliumPodNetwork, node_addressing
from provision.lab.cilium.datapath import Datapath
from provision.lab.cilium.operator import CiliumOperator
from provision.lab.cilium.state import TunnelEntry
from provision.lab.cilium.watch import ClusterWatch
from provision.lab.kube.identities import CILIUM, CILIUM_OPERATOR
from provision.lab.kube.kubelet.network import PodNetwork
from provision.lab.mesh import Clients
from provision.lab.topology import LabNode, LabTopology

IDENTITIES = (CILIUM, CILIUM_OPERATOR)


class CiliumMesh:
    """See `provision.lab.mesh.Mesh`."""

    def __init__(self, topology: LabTopology, clients: Clients, fabric_ready: asyncio.Event) -> None:
        self._topology = topology
        self._fabric_ready = fabric_ready
        self._watches = {region.name: ClusterWatch(clients[region.name, CILIUM]) for region in topology.regions}
        self._datapaths = {node.name: Datapath(node.netns, node.address) for node in topology.nodes}
        self._controller = CiliumController(topology, self._watches, self._datapaths)
        self._operators = [
            CiliumOperator(clients[region, CILIUM_OPERATOR], watch.nodes, watch.config_maps)
            for region, watch in self._watches.items()
        ]

    def network(self, region: str) -> PodNetwork:
        """Cilium's CNI plugin."""
        nodes = {node.name: node.netns for node in self._topology.region(region).nodes}
        return CiliumPodNetwork(nodes, self._watches[region].nodes, self._fabric_ready)

    async def run(self) -> None:
        """Run agents and operators until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._controller.run(self._fabric_ready))
            for operator in self._operators:
                tasks.create_task(operator.run())
            tasks.create_task(self._feed())

    async def _feed(self) -> None:
        """Until the agents do: give every node the tunnels to all nodes that CiliumNodes tell of."""
        changed = asyncio.Event()
        for watch in self._watches.values():
            watch.nodes.add_handler(lambda _change: changed.set())
        await self.synced()
        await self._fabric_ready.wait()
        changed.set()
        while True:
            await changed.wait()
            changed.clear()
            await asyncio.gather(*(asyncio.to_thread(self._program, node) for node in self._topology.nodes))

    def _program(self, node: LabNode) -> None:
        entries = set()
        for region, watch in self._watches.items():
            for obj in watch.nodes:
                if (addressing := node_addressing(obj)) is None:
                    continue
                if obj["metadata"]["name"] == node.name and region == node.region:
                    config = watch.config_maps.get("cilium-config", "kube-system") or {"data": {}}
                    self._datapaths[node.name].set_up(addressing.router, addressing.pod_cidr, config["data"])
                else:
                    entries.add(TunnelEntry(addressing.pod_cidr, IPv4Address(obj["spec"]["addresses"][0]["ip"])))
        self._datapaths[node.name].sync(entries)

    async def synced(self) -> None:
        """Wait for the first list of everything."""
        for watch in self._watches.values():
            await watch.synced()


create = CiliumMesh
