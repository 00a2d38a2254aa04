"""The syntax of CoreDNS' configuration: server blocks, directives, imports, and what is wrong in which line.

It is read as CoreDNS reads it (Caddy's grammar), but for one thing: where CoreDNS stops at the first mistake, this goes
on, so that a reader is told of all of them. What the directives mean is in `analysis.coredns`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import IPv4Network

from analysis.nearest import did_you_mean

PLUGINS = frozenset(
    re.findall(
        r"\w+",
        """
        acl any auto autopath azure bind bufsize cache cancel chaos clouddns debug dns64 dnssec dnstap erratic errors
        etcd file forward geoip grpc grpc_server header health hosts https https3 k8s_external kubernetes loadbalance
        local log loop metadata minimal multicluster multisocket nomad nsid pprof prometheus proxyproto quic ready
        reload rewrite root route53 secondary sign template timeouts tls trace transfer tsig view whoami
        alternate fanout k8s_gateway kubernetai ocp_dnsnameresolver records redisc unbound
        """,
    )
)
"""What may begin a line in a server block: the plugins of CoreDNS, and some that clusters commonly add to it."""

PORTS: Mapping[str, int] = {"dns": 53, "tls": 853, "quic": 853, "https": 443, "https3": 443, "grpc": 443}
"""Default ports of the schemes."""

IMPORT_LIMIT = 1000
"""So many imports of one configuration CoreDNS carries out; more is taken for a circle."""

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)("?)|(#[^\n]*)|(\n)|([^\s"]\S*)')
"""A quoted word and its closing quote, a comment, the end of a line, a word."""

_GLUED = re.compile(r"(?P<word>[^{}]+)(?P<brace>[{}])")
_OPEN, _CLOSE = "{", "}"


@dataclass(frozen=True)
class Position:
    """A line of a piece of configuration, counted from 1."""

    piece: str
    line: int

    def __str__(self) -> str:
        """As compilers write it: "coredns/Corefile:12"."""
        return f"{self.piece}:{self.line}"


@dataclass(frozen=True)
class Token:
    """A word of the configuration; a quoted brace is a word like any other."""

    text: str
    position: Position
    quoted: bool = False

    @property
    def opens(self) -> bool:
        """It opens a block."""
        return self.text == _OPEN and not self.quoted

    @property
    def closes(self) -> bool:
        """It closes a block."""
        return self.text == _CLOSE and not self.quoted


@dataclass(frozen=True)
class Problem:
    """Something wrong, or something that a reader should know.

    Attributes:
        fatal: a server that starts with this configuration refuses it; one that runs keeps the former one.
    """

    position: Position
    text: str
    fatal: bool = True

    def __str__(self) -> str:
        """With its place first."""
        return f"{self.position}: {self.text}"


@dataclass(frozen=True)
class Directive:
    """A line of a block: its first word, what follows in the line, and the block behind it."""

    name: str
    arguments: tuple[str, ...]
    position: Position
    block: tuple[Directive, ...] = ()

    def option(self, name: str) -> Directive | None:
        """The first line of its block that begins so."""
        return next((line for line in self.block if line.name == name), None)


@dataclass(frozen=True)
class Address:
    """What a server block listens for: a zone (lower case, no final dot, "." for all) by a scheme at a port."""

    scheme: str
    zone: str
    port: int
    position: Position


@dataclass(frozen=True)
class ServerBlock:
    """Directives for the zones of some addresses."""

    addresses: tuple[Address, ...]
    directives: tuple[Directive, ...]
    position: Position

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones it answers for, each once."""
        return tuple(dict.fromkeys(address.zone for address in self.addresses))

    def all(self, name: str) -> tuple[Directive, ...]:
        """Its directives of that name, in the order of the file."""
        return tuple(directive for directive in self.directives if directive.name == name)

    def first(self, name: str) -> Directive | None:
        """The first of them, or None."""
        return next(iter(self.all(name)), None)


