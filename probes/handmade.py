"""Packets that are put into a tunnel's header by hand, so that it can be seen who takes them in.

Byte orders and fields are those of RFC 768 and 791 (UDP, IP), RFC 7348 (VXLAN) and RFC 8926 (Geneve).
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from analysis.plan import Encapsulation

IP_IN_IP, UDP = 4, 17
ETHERTYPE_IPV4 = 0x0800
GENEVE_CARRIES_ETHERNET = 0x6558
TTL = 64
CILIUM_REMOTE_NODE = 6
"""Where any identifier is taken, it is Cilium's word for who sends: this one is for a node of the mesh."""

SENDER_MAC = bytes.fromhex("020000000001")
"""A locally administered address. Nobody asks who sent a frame in a tunnel, but a device drops what bears its own."""


def datagram(source: IPv4Address, destination: IPv4Address, port: int, payload: bytes) -> bytes:
    """An IP packet with a UDP datagram, from the port for what is to be thrown away (9), where nobody answers to."""
    # A checksum of zero says that there is none.
    udp = struct.pack("!HHHH", 9, port, 8 + len(payload), 0) + payload
    fields = (0x45, 0, 20 + len(udp), 0, 0, TTL, UDP)
    addresses = source.packed + destination.packed
    header = struct.pack("!BBHHHBBH", *fields, 0) + addresses
    return struct.pack("!BBHHHBBH", *fields, internet_checksum(header)) + addresses + udp


def wrapped(encapsulation: Encapsulation, packet: bytes, *, vni: int | None, mac: str) -> bytes:
    """What a tunnel's far end gets behind the outer UDP header, or for IP-in-IP behind the outer IP header.

    Args:
        encapsulation: the tunnel's.
        packet: what is inside.
        vni: the network identifier; for a device that takes any, None.
        mac: the far end's own address: a node forwards no frame that is for another.

    Raises:
        ValueError: pods are not encapsulated at all.
    """
    if encapsulation is Encapsulation.IPIP:
        return packet
    frame = bytes.fromhex(mac.replace(":", "")) + SENDER_MAC + struct.pack("!H", ETHERTYPE_IPV4) + packet
    identifier = (CILIUM_REMOTE_NODE if vni is None else vni) << 8
    if encapsulation is Encapsulation.VXLAN:
        return struct.pack("!II", 0x08 << 24, identifier) + frame
    if encapsulation is Encapsulation.GENEVE:
        return struct.pack("!HHI", 0, GENEVE_CARRIES_ETHERNET, identifier) + frame
    raise ValueError("nothing is encapsulated here")


def internet_checksum(data: bytes) -> int:
    """The checksum of RFC 1071 over an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
