"""The Cilium agent of every node of the lab.

To whoever wires this in:

    watches = {region: ClusterWatch(client with Cilium's identity) ...}    # run by the controller
    datapaths = {node.name: Datapath(node.netns, node.address) ...}
    tasks.create_task(CiliumController(topology, watches, datapaths).run(fabric_ready))

- An agent lives as long as the container "cilium-agent" of the pod `k8s-app=cilium` of its node runs: its version is
  that of the image's tag, the names it can resolve are the pod's hostAliases. It reads ConfigMap
  kube-system/cilium-config once, at its start.
- Its files are below `host_tree(node)`: /var/lib/cilium/clustermesh (one file per remote cluster, and
  common-etcd-client{-ca.crt,.crt,.key}) and /var/run/cilium/cilium.sock; the pod mounts both folders by hostPath. The
  first is written from the Secrets cilium-clustermesh and clustermesh-apiserver-remote-cert whenever these change.
- It needs: list and watch of ciliumnodes, pods, namespaces, services, endpointslices, configmaps and secrets of
  kube-system, and of policies, Cilium's and Kubernetes'; all on ciliumendpoints and ciliumidentities.
- CiliumNode objects are the operator's. `spec.addresses` has InternalIP and CiliumInternalIP, `spec.ipam.podCIDRs` one
  CIDR, `spec.health.ipv4` (optional) an address of the node that answers TCP 4240 in the node's namespace.
- The store of a cluster is filled while its pod `k8s-app=clustermesh-apiserver` is running: container "etcd" runs
  `store.ETCD_COMMAND`, with the Secret clustermesh-apiserver-server-cert at /var/lib/etcd-secrets and an emptyDir at
  /var/run/etcd; container "apiserver" only needs to exist. Seed the Secrets from `pki.mesh_secrets`.
- `cilium-dbg`, `cilium` and `cilium-health` are one program, `dbg/program.py`, which needs no more than a Python and
  the socket; it goes by the name that it is called by.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from ipaddress import IPv4Address

from provision.lab.agents_config import host_tree
from provision.lab.cilium.endpoints import IdentityAllocator
from provision.lab.cilium.life import CONTAINER, AgentLife, NodeDatapath, Place
from provision.lab.cilium.mounts import FolderWatch, SettingsMounts
from provision.lab.cilium.store import ClusterStore
from provision.lab.cilium.watch import NAMESPACE, ClusterWatch
from provision.lab.kube.client import Change, ChangeKind, KubeObject
from provision.lab.topology import LabTopology

log = logging.getLogger(__name__)

RETRY_S = 1.0


class CiliumController:
    """The agents of all nodes and the stores of all clusters.

    Args:
        topology: the lab.
        watches: by region.
        datapaths: by the node's name.
    """

    def __init__(
        self, topology: LabTopology, watches: Mapping[str, ClusterWatch], datapaths: Mapping[str, NodeDatapath]
    ) -> None:
        self._topology = topology
        self._watches = watches
        self._datapaths = datapaths
        self._agents: dict[str, _NodeAgent] = {}

    async def admit(self, pod: KubeObject, address: IPv4Address) -> None:
        """Return once a pod that is to have that address may be connected; at once where no agent runs."""
        agent = self._agents.get(pod["spec"]["nodeName"])
        if agent is not None and agent.life is not None:
            await agent.life.admit(pod, address)

    async def run(self, fabric_ready: asyncio.Event) -> None:
        """Run until cancelled. The kernel is not touched before `fabric_ready`."""
        with FolderWatch() as folders:
            async with asyncio.TaskGroup() as tasks:
                for region in self._topology.regions:
                    watch = self._watches[region.name]
                    allocator = IdentityAllocator(watch)
                    places = [
                        Place(node, host_tree(node.name), region.nodes[0], watch, self._datapaths[node.name], allocator)
                        for node in region.nodes
                    ]
                    for place in places:
                        folders.add(place.settings_folder, place.files.set)
                    tasks.create_task(watch.run())
                    tasks.create_task(SettingsMounts(watch, [place.settings_folder for place in places]).run())
                    tasks.create_task(ClusterStore(region.name, watch).run())
                    for place in places:
                        agent = self._agents[place.node.name] = _NodeAgent(place)
                        tasks.create_task(agent.run(fabric_ready))


class _NodeAgent:
    """The agent of one node through all its lives.

    Attributes:
        life: the one that it has now, None between two.
    """

    def __init__(self, place: Place) -> None:
        self.life: AgentLife | None = None
        self._place = place
        self._pod_changed = asyncio.Event()

    async def run(self, fabric_ready: asyncio.Event) -> None:
        """Live whenever the agent's container runs, and anew when it is another."""
        place = self._place
        await place.watch.synced()
        await fabric_ready.wait()
        place.watch.pods.add_handler(self._note_pod)
        place.watch.namespaces.add_handler(lambda _change: place.pods.set())
        place.watch.endpoints.add_handler(self._note_endpoint)
        place.watch.nodes.add_handler(lambda _change: place.cluster.set())
        for reflector in place.watch.meant_by_policy:
            reflector.add_handler(lambda _change: place.policy.set())
        while True:
            self._pod_changed.clear()
            pod = self._pod()
            if pod is None:
                await self._pod_changed.wait()
                continue
            self.life = AgentLife(place, pod)
            life = asyncio.create_task(self.life.run())
            try:
                await self._until_another(pod, life)
            finally:
                self.life = None
                life.cancel()
                await asyncio.wait([life])

    async def _until_another(self, pod: KubeObject, life: asyncio.Task[None]) -> None:
        while _run_of(self._pod()) == _run_of(pod):
            change = asyncio.create_task(self._pod_changed.wait())
            await asyncio.wait([change, life], return_when=asyncio.FIRST_COMPLETED)
            change.cancel()
            self._pod_changed.clear()
            if life.done():
                log.error("the agent of %s failed", self._place.node.name, exc_info=life.exception())
                await asyncio.sleep(RETRY_S)
                return

    def _note_pod(self, change: Change) -> None:
        for pod in (change.object, change.previous):
            if pod is not None and pod["spec"].get("nodeName") == self._place.node.name:
                self._place.pods.set()
                if _is_agent(pod):
                    self._pod_changed.set()

    def _note_endpoint(self, change: Change) -> None:
        """An endpoint that somebody else has removed is made again, if its pod is still there."""
        if change.kind is ChangeKind.DELETED:
            self._place.pods.set()

    def _pod(self) -> KubeObject | None:
        """The node's cilium pod whose agent runs."""
        for pod in self._place.watch.pods:
            if _is_agent(pod) and pod["spec"].get("nodeName") == self._place.node.name and _run_of(pod) is not None:
                return pod
        return None


def _is_agent(pod: KubeObject) -> bool:
    meta = pod["metadata"]
    return meta["namespace"] == NAMESPACE and (meta.get("labels") or {}).get("k8s-app") == "cilium"


def _run_of(pod: KubeObject | None) -> tuple[str, str] | None:
    """What tells one run of the agent's container from another, None while it does not run."""
    if pod is None or pod["metadata"].get("deletionTimestamp"):
        return None
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        if status["name"] == CONTAINER and "running" in (status.get("state") or {}):
            return pod["metadata"]["uid"], f"{status.get('containerID')}/{status.get('restartCount')}"
    return None
