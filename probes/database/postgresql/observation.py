"""The facts: what the members say of themselves, and what clients of every region find."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID, uuid4

from analysis.dns import zone_of
from analysis.facts import (
    POSTGRESQL,
    Crossing,
    DatabaseNode,
    Gap,
    Gateway,
    HealthAnswer,
    NodeLink,
    NodeRole,
    Placement,
    Replica,
    SurvivalGoal,
)
from analysis.facts import Database as DatabaseFacts
from analysis.members import Member
from probes.database import large_rows
from probes.database.port import Access, DatabaseError
from probes.database.postgresql import patroni
from probes.database.session import SqlSession
from probes.database.workload import ADMINISTRATION, DATABASE

if TYPE_CHECKING:
    from probes.database.postgresql.adapter import PostgreSQL

T = TypeVar("T")
R = TypeVar("R")

WITHIN = timedelta(seconds=5)
CROSSINGS = "crossings"
"""Table of the rows that are written in one region and read in another."""

WRITE, LOOK = "INSERT INTO crossings VALUES (%s)", "SELECT 1 FROM crossings WHERE id = %s"

REGION, ZONE = "region", "zone"
DURABLE = frozenset({"on", "remote_write", "remote_apply"})
"""Settings of `synchronous_commit` with which a commit waits for a standby."""

WHO = (
    "SELECT host(inet_server_addr()), extract(epoch FROM clock_timestamp())::float8, current_setting('server_version')"
)
CLUSTER_ID = "SELECT system_identifier::text FROM pg_control_system()"
DURABILITY = "SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit')"


@dataclass(frozen=True)
class _Met:
    """Whom a session was with.

    Attributes:
        address: of the server, as it sees itself.
        offset: of its clock from the runner's (s).
    """

    address: str
    offset: float
    version: str


def observe(database: PostgreSQL) -> DatabaseFacts:
    """Everything that can be seen; what cannot is a gap."""
    gaps: list[Gap] = []
    own = _themselves(database)
    nodes, names = _nodes(database, own, gaps)
    met = _meet(database, names)
    nodes = tuple(replace(node, clock_offset=_offset(node.name, met)) for node in nodes)
    strict = _strict(database, gaps)
    synchronous, isolation = _as_clients_get_it(database, strict, gaps)
    gateways, crossings, large = _served(database, nodes, met, gaps)
    return DatabaseFacts(
        POSTGRESQL,
        version=next((node.version for node in nodes if node.version), ""),
        regions=tuple(dict.fromkeys(node.region for node in nodes if node.region)),
        nodes=nodes,
        gateways=gateways,
        links=_links(nodes, own, names, gaps),
        placement=_placement(nodes),
        goals=_goals(database, nodes, synchronous),
        crossings=crossings,
        large_rows=large,
        health=_health(database),
        synchronous=synchronous,
        isolation=isolation,
        gaps=tuple(gaps),
    )


# --- what members say -----------------------------------------------------------------------------------------------


def _themselves(database: PostgreSQL) -> dict[str, tuple[patroni.Member, float | None]]:
    """Each member in its own words and for how long it has run, by the name that it is to have."""
    own = {}
    for member, reply in database.ask_members(database.members, patroni.MEMBER):
        with suppress(ValueError):  # whoever says nothing is told of by the others
            told = patroni.read_member(reply)
            own[member.name] = told, (reply.date - told.started).total_seconds() if told.started else None
    return own


def _nodes(
    database: PostgreSQL, own: dict[str, tuple[patroni.Member, float | None]], gaps: list[Gap]
) -> tuple[tuple[DatabaseNode, ...], dict[str, str]]:
    """The nodes as Patroni lists them; their names by their hosts."""
    try:
        listed = database.listed()
    except DatabaseError as error:
        gaps.append(Gap("", "the list of members", str(error), ("nodes", "regions", "links", "placement", "goals")))
        return (), {}
    nodes = []
    for member in listed:
        told, uptime = own.get(member.host, (None, None))
        nodes.append(
            DatabaseNode(
                name=member.name,
                region=member.region,
                locality=f"region={member.region}" if member.region else "",
                advertised=f"{member.host}:{member.port}",
                live=member.serving,
                version=told.version if told else "",
                role=member.role,
                uptime=uptime,
                timeline=member.timeline,
            )
        )
    return tuple(nodes), {member.host: member.name for member in listed}


def _links(
    nodes: Sequence[DatabaseNode],
    own: dict[str, tuple[patroni.Member, float | None]],
    names: dict[str, str],
    gaps: list[Gap],
) -> tuple[NodeLink, ...]:
    """The connection of each standby with the primary, as the primary sees it."""
    primaries = [
        (names[host], told) for host, (told, _) in own.items() if told.role is NodeRole.PRIMARY and host in names
    ]
    if len(primaries) != 1:
        error = f"{len(primaries)} members say that they are the primary, who is to be asked"
        gaps.append(Gap("", "replication connections", error, ("links",)))
        return ()
    [(primary, told)] = primaries
    return tuple(
        NodeLink(
            node.name,
            primary,
            healthy=(state := told.senders.get(node.name)) == "streaming",
            detail=f"its replication is in state {state}" if state else "it has no replication connection",
        )
        for node in nodes
        if node.name != primary
    )


def _placement(nodes: Sequence[DatabaseNode]) -> tuple[Placement, ...]:
    """The one unit: every node has all data, and has a vote where no write is acknowledged without it."""
    if not nodes:
        return ()
    voters = (NodeRole.PRIMARY, NodeRole.SYNCHRONOUS)
    leader = next((node.name for node in nodes if node.role is NodeRole.PRIMARY), "")
    replicas = tuple(Replica(node.name, node.region, node.role in voters) for node in nodes)
    return (Placement("instance", "all databases", replicas, leader, system=True),)


def _goals(database: PostgreSQL, nodes: Sequence[DatabaseNode], synchronous: bool | None) -> tuple[SurvivalGoal, ...]:
    """What all databases of the instance survive."""
    primary = next((node.region for node in nodes if node.role is NodeRole.PRIMARY), "")
    if not nodes or synchronous is None:
        return ()
    elsewhere = any(node.role is NodeRole.SYNCHRONOUS and node.region != primary for node in nodes)
    goal = REGION if synchronous and elsewhere else ZONE
    regions = tuple(dict.fromkeys(node.region for node in nodes))
    named = dict.fromkeys((*database.plan.must_survive, DATABASE))
    return tuple(SurvivalGoal(name, goal, regions, primary) for name in named)


def _strict(database: PostgreSQL, gaps: list[Gap]) -> bool | None:
    """Whether Patroni lets no write be acknowledged without a synchronous standby, as it is set now."""
    replies = database.ask_members(database.members, patroni.SETTINGS)
    for _, reply in replies:
        try:
            return patroni.read_settings(reply).strict
        except ValueError:
            continue
    error = "; ".join(f"{member}: {reply.detail or reply.status}" for member, reply in replies)
    gaps.append(Gap("", "Patroni's settings", error, ("synchronous", "goals")))
    return None


def _health(database: PostgreSQL) -> tuple[HealthAnswer, ...]:
    return tuple(
        HealthAnswer(member.region, member.pod, path, reply.status, reply.detail)
        for path in (patroni.LIVENESS, patroni.READINESS)
        for member, reply in database.ask_members(database.members, path)
    )


# --- what clients find ----------------------------------------------------------------------------------------------


def _meet(database: PostgreSQL, names: dict[str, str]) -> dict[str, _Met]:
    """A session with each member that lets one in; whom it was with, by the member's name."""

    def meet(member: Member) -> _Met | None:
        try:
            with closing(database.session(member.region, (member,), ADMINISTRATION, within=WITHIN)) as session:
                return _who(session)
        except DatabaseError:
            return None

    return {names.get(member.name, str(member)): met for member, met in _at_once(meet, database.members) if met}


