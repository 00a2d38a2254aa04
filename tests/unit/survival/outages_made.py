"""Outages as a correct database would have them, and every way in which they can go wrong."""

from __future__ import annotations

from dataclasses import replace

from analysis.facts.database import Database, DatabaseNode, Placement, Replica
from analysis.facts.outage import Event, Moment, NodeSight, Outage, PathSample, PodEnd
from analysis.facts.workloads import DatabasePod
from analysis.fleet import OutageMode
from analysis.history.operation import Act, Operation, Result
from provision.lab.topology import aws_calico

PLAN = aws_calico("demo", regions=3, nodes=2).plan
REGIONS = tuple(region.name for region in PLAN.regions)
A, B, C = REGIONS
STEADY, BEGUN, EFFECTIVE, HEALING, HEALED, WHOLE, ENDED = 0.0, 10.0, 10.5, 50.0, 51.0, 53.0, 65.0
FAILOVER = (10.2, 14.0)
MEANWHILE = (EFFECTIVE - 0.3, HEALED)


def outage(
    mode: OutageMode = OutageMode.PODS,
    lost: tuple[str, ...] = (A,),
    *,
    away: dict[str, tuple[float, float]] | None = None,
    every: float = 0.5,
    **changes: object,
) -> Outage:
    """An outage in which clients try a write and a read each half second, and each takes 0.1 s.

    Args:
        mode: what was done.
        lost: to whom.
        away: by region, from when to when its clients are not served; by default others than the lost ones for the
            time of a failover, and the lost ones until the healing.
        every: time between two operations of a client (s).
        changes: fields of the outage that are otherwise.
    """
    if away is None:
        away = {region: MEANWHILE if region in lost else FAILOVER for region in REGIONS}
    name = f"{mode.value}-{'-'.join(lost)}"
    operations: list[Operation] = []
    written: list[int] = []

    def did(client: int, act: Act, at: float, result: Result, **more: object) -> None:
        number = len(operations)
        fields = {"key": f"ledger of {name}", "value": (), "answer": (), "region": REGIONS[client % 3]} | more
        code = "" if result is Result.OK else "57P01"
        operations.append(
            Operation(number, client, act=act, invoked=at, completed=at + 0.1, result=result, code=code, **fields)
        )

    for turn in range(int(ENDED / every)):
        at = turn * every
        served = [not since <= at < until for since, until in (away.get(region, (0.0, 0.0)) for region in REGIONS)]
        for place in range(3):
            if served[place]:
                written.append(len(operations))
            result = Result.OK if served[place] else Result.UNKNOWN
            did(place if served[place] else 3 * turn + place + 30, Act.APPEND, at, result, value=(len(operations),))
        for place in range(3):
            if not served[place]:
                did(3 + place, Act.READ, at + 0.15, Result.FAILED, key="register")
            elif turn % 20:
                did(3 + place, Act.READ, at + 0.15, Result.OK, key="register")
            else:
                did(3 + place, Act.READ_LEDGER, at + 0.15, Result.OK, answer=tuple(written))
    finals = tuple(
        Operation(len(operations) + n, 6 + n, region, Act.READ_LEDGER, f"ledger of {name}", (), tuple(written),
                  ENDED + n, ENDED + n + 0.5, Result.OK)
        for n, region in enumerate(REGIONS)
    )  # fmt: skip
    pods = tuple(pod(region) for region in REGIONS)
    made = Outage(
        name=name,
        engine="postgresql",
        version="18.1",
        mode=mode,
        regions=lost,
        primary=A,
        origin=0.0,
        wall=1_800_000_000.0,
        events=tuple(
            Event(moment, at)
            for moment, at in {
                Moment.STEADY: STEADY,
                Moment.BEGUN: BEGUN,
                Moment.EFFECTIVE: EFFECTIVE,
                Moment.HEALING: HEALING,
                Moment.HEALED: HEALED,
                Moment.WHOLE: WHOLE,
                Moment.ENDED: ENDED,
            }.items()
        ),
        operations=tuple(operations),
        finals=finals,
        paths=tuple(PathSample(float(at), a, b, True) for at in range(int(ENDED)) for a in REGIONS for b in REGIONS),
        sights=tuple(
            NodeSight(float(at), region, "cockroachdb-0", not (region in lost and EFFECTIVE + 8 < at < HEALED))
            for at in range(int(ENDED))
            for region in REGIONS
        ),
        before=pods,
        after=pods,
        ends=(PodEnd(A, "cockroachdb-0", 1.5, 0, 60.0),) if mode is OutageMode.SHUTDOWN else (),
    )
    return replace(made, **changes)


def pod(region: str, uid: str = "1", restarts: int = 0, started: str = "2026-11-22T10:00:00Z") -> DatabasePod:
    return DatabasePod(
        region, region, "cockroachdb-0", uid, f"{region}-node-1", "Running", True, restarts, "i", started
    )


def without(made: Outage, *moments: Moment) -> Outage:
    """That outage, and these moments were not seen."""
    return replace(made, events=tuple(event for event in made.events if event.moment not in moments))


def moved(made: Outage, moment: Moment, at: float) -> Outage:
    """That outage, and that moment came at another time."""
    return replace(made, events=tuple(replace(e, at=at) if e.moment is moment else e for e in made.events))


DATABASE = Database(
    engine="postgresql",
    version="18.1",
    nodes=tuple(
        DatabaseNode(f"{region}-0", region, f"region={region}", f"cockroachdb-0.cockroachdb.{region}:26257", True, "")
        for region in REGIONS
    ),
    placement=(Placement("instance", "system", tuple(Replica(f"{r}-0", r, True) for r in REGIONS), f"{A}-0"),),
    synchronous=True,
)  # fmt: skip
