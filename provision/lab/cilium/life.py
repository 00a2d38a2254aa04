"""One life of a node's Cilium agent: from the start of its pod to its end. It remembers nothing of the one before."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path, PurePosixPath
from typing import Protocol

from provision.lab import kernel, netns
from provision.lab.cilium import api, keys, picture, settings
from provision.lab.cilium.connection import BadCertificateError, Target, Tls, UnreachableError
from provision.lab.cilium.dbg.command import answer
from provision.lab.cilium.endpoints import ClusterIdentity, IdentityAllocator, LocalEndpoints, identity_labels
from provision.lab.cilium.etcd import Backoff
from provision.lab.cilium.health import HealthProber
from provision.lab.cilium.policy.enforcer import PolicyEnforcer, View
from provision.lab.cilium.policy.model import Dialect
from provision.lab.cilium.remote import Access, ClusterIds, RemoteCluster
from provision.lab.cilium.state import (
    AgentState,
    ControllerState,
    EndpointEntry,
    IpcacheEntry,
    NodeEntry,
    NodeSource,
    TunnelEntry,
)
from provision.lab.cilium.watch import CONFIG, NAMESPACE, ClusterWatch
from provision.lab.kube.client import ApiError, KubeObject
from provision.lab.topology import API_SERVER_PORT, LabNode

log = logging.getLogger(__name__)

SETTLE_S = 0.02
RETRY_FIRST_S = 0.1
RETRY_MOST_S = 2.0
KUBERNETES_S = 3.0
CONTAINER = "cilium-agent"
POD_CIDRS_IN_IPCACHE = (1, 18)
"""Since then the ipcache leads to the other nodes' blocks, in the place of the tunnel map."""


class NodeDatapath(Protocol):
    """What an agent asks of its node's kernel. The methods block: they are called in a thread, one at a time."""

    def set_up(self, router: IPv4Address, pod_cidr: IPv4Network, settings: Mapping[str, str]) -> None:
        """Make the node's own devices and routes, unless they are there; `settings` is cilium-config."""
        ...

    def sync(self, entries: Collection[TunnelEntry]) -> None:
        """Bring the tunnel map, and the routes of other nodes' blocks, to these entries."""
        ...

    def tunnel_map(self) -> tuple[TunnelEntry, ...]:
        """The tunnel map as the kernel has it now."""
        ...


@dataclass(frozen=True)
class Place:
    """Where an agent runs: what outlives it.

    Attributes:
        tree: the folder that plays the node's file system.
        control_plane: the node of the cluster that its API server answers at.
        pods: set when a pod of the node or a namespace has changed, or an endpoint is gone.
        cluster: set when a node of the own cluster has changed.
        policy: set when a policy has, or an object that says which addresses policies mean.
        files: set when a file of the settings has.
    """

    node: LabNode
    tree: Path
    control_plane: LabNode
    watch: ClusterWatch
    datapath: NodeDatapath
    allocator: IdentityAllocator
    pods: asyncio.Event = field(default_factory=asyncio.Event)
    cluster: asyncio.Event = field(default_factory=asyncio.Event)
    policy: asyncio.Event = field(default_factory=asyncio.Event)
    files: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def settings_folder(self) -> Path:
        """The folder with a file for each remote cluster."""
        return self.tree / settings.FOLDER.relative_to("/")


