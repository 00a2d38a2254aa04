"""calico-node on every node of the lab: watches the objects, renders what follows from them, applies what changed.

One loop looks at all clusters after every burst of events and computes each node's targets; one loop per node brings
BIRD and the kernel there. Nothing is done on a timer except to try again what failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from provision.lab import kernel
from provision.lab.agents_config import host_tree
from provision.lab.calico import bird, birdconfig, felix
from provision.lab.calico.authentication import BGP_SECRET, BGP_SECRET_NAMESPACE, kernel_signs_segments
from provision.lab.calico.control_plane import FELIX_HEALTH_PORT, LOOPBACK
from provision.lab.calico.health import serve_health
from provision.lab.calico.ipam import Ipam
from provision.lab.calico.kube_controllers import KubeControllers
from provision.lab.calico.policy.engine import PolicyEngine
from provision.lab.calico.resources import (
    BGP_CONFIGURATIONS,
    BGP_PEERS,
    BLOCK_AFFINITIES,
    FELIX_CONFIGURATIONS,
    IP_POOLS,
    IPAM_BLOCKS,
    BgpConfiguration,
    CalicoCluster,
    CalicoNode,
    FelixConfiguration,
    SecretKey,
    read_all,
    read_bgp_configuration,
    read_bgp_peer,
    read_block_affinity,
    read_felix_configuration,
    read_node,
    read_passwords,
    read_pool,
)
from provision.lab.kube.client import NODES, SECRETS, ApiClient, Reflector, synced
from provision.lab.private_file import write_secret
from provision.lab.topology import LabNode, LabTopology, Timers

log = logging.getLogger(__name__)

SETTLE_S = 0.02
"""How long a burst of events may go on before it is acted upon."""

RETRY_FIRST_S = 0.1
RETRY_MOST_S = 2.0
BIRD_FOLDER = "var/run/calico"

# What a node that is no longer part of its cluster should do: nothing.
_NO_CLUSTER = CalicoCluster(bgp=BgpConfiguration(node_mesh=False))


class ClusterWatch:
    """One cluster's Calico objects, kept current."""

    def __init__(self, client: ApiClient) -> None:
        self.nodes = Reflector(client, NODES)
        self.pools = Reflector(client, IP_POOLS)
        self.affinities = Reflector(client, BLOCK_AFFINITIES)
        self.blocks = Reflector(client, IPAM_BLOCKS)
        self._bgp = Reflector(client, BGP_CONFIGURATIONS)
        self._peers = Reflector(client, BGP_PEERS)
        self._felix = Reflector(client, FELIX_CONFIGURATIONS)
        self._secrets = Reflector(
            client, SECRETS, namespace=BGP_SECRET_NAMESPACE, field_selector=f"metadata.name={BGP_SECRET}"
        )
        self.ipam = Ipam(client, nodes=self.nodes, pools=self.pools, affinities=self.affinities, blocks=self.blocks)
        self._kube_controllers = KubeControllers(
            client, nodes=self.nodes, affinities=self.affinities, blocks=self.blocks
        )
        self._rendered_from = (
            self.nodes,
            self.pools,
            self.affinities,
            self._bgp,
            self._peers,
            self._felix,
            self._secrets,
        )

    async def run(self, changed: asyncio.Event) -> None:
        """Watch until cancelled; `changed` is set after every change that routing or filtering may follow from."""
        for reflector in self._rendered_from:
            reflector.add_handler(lambda _change: changed.set())
        async with asyncio.TaskGroup() as tasks:
            for reflector in (*self._rendered_from, self.blocks):
                tasks.create_task(reflector.run())
            tasks.create_task(self.ipam.run())
            tasks.create_task(self._kube_controllers.run())

    async def synced(self) -> None:
        """Wait for the first list of everything."""
        await synced(*self._rendered_from, self.blocks)

    def snapshot(self) -> CalicoCluster:
        """The objects as they are now; what cannot be understood is logged and left out."""
        bgp = self._bgp.get("default")
        return CalicoCluster(
            nodes=read_all(read_node, self.nodes, log.warning),
            pools=read_all(read_pool, self.pools, log.warning),
            bgp=next(iter(read_all(read_bgp_configuration, [bgp] if bgp else [], log.warning)), BgpConfiguration()),
            peers=read_all(read_bgp_peer, self._peers, log.warning),
            blocks=read_all(read_block_affinity, self.affinities, log.warning),
            felix=self._felix_configuration(),
            passwords=self._passwords(),
        )

    def pod_mtu(self) -> int:
        """The MTU that a pod gets which is made now."""
        return felix.tunnel_mtu(self._felix_configuration())

    def _felix_configuration(self) -> FelixConfiguration:
        found = self._felix.get("default")
        read = read_all(read_felix_configuration, [found] if found else [], log.warning)
        return next(iter(read), FelixConfiguration())

    def _passwords(self) -> tuple[tuple[SecretKey, str], ...]:
        """None where the kernel cannot sign: sessions without signatures are a better lab than no sessions."""
        if not kernel_signs_segments():
            return ()
        return tuple(pair for pairs in read_all(read_passwords, self._secrets, log.warning) for pair in pairs)


