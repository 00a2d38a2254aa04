r"""The agent: the one program that runs inside probe pods, sent over exec, gone when it has answered.

It reads a plan and writes one result. Standard library only, Python 3.8 or later, no file is written, no privilege
is needed but for ICMP where the pod's `ping_group_range` does not allow it. What it measures it never judges.

How it is started: `python3 -I -S -c BOOT` (probes/client.py) with this program on standard input, then the plan, JSON,
behind its length and a newline (lengths rather than end of file, because exec before v5 cannot close standard input).
The result is the last `\x1eRESULT <length> <ASCII JSON>` on standard output. Exit status 0 says that there is one.

A plan: {"deadline": seconds, "control": [address, port, identity] or null, "operations": [...]}. Operations are done
in order, each answers in its place, and one that fails answers {"error": text} without stopping the others:

- {"op": "listen", "name", "identity", "address", "tcp", "udp", "sink", "life"}: start listeners in a process of their
  own that ends after `life` seconds. TCP and UDP ones answer "<identity> <peer address> <peer port>", a sink
  swallows bytes and then says how many they were. A port that is taken is replaced by a free one.
- {"op": "counters", "name"} and {"op": "stop", "name"}: what the listeners saw; stop also ends them.
- {"op": "marked", "name", "prefix", "number", "patience"}: the same, as soon as so many marks that begin like that have
  come, at most `patience` seconds later. A mark is a datagram for the listeners that says it is one; none is answered.
- {"op": "probe", "batches": [...]}: all batches at once, hundreds of probes in flight, one event loop. A batch is
  {"kind": "icmp|tcp|udp|udp-fragments|sctp|line|knock|dns-tcp|dns-udp", "targets": [[address, port, expected], ...],
  "window", "timeout", "tries", "patience", "source", "ttl", "mark"}. After `patience` failures the rest of a batch is
  not tried. `source` is the address that it is all sent from; `ttl`, for datagrams, how many hops they may take: who
  ends them then is in the column `offender`, and one batch for each number of hops makes a trace. `mark`, in hex, is
  what every datagram of the batch begins with, before its number: 8 bytes, random when they are not given.
  `expected` is the identity that must answer, for DNS the name to ask for; a knock only connects. TCP is tried again
  by the kernel only (SYN after 1 s, then 2 s later); a datagram is sent `tries` times, `timeout / tries` apart: part of
  the instrument.
- {"op": "transfer", "target": [address, port, identity], "bytes", "seconds", "rounds", "patience"}: bulk TCP transfers
  to a sink, one after the other, until the two best rates agree, at most `rounds`. Each tells the longest time in which
  nothing was confirmed, and ends when that exceeds `patience`.
- {"op": "tls", "timeout", "patience", "targets": [{"address", "port", "name", "plain", "certificate", "key",
  "protocols", "request"}, ...]}: for each, all at once, a TLS handshake under that name, offering these protocols
  (ALPN) and showing that certificate (PEM) if there is one; the peer's is given back and not verified. What is said to
  whom the handshake satisfies is heard for `patience` seconds (TLS 1.3 refuses a client afterwards), then `request`
  (base64) is said, and the answer heard. `plain` leaves TLS out.
- {"op": "enter", "timeout", "targets": [{"address", "port", "name", "upgrade", "plain", "authority", "certificate",
  "key", "protocols", "startup", "password", "request"}, ...]}: for each, how far one gets. `upgrade` asks for TLS in
  PostgreSQL's protocol first, `plain` leaves TLS out, `authority` (PEM) has the peer's certificates verified, for that
  name. Then comes a login with the parameters `startup` in that protocol, or `request` (base64), or neither.
- {"op": "mtu", "targets": [[address, TCP port, UDP port, identity], ...], "floor", "timeout", "tries"}: for each, all
  at once, the largest packet that goes there unfragmented, by datagrams to its UDP listener, else by ICMP echo; what
  became of the next larger one; MTU of device and route; the largest TCP segment. Smaller than `floor` is not tried.
- {"op": "watch", "targets": [[address, TCP port, identity], ...], "every", "timeout"}: connect to all of them every so
  many seconds, and tell each round at once, `\x1eROUND [began, told, [answered, ...]]`, until a line is said to it.
- {"op": "kernel"}: routes of all tables, links, addresses, neighbours and forwarding entries, by netlink.
- {"op": "capture", "name", "life", "toward": [address, ...], "filter": [[code, jt, jf, k], ...], "most"}: take the
  first `most` packets that the classic BPF filter lets through on the interfaces towards these addresses, beginning
  with the IP header, in a process of its own that ends after `life` seconds. "stop" gives them back. Needs CAP_NET_RAW.
- {"op": "send", "protocol", "source", "packets": [[address, port, base64], ...], "copies", "apart"}: send these bytes
  by UDP (protocol 17), or straight behind an IP header (any other; needs CAP_NET_RAW), each `copies` times.
- {"op": "dns", "questions": [[address, port, name, "A|SRV|NS", "udp|tcp"], ...], "timeout", "tries", "source"}: all at
  once; for each the response code, the records of answer and additional section, whether it was truncated, and the
  seconds until it came.
- {"op": "resolve", "names": [name, ...], "timeout"}: for each, all at once, what the own resolver makes of it (hosts
  file, search list, servers), and the seconds that it took; and what /etc/resolv.conf says.
- {"op": "doors", "name", "identity", "address", "tcp", "udp", "sctp", "life"}: listeners on just these ports; those
  that cannot be had are told in `failed`. {"op": "account", "name"} tells of each knock since it was last asked at
  which port it was and from whom, and of datagrams the mark of the batch and the number of the probe.
- {"op": "hold", "target": [address, port, identity], "every", "seconds"}: keep one connection to a sink and say a byte
  over it every so often, telling `\x1eROUND` each time, until a line is said to it; when something was confirmed last.
- {"op": "sweep", "address", "ports": [[first, last], ...], "timeout", "window"}: connections to all these TCP ports,
  thousands at once; those that answered with anything, and those of which nothing can be said.
- {"op": "read", "files": [path, ...]}: what is in small files (the kernel's settings); null for those not there.
- {"op": "clock", "rounds", "enough", "timeout"}: asks the runner for its time, over the exec: `\x1eCLOCK` goes out, a
  line with the runner's time comes back. For each round: own time before, the runner's, own time after (s). It ends
  early when the best round took no longer than `enough`.
"""

from __future__ import annotations

# Importing socket, json, signal, collections and typing takes longer than most plans. What is needed of them is in the
# C modules behind them, which CPython has had since long before 3.8.
import _socket as socket
import errno
import os
import resource
import select
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections import deque
    from typing import Any, BinaryIO
else:
    import _signal as signal
    from _collections import deque

OPEN, REFUSED, DROPPED, PROHIBITED, INCONCLUSIVE = "open", "refused", "dropped", "prohibited", "inconclusive"

MARK = b"\x1eRESULT "
HARD_STOP = 2.0  # seconds after the plan's deadline at which the kernel ends the agent
CONTROL_TIMEOUT = 2.0
PROGRESS_TICK = 0.02  # seconds; the kernel says nothing when a segment is confirmed, so it is asked
RATES_AGREE = 0.95  # share of the best rate that the second best must have for both to be believed
BACKLOG = 4096
BUFFER = 1 << 16
ECHOED = 512  # no answer of a listener is larger than what it fits into
DIALOGUE = 1 << 11  # most is said in fewer bytes, and the buffer is made anew for each probe

# Linux constants that the socket module of 3.8 does not name.
IP_TTL, IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTTL = 2, 10, 11, 12
IP_PMTUDISC_DO, IP_PMTUDISC_PROBE = 2, 3
MSG_ERRQUEUE = 0x2000
ORIGIN_LOCAL, ORIGIN_ICMP = 1, 2
TCP_INFO_RETRANSMITS, TCP_INFO_BYTES_ACKED = 100, 120  # byte offsets in struct tcp_info
TCP_HANDSHAKE = struct.Struct("68xI28xI")  # the start of struct tcp_info: round trip in µs, retransmissions
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger

ICMP_ECHO_REPLY, ICMP_UNREACHABLE, ICMP_ECHO, ICMP_TIME_EXCEEDED = 0, 3, 8, 11
UNREACHABLE = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    9: "network administratively prohibited",
    10: "host administratively prohibited",
    13: "communication administratively prohibited",
}
PORT_UNREACHABLE, FRAGMENTATION_NEEDED = 3, 4


