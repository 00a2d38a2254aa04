"""Probes that are datagrams: sent, repeated and told apart, whatever they carry."""

from __future__ import annotations

import _socket as socket
import os
import select
import struct
import time
from typing import TYPE_CHECKING, Any

from probes.agent.batch import Batch, Loop
from probes.agent.linux import IP_RECVERR, IP_TTL
from probes.agent.outcomes import DROPPED, OPEN, Notice, outcome_of_errno, outcome_of_notice, read_notice
from probes.agent.sockets import BUFFER, Socket

if TYPE_CHECKING:
    from collections import deque
else:
    from _collections import deque


class DatagramBatch(Batch):
    """Datagrams, all through one socket, told apart by what they carry. Subclasses say what that is."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.nonce = bytes.fromhex(spec["mark"]) if "mark" in spec else os.urandom(8)
        self.interval = self.timeout / self.tries
        self.sent: dict[int, list[float]] = {}
        # When to repeat or to give up, in the order of time because the interval is always the same.
        self.due: deque[tuple[float, int]] = deque()
        self.remarks: dict[int, str] = {}
        self.sock: Socket

    def open(self, loop: Loop) -> None:
        """Open the socket, with its error queue."""
        self.sock = self.make_socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        if self.ttl is not None:
            self.sock.setsockopt(socket.IPPROTO_IP, IP_TTL, self.ttl)
        if self.source:
            self.sock.bind((self.source, 0))
        loop.watch(self.sock, select.EPOLLIN, self.on_event)

    def close(self) -> None:
        """Close the socket if there is one."""
        if hasattr(self, "sock"):
            self.sock.close()

    def pump(self, now: float) -> float:
        """Repeat or expire what is due, then fill the window."""
        while self.due and self.due[0][0] <= now:
            index = self.due.popleft()[1]
            if self.outcome[index] is not None:
                continue
            if len(self.sent[index]) < self.tries:
                self.send(index)
            else:
                remark = self.remarks.get(index, "no answer")
                detail = "%s to %d tries within %g s" % (remark, self.tries, self.timeout)
                self.finish(index, DROPPED, sends=self.tries, detail=detail)
        in_flight = self.launched - (len(self.targets) - self.left)
        while self.launched < len(self.targets) and in_flight < self.window:
            self.sent[self.launched] = []
            self.send(self.launched)
            self.launched += 1
            in_flight += 1
        return self.due[0][0] if self.due else now

    def send(self, index: int) -> None:
        """Send one datagram. An error that the kernel reports now may belong to an earlier one: read those first."""
        attempt = len(self.sent[index])
        datagram = self.build(index, attempt)
        now = time.monotonic()  # before sending: on one machine the answer can be there when the call returns
        stuck = False
        while True:
            try:
                self.sock.sendto(datagram, tuple(self.targets[index][:2]))
            except BlockingIOError:
                pass  # the queue is full: as if lost, the next try follows
            except OSError as error:
                if self.read_errors() or not stuck:
                    stuck = True
                    continue
                outcome, detail = outcome_of_errno(error.errno or 0)
                self.finish(index, outcome, sends=attempt + 1, detail="send: %s" % detail)
                return
            break
        self.sent[index].append(now)
        self.due.append((now + self.interval, index))

    def on_event(self, _fd: int, mask: int) -> None:
        """Answers, or errors."""
        if mask & select.EPOLLERR:
            self.read_errors()
        if not mask & select.EPOLLIN:
            return
        while True:
            try:
                data, ancillary, _flags, address = self.sock.recvmsg(BUFFER, 128)
            except BlockingIOError:
                return
            except OSError:
                self.read_errors()
                continue
            now = time.monotonic()
            answer = self.understand(data, ancillary)
            if answer is None:
                continue
            index, attempt, outcome, columns = answer
            if not 0 <= index < len(self.targets) or attempt >= len(self.sent.get(index, ())):
                continue
            if address[0] != self.targets[index][0]:
                self.remarks[index] = "the answer came from %s; none from the target" % address[0]
                continue
            if outcome != OPEN:
                self.remarks[index] = columns["detail"]
                continue
            self.finish(index, OPEN, rtt=now - self.sent[index][attempt], sends=attempt + 1, **columns)

    def read_errors(self) -> int:
        """Empty the error queue; how many entries there were."""
        entries = 0
        while True:
            entry = read_notice(self.sock)
            if entry is None:
                # Only now: an error that came meanwhile is in the queue too, and will be read from there.
                self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                return entries
            entries += 1
            quoted, address, notice = entry
            if notice is None:
                continue
            if notice.too_large:
                self.too_large(quoted, address, notice)
                continue
            index = self.whose(quoted, address)
            if index is not None:
                outcome, detail = outcome_of_notice(notice, self.targets[index][0])
                sends = max(1, len(self.sent.get(index, ())))
                self.finish(index, outcome, sends=sends, offender=notice.offender, detail=detail)

    def too_large(self, quoted: bytes, address: Any, notice: Notice) -> None:
        """A datagram of ours was too large for somebody: not one of these, which fit everywhere."""

    def waiting_for(self, address: Any) -> int | None:
        """The probe in flight to that address and port, when the quoted bytes do not tell."""
        for index in self.sent:
            if self.outcome[index] is None and tuple(self.targets[index][:2]) == tuple(address[:2]):
                return index
        return None

    def make_socket(self) -> Socket:
        """A UDP socket."""
        return Socket(socket.AF_INET, socket.SOCK_DGRAM)

    def body(self, index: int, attempt: int) -> bytes:
        """What every datagram carries: a token that nobody can guess."""
        return TOKEN.pack(self.nonce, index, attempt)

    def build(self, index: int, attempt: int) -> bytes:
        """The datagram."""
        raise NotImplementedError

    def understand(self, data: bytes, ancillary: Any) -> tuple[int, int, str, dict[str, Any]] | None:
        """(probe, try, outcome, columns) of an answer, None for anybody else's."""
        raise NotImplementedError

    def whose(self, quoted: bytes, address: Any) -> int | None:
        """The probe that an ICMP error quotes."""
        raise NotImplementedError


TOKEN = struct.Struct("!8sIB")  # nonce of the batch, probe, try
