"""Doors: listeners on just the ports asked for, which tell who knocked at which."""

from __future__ import annotations

import _socket as socket
from typing import Any

from probes.agent.datagrams import TOKEN
from probes.agent.linux import SCTP
from probes.agent.listeners import BACKLOG, ECHOED, Listeners
from probes.agent.sockets import BUFFER, Socket
from probes.agent.standing import ask_standing, start


class Doors(Listeners):
    """Listeners on just these ports and no others."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.failed: dict[str, str] = {}
        super().__init__(dict(spec, sink=()))
        self.seen["sctp"] = {}
        opened = (self.listen(spec["address"], port, socket.SOCK_STREAM, None, SCTP) for port in spec.get("sctp", ()))
        self.ports["sctp"] = list(opened)

    def listen(self, address: str, port: int, style: int, _handler: Any, protocol: int = 0) -> int:
        """Bind to that port and listen; 0 when it cannot be had."""
        kind = "sctp" if protocol else "tcp" if style == socket.SOCK_STREAM else "udp"
        try:
            sock = Socket(socket.AF_INET, style | socket.SOCK_NONBLOCK, protocol)
            if style == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
            sock.bind((address, port))
            if style == socket.SOCK_STREAM:
                sock.listen(BACKLOG)
        except OSError as error:
            self.failed["%s %d" % (kind, port)] = str(error.strerror)
            return 0
        bound = int(sock.getsockname()[1])
        knocked = self.on_datagrams if kind == "udp" else self.on_streams
        self.watch(sock, lambda mask: knocked(sock, kind, bound))
        return bound

    def on_streams(self, sock: Socket, kind: str, port: int) -> None:
        """Say the greeting and close, for all who wait."""
        for _ in range(64):
            try:
                connection, peer = sock.accept()
            except OSError:
                return
            self.count(kind, "%d %s" % (port, peer[0]))
            try:
                connection.send(self.greeting(peer))
            except OSError:
                pass  # the peer is gone already
            connection.close()

    def on_datagrams(self, sock: Socket, kind: str, _port: int) -> None:
        """Note which probe it is, whoever it seems to come from, and echo its start behind the greeting."""
        for _ in range(64):
            try:
                data, peer = sock.recvfrom(BUFFER)
                if len(data) >= TOKEN.size:
                    mark, number, _attempt = TOKEN.unpack_from(data)
                    self.count(kind, "%s %d" % (mark.hex(), number))
                sock.sendto(self.greeting(peer) + data[:ECHOED], peer)
            except BlockingIOError:
                return
            except OSError:
                continue

    def answer(self, connection: Socket, word: bytes) -> None:
        """Answer, and forget who knocked when that was asked for."""
        super().answer(connection, word)
        if word == b"account":
            self.seen = {kind: {} for kind in self.seen}

    def state(self) -> dict[str, Any]:
        """Ports, those that could not be had, and who knocked how often."""
        ports = {kind: [port for port in opened if port] for kind, opened in self.ports.items()}
        return dict(super().state(), ports=ports, failed=self.failed)


def doors(operation: dict[str, Any], _end: float) -> dict[str, Any]:
    """Open them in a process that outlives the agent; those of that name that are open already are kept."""
    return start(Doors, operation)


def account(operation: dict[str, Any], _end: float) -> dict[str, Any]:
    """Who knocked since this was last asked."""
    return ask_standing(operation["name"], b"account")