# --- what the interpreter has, without what it costs to import -------------------------------------------------------


class Socket(socket.socket):
    """A socket that closes at the end of a `with`, and accepts its like."""

    __slots__ = ()

    def __enter__(self) -> Socket:
        """Itself."""
        return self

    def __exit__(self, *_error: Any) -> None:
        """Close."""
        self.close()

    def accept(self) -> tuple[Socket, Any]:
        """A connection and its other end."""
        fd, peer = self._accept()  # type: ignore[attr-defined]
        return Socket(socket.AF_INET, socket.SOCK_STREAM, 0, fd), peer


def connect(address: str, port: int, timeout: float) -> Socket:
    """A TCP connection whose timeout stays. Raises OSError."""
    sock = Socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def json_codec() -> tuple[Any, Any]:
    """What writes a value as ASCII JSON, and what reads it: the C parts of the json module, else the module itself."""
    try:
        import _json

        library: Any = _json
        text = library.encode_basestring_ascii
        encode = library.make_encoder(None, None, text, None, ":", ",", False, False, False)
        scan = library.make_scanner(_AsJsonDecoder)
        if scan("".join(encode([{"a": 1.5}], 0)), 0)[0] != [{"a": 1.5}]:
            raise TypeError
    except (AttributeError, ImportError, TypeError):
        import json

        return lambda value: json.dumps(value, separators=(",", ":")).encode("ascii"), json.loads
    return (
        lambda value: "".join(encode(value, 0)).encode("ascii"),
        lambda data: scan(data.decode("utf-8"), 0)[0],
    )


class _AsJsonDecoder:
    """The settings that the scanner looks up in a decoder."""

    strict = True
    object_hook = object_pairs_hook = parse_constant = None
    parse_float, parse_int = float, int


to_json, from_json = json_codec()


# --- what an error means --------------------------------------------------------------------------------------------


class Notice:
    """An ICMP error that came back for a probe, from the socket's error queue.

    A packet that is too large is told with the `mtu`, also by the own kernel: then there is no `offender`.
    """

    def __init__(self, kind: int, code: int, offender: str, mtu: int) -> None:
        self.kind, self.code, self.offender, self.mtu = kind, code, offender, mtu

    @property
    def too_large(self) -> bool:
        """The packet would have had to be fragmented, and must not be."""
        return self.kind == ICMP_UNREACHABLE and self.code == FRAGMENTATION_NEEDED

    def __str__(self) -> str:
        """The error in words, with who sent it."""
        if self.kind == ICMP_TIME_EXCEEDED:
            what = "time to live exceeded in transit"
        else:
            what = UNREACHABLE.get(self.code, "destination unreachable, code %d" % self.code)
        return "ICMP %s, says %s" % (what, self.offender)


def read_notice(sock: Socket) -> tuple[bytes, Any, Notice | None] | None:
    """Take one entry from the error queue: (quoted bytes, original destination, notice); None when it is empty."""
    try:
        data, ancillary, _flags, address = sock.recvmsg(2048, 512, MSG_ERRQUEUE)
    except OSError:
        return None
    for level, kind, value in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_RECVERR and len(value) >= 24:
            number, origin, icmp, code, info = struct.unpack_from("=IBBBxI", value)
            if origin == ORIGIN_ICMP:
                return data, address, Notice(icmp, code, socket.inet_ntoa(value[20:24]), info)
            if origin == ORIGIN_LOCAL and number == errno.EMSGSIZE:
                return data, address, Notice(ICMP_UNREACHABLE, FRAGMENTATION_NEEDED, "", info)
    return data, address, None


def outcome_of_notice(notice: Notice, target: str) -> tuple[str, str]:
    """Port unreachable from the target itself is a refusal; from anybody else, and any other code, a prohibition."""
    refused = (notice.kind, notice.code) == (ICMP_UNREACHABLE, PORT_UNREACHABLE) and notice.offender == target
    return (REFUSED if refused else PROHIBITED), str(notice)


def outcome_of_errno(number: int) -> tuple[str, str]:
    """What an error number without an ICMP message says."""
    text = os.strerror(number)
    if number in (errno.ECONNREFUSED, errno.ECONNRESET):
        return REFUSED, text
    if number == errno.ETIMEDOUT:
        return DROPPED, text
    if number in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM):
        return PROHIBITED, "%s, says the own kernel" % text
    return INCONCLUSIVE, text


# --- probes ---------------------------------------------------------------------------------------------------------


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


class Dialogue:
    """What is said over a connection. Whether we begin, and whether we reset it when all is said."""

    speaks_first = False
    resets = False

    def request(self, index: int, target: Any) -> bytes:
        """What to say first, for those that speak first; nothing when being connected is all that was to be known."""
        raise NotImplementedError

    def understand(self, index: int, target: Any, heard: bytes) -> tuple[str, dict[str, Any]] | None:
        """The outcome and its columns, or None as long as more must be heard."""
        raise NotImplementedError


class Greeting(Dialogue):
    """Our own listener says who it is and whom it sees, and has closed its side then.

    A reset ends our side: a packet less than FIN and ACK, a tenth of what a probe costs, and no connection tracker on
    the way remembers the connection for minutes.
    """

    resets = True

    def understand(self, index: int, target: Any, heard: bytes) -> tuple[str, dict[str, Any]] | None:
        """One line, from the right one."""
        return check_greeting(heard, target[2]) if heard.endswith(b"\n") else None


class Line(Dialogue):
    """A host outside says one line: the address it sees."""

    def understand(self, index: int, target: Any, heard: bytes) -> tuple[str, dict[str, Any]] | None:
        """Any line will do."""
        if b"\n" not in heard:
            return None
        return OPEN, {"answer": heard.split(b"\n")[0].decode("ascii", "replace").strip()}


class Knock(Dialogue):
    """Somebody else's listener: being connected is all that is wanted of it."""

    speaks_first = True

    def request(self, index: int, target: Any) -> bytes:
        """Nothing."""
        return b""


class DnsOverTcp(Dialogue):
    """A query and an answer, each behind its length."""

    speaks_first = True

    def request(self, index: int, target: Any) -> bytes:
        """The query."""
        query = dns_query(index & 0xFFFF, target[2])
        return struct.pack("!H", len(query)) + query

    def understand(self, index: int, target: Any, heard: bytes) -> tuple[str, dict[str, Any]] | None:
        """The whole answer."""
        if len(heard) < 2 or len(heard) < 2 + struct.unpack_from("!H", heard)[0]:
            return None
        answer = dns_answer(heard[2:], index & 0xFFFF)
        return (INCONCLUSIVE, {"detail": "not a DNS answer"}) if answer is None else (OPEN, {"answer": answer})


def check_greeting(line: bytes, expected: str) -> tuple[str, dict[str, Any]]:
    """Open when the right listener answered. Another one's answer means that ours never got the probe."""
    words = line.decode("ascii", "replace").split()
    if len(words) != 3:
        return INCONCLUSIVE, {"detail": "connected to something that is no listener of ours"}
    if words[0] != expected:
        return DROPPED, {"answer": words[0], "detail": "%s answered instead" % words[0]}
    return OPEN, {"seen": words[1]}


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


class UdpBatch(DatagramBatch):
    """UDP echo: the listener's greeting, then our own bytes."""

    def build(self, index: int, attempt: int) -> bytes:
        """Nothing but the body."""
        return self.body(index, attempt)

    def understand(self, data: bytes, ancillary: Any) -> tuple[int, int, str, dict[str, Any]] | None:
        """Greeting, newline, the start of the body."""
        greeting, newline, body = data.partition(b"\n")
        if not newline or len(body) < TOKEN.size:
            return None
        nonce, index, attempt = TOKEN.unpack_from(body)
        if nonce != self.nonce or index >= len(self.targets):
            return None
        outcome, columns = check_greeting(greeting, self.targets[index][2])
        return index, attempt, outcome, columns

    def whose(self, quoted: bytes, address: Any) -> int | None:
        """By the token; a router may quote too little for that."""
        if len(quoted) >= TOKEN.size:
            nonce, index, _attempt = TOKEN.unpack_from(quoted)
            if nonce == self.nonce and index < len(self.targets):
                return int(index)
        return self.waiting_for(address)


