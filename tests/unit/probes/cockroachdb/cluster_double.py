"""A CockroachDB cluster that is only answers: rows and pages as releases 22.2 to 26.1 shape them.

Its state is what tests change; `answer` is what a node says in SQL, `page` what it says over HTTPS.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from tests.unit.probes.cockroachdb.wire_double import (
    BOOL,
    INT8,
    INT8S,
    JSONB,
    TEXT,
    TEXTS,
    TIMESTAMP,
    Client,
    RefusalError,
    Table,
)

REGIONS = ("us-east-1", "us-east-2", "us-west-1")
RELEASES = ("v22.2.19", "v23.2.5", "v24.1.4", "v25.2.3", "v25.4.1", "v26.1.0")
NOW = datetime(2026, 11, 22, 12, 0, 0)


@dataclass
class Node:
    """A node of the double."""

    number: int
    region: str
    tag: str
    locality: str = ""
    advertised: str = ""
    live: bool = True
    membership: str = "active"
    offset_ns: int = 1_200_000
    underreplicated: int = 0
    unavailable: int = 0
    ready: int = 200
    unreachable: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        place = (self.number - 1) % 3
        self.locality = self.locality or f"cloud=aws,region={self.region}"
        self.advertised = self.advertised or f"cockroachdb-{place}.cockroachdb.{self.region}.svc.cluster.local:26257"

    @property
    def store(self) -> int:
        """Stores were numbered in another order than nodes: whoever takes one for the other is found out."""
        return 10 - self.number


@dataclass
class Range:
    """A range of the double: its replicas are nodes."""

    number: int
    start: str
    database: str | None
    table: str | None
    voters: Sequence[int]
    others: Sequence[int] = ()
    learners: Sequence[int] = ()
    leaseholder: int = 0


class ClusterDouble:
    """Three regions of three nodes, whole, until a test changes it."""

    def __init__(self, tag: str, rows: Path) -> None:
        self.tag = tag
        self.rows = rows
        self.refuses: dict[str, tuple[str, str]] = {}
        self.release = tuple(map(int, re.match(r"v(\d+)\.(\d+)", tag).groups()))
        self.nodes = [Node(number, REGIONS[(number - 1) // 3], tag) for number in range(1, 10)]
        everywhere = (2, 1, 4, 5, 7)
        self.ranges = [
            Range(1, "/Meta1/", "system" if self.release < (23, 2) else None, None, everywhere, leaseholder=1),
            Range(2, "/System/NodeLiveness", None, None, everywhere, leaseholder=4),
            Range(4, "/System/tsd", None, None, (1, 4, 7), leaseholder=7),
            Range(11, "/Table/3", "system", "descriptor", everywhere, leaseholder=1),
            Range(71, "/Table/106", "meshproof", "ledger", everywhere, leaseholder=2),
        ]
        self.databases = {
            "defaultdb": (None, (), None),
            "meshproof": ("us-east-1", REGIONS, "region"),
            "system": (None, (), None),
        }
        self.max_offset = "--max-offset=500ms"
        self.internals_forbidden = False
        self.licensed = True
        self.quorum = True
        self.cluster_id = dict.fromkeys(REGIONS, "3f0b5d5e-7a53-4d0e-9a53-b9a4d7f8c1aa")
        self.isolation = "serializable"
        self.executed: list[str] = []

    # --- SQL --------------------------------------------------------------------------------------------------------

    def answer(self, region: str, client: Client, statement: str, arguments: Sequence[str | None]) -> Table:
        """What a node of that region says to a statement. Raises RefusalError."""
        text = " ".join(statement.split()).rstrip(";")
        self.executed.append(text)
        for word, (code, message) in self.refuses.items():
            if text.upper().startswith(word):
                raise RefusalError(code, message)
        for pattern, method in _STATEMENTS:
            if re.match(pattern, text, re.I):
                return method(self, region, client, text)
        return self._on_rows(client, text, arguments)

    def _on_rows(self, client: Client, text: str, arguments: Sequence[str | None]) -> Table:
        """The workloads' statements, on a SQLite: what it takes of SQL is enough for them."""
        if client.rows is None:
            client.rows = sqlite3.connect(self.rows, timeout=20, isolation_level=None, check_same_thread=False)
        text = re.sub(r" DEFAULT gen_random_uuid\(\)| AS OF SYSTEM TIME \S+", "", text).replace("$", "?")
        text = text.replace("id uuid PRIMARY KEY", "id INTEGER PRIMARY KEY")
        values = [int(each) if each is not None and re.fullmatch(r"-?\d+", each) else each for each in arguments]
        try:
            cursor = client.rows.execute(text, values)
            rows = cursor.fetchall()
        except sqlite3.OperationalError as error:
            raise RefusalError("42601", f"at or near {text.split()[0]!r}: syntax error: {error}") from error
        word = text.split()[0].upper()
        if cursor.description:
            texts = [isinstance(value, str) for value in rows[0]] if rows else [False] * len(cursor.description)
            columns = [(each[0], TEXT if text else INT8) for each, text in zip(cursor.description, texts, strict=True)]
            return Table(columns, rows, tag="INSERT 0" if word == "INSERT" else word)
        return Table((), tag=f"INSERT 0 {cursor.rowcount}" if word == "INSERT" else f"{word} {cursor.rowcount}")

    def _begin(self, region, client, text):
        word = text.split()[0].upper()
        if client.rows is not None:
            client.rows.execute("BEGIN IMMEDIATE" if word in ("BEGIN", "START") else word)
        return Table((), tag=word)

    def _set(self, region, client, text):
        name, _, value = re.match(r"SET (?:SESSION )?(\w+)(?: =| TO)? ?(.*)", text, re.I)[0][4:].partition(" ")
        if name == "allow_unsafe_internals":
            if self.release < (25, 4):
                raise RefusalError("42704", 'unrecognized configuration parameter "allow_unsafe_internals"')
            client.settings[name] = value.strip("= ")
        return Table((), tag="SET")

    def _version(self, region, client, text):
        said = f"CockroachDB CCL {self.tag} (x86_64-pc-linux-gnu, built 2025/01/01 00:00:00, go1.23.0)"
        return Table([("version", TEXT)], [(said,)])

    def _locality(self, region, client, text):
        node = next(node for node in self.nodes if node.region == region)
        return Table([("locality", TEXT)], [(node.locality,)])

    def _isolation(self, region, client, text):
        return Table([("default_transaction_isolation", TEXT)], [(self.isolation,)])

    def _regions(self, region, client, text):
        known: dict[str, None] = {}
        for node in self.nodes:
            tiers = dict(part.partition("=")[::2] for part in node.locality.split(","))
            if "region" in tiers:
                known[tiers["region"]] = None
        return Table([("region", TEXT), ("zones", TEXTS)], [(name, []) for name in known])

    def _databases(self, region, client, text):
        columns = [("database_name", TEXT), ("owner", TEXT), ("primary_region", TEXT)]
        if self.release >= (22, 2):
            columns.append(("secondary_region", TEXT))
        columns += [("regions", TEXTS), ("survival_goal", TEXT)]
        rows = []
        for name, (primary, regions, goal) in self.databases.items():
            secondary = [None] if self.release >= (22, 2) else []
            rows.append((name, "root", primary, *secondary, list(regions), goal))
        return Table(columns, rows)

    def _zones(self, region, client, text):
        goal = self.databases["meshproof"][2]
        voters = 3 if goal == "zone" else 5
        said = f"ALTER DATABASE meshproof CONFIGURE ZONE USING num_replicas = 5, num_voters = {voters}"
        return Table(
            [("target", TEXT), ("raw_config_sql", TEXT)],
            [
                ("RANGE default", "ALTER RANGE default CONFIGURE ZONE USING num_replicas = 3"),
                ("DATABASE meshproof", said),
            ],
        )

    def _cluster_id(self, region, client, text):
        self._internal(client)
        return Table(
            [("cluster_id", TEXT), ("node_id", INT8)], [(self.cluster_id[region], self._gateway(region).number)]
        )

    def _gossip(self, region, client, text):
        self._internal(client)
        columns = [("node_id", INT8), ("advertise_address", TEXT), ("locality", TEXT), ("build_tag", TEXT)]
        started = NOW - timedelta(hours=1)
        return Table(
            [*columns, ("started_at", TIMESTAMP)],
            [(node.number, node.advertised, node.locality, node.tag, started) for node in self.nodes],
        )

    def _liveness(self, region, client, text):
        self._internal(client)
        columns = [("node_id", INT8), ("live", BOOL), ("membership", TEXT)]
        return Table(columns, [(node.number, node.live, node.membership) for node in self.nodes])

    def _stores(self, region, client, text):
        self._internal(client)
        return Table([("node_id", INT8), ("store_id", INT8)], [(node.number, node.store) for node in self.nodes])

    def _status(self, region, client, text):
        self._internal(client)
        rows = []
        for node in self.nodes:
            activity = {
                str(other.number): {"latency": 0 if other.number in node.unreachable else 21_000_000}
                for other in self.nodes
                if other is not node
            }
            args = ["cockroach", "start", "--certs-dir=/cockroach/cockroach-certs", *self.max_offset.split()]
            rows.append((node.number, _json(activity), _json(args)))
        return Table([("node_id", INT8), ("activity", JSONB), ("args", JSONB)], rows)

    def _old_ranges(self, region, client, text):
        self._internal(client)
        if self.release >= (23, 2):
            raise RefusalError("42703", 'column "database_name" does not exist')
        columns = [("range_id", INT8), ("start_key", TEXT), ("database_name", TEXT), ("table_name", TEXT)]
        return Table([*columns, *_REPLICAS], [self._row(each)[:4] + self._replicas(each) for each in self.ranges])

    def _ranges(self, region, client, text):
        if self.release < (23, 2):
            raise RefusalError("42601", 'at or near "ranges": syntax error')
        details = "DETAILS" in text
        columns = [("range_id", INT8), ("start_key", TEXT), ("database_name", TEXT), ("table_name", TEXT), *_REPLICAS]
        if details and not self.quorum:
            raise RefusalError("XXUUU", "replica unavailable: (n1,s1):1 unable to serve request to r71: lost quorum")
        rows = []
        for each in self.ranges:
            row = self._row(each)[:4] + self._replicas(each)
            rows.append((*row, self._store(each.leaseholder)) if details else row)
            if each.table == "ledger":  # several small tables share a range
                second = (row[0], row[1], row[2], "bank", *row[4:])
                rows.append((*second, self._store(each.leaseholder)) if details else second)
        return Table([*columns, *([("lease_holder", INT8)] if details else [])], rows)

    def _create_database(self, region, client, text):
        name = re.search(r"DATABASE (?:IF NOT EXISTS )?\"?(\w+)", text, re.I)[1]
        primary = re.search(r'PRIMARY REGION "([^"]+)"', text, re.I)
        if primary and not self.licensed:
            raise RefusalError("XXC02", "use of multi-region features requires an enterprise license")
        if name not in self.databases:
            self.databases[name] = (
                primary[1] if primary else None,
                (primary[1],) if primary else (),
                "zone" if primary else None,
            )
        return Table((), tag="CREATE DATABASE")

    def _alter_database(self, region, client, text):
        name = re.match(r'ALTER DATABASE "?(\w+)', text, re.I)[1]
        primary, regions, goal = self.databases[name]
        if added := re.search(r'ADD REGION (?:IF NOT EXISTS )?"([^"]+)"', text, re.I):
            regions = (*dict.fromkeys((*regions, added[1])),)
        elif first := re.search(r'PRIMARY REGION "([^"]+)"', text, re.I):
            if not self.licensed:
                raise RefusalError("XXC02", "use of multi-region features requires an enterprise license")
            primary, regions, goal = first[1], tuple(dict.fromkeys((*regions, first[1]))), goal or "zone"
        elif survive := re.search(r"SURVIVE (ZONE|REGION) FAILURE", text, re.I):
            if survive[1].upper() == "REGION" and len(regions) < 3:
                raise RefusalError("42602", "at least 3 regions are required for surviving a region failure")
            goal = survive[1].lower()
        self.databases[name] = (primary, regions, goal)
        return Table((), tag="ALTER DATABASE")

    def _drop_database(self, region, client, text):
        if "meshproof_goal" not in text:
            self.rows.unlink(missing_ok=True)
        self.databases.pop(re.search(r"DATABASE (?:IF EXISTS )?\"?(\w+)", text, re.I)[1], None)
        return Table((), tag="DROP DATABASE")

    def _internal(self, client: Client) -> None:
        """Refuse what is internal where the release guards it."""
        allowed = client.settings.get("allow_unsafe_internals") or ("off" if self.release >= (26, 1) else "on")
        if self.internals_forbidden or allowed not in ("on", "true"):
            raise RefusalError("42501", "Access to crdb_internal and system is restricted.")

    def _gateway(self, region: str) -> Node:
        return next(node for node in self.nodes if node.region == region)

    def _store(self, number: int) -> int:
        return self.nodes[number - 1].store

    def _row(self, each: Range) -> tuple:
        return (each.number, each.start, each.database, each.table)

    def _replicas(self, each: Range) -> tuple:
        stores = sorted(self._store(number) for number in (*each.voters, *each.others))
        places = {node.store: node.locality for node in self.nodes}
        return (
            stores,
            [places[store] for store in stores],
            [self._store(number) for number in each.voters],
            [self._store(number) for number in each.learners],
        )

    # --- HTTPS ------------------------------------------------------------------------------------------------------

    def page(self, region: str, place: int, path: str) -> tuple[int, str]:
        """Status and body that the console of a region's node answers with."""
        node = [each for each in self.nodes if each.region == region][place]
        if path == "/health":
            return 200, "{}"
        if path == "/health?ready=1":
            body = '{"error": "node is not healthy", "code": 14}' if node.ready != 200 else "{}"
            return node.ready, body
        if path == "/_status/vars":
            labels = (
                f'{{store="{node.store}",node_id="{node.number}"}}'
                if self.release >= (23, 2)
                else f'{{store="{node.store}"}}'
            )
            return 200, (
                "# HELP ranges_unavailable Number of ranges with fewer live replicas than needed for quorum\n"
                "# TYPE ranges_unavailable gauge\n"
                f"ranges_unavailable{labels} {node.unavailable}\n"
                f"ranges_underreplicated{labels} {node.underreplicated}\n"
                f"node_id {node.number}\n"
                f"clock_offset_meannanos {node.offset_ns:.6g}\n"
                "sys_uptime 3600\n"
            )
        return 401, "unauthorized"


