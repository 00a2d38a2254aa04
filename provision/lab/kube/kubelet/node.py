"""A node: its Node object, its heartbeat, its pods, its endpoint."""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from provision.lab.kube.client import (
    LEASES,
    NODES,
    PODS,
    AlreadyExists,
    ApiClient,
    ApiError,
    Change,
    ChangeKind,
    KubeObject,
    NotFound,
    Patch,
    Reflector,
)
from provision.lab.kube.kubelet.network import PodNetwork
from provision.lab.kube.kubelet.pods import ContainerCommand, ContainerPrograms, NodeContext, Pod
from provision.lab.kube.kubelet.process import ProcessStarter
from provision.lab.kube.kubelet.server import NodeServer, tls_context
from provision.lab.kube.kubelet.volumes import Dns
from provision.lab.kube.objects import VERSION, timestamp

log = logging.getLogger(__name__)

HEARTBEAT_S = 10
LEASE_SECONDS = 40
LEASE_NAMESPACE = "kube-node-lease"
RETRY_S = 0.2
PODS_PER_NODE = "110"


@dataclass(frozen=True)
class AgentNode:
    """One node to run.

    Attributes:
        name: of the Node object.
        address: its InternalIP.
        netns: its network namespace.
        port: where its endpoint listens, on 127.0.0.1 of the namespace that the agents run in.
        host_tree: the folder that plays its file system for hostPath volumes.
    """

    name: str
    address: IPv4Address
    netns: str
    port: int
    host_tree: Path


@dataclass(frozen=True)
class AgentCluster:
    """The nodes of one cluster, and how to reach its API.

    Attributes:
        region: names the cluster.
        server: URL of the API server.
        ca: PEM file with the cluster's authority: it vouches for the API server, both as server and as our client.
        token: bearer token of the node agents.
        certificate: PEM file of the nodes' endpoints.
        key: its key.
        network: connects pods.
        dns: what pods resolve names with.
        nodes: the cluster's nodes.
    """

    region: str
    server: str
    ca: Path
    token: str
    certificate: Path
    key: Path
    network: PodNetwork
    dns: Dns
    nodes: tuple[AgentNode, ...]


@dataclass(frozen=True)
class Images:
    """What stands in for images.

    Attributes:
        command: from a container (its image, command and args) to what runs; raises when there is no such image.
        programs: from a container to what its image brings: files of the host, by programs' names or by full paths.
        python: what `python3` leads to in containers, where the host has none on the usual path.
    """

    command: ContainerCommand
    programs: ContainerPrograms
    python: Path


async def run_node_agents(clusters: Sequence[AgentCluster], *, images: Images, folder: Path) -> None:
    """Runs the node agents of all clusters until it is cancelled.

    Args:
        clusters: whose nodes.
        images: what stands in for images.
        folder: where pods' folders are made, one each, named like their network namespaces.
    """
    starter = ProcessStarter()
    async with asyncio.TaskGroup() as group:
        for cluster in clusters:
            group.create_task(_run_cluster(cluster, images, folder, starter))


async def _run_cluster(cluster: AgentCluster, images: Images, folder: Path, starter: ProcessStarter) -> None:
    tls = tls_context(cluster.certificate, cluster.key, cluster.ca)
    async with (
        ApiClient(cluster.server, ca=cluster.ca, token=cluster.token, name="meshproof-kubelet") as client,
        asyncio.TaskGroup() as group,
    ):
        agents: dict[str, NodeAgent] = {}
        for node in cluster.nodes:
            context = NodeContext(
                region=cluster.region,
                node=node.name,
                address=node.address,
                netns=node.netns,
                host_tree=node.host_tree,
                folder=folder,
                client=client,
                network=cluster.network,
                command=images.command,
                programs=images.programs,
                dns=cluster.dns,
                starter=starter,
                python=images.python,
            )
            agent = agents[node.name] = NodeAgent(context, node.port, group)
            await agent.server.start(node.port, tls)
            group.create_task(agent.keep_alive())
        pods = Reflector(client, PODS)

        def dispatch(change: Change) -> None:
            if (known := agents.get(change.object["spec"].get("nodeName", ""))) is not None:
                known.observe(change)

        pods.add_handler(dispatch)
        group.create_task(pods.run())