class IcmpBatch(DatagramBatch):
    """ICMP echo, by the kernel's ping socket or, where that is not allowed, by a raw one."""

    raw = False
    identifier = 0

    def make_socket(self) -> Socket:
        """A ping socket, else a raw one. Both need leave: ping_group_range, or CAP_NET_RAW."""
        try:
            sock = Socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
        except PermissionError:
            sock = Socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            self.raw = True
            self.identifier = struct.unpack("!H", self.nonce[:2])[0]
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        return sock

    def build(self, index: int, attempt: int) -> bytes:
        """An echo request; the sequence number is the probe."""
        body = self.body(index, attempt)
        header = struct.pack("!BBHHH", ICMP_ECHO, 0, 0, self.identifier, index & 0xFFFF)
        return header[:2] + struct.pack("!H", checksum(header + body)) + header[4:] + body

    def understand(self, data: bytes, ancillary: Any) -> tuple[int, int, str, dict[str, Any]] | None:
        """An echo reply with our token."""
        if self.raw:
            data = data[(data[0] & 15) * 4 :]
        if len(data) < 8 + TOKEN.size or data[0] != ICMP_ECHO_REPLY:
            return None
        nonce, index, attempt = TOKEN.unpack_from(data, 8)
        if nonce != self.nonce:
            return None
        ttl = None
        for level, kind, value in ancillary:
            if level == socket.IPPROTO_IP and kind == IP_TTL:
                ttl = struct.unpack("=i", value)[0]
        return index, attempt, OPEN, {"ttl": ttl}

    def whose(self, quoted: bytes, address: Any) -> int | None:
        """By the sequence number, which even the shortest quote holds."""
        if len(quoted) < 8:
            return None
        identifier, index = struct.unpack_from("!HH", quoted, 4)
        mine = (not self.raw or identifier == self.identifier) and index < len(self.targets)
        return index if mine and self.targets[index][0] == address[0] else None


class DnsBatch(DatagramBatch):
    """A DNS query over UDP. The query's id is the probe."""

    def build(self, index: int, attempt: int) -> bytes:
        """The query."""
        return dns_query(index & 0xFFFF, self.targets[index][2])

    def understand(self, data: bytes, ancillary: Any) -> tuple[int, int, str, dict[str, Any]] | None:
        """The answer; a repeated query has the same id, so the last one sent is taken for it."""
        if len(data) < 12:
            return None
        index = struct.unpack_from("!H", data)[0]
        answer = dns_answer(data, index)
        if answer is None or index not in self.sent:
            return None
        return index, len(self.sent[index]) - 1, OPEN, {"answer": answer}

    def whose(self, quoted: bytes, address: Any) -> int | None:
        """By the id."""
        if len(quoted) >= 2:
            index = struct.unpack_from("!H", quoted)[0]
            if index < len(self.targets):
                return int(index)
        return self.waiting_for(address)


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


DNS_A, DNS_IN = 1, 1
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


