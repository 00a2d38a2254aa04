"""What BIRD's client prints, as data: `show protocols all` and `show route all` of BIRD 1.6, 2 and 3.

Calico ships a fork of BIRD 1.6, others run 2 or 3. The three differ in widths, in the order of the detail lines, in
the names of route attributes and in where the next hop stands; all are read by the same code, because it splits on
white space and takes details by name. Detail lines that nobody asks for are passed over. A line that has no known
form, or a detail without which nothing can be judged, raises `BirdParseError`: a guess is worse than no answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

from analysis.facts import RibRoute, Session


class BirdParseError(ValueError):
    """Output that is not what BIRD prints. `line` is the raw line at fault, or "" when a line is missing."""

    def __init__(self, message: str, line: str = "") -> None:
        super().__init__(f"{message}: {line!r}" if line else message)
        self.line = line


@dataclass(frozen=True)
class BgpStatus:
    """The BGP part of a protocol's details.

    Attributes:
        state: BIRD's word for the session ("Established", "Active", "Down", ...).
        peer_address: None for a session that waits for any peer of a range.
        local_as: None in BIRD 1.6, which does not print it.
        error: the last error with its class ("Received: Bad peer AS"), "" when there was none.
        reflector_client: this end reflects routes to the peer.
        hold_time: the hold time agreed on, in seconds; None while the session is down.
    """

    state: str
    peer_address: IPv4Address | IPv6Address | None
    peer_as: int
    local_as: int | None = None
    error: str = ""
    reflector_client: bool = False
    imported: int | None = None
    exported: int | None = None
    hold_time: float | None = None


@dataclass(frozen=True)
class ProtocolStatus:
    """One protocol instance: its row, and for BGP its details.

    Attributes:
        kind: "BGP", "Kernel", "Static", "Direct", "Device", ...
        state: "up", "start", "down", ...
        since: time or date of the last change, as printed.
        info: the rest of the row.
    """

    name: str
    kind: str
    state: str
    since: str
    info: str
    bgp: BgpStatus | None = None

    def session(self, region: str, node: str) -> Session | None:
        """This protocol as a session of that node; None when it is not BGP over IPv4."""
        if self.bgp is None or isinstance(self.bgp.peer_address, IPv6Address):
            return None
        return Session(
            region=region,
            node=node,
            name=self.name,
            peer_address=self.bgp.peer_address,
            peer_as=self.bgp.peer_as,
            state=self.bgp.state,
            local_as=self.bgp.local_as,
            error=self.bgp.error,
            reflector_client=self.bgp.reflector_client,
            imported=self.bgp.imported,
            exported=self.bgp.exported,
            hold_time=self.bgp.hold_time,
        )


@dataclass(frozen=True)
class BirdRoute:
    """One route of BIRD's table.

    Attributes:
        kind: "unicast", "multipath", "blackhole", "unreachable" or "prohibit".
        learned_from: the peer that sent it, where BIRD says so.
        gateways: resolved next hops with their devices; not the BGP next hop where that was found recursively.
        next_hop: the BGP next hop; known only from `show route all`.
        as_path: nearest AS first; known only from `show route all`.
    """

    prefix: IPv4Network
    protocol: str
    kind: str
    best: bool
    learned_from: IPv4Address | None = None
    gateways: tuple[tuple[IPv4Address | None, str], ...] = ()
    from_bgp: bool = False
    next_hop: IPv4Address | None = None
    as_path: tuple[int, ...] = ()

    def rib_route(self, region: str, node: str) -> RibRoute:
        """This route as one of that node's routing daemon."""
        gateway, device = self.gateways[0] if self.gateways else (None, None)
        return RibRoute(
            region=region,
            node=node,
            prefix=self.prefix,
            protocol=self.protocol,
            kind=self.kind,
            best=self.best,
            from_bgp=self.from_bgp,
            next_hop=self.next_hop,
            as_path=self.as_path,
            learned_from=self.learned_from,
            device=device,
            gateway=gateway,
        )


