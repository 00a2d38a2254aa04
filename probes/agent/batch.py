"""Probes of one kind in flight at once, and the one event loop that drives all batches of an operation."""

from __future__ import annotations

import select
import time
from typing import Any

from probes.agent.outcomes import INCONCLUSIVE, OPEN
from probes.agent.sockets import Socket


class Batch:
    """Probes of one kind. Subclasses launch them, take events, and call `finish` once for each."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.kind: str = spec["kind"]
        self.targets: list[Any] = spec["targets"]
        self.window: int = spec.get("window", 256)
        self.timeout: float = spec.get("timeout", 3.0)
        self.tries: int = spec.get("tries", 1)
        self.patience: int = spec.get("patience", 0)
        self.source: str = spec.get("source") or ""
        self.ttl: int | None = spec.get("ttl")
        self.failed = 0
        size = len(self.targets)
        self.outcome: list[str | None] = [None] * size
        self.rtt: list[int | None] = [None] * size
        self.columns: dict[str, list[Any]] = {
            name: [None] * size for name in ("seen", "ttl", "sends", "answer", "offender", "detail")
        }
        self.launched = 0
        self.left = size

    def finish(self, index: int, outcome: str, rtt: float | None = None, **columns: Any) -> None:
        """Note what came of a probe; only the first word counts."""
        if self.outcome[index] is not None:
            return
        self.outcome[index] = outcome
        self.rtt[index] = None if rtt is None else int(rtt * 1e6)
        for name, value in columns.items():
            self.columns[name][index] = value
        self.left -= 1
        if outcome != OPEN:
            self.failed += 1
            if self.failed == self.patience:
                self.give_up("not tried: %d before it got no answer" % self.failed)

    def give_up(self, reason: str) -> None:
        """Say inconclusive for every probe that has no outcome yet."""
        for index, outcome in enumerate(self.outcome):
            if outcome is None:
                self.finish(index, INCONCLUSIVE, detail=reason)

    def open(self, loop: Loop) -> None:
        """Get ready."""
        raise NotImplementedError

    def pump(self, now: float) -> float:
        """Launch, repeat and expire what is due; the time of the next thing to do."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of every socket."""
        raise NotImplementedError

    def result(self) -> dict[str, Any]:
        """The columns, each as its distinct values and, where there is more than one, an index per probe."""
        columns = dict(self.columns, outcome=self.outcome)
        return {
            "kind": self.kind,
            "count": len(self.targets),
            "policy": {"window": self.window, "timeout": self.timeout, "tries": self.tries},
            "rtt_us": self.rtt,
            "columns": {name: encode_column(values) for name, values in columns.items()},
        }


def encode_column(values: list[Any]) -> dict[str, Any]:
    """Most columns hold one value or few: write each once and point at it."""
    places: dict[Any, int] = {}
    index = [places.setdefault(value, len(places)) for value in values]
    return {"values": list(places), "index": index if len(places) > 1 else None}


class Loop:
    """One epoll for all batches of an operation."""

    def __init__(self) -> None:
        self.poll = select.epoll()
        self.handlers: dict[int, Any] = {}

    def watch(self, sock: Socket, mask: int, handler: Any) -> None:
        """Call `handler(fd, mask)` when something happens to the socket. Closing the socket ends it."""
        self.handlers[sock.fileno()] = handler
        self.poll.register(sock.fileno(), mask)

    def run(self, batches: list[Batch], end: float) -> None:
        """Drive the batches until all probes have an outcome or the time is up."""
        try:
            for batch in batches:
                try:
                    batch.open(self)
                except OSError as error:
                    batch.give_up("%s socket: %s" % (batch.kind, error.strerror))
            active = [batch for batch in batches if batch.left]
            while active:
                now = time.monotonic()
                if now >= end:
                    break
                wake = min(batch.pump(now) for batch in active)
                active = [batch for batch in active if batch.left]
                if active:
                    for fd, mask in self.poll.poll(max(0.0, min(wake, end) - time.monotonic()), 256):
                        self.handlers[fd](fd, mask)
        finally:
            for batch in batches:
                batch.give_up("the plan's deadline came first")
                batch.close()
            self.poll.close()
