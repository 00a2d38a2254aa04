"""A server that speaks PostgreSQL's wire protocol (version 3) over TLS as CockroachDB does, and nothing behind it.

What it answers is a function's business: the protocol here, the database in `cluster_double`. Enough of the protocol is
there for libpq: start-up, certificates and passwords, simple and extended queries, errors, transaction status.
"""

from __future__ import annotations

import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

SSL_REQUEST, CANCEL_REQUEST = 80877103, 80877102

BOOL, INT8, TEXT, FLOAT8, TIMESTAMP, JSONB, INT8S, TEXTS = 16, 20, 25, 701, 1114, 3802, 1016, 1009
"""Types by their OIDs, as CockroachDB sends them."""


@dataclass(frozen=True)
class Table:
    """A result: columns with their types, and rows."""

    columns: Sequence[tuple[str, int]]
    rows: Sequence[Sequence[Any]] = ()
    tag: str = "SELECT"


@dataclass(frozen=True)
class RefusalError(Exception):
    """An error that the server answers with."""

    code: str
    message: str


@dataclass
class Client:
    """A session: who logged in, and what it has set."""

    user: str
    database: str
    settings: dict[str, str] = field(default_factory=dict)
    status: bytes = b"I"
    rows: Any = None


Answering = Callable[[Client, str, Sequence[str | None]], Table]