class NodeAgent:
    """One node of one cluster.

    Args:
        context: what the node's pods share.
        port: of the node's endpoint.
        group: where the pods' tasks run.
    """

    def __init__(self, context: NodeContext, port: int, group: asyncio.TaskGroup) -> None:
        self.server = NodeServer(self.find_pod, context.starter)
        self._context = context
        self._port = port
        self._group = group
        self._pods: dict[tuple[str, str], Pod] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def find_pod(self, namespace: str, name: str) -> Pod | None:
        """The newest pod of that name on this node."""
        return self._pods.get((namespace, name))

    def observe(self, change: Change) -> None:
        """Takes note of a change of a pod that is bound to this node."""
        meta = change.object["metadata"]
        key = meta["namespace"], meta["name"]
        known = self._pods.get(key)
        if known is not None and known.uid != meta["uid"]:
            known.gone()
        if change.kind is ChangeKind.DELETED:
            if known is not None:
                known.gone()
            return
        if known is not None and known.uid == meta["uid"]:
            known.update(change.object)
        elif change.object.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            self._begin(key, change.object, known)

    def _begin(self, key: tuple[str, str], obj: KubeObject, predecessor: Pod | None) -> None:
        pod = self._pods[key] = Pod(obj, self._context)
        pod.update(obj)
        before = self._tasks.get(predecessor.uid) if predecessor is not None else None
        task = self._group.create_task(self._run(key, pod, before))
        self._tasks[pod.uid] = task

    async def _run(self, key: tuple[str, str], pod: Pod, before: asyncio.Task[None] | None) -> None:
        try:
            if before is not None:
                await asyncio.wait({before})
            await pod.run()
        except Exception:  # one pod's trouble is not the other nodes'
            log.exception("pod %s/%s on %s", *key, self._context.node)
        finally:
            del self._tasks[pod.uid]
            if self._pods.get(key) is pod:
                del self._pods[key]

    async def keep_alive(self) -> None:
        """Registers the node, then renews its lease for as long as it lives."""
        while True:
            try:
                await self._register()
                while True:
                    await self._renew()
                    await asyncio.sleep(HEARTBEAT_S)
            except ApiError as error:
                log.debug("node %s: %s", self._context.node, error)
                await asyncio.sleep(RETRY_S)

    async def _register(self) -> None:
        name = self._context.node
        status = node_status(self._context.address, self._port, name, datetime.now(UTC))
        try:
            await self._patch_status(status)
        except NotFound:
            labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
            await self._context.client.create(NODES, {"metadata": {"name": name, "labels": labels}})
            await self._patch_status(status)

    async def _patch_status(self, status: dict[str, Any]) -> None:
        # Strategic: conditions that others report, such as the network's, stay as they are.
        await self._context.client.patch(
            NODES, self._context.node, {"status": status}, kind=Patch.STRATEGIC, subresource="status"
        )

    async def _renew(self) -> None:
        name = self._context.node
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        try:
            await self._context.client.patch(LEASES, name, {"spec": spec}, LEASE_NAMESPACE)
        except NotFound:
            lease = {"metadata": {"name": name, "namespace": LEASE_NAMESPACE}, "spec": spec}
            try:
                await self._context.client.create(LEASES, lease)
            except AlreadyExists:
                log.debug("the lease of %s was made meanwhile", name)


def node_status(address: IPv4Address, port: int, name: str, now: datetime) -> dict[str, Any]:
    """What a node reports of itself, with every field that clients require."""
    identity = str(uuid5(NAMESPACE_DNS, name))
    resources = {"cpu": "2", "memory": "4Gi", "pods": PODS_PER_NODE, "ephemeral-storage": "10Gi"}
    healthy = {
        "Ready": ("True", "KubeletReady", "kubelet is posting ready status"),
        "MemoryPressure": ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        "DiskPressure": ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    }
    moment = timestamp(now)
    return {
        "addresses": [
            {"type": "InternalIP", "address": str(address)},
            # How the API server reaches the endpoint: the nodes' own addresses exist only in their namespaces.
            {"type": "Hostname", "address": "127.0.0.1"},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        # Streams come as the WebSockets that clients open, not translated to SPDY (kube-apiserver 1.36 and newer).
        "declaredFeatures": ["ExtendWebSocketsToKubelet"],
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": moment,
                "lastTransitionTime": moment,
            }
            for kind, (status, reason, message) in healthy.items()
        ],
        "nodeInfo": {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "bootID": identity,
            "containerRuntimeVersion": "meshproof-lab://0.1.0",
            "kernelVersion": platform.release(),
            "kubeProxyVersion": VERSION,
            "kubeletVersion": VERSION,
            "machineID": identity.replace("-", ""),
            "operatingSystem": "linux",
            "osImage": "meshproof lab (processes of the host)",
            "systemUUID": identity,
        },
    }
