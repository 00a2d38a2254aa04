"""Listeners that say who they are and whom they see, swallow bytes, or note marks."""

from __future__ import annotations

import _socket as socket
import errno
import time
from typing import Any

from probes.agent.sockets import BUFFER, Socket
from probes.agent.standing import Standing, ask_standing, start

BACKLOG = 4096
ECHOED = 512  # no answer of a listener is larger than what it fits into

MARKED = b"mark "
"""What the datagrams begin with that only tell that they have come: such a one is noted, and answered by nobody."""

MOST_MARKS = 1 << 14
MARK_LENGTH = 48


class Listeners(Standing):
    """TCP, UDP and sink listeners in one process."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.identity = spec["identity"].encode("ascii")
        self.received = 0
        self.seen: dict[str, dict[str, int]] = {"tcp": {}, "udp": {}, "sink": {}, "marked": {}}
        self.awaited: list[tuple[Socket, str, int]] = []
        self.ports: dict[str, list[int]] = {}
        for kind, style, handler in (
            ("tcp", socket.SOCK_STREAM, self.on_tcp),
            ("udp", socket.SOCK_DGRAM, self.on_udp),
            ("sink", socket.SOCK_STREAM, self.on_sink),
        ):
            self.ports[kind] = [self.listen(spec["address"], port, style, handler) for port in spec.get(kind, ())]

    def listen(self, address: str, port: int, style: int, handler: Any) -> int:
        """Bind and listen; the port that it became."""
        sock = Socket(socket.AF_INET, style | socket.SOCK_NONBLOCK)
        if style == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        try:
            sock.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            sock.bind((address, 0))
        if style == socket.SOCK_STREAM:
            sock.listen(BACKLOG)
        self.watch(sock, lambda mask: handler(sock))
        return int(sock.getsockname()[1])

    def count(self, kind: str, peer: str) -> None:
        """Note that this peer knocked."""
        self.seen[kind][peer] = self.seen[kind].get(peer, 0) + 1

    def greeting(self, peer: Any) -> bytes:
        """Who we are and whom we see."""
        return b"%s %s %d\n" % (self.identity, peer[0].encode("ascii"), peer[1])

    def on_tcp(self, sock: Socket) -> None:
        """Say the greeting and close, for all who wait. Closing first keeps TIME_WAIT off the probing side."""
        for _ in range(64):
            try:
                connection, peer = sock.accept()
            except OSError:
                return
            self.count("tcp", peer[0])
            try:
                connection.send(self.greeting(peer), socket.MSG_MORE)  # one packet for this and the end
            except OSError:
                pass  # the peer is gone already
            connection.close()

    def on_udp(self, sock: Socket) -> None:
        """Echo the start of each datagram behind the greeting: a short answer needs no room on the way back."""
        for _ in range(64):
            try:
                data, peer = sock.recvfrom(BUFFER)
                if data.startswith(MARKED):
                    self.note_mark(data[len(MARKED) :][:MARK_LENGTH].decode("ascii", "replace"))
                    continue
                self.count("udp", peer[0])
                sock.sendto(self.greeting(peer) + data[:ECHOED], peer)
            except OSError:
                return

    def on_sink(self, sock: Socket) -> None:
        """Say the greeting and swallow."""
        try:
            connection, peer = sock.accept()
            connection.send(self.greeting(peer))
        except OSError:
            return
        self.count("sink", peer[0])
        connection.setblocking(False)
        total = [0]
        self.watch(connection, lambda mask: self.swallow(connection, total))

    def swallow(self, connection: Socket, total: list[int]) -> None:
        """Read what is there; at the end of it say how much it was."""
        try:
            for _ in range(16):
                data = connection.recv(1 << 18)
                total[0] += len(data)
                if not data:
                    self.received += total[0]
                    connection.send(b"%d\n" % total[0])
                    self.forget(connection)
                    return
        except BlockingIOError:
            return
        except OSError:
            self.forget(connection)

    def note_mark(self, mark: str) -> None:
        """Note that a mark has come, and tell those who wait for it."""
        if mark in self.seen["marked"] or len(self.seen["marked"]) < MOST_MARKS:
            self.count("marked", mark)
        for waiting in [each for each in self.awaited if self.has_come(*each[1:])]:
            self.awaited.remove(waiting)
            super().answer(waiting[0], b"")

    def has_come(self, prefix: str, number: int) -> bool:
        """Whether so many marks that begin like that are there."""
        return sum(mark.startswith(prefix) for mark in self.seen["marked"]) >= number

    def answer(self, connection: Socket, word: bytes) -> None:
        """Answer when the marks have come that are asked for, or else at once."""
        if not word.startswith(b"marked "):
            super().answer(connection, word)
            return
        prefix, number = word.decode("ascii").split()[1:]
        if self.has_come(prefix, int(number)):
            super().answer(connection, b"")
        else:
            self.awaited.append((connection, prefix, int(number)))

    def state(self) -> dict[str, Any]:
        """Ports, and who knocked how often."""
        return {
            "ports": self.ports,
            "seen": self.seen,
            "sink_bytes": self.received,
            "seconds_left": self.end - time.monotonic(),
        }


def listen(operation: dict[str, Any], _end: float) -> dict[str, Any]:
    """Start listeners in a process that outlives the agent; those that already run are kept."""
    return start(Listeners, operation)


def counters(operation: dict[str, Any], _end: float) -> dict[str, Any]:
    """What the listeners saw so far."""
    return ask_standing(operation["name"], b"counters")


def marked(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """What they saw, once as many marks as are waited for have come, or when patience is at its end."""
    patience = max(0.001, min(operation["patience"], end - time.monotonic()))
    word = "marked %s %d" % (operation["prefix"], operation["number"])
    try:
        return ask_standing(operation["name"], word.encode("ascii"), patience)
    except socket.timeout:
        return ask_standing(operation["name"], b"counters")


def stop(operation: dict[str, Any], _end: float) -> dict[str, Any]:
    """What they saw, and their end."""
    return ask_standing(operation["name"], b"stop")
