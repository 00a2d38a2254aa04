"""Names: any question to any server, and what the own resolver makes of them."""

from __future__ import annotations

import _socket as socket
import struct
import time
from typing import Any

from probes.agent.batch import Batch, Loop
from probes.agent.dns_probes import DNS_IN, RCODES, DnsBatch, DnsOverTcp
from probes.agent.outcomes import DROPPED, INCONCLUSIVE, OPEN
from probes.agent.tcp import TcpBatch

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
