"""What CoreDNS does with a configuration: who answers a name, and where questions are sent on to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from analysis.corefile import PORTS, Address, Corefile, Directive, Position, Problem, ServerBlock, canonical, parse

MOST_UPSTREAMS = 15
"""More targets in one `forward` CoreDNS refuses."""

DEFAULT_TTL_S = 5
"""Of the `kubernetes` plugin."""

CACHE_LIMIT_S = 3600
"""Of `cache` without a number."""

CACHE_LEAST_S = 5
"""So long `cache` keeps an answer whose own time is shorter."""

_BLOCKERS = ("hosts", "file", "template", "kubernetes")
"""Plugins before `forward` in the chain, whatever their order in the file, that end it unless they fall through."""


@dataclass(frozen=True)
class Upstream:
    """A target of a `forward`: a server, or a file that names servers.

    Attributes:
        text: as it is written.
        address: None for a file, a host name, an IPv6 address, and what comes from the environment.
        file: the path, when it is one.
    """

    text: str
    address: IPv4Address | None
    port: int
    file: str | None = None


@dataclass(frozen=True)
class Forward:
    """A `forward` of a server block: questions about names at or below `base` go to one of the upstreams."""

    base: str
    upstreams: tuple[Upstream, ...]
    excepted: tuple[str, ...]
    position: Position
    directive: Directive

    @property
    def targets(self) -> tuple[tuple[IPv4Address, int], ...]:
        """The upstreams that are IPv4 addresses, with their ports."""
        return tuple((upstream.address, upstream.port) for upstream in self.upstreams if upstream.address)

    def takes(self, name: str) -> bool:
        """Whether it sends on questions about that name."""
        return within(name, self.base) and not any(within(name, zone) for zone in self.excepted)


@dataclass(frozen=True)
class ZoneForward:
    """A zone, with the forward that its questions take and the address in whose server block that stands."""

    zone: str
    forward: Forward
    address: Address


@dataclass(frozen=True)
class Handling:
    """What happens to a question about a name.

    Attributes:
        zone: the longest zone of a server block that holds the name; None when none does (the answer is REFUSED).
        block: that server block.
        authority: the directive that answers from its own knowledge (`kubernetes`, `hosts`, `file`, `template`).
        forward: where the question is sent on to, when nobody answers it before; None when it is not.
    """

    zone: str | None
    block: ServerBlock | None = None
    authority: Directive | None = None
    forward: Forward | None = None


def load(pieces: Sequence[tuple[str, str]]) -> Corefile:
    """Read a configuration as a server that starts with it does: the grammar first, then what plugins object to.

    Args:
        pieces: as in `analysis.corefile.parse`.
    """
    corefile = parse(pieces)
    return replace(corefile, problems=(*corefile.problems, *objections(corefile)))


def forwards_of(block: ServerBlock) -> tuple[Forward, ...]:
    """Its `forward` directives, in the order in which they are tried."""
    return tuple(_forward(directive) for directive in block.all("forward") if len(directive.arguments) > 1)


def zone_forwards(corefile: Corefile) -> Iterator[ZoneForward]:
    """Every forward of every server block: the zone is the forward's own, or the block's where that is all (".")."""
    for block in corefile.blocks:
        for forward in forwards_of(block):
            for address in block.addresses:
                zone = address.zone if within(address.zone, forward.base) else forward.base
                yield ZoneForward(zone, forward, address)


def handling(corefile: Corefile, name: str, *, port: int = PORTS["dns"], scheme: str = "dns") -> Handling:
    """What a server with this configuration does with a question about that name at that port."""
    name = canonical(name)
    served = [
        (address.zone, block)
        for block in corefile.blocks
        for address in block.addresses
        if (address.scheme, address.port) == (scheme, port) and within(name, address.zone)
    ]
    if not served:
        return Handling(None)
    zone, block = max(served, key=lambda item: 0 if item[0] == "." else item[0].count(".") + 1)
    authority = next((line for kind in _BLOCKERS for line in block.all(kind) if claims(line, block, name)), None)
    if authority and not falls_through(authority, name):
        return Handling(zone, block, authority)
    return Handling(zone, block, authority, next((item for item in forwards_of(block) if item.takes(name)), None))


def claims(directive: Directive, block: ServerBlock, name: str) -> bool:
    """Whether that plugin answers for the name: in one of its own zones, or else in one of the server block's."""
    arguments = directive.arguments
    if directive.name == "template":
        arguments = arguments[2:]  # class and type of the questions come first
        patterns = [line.arguments[0] for line in directive.block if line.name == "match" and line.arguments]
        if patterns and not any(_matches(pattern, name) for pattern in patterns):
            return False
    elif directive.name in ("hosts", "file"):
        arguments = tuple(word for word in arguments[1:] if word)  # the file comes first
    zones = [canonical(zone) for zone in arguments] or list(block.zones)
    return any(within(name, zone) for zone in zones)


