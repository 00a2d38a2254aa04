"""Runs the agent in a pod: one exec, a plan in, a result out."""

from __future__ import annotations

import json
import marshal
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from importlib.util import MAGIC_NUMBER
from typing import Any, Protocol, TypeAlias, runtime_checkable

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from probes.agent_bundle import agent_source
from probes.cluster import Answer, Completed
from probes.errors import AgentCrashed, ExecFailed

Operation: TypeAlias = dict[str, Any]

ATTEMPTS = 3
OVERHEAD = timedelta(seconds=15)
"""What connecting, starting Python and both control probes may take, on top of the plan's own deadline."""

MARK = b"\x1eRESULT "
CLOCK_MARK = b"\x1eCLOCK\n"
"""By which an agent asks what time it is here."""
ROUND_MARK = b"\x1eROUND "
"""Before what a watching agent found in a round: when it began, when this is told, whether each target answered."""
BOOT = """import os,sys,marshal,select,signal,_frozen_importlib_external as f
def r():
 n=d=b''
 while n[-1:]!=b'\\n':n+=os.read(0,1) or sys.exit(1)
 while len(d)<int(n):d+=os.read(0,int(n)-len(d)) or sys.exit(1)
 return d
m,c,s=r(),r(),r();g={'__name__':'agent'}
exec(marshal.loads(c) if m==f.MAGIC_NUMBER else compile(s,'<agent>','exec'),g)
q=select.poll();q.register(0,1);w=0
while 1:
 signal.alarm(900)
 if not q.poll()[0][1]&1:sys.exit(w)
 p=os.fork()
 if not p:g['main'](sys.stdin.buffer,sys.stdout.buffer);sys.exit()
 signal.alarm(0);w=os.waitpid(p,0)[1];w=w>>8 or w and 128+(w&127);os.write(1,b'\\x1eENDED %d\\n'%w)
"""
"""Runs the agent for one plan after the other, each in a process of its own, and says how that ended.

It has the agent's byte code where the pod's Python is of the runner's version, else its source. Starting Python is most
of what a small plan costs, so one that is there already is kept for the next plan. It ends with its standard input, and
by itself when it is forgotten.
"""

COMMAND = ["python3", "-I", "-S", "-c", BOOT]


class Execs(Protocol):
    """Anything that can run a command in a pod: a cluster. `retries` counts what the instrument had to do again."""

    retries: int

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
        """Run it to its end."""


@runtime_checkable
class Converses(Execs, Protocol):
    """Anything that can keep a command running in a pod and ask it again: a cluster, but not an outpost."""

    def converse(
        self,
        namespace: str,
        pod: str,
        command: list[str],
        *,
        opening: bytes,
        stdin: bytes,
        within: timedelta,
        answer: Answer | None = None,
    ) -> Completed:
        """Ask the one that is running; start it with the opening where none is."""


@dataclass(frozen=True)
class AgentRun:
    """What an agent answered.

    Attributes:
        operations: the answers, one per operation of the plan, in its order.
        health: how the instrument itself fared.
        clock: wall and monotonic time at the start (seconds), and how long it took.
        retries: how often the exec had to be opened again before the agent answered.
    """

    operations: tuple[dict[str, Any], ...]
    health: dict[str, Any]
    clock: dict[str, float]
    retries: int

    @property
    def control_failure(self) -> str:
        """Why the agent must not be believed: its own listener did not answer it; "" when it did."""
        return str(self.health["control_before"] or self.health["control_after"])


@cache
def agent_program() -> bytes:
    """What BOOT reads: the byte code's version, the byte code, the source."""
    source = agent_source().encode()
    code = marshal.dumps(compile(source, "<agent>", "exec"))
    return framed(MAGIC_NUMBER) + framed(code) + framed(source)


def run_agent(
    cluster: Execs,
    namespace: str,
    pod: str,
    operations: list[Operation],
    *,
    within: timedelta,
    control: tuple[str, int, str] | None = None,
    hear: Answer | None = None,
) -> AgentRun:
    """Run a plan in a pod.

    Only a stream that broke is tried again, and never one that gave a result: the instrument is repeated, not the
    measurement.

    Args:
        cluster: where the pod is.
        namespace: the pod's.
        pod: its name.
        operations: what to do, as probes/agent describes it.
        within: time for the operations; what is unfinished then is inconclusive.
        control: address, port and identity of a listener that must answer before and after.
        hear: told each piece of what the agent says meanwhile; what it gives back is said to the agent.

    Raises:
        PodGone: the pod is not there, or went away.
        ExecFailed: the stream broke, again and again.
        AgentCrashed: the agent ended without a result, or with a garbled one.
        DeadlineExceeded: no result in time.
    """
    plan = {"deadline": within.total_seconds(), "control": control, "operations": operations}
    asked = framed(json.dumps(plan).encode("ascii"))
    retries = 0

    def again(_state: RetryCallState) -> None:
        nonlocal retries
        retries += 1
        cluster.retries += 1

    # Only an agent that will ask is listened to while it runs.
    listener = tell_time if any(operation["op"] == "clock" for operation in operations) else hear
    dialogue = {"answer": listener} if listener else {}
    attempts = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=1.0),
        retry=retry_if_exception_type(ExecFailed),
        before_sleep=again,
        reraise=True,
    )
    if isinstance(cluster, Converses):
        ask = partial(cluster.converse, opening=agent_program(), stdin=asked)
    else:
        ask = partial(cluster.exec, stdin=agent_program() + asked)
    completed = attempts(ask, namespace, pod, COMMAND, within=within + OVERHEAD, **dialogue)
    result = read_result(pod, completed)
    return AgentRun(tuple(result["operations"]), result["health"], result["clock"], retries)


def tell_time(said: bytes) -> bytes:
    """The time, for an agent that has just asked for it; nothing for whatever else it says."""
    return b"%.6f\n" % time.time() if CLOCK_MARK in said else b""


def framed(data: bytes) -> bytes:
    """Bytes behind their length: the reader needs no end of file, which exec v4 cannot give."""
    return b"%d\n" % len(data) + data


def read_result(pod: str, completed: Completed) -> dict[str, Any]:
    """The last framed result on standard output. Raises AgentCrashed when there is none."""
    said = completed.stderr[-800:].decode("utf-8", "replace").strip()
    if completed.exit_code:
        raise AgentCrashed(f"{pod}: the agent ended with {completed.exit_code}: {said or 'it said nothing'}")
    _before, mark, rest = completed.stdout.rpartition(MARK)
    size, _space, body = rest.partition(b" ")
    if not mark or not size.isdigit():
        raise AgentCrashed(f"{pod}: the agent ended without a result: {said or 'it said nothing'}")
    if len(body) < int(size):
        raise AgentCrashed(f"{pod}: the result is cut short ({len(body)} of {int(size)} bytes)")
    result: dict[str, Any] = json.loads(body[: int(size)])
    return result


def column(batch: dict[str, Any], name: str) -> list[Any]:
    """One column of a batch's result, spelt out: a value per probe."""
    encoded = batch["columns"][name]
    values, index = encoded["values"], encoded["index"]
    return values * batch["count"] if index is None else [values[place] for place in index]