def dns_query(number: int, name: str) -> bytes:
    """A query for the A records of a name (RFC 1035), recursion desired."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.rstrip(".").split("."))
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", DNS_A, DNS_IN)


def dns_answer(data: bytes, number: int) -> str | None:
    """The response code and the addresses ("NOERROR 172.20.0.1"); None when it is no answer to that query."""
    if len(data) < 12:
        return None
    identifier, flags, questions, answers, _authority, _additional = struct.unpack_from("!HHHHHH", data)
    if identifier != number or not flags & 0x8000:
        return None
    words = [RCODES.get(flags & 15, "RCODE%d" % (flags & 15))]
    try:
        place = 12
        for _ in range(questions):
            place = skip_name(data, place) + 4
        for _ in range(answers):
            place = skip_name(data, place)
            kind, _class, _ttl, length = struct.unpack_from("!HHIH", data, place)
            place += 10
            if kind == DNS_A and length == 4:
                words.append(socket.inet_ntoa(data[place : place + 4]))
            place += length
    except (struct.error, IndexError, OSError):
        words.append("(cut short)")
    return " ".join(words)


def skip_name(data: bytes, place: int) -> int:
    """The place behind a name: labels up to the root, or a pointer of two bytes."""
    while data[place]:
        if data[place] >= 0xC0:
            return place + 2
        place += 1 + data[place]
    return place + 1


def make_batch(spec: dict[str, Any]) -> Batch:
    """The batch that can do what the spec asks for."""
    kind = spec["kind"]
    if kind == "tcp":
        return TcpBatch(spec, Greeting())
    if kind == "line":
        return TcpBatch(spec, Line())
    if kind == "knock":
        return TcpBatch(spec, Knock())
    if kind == "dns-tcp":
        return TcpBatch(spec, DnsOverTcp())
    if kind == "sctp":
        return SctpBatch(spec, Greeting())
    return {"icmp": IcmpBatch, "udp": UdpBatch, "udp-fragments": UdpFragments, "dns-udp": DnsBatch}[kind](spec)


def probe(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """All batches of the operation, at once."""
    batches = [make_batch(spec) for spec in operation["batches"]]
    started = time.monotonic()
    Loop().run(batches, end)
    return {"batches": [batch.result() for batch in batches], "seconds": time.monotonic() - started}


# --- listeners ------------------------------------------------------------------------------------------------------


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


def listen(operation: dict[str, Any], _end: float) -> dict[str, Any]:
    """Start listeners in a process that outlives the agent; those that already run are kept."""
    return start(Listeners, operation)


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


# --- bulk transfer --------------------------------------------------------------------------------------------------


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


# --- TLS ------------------------------------------------------------------------------------------------------------


TLS_CERTIFICATE = 11  # type of the handshake message (RFC 5246, 7.4.2; RFC 8446, 4.4.2)


def tls(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """A handshake with every target, all at once."""
    import threading  # these take a while to import, and no other plan needs them

    answers: list[dict[str, Any]] = [{} for _ in operation["targets"]]

    def work(number: int, target: dict[str, Any]) -> None:
        answers[number] = handshake(target, operation["timeout"], operation["patience"], end)

    threads = [threading.Thread(target=work, args=item) for item in enumerate(operation["targets"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"targets": answers}


def handshake(target: dict[str, Any], timeout: float, patience: float, end: float) -> dict[str, Any]:
    """Connect, agree on TLS, listen, speak, listen.

    Gives back the TCP `outcome` and, when it is open: `secured` when the handshake succeeded, `protocol`, `certificate`
    (base64 DER, also of a handshake that failed after it), `alert` when the other side refused in words of TLS, `heard`
    (base64), `closed` when it hung up, and `detail` when it failed in another way.
    """
    import base64
    import ssl

    answer: dict[str, Any] = {}
    certificates: list[bytes] = []
    timeout = max(0.001, min(timeout, end - time.monotonic()))
    try:
        sock = connect(target["address"], target["port"], timeout)
    except socket.timeout:
        return {"outcome": DROPPED, "detail": "no answer within %g s" % timeout}
    except OSError as error:
        outcome, detail = outcome_of_errno(error.errno or 0)
        return {"outcome": outcome, "detail": detail}
    answer["outcome"] = OPEN
    try:
        if not target.get("plain"):
            sock = secure(sock, target, certificates)
            answer["secured"] = True
            answer["protocol"] = sock.version()
        heard = listen_for(sock, patience)
        if heard is None and target.get("request"):
            sock.sendall(base64.b64decode(target["request"]))
            heard = listen_for(sock, timeout)
        answer["closed"] = heard == b""
        answer["heard"] = base64.b64encode(heard or b"").decode("ascii")
    except ssl.SSLError as error:
        said = "%s: %s" % (error.reason, error) if error.reason else str(error)
        answer["alert" if "ALERT" in said else "detail"] = said
    except OSError as error:
        answer["closed"] = error.errno in (errno.ECONNRESET, errno.EPIPE)
        answer["detail"] = str(error)
    finally:
        sock.close()
    answer["certificate"] = base64.b64encode(b"".join(certificates[:1])).decode("ascii")
    return answer


def secure(sock: Any, target: dict[str, Any], certificates: list[bytes]) -> Any:
    """Put TLS around the connection; the other side's certificates are added to the list.

    They are verified where the target names an authority, and else taken as they come.
    """
    import ssl

    def overhear(_sock: Any, direction: str, version: int, _content: int, kind: int, message: bytes) -> None:
        # `getpeercert` has nothing to say of a handshake that failed, and in TLS 1.2 it fails where we are refused.
        if direction == "read" and kind == TLS_CERTIFICATE:
            latest = version == ssl.TLSVersion.TLSv1_3
            place = 4 + 3 + (1 + message[4] if latest else 0)
            while place < len(message):
                size = int.from_bytes(message[place : place + 3], "big")
                certificates.append(message[place + 3 : place + 3 + size])
                place += 3 + size
                if latest:  # each with extensions behind it
                    place += 2 + int.from_bytes(message[place : place + 2], "big")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if target.get("authority"):
        context.load_verify_locations(cadata=target["authority"])
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(target["protocols"])
    context._msg_callback = overhear  # type: ignore[attr-defined]
    if target.get("certificate"):
        # The library takes certificates from files only; this one is in memory and has no name.
        memory = os.memfd_create("certificate")
        try:
            os.write(memory, (target["certificate"] + target["key"]).encode("ascii"))
            context.load_cert_chain("/proc/self/fd/%d" % memory)
        finally:
            os.close(memory)
    return context.wrap_socket(sock, server_hostname=target["name"])


def listen_for(sock: Any, seconds: float) -> bytes | None:
    """What the other side says within that time: None for nothing, b"" when it hangs up."""
    sock.settimeout(seconds)
    try:
        data: bytes = sock.recv(512)
    except socket.timeout:
        return None
    return data


# --- the kernel's tables --------------------------------------------------------------------------------------------

RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH = 18, 22, 26, 30
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST_DUMP = 0x301
NLA_TYPE_MASK = 0x3FFF
AF_BRIDGE = 7
RTNH_F_ONLINK = 4
IFF_UP = 1
ROUTE_KINDS = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
}


def kernel(_operation: dict[str, Any], end: float) -> dict[str, Any]:
    """Routes, links, addresses, neighbours and forwarding entries, IPv4."""
    with Socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.bind((0, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.settimeout(max(0.001, end - time.monotonic()))
        route_header = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        return {
            "routes": [parse_route(body) for body in dump(sock, RTM_GETROUTE, route_header)],
            "links": [parse_link(body) for body in dump(sock, RTM_GETLINK, bytes(16))],
            "addresses": [
                parse_address(body) for body in dump(sock, RTM_GETADDR, struct.pack("=BBBBI", 2, 0, 0, 0, 0))
            ],
            "neighbours": [
                parse_neighbour(body)
                for body in dump(sock, RTM_GETNEIGH, struct.pack("=BxxxiHBB", socket.AF_INET, 0, 0, 0, 0))
            ],
            "forwarding": [
                parse_neighbour(body)
                for body in dump(sock, RTM_GETNEIGH, struct.pack("=BxxxiHBB", AF_BRIDGE, 0, 0, 0, 0))
            ],
        }


def dump(sock: Socket, kind: int, header: bytes) -> list[bytes]:
    """The bodies of all messages that answer a netlink dump request. Raises OSError when the kernel refuses it."""
    sock.send(struct.pack("=IHHII", 16 + len(header), kind, NLM_F_REQUEST_DUMP, kind, 0) + header)
    bodies: list[bytes] = []
    while True:
        data = sock.recv(1 << 18)
        place = 0
        while place + 16 <= len(data):
            length, answer, _flags, sequence, _pid = struct.unpack_from("=IHHII", data, place)
            body = data[place + 16 : place + length]
            place += (length + 3) & ~3
            if sequence != kind:
                continue
            if answer == NLMSG_DONE:
                return bodies
            if answer == NLMSG_ERROR:
                number = -struct.unpack_from("=i", body)[0]
                raise OSError(number, "netlink: %s" % os.strerror(number))
            bodies.append(body)


def attributes(data: bytes) -> dict[int, bytes]:
    """Netlink attributes by type."""
    found: dict[int, bytes] = {}
    place = 0
    while place + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, place)
        if length < 4:
            break
        found[kind & NLA_TYPE_MASK] = data[place + 4 : place + length]
        place += (length + 3) & ~3
    return found


def number_of(data: bytes | None) -> int | None:
    """A 32-bit attribute."""
    return None if data is None else int(struct.unpack_from("=I", data)[0])


def address_of(data: bytes | None) -> str | None:
    """An IPv4 address attribute."""
    return socket.inet_ntoa(data) if data is not None and len(data) == 4 else None


def text_of(data: bytes | None) -> str | None:
    """A zero-terminated name."""
    return None if data is None else data.rstrip(b"\0").decode("ascii", "replace")


def parse_route(body: bytes) -> dict[str, Any]:
    """Read struct rtmsg and its attributes. Gateways are [address, interface index, on-link]."""
    _family, length, _source, _tos, table, protocol, scope, kind, flags = struct.unpack_from("=BBBBBBBBI", body)
    found = attributes(body[12:])
    hops = []
    if 9 in found:  # RTA_MULTIPATH: struct rtnexthop after struct rtnexthop
        place = 0
        while place + 8 <= len(found[9]):
            size, hop_flags, _weight, interface = struct.unpack_from("=HBBi", found[9], place)
            gateway = address_of(attributes(found[9][place + 8 : place + size]).get(5))
            hops.append([gateway, interface, bool(hop_flags & RTNH_F_ONLINK)])
            place += (size + 3) & ~3
    elif 4 in found:  # RTA_OIF
        hops.append([address_of(found.get(5)), number_of(found[4]), bool(flags & RTNH_F_ONLINK)])
    return {
        "prefix": "%s/%d" % (address_of(found.get(1)) or "0.0.0.0", length),
        "table": number_of(found.get(15)) or table,
        "kind": ROUTE_KINDS.get(kind, str(kind)),
        "protocol": protocol,
        "scope": scope,
        "hops": hops,
        "metric": number_of(found.get(6)),
        "source": address_of(found.get(7)),
        "mtu": number_of(attributes(found.get(8, b"")).get(2)),  # RTA_METRICS, RTAX_MTU
    }


def parse_link(body: bytes) -> dict[str, Any]:
    """Read struct ifinfomsg and its attributes; VXLAN's id, port and local address where there are any."""
    _family, _kind, index, flags, _change = struct.unpack_from("=BxHiII", body)
    found = attributes(body[16:])
    details = attributes(found.get(18, b""))  # IFLA_LINKINFO
    kind = text_of(details.get(1)) or ""
    link = {
        "index": index,
        "name": text_of(found.get(3)),
        "kind": kind,
        "mtu": number_of(found.get(4)),
        "up": bool(flags & IFF_UP),
        "mac": ":".join("%02x" % byte for byte in found.get(1, b"")),
    }
    if kind == "vxlan":
        vxlan = attributes(details.get(2, b""))
        link["vni"] = number_of(vxlan.get(1))
        link["local"] = address_of(vxlan.get(4))
        link["port"] = struct.unpack("!H", vxlan[15])[0] if 15 in vxlan else None
        link["learning"] = bool(vxlan.get(7, b"\0")[0])
    return link


def parse_address(body: bytes) -> dict[str, Any]:
    """Read struct ifaddrmsg: the interface and its own address (IFA_LOCAL, else IFA_ADDRESS)."""
    _family, length, _flags, _scope, index = struct.unpack_from("=BBBBI", body)
    found = attributes(body[8:])
    return {"index": index, "address": address_of(found.get(2) or found.get(1)), "length": length}


def parse_neighbour(body: bytes) -> dict[str, Any]:
    """Read struct ndmsg: a neighbour's address and MAC, or a MAC and the tunnel destination behind it."""
    family, index, state, _flags, _kind = struct.unpack_from("=BxxxiHBB", body)
    found = attributes(body[12:])
    return {
        "family": family,
        "index": index,
        "state": state,
        "address": address_of(found.get(1)),
        "mac": ":".join("%02x" % byte for byte in found.get(2, b"")),
    }


# --- settings and clocks --------------------------------------------------------------------------------------------

CLOCK_MARK = b"\x1eCLOCK\n"
SMALL_FILE = 1 << 16


def read(operation: dict[str, Any], _end: float) -> dict[str, Any]:
    """What is in small files, null for those that cannot be read."""
    contents: list[str | None] = []
    for path in operation["files"]:
        try:
            with open(path, "rb") as file:
                contents.append(file.read(SMALL_FILE).decode("utf-8", "replace"))
        except OSError:
            contents.append(None)
    return {"contents": contents}


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


# --- how large a packet may be ---------------------------------------------------------------------------------------

IP_HEADER, TRANSPORT_HEADER = 20, 8  # UDP and ICMP echo alike
LARGEST_PACKET = 65535  # the loopback device takes one byte more
AT_ONCE = 16  # sizes of a target that are tried at the same time
QUICK = 0.3  # seconds; least time that a datagram is given once the round trip is known
RTM_F_FIB_MATCH = 0x2000
LOCAL, FRAGMENTATION, SILENCE = "local", "fragmentation-needed", "silence"


