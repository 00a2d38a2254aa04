"""A database as facts, of either engine and as planned, to be broken by tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any, TypeVar

from analysis.facts import (
    COCKROACHDB,
    POSTGRESQL,
    Binding,
    Crossing,
    Database,
    DatabaseNode,
    DatabasePod,
    DisruptionBudget,
    FirstStart,
    Gateway,
    HealthAnswer,
    InitTrial,
    NodeLink,
    NodeRole,
    NodeRoom,
    Placement,
    Replica,
    ReplicationCount,
    StatefulSet,
    StorageClass,
    Subject,
    SurvivalGoal,
    VolumeClaim,
    Workloads,
)
from analysis.members import planned_members
from analysis.plan import Plan

GIB = 1 << 30
IMAGE = "cockroachdb/cockroach:v23.2.5"
SCRIPT = """\
exec /cockroach/cockroach start --logtostderr --certs-dir /cockroach/cockroach-certs \\
  --advertise-host $(hostname -f) --http-addr 0.0.0.0 --join {join} \\
  --locality=cloud=aws,region={region} --cache $(expr $MEMORY_LIMIT_MIB / 4)MiB
"""
F = TypeVar("F", Database, Workloads)


def change(
    facts: F, collection: str, alter: Callable[[Any], Any], where: Callable[[Any], bool] = lambda item: True
) -> F:
    """Facts in which `alter` was applied to what `where` picks of a collection; what became None is gone."""
    items = getattr(facts, collection)
    assert any(where(item) for item in items), f"nothing to change in {collection}"
    changed = [alter(item) if where(item) else item for item in items]
    return replace(facts, **{collection: tuple(item for item in changed if item is not None)})


def at(region: str, *names: str) -> Callable[[Any], bool]:
    """Picks what is in that region, and bears one of those names, where any is given."""

    def chosen(item: Any) -> bool:
        return item.region == region and (not names or (getattr(item, "name", "") or item.pod) in names)

    return chosen


def join_list(plan: Plan) -> str:
    """As the published manifests have it."""
    return ",".join(member.name.removesuffix(".svc.cluster.local") for member in planned_members(plan))


def command(join: str, region: str) -> tuple[str, ...]:
    """What the container runs."""
    return ("/bin/bash", "-ecx", SCRIPT.format(join=join, region=region))


def ranges(plan: Plan) -> tuple[Placement, ...]:
    """Ranges of CockroachDB: five voters of what matters, three of the rest."""
    names = [region.name for region in plan.regions]

    def placed(number: int, owner: str, *voters: int, others: tuple[int, ...] = (), system: bool = False) -> Placement:
        replicas = [Replica(str(node), names[(node - 1) // 3], voter=True) for node in voters]
        replicas += [Replica(str(node), names[(node - 1) // 3], voter=False) for node in others]
        return Placement(f"range {number}", owner, tuple(replicas), str(voters[0]), system=system)

    return (
        placed(1, "meta", 1, 2, 4, 5, 7, system=True),
        placed(2, "system", 1, 4, 5, 7, 8, system=True),
        placed(70, "timeseries", 1, 4, 7),
        placed(71, "meshproof.ledger", 1, 2, 4, 5, 7),
        placed(72, "meshproof.bank", 1, 2, 4, 5, 7),
        placed(80, "reports.pages", 1, 2, 3, others=(4, 7)),
    )


def cockroachdb(plan: Plan) -> Database:
    """Three nodes in each region, as CockroachDB tells of them."""
    members = planned_members(plan)
    names = [str(number) for number, _ in enumerate(members, start=1)]
    regions = [region.name for region in plan.regions]
    return Database(
        COCKROACHDB,
        version="CockroachDB CCL v23.2.5",
        regions=tuple(regions),
        nodes=tuple(
            DatabaseNode(
                name,
                member.region,
                f"cloud=aws,region={member.region}",
                f"{member.name}:26257",
                live=True,
                version="v23.2.5",
                clock_offset=-0.0004,
                uptime=3600.0,
            )
            for name, member in zip(names, members, strict=True)
        ),
        gateways=_gateways(plan, {member.region: name for name, member in zip(names, members, strict=True)}),
        links=tuple(NodeLink(a, b, healthy=True, round_trip=0.03) for a, b in permutations(names, 2)),
        placement=ranges(plan),
        goals=(
            SurvivalGoal("meshproof", "region", tuple(regions), regions[0], accepts_region=True),
            SurvivalGoal("reports", "zone", tuple(regions), regions[0]),
            SurvivalGoal("defaultdb", None),
        ),
        counts=tuple(ReplicationCount(name, 0, 0) for name in names),
        crossings=_crossings(plan),
        large_rows=_large_rows(plan),
        health=_health(plan, "/health", "/health?ready=1"),
        init=(InitTrial(regions[0], "cockroachdb-0", refused=True, detail="already initialized"),),
        first_starts=tuple(FirstStart(m.region, m.pod, "Running", ready=False, status=503) for m in members),
        maximum_offset=0.5,
        isolation="serializable",
    )


def postgresql(plan: Plan) -> Database:
    """One member in each region, the first one the primary, the second one synchronous."""
    members = planned_members(plan)
    roles = (NodeRole.PRIMARY, NodeRole.SYNCHRONOUS, NodeRole.REPLICA)
    names = [f"{member.region}-{member.pod}" for member in members]
    return Database(
        POSTGRESQL,
        version="PostgreSQL 18.3",
        regions=tuple(region.name for region in plan.regions),
        nodes=tuple(
            DatabaseNode(
                name,
                m.region,
                f"region={m.region}",
                f"{m.name}:26257",
                True,
                "18.3",
                role,
                clock_offset=0.01,
                timeline=1,
            )
            for name, m, role in zip(names, members, roles, strict=True)
        ),
        gateways=_gateways(plan, dict(zip([region.name for region in plan.regions], names, strict=True))),
        links=tuple(NodeLink(standby, names[0], healthy=True) for standby in names[1:]),
        placement=(
            Placement(
                "instance",
                "all databases",
                tuple(
                    Replica(name, member.region, voter=number < 2)
                    for number, (name, member) in enumerate(zip(names, members, strict=True))
                ),
                names[0],
                system=True,
            ),
        ),
        goals=(SurvivalGoal("meshproof", "region", tuple(region.name for region in plan.regions), members[0].region),),
        crossings=_crossings(plan),
        large_rows=_large_rows(plan),
        health=_health(plan, "/liveness", "/readiness"),
        synchronous=True,
        isolation="serializable",
    )


def _gateways(plan: Plan, nodes: dict[str, str]) -> tuple[Gateway, ...]:
    return tuple(
        Gateway(
            region.name,
            f"cockroachdb-public.{region.name}.svc.cluster.local:26257",
            nodes[region.name],
            region.name,
            cluster="4c1b6e20",
            version="v23.2.5",
            read=True,
            written=True,
        )
        for region in plan.regions
    )


def _crossings(plan: Plan) -> tuple[Crossing, ...]:
    return tuple(Crossing(a.name, b.name, seen=True, after=0.04) for a, b in plan.ordered_pairs())


def _large_rows(plan: Plan) -> tuple[Crossing, ...]:
    names = [region.name for region in plan.regions]
    return tuple(
        Crossing(name, names[(number + 1) % len(names)], seen=True, after=0.4, size=4 << 20)
        for number, name in enumerate(names)
    )


def _health(plan: Plan, *paths: str) -> tuple[HealthAnswer, ...]:
    return tuple(HealthAnswer(m.region, m.pod, path, 200) for m in planned_members(plan) for path in paths)


def workloads(plan: Plan) -> Workloads:
    """What Kubernetes holds of it."""
    database, members = plan.database, planned_members(plan)
    regions = [region.name for region in plan.regions]
    return Workloads(
        stateful_sets=tuple(
            StatefulSet(
                region,
                region,
                "cockroachdb",
                wanted=database.replicas,
                ready=database.replicas,
                image=IMAGE,
                command=command(join_list(plan), region),
                service="cockroachdb",
                grace=60.0,
                storage=(("datadir", database.storage),),
            )
            for region in regions
        ),
        pods=tuple(
            DatabasePod(
                m.region,
                m.region,
                m.pod,
                f"uid-{m}",
                node=f"{m.region}-node-{1 + int(m.pod[-1])}",
                phase="Running",
                ready=True,
                restarts=0,
                image=IMAGE,
                started="2026-11-22T09:00:00Z",
                cpu=database.cpu,
                memory=database.memory,
            )
            for m in members
        ),
        claims=tuple(
            VolumeClaim(
                m.region, m.region, f"datadir-{m.pod}", "Bound", database.storage, database.storage, storage_class="gp3"
            )
            for m in members
        ),
        storage_classes=tuple(
            each
            for region in regions
            for each in (StorageClass(region, "gp3", default=True), StorageClass(region, "slow", default=False))
        ),
        budgets=tuple(
            DisruptionBudget(
                region, region, "cockroachdb-budget", "1", "", tuple(m.pod for m in members if m.region == region)
            )
            for region in regions
        ),
        bindings=tuple(
            Binding(
                region, namespace, "cockroachdb", "cockroachdb", (Subject("ServiceAccount", region, "cockroachdb"),)
            )
            for region in regions
            for namespace in (region, "")
        ),
        rooms=tuple(
            NodeRoom(region, f"{region}-node-{number}", cpu=4000, memory=16 * GIB, cpu_taken=250, memory_taken=GIB)
            for region in regions
            for number in range(1, 4)
        ),
        namespaces=tuple((region, region) for region in regions),
        service_accounts=tuple((region, "cockroachdb") for region in regions),
    )
