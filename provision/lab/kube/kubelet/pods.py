"""One pod on its node, from the moment it is bound until nothing is left of it."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath

from provision.lab.kube.client import PODS, ApiClient, ApiError, Conflict, KubeObject, NotFound
from provision.lab.kube.kubelet import environment, security
from provision.lab.kube.kubelet.containers import Container, ImageError, Prepared
from provision.lab.kube.kubelet.network import PodNetwork
from provision.lab.kube.kubelet.process import ProcessStarter
from provision.lab.kube.kubelet.rootfs import Mount, Root
from provision.lab.kube.kubelet.sandbox import Sandbox, SandboxError, SandboxPlace
from provision.lab.kube.kubelet.source import ConfigurationError, ConfigurationSource, PodContext
from provision.lab.kube.kubelet.status import ContainerState, PodState, Waiting, pod_status
from provision.lab.kube.kubelet.volumes import Dns, Volumes, write_identity_files

log = logging.getLogger(__name__)

RETRY_S = 0.5
ENDS_WITHIN_S = 2.0
"""What a container's last output and its files may take to be cleared up, once its process has ended."""

DEFAULT_GRACE_S = 30

ContainerCommand = Callable[[Mapping[str, object]], list[str]]
"""From a container (its image, command and args) to what runs; any exception means that there is no such image."""

ContainerPrograms = Callable[[Mapping[str, object]], Mapping[str, Path]]
"""From a container to what its image has and the host's folders have not: the host's files, by programs' names or by
full paths."""

PROGRAM_FOLDER = PurePosixPath("/usr/local/bin")


@dataclass(frozen=True)
class NodeContext:
    """What all pods of a node share.

    Attributes:
        region: names the cluster; part of the names of pods' network namespaces.
        node: the node's name.
        address: its InternalIP.
        netns: its network namespace.
        host_tree: the folder that plays its file system for hostPath volumes.
        folder: where pods' folders are.
        python: what `python3` leads to in containers, where the host has none on the usual path.
    """

    region: str
    node: str
    address: IPv4Address
    netns: str
    host_tree: Path
    folder: Path
    client: ApiClient
    network: PodNetwork
    command: ContainerCommand
    programs: ContainerPrograms
    dns: Dns
    starter: ProcessStarter
    python: Path


