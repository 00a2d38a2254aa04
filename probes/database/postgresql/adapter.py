"""The adapter: clients that look for the primary, members that are asked what they are."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from analysis.facts import POSTGRESQL, NodeRole, NodeSight
from analysis.facts import Database as DatabaseFacts
from analysis.members import Member, database_of, planned_members
from probes.database.https import Reply, ask
from probes.database.port import Access, DatabaseError, Limits, SessionError
from probes.database.postgresql import patroni
from probes.database.session import SqlSession, login, open_connection
from probes.database.workload import ADMINISTRATION, DATABASE, TABLES, openings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analysis.fleet import Fleet
    from probes.database.dialer import Dialer

ASK_WITHIN = timedelta(seconds=3)
CHANGE_WITHIN = timedelta(seconds=20)
GIVE_UP = timedelta(seconds=3)
HOST_PATIENCE = 2.0
"""Seconds that a client waits for one host before it tries the next, as libpq's `connect_timeout` at its least."""

ELECTION, SETTLE = 15.0, 60.0
"""Seconds beyond twice the lease until there is a new primary, and beyond that until all members follow it."""

WORKLOAD_TABLES = ("ledger", "bank", "register", "counter")


def connect(fleet: Fleet, dialer: Dialer) -> PostgreSQL:
    """The database of that fleet. Nothing is asked yet."""
    return PostgreSQL(fleet, dialer)


@dataclass
class _Search:
    """In which order a region's clients try the members: where the last one was let in comes first."""

    order: list[Member]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def members(self) -> tuple[Member, ...]:
        with self.lock:
            return tuple(self.order)

    def found(self, member: Member, *, well: bool) -> None:
        with self.lock:
            self.order.remove(member)
            self.order.insert(0 if well else len(self.order), member)


