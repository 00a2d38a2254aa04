"""How large a packet may be, from one place to another, and who says no to a larger one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from analysis.facts.gap import Gap
from analysis.facts.reachability import Endpoint


class Refusal(str, Enum):
    """How a packet that is too large comes to its end."""

    LOCAL = "local"
    """The sender's own kernel refuses it (EMSGSIZE)."""

    FRAGMENTATION_NEEDED = "fragmentation-needed"
    """A hop says so (ICMP type 3 code 4, RFC 1191)."""

    SILENCE = "silence"
    """Nobody says anything: a black hole."""


@dataclass(frozen=True)
class PathMtu:
    """The largest packet that went from one place to another unfragmented (DF set), found by search.

    Attributes:
        interface_mtu: MTU of the sender's device towards the target; None when not told.
        route_mtu: the MTU that the sender's route prescribes, None when it prescribes none.
        largest: size of the largest IP packet that was answered (bytes, header included); None when none was.
        refused: the smallest size that was not.
        refusal: how that one ended.
        refused_by: who said so, for FRAGMENTATION_NEEDED.
        reported: the MTU that was said, for LOCAL and FRAGMENTATION_NEEDED.
        segment: the largest TCP segment that a connection between them agreed on (TCP_MAXSEG), None when not measured.
        detail: why something is missing.
    """

    source: Endpoint
    target: Endpoint
    interface_mtu: int | None
    route_mtu: int | None
    largest: int | None
    refused: int | None
    refusal: Refusal | None
    refused_by: IPv4Address | None = None
    reported: int | None = None
    segment: int | None = None
    detail: str = ""

    @property
    def usable(self) -> int | None:
        """The MTU that the sender's own kernel goes by: the route's, or else the device's."""
        return self.route_mtu or self.interface_mtu


@dataclass(frozen=True)
class BulkTransfer:
    """A TCP transfer of many bytes from one pod to another.

    Attributes:
        wanted: bytes that were to be sent.
        sent: bytes that the receiver has confirmed.
        seconds: how long it took.
        longest_stall: the longest time in which nothing was confirmed (s).
        retransmits: segments that had to be sent again, None when not told.
    """

    source: Endpoint
    target: Endpoint
    wanted: int
    sent: int
    seconds: float
    longest_stall: float
    retransmits: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class Mtu:
    """Path MTUs, pod to pod and node to node (told apart by `Endpoint.on_host`), and bulk transfers between regions."""

    paths: tuple[PathMtu, ...] = ()
    transfers: tuple[BulkTransfer, ...] = ()
    gaps: tuple[Gap, ...] = ()
