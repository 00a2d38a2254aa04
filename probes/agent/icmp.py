"""Probes by ICMP echo."""

from __future__ import annotations

import _socket as socket
import struct
from typing import Any

from probes.agent.datagrams import TOKEN, DatagramBatch
from probes.agent.linux import IP_RECVTTL, IP_TTL
from probes.agent.outcomes import ICMP_ECHO, ICMP_ECHO_REPLY, OPEN
from probes.agent.sockets import Socket


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


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
