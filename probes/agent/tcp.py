"""Probes that are connections."""

from __future__ import annotations

import _socket as socket
import errno
import select
import struct
import time
from typing import Any

from probes.agent.batch import Batch, Loop
from probes.agent.dialogues import Dialogue
from probes.agent.linux import IP_RECVERR, RESET_ON_CLOSE
from probes.agent.outcomes import DROPPED, INCONCLUSIVE, OPEN, outcome_of_errno, outcome_of_notice, read_notice
from probes.agent.sockets import Socket

DIALOGUE = 1 << 11  # most is said in fewer bytes, and the buffer is made anew for each probe
TCP_HANDSHAKE = struct.Struct("68xI28xI")  # the start of struct tcp_info: round trip in µs, retransmissions


class TcpBatch(Batch):
    """Connections, one socket each. What is said over them is the dialogue's business."""

    protocol = 0  # the usual one of streams

    def __init__(self, spec: dict[str, Any], dialogue: Dialogue) -> None:
        super().__init__(spec)
        self.dialogue = dialogue
        self.loop: Loop
        # By file descriptor, oldest first: all have the same timeout, so the first is the first to expire.
        self.live: dict[int, tuple[int, Socket, float]] = {}
        self.heard: dict[int, bytes] = {}

    def open(self, loop: Loop) -> None:
        """Sockets are made one by one, when there is room for them."""
        self.loop = loop

    def pump(self, now: float) -> float:
        """Expire the oldest, then fill the window."""
        while self.live:
            fd, (_index, _sock, started) = next(iter(self.live.items()))
            if started + self.timeout > now:
                break
            self.expire(fd)
        while self.launched < len(self.targets) and len(self.live) < self.window:
            if not self.launch(self.launched):
                break
            self.launched += 1
        if not self.live:
            return now
        return next(iter(self.live.values()))[2] + self.timeout

    def launch(self, index: int) -> bool:
        """Start one connection; False when there are no file descriptors left and waiting will free some."""
        target = self.targets[index]
        try:
            sock = Socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, self.protocol)
        except OSError as error:
            if self.live:
                return False
            self.finish(index, INCONCLUSIVE, detail="socket: %s" % error.strerror)
            return True
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        if self.source:
            try:
                sock.bind((self.source, 0))
            except OSError as error:
                sock.close()
                self.finish(index, INCONCLUSIVE, detail="source %s: %s" % (self.source, error.strerror))
                return True
        number = sock.connect_ex((target[0], target[1]))
        if number not in (0, errno.EINPROGRESS):
            outcome, detail = outcome_of_errno(number)
            self.finish(index, outcome, detail="connect: %s" % detail)
            sock.close()
            return True
        mask = select.EPOLLIN | select.EPOLLOUT if self.dialogue.speaks_first else select.EPOLLIN
        self.live[sock.fileno()] = (index, sock, time.monotonic())
        self.loop.watch(sock, mask, self.on_event)
        return True

    def on_event(self, fd: int, mask: int) -> None:
        """The connection failed, opened, or said something."""
        index, sock, _started = self.live[fd]
        if mask & select.EPOLLERR:
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            entry = read_notice(sock)
            notice = entry[2] if entry else None
            if number or notice:
                outcome, detail = (
                    outcome_of_notice(notice, self.targets[index][0]) if notice else outcome_of_errno(number)
                )
                self.end(fd, outcome, detail=detail)
            return
        if mask & select.EPOLLOUT:
            request = self.dialogue.request(index, self.targets[index])
            if not request:
                self.succeed(fd, OPEN, {})
                return
            sock.send(request)
            self.loop.poll.modify(fd, select.EPOLLIN)
        if not mask & (select.EPOLLIN | select.EPOLLHUP):
            return
        try:
            data = sock.recv(DIALOGUE)
        except BlockingIOError:
            return
        except OSError as error:
            outcome, detail = outcome_of_errno(error.errno or 0)
            self.end(fd, outcome, detail="after the connection was open: %s" % detail)
            return
        heard = self.heard.pop(fd, b"") + data
        answer = self.dialogue.understand(index, self.targets[index], heard)
        if answer is not None:
            self.succeed(fd, *answer)
        elif data:
            self.heard[fd] = heard
        else:
            self.end(fd, INCONCLUSIVE, detail="connected, but closed after %d bytes" % len(heard))

    def succeed(self, fd: int, outcome: str, columns: dict[str, Any]) -> None:
        """All was said: note the outcome, with the time that connecting took."""
        _index, sock, started = self.live[fd]
        rtt, again = TCP_HANDSHAKE.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_HANDSHAKE.size))
        waited = time.monotonic() - started
        if outcome == OPEN and self.dialogue.resets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        # The kernel timed the handshake itself: free of what scheduling adds to our own clock.
        self.end(fd, outcome, rtt=rtt / 1e6 if rtt and not again else waited, sends=1 + again, **columns)

    def end(self, fd: int, outcome: str, rtt: float | None = None, **columns: Any) -> None:
        """Close the connection and note what came of it."""
        index, sock, _started = self.live.pop(fd)
        del self.loop.handlers[fd]
        sock.close()
        self.finish(index, outcome, rtt=rtt if outcome == OPEN else None, **columns)

    def expire(self, fd: int) -> None:
        """Nothing more came: no connection is a drop, an open one that stays silent says nothing about the path."""
        sock = self.live[fd][1]
        try:
            sock.getpeername()
        except OSError:
            self.end(fd, DROPPED, detail="no answer within %g s" % self.timeout)
        else:
            said = "broke off" if fd in self.heard else "said nothing"
            self.end(fd, INCONCLUSIVE, detail="connected, but the other side %s for %g s" % (said, self.timeout))

    def close(self) -> None:
        """Close what is still open."""
        for _index, sock, _started in self.live.values():
            sock.close()
        self.live.clear()