class Sizes(DatagramBatch):
    """Datagrams of given sizes that must not be fragmented. A target is [address, port, identity, size, discovery].

    `discovery` is how the kernel decides on the size: IP_PMTUDISC_PROBE, by the device alone, whatever was learnt of
    the path before, or IP_PMTUDISC_DO, by route and path.
    """

    refusal: dict[int, tuple[str, str | None, int | None]]
    local_mtu = 0

    def open(self, loop: Loop) -> None:
        """Nothing has been refused yet."""
        self.refusal = {}
        super().open(loop)

    def body(self, index: int, attempt: int) -> bytes:
        """The token, and zeros up to the size."""
        return super().body(index, attempt).ljust(self.targets[index][3] - IP_HEADER - TRANSPORT_HEADER, b"\0")

    def send(self, index: int) -> None:
        """Send one datagram, or learn that the own kernel does not. Errors of earlier ones are told by the call too."""
        attempt = len(self.sent[index])
        datagram = self.build(index, attempt)
        self.sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, self.targets[index][4])
        now = time.monotonic()
        for last in (False, False, False, True):
            try:
                self.sock.sendto(datagram, tuple(self.targets[index][:2]))
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    break  # dropped on the way out: as if lost
                self.local_mtu = 0
                self.read_errors()
                if self.local_mtu:
                    self.refuse(index, LOCAL, None, self.local_mtu)
                    return
                if last:
                    self.finish(index, INCONCLUSIVE, detail="send: %s" % error.strerror)
                    return
            else:
                break
        self.sent[index].append(now)
        self.due.append((now + self.interval, index))

    def too_large(self, quoted: bytes, address: Any, notice: Notice) -> None:
        """The own kernel says so while we send, others later."""
        if not notice.offender:
            self.local_mtu = notice.mtu
            return
        index = self.whose(quoted, address)
        if index is not None:
            self.refuse(index, FRAGMENTATION, notice.offender, notice.mtu or None)

    def refuse(self, index: int, how: str, by: str | None, mtu: int | None) -> None:
        """Somebody says that a datagram is too large."""
        if self.outcome[index] is None:
            self.refusal[index] = (how, by, mtu)
            self.finish(index, REFUSED)

    def waiting_for(self, address: Any) -> int | None:
        """Of the sizes in flight to that address, the largest is the likeliest that an error is about."""
        waiting = [
            index
            for index in self.sent
            if self.outcome[index] is None and tuple(self.targets[index][:2]) == tuple(address[:2])
        ]
        return max(waiting, key=lambda index: int(self.targets[index][3]), default=None)


class UdpSizes(Sizes, UdpBatch):
    """To a listener that answers in few bytes: nothing is tried but the way there."""


class IcmpSizes(Sizes, IcmpBatch):
    """Echo, where no listener is heard. Its answers are as large, so the way back is tried too."""


class SegmentBatch(TcpBatch):
    """Connections to listeners; the answer is the largest segment that the kernel sends over them."""

    def succeed(self, fd: int, outcome: str, columns: dict[str, Any]) -> None:
        """Ask the kernel before the connection is closed."""
        segment = self.live[fd][1].getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        super().succeed(fd, outcome, dict(columns, answer=segment))