_BANNER = re.compile(r"BIRD \S+ ready\.$")
_WHEN = r"(?:\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d(?:\.\d+)?)?|\d\d:\d\d:\d\d(?:\.\d+)?)"
_ROW = re.compile(
    rf"(?P<name>\S+)\s+(?P<kind>\S+)\s+(?P<table>\S+)\s+(?P<state>\S+)\s+(?P<since>{_WHEN})(?:\s+(?P<info>.*))?$"
)
_DETAIL = re.compile(r"\s+(?P<key>[^:]+):(?:\s+(?P<value>.*))?$")
_ROUTE = re.compile(
    rf"(?P<prefix>\S+)?\s+(?P<path>\S.*?) \[(?P<protocol>\S+) {_WHEN}(?: from (?P<sender>\S+))?\]"
    r"(?P<best> [*!])?(?P<info>.*)$"
)
_NEXT_HOP = re.compile(r"(?:via (?P<gateway>\S+) on|dev) (?P<device>\S+)(?: .*)?$")
_ATTRIBUTE = re.compile(r"\t(?P<key>[\w. \[\]]+):(?: ?(?P<value>.*))?$")
_BGP_INFO = re.compile(r"\[(?:AS\d+)?[ie?]\]\s*$")
_PATH_WORDS = {"blackhole": "blackhole", "unreachable": "unreachable", "prohibited": "prohibit", "unicast": "unicast"}


def parse_protocols(text: str) -> tuple[ProtocolStatus, ...]:
    """Read `birdcl show protocols all`, or `show protocols all NAME`.

    Raises:
        BirdParseError: there is no banner, a line has no known form, or a BGP protocol lacks its state, its peer's
            address or its peer's AS.
    """
    rows: list[tuple[re.Match[str], list[str]]] = []
    for line in _body(text):
        if line[0].isspace():
            if not rows:
                raise BirdParseError("a detail line before any protocol", line)
            rows[-1][1].append(line)
        elif not line.lower().startswith("name "):
            row = _ROW.match(line)
            if not row:
                raise BirdParseError("not a line of `show protocols`", line)
            rows.append((row, []))
    return tuple(_protocol(row, details) for row, details in rows)


def parse_routes(text: str) -> tuple[BirdRoute, ...]:
    """Read `birdcl show route all`; `show route` too, with the BGP next hop and AS path unknown.

    Routes of IPv6 tables are passed over.

    Raises:
        BirdParseError: there is no banner, or a line has no known form.
    """
    blocks: list[tuple[str, re.Match[str], list[str]]] = []
    prefix = ""
    for line in _body(text):
        if line.startswith("Table ") or line == "Network not in table":
            continue
        if line.startswith("\t"):
            if not blocks:
                raise BirdParseError("an attribute before any route", line)
            blocks[-1][2].append(line)
            continue
        route = _ROUTE.match(line)
        if not route or not (prefix or route["prefix"]):
            raise BirdParseError("not a line of `show route`", line)
        prefix = route["prefix"] or prefix
        blocks.append((prefix, route, [line]))
    return tuple(_route(prefix, route, lines) for prefix, route, lines in blocks if ":" not in prefix)


def _body(text: str) -> Iterator[str]:
    """The lines after the banner, without the empty ones and the remark of a read-only client (`birdcl -r`)."""
    lines = [line for line in text.replace("\r", "").split("\n") if line.strip()]
    if not lines or not _BANNER.match(lines[0]):
        raise BirdParseError("BIRD's client did not greet; it said", lines[0] if lines else "nothing at all")
    return (line for line in lines[1:] if line != "Access restricted")


def _protocol(row: re.Match[str], details: Iterable[str]) -> ProtocolStatus:
    info = (row["info"] or "").strip()
    bgp = _bgp(row["name"], info, details) if row["kind"] == "BGP" else None
    return ProtocolStatus(row["name"], row["kind"], row["state"], row["since"], info, bgp)


