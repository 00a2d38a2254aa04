"""The kernel's tables: routes, links, addresses and neighbours, by netlink."""

from __future__ import annotations

import _socket as socket
import os
import struct
import time
from typing import Any

from probes.agent.sockets import BUFFER, Socket

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


RTM_F_FIB_MATCH = 0x2000


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