def falls_through(directive: Directive, name: str) -> bool:
    """Whether what that plugin does not know goes on to the next one."""
    line = directive.option("fallthrough")
    return line is not None and (not line.arguments or any(within(name, canonical(zone)) for zone in line.arguments))


def kept_for(block: ServerBlock, ttl: int, name: str) -> int:
    """For how long at most the server keeps an answer about that name (s), whose time to live is `ttl`."""
    cache = block.first("cache")
    if cache is None or not _cached(cache, name):
        return 0
    success = cache.option("success")
    numbers = [int(word) for word in success.arguments[1:] if word.isdigit()] if success else []
    if not numbers:
        numbers = [int(word) for word in cache.arguments[:1] if word.isdigit()]
    limit = numbers[0] if numbers else CACHE_LIMIT_S
    least = numbers[1] if len(numbers) > 1 else CACHE_LEAST_S
    return max(min(ttl, limit), min(least, limit))


def _cached(cache: Directive, name: str) -> bool:
    """Whether the cache is for that name: of its zones, if it names some, and not disabled for it."""
    zones = [word for word in cache.arguments if not word.isdigit()]
    disabled = [
        line.arguments[1:] for line in cache.block if line.name == "disable" and line.arguments[:1] == ("success",)
    ]
    without = any(not names or any(within(name, canonical(zone)) for zone in names) for names in disabled)
    return not without and (not zones or any(within(name, canonical(zone)) for zone in zones))


def own_ttl(corefile: Corefile, name: str) -> int:
    """The time to live of a name that the cluster knows itself (s)."""
    authority = handling(corefile, name).authority
    line = authority.option("ttl") if authority else None
    return int(line.arguments[0]) if line and line.arguments and line.arguments[0].isdigit() else DEFAULT_TTL_S


def objections(corefile: Corefile) -> Iterator[Problem]:
    """What the plugins object to when the server starts, and what can have no effect."""
    for block in corefile.blocks:
        seen: list[Forward] = []
        for directive in block.all("forward"):
            yield from _objections_to(directive)
        for forward in forwards_of(block):
            before = next((item for item in seen if within(forward.base, item.base) and not item.excepted), None)
            if before:
                what = f"forward {forward.base}"
                text = f"{what} is never reached: forward {before.base} at {before.position} takes all its questions"
                yield Problem(forward.position, text, fatal=False)
            seen.append(forward)


def within(name: str, zone: str) -> bool:
    """Whether a name is a zone's, or below it. Both are canonical."""
    return zone == "." or name == zone or name.endswith(f".{zone}")


def _forward(directive: Directive) -> Forward:
    excepted = directive.option("except")
    return Forward(
        base=canonical(directive.arguments[0]),
        upstreams=tuple(_upstream(word) for word in directive.arguments[1:]),
        excepted=tuple(canonical(zone) for zone in excepted.arguments) if excepted else (),
        position=directive.position,
        directive=directive,
    )


def _upstream(text: str) -> Upstream:
    scheme, separator, rest = text.rpartition("://")
    if not separator and text.startswith(("/", "./")):
        return Upstream(text, None, PORTS["dns"], file=text)
    host, _, port = rest.partition(":")
    port = port.partition("%")[0]  # a TLS server's name may follow
    try:
        address = IPv4Address(host.partition("%")[0])
    except AddressValueError:
        return Upstream(text, None, PORTS["dns"])
    return Upstream(text, address, int(port) if port.isdigit() else PORTS.get(scheme or "dns", PORTS["dns"]))


def _objections_to(directive: Directive) -> Iterator[Problem]:
    if len(directive.arguments) < 2:
        yield Problem(directive.position, "forward needs a zone and at least one server")
        return
    servers = directive.arguments[1:]
    if len(servers) > MOST_UPSTREAMS:
        yield Problem(
            directive.position, f"forward names {len(servers)} servers; more than {MOST_UPSTREAMS} are refused"
        )
    for upstream in map(_upstream, servers):
        if upstream.address or upstream.file or upstream.text.startswith("{") or _is_ipv6(upstream.text):
            continue
        numeric = re.fullmatch(r"[\d.:]+", upstream.text) is not None
        kind = "is no address" if numeric else "is a name, which most versions of forward refuse"
        yield Problem(directive.position, f"{upstream.text!r} {kind}", fatal=numeric)


def _is_ipv6(text: str) -> bool:
    host = text.rpartition("://")[2]
    found = re.fullmatch(r"\[(.+)\](?::\d+)?", host)
    try:
        IPv6Address((found[1] if found else host).partition("%")[0])
    except AddressValueError:
        return False
    return True


def _matches(pattern: str, name: str) -> bool:
    """Whether a template's pattern takes the name; one that Python cannot read is taken to."""
    try:
        return re.search(pattern, f"{name}.") is not None
    except re.error:
        return True