def _bgp(name: str, info: str, lines: Iterable[str]) -> BgpStatus:
    details = [(match["key"], (match["value"] or "").strip()) for match in map(_DETAIL.match, lines) if match]
    first: dict[str, str] = dict(reversed(details))

    def needed(key: str) -> str:
        value = first.get(key, "")
        if not value:
            raise BirdParseError(f"protocol {name} has no line `{key}:`")
        return value

    state = needed("BGP state")
    any_peer = "Neighbor range" in first
    try:
        hold_timer = first.get("Hold timer", "").partition("/")[2]
        return BgpStatus(
            state=state,
            peer_address=None if any_peer else ip_address(needed("Neighbor address").partition("%")[0]),
            peer_as=int(needed("Neighbor AS")),
            local_as=int(first["Local AS"]) if "Local AS" in first else None,
            error=first.get("Last error") or _error(info, state),
            reflector_client="route-reflector" in first.get("Session", "").split(),
            imported=_total(details, "imported"),
            exported=_total(details, "exported"),
            hold_time=float(hold_timer) if hold_timer else None,
        )
    except BirdParseError:
        raise
    except ValueError as error:
        raise BirdParseError(f"protocol {name}: {error}") from error


def _error(info: str, state: str) -> str:
    """The error in a row's info column, after the state; a session that is administratively down prints no state."""
    return info.removeprefix(state).strip()


def _total(details: Iterable[tuple[str, str]], word: str) -> int | None:
    """Sum over the channels of the count before `word` in their `Routes:` lines; None when there is no such line."""
    counts = [re.search(rf"(\d+) {word}\b", value) for key, value in details if key == "Routes"]
    found = [int(count[1]) for count in counts if count]
    return sum(found) if found else None


def _route(prefix: str, route: re.Match[str], lines: list[str]) -> BirdRoute:
    first, *rest = lines
    gateways: list[tuple[IPv4Address | None, str]] = []
    attributes: dict[str, str] = {}
    try:
        path = route["path"]
        kind = _PATH_WORDS.get(path.split()[0], "unicast")
        # BIRD 1.6 puts the next hop on the route's own line, BIRD 2 and 3 below it.
        if path.split()[0] in ("via", "dev"):
            gateways.append(_next_hop(path))
        elif path.split()[0] not in {*_PATH_WORDS, "multipath", "recursive"}:
            raise BirdParseError("not a line of `show route`", first)
        for line in rest:
            attribute = _ATTRIBUTE.match(line)
            if attribute:
                attributes[attribute["key"]] = (attribute["value"] or "").strip()
            else:
                gateways.append(_next_hop(line.strip()))
        next_hop = attributes.get("BGP.next_hop") or attributes.get("bgp_next_hop") or ""
        as_path = attributes.get("BGP.as_path") or attributes.get("bgp_path") or ""
        from_bgp = any(key.lower().startswith("bgp") for key in attributes) or bool(_BGP_INFO.search(route["info"]))
        # BIRD names the sender only where it is not the gateway.
        gateway = gateways[0][0] if from_bgp and gateways else None
        return BirdRoute(
            prefix=IPv4Network(prefix),
            protocol=route["protocol"],
            kind="multipath" if kind == "unicast" and len(gateways) > 1 else kind,
            best=bool(route["best"]),
            learned_from=IPv4Address(route["sender"]) if route["sender"] else gateway,
            gateways=tuple(gateways),
            from_bgp=from_bgp,
            next_hop=IPv4Address(next_hop.split()[0]) if next_hop else None,
            as_path=tuple(int(number) for number in re.findall(r"\d+", as_path)),
        )
    except BirdParseError:
        raise
    except ValueError as error:
        raise BirdParseError(f"route {prefix}: {error}", first) from error


def _next_hop(text: str) -> tuple[IPv4Address | None, str]:
    match = _NEXT_HOP.match(text)
    if not match:
        raise BirdParseError("neither a next hop nor an attribute", text)
    return IPv4Address(match["gateway"]) if match["gateway"] else None, match["device"]