class Search:
    """The search for the largest packet that gets to one target.

    It begins with the size that the own kernel goes by and one more, which it must refuse; most paths need no other.
    Else sizes between the largest that was answered and the smallest that was not are tried, several at once: first
    those that somebody has named. Silence counts as a refusal only when a smaller size is answered once more after it.
    """

    def __init__(self, target: list[Any], usable: int, floor: int) -> None:
        self.address, self.tcp_port, self.udp_port, self.identity = target
        self.usable = usable
        self.answered: int | None = None
        self.refused = usable + 1
        self.how: tuple[str, str | None, int | None] | None = None
        self.floor = min(floor, usable)
        self.wanted = sorted({self.floor, usable, usable + 1})
        self.said: set[int] = set()
        self.confirmed = False
        self.detail = ""

    def read(self, outcomes: dict[int, tuple[str, Any, str]]) -> None:
        """Learn from a round: for each size the outcome, who refused it, and the detail."""
        open_sizes = [size for size in self.wanted if outcomes[size][0] == OPEN]
        if not open_sizes and self.answered is None:
            self.wanted = []
            self.detail = outcomes[self.floor][2] or "no packet of %d bytes is answered" % self.floor
            return
        if self.confirmed:
            self.wanted = []
            if self.answered not in open_sizes:
                self.detail = "%d bytes were answered at first, and later not" % (self.answered or 0)
                self.answered = None
            elif self.refused in open_sizes:
                self.detail = "%d bytes were answered in the end: packets are lost on the way" % self.refused
                self.answered, self.how = self.refused, None
            return
        self.answered = max([self.answered or 0, *open_sizes])
        for size in reversed(self.wanted):
            outcome, refusal, detail = outcomes[size]
            if outcome != OPEN and self.answered < size <= self.refused:
                self.refused, self.how = size, refusal
                self.detail = "" if refusal else detail
        self.wanted = self.next_sizes()

    def next_sizes(self) -> list[int]:
        """What to try next; nothing when the limit is known."""
        low, high = self.answered or 0, self.refused
        if high - low <= 1:
            if high <= low or self.how is None or self.how[0] != SILENCE:
                return []
            self.confirmed = True
            return [low, high]
        named = self.how[2] if self.how else None
        if named is not None and named not in self.said and low <= named < high:
            self.said.add(named)
            return [size for size in (named, named + 1) if low < size < high]
        step = max(1, (high - low) // (AT_ONCE + 1))
        return list(range(low + step, high, step))

    def result(self) -> dict[str, Any]:
        """The limit, and who says so."""
        refused = self.answered is not None and self.answered < self.refused
        how, by, mtu = self.how if refused and self.how else (None, None, None)
        return {
            "largest": self.answered,
            "refused": self.refused if refused else None,
            "refusal": how,
            "refused_by": by,
            "reported": mtu,
            "detail": self.detail,
        }


def mtu(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """Find the largest packet for every target, all at once."""
    targets = operation["targets"]
    with Socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.bind((0, 0))
        sock.settimeout(max(0.001, end - time.monotonic()))
        devices = {link["index"]: link["mtu"] for link in map(parse_link, dump(sock, RTM_GETLINK, bytes(16)))}
        answers = [path_of(sock, target[0], devices) for target in targets]
    segments = SegmentBatch(
        {"kind": "tcp", "targets": [[t[0], t[1], t[3]] for t in targets], "timeout": operation["timeout"]}, Greeting()
    )
    beside: list[Batch] = [segments]
    for kind in (UdpSizes, IcmpSizes):
        searches = {
            number: Search(
                targets[number],
                min(LARGEST_PACKET, answer["route_mtu"] or answer["interface_mtu"]),
                operation["floor"],
            )
            for number, answer in enumerate(answers)
            if answer["interface_mtu"] and answer.get("largest") is None
        }
        search_all(kind, operation, list(searches.values()), beside, end)
        beside = []
        for number, search in searches.items():
            before = answers[number].get("detail")
            answers[number].update(search.result(), by="udp" if kind is UdpSizes else "icmp")
            if before and answers[number]["detail"]:
                answers[number]["detail"] = "UDP: %s; ICMP: %s" % (before, answers[number]["detail"])
    for answer in answers:
        answer.setdefault("largest", None)
    for answer, segment in zip(answers, segments.columns["answer"]):  # noqa: B905 (3.8 has no strict)
        answer["segment"] = segment if isinstance(segment, int) else None
    return {"targets": answers}


def path_of(sock: Socket, address: str, devices: dict[int, int]) -> dict[str, Any]:
    """The MTU of the route to an address, None when it has none of its own, and that of its device."""
    try:
        route = parse_route(route_to(sock, address))
    except OSError as error:
        return {"interface_mtu": None, "route_mtu": None, "detail": "no route: %s" % error}
    mtus = [devices[index] for _gateway, index, _onlink in route["hops"] if index in devices]
    return {
        "interface_mtu": min(mtus) if mtus else None,
        "route_mtu": route["mtu"],
        "detail": "" if mtus else "the route leaves by no device: %s" % route["kind"],
    }


def route_to(sock: Socket, address: str) -> bytes:
    """The body of the kernel's answer to which route leads there: the table's entry. Raises OSError."""
    header = struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, RTM_F_FIB_MATCH)
    header += struct.pack("=HH", 8, 1) + socket.inet_aton(address)  # RTA_DST
    sock.send(struct.pack("=IHHII", 16 + len(header), RTM_GETROUTE, 1, RTM_GETROUTE, 0) + header)
    data = sock.recv(BUFFER)
    length, answer, _flags, _sequence, _pid = struct.unpack_from("=IHHII", data)
    if answer == NLMSG_ERROR:
        number = -struct.unpack_from("=i", data, 16)[0]
        raise OSError(number, os.strerror(number))
    return data[16:length]


def search_all(kind: Any, operation: dict[str, Any], searches: list[Search], beside: list[Batch], end: float) -> None:
    """Try sizes of all targets, round after round. The first one tells how long the later ones have to wait."""
    timeout, beyond = operation["timeout"], operation["tries"]
    active = [search for search in searches if search.wanted]
    while active and time.monotonic() < end:
        rows = [(search, size) for search in active for size in search.wanted]
        port = "udp_port" if kind is UdpSizes else "tcp_port"
        batch = kind(
            {
                "kind": "udp" if kind is UdpSizes else "icmp",
                "targets": [
                    [
                        search.address,
                        getattr(search, port),
                        search.identity,
                        size,
                        IP_PMTUDISC_DO if size > search.usable else IP_PMTUDISC_PROBE,
                    ]
                    for search, size in rows
                ],
                "timeout": timeout,
                "tries": beyond,
            }
        )
        Loop().run([batch, *beside], end)
        beside = []
        outcomes: dict[int, dict[int, tuple[str, Any, str]]] = {}
        for index, (search, size) in enumerate(rows):
            outcome = batch.outcome[index]
            refusal = (SILENCE, None, None) if outcome == DROPPED else batch.refusal.get(index)
            outcomes.setdefault(id(search), {})[size] = (outcome, refusal, batch.columns["detail"][index] or "")
        for search in active:
            search.read(outcomes[id(search)])
        trips = [trip / 1e6 for trip in batch.rtt if trip is not None]
        timeout = min(operation["timeout"], max([QUICK, *(10 * trip for trip in trips)]))
        active = [search for search in active if search.wanted]


# --- what is on the wire ---------------------------------------------------------------------------------------------

ETH_P_ALL = 3
SOL_PACKET, PACKET_STATISTICS = 263, 6
SO_ATTACH_FILTER, SO_TIMESTAMPNS = 26, 35
PACKET_OUTGOING = 4


class Captures(Standing):
    """Takes packets on the interfaces towards some addresses, as far as a filter in the kernel lets them through."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.most: int = spec["most"]
        self.packets: list[list[Any]] = []
        self.lost = 0
        self.toward = {address: interface_toward(address) for address in spec["toward"]}
        self.sockets = [self.open(name, spec["filter"]) for name in sorted(set(self.toward.values()))]

    def open(self, interface: str, program: list[list[int]]) -> Socket:
        """A socket that takes nothing before its filter is in force, and then what passes that interface."""
        sock = Socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        attach_filter(sock, program)
        sock.bind((interface, ETH_P_ALL))
        self.watch(sock, lambda _mask: self.take(sock))
        return sock

    def take(self, sock: Socket) -> None:
        """Take what there is: [time, interface, whether it went out there, packet]."""
        from binascii import b2a_base64

        while True:
            try:
                data, ancillary, _flags, address = sock.recvmsg(BUFFER, 128)
            except OSError:
                return
            if len(self.packets) >= self.most:
                self.lost += 1
                continue
            stamps = [struct.unpack("ll", value) for _level, kind, value in ancillary if kind == SO_TIMESTAMPNS]
            seconds = stamps[0][0] + stamps[0][1] / 1e9 if stamps else time.time()
            outgoing = address[2] == PACKET_OUTGOING
            self.packets.append([seconds, address[0], outgoing, b2a_base64(data, newline=False).decode("ascii")])

    def state(self) -> dict[str, Any]:
        """The packets so far, the interface towards each address, and how many packets there was no room for."""
        for sock in self.sockets:
            self.take(sock)
            self.lost += struct.unpack("II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
        return {"toward": self.toward, "packets": self.packets, "lost": self.lost}


def attach_filter(sock: Socket, program: list[list[int]]) -> None:
    """Have the kernel give the socket only what a classic BPF program lets through. Raises OSError."""
    from array import array

    code = array("B", b"".join(struct.pack("=HBBI", *step) for step in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), code.buffer_info()[0]))


def interface_toward(address: str) -> str:
    """The interface that packets to that address leave by. Raises OSError when there is no way to it."""
    with Socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.settimeout(CONTROL_TIMEOUT)
        hops = parse_route(route_to(sock, address))["hops"]
    if not hops:
        raise OSError("no route to %s" % address)
    return socket.if_indextoname(hops[0][1])


def capture(operation: dict[str, Any], _end: float) -> dict[str, Any]:
    """Begin to take packets."""
    return start(Captures, operation)


def send(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """Send bytes as they are; for each why the kernel would not, or ""."""
    from binascii import a2b_base64

    protocol = operation["protocol"]
    style = socket.SOCK_DGRAM if protocol == socket.IPPROTO_UDP else socket.SOCK_RAW
    refusals = [""] * len(operation["packets"])
    with Socket(socket.AF_INET, style, protocol) as sock:
        sock.settimeout(max(0.001, end - time.monotonic()))
        if operation.get("source"):
            sock.bind((operation["source"], 0))
        for number in range(operation["copies"]):
            if number:
                time.sleep(operation["apart"])  # a queue that was full is empty again by then
            for place, (address, port, data) in enumerate(operation["packets"]):
                try:
                    sock.sendto(a2b_base64(data), (address, port))
                except OSError as error:
                    refusals[place] = error.strerror or str(error)
    return {"refusals": refusals}


# --- names ----------------------------------------------------------------------------------------------------------

RECORD_KINDS = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "SRV": 33}
KIND_NAMES = {number: name for name, number in RECORD_KINDS.items()}
OPT, PAYLOAD = 41, 1232
RESOLV_CONF = "/etc/resolv.conf"


class UdpQuestions(DnsBatch):
    """Questions of any kind over UDP."""

    def build(self, index: int, attempt: int) -> bytes:
        """The question."""
        return dns_question(index & 0xFFFF, self.targets[index][2], self.targets[index][3])

    def understand(self, data: bytes, ancillary: Any) -> tuple[int, int, str, dict[str, Any]] | None:
        """The whole answer, with the time since it was first asked for."""
        index = struct.unpack_from("!H", data)[0] if len(data) >= 12 else None
        if index not in self.sent:
            return None
        answer = read_answer(data, index)
        if answer is None:
            return None
        answer["seconds"] = time.monotonic() - self.sent[index][0]
        return index, len(self.sent[index]) - 1, OPEN, {"answer": answer}


class DnsConversation(DnsOverTcp):
    """A question of any kind and its answer over TCP."""

    def request(self, index: int, target: Any) -> bytes:
        """The question."""
        question = dns_question(index & 0xFFFF, target[2], target[3])
        return struct.pack("!H", len(question)) + question

    def understand(self, index: int, target: Any, heard: bytes) -> tuple[str, dict[str, Any]] | None:
        """The whole answer."""
        if len(heard) < 2 or len(heard) < 2 + struct.unpack_from("!H", heard)[0]:
            return None
        answer = read_answer(heard[2:], index & 0xFFFF)
        return (INCONCLUSIVE, {"detail": "not a DNS answer"}) if answer is None else (OPEN, {"answer": answer})


class TcpQuestions(TcpBatch):
    """Questions over TCP, timed from the first packet of the connection to the last byte of the answer."""

    def succeed(self, fd: int, outcome: str, columns: dict[str, Any]) -> None:
        """Add the time."""
        if "answer" in columns:
            columns["answer"]["seconds"] = time.monotonic() - self.live[fd][2]
        super().succeed(fd, outcome, columns)

    def expire(self, fd: int) -> None:
        """Whether or not the connection was opened: nobody answered."""
        self.end(fd, DROPPED, detail="no answer within %g s" % self.timeout)


def dns_question(number: int, name: str, kind: str) -> bytes:
    """A query (RFC 1035), recursion desired. SRV answers are long, so theirs may be (RFC 6891)."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.rstrip(".").split("."))
    large = kind == "SRV"
    header = struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, int(large))
    option = struct.pack("!BHHIH", 0, OPT, PAYLOAD, 0, 0) if large else b""
    return header + labels + b"\0" + struct.pack("!HH", RECORD_KINDS[kind], DNS_IN) + option