def _who(session: SqlSession) -> _Met:
    asked = time.time()
    [(address, told, version)] = session.query(WHO, within=WITHIN)
    return _Met(address, told - (asked + time.time()) / 2, version)


def _offset(name: str, met: dict[str, _Met]) -> float | None:
    """The mean offset of the other clocks from that of a node."""
    others = [other.offset for whose, other in met.items() if whose != name]
    return fmean(others) - met[name].offset if name in met and others else None


def _as_clients_get_it(database: PostgreSQL, strict: bool | None, gaps: list[Gap]) -> tuple[bool | None, str]:
    """Whether a commit waits for another region, and the isolation, both as sessions get them without asking."""
    try:
        with database.anywhere(ADMINISTRATION) as session:
            [(standbys, commit)] = session.query(DURABILITY, within=WITHIN)
            [(isolation,)] = session.query("SHOW default_transaction_isolation", within=WITHIN)
    except DatabaseError as error:
        gaps.append(Gap("", "settings of a session", str(error), ("synchronous", "isolation", "goals")))
        return None, ""
    waits = bool(standbys) and commit in DURABLE
    return (strict and waits) if strict is not None else None, isolation


def _served(
    database: PostgreSQL, nodes: Sequence[DatabaseNode], met: dict[str, _Met], gaps: list[Gap]
) -> tuple[tuple[Gateway, ...], tuple[Crossing, ...], tuple[Crossing, ...]]:
    """What each region's clients find at their entrance, and what they see of each other's rows, small and large."""
    entered = [
        gateway for _, gateway in _at_once(lambda region: _enter(database, region, nodes, met), database.regions)
    ]
    try:
        with _writers(database) as (writers, refused):
            crossings = tuple(_cross(database, writers, refused))
            large = _large_rows(database, writers, gaps)
    except DatabaseError as error:
        gaps.append(Gap("", "a table to write to", str(error), ("crossings", "large_rows")))
        return (
            tuple(replace(gateway, written=False, detail=gateway.detail or str(error)) for gateway in entered),
            (),
            (),
        )
    reading = {crossing.read_in for crossing in crossings if crossing.seen is not None}
    return (
        tuple(
            replace(
                gateway,
                # A client goes on to the next member where that of its region does not answer.
                read=gateway.region in reading or gateway.read,
                written=gateway.region not in refused,
                detail=gateway.detail or refused.get(gateway.region, ""),
            )
            for gateway in entered
        ),
        crossings,
        large,
    )


