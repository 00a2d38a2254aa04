"""How large a packet may be: the search for the largest one that a path lets through whole."""

from __future__ import annotations

import _socket as socket
import errno
import time
from typing import Any

from probes.agent.batch import Batch, Loop
from probes.agent.datagrams import DatagramBatch
from probes.agent.dialogues import Greeting
from probes.agent.icmp import IcmpBatch
from probes.agent.linux import IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_PMTUDISC_PROBE
from probes.agent.netlink import RTM_GETLINK, dump, parse_link, parse_route, route_to
from probes.agent.outcomes import DROPPED, INCONCLUSIVE, OPEN, REFUSED, Notice
from probes.agent.sockets import Socket
from probes.agent.tcp import TcpBatch
from probes.agent.udp import UdpBatch

IP_HEADER, TRANSPORT_HEADER = 20, 8  # UDP and ICMP echo alike
LARGEST_PACKET = 65535  # the loopback device takes one byte more
AT_ONCE = 16  # sizes of a target that are tried at the same time
QUICK = 0.3  # seconds; least time that a datagram is given once the round trip is known
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
