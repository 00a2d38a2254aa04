"""One process in a container: started in namespaces that exist or are made for it, followed by its pidfd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from provision.lab.kube.kubelet import kernel

STARTS_AT_ONCE = 4
"""More starts at the same time only fight for the processors and for the kernel's mount lock."""


@dataclass(frozen=True)
class Credentials:
    """Who a process is and what it may do.

    Attributes:
        uid: user id; None leaves the lab's root.
        gid: group id, as above.
        groups: further groups.
        capabilities: what is left to root; None leaves everything (a privileged container).
        may_gain: whether set-uid programs and file capabilities have an effect.
    """

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    capabilities: frozenset[str] | None = None
    may_gain: bool = True


@dataclass(frozen=True)
class Launch:
    """What to start, and how it talks to us.

    Attributes:
        argv: the command.
        environment: its whole environment.
        folder: where it starts.
        credentials: who it is.
        stdin: whether it gets a pipe to read from (else /dev/null).
        terminal: the other end of the pseudo-terminal that takes the place of all three streams, if there is one.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: str = "/"
    credentials: Credentials = field(default_factory=Credentials)
    stdin: bool = False
    terminal: int | None = None


class Process:
    """A running or ended process. Its exit code is kept as a shell tells it: 128 and the signal's number."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.pid = popen.pid
        self.pidfd = os.pidfd_open(popen.pid)
        self.stdin: IO[bytes] | None = popen.stdin
        self.stdout: IO[bytes] | None = popen.stdout
        self.stderr: IO[bytes] | None = popen.stderr
        self._popen = popen
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self.pidfd, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self.pidfd)
        os.close(self.pidfd)
        code = self._popen.wait()
        self._ended.set_result(128 - code if code < 0 else code)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended.done()

    async def wait(self) -> int:
        """Waits for its end and returns the exit code."""
        return await asyncio.shield(self._ended)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process, if it is still there."""
        if self.running:
            signal.pidfd_send_signal(self.pidfd, number)

    def kill_group(self) -> None:
        """Ends the process and all that it started and left in its group."""
        if self.running:  # not reaped yet, so the number is still its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


class ProcessStarter:
    """Starts processes, a few at a time."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(STARTS_AT_ONCE)

    async def start(self, launch: Launch, surroundings: Callable[[], None]) -> Process:
        """Starts a process.

        Args:
            launch: what to start.
            surroundings: called in the thread that starts it, to enter or make the namespaces.

        Raises:
            OSError: the surroundings cannot be made, or there is no such program.
        """
        started: list[subprocess.Popen[bytes]] = []
        async with self._slots:
            try:
                await kernel.in_fresh_thread(lambda: started.append(_start(launch, surroundings)))
            except asyncio.CancelledError:
                # Nobody would collect it, and the pod's first process cannot end before all others are collected.
                for orphan in map(Process, started):
                    orphan.kill_group()
                raise
            return Process(started[0])

    async def start_in(self, target: Process, launch: Launch, furnish: Callable[[], None] = lambda: None) -> Process:
        """Starts a process in all namespaces, and in the root, of one that is running.

        Args:
            target: the running one.
            launch: what to start.
            furnish: called in the thread that starts it, once it is there.

        Raises:
            ProcessLookupError: the target has ended.
            OSError: there is no such program, or it could not be furnished.
        """
        if not target.running:
            raise ProcessLookupError(f"process {target.pid} has ended")
        pidfd = os.dup(target.pidfd)  # the target may end, and its descriptor be closed, while the thread starts

        def surroundings() -> None:
            _enter(pidfd)
            furnish()

        try:
            return await self.start(launch, surroundings)
        finally:
            os.close(pidfd)


@contextlib.contextmanager
def mounts_of(pid: int) -> Iterator[int | None]:
    """What tells the mount namespace of a running process from all others, while the context lasts.

    None where /proc does not show our processes, and for a process that has ended.
    """
    if str(Path("/proc/self").readlink()) != str(os.getpid()):  # the host's: its numbers are other processes'
        yield None
        return
    try:
        held = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:  # the kernel gives the number of a namespace that nobody holds any more to the next one
        yield os.fstat(held).st_ino
    finally:
        os.close(held)


def end_all_with(mounts: int) -> None:
    """End every process in that mount namespace, however it was started and whatever it has detached itself from."""
    found = True
    while found:  # one may have started another while we looked
        found = False
        for entry in os.scandir("/proc"):
            if not entry.name.isdecimal() or _mounts(entry.name) != mounts:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)
                found = True


def _mounts(pid: str) -> int | None:
    try:
        return Path("/proc", pid, "ns/mnt").stat().st_ino
    except OSError:  # it has ended
        return None


def identity_is_mapped(uid: int, table: Path = Path("/proc/self/uid_map")) -> bool:
    """Whether this user id exists in our user namespace. In an unprivileged lab only root does."""
    rows = (tuple(map(int, line.split())) for line in table.read_text().splitlines())
    return any(first <= uid < first + count for first, _, count in rows)


def _enter(pidfd: int) -> None:
    kernel.unshare(kernel.FILES)
    kernel.join(pidfd, kernel.NETWORK | kernel.MOUNTS | kernel.PIDS | kernel.HOSTNAME | kernel.IPC)


def _start(launch: Launch, surroundings: Callable[[], None]) -> subprocess.Popen[bytes]:
    who = launch.credentials
    argv = list(launch.argv)
    if launch.terminal is not None:
        argv = ["setsid", "--ctty", *argv]
    identity: dict[str, object] = {}
    nested = False
    if who.uid or who.gid:
        uid, gid = who.uid or 0, who.gid or 0
        # Looked up now: in the container, /proc does not know us.
        if identity_is_mapped(uid) and identity_is_mapped(gid, Path("/proc/self/gid_map")):
            identity = {"user": uid, "group": gid, "extra_groups": who.groups}
        else:
            nested = True
            argv = ["unshare", "--user", f"--map-user={uid}", f"--map-group={gid}", "--", *argv]
    surroundings()
    # In a user namespace of its own, a process that is not root there has no capabilities anyway; and without them we
    # could not give it one.
    if who.capabilities is not None and not nested:
        kernel.keep_capabilities(who.capabilities)
    if not who.may_gain:
        kernel.no_new_privileges()
    own = launch.terminal
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]  # the identity's keys are Popen's own
        argv,
        env=dict(launch.environment),
        cwd=launch.folder,
        stdin=own if own is not None else subprocess.PIPE if launch.stdin else subprocess.DEVNULL,
        stdout=own if own is not None else subprocess.PIPE,
        stderr=own if own is not None else subprocess.PIPE,
        start_new_session=own is None,
        **identity,
    )
