"""What the database says of itself: its nodes, how they see each other, where its data lies.

The same facts for every engine. What one engine has and another has not is left empty, and `Database.engine` tells
judges which promises can be asked of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from analysis.facts.gap import Gap

COCKROACHDB, POSTGRESQL = "cockroachdb", "postgresql"
"""Engines: the database that is meant, and the stand-in (PostgreSQL with Patroni and etcd)."""


class NodeRole(str, Enum):
    """The part that a node has in replication."""

    PEER = "peer"
    """All nodes are alike (CockroachDB)."""

    PRIMARY = "primary"
    """The one that takes writes."""

    SYNCHRONOUS = "synchronous"
    """A standby without which no write is acknowledged; it may take over."""

    REPLICA = "replica"
    """A standby that may lag behind."""


@dataclass(frozen=True)
class DatabaseNode:
    """A node of the database, as the database lists it.

    Attributes:
        name: its number (CockroachDB), or its member name (Patroni); unique in the database.
        region: the `region` tier of its locality, "" where it has none.
        locality: all tiers as the node states them ("region=us-east-1,zone=a").
        advertised: host:port by which the others reach it.
        live: whether the database holds it for live; None when that is not told.
        version: what it runs ("v23.2.5").
        role: its part in replication.
        clock_offset: the mean offset that it measures of the others' clocks (s), None when not told.
        uptime: for how long it has run (s), None when not told.
        timeline: of its history (PostgreSQL), None where there are none.
    """

    name: str
    region: str
    locality: str
    advertised: str
    live: bool | None
    version: str
    role: NodeRole = NodeRole.PEER
    clock_offset: float | None = None
    uptime: float | None = None
    timeline: int | None = None


@dataclass(frozen=True)
class Gateway:
    """What a client in a region finds at the database's entrance there.

    Attributes:
        region: where the client is.
        entrance: host:port that it connected to.
        node: name of the node that answered; "" when none did.
        node_region: region of that node.
        cluster: the database cluster's id, as that node tells it.
        version: what that node runs.
        read: whether a read of current data succeeded; None when not tried.
        written: whether a write was acknowledged; None when not tried.
        detail: why something failed, in the database's words.
    """

    region: str
    entrance: str
    node: str
    node_region: str
    cluster: str
    version: str
    read: bool | None = None
    written: bool | None = None
    detail: str = ""


@dataclass(frozen=True)
class NodeLink:
    """The connection of one node to another, as the first one sees it.

    Attributes:
        healthy: None when it does not tell.
        round_trip: s, None when not told.
    """

    source: str
    target: str
    healthy: bool | None
    round_trip: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Replica:
    """One copy of a unit of data. `node` is the name of a node; `region` is "" when its node's locality tells none."""

    node: str
    region: str
    voter: bool


@dataclass(frozen=True)
class Placement:
    """Where the copies of one unit of data are: of a range (CockroachDB), or of the whole instance (PostgreSQL).

    Attributes:
        unit: "range 71", "instance".
        owner: whose data: "bank.accounts", "system", "meta", "timeseries".
        replicas: all of them, voters and others.
        leader: name of the node that holds the lease, or of the primary; "" when not told.
        moving: a change of replicas is under way (learners).
        system: the database itself cannot do without it (meta, liveness, users ...).
    """

    unit: str
    owner: str
    replicas: tuple[Replica, ...]
    leader: str = ""
    moving: bool = False
    system: bool = False


@dataclass(frozen=True)
class SurvivalGoal:
    """What a database (in the sense of SQL) is meant to survive.

    Attributes:
        database: its name.
        goal: "zone" or "region", None where it has no regions.
        regions: those that it has.
        primary: the primary one, "" for none.
        accepts_region: whether the goal "region" can be set (tried on a database of our own); None when not tried.
    """

    database: str
    goal: str | None
    regions: tuple[str, ...] = ()
    primary: str = ""
    accepts_region: bool | None = None


@dataclass(frozen=True)
class ReplicationCount:
    """What one node counts (CockroachDB: its metrics). None when it did not tell."""

    node: str
    underreplicated: int | None
    unavailable: int | None


@dataclass(frozen=True)
class Crossing:
    """A row committed through one region, then read through another with no wait.

    Attributes:
        seen: whether the row was there; None when it could not be tried.
        after: time from the acknowledgement to the answer (s).
        size: of the row (bytes), where it is a large one; else 0.
    """

    written_in: str
    read_in: str
    seen: bool | None
    after: float | None = None
    detail: str = ""
    size: int = 0


@dataclass(frozen=True)
class HealthAnswer:
    """What a pod answers on the console port, asked from another pod of its region over verified TLS.

    Attributes:
        path: "/health", "/health?ready=1" (Patroni: "/liveness", "/readiness").
        status: of HTTP, None when nothing answered.
    """

    region: str
    pod: str
    path: str
    status: int | None
    detail: str = ""


@dataclass(frozen=True)
class InitTrial:
    """A further attempt to initialise the database, which must be turned down.

    Attributes:
        refused: None when it could not be tried.
        detail: what was said.
    """

    region: str
    pod: str
    refused: bool | None
    detail: str = ""


@dataclass(frozen=True)
class FirstStart:
    """How a pod stood before the database was initialised; only whoever builds an environment can see it.

    Attributes:
        ready: of the pod's conditions.
        status: what its health address for readiness answered, None when nothing.
    """

    region: str
    pod: str
    phase: str
    ready: bool
    status: int | None


@dataclass(frozen=True)
class ZoneConfiguration:
    """`SHOW ZONE CONFIGURATION` (CockroachDB): target ("RANGE default"), and the statement that would make it."""

    target: str
    statement: str


@dataclass(frozen=True)
class Database:
    """All that the database tells of itself.

    Attributes:
        engine: COCKROACHDB or POSTGRESQL.
        version: of the product, as it states it; "" when nobody answered.
        regions: those that the database knows (`SHOW REGIONS FROM CLUSTER`).
        nodes: empty when nobody told.
        crossings: of small rows, for every ordered pair of regions.
        large_rows: of rows of megabytes, each region's once.
        maximum_offset: of clocks, beyond which nodes stop themselves (s); None when there is none.
        synchronous: whether a write waits for a second region (PostgreSQL), None when not told or not so.
        isolation: of a session as applications get it ("serializable").
        gaps: `Gap.parts` names the field that is left open ("nodes", "links", "placement" ...).
    """

    engine: str
    version: str = ""
    regions: tuple[str, ...] = ()
    nodes: tuple[DatabaseNode, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    links: tuple[NodeLink, ...] = ()
    placement: tuple[Placement, ...] = ()
    goals: tuple[SurvivalGoal, ...] = ()
    counts: tuple[ReplicationCount, ...] = ()
    crossings: tuple[Crossing, ...] = ()
    large_rows: tuple[Crossing, ...] = ()
    health: tuple[HealthAnswer, ...] = ()
    init: tuple[InitTrial, ...] = ()
    first_starts: tuple[FirstStart, ...] = ()
    zones: tuple[ZoneConfiguration, ...] = ()
    maximum_offset: float | None = None
    synchronous: bool | None = None
    isolation: str = ""
    gaps: tuple[Gap, ...] = ()
