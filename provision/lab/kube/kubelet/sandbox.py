"""A pod's sandbox: its namespaces, held by a pause process, and its folder.

The pause process is process 1 of the pod's PID namespace: whatever the pod started ends with it, however it was forked.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from provision.lab import netns
from provision.lab.kube.client import KubeObject
from provision.lab.kube.kubelet import kernel, process
from provision.lab.kube.kubelet.network import PodNetwork
from provision.lab.kube.kubelet.process import Launch, Process, ProcessStarter

log = logging.getLogger(__name__)

_PAUSE = """\
mount -t proc proc "$0" 2>/dev/null || mount --rbind /proc "$0" || exit
echo ready
exec env --ignore-signal=CHLD sleep infinity
"""
"""Only a process inside the PID namespace can mount its /proc. Where the host hides parts of its own, the kernel gives
none out, and the host's must do. Orphans that end in the namespace are not to become zombies; a shell's trap does not
ignore that signal for good."""

_PING_GROUPS = "net.ipv4.ping_group_range"


class SandboxError(Exception):
    """The sandbox cannot be made; the text says which step failed and why."""


@dataclass(frozen=True)
class SandboxPlace:
    """Where a sandbox belongs.

    Attributes:
        netns: the network namespace: the node's for a pod on the host's network, else the pod's own, to be made.
        own_network: whether the namespace is the pod's own.
        hostname: the pod's host name.
        folder: the pod's folder.
    """

    netns: str
    own_network: bool
    hostname: str
    folder: Path


class Sandbox:
    """The namespaces of one pod, from `create` to `remove`.

    Attributes:
        address: the pod's address once it is attached, or the node's.
    """

    def __init__(
        self, place: SandboxPlace, network: PodNetwork, node_address: IPv4Address, starter: ProcessStarter
    ) -> None:
        self.place = place
        self.address = node_address
        self.pause: Process | None = None
        self._network = network
        self._starter = starter
        self._attached = False

    @property
    def proc(self) -> Path:
        """Where the pod's own /proc is mounted, in the pause process's mount namespace."""
        return self.place.folder / "proc"

    async def create(self, pod: KubeObject) -> None:
        """Makes the namespaces and connects the network.

        Raises:
            SandboxError: a step failed; `remove` takes away what there is.
        """
        place = self.place
        shutil.rmtree(place.folder, ignore_errors=True)
        self.proc.mkdir(parents=True)
        place.folder.chmod(0o755)
        try:
            if place.own_network:
                await kernel.in_fresh_thread(lambda: netns.create(place.netns))
                self._set_sysctls(pod)
                self._attached = True
                self.address = await self._network.attach(pod, place.netns)
            await self._start_pause()
        except Exception as error:
            raise SandboxError(f"the sandbox of the pod cannot be made: {error}") from error

    async def _start_pause(self) -> None:
        launch = Launch(("sh", "-c", _PAUSE, str(self.proc)), {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        self.pause = await self._starter.start(launch, self._namespaces)
        assert self.pause.stdout is not None
        assert self.pause.stderr is not None
        ready = await asyncio.to_thread(self.pause.stdout.readline)
        if not ready:
            raise OSError(f"pause: {(await asyncio.to_thread(self.pause.stderr.read)).decode().strip()}")
        self.pause.stdout.close()
        self.pause.stderr.close()
        (self.place.folder / "pid").write_text(f"{self.pause.pid}\n")

    def _namespaces(self) -> None:
        there = os.open(netns.path(self.place.netns), os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernel.join(there, kernel.NETWORK)
        finally:
            os.close(there)
        kernel.unshare(kernel.FILES | kernel.MOUNTS | kernel.PIDS | kernel.HOSTNAME | kernel.IPC)
        kernel.make_private("/")
        kernel.set_hostname(self.place.hostname)

    def _set_sysctls(self, pod: KubeObject) -> None:
        asked = {row["name"]: row["value"] for row in (pod["spec"].get("securityContext") or {}).get("sysctls") or ()}
        # Ping needs no right, as under containerd. An unprivileged lab knows only group 0, and all its pods are in it.
        mapped = process.identity_is_mapped(2147483646, Path("/proc/self/gid_map"))
        asked[_PING_GROUPS] = asked.get(_PING_GROUPS, "0 2147483647") if mapped else "0 0"
        with netns.inside(self.place.netns):
            for name, value in asked.items():
                Path("/proc/sys", *name.split(".")).write_text(value)

    async def remove(self, pod: KubeObject) -> None:
        """Ends every process of the pod, gives its address back and removes its namespace and folder."""
        if self.pause is not None:
            self.pause.send(signal.SIGKILL)
            await self.pause.wait()
        if self._attached:
            try:
                await self._network.detach(pod, self.place.netns)
            except Exception:  # the rest must go all the same
                log.exception("the network of %s was not detached", self.place.netns)
        await kernel.in_fresh_thread(self._remove_leftovers)

    def _remove_leftovers(self) -> None:
        if self.place.own_network and netns.path(self.place.netns).exists():
            netns.delete(self.place.netns)
        shutil.rmtree(self.place.folder, ignore_errors=True)