class Pod:
    """Runs one pod. `run` ends when the pod has been removed from the node and from the API.

    Attributes:
        containers: by name, those that have been made so far.
    """

    def __init__(self, pod: KubeObject, context: NodeContext) -> None:
        meta, spec = pod["metadata"], pod["spec"]
        self.uid: str = meta["uid"]
        self.object = pod
        self.containers: dict[str, Container] = {}
        self._node = context
        self._source = ConfigurationSource(context.client)
        own_network = not spec.get("hostNetwork")
        name = f"{context.region}.{meta['namespace']}.{meta['name']}"
        self._folder = context.folder / name
        place = SandboxPlace(
            netns=name if own_network else context.netns,
            own_network=own_network,
            hostname=environment.hostname(pod),
            folder=self._folder,
        )
        self.sandbox = Sandbox(place, context.network, context.address, context.starter)
        self._volumes = Volumes(self._folder, context.host_tree, self._source)
        self._identity_mounts: tuple[Mount, ...] = ()
        self._started = datetime.now(UTC)
        self._sandboxed = False
        self._problem: Waiting | None = None
        self._told: KubeObject = pod
        self._telling = asyncio.Lock()
        self._changed = asyncio.Event()
        self._delete = asyncio.Event()
        self._settled = asyncio.Event()
        self._gone = asyncio.Event()
        self._ephemeral: dict[str, asyncio.Task[None]] = {}

    @property
    def address(self) -> str:
        """The pod's address, or its node's before it has one."""
        return str(self.sandbox.address)

    def update(self, pod: KubeObject) -> None:
        """Takes note of a newer version of the pod: its deletion, or further ephemeral containers."""
        self.object = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._delete.set()
        elif self._sandboxed:
            self._start_ephemeral()

    def gone(self) -> None:
        """Takes note that the pod is no longer in the API: it ends at once, and nobody need be told."""
        self._gone.set()
        self._delete.set()

    async def run(self) -> None:
        """Runs the pod until it is deleted, and clears up behind it."""
        reporting = asyncio.create_task(self._report())
        living = asyncio.create_task(self._live())
        living.add_done_callback(_log_failure)
        try:
            await self._delete.wait()
            await self._settled.wait()  # a sandbox that is half made cannot be given back
            await self._stop()
            if not self._gone.is_set():
                await asyncio.wait({living}, timeout=ENDS_WITHIN_S)
                await self._tell()  # how the containers ended: once the pod is gone nobody can ask
        finally:
            for task in (living, *self._ephemeral.values()):
                task.cancel()
            await asyncio.gather(living, *self._ephemeral.values(), return_exceptions=True)
            await self.sandbox.remove(self.object)
            reporting.cancel()
        if not self._gone.is_set():
            await self._remove_from_api()

    async def _live(self) -> None:
        try:
            await self._make_sandbox()
        finally:
            self._settled.set()
        if self._sandboxed:
            await self._run_containers()

    async def _make_sandbox(self) -> None:
        while not self._delete.is_set():
            try:
                await self.sandbox.create(self.object)
                await self._prepare_volumes()
            except (SandboxError, ConfigurationError, ApiError, OSError) as error:
                self._report_problem("FailedCreatePodSandBox", str(error))
                await self.sandbox.remove(self.object)
                await asyncio.sleep(RETRY_S)
            else:
                self._problem = None
                self._sandboxed = True
                return

    async def _prepare_volumes(self) -> None:
        context = self._context()
        await self._volumes.prepare(context)
        resolver = self._node.host_tree / "etc/resolv.conf"
        self._identity_mounts = write_identity_files(self._folder, context, self._node.dns, resolver)

    async def _run_containers(self) -> None:
        spec = self.object["spec"]
        policy = spec.get("restartPolicy") or "Always"
        async with asyncio.TaskGroup() as group:
            for row in spec.get("initContainers") or ():
                container = self._container(row)
                if row.get("restartPolicy") == "Always":  # a sidecar: runs beside the others, from before they start
                    group.create_task(container.run("Always"))
                    await container.up.wait()
                    continue
                await container.run("Never" if policy == "Never" else "OnFailure")
                if container.state.failed:
                    return
            for container in [self._container(row) for row in spec["containers"]]:
                group.create_task(container.run(policy))
            self._start_ephemeral()

    def _start_ephemeral(self) -> None:
        for row in self.object["spec"].get("ephemeralContainers") or ():
            if row["name"] not in self._ephemeral:
                container = self._container(row)
                self._ephemeral[row["name"]] = asyncio.create_task(container.run("Never"))

    def _container(self, row: KubeObject) -> Container:
        assert self.sandbox.pause is not None
        container = Container(
            row,
            folder=self._folder / "containers" / row["name"],
            pause=self.sandbox.pause,
            prepare=lambda folder: self._prepare(row, folder),
            starter=self._node.starter,
            probe_from=self._node.netns,
            address=self.address,
            changed=self._changed.set,
        )
        self.containers[row["name"]] = container
        return container

    async def _prepare(self, row: KubeObject, folder: Path) -> Prepared:
        env = await environment.container_environment(self._context(), row, self._source)
        try:
            argv = self._node.command(environment.expanded(row, env))
        except Exception as error:
            raise ImageError(str(error)) from error
        known = {**self._node.programs(row), **own_programs(self._node.host_tree)}
        programs = tuple(Mount(path, PROGRAM_FOLDER / name, read_only=True) for name, path in known.items())
        has_python = shutil.which("python3", path=environment.PATH) is not None
        root = Root(
            folder=folder,
            proc=self.sandbox.proc,
            mounts=programs + self._identity_mounts + self._volumes.mounts(row, env),
            read_only=security.read_only_root(row),
            devices=security.is_privileged(row),
            programs=() if has_python else (("python3", self._node.python),),
        )
        return Prepared(argv, env, security.credentials(self.object, row), root)

    def _context(self) -> PodContext:
        return PodContext(self.object, self.address, str(self._node.address))

    async def _stop(self) -> None:
        meta, spec = self.object["metadata"], self.object["spec"]
        grace = meta.get("deletionGracePeriodSeconds")
        if grace is None:
            grace = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
        stopping = asyncio.create_task(self._stop_containers(grace))
        hurry = asyncio.create_task(self._until_gone())  # deleted by force: what is left ends with the sandbox
        await asyncio.wait({stopping, hurry}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, hurry):
            task.cancel()

    async def _stop_containers(self, grace_s: float) -> None:
        await asyncio.gather(*(container.stop(grace_s) for container in tuple(self.containers.values())))

    async def _until_gone(self) -> None:
        await self._gone.wait()

    def _report_problem(self, reason: str, message: str) -> None:
        log.warning("pod %s: %s", self.sandbox.place.folder.name, message)
        self._problem = Waiting(reason, message)
        self._changed.set()

    def state(self) -> PodState:
        """The pod as it is now."""
        spec = self.object["spec"]

        def states(key: str) -> tuple[ContainerState, ...]:
            waiting = self._problem or Waiting("PodInitializing" if self._sandboxed else "ContainerCreating")
            return tuple(
                self.containers[row["name"]].state
                if row["name"] in self.containers
                else ContainerState(row["name"], row.get("image", ""), waiting)
                for row in spec.get(key) or ()
            )

        return PodState(
            node_address=str(self._node.address),
            addresses=(self.address,) if self._sandboxed else (),
            started=self._started,
            init=states("initContainers"),
            containers=states("containers"),
            ephemeral=states("ephemeralContainers"),
        )

    async def _report(self) -> None:
        """Writes the status after each change; changes that come while one is written go into the next together."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not await self._tell():
                await asyncio.sleep(RETRY_S)
                self._changed.set()

    async def _tell(self) -> bool:
        """Writes the status as it is now; False when the API did not take it and may do so later."""
        meta = self.object["metadata"]
        async with self._telling:
            status = pod_status(self._told, self.state(), datetime.now(UTC))
            body = {"metadata": {"uid": self.uid}, "status": status}
            try:
                self._told = await self._node.client.patch(
                    PODS, meta["name"], body, meta["namespace"], subresource="status"
                )
            except (NotFound, Conflict):
                log.debug("pod %s/%s is gone: its status is not reported", meta["namespace"], meta["name"])
            except ApiError as error:
                log.warning("status of pod %s/%s: %s", meta["namespace"], meta["name"], error)
                return False
        return True

    async def _remove_from_api(self) -> None:
        meta = self.object["metadata"]
        while True:
            try:
                await self._node.client.delete(PODS, meta["name"], meta["namespace"], grace_seconds=0, uid=self.uid)
            except (NotFound, Conflict):
                return
            except ApiError as error:
                log.warning("deletion of pod %s/%s: %s", meta["namespace"], meta["name"], error)
                await asyncio.sleep(RETRY_S)
            else:
                return


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a pod's life ended with an error of the node agent", exc_info=error)


def own_programs(host_tree: Path) -> dict[str, Path]:
    """The programs of the node itself, by name: images are the host's file system, so its pods see them."""
    folder = host_tree / PROGRAM_FOLDER.relative_to("/")
    return {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
