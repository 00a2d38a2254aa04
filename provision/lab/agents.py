"""`python -m provision.lab.agents CONFIG.json`: everything of a cluster that is not the API server, for all clusters.

Kubelets, controllers, the CNI, kube-proxy and DNS records: each part is an API client with its own identity, and
knows the others only through the API. They share a process to save memory and nothing else. The configuration is
`agents_config.AgentsConfig` as JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

from provision.lab import images
from provision.lab.agents_config import FABRIC_READY, AgentsConfig, ClusterAccess, host_tree
from provision.lab.dns.cluster import ClusterDns, CorefileDelivery
from provision.lab.host import coredns_program
from provision.lab.kube.client import CONFIG_MAPS, ENDPOINT_SLICES, SERVICES, ApiClient, Reflector
from provision.lab.kube.controllers.run import run_controllers
from provision.lab.kube.identities import CONTROLLER_MANAGER, KUBE_PROXY, NODE_AGENT, Identity
from provision.lab.kube.kubelet.node import AgentCluster, AgentNode, Images, run_node_agents
from provision.lab.kube.kubelet.volumes import Dns
from provision.lab.mesh import Mesh
from provision.lab.paths import INSIDE
from provision.lab.profiles import profile_of
from provision.lab.proxy import ServiceProxy
from provision.lab.resolver import RESOLV_CONF
from provision.lab.topology import LabRegion

LOOK_EVERY_S = 0.01


class Agents:
    """All agents of a lab."""

    def __init__(self, config: AgentsConfig) -> None:
        self._config = config
        self._fabric_ready = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled, or until one of them fails: half a lab would only give wrong verdicts."""
        regions = self._config.topology.regions
        async with AsyncExitStack() as clients, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._await_fabric())
            module = profile_of(self._config.topology).mesh
            mesh_clients = {}
            for region in regions:
                access = self._config.cluster(region.name)
                await _await_server(access.server)
                for who in module.IDENTITIES:
                    mesh_clients[region.name, who] = await clients.enter_async_context(_client(access, who))
            mesh = module.create(self._config.topology, mesh_clients, self._fabric_ready)
            tasks.create_task(mesh.run())
            tasks.create_task(self._run_kubelets([self._agent_cluster(region, mesh) for region in regions]))
            # The rest has time: what has to find its peers, BIRD or the stores' readers, is under way.
            await mesh.synced()
            for region in regions:
                access = self._config.cluster(region.name)
                self._start_services(tasks, await clients.enter_async_context(_client(access, KUBE_PROXY)), region)
                token = access.token(CONTROLLER_MANAGER)
                tasks.create_task(run_controllers(access.server, ca=access.ca, token=token, host_tree=host_tree))

    async def _run_kubelets(self, clusters: list[AgentCluster]) -> None:
        # Pods on their nodes' network enter namespaces that the fabric makes.
        await self._fabric_ready.wait()
        for node in self._config.topology.nodes:
            resolver = host_tree(node.name) / "etc/resolv.conf"
            resolver.parent.mkdir(parents=True, exist_ok=True)
            resolver.write_text(RESOLV_CONF)
        known = Images(images.container_argv, images.container_programs, Path(images.python_interpreter()))
        await run_node_agents(clusters, images=known, folder=INSIDE / "pods")

    def _agent_cluster(self, region: LabRegion, mesh: Mesh) -> AgentCluster:
        access = self._config.cluster(region.name)
        nodes = tuple(
            AgentNode(node.name, node.address, node.netns, self._config.kubelet_port(node.name), host_tree(node.name))
            for node in region.nodes
        )
        return AgentCluster(
            region=region.name,
            server=access.server,
            ca=access.ca,
            token=access.token(NODE_AGENT),
            certificate=access.kubelet_certificate,
            key=access.kubelet_key,
            network=mesh.network(region.name),
            dns=Dns(str(region.plan.dns_address)),
            nodes=nodes,
        )

    def _start_services(self, tasks: asyncio.TaskGroup, client: ApiClient, region: LabRegion) -> None:
        """kube-proxy and the DNS records, which are made from the same objects."""
        services, slices = Reflector(client, SERVICES), Reflector(client, ENDPOINT_SLICES)
        config_maps = Reflector(client, CONFIG_MAPS, namespace="kube-system")
        proxy = ServiceProxy(services, slices, [node.netns for node in region.nodes], region.plan.pod_cidr)
        names = [node.name for node in region.nodes]
        dns = (
            CorefileDelivery(config_maps, names)
            if coredns_program()
            else ClusterDns(services, slices, config_maps, names, region.plan.dns_address)
        )
        for reflector in (services, slices, config_maps):
            tasks.create_task(reflector.run())
        tasks.create_task(proxy.run(self._fabric_ready))
        tasks.create_task(dns.run())

    async def _await_fabric(self) -> None:
        """The fabric is built by another process, which leaves a file when it is done."""
        while not FABRIC_READY.exists():
            await asyncio.sleep(LOOK_EVERY_S)
        self._fabric_ready.set()


def _client(access: ClusterAccess, who: Identity) -> ApiClient:
    return ApiClient(access.server, ca=access.ca, token=access.token(who), name=who.user.rsplit(":", 1)[-1])


async def _await_server(url: str) -> None:
    """Return once somebody listens: at the start of a lab this is quicker than the clients' own patience."""
    server = urlsplit(url)
    while True:
        try:
            _, writer = await asyncio.open_connection(server.hostname, server.port)
        except OSError:
            await asyncio.sleep(LOOK_EVERY_S)
        else:
            writer.close()
            return


def main() -> None:
    """Run the agents that the file named on the command line describes."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = AgentsConfig.from_json(json.loads(Path(sys.argv[1]).read_text()))
    asyncio.run(Agents(config).run())


if __name__ == "__main__":
    main()
