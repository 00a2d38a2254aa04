"""What is on the wire: packets taken on interfaces, and sent as they are."""

from __future__ import annotations

import _socket as socket
import struct
import time
from typing import Any

from probes.agent.netlink import parse_route, route_to
from probes.agent.sockets import BUFFER, CONTROL_TIMEOUT, Socket
from probes.agent.standing import Standing, start

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
