"""All ports of one address."""

from __future__ import annotations

import _socket as socket
import errno
import resource
import select
import time
from typing import Any

from probes.agent.linux import RESET_ON_CLOSE

SPARE_FILES = 64


def sweep(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """Connect to every port and see which of them answer. Sockets are bare, since 65,535 of them cost time."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    window = max(1, min(operation["window"], limit - SPARE_FILES))
    ports = (port for first, last in operation["ports"] for port in range(first, last + 1))
    address, timeout = operation["address"], operation["timeout"]
    poll = select.epoll()
    live: dict[int, tuple[Any, int, float]] = {}
    reached: list[int] = []
    undecided: list[int] = []
    started = time.monotonic()
    more = True
    try:
        while (more or live) and time.monotonic() < end:
            # Packets of a burst must not outrun the queues that they go through: launch some, then look who answered.
            for _ in range(min(512, window - len(live))):
                port = next(ports, 0)
                if not port:
                    more = False
                    break
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                number = sock.connect_ex((address, port))
                if number == errno.EINPROGRESS:
                    live[sock.fileno()] = sock, port, time.monotonic()
                    poll.register(sock.fileno(), select.EPOLLOUT)
                    continue
                (reached if number in (0, errno.ECONNREFUSED) else undecided).append(port)
                sock.close()
            full = not more or len(live) >= window
            for fd, _mask in poll.poll(0.02 if full else 0, 4096):
                sock, port, _launched = live.pop(fd)
                number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number in (0, errno.ECONNREFUSED, errno.ECONNRESET):
                    reached.append(port)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                sock.close()
            late = time.monotonic() - timeout
            while live:
                fd, (sock, _port, launched) = next(iter(live.items()))
                if launched > late:
                    break
                del live[fd]
                sock.close()
        undecided += [port for _sock, port, _launched in live.values()]
        undecided += ports
    finally:
        for sock, _port, _launched in live.values():
            sock.close()
        poll.close()
    return {"reached": sorted(reached), "undecided": sorted(undecided), "seconds": time.monotonic() - started}
