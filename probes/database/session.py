"""One client's connection in PostgreSQL's protocol, for both engines: TLS, its own deadline, what comes of it.

A deadline closes the socket. It never asks the server to cancel anything: PostgreSQL answers a cancelled wait for
replication with success, and such a success is none.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg import generators, waiting
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

from analysis.fleet import DatabaseAccess
from analysis.history.operation import READS, Act, Result
from analysis.history.outcome import Phase, Problem, result_of
from probes.database.port import Answer, DatabaseError, SessionError
from probes.database.workload import BEGIN, COMMIT, ROLLBACK, Rows, Script, Statement, script

T = TypeVar("T")

LOOK_EVERY = 0.5
"""Seconds between two looks for Ctrl-C while a connection waits."""

LONGEST_MESSAGE = 300
DOOR = re.compile(r"connection (?:failed|is bad): connection to server at .*?, port \d+ failed: ")
NAME = "meshproof"
"""By which the database's own lists call our sessions."""


def login(access: DatabaseAccess) -> dict[str, str]:
    """Parameters of libpq by which a server is believed and we are let in. Keys stay in their files."""
    parameters = {
        "user": access.user,
        "sslmode": "verify-full",
        "sslrootcert": access.authority,
        "application_name": NAME,
    }
    if access.certificate and access.key:
        parameters |= {"sslcert": access.certificate, "sslkey": access.key}
    else:
        parameters["sslcertmode"] = "disable"  # else libpq would look for one in the home of whoever runs this
    if access.password:
        parameters["password"] = Path(access.password).read_text(encoding="utf-8").strip()
    return parameters


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose statements must end by `end` (s, monotonic)."""

    end: float = 0.0

    def wait(self, gen: PQGen[T], interval: float = LOOK_EVERY, timeout: float | None = None) -> T:
        """Wait for the server, not beyond the end; an interruption is passed on, and the server not told."""
        left = max(0.0, self.end - time.monotonic())
        return waiting.wait(gen, self.pgconn.socket, interval=min(interval, LOOK_EVERY), timeout=left)


def open_connection(parameters: Mapping[str, str], host: str, door: tuple[str, int], end: float) -> Connection:
    """A connection to one host, through a door that leads there.

    Args:
        parameters: of libpq: database and `login`.
        host: its real name, which its certificate must bear.
        door: address and port to connect to.
        end: when to give up (s, monotonic).

    Raises:
        SessionError: none came about.
    """
    began = time.monotonic()
    address, port = door
    conninfo = make_conninfo(**parameters, host=host, hostaddr=address, port=port)
    try:
        ready = generators.connect(conninfo)
        pgconn = waiting.wait_conn(ready, interval=LOOK_EVERY, timeout=max(0.0, end - began))
    except psycopg.Error as error:
        if time.monotonic() >= end:
            raise SessionError(f"{host}: no connection within {end - began:.1f} s") from error
        raise SessionError(f"{host}: {_words(error)}", error.sqlstate or "") from error
    connection = Connection(pgconn)
    connection.end = end
    connection.autocommit = True
    connection.prepare_threshold = None
    return connection


class SqlSession:
    """A `Session` over a connection. Not to be shared between threads.

    Attributes:
        node: name of the node that answers; "" when that is not known.
    """

    def __init__(self, connection: Connection, node: str = "", *, moment: str = "") -> None:
        self.node = node
        self._connection = connection
        self._moment = moment
        self._notices: list[str] = []
        connection.add_notice_handler(self._note)

    def run(self, act: Act, key: str, value: tuple[int, ...], *, within: timedelta) -> Answer:
        """See `Session.run`."""
        if self._connection.closed:
            return Answer(Result.FAILED, message="the session is over", node=self.node, broken=True)
        self._notices.clear()
        self._connection.end = time.monotonic() + within.total_seconds()
        work = script(act, key, value, self._moment)
        read = act in READS
        return self._transaction(work, read) if len(work.statements) > 1 else self._statement(work, read)

    def query(self, text: str, values: tuple[Any, ...] = (), *, within: timedelta) -> Rows:
        """The rows that a statement outside of any workload gives; none for one that gives no rows.

        Raises:
            DatabaseError: it failed, or did not end in time.
        """
        self._connection.end = time.monotonic() + within.total_seconds()
        try:
            cursor = self._connection.execute(text, values or None)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise DatabaseError(self._problem(error).message) from error

    def records(self, text: str, *, within: timedelta) -> list[dict[str, Any]]:
        """As `query`, with each row by the names of its columns, which are not the same in all releases.

        Raises:
            DatabaseError: it failed, or did not end in time.
        """
        self._connection.end = time.monotonic() + within.total_seconds()
        try:
            cursor = self._connection.execute(text)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] if names else []
        except psycopg.Error as error:
            raise DatabaseError(self._problem(error).message) from error

    def close(self) -> None:
        """See `Session.close`."""
        self._connection.close()

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        self._notices += filter(None, (notice.message_primary, notice.message_detail))

    def _statement(self, work: Script, read: bool) -> Answer:
        """A statement that commits by itself."""
        [statement] = work.statements
        try:
            touched, rows = self._execute(statement)
        except psycopg.Error as error:
            return self._ended(Phase.COMMIT, self._problem(error), read)
        if statement.unless_touched and not touched:
            return Answer(Result.FAILED, message=statement.unless_touched, node=self.node)
        return self._ended(Phase.COMMIT, None, read, work.answer(rows))

    def _transaction(self, work: Script, read: bool) -> Answer:
        """Several statements, then COMMIT."""
        rows: Rows = []
        try:
            self._connection.execute(BEGIN)
            for statement in work.statements:
                touched, rows = self._execute(statement)
                if statement.unless_touched and not touched:
                    self._roll_back()
                    broken = self._connection.closed
                    return Answer(Result.FAILED, message=statement.unless_touched, node=self.node, broken=broken)
        except psycopg.Error as error:
            problem = self._problem(error)
            self._roll_back()
            return self._ended(Phase.BEFORE_COMMIT, problem, read)
        try:
            said = self._connection.execute(COMMIT).statusmessage
        except psycopg.Error as error:
            problem = self._problem(error)
            self._roll_back()
            return self._ended(Phase.COMMIT, problem, read)
        if said != COMMIT:
            return self._ended(Phase.BEFORE_COMMIT, Problem("25P02", f"COMMIT was answered with {said}"), read)
        return self._ended(Phase.COMMIT, None, read, work.answer(rows))

    def _execute(self, statement: Statement) -> tuple[int, Rows]:
        cursor = self._connection.execute(statement.text, statement.values)
        return cursor.rowcount, cursor.fetchall() if cursor.description else []

    def _roll_back(self) -> None:
        """Leave a transaction behind, or the connection where that cannot be had."""
        if self._connection.closed or self._connection.info.transaction_status is TransactionStatus.IDLE:
            return
        try:
            self._connection.execute(ROLLBACK)
        except psycopg.Error:
            self._connection.close()

    def _problem(self, error: psycopg.Error) -> Problem:
        """What stopped us, in words; a connection that cannot be used any more is closed."""
        late = not error.sqlstate and time.monotonic() >= self._connection.end
        if late or self._connection.broken:
            self._connection.close()
        if late:
            return Problem("", "no answer in time; the connection was closed")
        return Problem(error.sqlstate or "", _words(error))

    def _ended(self, phase: Phase, problem: Problem | None, read: bool, answer: tuple[int, ...] = ()) -> Answer:
        result = result_of(phase, problem, read=read, notices=tuple(self._notices))
        told = problem or (Problem("", self._notices[0]) if result is Result.UNKNOWN else Problem("", ""))
        return Answer(
            result,
            answer if result is Result.OK else (),
            told.code,
            told.message,
            self.node,
            self._connection.closed,
        )


def _words(error: psycopg.Error) -> str:
    """The first line of what an error says, without the door's address, which means nothing to anybody."""
    said = error.diag.message_primary or str(error) or type(error).__name__
    return DOOR.sub("", said.strip().splitlines()[0])[:LONGEST_MESSAGE]
