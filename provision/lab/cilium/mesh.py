"""Cilium as the agents process runs it: an agent on every node, the operator and CNI plugin of every cluster."""

from __future__ import annotations

import asyncio

from provision.lab.cilium.agent import CiliumController
from provision.lab.cilium.cni import CiliumPodNetwork
from provision.lab.cilium.datapath import Datapath
from provision.lab.cilium.operator import CiliumOperator
from provision.lab.cilium.watch import ClusterWatch
from provision.lab.kube.identities import CILIUM, CILIUM_OPERATOR
from provision.lab.kube.kubelet.network import PodNetwork
from provision.lab.mesh import Clients
from provision.lab.topology import LabTopology

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
        return CiliumPodNetwork(
            nodes,
            self._watches[region].nodes,
            lambda node: self._datapaths[node].mtu,
            self._controller.admit,
            self._fabric_ready,
        )

    async def run(self) -> None:
        """Run agents and operators until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._controller.run(self._fabric_ready))
            for operator in self._operators:
                tasks.create_task(operator.run())

    async def synced(self) -> None:
        """Wait for the first list of everything."""
        for watch in self._watches.values():
            await watch.synced()


create = CiliumMesh
