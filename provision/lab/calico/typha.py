"""Typha of one cluster: the part that federates it with others, as Calico Enterprise has it.

Open-source Calico has no federation; here it is played with its published surface. For every
RemoteClusterConfiguration Typha takes the kubeconfig in the Secret that it names, connects to that cluster's API server
from its own node, through the VPCs' routers, lists and watches what is federated, and says in its log how that stands.

It runs while a Typha pod does and in the network of that pod's node; the pod's container shows the log. Two things
differ from the product: it tries again after one second, where that waits for ten, and a kubeconfig that changes is
used at once, where that asks for a restart.

What it has read of other clusters' pods is what policy knows of them. When a connection is lost, the last that it read
stays; the pods of a cluster go when its RemoteClusterConfiguration does, or when a Typha that begins anew cannot read
them.
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import yaml

from provision.lab.agents_config import host_tree
from provision.lab.calico.control_plane import NAMESPACE, TYPHA, TYPHA_HEALTH_PORT, TYPHA_LOGS, remote_name
from provision.lab.calico.health import serve_health
from provision.lab.calico.policy.remote import RemotePods
from provision.lab.calico.resources import REMOTE_CLUSTERS
from provision.lab.kube.client import (
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    ApiClient,
    ApiError,
    Bookmark,
    ChangeKind,
    KubeObject,
    Reflector,
    Resource,
    synced,
)
from provision.lab.topology import LabNode

RETRY_S = 1.0
FEDERATED = (NODES, PODS, NAMESPACES, SERVICE_ACCOUNTS)
"""Pods, and what they inherit labels from."""


class UnusableError(Exception):
    """A RemoteClusterConfiguration or its Secret cannot be used; the text says why."""


@dataclass(frozen=True)
class RemoteAccess:
    """How another cluster's API server is reached: URL, PEM text of its authority, and a token."""

    server: str
    ca: str
    token: str = field(repr=False)


def read_kubeconfig(text: str) -> RemoteAccess:
    """The access that the current context of a kubeconfig describes.

    Raises:
        UnusableError: it is no kubeconfig, or one without a server, an authority or a token.
    """
    try:
        document = yaml.safe_load(text)
        context = _named(document["contexts"], document["current-context"])["context"]
        cluster = _named(document["clusters"], context["cluster"])["cluster"]
        user = _named(document["users"], context["user"])["user"]
        authority = b64decode(cluster["certificate-authority-data"]).decode()
        ssl.create_default_context(cadata=authority)  # raises ssl.SSLError, an OSError, for what is no certificate
        return RemoteAccess(cluster["server"], authority, user["token"].strip())
    except (yaml.YAMLError, StopIteration, LookupError, AttributeError, TypeError, ValueError, OSError) as error:
        raise UnusableError(f"the kubeconfig cannot be used: {type(error).__name__} {error}") from None


def read_access(configuration: KubeObject, secrets: Reflector) -> RemoteAccess:
    """The access that a RemoteClusterConfiguration leads to. Raises UnusableError."""
    reference = configuration["spec"].get("clusterAccessSecret") or {}
    name = reference.get("name", "")
    secret = secrets.get(name, reference.get("namespace") or NAMESPACE)
    if secret is None:
        raise UnusableError(f"Cluster access secret was not found: {name or 'none is named'}")
    data = {key: b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}
    if data.get("datastoreType") != "kubernetes":
        raise UnusableError(f"datastoreType of secret {name} is {data.get('datastoreType')!r}, not 'kubernetes'")
    return read_kubeconfig(data.get("kubeconfig", ""))


class Typha:
    """Typha of one cluster, wherever its pods run.

    Args:
        client: talks to the own cluster, as Typha.
        nodes: the nodes of the cluster.

    Attributes:
        remote_pods: what it knows of the pods of other clusters.
    """

    def __init__(self, client: ApiClient, nodes: tuple[LabNode, ...]) -> None:
        self.remote_pods = RemotePods()
        self._nodes = {node.name: node for node in nodes}
        self._pods = Reflector(client, PODS, namespace=NAMESPACE, label_selector=f"k8s-app={TYPHA}")
        self._remotes = Reflector(client, REMOTE_CLUSTERS)
        self._secrets = Reflector(client, SECRETS, namespace=NAMESPACE)

    async def run(self) -> None:
        """Run until cancelled. The nodes' networks must be there."""
        changed = asyncio.Event()
        reflectors = (self._pods, self._remotes, self._secrets)
        for reflector in reflectors:
            reflector.add_handler(lambda _change: changed.set())
        async with asyncio.TaskGroup() as tasks:
            for reflector in reflectors:
                tasks.create_task(reflector.run())
            await synced(*reflectors)
            running: dict[tuple[str, str], _Run] = {}
            while True:
                changed.clear()
                pods = dict(_running(self._pods))
                for key in running.keys() - pods.keys():
                    running.pop(key).stop()
                for key in pods.keys() - running.keys():
                    pod, node = key[0], self._nodes[pods[key]]
                    log = host_tree(node.name) / TYPHA_LOGS / f"{pod}.log"
                    running[key] = _Run(node, log, self.remote_pods, tasks)
                for run in running.values():
                    run.follow(self._remotes, self._secrets)
                await changed.wait()


