"""The adapter: sessions in every region, and everything that the database tells of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from analysis.facts import (
    COCKROACHDB,
    Crossing,
    DatabaseNode,
    Gap,
    Gateway,
    HealthAnswer,
    NodeSight,
    ReplicationCount,
    SurvivalGoal,
)
from analysis.facts import Database as DatabaseFacts
from analysis.fleet import DatabaseAccess, Fleet
from analysis.history.operation import Act, Result
from analysis.plan import DatabasePlan
from probes.database.cockroachdb import console, statements
from probes.database.cockroachdb.console import Console
from probes.database.cockroachdb.release import Release, parse_release, tier
from probes.database.cockroachdb.statements import Ask
from probes.database.dialer import Dialer
from probes.database.large_rows import COLUMNS, TABLE, cross_large_rows
from probes.database.port import Access, Database, DatabaseError, Limits, SessionError
from probes.database.session import SqlSession, login, open_connection
from probes.database.workload import DATABASE, TABLES, openings

T = TypeVar("T")

ASK_WITHIN = timedelta(seconds=20)
"""For a statement that tells about the database; those that ask every leaseholder take their time."""

CONNECT_WITHIN = timedelta(seconds=10)
SYSTEM_DATABASE = "defaultdb"
TRIAL = "meshproof_goal"
"""A database of our own that is given the goal "region" and dropped again."""

PAST = "AS OF SYSTEM TIME follower_read_timestamp()"

LIMITS = Limits(failover=timedelta(seconds=30), settle=timedelta(minutes=15), give_up=timedelta(seconds=10))
"""Losses have been seen to take 3 to 20 s, by release and kind."""

CROSSING = "crossing"
"""The register by which one region's writes are read in the others."""