_REPLICAS = (
    ("replicas", INT8S),
    ("replica_localities", TEXTS),
    ("voting_replicas", INT8S),
    ("learner_replicas", INT8S),
)

_STATEMENTS = (
    (r"(BEGIN|START TRANSACTION|COMMIT|ROLLBACK)", ClusterDouble._begin),
    (r"SET ", ClusterDouble._set),
    (r"SELECT version\(\)", ClusterDouble._version),
    (r"SHOW LOCALITY", ClusterDouble._locality),
    (r"SHOW default_transaction_isolation", ClusterDouble._isolation),
    (r"SHOW REGIONS FROM CLUSTER", ClusterDouble._regions),
    (r"SHOW DATABASES", ClusterDouble._databases),
    (r"SHOW ALL ZONE CONFIGURATIONS", ClusterDouble._zones),
    (r"SELECT crdb_internal.cluster_id\(\)", ClusterDouble._cluster_id),
    (r"SELECT .* FROM crdb_internal.gossip_nodes", ClusterDouble._gossip),
    (r"SELECT .* FROM crdb_internal.kv_node_liveness", ClusterDouble._liveness),
    (r"SELECT .* FROM crdb_internal.kv_store_status", ClusterDouble._stores),
    (r"SELECT .* FROM crdb_internal.kv_node_status", ClusterDouble._status),
    (r"SELECT .* FROM crdb_internal.ranges_no_leases", ClusterDouble._old_ranges),
    (r"SHOW CLUSTER RANGES", ClusterDouble._ranges),
    (r"CREATE DATABASE", ClusterDouble._create_database),
    (r"ALTER DATABASE", ClusterDouble._alter_database),
    (r"DROP DATABASE", ClusterDouble._drop_database),
)


def _json(value: object) -> str:

    return json.dumps(value)
