"""What nodes see of each other without any overlay, and what the outside sees of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from analysis.facts.gap import Gap
from analysis.facts.reachability import Endpoint, ProbeOutcome, ProbeProtocol
from analysis.fleet import Stand


@dataclass(frozen=True)
class Trace:
    """The path of packets from one node to another, hop by hop (ICMP echo with a growing time to live).

    Attributes:
        hops: who answered at each time to live, None for silence; the target itself is the last one when reached.
        reached: the target answered.
    """

    source: Endpoint
    target: Endpoint
    hops: tuple[IPv4Address | None, ...]
    reached: bool
    detail: str = ""


class Door(str, Enum):
    """A port by what it is for: it tells which requirement speaks about it."""

    SSH = "ssh"
    API_SERVER = "api-server"
    KUBELET = "kubelet"
    ETCD = "etcd"
    BGP = "bgp"
    TYPHA = "typha"
    HEALTH = "health"
    MESH_STORE = "mesh-store"
    DATABASE = "database"
    DNS = "dns"
    TUNNEL = "tunnel"


@dataclass(frozen=True)
class Knock:
    """A connection tried from a node to a port of another node, at its private address.

    REFUSED proves that the network lets it through and nobody listens; DROPPED that something on the way keeps it out.
    """

    source: Endpoint
    target: Endpoint
    door: Door
    port: int
    outcome: ProbeOutcome
    detail: str = ""


@dataclass(frozen=True)
class OutsideKnock:
    """A port of a node, or an API server, tried from outside the regions.

    Attributes:
        stand: who tried: the operator, or anybody.
        node: of that region; "" for an API server that is reached by a name or a load balancer.
        address: the public address (or host name) that was knocked at, as text.
    """

    stand: Stand
    region: str
    node: str
    address: str
    door: Door
    protocol: ProbeProtocol
    port: int
    outcome: ProbeOutcome
    detail: str = ""


@dataclass(frozen=True)
class KernelSetting:
    """A kernel setting or module of a node, as it is and as it will be after a reboot.

    Attributes:
        name: "net.ipv4.ip_forward", "module br_netfilter".
        value: as it is now, "" when it is not there.
        persistent: the value that files in /etc (sysctl.d, modules-load.d) give it at a reboot, None when none does.
        persistent_told: whether those files could be read.
    """

    region: str
    node: str
    name: str
    value: str
    persistent: str | None = None
    persistent_told: bool = True


@dataclass(frozen=True)
class ClockOffset:
    """How far a node's clock is ahead of the runner's (s; negative: behind), give or take `uncertainty` (s)."""

    region: str
    node: str
    offset: float
    uncertainty: float


@dataclass(frozen=True)
class Underlay:
    """What nodes see of each other on the underlay, and what the outside sees of them.

    `stands` says from where the outside could be looked at; a knock that is not there proves nothing without it.
    """

    traces: tuple[Trace, ...] = ()
    knocks: tuple[Knock, ...] = ()
    outside: tuple[OutsideKnock, ...] = ()
    stands: tuple[Stand, ...] = ()
    settings: tuple[KernelSetting, ...] = ()
    clocks: tuple[ClockOffset, ...] = ()
    gaps: tuple[Gap, ...] = ()