@dataclass(frozen=True)
class _Target:
    """What a node should run: the text of bird.cfg, and the state of its kernel."""

    bird: str
    dataplane: felix.DataplaneState


class _NodeAgent:
    """Brings one node to its target; a newer target replaces one that has not been reached."""

    def __init__(self, node: LabNode) -> None:
        self.name = node.name
        self.region = node.region
        self.netns = node.netns
        self.last_seen: CalicoNode | None = None
        self._folder = host_tree(node.name) / BIRD_FOLDER
        self._dataplane = felix.Dataplane(node.netns)
        self._target: _Target | None = None
        self._applied: _Target | None = None
        self._news = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether kernel and BIRD have taken what the objects ask of the node."""
        return self._target is not None and self._applied == self._target

    def aim(self, target: _Target) -> None:
        """Set what the node should be."""
        if target != self._target:
            if self._target is None or target.bird != self._target.bird:
                self._write(target.bird)
            self._target = target
            self._news.set()

    async def run(self, ready: asyncio.Event) -> None:
        """Apply each new target once the node's namespace is there."""
        await ready.wait()
        delay = RETRY_FIRST_S
        while True:
            await self._news.wait()
            self._news.clear()
            target, applied = self._target, self._applied
            if target is None:
                continue
            try:
                if applied is None or target.dataplane != applied.dataplane:
                    await asyncio.to_thread(self._dataplane.apply, target.dataplane)
                if applied is None or target.bird != applied.bird:
                    await bird.reconfigure(self._folder / "bird.ctl")
            except (kernel.KernelError, bird.BirdError) as error:
                # A BIRD that is not there is about to start, and may read the file before its last change.
                expected = isinstance(error, bird.BirdError) and not isinstance(error, bird.BirdRefusedError)
                level = logging.DEBUG if expected else logging.WARNING
                log.log(level, "%s: trying again in %.1f s: %s", self.name, delay, error)
                await self._news_or(delay)
                delay = min(2 * delay, RETRY_MOST_S)
                continue
            self._applied, delay = target, RETRY_FIRST_S

    async def serve_health(self, policy: PolicyEngine) -> None:
        """Tell the kubelet of the node, on Felix' health port, how that and policy stand."""
        await serve_health(
            self.netns, LOOPBACK, FELIX_HEALTH_PORT, is_ready=lambda: self.is_ready and policy.has_applied(self.name)
        )

    async def _news_or(self, delay: float) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._news.wait()
        except TimeoutError:
            self._news.set()

    def _write(self, text: str) -> None:
        """Replace bird.cfg, which holds passwords, in one step, so that a starting BIRD never reads half of it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._folder / "bird.cfg.new"
        write_secret(fresh, text.encode())
        fresh.rename(self._folder / "bird.cfg")


class CalicoController:
    """calico-node for all nodes of the lab.

    Args:
        topology: the lab.
        watches: by region.
        policy: by region; asked how far it is.
    """

    def __init__(
        self, topology: LabTopology, watches: Mapping[str, ClusterWatch], policy: Mapping[str, PolicyEngine]
    ) -> None:
        self._timers: Timers = topology.timers
        self._watches = watches
        self._policy = policy
        self._agents = [_NodeAgent(node) for node in topology.nodes]
        self._changed = asyncio.Event()

    async def run(self, fabric_ready: asyncio.Event) -> None:
        """Run until cancelled. The kernel is not touched before `fabric_ready`."""
        async with asyncio.TaskGroup() as tasks:
            for watch in self._watches.values():
                tasks.create_task(watch.run(self._changed))
            for agent in self._agents:
                tasks.create_task(agent.run(fabric_ready))
            tasks.create_task(self._follow())
            await fabric_ready.wait()
            for agent in self._agents:
                tasks.create_task(agent.serve_health(self._policy[agent.region]))

    async def _follow(self) -> None:
        for watch in self._watches.values():
            await watch.synced()
        self._changed.set()
        seen: dict[str, CalicoCluster] = {}
        while True:
            await self._changed.wait()
            await asyncio.sleep(SETTLE_S)
            self._changed.clear()
            clusters = {region: watch.snapshot() for region, watch in self._watches.items()}
            if clusters != seen:
                seen = clusters
                self._aim(clusters)

    def _aim(self, clusters: Mapping[str, CalicoCluster]) -> None:
        tunnel_nodes = [node for cluster in clusters.values() for node in cluster.nodes]
        by_name = {node.name: node for node in tunnel_nodes}
        for agent in self._agents:
            cluster, node, endpoints = clusters[agent.region], by_name.get(agent.name), tunnel_nodes
            if node is None:
                if agent.last_seen is None:
                    continue
                cluster, node, endpoints = _NO_CLUSTER, agent.last_seen, []
            agent.last_seen = node
            agent.aim(
                _Target(
                    birdconfig.render(cluster, node, endpoints, self._timers),
                    felix.desired_state(cluster, node, endpoints),
                )
            )
