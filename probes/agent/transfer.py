"""Bulk transfer: what a path carries, by what the other side confirms."""

from __future__ import annotations

import _socket as socket
import select
import struct
import time
from typing import Any

from probes.agent.dialogues import check_greeting
from probes.agent.outcomes import OPEN
from probes.agent.sockets import CONTROL_TIMEOUT, Socket, connect

PROGRESS_TICK = 0.02  # seconds; the kernel says nothing when a segment is confirmed, so it is asked
RATES_AGREE = 0.95  # share of the best rate that the second best must have for both to be believed
TCP_INFO_RETRANSMITS, TCP_INFO_BYTES_ACKED = 100, 120  # byte offsets in struct tcp_info


def transfer(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """Send to a sink, again and again until the two best rates agree: then they are the path's and not chance.

    Raises OSError when a transfer does not succeed.
    """
    done: list[dict[str, Any]] = []
    while len(done) < operation["rounds"]:
        done.append(transfer_once(operation, end))
        best = sorted(one["bytes"] / one["seconds"] for one in done)[-2:]
        if len(best) == 2 and best[0] >= RATES_AGREE * best[1]:
            break
    return {"rounds": done}


def transfer_once(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """Send until enough bytes or enough time, or until it stalls; the rate is by what the sink says it got.

    On a slow path much of what was sent still waits when the time is over: then what the other side's kernel has
    acknowledged counts.
    """
    address, port, identity = operation["target"]
    block = bytes(1 << 18)
    with connect(address, port, CONTROL_TIMEOUT) as sock:
        outcome, columns = check_greeting(read_line(sock), identity)
        if outcome != OPEN:
            raise OSError(columns["detail"])
        progress = Progress(sock, operation.get("patience"))
        started, sent = progress.since, 0
        end = min(end, started + operation["seconds"])
        sock.settimeout(0)
        said = b""
        while not said.endswith(b"\n") and progress.goes_on(select.POLLOUT if block else select.POLLIN, end):
            if not block:
                data = sock.recv(256)
                if not data:
                    break
                said += data
                continue
            sent += sock.send(block[: operation["bytes"] - sent])
            if sent == operation["bytes"]:
                sock.shutdown(socket.SHUT_WR)
                block = b""
        seconds = time.monotonic() - started
        arrived = int(said) if said.endswith(b"\n") else progress.confirmed
        retransmits = tcp_info(sock, "I", TCP_INFO_RETRANSMITS)
    return {"bytes": arrived, "seconds": seconds, "retransmits": retransmits, "stall": progress.longest}


class Progress:
    """How a transfer comes on, by what the other side's kernel has confirmed.

    Attributes:
        confirmed: bytes.
        since: when that last grew.
        longest: the longest time in which it did not.
    """

    def __init__(self, sock: Socket, patience: float | None) -> None:
        self.sock = sock
        self.patience = patience
        self.poll = select.poll()
        self.confirmed, self.since, self.longest = 0, time.monotonic(), 0.0

    def goes_on(self, event: int, end: float) -> bool:
        """Wait until the socket is ready for that; False when it stands still for too long, or the time is over."""
        self.poll.register(self.sock.fileno(), event)
        while True:
            ready = self.poll.poll(1000 * PROGRESS_TICK)
            now = time.monotonic()
            confirmed = tcp_info(self.sock, "Q", TCP_INFO_BYTES_ACKED)
            self.longest = max(self.longest, now - self.since)
            if confirmed > self.confirmed:
                self.confirmed, self.since = confirmed, now
            if now >= end or (self.patience is not None and self.longest > self.patience):
                return False
            if ready:
                return True


def tcp_info(sock: Socket, kind: str, offset: int) -> int:
    """One field of the kernel's account of a connection (linux/tcp.h, struct tcp_info)."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(struct.unpack_from(kind, info, offset)[0])


def read_line(sock: Socket) -> bytes:
    """One line, or what came before the end."""
    line = b""
    while not line.endswith(b"\n"):
        data = sock.recv(256)
        if not data:
            break
        line += data
    return line