class WireDouble(socketserver.ThreadingTCPServer):
    """Listens on the loopback until it is closed.

    Args:
        context: the server's certificate, and the authority of its clients.
        answer: runs a statement; raises RefusalError.
        logins: users with their passwords; one that has a certificate needs none.
        secure: whether clients without TLS are turned away.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, context, answer: Answering, *, logins=None, secure=True) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.context, self.answer, self.logins, self.secure = context, answer, logins or {}, secure
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Conversation(socketserver.BaseRequestHandler):
    server: WireDouble

    def handle(self) -> None:
        with suppress(ConnectionError, ssl.SSLError, EOFError):
            self._converse()

    def _converse(self) -> None:
        self._client = Client("", "")
        body = self._exactly(struct.unpack("!I", self._exactly(4))[0] - 4)
        code = struct.unpack("!I", body[:4])[0]
        if code == CANCEL_REQUEST:
            return
        if code == SSL_REQUEST:
            self.request.sendall(b"S")
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
            body = self._exactly(struct.unpack("!I", self._exactly(4))[0] - 4)
        elif self.server.secure:
            self._error(RefusalError("08P01", "node is running secure mode, SSL connection required"))
            return
        words = body[4:].split(b"\0")
        given = {key.decode(): value.decode() for key, value in zip(words[::2], words[1::2], strict=False) if key}
        self._client = Client(given["user"], given.get("database", given["user"]))
        if not self._logged_in():
            return
        self._send(b"R", struct.pack("!I", 0))
        for name, value in {"server_version": "13.0.0", "client_encoding": "UTF8", "TimeZone": "UTC"}.items():
            self._send(b"S", f"{name}\0{value}\0".encode())
        self._send(b"K", struct.pack("!II", 1, 1))
        self._ready()
        self._serve()

    def _logged_in(self) -> bool:
        certificate = self.request.getpeercert() if isinstance(self.request, ssl.SSLSocket) else None
        names = dict(pair for part in (certificate or {}).get("subject", ()) for pair in part)
        if names.get("commonName") == self._client.user:
            return True
        if names:
            self._error(RefusalError("28000", f"certificate authentication failed for user {self._client.user}"))
            return False
        self._send(b"R", struct.pack("!I", 3))
        kind, body = self._message()
        if kind == b"p" and self.server.logins.get(self._client.user) == body[:-1].decode():
            return True
        self._error(RefusalError("28P01", f"password authentication failed for user {self._client.user}"))
        return False

    def _serve(self) -> None:
        statement, arguments, failed = "", (), False
        table: Table | None = None
        while True:
            kind, body = self._message()
            if kind == b"X":
                return
            if kind == b"S":
                failed = False
                self._ready()
            elif kind == b"Q":
                self._simple(body[:-1].decode())
            elif failed:
                continue
            elif kind == b"P":
                statement, table = body.split(b"\0")[1].decode(), None
                self._send(b"1")
            elif kind == b"B":
                arguments = _arguments(body)
                self._send(b"2")
            elif kind in (b"D", b"E"):
                try:
                    table = table or self._run(statement, arguments)
                except RefusalError as refusal:
                    self._error(refusal)
                    failed = True
                    continue
                self._describe(table) if kind == b"D" else self._rows(table)

    def _simple(self, statement: str) -> None:
        try:
            table = self._run(statement, ())
        except RefusalError as refusal:
            self._error(refusal)
        else:
            if table.columns:
                self._describe(table)
            self._rows(table)
        self._ready()

    def _run(self, statement: str, arguments: Sequence[str | None]) -> Table:
        client, word = self._client, statement.strip().split(None, 1)[0].upper() if statement.strip() else ""
        if client.status == b"E" and word not in ("ROLLBACK", "COMMIT"):
            raise RefusalError("25P02", "current transaction is aborted")
        try:
            table = self.server.answer(client, statement, arguments)
        except RefusalError:
            client.status = b"E" if client.status != b"I" else b"I"
            raise
        if word in ("BEGIN", "START"):
            client.status = b"T"
        elif word in ("COMMIT", "ROLLBACK"):
            client.status = b"I"
        return table

    def _describe(self, table: Table) -> None:
        if not table.columns:
            self._send(b"n")
            return
        parts = [struct.pack("!H", len(table.columns))]
        for name, kind in table.columns:
            parts.append(name.encode() + b"\0" + struct.pack("!IHIhiH", 0, 0, kind, -1, -1, 0))
        self._send(b"T", b"".join(parts))

    def _rows(self, table: Table) -> None:
        for row in table.rows:
            parts = [struct.pack("!H", len(row))]
            for value in row:
                text = _text(value)
                parts.append(struct.pack("!i", -1) if text is None else struct.pack("!i", len(text)) + text)
            self._send(b"D", b"".join(parts))
        count = f" {len(table.rows)}" if table.columns else ""
        self._send(b"C", f"{table.tag}{count}".encode() + b"\0")

    def _error(self, refusal: RefusalError) -> None:
        fields = f"SERROR\0VERROR\0C{refusal.code}\0M{refusal.message}\0\0"
        self._send(b"E", fields.encode())

    def _ready(self) -> None:
        self._send(b"Z", self._client.status)

    def _send(self, kind: bytes, body: bytes = b"") -> None:
        self.request.sendall(kind + struct.pack("!I", len(body) + 4) + body)

    def _message(self) -> tuple[bytes, bytes]:
        kind = self._exactly(1)
        return kind, self._exactly(struct.unpack("!I", self._exactly(4))[0] - 4)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.request.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data


def _arguments(body: bytes) -> list[str | None]:
    """Parameters of a Bind message, all of them in text format as psycopg sends them here."""
    _portal, _statement, rest = body.split(b"\0", 2)
    formats = struct.unpack("!H", rest[:2])[0]
    codes = struct.unpack(f"!{formats}H", rest[2 : 2 + 2 * formats])
    rest = rest[2 + 2 * formats :]
    count, rest = struct.unpack("!H", rest[:2])[0], rest[2:]
    values: list[str | None] = []
    for place in range(count):
        size, rest = struct.unpack("!i", rest[:4])[0], rest[4:]
        if size < 0:
            values.append(None)
            continue
        raw, rest = rest[:size], rest[size:]
        code = codes[place] if len(codes) > 1 else (codes[0] if codes else 0)
        values.append(str(int.from_bytes(raw, "big", signed=True)) if code else raw.decode())
    return values


def _text(value: Any) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, list | tuple):
        inner = ",".join(f'"{each}"' if isinstance(each, str) else str(each) for each in value)
        return f"{{{inner}}}".encode()
    return str(value).encode()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