def read_answer(data: bytes, number: int) -> dict[str, Any] | None:
    """Code and records of an answer; None when it is not one to that query. What cannot be read ends the list."""
    if len(data) < 12:
        return None
    identifier, flags, questions, answers, authorities, additional = struct.unpack_from("!HHHHHH", data)
    if identifier != number or not flags & 0x8000:
        return None
    sections: list[list[Any]] = [[], [], []]
    read: dict[str, Any] = {
        "code": RCODES.get(flags & 15, "RCODE%d" % (flags & 15)),
        "truncated": bool(flags & 0x0200),
        "answers": sections[0],
        "additional": sections[2],
        "broken": False,
    }
    try:
        place = 12
        for _ in range(questions):
            place = read_name(data, place)[1] + 4
        for section, size in ((sections[0], answers), (sections[1], authorities), (sections[2], additional)):
            for _ in range(size):
                owner, place = read_name(data, place)
                kind, _class, ttl, length = struct.unpack_from("!HHIH", data, place)
                place += 10
                if kind in KIND_NAMES:
                    section.append([owner, KIND_NAMES[kind], ttl, record_value(data, place, kind)])
                place += length
    except (struct.error, IndexError, OSError):
        read["broken"] = True
    return read


def record_value(data: bytes, place: int, kind: int) -> str:
    """What a record says, as zone files write it; of SOA only whose it is."""
    if kind == RECORD_KINDS["A"]:
        return socket.inet_ntoa(data[place : place + 4])
    if kind == RECORD_KINDS["SRV"]:
        priority, weight, port = struct.unpack_from("!HHH", data, place)
        return "%d %d %d %s" % (priority, weight, port, read_name(data, place + 6)[0])
    return read_name(data, place)[0]


def read_name(data: bytes, place: int) -> tuple[str, int]:
    """A name without its final dot, and the place behind it; pointers are followed, though not for ever."""
    labels: list[str] = []
    behind = 0
    for _ in range(128):
        length = data[place]
        if length >= 0xC0:
            behind = behind or place + 2
            place = struct.unpack_from("!H", data, place)[0] & 0x3FFF
        elif length:
            labels.append(data[place + 1 : place + 1 + length].decode("ascii", "replace"))
            place += 1 + length
        else:
            return ".".join(labels), behind or place + 1
    raise IndexError("pointers go round in a circle")