class PostgreSQL:
    """See `probes.database.port.Database`. Safe to use from many threads."""

    engine = POSTGRESQL

    def __init__(self, fleet: Fleet, dialer: Dialer) -> None:
        assert fleet.database is not None, "the environment says how to log in"
        self.fleet = fleet
        self.plan = database_of(fleet.plan)
        self.members = planned_members(fleet.plan)
        self.regions = tuple(region.name for region in fleet.plan.regions)
        self._dialer = dialer
        self._authority = fleet.database.authority
        self._login = login(fleet.database)
        self._searches = {
            region: _Search(sorted(self.members, key=lambda member: member.region != region)) for region in self.regions
        }
        self._names: dict[str, str] = {}
        self._settings: patroni.Settings | None = None

    # --- the port -----------------------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """What follows from the lease of the primary."""
        failover = timedelta(seconds=2 * self.settings().ttl + ELECTION)
        return Limits(failover, failover + timedelta(seconds=SETTLE), GIVE_UP)

    def observe(self) -> DatabaseFacts:
        """See `Database.observe`."""
        from probes.database.postgresql.observation import observe

        return observe(self)

    def connect(self, region: str, access: Access, *, within: timedelta) -> SqlSession:
        """See `Database.connect`. Who writes looks for the primary in all regions, its own first."""
        if access is Access.STALE:
            own = [member for member in self.members if member.region == region]
            return self.session(region, own, DATABASE, within=within)
        return self.session(region, self._searches[region].members(), DATABASE, within=within, write=True)

    def prepare(self, keys: Sequence[str]) -> None:
        """See `Database.prepare`."""
        self._make_database()
        with self.anywhere(DATABASE) as session:
            session.query(f"DROP TABLE IF EXISTS {', '.join(WORKLOAD_TABLES)}", within=CHANGE_WITHIN)
            for table in TABLES:
                session.query(table, within=CHANGE_WITHIN)
            for opening in openings(keys):
                session.query(opening.text, opening.values, within=CHANGE_WITHIN)

    def clear(self) -> None:
        """See `Database.clear`."""
        with self.anywhere(ADMINISTRATION) as session:
            session.query(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)", within=CHANGE_WITHIN)

    def whole(self) -> str:
        """See `Database.whole`. What the store remembers of a member may be old, so each is asked itself as well."""
        try:
            listed, settings = self.listed(), self.settings()
        except DatabaseError as error:
            return str(error)
        by_host = {member.host: member for member in listed}
        for planned in self.members:
            member = by_host.get(planned.name)
            if member is None or not member.serving:
                return f"{planned} takes no part: {member.state if member else 'Patroni does not list it'}"
        roles = [member.role for member in listed]
        if roles.count(NodeRole.PRIMARY) != 1:
            return "there is no primary"
        if settings.strict and len(roles) > 1 and NodeRole.SYNCHRONOUS not in roles:
            return "there is no synchronous standby"
        for planned, reply in self.ask_members(self.members, patroni.MEMBER):
            try:
                own = patroni.read_member(reply)
            except ValueError as error:
                return f"{planned} does not answer: {error}"
            if not patroni.is_ready(own, settings, reply.date):
                return f"{planned} does not follow: it is {own.state}"
        timelines = {member.timeline for member in listed}
        return "" if len(timelines) == 1 else f"members are on several timelines: {sorted(map(str, timelines))}"

    def primary_region(self) -> str:
        """See `Database.primary_region`."""
        with suppress(DatabaseError):
            homes = {member.name: member.region for member in self.members}
            for member in self.listed():
                if member.role is NodeRole.PRIMARY:
                    return homes.get(member.host, member.region)
        return ""

    def sight(self, region: str) -> Sequence[NodeSight]:
        """See `Database.sight`."""
        own = [member for member in self.members if member.region == region]
        return [self._sight(member, reply) for member, reply in self.ask_members(own, patroni.MEMBER)]

    def close(self) -> None:
        """See `Database.close`."""
        self._dialer.close()

    # --- sessions -----------------------------------------------------------------------------------------------

    def session(
        self, region: str, members: Iterable[Member], database: str, *, within: timedelta, write: bool = False
    ) -> SqlSession:
        """A session with the first of these members that lets a client of the region in; one that writes, if asked.

        Raises:
            SessionError: there is none, or not in time.
        """
        search, end = self._searches[region], time.monotonic() + within.total_seconds()
        parameters = {**self._login, "dbname": database}
        if write:
            parameters["target_session_attrs"] = "read-write"
        problems: list[str] = []
        code = ""
        for member in members:
            now = time.monotonic()
            if now >= end:
                break
            try:
                door = self._dialer.door(region, member.name, self.plan.sql_port)
                connection = open_connection(parameters, member.name, door, min(end, now + HOST_PATIENCE))
            except (SessionError, OSError) as error:
                problems.append(self._told(region, member.name, error))
                code = code or getattr(error, "code", "")
                if write:
                    search.found(member, well=False)
                continue
            if write:
                search.found(member, well=True)
            return SqlSession(connection, self._names.get(member.name, ""))
        raise SessionError("; ".join(problems) or f"no member is planned in {region}", code)

    def enter(self, region: str, host: str, *, within: timedelta) -> SqlSession:
        """A session with whoever answers at a name, for a client of that region. Raises SessionError."""
        port = self.plan.sql_port
        try:
            door = self._dialer.door(region, host, port)
            end = time.monotonic() + within.total_seconds()
            return SqlSession(open_connection({**self._login, "dbname": ADMINISTRATION}, host, door, end))
        except (SessionError, OSError) as error:
            raise SessionError(self._told(region, host, error), getattr(error, "code", "")) from error

    def _told(self, region: str, host: str, error: Exception) -> str:
        """Why no session came about: what happened at the tunnel's far end, where that is known."""
        why = self._dialer.last_problem(region, host, self.plan.sql_port)
        return f"{host}: {why}" if why else str(error)

    @contextmanager
    def anywhere(self, database: str) -> Iterator[SqlSession]:
        """A session that writes, from whichever region one can be had. Raises DatabaseError."""
        errors = []
        for region in self.regions:
            try:
                members = self._searches[region].members()
                session = self.session(region, members, database, within=3 * ASK_WITHIN, write=True)
            except SessionError as error:
                errors.append(f"from {region}: {error}")
                continue
            with closing(session):
                yield session
            return
        raise DatabaseError("; ".join(errors))

    @contextmanager
    def scratch(self, table: str, columns: str) -> Iterator[None]:
        """A table in the workloads' database, as long as it is needed. Raises DatabaseError."""
        made = self._make_database()
        try:
            with self.anywhere(DATABASE) as session:
                session.query(f"DROP TABLE IF EXISTS {table}", within=CHANGE_WITHIN)
                session.query(f"CREATE TABLE {table} ({columns})", within=CHANGE_WITHIN)
                yield
                session.query(f"DROP TABLE {table}", within=CHANGE_WITHIN)
        finally:
            if made:
                self.clear()

    def _make_database(self) -> bool:
        """Make the workloads' database where it is not there yet; whether it was not. Raises DatabaseError."""
        with self.anywhere(ADMINISTRATION) as session:
            there = session.query("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,), within=CHANGE_WITHIN)
            if not there:
                session.query(f"CREATE DATABASE {DATABASE}", within=CHANGE_WITHIN)
            return not there

    # --- Patroni ------------------------------------------------------------------------------------------------

    def ask(self, member: Member, path: str) -> Reply:
        """What a member answers to that, asked from its own region."""
        return ask(
            self._dialer,
            member.region,
            member.name,
            self.plan.console_port,
            path,
            self._authority,
            within=ASK_WITHIN,
        )

    def ask_members(self, members: Sequence[Member], path: str) -> list[tuple[Member, Reply]]:
        """What each of them answers, all asked at once."""
        if not members:
            return []
        with ThreadPoolExecutor(max_workers=len(members), thread_name_prefix="patroni") as pool:
            return list(zip(members, pool.map(lambda member: self.ask(member, path), members), strict=True))

    def listed(self) -> tuple[patroni.Listed, ...]:
        """The members as the first that answers lists them. Raises DatabaseError."""
        problems = []
        for member in self.members:
            try:
                listed = patroni.read_cluster(self.ask(member, patroni.CLUSTER))
            except (ValueError, KeyError) as error:
                problems.append(f"{member}: {error}")
                continue
            self._names = {each.host: each.name for each in listed}
            return listed
        raise DatabaseError("nobody lists the members: " + "; ".join(problems))

    def settings(self) -> patroni.Settings:
        """The settings as the first member that answers tells them; they are asked once. Raises DatabaseError."""
        problems = []
        for member in self.members if self._settings is None else ():
            try:
                self._settings = patroni.read_settings(self.ask(member, patroni.SETTINGS))
                break
            except ValueError as error:
                problems.append(f"{member}: {error}")
        if self._settings is None:
            raise DatabaseError("nobody tells the settings: " + "; ".join(problems))
        return self._settings

    def _sight(self, member: Member, reply: Reply) -> NodeSight:
        at = time.monotonic()
        try:
            own = patroni.read_member(reply)
        except ValueError:
            return NodeSight(at, member.region, member.pod, None)
        with suppress(DatabaseError):
            return NodeSight(
                at, member.region, member.pod, patroni.is_ready(own, self.settings(), reply.date), own.role.value
            )
        return NodeSight(at, member.region, member.pod, None, own.role.value)
