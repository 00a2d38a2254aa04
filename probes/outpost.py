"""Commands at places other than pods: on nodes, on routers, outside the regions.

An outpost is a prefix that is put before the command: `nsenter` in the lab, `ssh` elsewhere, nothing for the runner
itself. What is asked of pods over exec can be asked of an outpost too: the agent runs at the end of the prefix.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import PurePath

from analysis.fleet import Fleet, Outpost, Stand
from probes.client import COMMAND, AgentRun, Operation, run_agent
from probes.cluster import Answer, Completed
from probes.errors import DeadlineExceeded, ExecFailed

SSH = "ssh"
SSH_FAILED = 255
"""The exit code by which `ssh` says that it did not come to run anything."""

SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where programs for administrators are; the PATH of other users may lack them."""


def outposts(fleet: Fleet, stand: Stand) -> tuple[Outpost, ...]:
    """All outposts of that kind."""
    return tuple(outpost for outpost in fleet.outposts if outpost.stand is stand)


def outpost(fleet: Fleet, stand: Stand, region: str = "", name: str | None = None) -> Outpost | None:
    """The first outpost of that kind in that region, of that name where one is given; None when there is none."""
    found = (each for each in outposts(fleet, stand) if each.region == region and name in (None, each.name))
    return next(found, None)


def run(outpost: Outpost, argv: list[str], *, stdin: bytes = b"", within: timedelta) -> Completed:
    """Run a command there, without a shell, and wait for its end.

    It gets no terminal, so that nothing on the way can stop to ask for a password. When the time is over, or the wait
    is broken off, everything that was started here for it is ended.

    Args:
        outpost: where.
        argv: the command and its arguments.
        stdin: what it reads; its standard input ends behind that.
        within: how long it may take, connecting included.

    Raises:
        ExecFailed: the prefix is not to be found, or `ssh` did not get through.
        DeadlineExceeded: it did not end in time.
    """
    command = command_line(outpost, argv)
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS))
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PATH": path},
            start_new_session=True,
        )
    except OSError as error:
        raise ExecFailed(f"{outpost.name}: {command[0]} cannot be run: {error.strerror}") from error
    try:
        stdout, stderr = process.communicate(stdin, within.total_seconds())
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(f"{outpost.name}: no end within {within.total_seconds():g} s") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode == SSH_FAILED and uses_ssh(outpost):
        said = stderr[-400:].decode("utf-8", "replace").strip()
        raise ExecFailed(f"{outpost.name}: ssh did not get through: {said or 'it said nothing'}")
    return Completed(process.returncode, stdout, stderr)


def run_agent_at(
    outpost: Outpost,
    operations: list[Operation],
    *,
    within: timedelta,
    control: tuple[str, int, str] | None = None,
) -> AgentRun:
    """Run a plan there, as `probes.client.run_agent` does in a pod.

    Probes leave from whatever address the place's routes choose, unless their batch has a "source".

    Raises:
        ExecFailed: the place could not be reached, again and again.
        AgentCrashed: the agent ended without a result; no python3 is there, for example.
        DeadlineExceeded: no result in time.
    """
    return run_agent(_OneOutpost(outpost), "", outpost.name, operations, within=within, control=control)


def command_line(outpost: Outpost, argv: list[str]) -> list[str]:
    """What to run here for `argv` to be run there.

    `ssh` hands its words to a shell at the other end, so they are quoted once for each `ssh` in the prefix.
    """
    for _ in range(_shells(outpost)):
        argv = [shlex.join(argv)]
    return [*outpost.command, *argv]


def uses_ssh(outpost: Outpost) -> bool:
    """Whether the way there is SSH."""
    return _shells(outpost) > 0


def _shells(outpost: Outpost) -> int:
    """How many shells will read the command before it is run."""
    return sum(PurePath(word).name == SSH for word in outpost.command)


@dataclass
class _OneOutpost:
    """An outpost in the place of a cluster: the agent's client asks it as it would ask a pod."""

    outpost: Outpost
    retries: int = field(default=0)

    def exec(
        self,
        namespace: str,
        pod: str,
        command: list[str],
        *,
        within: timedelta,
        stdin: bytes = b"",
        container: str | None = None,
        answer: Answer | None = None,
    ) -> Completed:
        """Run it there. The runner's own Python is known by its path, so it need not be on the PATH.

        Nobody listens while it runs, so `answer` is never asked: an agent that wants to know the time is told none.
        """
        if command == COMMAND and not self.outpost.command:
            command = [sys.executable, *COMMAND[1:]]
        return run(self.outpost, command, stdin=stdin, within=within)