def dns(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """All questions at once; the answers in their order."""
    questions = operation["questions"]
    batches: dict[str, Batch] = {}
    places: list[tuple[str, int]] = []
    for protocol in ("udp", "tcp"):
        spec = dict(operation, kind=protocol, targets=[each for each in questions if each[4] == protocol])
        batches[protocol] = UdpQuestions(spec) if protocol == "udp" else TcpQuestions(spec, DnsConversation())
    numbers = {"udp": 0, "tcp": 0}
    for question in questions:
        places.append((question[4], numbers[question[4]]))
        numbers[question[4]] += 1
    Loop().run([batch for batch in batches.values() if batch.targets], end)
    answers = []
    for protocol, number in places:
        batch = batches[protocol]
        answer = batch.columns["answer"][number] or {"seconds": batch.timeout}
        outcome, detail = batch.outcome[number] or INCONCLUSIVE, batch.columns["detail"][number] or ""
        answers.append(dict(answer, outcome=outcome, detail=detail, sends=batch.columns["sends"][number] or 1))
    return {"answers": answers}


def resolve(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """What the C library says to names. It cannot be broken off, so that what is late is left behind."""
    import threading  # few plans need it, and the agent starts in milliseconds

    names = operation["names"]
    found: dict[str, dict[str, Any]] = {}
    until = min(end, time.monotonic() + operation.get("timeout", 10.0))

    def look_up(name: str) -> None:
        started = time.monotonic()
        try:
            rows = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
            answer: dict[str, Any] = {"addresses": [row[4][0] for row in rows], "error": ""}
        except OSError as error:
            answer = {"addresses": [], "error": error.strerror or str(error)}
        found[name] = dict(answer, seconds=time.monotonic() - started)

    threads = [threading.Thread(target=look_up, args=(name,), daemon=True) for name in dict.fromkeys(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    late = {"addresses": [], "error": "no answer in time", "seconds": operation.get("timeout", 10.0)}
    try:
        with open(RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            configuration = file.read()
    except OSError:
        configuration = ""
    return {"names": [found.get(name, late) for name in names], "configuration": configuration}


# --- the run --------------------------------------------------------------------------------------------------------

# --- getting in -----------------------------------------------------------------------------------------------------

PG_VERSION, PG_TLS_REQUEST = 196608, 80877103  # protocol 3.0, and the request to speak TLS (PostgreSQL 55.7)
PG_OK, PG_PASSWORD, PG_MD5, PG_SASL, PG_SASL_CONTINUE, PG_SASL_FINAL = 0, 3, 5, 10, 11, 12
PG_LONGEST = 1 << 16  # nobody who greets a client says more in one message
PG_MESSAGES = 200  # nor more of them before it is ready
SCRAM = "SCRAM-SHA-256"


def enter(operation: dict[str, Any], end: float) -> dict[str, Any]:
    """Try every entrance: those of one address one after the other, so that no server has too many clients at once."""
    import threading  # these take a while to import, and few plans need them

    answers: list[dict[str, Any]] = [{} for _ in operation["targets"]]
    by_address: dict[str, list[int]] = {}
    for number, target in enumerate(operation["targets"]):
        by_address.setdefault(target["address"], []).append(number)

    def work(numbers: list[int]) -> None:
        for number in numbers:
            answers[number] = try_entrance(operation["targets"][number], operation["timeout"], end)

    threads = [threading.Thread(target=work, args=(numbers,)) for numbers in by_address.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"targets": answers}


def try_entrance(target: dict[str, Any], timeout: float, end: float) -> dict[str, Any]:
    """Connect, ask for TLS, agree on it, and log in or say something; as far as the other side goes along.

    Gives back the TCP `outcome`, and when it is open: `declined`, what was said to the request for TLS where that was
    not yes; `secured` and `protocol` after a handshake; `chain`, the other side's certificates (base64 DER), also of a
    handshake that failed after them; `distrust`, why they were not believed; `alert` when we were refused in words of
    TLS; what `log_in` tells; `heard` (base64); `closed` when the other side hung up, and `detail` of any other failure.
    """
    import base64
    import ssl

    chain: list[bytes] = []
    timeout = max(0.001, min(timeout, end - time.monotonic()))
    try:
        sock = connect(target["address"], target["port"], timeout)
    except socket.timeout:
        return {"outcome": DROPPED, "detail": "no answer within %g s" % timeout}
    except OSError as error:
        outcome, detail = outcome_of_errno(error.errno or 0)
        return {"outcome": outcome, "detail": detail}
    answer: dict[str, Any] = {"outcome": OPEN}
    try:
        if target.get("upgrade"):
            sock.sendall(struct.pack("!ii", 8, PG_TLS_REQUEST))
            said = sock.recv(1)
            if said != b"S":
                answer["declined"] = said.decode("ascii", "replace")
                return answer
        if not target.get("plain"):
            sock = secure(sock, target, chain)
            answer["secured"], answer["protocol"] = True, sock.version()
        if target.get("startup"):
            log_in(sock, target["startup"], target.get("password") or "", answer)
        elif target.get("request"):
            sock.sendall(base64.b64decode(target["request"]))
            heard = listen_for(sock, timeout)
            answer["closed"] = heard == b""
            answer["heard"] = base64.b64encode(heard or b"").decode("ascii")
    except ssl.SSLCertVerificationError as error:
        answer["distrust"] = error.verify_message
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        answer["closed"], answer["detail"] = True, "hung up without a word of TLS"
    except ssl.SSLError as error:
        said_of_it = "%s: %s" % (error.reason, error) if error.reason else str(error)
        answer["alert" if "ALERT" in said_of_it else "detail"] = said_of_it
    except EOFError:
        answer["closed"] = True
    except OSError as error:
        answer["closed"] = error.errno in (errno.ECONNRESET, errno.EPIPE)
        answer["detail"] = str(error)
    finally:
        sock.close()
        answer["chain"] = [base64.b64encode(certificate).decode("ascii") for certificate in chain]
    return answer


def log_in(sock: Any, startup: dict[str, str], password: str, answer: dict[str, Any]) -> None:
    """Log in in PostgreSQL's protocol, answering with the password whatever is asked; what comes of it is noted.

    `asked` names each way of authentication that was asked for; `authenticated` when that was passed; `ready` when the
    server takes statements; `code` (SQLSTATE) and `message` when it refused. Raises EOFError when it hangs up.
    """
    words = b"".join(word.encode("utf-8") + b"\0" for pair in startup.items() for word in pair)
    body = struct.pack("!i", PG_VERSION) + words + b"\0"
    sock.sendall(struct.pack("!i", len(body) + 4) + body)
    answer["asked"] = asked = []
    scram: list[str] = []  # our nonce and, once that is known, nothing else
    for _ in range(PG_MESSAGES):
        kind, body = read_message(sock)
        if kind == b"E":
            fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
            answer["code"], answer["message"] = fields.get(b"C", ""), fields.get(b"M", "")
            return
        if kind == b"Z":
            answer["ready"] = True
            return
        if kind != b"R":
            continue  # settings, notices, and what is needed to cancel a statement
        request = struct.unpack("!i", body[:4])[0]
        if request == PG_OK:
            answer["authenticated"] = True
        elif request == PG_PASSWORD:
            asked.append("password")
            say(sock, password.encode("utf-8") + b"\0")
        elif request == PG_MD5:
            asked.append("md5")
            say(sock, md5_answer(startup["user"], password, body[4:8]))
        elif request == PG_SASL and SCRAM.encode() in body[4:].split(b"\0"):
            asked.append(SCRAM)
            scram.append(new_nonce())
            first = ("n,,n=,r=%s" % scram[0]).encode("ascii")
            say(sock, SCRAM.encode() + b"\0" + struct.pack("!i", len(first)) + first)
        elif request == PG_SASL_CONTINUE and scram:
            say(sock, scram_answer(scram[0], body[4:].decode("ascii"), password))
        elif request != PG_SASL_FINAL:
            asked.append("authentication %d" % request)
            return


def read_message(sock: Any) -> tuple[bytes, bytes]:
    """One message of PostgreSQL's protocol: its kind and its body. Raises EOFError when there is none."""
    head = read_whole(sock, 5)
    size = struct.unpack("!i", head[1:])[0] - 4
    if not 0 <= size <= PG_LONGEST:
        raise OSError("what it says is not PostgreSQL's protocol: %r" % head)
    return head[:1], read_whole(sock, size)


def read_whole(sock: Any, size: int) -> bytes:
    """So many bytes. Raises EOFError when the other side hangs up before."""
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def say(sock: Any, body: bytes) -> None:
    """Answer a request for authentication."""
    sock.sendall(b"p" + struct.pack("!i", len(body) + 4) + body)


def md5_answer(user: str, password: str, salt: bytes) -> bytes:
    """The answer to PG_MD5."""
    import hashlib

    inner = hashlib.md5((password + user).encode("utf-8")).hexdigest()
    return b"md5" + hashlib.md5(inner.encode("ascii") + salt).hexdigest().encode("ascii") + b"\0"


def new_nonce() -> str:
    """Some characters that nobody can guess."""
    import base64

    return base64.b64encode(os.urandom(18)).decode("ascii")


def scram_answer(nonce: str, challenge: str, password: str) -> bytes:
    """The client's last message (RFC 5802 and 7677), without channel binding."""
    import base64
    import hashlib
    import hmac

    told = dict(part.split("=", 1) for part in challenge.split(","))
    if not told["r"].startswith(nonce):
        raise OSError("its SCRAM answer is for somebody else")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("utf-8"), base64.b64decode(told["s"]), int(told["i"]))
    key = hmac.new(salted, b"Client Key", "sha256").digest()
    bare = "c=biws,r=%s" % told["r"]
    signed = ("n=,r=%s,%s,%s" % (nonce, challenge, bare)).encode("ascii")
    signature = hmac.new(hashlib.sha256(key).digest(), signed, "sha256").digest()
    proof = bytes(one ^ other for one, other in zip(key, signature))  # noqa: B905 (3.8 has no strict)
    return ("%s,p=%s" % (bare, base64.b64encode(proof).decode("ascii"))).encode("ascii")


# --- reachability over time -------------------------------------------------------------------------------------------

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


# --- doors: listeners that tell who knocked at which ------------------------------------------------------------------

SCTP = 132  # IPPROTO_SCTP; the socket module of most Pythons does not name it


class SctpBatch(TcpBatch):
    """Associations of SCTP that behave like connections."""

    protocol = SCTP

    def succeed(self, fd: int, outcome: str, columns: dict[str, Any]) -> None:
        """Note the outcome; only of TCP the kernel tells how long connecting took."""
        self.end(fd, outcome, rtt=time.monotonic() - self.live[fd][2], sends=1, **columns)


FRAGMENTED = 4000  # bytes: more than any pod's packet holds
IP_PMTUDISC_DONT = 0


class UdpFragments(UdpBatch):
    """Datagrams that the kernel sends in fragments: only the first of them says for which port it is."""

    def open(self, loop: Loop) -> None:
        """Ask for fragments."""
        super().open(loop)
        self.sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)

    def build(self, index: int, attempt: int) -> bytes:
        """The token and a filling."""
        return self.body(index, attempt).ljust(FRAGMENTED, b".")


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


# --- all ports of one address -----------------------------------------------------------------------------------------

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


OPERATIONS = {
    "listen": listen,
    "counters": counters,
    "stop": stop,
    "marked": marked,
    "probe": probe,
    "transfer": transfer,
    "tls": tls,
    "enter": enter,
    "kernel": kernel,
    "capture": capture,
    "send": send,
    "mtu": mtu,
    "read": read,
    "clock": clock,
    "dns": dns,
    "resolve": resolve,
    "watch": watch,
    "doors": doors,
    "account": account,
    "hold": hold,
    "sweep": sweep,
}


def control_probe(control: Any) -> str:
    """Knock at the own listener: "" when it answers, else why the agent must not be believed."""
    if control is None:
        return ""
    batch = make_batch({"kind": "tcp", "targets": [control], "timeout": CONTROL_TIMEOUT})
    Loop().run([batch], time.monotonic() + CONTROL_TIMEOUT + 0.5)
    outcome = batch.outcome[0]
    return "" if outcome == OPEN else "own listener: %s, %s" % (outcome, batch.columns["detail"][0])


def kernel_drops() -> dict[str, int]:
    """What this network namespace has dropped for want of room so far."""
    wanted = {"Udp": ("RcvbufErrors", "SndbufErrors"), "TcpExt": ("ListenOverflows", "ListenDrops")}
    drops: dict[str, int] = {}
    for path in ("/proc/self/net/snmp", "/proc/self/net/netstat"):
        try:
            with open(path, encoding="ascii") as table:
                lines = [line.split() for line in table]
        except OSError:
            continue
        for names, values in zip(lines[::2], lines[1::2]):  # noqa: B905 (3.8 has no strict)
            for name in wanted.get(names[0].rstrip(":"), ()):
                if name in names:
                    drops[name] = int(values[names.index(name)])
    return drops


def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Do a plan."""
    wall, started = time.time(), time.monotonic()
    end = started + plan["deadline"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before = control_probe(plan.get("control"))
    drops = kernel_drops()
    results = []
    for operation in plan["operations"]:
        try:
            results.append(OPERATIONS[operation["op"]](operation, end))
        except OSError as error:
            results.append({"error": "%s: %s" % (operation["op"], error)})
    after = control_probe(plan.get("control"))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "python": sys.version.split()[0],
        "clock": {"wall": wall, "monotonic": started, "seconds": time.monotonic() - started},
        "health": {
            "control_before": before,
            "control_after": after,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "open_files": hard if hard != resource.RLIM_INFINITY else soft,
            "drops": {name: value - drops.get(name, 0) for name, value in kernel_drops().items()},
        },
        "operations": results,
    }


def main(source: BinaryIO, sink: BinaryIO) -> None:
    """Read a plan, do it, write the result."""
    plan = from_json(source.read(int(source.readline())))
    # Whatever happens to the one who asked, the agent does not stay.
    signal.setitimer(signal.ITIMER_REAL, plan["deadline"] + 2 * CONTROL_TIMEOUT + HARD_STOP)
    result = to_json(run(plan))
    sink.write(MARK + b"%d " % len(result) + result + b"\n")
    sink.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
