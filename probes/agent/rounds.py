"""Reachability over time, told round by round while it is watched."""

from __future__ import annotations

import select
import sys
import time
from typing import Any

from probes.agent.batch import Loop
from probes.agent.codec import to_json
from probes.agent.dialogues import check_greeting
from probes.agent.outcomes import OPEN
from probes.agent.probing import make_batch
from probes.agent.sockets import CONTROL_TIMEOUT, connect
from probes.agent.transfer import TCP_INFO_BYTES_ACKED, read_line, tcp_info

ROUND_MARK = b"\x1eROUND "
"""Before what was found in a round, while the next one is still to come."""


def watch(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """Connect to every target, round after round, and tell each round when it is over, until the runner says a line.

    A round tells when it began and when it is told, by the clock here, and whether each target answered.
    """
    rounds = 0
    while time.monotonic() < end:
        began = time.monotonic()
        batch = make_batch({"kind": "tcp", "targets": operation["targets"], "timeout": operation["timeout"]})
        Loop().run([batch], min(end, began + 2 * operation["timeout"]))
        answered = [outcome == OPEN for outcome in batch.outcome]
        sys.stdout.buffer.write(ROUND_MARK + to_json([began, time.monotonic(), answered]) + b"\n")
        sys.stdout.buffer.flush()
        rounds += 1
        if select.select([0], [], [], max(0.0, began + operation["every"] - time.monotonic()))[0]:
            sys.stdin.buffer.readline()
            break
    return {"rounds": rounds}


def hold(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """Keep a connection to a sink, and see for how long what is said over it is confirmed. Raises OSError."""
    address, port, identity = operation["target"]
    with connect(address, port, CONTROL_TIMEOUT) as sock:
        outcome, columns = check_greeting(read_line(sock), identity)
        if outcome != OPEN:
            raise OSError(columns["detail"])
        started = time.monotonic()
        stop = min(end, started + operation["seconds"])
        sock.setblocking(False)
        confirmed, last, sent = 0, 0.0, 0
        while time.monotonic() < stop:
            sys.stdout.buffer.write(ROUND_MARK + to_json([time.monotonic(), last, []]) + b"\n")
            sys.stdout.buffer.flush()
            try:
                sent += sock.send(b".")
            except BlockingIOError:
                pass
            except OSError as error:
                return {"seconds": time.monotonic() - started, "last": last, "error_number": error.errno}
            if select.select([0], [], [], operation["every"])[0]:
                sys.stdin.buffer.readline()
                break
            now = tcp_info(sock, "Q", TCP_INFO_BYTES_ACKED)
            if now > confirmed:
                confirmed, last = now, time.monotonic() - started
        return {"seconds": time.monotonic() - started, "last": last, "sent": sent}
