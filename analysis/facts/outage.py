"""An outage that was made on purpose, and all that was seen of it, on one clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from analysis.facts.gap import Gap
from analysis.facts.workloads import DatabasePod
from analysis.fleet import OutageMode
from analysis.history.operation import Operation


class Moment(str, Enum):
    """Moments of an outage, in their order. `Event.at` of each."""

    STEADY = "steady"
    """The database was whole, and clients were served."""

    BEGUN = "begun"
    """The first harmful command was about to be given."""

    EFFECTIVE = "effective"
    """The fault was seen to have its effect."""

    HEALING = "healing"
    """The first healing command was about to be given."""

    REST = "rest"
    """Of several lost regions one had returned, and the others were about to. Missing where all came at once."""

    HEALED = "healed"
    """All healing commands had been given."""

    WHOLE = "whole"
    """The database was whole again: all nodes live, nothing lacking replicas. Missing when that did not come."""

    ENDED = "ended"
    """The last client was done."""


@dataclass(frozen=True)
class Event:
    """One moment, with a remark."""

    moment: Moment
    at: float
    detail: str = ""


@dataclass(frozen=True)
class PathSample:
    """Whether a probe of one region answered one of another (TCP, new connection), at that time."""

    at: float
    source: str
    target: str
    answered: bool


@dataclass(frozen=True)
class RouteSample:
    """How many of a remote region's blocks a region had routes to (BGP), or nodes in its tunnel map (Cilium)."""

    at: float
    region: str
    remote: str
    routes: int


@dataclass(frozen=True)
class NodeSight:
    """What a database pod said of itself on its console port, seen from its own region.

    Attributes:
        ready: its answer for readiness; None when it gave none.
        role: as `NodeRole`, "" when not told.
    """

    at: float
    region: str
    pod: str
    ready: bool | None
    role: str = ""


@dataclass(frozen=True)
class PodEnd:
    """How a pod that was told to end did end.

    Attributes:
        seconds: from the order to its end.
        exit_code: of its database container, None when not seen.
        grace: what it had (s).
    """

    region: str
    pod: str
    seconds: float | None
    exit_code: int | None
    grace: float


@dataclass(frozen=True)
class Outage:
    """One outage: what was done, what clients got, what the network and the database showed.

    All times are seconds of the runner's monotonic clock; `wall` is the wall clock's time at monotonic `origin`.

    Attributes:
        name: of the experiment ("pods-us-east-1").
        engine: of the database, as in `Database.engine`.
        version: likewise.
        mode: what was done.
        regions: to whom.
        primary: region of the primary, or of the workload's leaseholders, before; "" when not known.
        events: the moments, in order.
        operations: of all clients, from before the fault until after the healing.
        finals: the reads of everything once the database was whole, one of each kind from each region.
        paths: reachability between regions meanwhile.
        routes: likewise, what the mesh's control planes knew.
        sights: likewise, what database pods said of themselves.
        before: the database pods before the fault.
        after: likewise, at the end.
        ends: of pods that were told to end.
        seconds: how long the experiment took in all.
        remarks: for the reader of the timeline.
    """

    name: str
    engine: str
    version: str
    mode: OutageMode
    regions: tuple[str, ...]
    primary: str
    origin: float
    wall: float
    events: tuple[Event, ...]
    operations: tuple[Operation, ...]
    finals: tuple[Operation, ...]
    paths: tuple[PathSample, ...] = ()
    routes: tuple[RouteSample, ...] = ()
    sights: tuple[NodeSight, ...] = ()
    before: tuple[DatabasePod, ...] = ()
    after: tuple[DatabasePod, ...] = ()
    ends: tuple[PodEnd, ...] = ()
    seconds: float = 0.0
    remarks: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()

    def at(self, moment: Moment) -> float | None:
        """When that moment was; None when it did not come."""
        return next((event.at for event in self.events if event.moment is moment), None)
