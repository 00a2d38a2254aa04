"""What is captured on the underlay: the filter that the kernel applies, and what a packet turns out to be.

The filter lets through two kinds of packets, so that a busy node's traffic stays where it is: those that bear a pod
address outside, and encapsulated datagrams of our own, known by their port inside. It knows neither the tunnel's port
nor its identifier, which may be the very thing that is wrong.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, TypeAlias

from analysis.facts import CapturedPacket
from probes.handmade import IP_IN_IP, UDP

Program: TypeAlias = list[list[int]]
"""Instructions of classic BPF: operation, how far to jump if true, if false, operand."""

SNAP_BYTES = 256
"""A marked probe with two headers around it is shorter; of anything else no more is needed than its headers."""

GENEVE_PORT = 6081
LINKTYPE_IPV4 = 228
_PCAP_MAGIC, _PCAP_VERSION = 0xA1B2C3D4, (2, 4)

# linux/bpf_common.h: class, size and mode of an instruction, or class, operation and source.
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30  # from a fixed place
_LOAD_HALF_AT_X, _LOAD_BYTE_AT_X = 0x48, 0x50  # from so far behind X
_X_IS_HEADER_LENGTH = 0xB1  # four times the lower half of a byte
_AND, _SHIFT_LEFT, _ADD, _ADD_X, _TO_X, _FROM_X = 0x54, 0x64, 0x04, 0x0C, 0x07, 0x87
_IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x15, 0x45, 0x06

_NEXT, _REJECT, _ACCEPT = "next", "reject", "accept"


@dataclass
class _Assembler:
    """A program with names for the places that are jumped to: the end, or a label further on."""

    steps: list[tuple[int, int, str, str]] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    def do(self, operation: int, operand: int = 0, *, true: str = _NEXT, false: str = _NEXT) -> None:
        self.steps.append((operation, operand, true, false))

    def label(self, name: str) -> None:
        self.labels[name] = len(self.steps)

    def program(self, accepted: int) -> Program:
        """The instructions; what is accepted is kept up to so many bytes."""
        self.label(_REJECT)
        self.do(_RETURN, 0)
        self.label(_ACCEPT)
        self.do(_RETURN, accepted)
        places = dict(self.labels)

        def distance(place: int, name: str) -> int:
            return 0 if name == _NEXT else places[name] - place - 1

        return [
            [operation, distance(place, true), distance(place, false), operand]
            for place, (operation, operand, true, false) in enumerate(self.steps)
        ]


def capture_filter(pods: Iterable[IPv4Network], ports: Iterable[int]) -> Program:
    """Lets through what bears an address of these ranges outside, and encapsulated datagrams from or to these ports.

    Packets begin with the IP header. A load behind a packet's end rejects it.

    Raises:
        ValueError: there are so many ranges that the program cannot jump over them.
    """
    code = _Assembler()
    code.do(_LOAD_BYTE, 0)
    code.do(_AND, 0xF0)
    code.do(_IF_EQUAL, 0x40, false=_REJECT)  # version 4
    for network in pods:
        for place in (12, 16):  # outer source, outer destination
            code.do(_LOAD_WORD, place)
            code.do(_AND, int(network.netmask))
            code.do(_IF_EQUAL, int(network.network_address), true=_ACCEPT)
    code.do(_X_IS_HEADER_LENGTH, 0)
    code.do(_LOAD_BYTE, 9)
    code.do(_IF_EQUAL, IP_IN_IP, true="inside")
    code.do(_IF_EQUAL, UDP, false=_REJECT)
    code.do(_LOAD_HALF, 6)
    code.do(_IF_ANY_BIT, 0x1FFF, true=_REJECT)  # a later fragment has no UDP header
    code.do(_LOAD_HALF_AT_X, 2)
    code.do(_IF_EQUAL, GENEVE_PORT, false="frame")
    code.do(_LOAD_BYTE_AT_X, 8)  # Geneve's options come between its header and the frame
    code.do(_AND, 0x3F)
    code.do(_SHIFT_LEFT, 2)
    code.do(_ADD_X)
    code.do(_TO_X)
    code.label("frame")
    code.do(_FROM_X)
    code.do(_ADD, 8 + 8 + 14)  # UDP; VXLAN or Geneve; Ethernet
    code.do(_TO_X)
    code.label("inside")
    code.do(_LOAD_BYTE_AT_X, 0)
    code.do(_IF_EQUAL, 0x45, false=_REJECT)  # our own datagrams have no IP options
    code.do(_LOAD_BYTE_AT_X, 9)
    code.do(_IF_EQUAL, UDP, false=_REJECT)
    for port in sorted(set(ports)):
        for place in (20, 22):  # inner source port, inner destination port
            code.do(_LOAD_HALF_AT_X, place)
            code.do(_IF_EQUAL, port, true=_ACCEPT)
    program = code.program(SNAP_BYTES)
    if any(jump > 255 for _, *jumps, _ in program for jump in jumps):
        raise ValueError("too many ranges of pod addresses for a filter in the kernel")
    return program


def dissect(data: bytes) -> CapturedPacket:
    """What a packet is, from its outermost IP header inwards.

    Raises:
        ValueError: it does not begin with an IPv4 header.
    """
    # Half a second to import, so only whoever captures does; scapy.all would take three times as long.
    from scapy.layers.inet import IP
    from scapy.layers.inet import UDP as UdpLayer  # noqa: N811 - a layer, not a number

    if len(data) < 20 or data[0] >> 4 != 4:
        raise ValueError("no IPv4 packet")
    outer = IP(data)
    vni = port = inside = None
    if outer.proto == IP_IN_IP:
        inside = outer.payload.getlayer(IP)
    elif UdpLayer in outer:
        port = outer[UdpLayer].dport
        tunnel = _tunnel(port, bytes(outer[UdpLayer].payload))
        if tunnel is not None:
            vni, inside = tunnel.vni, tunnel.getlayer(IP)
    return CapturedPacket(
        outer_source=IPv4Address(outer.src),
        outer_destination=IPv4Address(outer.dst),
        protocol=outer.proto,
        port=port,
        vni=None if inside is None else vni,
        dont_fragment="DF" in str(outer.flags),
        inner_source=IPv4Address(inside.src) if inside is not None else None,
        inner_destination=IPv4Address(inside.dst) if inside is not None else None,
        length=outer.len,
    )


def _tunnel(port: int, payload: bytes) -> Any:
    """The tunnel header, whatever the port is; None when nothing in it is an IP packet."""
    from scapy.layers.inet import IP
    from scapy.layers.vxlan import VXLAN

    if port == GENEVE_PORT:
        from scapy.contrib.geneve import GENEVE

        header: Any = GENEVE(payload)
    else:
        header = VXLAN(payload)
    return header if IP in header else None


def pcap(packets: Sequence[tuple[float, bytes]]) -> str:
    """Packets with the times at which they were captured (seconds since 1970) as a pcap file, base64."""
    file = struct.pack("<IHHiIII", _PCAP_MAGIC, *_PCAP_VERSION, 0, 0, SNAP_BYTES, LINKTYPE_IPV4)
    for seconds, data in packets:
        whole, rest = divmod(round(seconds * 1e6), 1_000_000)
        length = max(len(data), int.from_bytes(data[2:4], "big"))
        file += struct.pack("<IIII", whole, rest, len(data), length) + data
    return b64encode(file).decode("ascii")