@dataclass(frozen=True)
class Corefile:
    """A whole configuration, imports resolved, and what is wrong with it, in the order of the text."""

    blocks: tuple[ServerBlock, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems for which a server refuses it."""
        return tuple(problem for problem in self.problems if problem.fatal)


def parse(pieces: Sequence[tuple[str, str]]) -> Corefile:
    """Read a configuration; whatever is wrong with it becomes a problem, never an exception.

    Args:
        pieces: name ("coredns/Corefile": ConfigMap and key) and text of each; the first is the Corefile, the others are
            what `import` may bring in. Of "import custom/*.server" the folder stands for ConfigMap "coredns-custom".
            Substitutions from the environment ({$NAME}) stay as they are written.
    """
    if not pieces:
        return Corefile(())
    return _Parser(pieces).corefile()


def tokens_of(piece: str, text: str, problems: list[Problem]) -> Iterator[Token]:
    """The words of a piece. Braces that stick to a word, where CoreDNS would miss them, are told and cut off."""
    line = 1
    for quoted, quote, comment, end, word in _TOKEN.findall(text):
        position = Position(piece, line)
        if end:
            line += 1
        elif word and (glued := _GLUED.fullmatch(word)):
            rule = "must be a word of its own" if glued["brace"] == _OPEN else "must stand on a line of its own"
            problems.append(Problem(position, f"the brace in {word!r} is part of the word: it {rule}"))
            yield Token(glued["word"], position)
            yield Token(glued["brace"], position)
        elif word:
            yield Token(word, position)
        elif not comment:
            if not quote:
                problems.append(Problem(position, "the quote that opens here is never closed"))
            yield Token(quoted.replace('\\"', '"'), position, quoted=True)
            line += quoted.count("\n")


@dataclass
class _Parser:
    """Reads the words of all pieces from left to right, with the place that it has reached."""

    pieces: Sequence[tuple[str, str]]
    problems: list[Problem] = field(default_factory=list)
    snippets: dict[str, list[Token]] = field(default_factory=dict)
    imports: int = 0
    closed: Position | None = None
    """Where the last server block was closed: the likely culprit when one ends too early."""

    astray: bool = False
    """Lines were found outside of every block, so that one more closing brace is to be expected."""

    def corefile(self) -> Corefile:
        name, text = self.pieces[0]
        self._tokens = list(tokens_of(name, text, self.problems))
        self._next = 0
        blocks: list[ServerBlock] = []
        while self._next < len(self._tokens):
            block = self._top(first=not blocks)
            blocks += [block] if block else []
        self._note_zones_used_twice(blocks)
        order = {piece: number for number, (piece, _) in enumerate(self.pieces)}
        problems = sorted(
            dict.fromkeys(self.problems),
            key=lambda problem: (order.get(problem.position.piece, 0), problem.position.line),
        )
        return Corefile(tuple(blocks), tuple(problems))

    # --- the text, word by word -----------------------------------------------------------------------------------

    def _peek(self) -> Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self) -> Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _line(self) -> list[Token]:
        """What is left of the line, braces included."""
        end = self._next
        while end < len(self._tokens) and self._tokens[end].position == self._tokens[self._next].position:
            end += 1
        return self._tokens[self._next : end]

    def _fail(self, position: Position, text: str) -> None:
        self.problems.append(Problem(position, text))

    # --- the top level --------------------------------------------------------------------------------------------

    def _top(self, *, first: bool) -> ServerBlock | None:
        """One server block, snippet or import, or a line that should not be there."""
        token = self._tokens[self._next]
        if token.closes:
            self._take()
            if not self.astray:
                self._fail(token.position, "a closing brace too many: no block is open here")
            self.astray = False
            return None
        if token.text == "import":
            self._import()
            return None
        if token.opens:
            self._take()
            self._fail(token.position, "a block without an address")
            self._directives(token.position)
            return None
        words = self._address_words()
        following = self._peek()
        if following is None or not following.opens:
            if not first or words[0].text in PLUGINS:
                self._outside(words)
                return None
            return ServerBlock(self._addresses(words), self._directives(None), token.position)
        opened = self._take().position
        if len(words) == 1 and (snippet := re.fullmatch(r"\((.+)\)", words[0].text)):
            self._define(snippet[1], words[0].position, opened)
            return None
        return ServerBlock(self._addresses(words), self._directives(opened), token.position)

    def _address_words(self) -> list[Token]:
        """The words up to a brace or the end of the line; a trailing comma leads on to the next line."""
        words = [self._take()]
        while (token := self._peek()) and not token.opens:
            if token.position != words[-1].position and not words[-1].text.endswith(","):
                break
            words.append(self._take())
        if words[-1].text.endswith(","):
            self._fail(words[-1].position, "another address is expected behind the comma")
        return words

    def _outside(self, words: list[Token]) -> None:
        name, position = words[0].text, words[0].position
        if not self.astray:
            reason = ", or lacks its brace"
            if name in PLUGINS:
                reason = f": the brace at {self.closed} closes it too early" if self.closed else ""
            self._fail(position, f"{name!r} stands outside of every server block{reason}")
        self.astray = self.astray or name in PLUGINS
        if (token := self._peek()) and token.opens:
            self._nested(self._take().position)

    def _addresses(self, words: Iterable[Token]) -> tuple[Address, ...]:
        names = [(name, word.position) for word in words for name in word.text.split(",") if name]
        return tuple(address for name, position in names for address in self._address(name, position))

    def _address(self, text: str, position: Position) -> list[Address]:
        scheme, separator, rest = text.rpartition("://")
        scheme = scheme.lower() if separator else "dns"
        if scheme not in PORTS:
            self._fail(position, f"unknown scheme {scheme!r}{did_you_mean(scheme, PORTS)}")
        host, colon, port = rest.rpartition(":")
        if not colon:
            host, port = rest, str(PORTS.get(scheme, PORTS["dns"]))
        if not port.isdigit() or not 0 < int(port) < 1 << 16:
            if not port.startswith("{"):
                self._fail(position, f"{port!r} is no port")
            port = str(PORTS["dns"])
        return [Address(scheme, zone, int(port), position) for zone in zones_of(host)]

    def _note_zones_used_twice(self, blocks: Iterable[ServerBlock]) -> None:
        seen: dict[tuple[str, str, int], Position] = {}
        for block in blocks:
            for address in block.addresses:
                before = seen.setdefault((address.scheme, address.zone, address.port), address.position)
                if before is not address.position:
                    zone = f"{address.zone}:{address.port}"
                    self._fail(address.position, f"the zone {zone} has a server block already, at {before}")

    # --- blocks ---------------------------------------------------------------------------------------------------

    def _directives(self, opened: Position | None) -> tuple[Directive, ...]:
        """The directives of a server block, up to its closing brace; a file of one block may do without (None)."""
        found: list[Directive] = []
        while token := self._peek():
            if token.closes:
                self._close(found)
                self.closed = token.position
                return tuple(found)
            if opened and self._begins_server_block():
                self._fail(opened, f"the block that opens here is not closed before the next one, at {token.position}")
                return tuple(found)
            if token.text == "import":
                self._import()
                continue
            directive = self._directive()
            if directive.name not in PLUGINS and not directive.name.startswith("{"):
                like = did_you_mean(directive.name, PLUGINS)
                self._fail(directive.position, f"unknown directive {directive.name!r}{like}")
            found.append(directive)
        if opened:
            self._fail(opened, "the block that opens here is never closed")
        return tuple(found)

    def _nested(self, opened: Position) -> tuple[Directive, ...]:
        """The lines of a directive's own block."""
        found: list[Directive] = []
        while token := self._peek():
            if token.closes:
                self._close(found)
                return tuple(found)
            if self._begins_server_block():
                break
            if token.text == "import" and not token.quoted:
                self._import()
            else:
                found.append(self._directive())
        self._fail(opened, "the block that opens here is never closed")
        return tuple(found)

    def _directive(self) -> Directive:
        head = self._take()
        arguments: list[str] = []
        while (token := self._peek()) and token.position == head.position and not (token.opens or token.closes):
            arguments.append(self._take().text)
        token = self._peek()
        block = self._nested(self._take().position) if token and token.opens else ()
        return Directive(head.text, tuple(arguments), head.position, block)

    def _close(self, lines: Sequence[Directive]) -> None:
        brace = self._take()
        if lines and lines[-1].position == brace.position and not lines[-1].block:
            self._fail(brace.position, "the closing brace must stand on a line of its own")

    def _begins_server_block(self) -> bool:
        """Whether a line in a block looks like the beginning of another server block: zones, and an opening brace."""
        line = self._line()
        before = self._tokens[self._next - 1] if self._next else None
        starts = before is None or before.position != line[0].position
        zone = not line[0].quoted and line[0].text not in PLUGINS and re.search(r"[.:]", line[0].text)
        return bool(starts and line[-1].opens and zone)

    # --- imports and snippets -------------------------------------------------------------------------------------

    def _define(self, name: str, position: Position, opened: Position) -> None:
        """Keep a snippet's words."""
        depth, words = 1, list[Token]()
        while token := self._peek():
            depth += token.opens - token.closes
            self._take()
            if not depth:
                break
            words.append(token)
        if depth:
            self._fail(opened, "the snippet that opens here is never closed")
        if name in self.snippets:
            self._fail(position, f"the snippet {name!r} is there already")
        self.snippets[name] = words

    def _import(self) -> None:
        """Put what is imported in the place of the line that says so."""
        start = self._next
        head, *rest = self._line()
        self._next += 1 + len(rest)
        self.imports += 1
        words: list[Token] = []
        if self.imports > IMPORT_LIMIT:
            if self.imports == IMPORT_LIMIT + 1:
                self._fail(head.position, f"more than {IMPORT_LIMIT} imports: they go round in a circle")
        elif not rest:
            self._fail(head.position, "import names neither a snippet nor a file")
        elif rest[0].text in self.snippets:
            words = self.snippets[rest[0].text]
        else:
            for name, text in self._files(rest[0].text, head.position):
                words += tokens_of(name, text, self.problems)
        self._tokens[start : self._next] = words
        self._next = start

    def _files(self, pattern: str, position: Position) -> list[tuple[str, str]]:
        folder, _, name = pattern.rpartition("/")
        config_map = "coredns-custom" if folder.rpartition("/")[2] == "custom" else "coredns"
        found = sorted(piece for piece in self.pieces[1:] if fnmatchcase(piece[0], f"{config_map}/{name}"))
        if not found and "*" in name:
            self.problems.append(Problem(position, f"nothing matches the import {pattern!r}", fatal=False))
        elif not found and not pattern.startswith("{"):
            self._fail(position, f"{pattern!r} is neither a snippet nor a file that is there")
        return found


def zones_of(text: str) -> list[str]:
    """The zones that an address's host part stands for: itself, or the reverse zones of a network."""
    try:
        network = IPv4Network(text)
    except ValueError:
        return [canonical(text)]
    if "/" not in text:
        return [canonical(text)]
    octets = max(1, -(-network.prefixlen // 8))
    parts = network.subnets(new_prefix=8 * octets)
    return [f"{'.'.join(reversed(str(part[0]).split('.')[:octets]))}.in-addr.arpa" for part in parts]


def canonical(name: str) -> str:
    """A name as this project writes it: lower case, without its final dot; "." for the root."""
    return name.rstrip(".").lower() or "."