def _running(pods: Reflector) -> Iterator[tuple[tuple[str, str], str]]:
    """Name of the pod and id of its container, and the node, of every Typha that runs."""
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses") or ():
            if "running" in (container.get("state") or {}) and not pod["metadata"].get("deletionTimestamp"):
                yield (pod["metadata"]["name"], container.get("containerID", "")), pod["spec"]["nodeName"]


class _Run:
    """One run of a Typha container: its log, its health port, and a task for every remote cluster."""

    def __init__(self, node: LabNode, file: Path, pods: RemotePods, tasks: asyncio.TaskGroup) -> None:
        self._node = node
        self._pods = pods
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        self._log = _Log(file.open("w"))
        self._tasks = tasks
        # Typha is ready once it has read its own cluster, and it has before it comes here.
        self._health = tasks.create_task(
            serve_health(node.netns, str(node.address), TYPHA_HEALTH_PORT, is_ready=lambda: True)
        )
        self._remotes: dict[str, tuple[RemoteAccess, asyncio.Task[None]]] = {}

    def follow(self, configurations: Reflector, secrets: Reflector) -> None:
        """Connect to what is configured now, and to nothing else."""
        wanted: dict[str, RemoteAccess] = {}
        configured = {configuration["metadata"]["name"]: configuration for configuration in configurations}
        for name, configuration in configured.items():
            try:
                wanted[name] = read_access(configuration, secrets)
            except UnusableError as error:
                self._log.warning(f"Unable to get datastore config: {error} {remote_name(name)}")
                if name not in self._remotes:
                    self._pods.forget(name)
        for name, (access, task) in tuple(self._remotes.items()):
            if wanted.get(name) != access:
                self._log.info(f"Stop syncer for {remote_name(name)}")
                task.cancel()
                del self._remotes[name]
                if name not in configured:
                    self._pods.forget(name)
        for name in wanted.keys() - self._remotes.keys():
            task = self._tasks.create_task(_follow_remote(name, wanted[name], self._node, self._pods, self._log))
            self._remotes[name] = wanted[name], task

    def stop(self) -> None:
        """End with the container."""
        for _, task in self._remotes.values():
            task.cancel()
        self._health.cancel()
        self._log.close()


async def _follow_remote(name: str, access: RemoteAccess, node: LabNode, pods: RemotePods, words: _Log) -> None:
    """Stay connected to one remote cluster until cancelled."""
    who, has_read = remote_name(name), False
    while True:
        words.info(f"Creating syncer for {who}")
        try:
            async with ApiClient(
                access.server, ca=access.ca, token=access.token, name=TYPHA, netns=node.netns
            ) as client:
                lists = {resource: await client.list(resource) for resource in FEDERATED}
                pods.replace(name, {resource: found.items for resource, found in lists.items()})
                has_read = True
                words.info(f"Sending in-sync update for {who}")
                async with asyncio.TaskGroup() as watches:
                    for resource, found in lists.items():
                        watches.create_task(_watch(client, resource, found.resource_version, partial(pods.take, name)))
        except* ApiError as errors:
            words.info(f"Sending connection failed update for {who} error={_first(errors)}")
            if not has_read:
                pods.forget(name)
        await asyncio.sleep(RETRY_S)


async def _watch(
    client: ApiClient, resource: Resource, version: str, take: Callable[[Resource, ChangeKind, KubeObject], None]
) -> None:
    """Follow a list for as long as the server lets it be watched. Raises ApiError when it no longer does."""
    while True:
        async for change in client.watch(resource, version):
            if isinstance(change, Bookmark):
                version = change.resource_version
            else:
                version = change.object["metadata"]["resourceVersion"]
                take(resource, change.kind, change.object)


def _first(errors: BaseExceptionGroup[ApiError]) -> ApiError:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ApiError)
    return error


class _Log:
    """Typha's log file, a line at a time."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def info(self, text: str) -> None:
        self._write("INFO", text)

    def warning(self, text: str) -> None:
        self._write("WARNING", text)

    def close(self) -> None:
        self._file.close()

    def _write(self, level: str, text: str) -> None:
        moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        self._file.write(f"{moment} [{level}][1] remotecluster: {text}\n")
        self._file.flush()


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)
