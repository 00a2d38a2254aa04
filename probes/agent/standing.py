"""Processes that go on when the agent has gone: how they begin, are asked, and end."""

from __future__ import annotations

import _socket as socket
import os
import select
import time
from typing import Any

from probes.agent.codec import from_json, to_json
from probes.agent.sockets import BUFFER, CONTROL_TIMEOUT, Socket


class Standing:
    """What goes on in a process of its own when the agent has gone, with a control socket and an end."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.end = time.monotonic() + spec["life"]
        self.poll = select.epoll()
        self.handlers: dict[int, Any] = {}
        self.running = True
        self.control = Socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.control.bind(control_name(spec["name"]))
        self.control.listen(8)
        self.watch(self.control, self.on_control)

    def watch(self, sock: Socket, handler: Any) -> None:
        """Call the handler when there is something to read."""
        self.handlers[sock.fileno()] = handler
        self.poll.register(sock.fileno(), select.EPOLLIN)

    def forget(self, sock: Socket) -> None:
        """Close a connection."""
        del self.handlers[sock.fileno()]
        sock.close()

    def serve(self) -> None:
        """Serve until stopped or until the end."""
        while self.running:
            left = self.end - time.monotonic()
            if left <= 0:
                return
            for fd, mask in self.poll.poll(left, 64):
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler(mask)

    def on_control(self, _mask: int) -> None:
        """Hear one line, and answer it."""
        try:
            connection, _ = self.control.accept()
            connection.settimeout(CONTROL_TIMEOUT)
            self.answer(connection, connection.recv(128))
        except OSError:
            return

    def answer(self, connection: Socket, word: bytes) -> None:
        """Say how things stand; "stop" is the end as well."""
        connection.sendall(to_json(self.state()))
        connection.close()
        if word == b"stop":
            self.running = False

    def state(self) -> dict[str, Any]:
        """How things stand."""
        raise NotImplementedError


def control_name(name: str) -> str:
    """An abstract socket: no file, gone with the process, private to the network namespace."""
    return "\0meshproof/" + name


def ask_standing(name: str, word: bytes, patience: float = CONTROL_TIMEOUT) -> dict[str, Any]:
    """Ask a process that goes on by itself. Raises OSError when there is none of that name, or no answer."""
    with Socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(patience)
        sock.connect(control_name(name))
        sock.sendall(word)
        answer = b""
        while True:
            data = sock.recv(BUFFER)
            if not data:
                state: dict[str, Any] = from_json(answer)
                return state
            answer += data


def start(kind: type[Standing], operation: dict[str, Any]) -> dict[str, Any]:
    """Start that in a process that outlives the agent, unless it runs already; how things stand there."""
    try:
        return dict(ask_standing(operation["name"], b"counters"), started=False)
    except OSError:
        pass
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        become_daemon(writer)
        run_standing(kind, operation, writer)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        report = pipe.read()
    if not report:
        raise OSError("it ended before it was ready")
    state: dict[str, Any] = from_json(report)
    if "error" not in state:
        state["started"] = True
    return state


def become_daemon(keep: int) -> None:
    """Leave the exec behind: own session, no terminal, no inherited descriptor but one."""
    os.setsid()
    if os.fork():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.closerange(3, keep)
    os.closerange(keep + 1, 256)
    os.chdir("/")


def run_standing(kind: type[Standing], operation: dict[str, Any], report: int) -> None:
    """Get ready, tell the agent how it went, serve, end."""
    status = 1
    try:
        try:
            standing = kind(operation)
            answer = standing.state()
        except OSError as error:
            answer = {"error": "%s: %s" % (operation["op"], error)}
        os.write(report, to_json(answer))
        os.close(report)
        if "error" not in answer:
            standing.serve()
            status = 0
    finally:
        os._exit(status)
