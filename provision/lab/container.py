"""Process 1 of a lab: private mounts, then the lab's parts, then watching over them.

    unshare -Urnmpf --kill-child --propagation private PYTHON -m provision.lab.container CONFIG

Everything the lab starts is a descendant of this process in a PID namespace of its own, so the kernel kills all of it
when this process ends. It ends when the lifeline does (the process that wanted the lab has gone), when it is told to,
and when a part dies: half a lab would only give wrong verdicts.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from provision.lab import fabric, kernel
from provision.lab.agents_config import FABRIC_READY
from provision.lab.netns import NETNS_DIR
from provision.lab.paths import INSIDE, LabFolder
from provision.lab.stages import Milestone, Stage, record
from provision.lab.topology import topology_from_spec

STAY = b"stay"
"""Written to the lifeline by a launcher that leaves: the lab then outlives it."""

_BACKGROUND = 19
_LOG_TAIL = 5


class StartError(Exception):
    """A step of the start has failed; the text says all that there is to know."""


@dataclass(frozen=True)
class ContainerConfig:
    """What the launcher tells the container.

    Attributes:
        folder: the lab's folder.
        requested: when the lab was asked for, on the monotonic clock.
        lifeline: descriptor of a pipe whose end is the end of the lab.
        listeners: descriptors that the API server process inherits: sockets that listen on the host's loopback.
    """

    folder: Path
    requested: float
    lifeline: int
    listeners: tuple[int, ...]

    def to_json(self) -> str:
        """As the container's only argument."""
        return json.dumps(
            {
                "folder": str(self.folder),
                "requested": self.requested,
                "lifeline": self.lifeline,
                "listeners": self.listeners,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> ContainerConfig:
        """Reads what `to_json` wrote."""
        data = json.loads(text)
        return cls(Path(data["folder"]), data["requested"], data["lifeline"], tuple(data["listeners"]))


@dataclass(frozen=True)
class Part:
    """A process that lives as long as the lab: `python -m MODULE ARGUMENTS`.

    Attributes:
        listeners: whether it inherits the sockets on the host's loopback.
        niceness: how far it stands back while the lab starts.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    listeners: bool = False
    niceness: int = 0


class Container:
    """Process 1. `run` returns only when the lab is over."""

    def __init__(self, config: ContainerConfig) -> None:
        self._config = config
        self._folder = LabFolder(config.folder)
        self._topology = topology_from_spec(json.loads(self._folder.spec.read_text()))
        self._names: dict[int, str] = {}
        self._parts: list[subprocess.Popen[bytes]] = []
        self._after: dict[int, Callable[[], None]] = {}

    def run(self) -> None:
        """Start everything and stay until the end of the lab."""
        wakeup = _wake_on_signals()
        mount_private_trees()
        _raise_open_file_limit()
        self._start(Part("apiserver", self._api_server_module(), (str(self._folder.apiserver),), listeners=True))
        self._start(Part("agents", "provision.lab.agents", (str(self._folder.agents),)))
        self._fork("fabric", self._build_fabric, then=self._start_what_stands_on_the_fabric)
        self._fork("readiness", self._await_readiness)
        self._watch(wakeup)

    def _api_server_module(self) -> str:
        """The lab's own API server, or the one that starts Kubernetes' own where those programs are given."""
        real = "assets" in json.loads(self._folder.apiserver.read_text())
        return "provision.lab.kube.real" if real else "provision.lab.kube.apiserver"

    def _build_fabric(self) -> None:
        fabric.build(self._topology)
        FABRIC_READY.touch()
        self._record(Stage.FABRIC)

    def _start_what_stands_on_the_fabric(self) -> None:
        self._start(Part("internet", "provision.lab.internet"))
        self._start(Part("resolver", "provision.lab.resolver", (str(self._topology.plan.external_name),)))
        self._start(Part("ssh", "provision.lab.ssh", (str(self._folder.path),), niceness=_BACKGROUND))

    def _await_readiness(self) -> None:
        # Imported here, in a process of its own: its HTTP client and its waits take longer than the fabric.
        from provision.lab import readiness
        from provision.lab.kube.reader import UnreadableError

        try:
            readiness.await_api(self._folder, self._topology)
            self._record(Stage.API)
            readiness.await_mesh(self._folder, self._topology)
            self._record(Stage.READY)
        except (readiness.NotReadyError, UnreadableError) as error:
            raise StartError(str(error)) from None

    def _record(self, stage: Stage, error: str = "") -> None:
        record(self._folder.stages, Milestone(stage, round(time.monotonic() - self._config.requested, 3), error))

    def _start(self, part: Part) -> None:
        with self._log(part.name).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", part.module, *part.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=self._config.listeners if part.listeners else (),
                cwd="/",
                start_new_session=True,
            )
        if part.listeners:
            for descriptor in self._config.listeners:
                os.close(descriptor)
        if part.niceness:
            os.setpriority(os.PRIO_PROCESS, process.pid, part.niceness)
        self._parts.append(process)  # kept, so that only `_reap` ever waits for it
        self._names[process.pid] = part.name

    def _fork(self, name: str, work: Callable[[], None], then: Callable[[], None] = lambda: None) -> None:
        """Do work that ends in a process of its own, without the price of a new interpreter."""
        pid = os.fork()
        if pid:
            self._names[pid] = name
            self._after[pid] = then
            return
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            log = os.open(self._log(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            work()
            status = 0
        except (kernel.KernelError, StartError) as error:
            print(error, file=sys.stderr)  # noqa: T201
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _watch(self, wakeup: int) -> None:
        poller = select.poll()
        poller.register(wakeup, select.POLLIN)
        poller.register(self._config.lifeline, select.POLLIN)
        while True:
            for descriptor, _ in poller.poll():
                if descriptor == wakeup:
                    signals = os.read(wakeup, 64)
                    if signal.SIGTERM in signals or signal.SIGINT in signals:
                        return
                elif os.read(descriptor, len(STAY)) == STAY:
                    poller.unregister(descriptor)
                else:
                    return
            if not self._reap():
                return

    def _reap(self) -> bool:
        """Collect every process that has ended, orphans included; False when the lab cannot go on without one."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return True
            name = self._names.pop(pid, None)
            if name is None:
                continue
            then = self._after.pop(pid, None)
            if then is None or status != 0:
                self._record(Stage.FAILED, self._obituary(name, status))
                return False
            then()

    def _obituary(self, name: str, status: int) -> str:
        code = os.waitstatus_to_exitcode(status)
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        tail = "\n".join(self._log(name).read_text(errors="replace").splitlines()[-_LOG_TAIL:])
        return f"{name} ended with {how}:\n{tail}" if tail else f"{name} ended with {how} and said nothing"

    def _log(self, name: str) -> Path:
        return self._folder.logs / f"{name}.log"


def mount_private_trees() -> None:
    """Give the container a /run of its own, and /proc and /sys that show its own processes and devices.

    Raises:
        subprocess.CalledProcessError: not even a tmpfs can be mounted.
    """
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"], check=True)
    # Shared, so that a namespace made later shows up in the mount namespaces that were split off as slaves.
    subprocess.run(["mount", "--make-shared", "/run"], check=True)
    NETNS_DIR.mkdir()
    INSIDE.mkdir(mode=0o755)
    for kind, where in (("proc", "/proc"), ("sysfs", "/sys")):
        # A host that hides parts of these (as Docker does) does not let a user namespace mount them afresh. The lab
        # works with the host's, whose `ps` then shows less.
        subprocess.run(["mount", "-t", kind, kind, where], stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def _raise_open_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _wake_on_signals() -> int:
    """A descriptor that becomes readable with the numbers of the signals that have come."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _note)
    return reader


def _note(_number: int, _frame: FrameType | None) -> None:
    """The wake-up descriptor says it all; the handler must exist for process 1 to get the signal."""


if __name__ == "__main__":
    Container(ContainerConfig.from_json(sys.argv[1])).run()
