"""What is asked in SQL, release by release, and the facts in the rows.

`SHOW` statements come first: they work where the internal tables are shut. Store numbers are never taken for node
numbers: localities are told with the replicas, and `kv_store_status` tells whose a store is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, TypeAlias

from analysis.facts import DatabaseNode, NodeLink, Placement, Replica, SurvivalGoal, ZoneConfiguration
from probes.database.cockroachdb.release import Release, tier
from probes.database.port import DatabaseError

Rows: TypeAlias = Sequence[Mapping[str, Any]]
Ask: TypeAlias = Callable[[str], Rows]
"""Runs a statement and returns its rows by column name; raises `DatabaseError` in the database's own words."""

ALLOW_INTERNALS = "SET allow_unsafe_internals = on"
CLUSTER_REGIONS = "SHOW REGIONS FROM CLUSTER"
DATABASES = "SHOW DATABASES"
ZONES = "SHOW ALL ZONE CONFIGURATIONS"
NODES = "SELECT node_id, advertise_address, locality, build_tag, started_at FROM crdb_internal.gossip_nodes"
LIVENESS = (
    "SELECT node_id, split_part(expiration, ',', 1)::FLOAT8 > extract(epoch FROM now()) AS live, membership "
    "FROM crdb_internal.kv_node_liveness"
)
STORES = "SELECT node_id, store_id FROM crdb_internal.kv_store_status"
STATUS = "SELECT node_id, activity, args FROM crdb_internal.kv_node_status"
RANGES = "SHOW CLUSTER RANGES WITH TABLES, DETAILS"
RANGES_WITHOUT_LEASES = "SHOW CLUSTER RANGES WITH TABLES"
OLD_RANGES = (
    "SELECT range_id, start_pretty AS start_key, database_name, table_name, replicas, replica_localities, "
    "voting_replicas, learner_replicas FROM crdb_internal.ranges_no_leases"
)

_SYSTEM_KEYS = ("/Meta", "/System", "/NamespaceTable", "/Min")
_TIME_SERIES = "/System/tsd"
_OFFSET_FLAG = "--max-offset"
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
DEFAULT_MAXIMUM_OFFSET_S = 0.5


@dataclass(frozen=True)
class Status:
    """What nodes keep of themselves: links to the others, and the flags that they were started with."""

    links: tuple[NodeLink, ...]
    maximum_offset: float | None


def regions(ask: Ask) -> tuple[str, ...]:
    """The regions that the cluster knows by its nodes' localities."""
    return tuple(sorted(str(row["region"]) for row in ask(CLUSTER_REGIONS)))


def goals(ask: Ask) -> tuple[SurvivalGoal, ...]:
    """Every database with what it is meant to survive."""
    return tuple(
        SurvivalGoal(
            str(row["database_name"]),
            row["survival_goal"] or None,
            tuple(row["regions"] or ()),
            row["primary_region"] or "",
        )
        for row in ask(DATABASES)
    )


def zones(ask: Ask) -> tuple[ZoneConfiguration, ...]:
    """All zone configurations, as the statements that would make them."""
    return tuple(ZoneConfiguration(str(row["target"]), str(row["raw_config_sql"] or "")) for row in ask(ZONES))


def nodes(ask: Ask, now: datetime) -> tuple[DatabaseNode, ...]:
    """All nodes that are, or were and have not been decommissioned.

    Whether one is live is read from the liveness records themselves, which are never stale: gossip may be, by minutes.
    """
    liveness = {row["node_id"]: row for row in ask(LIVENESS)}
    found = []
    for row in ask(NODES):
        record = liveness.get(row["node_id"])
        if record is not None and record["membership"] == "decommissioned":
            continue
        started = row["started_at"]
        found.append(
            DatabaseNode(
                name=str(row["node_id"]),
                region=tier(row["locality"], "region"),
                locality=row["locality"],
                advertised=row["advertise_address"],
                live=None if record is None else bool(record["live"]),
                version=row["build_tag"],
                uptime=(now - started.replace(tzinfo=UTC)).total_seconds() if started else None,
            )
        )
    missing = sorted(
        number
        for number, record in liveness.items()
        if record["membership"] == "active" and str(number) not in {node.name for node in found}
    )
    found += [DatabaseNode(str(number), "", "", "", bool(liveness[number]["live"]), "") for number in missing]
    return tuple(sorted(found, key=lambda node: int(node.name)))


