"""The labs of this user: where they are, which still run, and how one is ended without a trace."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from analysis.nearest import did_you_mean
from provision.errors import ProvisionError
from provision.lab.paths import LabFolder, labs_root
from provision.lab.stages import Stage, milestones

STARTING = "starting"
DEAD = "dead"
"""What a lab without a living process is: its folder is all that is left of it."""

END_DEADLINE = timedelta(seconds=10)


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one with the same number.

    Attributes:
        pid: its number on the host.
        birth: the machine's boot and the clock tick that the process was started in.
    """

    pid: int
    birth: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this number now.

        Raises:
            ProcessLookupError: there is none.
        """
        return cls(pid, _birth(pid))

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        try:
            return _birth(self.pid) == self.birth
        except ProcessLookupError:
            return False

    @property
    def children(self) -> tuple[Process, ...]:
        """The processes it started, as far as they still run."""
        if not self.alive:
            return ()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
            return tuple(Process.of(int(pid)) for pid in text.split())
        return ()


@dataclass(frozen=True)
class LabState:
    """What is written down about a lab when it is launched.

    Attributes:
        name: the lab's name.
        profile: which profile it has.
        process: the outer `unshare`; when it ends, so does the lab.
        user_namespace: whether the lab has a user namespace of its own (it need not when root runs it).
        created: when, in RFC 3339 form.
        api: URL of each region's API server; empty until the lab has a process of its own.
        api_server: what serves the API: "kube-apiserver v1.36.3 and etcd 3.6.8"; empty for the lab's own.
        coredns: "CoreDNS 1.12.1" where it runs itself; empty where another server plays it.
    """

    name: str
    profile: str
    process: Process
    user_namespace: bool
    created: str
    api: Mapping[str, str]
    api_server: str = ""
    coredns: str = ""


@dataclass(frozen=True)
class Lab:
    """A lab that has a folder, running or not."""

    folder: LabFolder
    state: LabState

    @property
    def stage(self) -> str:
        """A `Stage`, or "starting" before the first, or "dead"."""
        reached = milestones(self.folder.stages)
        if reached and reached[-1].stage is Stage.FAILED:
            return Stage.FAILED.value
        if not self.state.process.alive:
            return DEAD
        return reached[-1].stage.value if reached else STARTING

    @property
    def container(self) -> Process:
        """Process 1 of the lab, through which its namespaces can be entered.

        Raises:
            ProvisionError: the lab does not run.
        """
        # A lab that is only claimed has its launcher for a process, whose children are none of ours.
        children = self.state.process.children if self.state.api else ()
        if not children:
            raise ProvisionError(
                "this lab does not run",
                where=self.state.name,
                observed=f"it is {self.stage}",
                remedy=f"python -m provision down {self.state.name}, then up again; "
                f"what it said last is in {self.folder.logs}",
            )
        return children[0]


def write_state(folder: LabFolder, state: LabState) -> None:
    """Write state.json so that a reader sees all of it or nothing."""
    draft = folder.state.with_suffix(".new")
    draft.write_text(json.dumps(asdict(state), indent=2) + "\n")
    draft.replace(folder.state)


def read_lab(folder: LabFolder) -> Lab | None:
    """The lab in that folder, or None when there is none, or none that can be understood."""
    try:
        data = json.loads(folder.state.read_text())
        return Lab(folder, LabState(**{**data, "process": Process(**data["process"])}))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def all_labs() -> tuple[Lab, ...]:
    """Every named lab of this user, by name."""
    root = labs_root()
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return tuple(lab for lab in (read_lab(LabFolder(path)) for path in folders) if lab)


def find_lab(name: str) -> Lab:
    """The lab of that name.

    Raises:
        ProvisionError: there is none; the text names those that there are.
    """
    labs = {lab.state.name: lab for lab in all_labs()}
    if name in labs:
        return labs[name]
    known = ", ".join(labs) or "none"
    raise ProvisionError(
        f"no lab of that name{did_you_mean(name, labs)}",
        where=name,
        expected=f"one of the labs that there are: {known}",
        remedy=f"python -m provision up lab:PROFILE --name {name}",
    )


def claim(name: str) -> LabFolder:
    """Make the folder of a new named lab; what a dead lab of that name left behind is removed first.

    Raises:
        ProvisionError: a lab of that name runs, or is just being started.
    """
    root = labs_root()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = LabFolder(root / name)
    with _locked(root / ".lock"):
        lab = read_lab(folder)
        if lab and lab.state.process.alive:
            raise ProvisionError(
                "a lab of that name is there already",
                where=name,
                observed=f"{lab.stage}, since {lab.state.created}",
                remedy=f"use it, or python -m provision down {name}, or choose another --name",
            )
        if folder.path.exists():
            shutil.rmtree(folder.path)
        folder.path.mkdir(mode=0o700)
        # Until the lab has a process of its own, it stands and falls with the one that starts it.
        starting = LabState(
            name=name,
            profile="",
            process=Process.of(os.getpid()),
            user_namespace=False,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            api={},
        )
        write_state(folder, starting)
    return folder


def forget(folder: LabFolder) -> None:
    """Delete the folder of a lab that has ended, or never came to be."""
    shutil.rmtree(folder.path, ignore_errors=True)


def end(lab: Lab) -> None:
    """Kill the lab and wait until the kernel has let go of all of it. Safe to call on a lab that is dead.

    Raises:
        ProvisionError: a process of it is still there after END_DEADLINE.
    """
    outer = lab.state.process
    # Process 1 of a PID namespace is not gone before everything in its namespace is. The outer process waits for it:
    # killed first, it would leave that to the host's init.
    inner = outer.children if lab.state.api else ()
    doomed = [process for process in (*inner, outer) if process.pid != os.getpid()]
    if not all(list(map(_kill, doomed))):
        raise ProvisionError(
            "the lab's processes do not end",
            where=lab.state.name,
            observed=f"process {outer.pid} was killed and is still there",
            cause="a process of it waits in the kernel",
            remedy=f"look at it with `ps -o pid,stat,wchan --ppid {outer.pid}`",
        )
    with contextlib.suppress(ChildProcessError):
        os.waitpid(outer.pid, 0)  # ours, when this process launched it


def remove(lab: Lab) -> None:
    """End the lab and delete its folder.

    Raises:
        ProvisionError: a process of it does not end; the folder stays then.
    """
    end(lab)
    forget(lab.folder)


def _kill(process: Process) -> bool:
    """Kill it and wait for its end; True when it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not process.alive:  # asked after the descriptor was opened: the number cannot change hands any more
            return True
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        return bool(ended.poll(END_DEADLINE / timedelta(milliseconds=1)))
    except ProcessLookupError:
        return True
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _birth(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(pid) from None
    # The name, field 2, stands in parentheses and may hold spaces; state is field 3, the start time field 22.
    fields = stat[stat.rindex(")") + 2 :].split()
    if fields[0] in "ZX":
        raise ProcessLookupError(pid)
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{fields[19]}"
