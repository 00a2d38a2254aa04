"""Calico as the agents process runs it: calico-node on every node, its CNI plugin, policy, Typha, and the operator."""

from __future__ import annotations

import asyncio

from provision.lab.calico.cni import CalicoPodNetwork
from provision.lab.calico.controller import CalicoController, ClusterWatch
from provision.lab.calico.operator import Operator
from provision.lab.calico.policy.engine import PolicyEngine
from provision.lab.calico.typha import Typha
from provision.lab.kube.identities import CALICO_NODE, CALICO_TYPHA, TIGERA_OPERATOR
from provision.lab.kube.kubelet.network import PodNetwork
from provision.lab.mesh import Clients
from provision.lab.topology import LabTopology

IDENTITIES = (CALICO_NODE, CALICO_TYPHA, TIGERA_OPERATOR)


class CalicoMesh:
    """See `provision.lab.mesh.Mesh`."""

    def __init__(self, topology: LabTopology, clients: Clients, fabric_ready: asyncio.Event) -> None:
        self._topology = topology
        self._fabric_ready = fabric_ready
        self._watches = {region.name: ClusterWatch(clients[region.name, CALICO_NODE]) for region in topology.regions}
        self._typhas = [Typha(clients[region.name, CALICO_TYPHA], region.nodes) for region in topology.regions]
        self._engines = {
            region.name: PolicyEngine(region, clients[region.name, CALICO_NODE], typha.remote_pods)
            for region, typha in zip(topology.regions, self._typhas, strict=True)
        }
        self._controller = CalicoController(topology, self._watches, self._engines)
        self._operators = [Operator(clients[region.name, TIGERA_OPERATOR]) for region in topology.regions]

    def network(self, region: str) -> PodNetwork:
        """Calico's CNI plugin."""
        nodes = {node.name: node.netns for node in self._topology.region(region).nodes}
        watch = self._watches[region]
        return CalicoPodNetwork(nodes, watch.ipam, watch.pod_mtu, self._engines[region].admit, self._fabric_ready)

    async def run(self) -> None:
        """Run until cancelled; what does not route has time."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._controller.run(self._fabric_ready))
            await self.synced()
            await self._fabric_ready.wait()
            for engine in self._engines.values():
                tasks.create_task(engine.run())
            for typha in self._typhas:
                tasks.create_task(typha.run())
            for operator in self._operators:
                tasks.create_task(operator.run())

    async def synced(self) -> None:
        """Wait for the first list of everything."""
        for watch in self._watches.values():
            await watch.synced()


create = CalicoMesh
