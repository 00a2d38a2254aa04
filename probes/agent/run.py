"""The run: a plan is read, its operations are done in order, the result is written."""

from __future__ import annotations

import resource
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO

from probes.agent.batch import Loop
from probes.agent.clocks import clock
from probes.agent.codec import from_json, to_json
from probes.agent.doors import account, doors
from probes.agent.entrances import enter
from probes.agent.listeners import counters, listen, marked, stop
from probes.agent.mtu import mtu
from probes.agent.names import dns, resolve
from probes.agent.netlink import kernel
from probes.agent.outcomes import OPEN
from probes.agent.probing import make_batch, probe
from probes.agent.rounds import hold, watch
from probes.agent.settings import read
from probes.agent.sockets import CONTROL_TIMEOUT
from probes.agent.sweeping import sweep
from probes.agent.tls import tls
from probes.agent.transfer import transfer
from probes.agent.wire import capture, send

if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

MARK = b"\x1eRESULT "
HARD_STOP = 2.0  # seconds after the plan's deadline at which the kernel ends the agent

OPERATIONS = {
    "listen": listen,
    "counters": counters,
    "stop": stop,
    "marked": marked,
    "probe": probe,
    "transfer": transfer,
    "tls": tls,
    "enter": enter,
    "kernel": kernel,
    "capture": capture,
    "send": send,
    "mtu": mtu,
    "read": read,
    "clock": clock,
    "dns": dns,
    "resolve": resolve,
    "watch": watch,
    "doors": doors,
    "account": account,
    "hold": hold,
    "sweep": sweep,
}


def control_probe(control: Any) -> str:
    """Knock at the own listener: "" when it answers, else why the agent must not be believed."""
    if control is None:
        return ""
    batch = make_batch({"kind": "tcp", "targets": [control], "timeout": CONTROL_TIMEOUT})
    Loop().run([batch], time.monotonic() + CONTROL_TIMEOUT + 0.5)
    outcome = batch.outcome[0]
    return "" if outcome == OPEN else "own listener: %s, %s" % (outcome, batch.columns["detail"][0])


def kernel_drops() -> dict[str, int]:
    """What this network namespace has dropped for want of room so far."""
    wanted = {"Udp": ("RcvbufErrors", "SndbufErrors"), "TcpExt": ("ListenOverflows", "ListenDrops")}
    drops: dict[str, int] = {}
    for path in ("/proc/self/net/snmp", "/proc/self/net/netstat"):
        try:
            with open(path, encoding="ascii") as table:
                lines = [line.split() for line in table]
        except OSError:
            continue
        for names, values in zip(lines[::2], lines[1::2]):  # noqa: B905 (3.8 has no strict)
            for name in wanted.get(names[0].rstrip(":"), ()):
                if name in names:
                    drops[name] = int(values[names.index(name)])
    return drops


def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Do a plan."""
    wall, started = time.time(), time.monotonic()
    end = started + plan["deadline"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before = control_probe(plan.get("control"))
    drops = kernel_drops()
    results = []
    for operation in plan["operations"]:
        try:
            results.append(OPERATIONS[operation["op"]](operation, end))
        except OSError as error:
            results.append({"error": "%s: %s" % (operation["op"], error)})
    after = control_probe(plan.get("control"))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "python": sys.version.split()[0],
        "clock": {"wall": wall, "monotonic": started, "seconds": time.monotonic() - started},
        "health": {
            "control_before": before,
            "control_after": after,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "open_files": hard if hard != resource.RLIM_INFINITY else soft,
            "drops": {name: value - drops.get(name, 0) for name, value in kernel_drops().items()},
        },
        "operations": results,
    }


def main(source: BinaryIO, sink: BinaryIO) -> None:
    """Read a plan, do it, write the result."""
    plan = from_json(source.read(int(source.readline())))
    # Whatever happens to the one who asked, the agent does not stay.
    signal.setitimer(signal.ITIMER_REAL, plan["deadline"] + 2 * CONTROL_TIMEOUT + HARD_STOP)
    result = to_json(run(plan))
    sink.write(MARK + b"%d " % len(result) + result + b"\n")
    sink.flush()
