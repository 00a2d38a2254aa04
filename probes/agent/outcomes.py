"""What an error means: ICMP messages and error numbers, as outcomes."""

from __future__ import annotations

import _socket as socket
import errno
import os
import struct
from typing import Any

from probes.agent.linux import IP_RECVERR, MSG_ERRQUEUE
from probes.agent.sockets import Socket

OPEN, REFUSED, DROPPED, PROHIBITED, INCONCLUSIVE = "open", "refused", "dropped", "prohibited", "inconclusive"
ORIGIN_LOCAL, ORIGIN_ICMP = 1, 2

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
