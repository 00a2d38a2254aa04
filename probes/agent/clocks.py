"""The own clock beside the runner's."""

from __future__ import annotations

import select
import sys
import time
from typing import Any

CLOCK_MARK = b"\x1eCLOCK\n"


def clock(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """Ask the runner for its time, again and again: the quickest answer tells most. Raises OSError without any."""
    rounds: list[list[float]] = []
    end = min(end, time.monotonic() + operation["timeout"])
    while len(rounds) < operation["rounds"]:
        before, started = time.time(), time.monotonic()
        sys.stdout.buffer.write(CLOCK_MARK)
        sys.stdout.buffer.flush()
        # Nothing can be waiting in the buffer: the runner speaks only when it is asked.
        if not select.select([0], [], [], max(0.0, end - time.monotonic()))[0]:
            break
        theirs = float(sys.stdin.buffer.readline())
        took = time.monotonic() - started
        rounds.append([before, theirs, before + took])
        if took <= operation["enough"] or time.monotonic() >= end:
            break
    if not rounds:
        raise OSError("the runner did not tell its time")
    return {"rounds": rounds}