def _large_rows(database: PostgreSQL, writers: dict[str, SqlSession], gaps: list[Gap]) -> tuple[Crossing, ...]:
    """Rows of megabytes, each region's once. What came of them counts even where the table cannot be dropped."""
    found: tuple[Crossing, ...] = ()
    try:
        with database.scratch(large_rows.TABLE, large_rows.COLUMNS):
            found = tuple(large_rows.cross_large_rows(database.regions, writers))
    except DatabaseError as error:
        if not found:
            gaps.append(Gap("", "a table for large rows", str(error), ("large_rows",)))
    return found


def _enter(database: PostgreSQL, region: str, nodes: Sequence[DatabaseNode], met: dict[str, _Met]) -> Gateway:
    """Go in by the public Service of a region, as its clients do."""
    host, port = f"{database.plan.public_service}.{zone_of(database.fleet.plan, region)}", database.plan.sql_port
    entrance = f"{host}:{port}"
    try:
        with closing(database.enter(region, host, within=WITHIN)) as session:
            found = _who(session)
            [(cluster,)] = session.query(CLUSTER_ID, within=WITHIN)
    except DatabaseError as error:
        return Gateway(region, entrance, "", "", "", "", read=False, detail=str(error))
    name = next((name for name, other in met.items() if other.address == found.address), found.address)
    home = next((node.region for node in nodes if node.name == name), "")
    return Gateway(region, entrance, name, home, cluster, found.version, read=True)


@contextmanager
def _writers(database: PostgreSQL) -> Iterator[tuple[dict[str, SqlSession], dict[str, str]]]:
    """A session that writes for each region, over a table for crossings; why a region has none."""
    with database.scratch(CROSSINGS, "id uuid PRIMARY KEY"):
        writers: dict[str, SqlSession] = {}
        refused: dict[str, str] = {}

        def connect(region: str) -> SqlSession | DatabaseError:
            try:
                return database.connect(region, Access.WRITE, within=2 * WITHIN)
            except DatabaseError as error:
                return error

        for region, session in _at_once(connect, database.regions):
            if isinstance(session, DatabaseError):
                refused[region] = str(session)
            else:
                writers[region] = session
        try:
            yield writers, refused
        finally:
            for session in writers.values():
                session.close()


def _cross(database: PostgreSQL, writers: dict[str, SqlSession], refused: dict[str, str]) -> Iterator[Crossing]:
    """Write a row through each region's client, and look for it through all others at once."""
    for source in database.regions:
        row, problem = uuid4(), refused.get(source, "")
        others = [region for region in database.regions if region != source]
        if not problem:
            try:
                writers[source].query(WRITE, (row,), within=WITHIN)
            except DatabaseError as error:
                refused[source] = problem = str(error)
        acknowledged = time.monotonic()
        if problem:
            yield from (Crossing(source, other, None, detail=f"not written: {problem}") for other in others)
            continue

        look = partial(_look, writers, refused, row, source, acknowledged)
        yield from (crossing for _, crossing in _at_once(look, others))


def _look(
    writers: dict[str, SqlSession], refused: dict[str, str], row: UUID, source: str, acknowledged: float, region: str
) -> Crossing:
    """Look for a row through a region's client."""
    try:
        if region in refused:
            raise DatabaseError(refused[region])
        found = writers[region].query(LOOK, (row,), within=WITHIN)
    except DatabaseError as error:
        return Crossing(source, region, None, detail=f"not read: {error}")
    return Crossing(source, region, bool(found), time.monotonic() - acknowledged)


def _at_once(work: Callable[[T], R], items: Sequence[T]) -> list[tuple[T, R]]:
    if not items:
        return []
    with ThreadPoolExecutor(max_workers=len(items), thread_name_prefix="database") as pool:
        return list(zip(items, pool.map(work, items), strict=True))