def status(ask: Ask) -> Status:
    """The nodes' links by the round trips that they have measured, and the clock offset that all tolerate."""
    links, offsets = [], [DEFAULT_MAXIMUM_OFFSET_S]
    rows = ask(STATUS)
    for row in rows:
        source = str(row["node_id"])
        peers = {str(peer): told for peer, told in _json(row["activity"]).items()}
        offsets += _offsets(_json(row["args"]))
        for other in rows:
            target = str(other["node_id"])
            if target == source:
                continue
            told = peers.get(target)
            latency = told.get("latency") if told else None
            # No round trip was measured when the last attempts failed; no entry at all means that none was ever made.
            healthy = None if told is None else bool(latency)
            links.append(NodeLink(source, target, healthy, float(latency) / 1e9 if latency else None))
    return Status(tuple(links), min(offsets[1:], default=offsets[0]))


def placement(ask: Ask, release: Release) -> tuple[Placement, ...]:
    """Where the replicas of every range are; each range once, whatever number of tables shares it."""
    if not release.lists_voters:
        return _placed(ask(OLD_RANGES), _owners_of_stores(ask))
    try:
        rows = ask(RANGES)
    except DatabaseError:
        # With details every leaseholder is asked; without, only the meta ranges are read.
        rows = ask(RANGES_WITHOUT_LEASES)
    return _placed(rows, _owners_of_stores(ask))


def _owners_of_stores(ask: Ask) -> Mapping[int, str]:
    try:
        return {int(row["store_id"]): str(row["node_id"]) for row in ask(STORES)}
    except DatabaseError:
        return {}


def _placed(rows: Rows, owners: Mapping[int, str]) -> tuple[Placement, ...]:
    units: dict[int, Placement] = {}
    for row in rows:
        number = int(row["range_id"])
        if number in units:
            continue
        # `replica_localities` is parallel to `replicas` alone; the voters come in an order of their own.
        localities = dict(zip(row["replicas"], row["replica_localities"], strict=True))
        voters = set(row["voting_replicas"])
        replicas = tuple(
            Replica(owners.get(store, f"store {store}"), tier(locality, "region"), store in voters)
            for store, locality in sorted(localities.items())
        )
        holder = row.get("lease_holder")
        units[number] = Placement(
            unit=f"range {number}",
            owner=_owner(row),
            replicas=replicas,
            leader=owners.get(holder, f"store {holder}") if holder else "",
            moving=bool(row["learner_replicas"]),
            system=_is_system(row),
        )
    return tuple(units[number] for number in sorted(units))


def _owner(row: Mapping[str, Any]) -> str:
    start, database = str(row.get("start_key") or ""), row.get("database_name")
    if start.startswith(_TIME_SERIES):
        return "timeseries"
    if start.startswith("/Meta"):
        return "meta"
    if database:
        return f"{database}.{row['table_name']}" if row.get("table_name") else str(database)
    return "system" if start.startswith(_SYSTEM_KEYS) else start


def _is_system(row: Mapping[str, Any]) -> bool:
    """Whether the database as a whole hangs on this range; time series it can do without for a while."""
    start = str(row.get("start_key") or "")
    if start.startswith(_TIME_SERIES):
        return False
    return row.get("database_name") == "system" or start.startswith(_SYSTEM_KEYS)


def _offsets(args: Iterable[str]) -> Iterable[float]:
    """What `--max-offset` says among a node's arguments, in seconds ("250ms" and "250ms" after a space alike)."""
    words = [part for word in args for part in str(word).split("=", 1)]
    for flag, text in pairwise(words):
        if flag == _OFFSET_FLAG:
            number = text.rstrip("abcdefghijklmnopqrstuvwxyzµ")
            yield float(number) * _UNITS_S[text[len(number) :]]


def _json(value: Any) -> Any:
    """JSONB as its value: clients get it parsed, unless a column was cast to text."""
    return json.loads(value) if isinstance(value, str) else value or {}
