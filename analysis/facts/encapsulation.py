"""What packets between clusters look like on the wire, and which encapsulated packets nodes let in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from analysis.facts.gap import Gap
from analysis.facts.reachability import Endpoint


@dataclass(frozen=True)
class TunnelEnd:
    """A device of a node that takes encapsulated packets in.

    Attributes:
        kind: the kernel's word for it ("vxlan", "ipip", "geneve").
        port: the UDP port that it listens at, None without one.
        vni: the only network identifier that it takes; None when it takes any, or has none.
        mac: what frames inside are addressed to, "" when it takes none.
    """

    region: str
    node: str
    name: str
    kind: str
    port: int | None = None
    vni: int | None = None
    mac: str = ""


@dataclass(frozen=True)
class CapturedPacket:
    """A packet on the underlay that has to do with a marked probe.

    Attributes:
        outer_source: source address of the outermost IP header; the rest alike.
        protocol: IP protocol number of the outermost header.
        port: UDP destination port, None for other protocols.
        vni: VXLAN or Geneve network identifier, None without one.
        dont_fragment: DF bit of the outermost header.
        inner_source: source address of the packet inside, None when there is none.
        length: total length of the outermost packet (bytes).
        marked: it belongs to the capture's own probe.
    """

    outer_source: IPv4Address
    outer_destination: IPv4Address
    protocol: int
    port: int | None
    vni: int | None
    dont_fragment: bool
    inner_source: IPv4Address | None
    inner_destination: IPv4Address | None
    length: int
    marked: bool = True


@dataclass(frozen=True)
class Capture:
    """What was captured at one place while a marked probe went from a pod of one region to a pod of another.

    Attributes:
        region: where the capture ran; the node's or the router's region.
        place: the node, or the hop on the way ("vpc router").
        interface: the underlay interface.
        source: the pod that sent the probe.
        target: the pod that it was for, and whose answer is captured too.
        answered: the probe was answered, so its packets must have gone by.
        control_seen: packets that bear the probe's mark were captured: the capture itself works.
        packets: those packets; in one capture of each place also all others that bear a pod address outside.
        pcap: the packets as a pcap file, base64, for evidence.
    """

    region: str
    place: str
    interface: str
    source: Endpoint
    target: Endpoint
    answered: bool
    control_seen: bool
    packets: tuple[CapturedPacket, ...] = ()
    pcap: str = ""


class Sender(str, Enum):
    """Who sent a packet that was encapsulated by hand."""

    MESH_NODE = "mesh-node"
    """A node of the mesh, whose packets must pass: the positive control, and the proof that the protocol passes."""

    STRANGER = "stranger"
    """A host that is in none of the clusters."""


@dataclass(frozen=True)
class HandMadePacket:
    """A probe that was wrapped in the tunnel's header by hand and sent to a node, for a pod of that node.

    Attributes:
        sender: who sent it.
        from_region: the sending node's region, "" for a stranger.
        from_place: the sending node, or what the stranger is called.
        from_address: the outer source address.
        region: the receiving node's region.
        node: the receiving node.
        address: the outer destination address.
        arrived: the pod's listener saw it; None when that could not be told. A node sends the same packet before and
            after the strangers send theirs: of those, both must have come for True, neither for False.
        reached: it was captured on the receiving node's underlay interface, whatever became of it then; None when
            nobody captured there.
    """

    sender: Sender
    from_region: str
    from_place: str
    from_address: str
    region: str
    node: str
    address: IPv4Address
    arrived: bool | None
    reached: bool | None = None
    detail: str = ""


@dataclass(frozen=True)
class OnTheWire:
    """Captures, and hand-made packets.

    Attributes:
        strangers: names of the hosts outside the mesh that could be used.
        unsent: why no packets are made by hand in this environment, "" where they are.
    """

    tunnels: tuple[TunnelEnd, ...] = ()
    captures: tuple[Capture, ...] = ()
    hand_made: tuple[HandMadePacket, ...] = ()
    strangers: tuple[str, ...] = ()
    unsent: str = ""
    gaps: tuple[Gap, ...] = ()
