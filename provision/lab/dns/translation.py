"""From a Corefile to what the recursor is told: who answers for which zone, and for how long answers are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address

from analysis.coredns import CACHE_LIMIT_S, Forward, falls_through, forwards_of, kept_for, load, own_ttl, within
from analysis.corefile import PORTS, Address, Corefile, Problem, ServerBlock, canonical

PIECE = "coredns/Corefile"
PATH = "/etc/coredns/Corefile"
"""Where CoreDNS finds its configuration, by which its messages call it."""

_SILENT = frozenset({"bind", "health", "pprof", "ready", "reload", "root", "tls"})
"""Plugins that see no questions."""

_REVERSE = ("in-addr.arpa", "ip6.arpa")


class CorefileError(Exception):
    """A server that starts with this configuration refuses it; the text is what CoreDNS would say.

    Attributes:
        at_run_time: only a server that runs with it notices, and ends, instead of going on with the former one.
    """

    def __init__(self, text: str, *, at_run_time: bool = False) -> None:
        super().__init__(text)
        self.at_run_time = at_run_time


@dataclass(frozen=True)
class Translation:
    """What a Corefile means, zone by zone; the longest zone that holds a name decides.

    Attributes:
        local: zones that are answered from the cluster's own objects, and the lifetime of their records (s).
        forwarded: zones whose questions are sent on, and to whom.
        unanswered: zones for which nobody answers, and with which code then: REFUSED where nothing is configured,
            SERVFAIL where plugins are that pass a question on to a next one, and there is none.
        keep_s: for how long at most an answer of somebody else is kept.
    """

    local: Mapping[str, int] = field(default_factory=dict)
    forwarded: Mapping[str, tuple[tuple[IPv4Address, int], ...]] = field(default_factory=dict)
    unanswered: Mapping[str, str] = field(default_factory=dict)
    keep_s: int = 0


def translate(pieces: Sequence[tuple[str, str]], resolver: str, own: Sequence[IPv4Address] = ()) -> Translation:
    """Say what CoreDNS would do with a configuration.

    Args:
        pieces: the Corefile (its name is PIECE) and what it may import, as `analysis.corefile.parse` takes them.
        resolver: the text of /etc/resolv.conf, for a `forward` to that file.
        own: the addresses of this DNS itself: with the plugin `loop`, it does not start when it forwards to them.

    Raises:
        CorefileError: CoreDNS would refuse it.
    """
    corefile = load(pieces)
    if corefile.errors:
        raise CorefileError(_in_corednss_words(corefile.errors[0]))
    servers = _nameservers(resolver)
    local: dict[str, int] = {}
    forwarded: dict[str, tuple[tuple[IPv4Address, int], ...]] = {}
    unanswered = {".": "REFUSED"}
    for block, address in _plain_addresses(corefile):
        local |= {zone: own_ttl(corefile, zone) for zone in _kubernetes_zones(block, address.zone)}
        for forward in forwards_of(block):
            zone = address.zone if within(address.zone, forward.base) else forward.base
            targets = _targets(forward, servers)
            _refuse_loop(block, zone, targets, own)
            if zone not in local:
                forwarded.setdefault(zone, targets)
        unanswered[address.zone] = "REFUSED" if _is_idle(block) else "SERVFAIL"
    limits = [
        kept_for(block, CACHE_LIMIT_S, address.zone)
        for block, address in _plain_addresses(corefile)
        if address.zone != "."
    ]
    unanswered = {zone: code for zone, code in unanswered.items() if zone not in local and zone not in forwarded}
    return Translation(local, forwarded, unanswered, max(limits, default=0))


def _plain_addresses(corefile: Corefile) -> list[tuple[ServerBlock, Address]]:
    """Every zone that is served in plain DNS at the usual port, with its block."""
    return [
        (block, address)
        for block in corefile.blocks
        for address in block.addresses
        if (address.scheme, address.port) == ("dns", PORTS["dns"])
    ]


def _is_idle(block: ServerBlock) -> bool:
    """Whether none of its plugins has to do with questions."""
    return all(directive.name in _SILENT for directive in block.directives)


def _kubernetes_zones(block: ServerBlock, zone: str) -> list[str]:
    """The plugin's zones that lie in the block's, without those of addresses whose unknown names go on to others."""
    kubernetes = block.first("kubernetes")
    if kubernetes is None:
        return []
    zones = [canonical(word) for word in kubernetes.arguments] or [zone]
    reverse = [name for name in zones if name.endswith(_REVERSE) and falls_through(kubernetes, name)]
    return [name for name in zones if name not in reverse and within(name, zone)]


def _targets(forward: Forward, resolver: tuple[IPv4Address, ...]) -> tuple[tuple[IPv4Address, int], ...]:
    named = [(server, PORTS["dns"]) for server in resolver if any(each.file for each in forward.upstreams)]
    targets = (*forward.targets, *named)
    if not targets:
        line = forward.position.line
        raise CorefileError(f"{PATH}:{line} - Error during parsing: plugin/forward: no nameservers found")
    return targets


def _refuse_loop(
    block: ServerBlock, zone: str, targets: Sequence[tuple[IPv4Address, int]], own: Sequence[IPv4Address]
) -> None:
    looped = next((target for target in targets if target[0].is_loopback or target[0] in own), None)
    if looped and block.first("loop"):
        address, port = looped
        name = "." if zone == "." else f"{zone}."
        raise CorefileError(
            f'[FATAL] plugin/loop: Loop ({address}:{port} -> :{PORTS["dns"]}) detected for zone "{name}"',
            at_run_time=True,
        )


def _nameservers(resolver: str) -> tuple[IPv4Address, ...]:
    found = []
    for line in resolver.splitlines():
        words = line.split()
        if words[:1] == ["nameserver"] and len(words) > 1:
            try:
                found.append(IPv4Address(words[1]))
            except AddressValueError:
                continue
    return tuple(found)


def _in_corednss_words(problem: Problem) -> str:
    place = str(problem.position).replace(PIECE, PATH, 1)
    return f"{place} - Error during parsing: {problem.text}"