class CockroachDB:
    """A CockroachDB over several regions, by SQL and HTTPS.

    Args:
        fleet: the environment; its plan has the database, and its access says how to log in.
        dialer: how connections get into regions.
    """

    engine = COCKROACHDB
    limits = LIMITS

    def __init__(self, fleet: Fleet, dialer: Dialer) -> None:
        assert fleet.plan.database is not None
        assert fleet.database is not None
        self._plan: DatabasePlan = fleet.plan.database
        self._access: DatabaseAccess = fleet.database
        self._regions = tuple(region.name for region in fleet.plan.regions)
        self._addresses = {region: (host, port) for region, host, port in fleet.database.addresses}
        self._dialer = dialer
        self._console = Console(fleet.database.authority, dialer, self._plan)

    # --- sessions ---------------------------------------------------------------------------------------------------

    def connect(self, region: str, access: Access, *, within: timedelta) -> SqlSession:
        """See `Database.connect`: at the region's own entrance first, then at the others', by name."""
        end = time.monotonic() + within.total_seconds()
        problems: list[SessionError] = []
        for target in (region, *(other for other in self._regions if other != region)):
            try:
                return self._session(region, target, DATABASE, access, end)
            except SessionError as error:
                problems.append(error)
        raise problems[0]

    def prepare(self, keys: Sequence[str]) -> None:
        """See `Database.prepare`."""
        with closing(self._anywhere(SYSTEM_DATABASE)) as session:
            ask = _asking(session)
            ask(f"DROP DATABASE IF EXISTS {DATABASE} CASCADE")
            self._make_surviving(ask, DATABASE)
        with closing(self._anywhere(DATABASE)) as session:
            for table in TABLES:
                session.query(table, within=ASK_WITHIN)
            for opening in openings(keys):
                session.query(opening.text, opening.values, within=ASK_WITHIN)

    def clear(self) -> None:
        """See `Database.clear`."""
        with closing(self._anywhere(SYSTEM_DATABASE)) as session:
            for name in (DATABASE, TRIAL):
                session.query(f"DROP DATABASE IF EXISTS {name} CASCADE", within=ASK_WITHIN)

    def close(self) -> None:
        """See `Database.close`."""
        self._dialer.close()

    # --- its state --------------------------------------------------------------------------------------------------

    def whole(self) -> str:
        """See `Database.whole`."""
        planned = len(self._regions) * self._plan.replicas
        try:
            with closing(self._anywhere(SYSTEM_DATABASE)) as session:
                live = sum(bool(node.live) for node in statements.nodes(self._internals(session), _now()))
        except DatabaseError as error:
            return str(error)
        if live < planned:
            return f"{live} of {planned} nodes are live"
        counts, _, gaps = self._metrics()
        if gaps:
            return gaps[0].error
        lacking = sum((count.underreplicated or 0) + (count.unavailable or 0) for count in counts)
        return f"{lacking} ranges lack replicas" if lacking else ""

    def primary_region(self) -> str:
        """See `Database.primary_region`: where the leases of the workloads' ranges are, or are meant to be."""
        try:
            with closing(self._anywhere(SYSTEM_DATABASE)) as session:
                ask = self._internals(session)
                placed = statements.placement(ask, _release(ask))
                regions = {node.name: node.region for node in statements.nodes(ask, _now())}
                meant = {goal.database: goal.primary for goal in statements.goals(ask)}
        except DatabaseError:
            return ""
        ours = (regions.get(unit.leader, "") for unit in placed if unit.owner.startswith(f"{DATABASE}."))
        leaders = [region for region in ours if region]
        return max(leaders, key=leaders.count, default=meant.get(DATABASE, ""))

    def sight(self, region: str) -> Sequence[NodeSight]:
        """See `Database.sight`."""
        now = time.monotonic()
        sights = []
        for pod in self._pods():
            status, _ = self._console.status(region, pod, console.READY)
            sights.append(NodeSight(now, region, pod, None if status is None else status == console.OK))
        return sights

    def observe(self) -> DatabaseFacts:
        """See `Database.observe`."""
        health = self._health()
        gaps: list[Gap] = []
        gateways = self._gateways()
        try:
            session = self._anywhere(SYSTEM_DATABASE)
        except SessionError as error:
            parts = ("nodes", "links", "placement", "goals", "crossings", "large_rows", "zones")
            gap = Gap("", "the database", str(error), parts)
            return DatabaseFacts(COCKROACHDB, gateways=gateways, health=health, gaps=(gap,))
        with closing(session):
            ask = self._internals(session)
            release = _release(ask)

            def tell(part: str, look: Callable[[], T], nothing: T) -> T:
                try:
                    return look()
                except DatabaseError as error:
                    gaps.append(Gap("", part, str(error), (part,)))
                    return nothing

            untold: tuple[Any, ...] = ()
            regions = tell("regions", lambda: statements.regions(ask), untold)
            nodes = tell("nodes", lambda: statements.nodes(ask, _now()), untold)
            status = tell("links", lambda: statements.status(ask), statements.Status((), None))
            placement = tell("placement", lambda: statements.placement(ask, release), untold)
            goals = tell("goals", lambda: statements.goals(ask), untold)
            zones = tell("zones", lambda: statements.zones(ask), untold)
            isolation = tell("isolation", lambda: _only(ask, "SHOW default_transaction_isolation"), "")
            accepts = self._accepts_region(ask)
        counts, measured, unmeasured = self._metrics()
        crossings, large_rows, uncrossed = self._crossings()
        return DatabaseFacts(
            engine=COCKROACHDB,
            version=release.tag,
            regions=regions,
            nodes=_with_offsets(nodes, measured),
            gateways=gateways,
            links=status.links,
            placement=placement,
            goals=(*goals, accepts),
            counts=counts,
            crossings=crossings,
            large_rows=large_rows,
            health=health,
            zones=zones,
            maximum_offset=status.maximum_offset,
            isolation=isolation,
            gaps=(*gaps, *unmeasured, *uncrossed),
        )

    def _gateways(self) -> tuple[Gateway, ...]:
        return tuple(map(self._gateway, self._regions))

    def _gateway(self, region: str) -> Gateway:
        host, port = self._entrance(region)
        entrance = f"{host}:{port}"
        try:
            end = time.monotonic() + CONNECT_WITHIN.total_seconds()
            session = self._session(region, region, SYSTEM_DATABASE, Access.WRITE, end)
        except SessionError as error:
            return Gateway(region, entrance, "", "", "", "", False, False, str(error))
        with closing(session):
            try:
                ask = self._internals(session)
                locality, version = _only(ask, "SHOW LOCALITY"), _release(ask).tag
            except DatabaseError as error:
                return Gateway(region, entrance, "", "", "", "", False, None, str(error))
            cluster, node, detail = "", f"a node of {tier(locality, 'region') or region}", ""
            with suppress(DatabaseError):
                told = ask("SELECT crdb_internal.cluster_id() AS cluster_id, crdb_internal.node_id() AS node_id")[0]
                cluster, node = str(told["cluster_id"]), str(told["node_id"])
            try:
                ask(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
                written = True
            except DatabaseError as error:
                written, detail = False, str(error)
        return Gateway(region, entrance, node, tier(locality, "region"), cluster, version, True, written, detail)

    def _crossings(self) -> tuple[tuple[Crossing, ...], tuple[Crossing, ...], tuple[Gap, ...]]:
        """A register is written in each region in turn, and read in the others at once; then rows of megabytes."""
        sessions: dict[str, SqlSession] = {}
        try:
            self.prepare((CROSSING,))
            for region in self._regions:
                end = time.monotonic() + CONNECT_WITHIN.total_seconds()
                sessions[region] = self._session(region, region, DATABASE, Access.WRITE, end)
            found = []
            for value, region in enumerate(self._regions, start=1):
                done = sessions[region].run(Act.WRITE, CROSSING, (value,), within=ASK_WITHIN)
                written = time.monotonic()
                for other in self._regions:
                    if other == region:
                        continue
                    if done.result is not Result.OK:
                        found.append(Crossing(region, other, None, None, f"not written: {done.message}"))
                        continue
                    read = sessions[other].run(Act.READ, CROSSING, (), within=ASK_WITHIN)
                    seen = read.answer == (value,) if read.result is Result.OK else None
                    found.append(Crossing(region, other, seen, time.monotonic() - written, read.message))
            sessions[self._regions[0]].query(f"CREATE TABLE {TABLE} ({COLUMNS})", within=ASK_WITHIN)
            return tuple(found), tuple(cross_large_rows(self._regions, sessions)), ()
        except DatabaseError as error:
            parts = ("crossings", "large_rows")
            return (), (), (Gap("", "a row written in one region and read in another", str(error), parts),)
        finally:
            for session in sessions.values():
                session.close()
            with suppress(DatabaseError):
                self.clear()

    def _accepts_region(self, ask: Ask) -> SurvivalGoal:
        """Try the goal on a database of our own, which is dropped again."""
        goal, accepts = None, False
        try:
            ask(f"DROP DATABASE IF EXISTS {TRIAL} CASCADE")
            self._make_surviving(ask, TRIAL)
            goal, accepts = "region", True
        except DatabaseError:
            pass
        finally:
            with suppress(DatabaseError):
                ask(f"DROP DATABASE IF EXISTS {TRIAL} CASCADE")
        return SurvivalGoal(TRIAL, goal, accepts_region=accepts)

    def _make_surviving(self, ask: Ask, name: str) -> None:
        first, *others = self._regions
        ask(f'CREATE DATABASE IF NOT EXISTS {name} PRIMARY REGION "{first}"')
        for region in others:
            ask(f'ALTER DATABASE {name} ADD REGION IF NOT EXISTS "{region}"')
        ask(f"ALTER DATABASE {name} SURVIVE REGION FAILURE")

    # --- parts ------------------------------------------------------------------------------------------------------

    def _session(self, region: str, target: str, database: str, access: Access, end: float) -> SqlSession:
        """A session from one region to the entrance of another, or of its own."""
        host, port = self._entrance(target)
        door = self._dialer.door(region, host, port)
        parameters = login(self._access) | {"dbname": database}
        connection = open_connection(parameters, host, door, end)
        return SqlSession(connection, moment=PAST if access is Access.STALE else "")

    def _anywhere(self, database: str) -> SqlSession:
        """A session at the first entrance that lets us in."""
        end = time.monotonic() + CONNECT_WITHIN.total_seconds() * len(self._regions)
        problem: SessionError | None = None
        for region in self._regions:
            try:
                return self._session(region, region, database, Access.WRITE, end)
            except SessionError as error:
                problem = problem or error
        assert problem is not None
        raise problem

    def _entrance(self, region: str) -> tuple[str, int]:
        """Where clients of that region's database connect to."""
        name = f"{self._plan.public_service}.{self._plan.namespace(region)}.svc.cluster.local"
        return self._addresses.get(region, (name, self._plan.sql_port))

    def _internals(self, session: SqlSession) -> Ask:
        """How to ask, internal tables included as far as the release and our rights let us."""
        ask = _asking(session)
        if _release(ask).guards_internals:
            with suppress(DatabaseError):
                ask(statements.ALLOW_INTERNALS)
        return ask

    def _pods(self) -> list[str]:
        return [f"{self._plan.service}-{number}" for number in range(self._plan.replicas)]

    def _health(self) -> tuple[HealthAnswer, ...]:
        answers = []
        for region in self._regions:
            for pod in self._pods():
                for path in (console.HEALTH, console.READY):
                    status, detail = self._console.status(region, pod, path)
                    answers.append(HealthAnswer(region, pod, path, status, detail))
        return tuple(answers)

    def _metrics(self) -> tuple[tuple[ReplicationCount, ...], dict[str, dict[str, float]], tuple[Gap, ...]]:
        """What each node counts, all its metrics by its number, and whom nobody could ask."""
        counts, measured, gaps = [], {}, []
        for region in self._regions:
            for pod in self._pods():
                try:
                    text = self._console.text(region, pod, console.METRICS)
                except DatabaseError as error:
                    gaps.append(Gap(region, f"metrics of {pod}", str(error), ("counts",)))
                    continue
                values = dict(console.read_metrics(text))
                node = console.read_node_number(text) or f"{pod} of {region}"
                measured[node] = values
                lacking, lost = values.get(console.UNDERREPLICATED), values.get(console.UNAVAILABLE)
                counts.append(
                    ReplicationCount(
                        node, None if lacking is None else int(lacking), None if lost is None else int(lost)
                    )
                )
        return tuple(counts), measured, tuple(gaps)


def connect(fleet: Fleet, dialer: Dialer) -> Database:
    """The adapter for this environment."""
    return CockroachDB(fleet, dialer)


def _asking(session: SqlSession) -> Ask:
    return lambda statement: session.records(statement, within=ASK_WITHIN)


def _release(ask: Ask) -> Release:
    try:
        return parse_release(_only(ask, "SELECT version()"))
    except ValueError as error:
        raise DatabaseError(str(error)) from error


def _only(ask: Ask, statement: str) -> str:
    """The one value that a statement gives."""
    [row] = ask(statement)
    [value] = row.values()
    return str(value)


def _with_offsets(nodes: tuple[DatabaseNode, ...], measured: dict[str, dict[str, float]]) -> tuple[DatabaseNode, ...]:
    return tuple(
        replace(node, clock_offset=measured[node.name][console.CLOCK_OFFSET] / 1e9)
        if console.CLOCK_OFFSET in measured.get(node.name, {})
        else node
        for node in nodes
    )


def _now() -> datetime:
    return datetime.now(UTC)