class AgentLife:
    """An agent while its pod runs.

    Args:
        place: the node.
        pod: the agent's pod: its image says the version, its hostAliases what names stand for.
    """

    def __init__(self, place: Place, pod: KubeObject) -> None:
        self._place = place
        self._version = _version(pod)
        self._names = _host_names(pod)
        self._started = datetime.now(UTC)
        config = place.watch.config_maps.get(CONFIG, NAMESPACE) or {}
        self._settings: dict[str, str] = dict(config.get("data") or {})
        self._cluster = ClusterIdentity.of_settings(self._settings)
        self._ids = ClusterIds(self._cluster.name, self._cluster.number)
        self._remotes: dict[str, RemoteCluster] = {}
        self._news = asyncio.Event()
        node = place.node
        self._endpoints = LocalEndpoints(node.name, node.address, self._cluster, place.watch, place.allocator)
        self._health = HealthProber(node.netns, f"{self._cluster.name}/{node.name}", self.nodes)
        self._probes_health = self._settings.get("enable-health-checking", "true") == "true"
        self._failures: dict[str, str] = {}
        self._others_known = asyncio.Event()
        dialect = Dialect.of_settings(self._cluster.name, _minor(self._version), self._settings)
        self._policy = PolicyEnforcer(
            node.name, node.netns, place.watch, dialect, self._settings, self._policy_view, place.policy
        )

    async def run(self) -> None:
        """Live until cancelled."""
        own = await self._own_node()
        assert own.router is not None
        assert own.pod_cidr is not None
        await self._until_done(self._place.datapath.set_up, own.router, own.pod_cidr, self._settings)
        log.info("%s: the agent of version %s runs", self._place.node.name, self._version)
        inherited = await asyncio.to_thread(self._place.datapath.tunnel_map)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(api.serve(self._place.tree / api.SOCKET, lambda question: answer(question, self)))
            tasks.create_task(self._keep_endpoints())
            tasks.create_task(self._keep_remotes(tasks))
            tasks.create_task(self._keep_tunnels(inherited))
            tasks.create_task(self._policy.run(self._others_known))
            if self._probes_health:
                tasks.create_task(self._health.run())

    async def admit(self, pod: KubeObject, address: IPv4Address) -> None:
        """Return once a pod of the node may be connected: what policy says of it is in force."""
        namespace = self._place.watch.namespaces.get(pod["metadata"]["namespace"])
        await self._policy.admit(pod, identity_labels(pod, namespace, self._cluster.name), address)

    # --- what `cilium-dbg` asks for

    @property
    def namespace(self) -> str:
        """The network namespace that the agent connects from."""
        return self._place.node.netns

    @property
    def version(self) -> str:
        """The version that the agent is of."""
        return self._version

    @property
    def settings_folder(self) -> Path:
        """The folder with a file for each remote cluster."""
        return self._place.settings_folder

    def resolve(self, host: str) -> tuple[IPv4Address, ...]:
        """What a name stands for in the agent's pod."""
        try:
            return (IPv4Address(host),)
        except ValueError:
            return self._names.get(host, ())

    async def probe(self) -> None:
        """Have a fresh round of health probes, unless they are turned off."""
        if self._probes_health:
            await self._health.probe()

    def nodes(self) -> tuple[NodeEntry, ...]:
        """All nodes that the agent knows of, its own first."""
        name = self._place.node.name
        own = [
            replace(node, source=NodeSource.LOCAL if node.name == name else NodeSource.CUSTOM_RESOURCE)
            for obj in self._place.watch.nodes
            if (node := keys.node_of_object(obj, self._cluster.name, self._cluster.number))
        ]
        others = [node for remote in self._remotes.values() for node in remote.knowledge.nodes.values()]
        return tuple(sorted(own, key=lambda node: node.source is not NodeSource.LOCAL)) + tuple(others)

    async def state(self, *, maps: bool = False) -> AgentState:
        """A picture of this moment; tunnels and the ipcache, for which the kernel is asked, only with `maps`."""
        place = self._place
        nodes = self.nodes()
        own = next((node for node in nodes if node.source is NodeSource.LOCAL), None)
        tunnels = await asyncio.to_thread(place.datapath.tunnel_map) if maps else ()
        kubernetes_version, kubernetes_error = await self._ask_kubernetes()
        entries = self._policed(self._endpoints.entries)
        remotes = [remote for _, remote in sorted(self._remotes.items())]
        ipcache: tuple[IpcacheEntry, ...] = ()
        if maps:
            pod_cidrs = _minor(self._version) >= POD_CIDRS_IN_IPCACHE
            ipcache = picture.ipcache(place.watch, self._cluster, nodes, remotes, tunnels, pod_cidrs=pod_cidrs)
        allocated = [(entry.address, f"{entry.namespace}/{entry.pod}") for entry in entries]
        if own and own.router:
            allocated.append((own.router, "router"))
        if own and own.health:
            allocated.append((own.health, "health"))
        return AgentState(
            version=self._version,
            cluster=self._cluster.name,
            cluster_id=self._cluster.number,
            node=place.node.name,
            address=place.node.address,
            router=own.router if own else None,
            pod_cidr=own.pod_cidr if own else None,
            started=self._started,
            settings=self._settings,
            kubernetes_error=kubernetes_error,
            kubernetes_version=kubernetes_version,
            allocated=tuple(sorted(allocated)),
            nodes=nodes,
            tunnels=tunnels,
            ipcache=ipcache,
            identities=picture.identities(place.watch, remotes),
            endpoints=entries,
            services=picture.services(place.watch, self._cluster.name, remotes),
            policies=self._policy.policies,
            policy_revision=self._policy.revision,
            remotes=tuple(remote.state for remote in remotes),
            health=self._health.last,
            controllers=self._controllers(),
        )

    # --- what keeps running

    async def _keep_endpoints(self) -> None:
        backoff = Backoff(RETRY_FIRST_S, RETRY_MOST_S)
        while True:
            self._place.pods.clear()
            try:
                await self._endpoints.sync()
            except ApiError as error:
                self._failures["sync-endpoints"] = str(error)
                log.info("%s: endpoints: %s", self._place.node.name, error)
                await backoff.wait()
                continue
            self._failures.pop("sync-endpoints", None)
            backoff.reset()
            self._place.policy.set()
            await self._place.pods.wait()
            await asyncio.sleep(SETTLE_S)

    async def _keep_remotes(self, tasks: asyncio.TaskGroup) -> None:
        """A connection for every remote cluster that the settings name, made anew when they change."""
        running: dict[str, asyncio.Task[None]] = {}
        seen: dict[str, object] = {}
        while True:
            self._place.files.clear()
            found = await asyncio.to_thread(self._read_settings)
            found.pop(self._cluster.name, None)
            for name in running.keys() - found.keys():
                running.pop(name).cancel()
                del self._remotes[name]
                self._ids.release(name)
            for name, content in found.items():
                if name not in running:
                    remote = RemoteCluster(
                        self._place.node.name, name, partial(self._access, name), self._ids.accept, self._learn
                    )
                    self._remotes[name] = remote
                    running[name] = tasks.create_task(remote.run())
                elif seen[name] != content:
                    self._remotes[name].reconnect()
            seen = dict(found)
            self._learn()
            await self._place.files.wait()
            await asyncio.sleep(SETTLE_S)

    def _learn(self) -> None:
        """Something was learnt of other clusters, or is to be forgotten."""
        self._news.set()
        self._place.policy.set()
        if all(remote.state.synced.complete for remote in self._remotes.values()):
            self._others_known.set()

    async def _keep_tunnels(self, inherited: Sequence[TunnelEntry]) -> None:
        """The tunnel map follows the nodes that are known.

        What the agent before has left there stays until all remote clusters have told their nodes: the restart of an
        agent interrupts nothing, even while a store is away.
        """
        applied: set[TunnelEntry] | None = None
        while True:
            self._place.cluster.clear()
            self._news.clear()
            wanted = {
                TunnelEntry(node.pod_cidr, node.address)
                for node in self.nodes()
                if node.pod_cidr is not None and node.source is not NodeSource.LOCAL
            }
            if not all(remote.state.synced.complete for remote in self._remotes.values()) or not self._remotes:
                known = {entry.prefix for entry in wanted}
                wanted |= {entry for entry in inherited if entry.prefix not in known}
            if wanted != applied:
                await self._until_done(self._place.datapath.sync, wanted)
                applied = wanted
            waits = {asyncio.create_task(event.wait()) for event in (self._place.cluster, self._news)}
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            await asyncio.sleep(SETTLE_S)

    async def _until_done(self, order: Callable[..., None], *arguments: object) -> None:
        """Give the kernel an order until it obeys."""
        backoff = Backoff(RETRY_FIRST_S, RETRY_MOST_S)
        while True:
            try:
                await asyncio.to_thread(order, *arguments)
            except kernel.KernelError as error:
                self._failures["sync-datapath"] = str(error)
                log.warning("%s: %s", self._place.node.name, error)
                await backoff.wait()
            else:
                self._failures.pop("sync-datapath", None)
                return

    # --- what these are made of

    async def _own_node(self) -> NodeEntry:
        """The node's own CiliumNode, once it has its block and its address in it."""
        while True:
            self._place.cluster.clear()
            obj = self._place.watch.nodes.get(self._place.node.name)
            node = keys.node_of_object(obj, self._cluster.name, self._cluster.number) if obj else None
            if node and node.pod_cidr and node.router:
                return node
            await self._place.cluster.wait()

    def _policy_view(self) -> View:
        return View(self._endpoints.entries, self.nodes(), tuple(self._remotes.values()))

    def _policed(self, entries: Sequence[EndpointEntry]) -> tuple[EndpointEntry, ...]:
        """The endpoints, with word on whether policy is enforced on them."""
        enforced = self._policy.enforced
        return tuple(
            replace(entry, policed=enforced[entry.address]) if entry.address in enforced else entry for entry in entries
        )

    def _read_settings(self) -> dict[str, object]:
        """What each remote cluster's settings say, the contents of the files that they name included."""
        found: dict[str, object] = {}
        for name, text in settings.configured_clusters(self._place.settings_folder).items():
            try:
                told = settings.read_settings(text)
                files = [self._read(path) for path in (told.ca, told.certificate, told.key) if path is not None]
            except (settings.SettingsError, BadCertificateError):
                files = []  # said when the connection is tried
            found[name] = (text, *files)
        return found

    def _access(self, name: str) -> Access:
        try:
            told = settings.read_settings((self._place.settings_folder / name).read_text())
            _, host, port = settings.split_endpoint(told.endpoints[0])
        except OSError as error:
            raise UnreachableError(f"the settings of cluster {name} cannot be read: {error.strerror}") from error
        except settings.SettingsError as error:
            raise UnreachableError(f"the settings of cluster {name}: {error}") from error
        addresses = self.resolve(host)
        if not addresses:
            raise UnreachableError(f"lookup {host}: no such host")
        ca, certificate, key = (self._read(path) if path else b"" for path in (told.ca, told.certificate, told.key))
        return Access(Target(self.namespace, host, addresses, port), Tls(ca, certificate, key))

    def _read(self, path: PurePosixPath) -> bytes:
        try:
            return (self._place.tree / path.relative_to("/")).read_bytes()
        except OSError as error:
            raise BadCertificateError(f"open {path}: {(error.strerror or '').lower()}") from error

    async def _ask_kubernetes(self) -> tuple[str, str]:
        """The API server's version, or why it does not answer: by the node's own network, as an agent sees it."""
        door = f"{self._place.control_plane.address}:{API_SERVER_PORT}"
        try:
            async with asyncio.timeout(KUBERNETES_S):
                await self._knock(self._place.control_plane.address, API_SERVER_PORT)
                answer = await self._place.watch.client.request("GET", "/version")
        except OSError as error:
            return "", f"dial tcp {door}: connect: {os.strerror(error.errno or 0).lower()}"
        except TimeoutError:
            return "", f"dial tcp {door}: i/o timeout"
        except ApiError as error:
            return "", str(error)
        return f"{answer.get('major', '')}.{answer.get('minor', '')} ({answer.get('gitVersion', '')})", ""

    async def _knock(self, address: IPv4Address, port: int) -> None:
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        with netns.open_socket(self.namespace, socket.AF_INET, kind) as end:
            await asyncio.get_running_loop().sock_connect(end, (str(address), port))

    def _controllers(self) -> tuple[ControllerState, ...]:
        failures = self._failures | ({"sync-policy": self._policy.failure} if self._policy.failure else {})
        names = ("sync-datapath", "sync-endpoints", "sync-policy")
        own = [ControllerState(name, int(name in failures), failures.get(name, "")) for name in names]
        remotes = [
            ControllerState(f"remote-etcd-{name}", state.failures if state.last_error else 0, state.last_error)
            for name, state in ((name, remote.state) for name, remote in sorted(self._remotes.items()))
        ]
        return (*own, *remotes)


def _version(pod: KubeObject) -> str:
    image = next(row["image"] for row in pod["spec"]["containers"] if row["name"] == CONTAINER)
    return str(image).split("@")[0].rpartition(":")[2].removeprefix("v")


def _minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _host_names(pod: KubeObject) -> dict[str, tuple[IPv4Address, ...]]:
    found: dict[str, tuple[IPv4Address, ...]] = {}
    for alias in pod["spec"].get("hostAliases") or ():
        for name in alias.get("hostnames") or ():
            found[name] = (*found.get(name, ()), IPv4Address(alias["ip"]))
    return found
