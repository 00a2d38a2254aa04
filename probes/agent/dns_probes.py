"""Probes that are a DNS query for the addresses of a name."""

from __future__ import annotations

import _socket as socket
import struct
from typing import Any

from probes.agent.datagrams import DatagramBatch
from probes.agent.dialogues import Dialogue
from probes.agent.outcomes import INCONCLUSIVE, OPEN


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
