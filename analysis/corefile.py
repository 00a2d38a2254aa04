"""CoreDNS' configuration, as far as it says where questions are sent on to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address

TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(#[^\n]*)|(\n)|([^\s"]\S*)')
"""A quoted word, a comment, the end of a line, a word."""

DNS_PORT, TLS_PORT = 53, 853


def parse_forwards(corefile: str) -> list[tuple[str, list[tuple[IPv4Address, int]]]]:
    """Every `forward` of a Corefile: the zone ("." for all, no trailing dot otherwise), and addresses with ports.

    Files, such as /etc/resolv.conf, and IPv6 are left out of the targets; what an `import` brings in is not read.
    """
    found: list[tuple[str, list[tuple[IPv4Address, int]]]] = []
    zones: list[str] = []
    depth = 0
    for words in _lines(corefile):
        opens, closes = words[-1] == "{", words == ["}"]
        if closes:
            depth -= 1
            continue
        if depth == 0:
            zones = [_zone(word) for word in words if word != "{"]
        elif depth == 1 and words[0] == "forward" and len(words) > 2:
            base = _zone(words[1])
            targets = [target for word in words[2:] if (target := _target(word))]
            found += [(zone if base == "." else base, targets) for zone in zones]
        depth += opens
    return found


def _lines(text: str) -> Iterator[list[str]]:
    """The words of every line that has some; a trailing comma joins lines."""
    words: list[str] = []
    for quoted, comment, end, word in TOKEN.findall(text + "\n"):
        if comment:
            continue
        if end:
            if words and not words[-1].endswith(","):
                yield words
                words = []
        else:
            words.append(quoted or word)


def _zone(word: str) -> str:
    """A zone without scheme, port and trailing dot, in lower case."""
    name = word.rstrip(",").partition("://")[2] or word.rstrip(",")
    return name.rpartition(":")[0].rstrip(".").lower() or "." if ":" in name else name.rstrip(".").lower() or "."


def _target(word: str) -> tuple[IPv4Address, int] | None:
    scheme, separator, rest = word.partition("://")
    host, _, port = (rest if separator else word).partition(":")
    try:
        return IPv4Address(host), int(port or (TLS_PORT if scheme == "tls" else DNS_PORT))
    except (AddressValueError, ValueError):
        return None
