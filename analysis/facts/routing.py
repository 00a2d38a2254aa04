"""Sessions and RIB."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from analysis.facts.gap import Gap


@dataclass(frozen=True)
class Session:
    """One end of a BGP session, as the node's routing daemon shows it.

    Attributes:
        state: the daemon's word ("Established", "Active", "Idle", ...; "Down" when administratively down).
        error: the last error text, "" when none. An established session may carry an old one.
        reflector_client: True when this end treats the peer as its route reflector client.
        imported: routes accepted from the peer; None when the daemon does not say.
    """

    region: str
    node: str
    name: str
    peer_address: IPv4Address | None
    peer_as: int | None
    state: str
    local_as: int | None = None
    error: str = ""
    reflector_client: bool = False
    imported: int | None = None
    exported: int | None = None
    hold_time: float | None = None

    @property
    def established(self) -> bool:
        """True when the session is up and routes flow."""
        return self.state == "Established"


@dataclass(frozen=True)
class RibRoute:
    """A route as the routing daemon holds it.

    Attributes:
        protocol: name of the daemon's protocol that learned it ("Node_10_1_1_10", "static1", "kernel1").
        kind: "unicast", "blackhole", "unreachable", "prohibit" or "multipath".
        best: it is the one in use for its prefix.
        from_bgp: it was learned by BGP; `as_path` and `next_hop` are then the BGP attributes.
        as_path: nearest AS first; empty for routes of the own AS.
    """

    region: str
    node: str
    prefix: IPv4Network
    protocol: str
    kind: str
    best: bool
    from_bgp: bool = False
    next_hop: IPv4Address | None = None
    as_path: tuple[int, ...] = ()
    learned_from: IPv4Address | None = None
    device: str | None = None
    gateway: IPv4Address | None = None


@dataclass(frozen=True)
class Routing:
    """Sessions and RIB of every node."""

    sessions: tuple[Session, ...]
    routes: tuple[RibRoute, ...]
    gaps: tuple[Gap, ...] = ()
