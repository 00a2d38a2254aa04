"""Faults that only outages show: who takes over, who must not, what is lost; each function makes one, for a lab."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from analysis.plan import Cni, DatabasePlan
from analysis.rootcause import Layer
from provision.faults import Fault, Patch
from provision.lab.database.condition import database_of, members, pod_place, primary_region, rows_of, run_sql
from provision.lab.faults.database import database_fault, replicated, stateful_set_path
from provision.lab.faults.database_steps import ClientsKeptAtHome, EndsWithOthers, StandbysTagged, Statements
from provision.lab.faults.steps import (
    WATCHDOG_NAME,
    DropsUnlessServed,
    command_succeeds,
    object_says,
    place,
    table_is_loaded,
)
from provision.lab.topology import API_SERVER_PORT, LabNode, LabRegion, LabTopology

BGP_PORT = 179


def survival_faults(lab: LabTopology) -> tuple[Fault, ...]:
    """All of them. Each is tried against the outages that its requirement speaks of, and against no other check."""
    first, second, *_ = lab.regions
    plan = lab.plan.database or DatabasePlan()
    return (
        goal_of_a_zone(),
        nobody_takes_over("database-failover-off", "DB-SURV-001"),
        nobody_takes_over("database-primary-not-replaced", "DB-SURV-011"),
        paused("database-region-does-not-rejoin", "DB-SURV-004"),
        paused("database-pods-do-not-return", "DB-SURV-007"),
        failover_slow(),
        acknowledged_alone(),
        acknowledged_unwritten(),
        split_brain("database-split-brain", "DB-SURV-003"),
        split_brain("database-writes-without-majority", "DB-SURV-006"),
        no_grace(plan, second),
        # The other region is lost first: the script is in a pod that has not been made anew by then.
        failures_propagate(second, first),
        drops_without_control_plane(lab),
        routing_takes_data_along(lab),
        clients_kept_at_home(lab),
    )


def goal_of_a_zone() -> Fault:
    """Writes go on without a synchronous standby when there is none: the stand-in's goal is that of a zone then."""
    return replicated(
        "database-goal-of-a-zone",
        "the database goes on without any other region when it has lost them",
        "DB-SURV-012",
        {"synchronous_mode_strict": False},
        layer=Layer.SQL,
    )


def nobody_takes_over(name: str, requirement: str) -> Fault:
    """A lost primary is not replaced before it returns."""
    return database_fault(
        name,
        "no standby may take over when the primary is lost",
        requirement,
        StandbysTagged(lambda _primary: {"nofailover": True}),
        confirm=lambda control: (
            sum(bool((each.get("tags") or {}).get("nofailover")) for each in members(control))
            == len(control.plan.regions) - 1
        ),
    )


def paused(name: str, requirement: str) -> Fault:
    """A member that returns waits for somebody to start it."""
    return replicated(
        name,
        "a member of the database that returns waits for an operator (the cluster is paused)",
        requirement,
        {"pause": True},
    )


def failover_slow() -> Fault:
    """A lost primary is replaced after its budget only."""
    return replicated(
        "database-failover-slow",
        "a lost primary is replaced only after two minutes",
        "DB-SURV-002",
        {"ttl": 120},
    )


def acknowledged_alone() -> Fault:
    """Writes are acknowledged before another region has them: those of the last seconds are lost with the region."""
    return replicated(
        "database-lying-acknowledgement",
        "writes are acknowledged before another region has them, and are lost with their region",
        "DB-SURV-005",
        {"synchronous_mode": False, "synchronous_mode_strict": False},
    )


def acknowledged_unwritten() -> Fault:
    """Writes are acknowledged before they are on a disk anywhere: those of the last moments are lost with a process."""
    user = "root"
    return database_fault(
        "database-acknowledges-unwritten",
        "writes are acknowledged before they are written anywhere (synchronous_commit is off)",
        "DB-SURV-005",
        Statements(
            "",
            (f"ALTER ROLE {user} SET synchronous_commit = off",),
            (f"ALTER ROLE {user} RESET synchronous_commit",),
            replicated=True,
        ),
        confirm=lambda control: (
            rows_of(
                run_sql(
                    control,
                    primary_region(control),
                    f"SELECT count(*) FROM pg_roles WHERE rolname = '{user}' "  # noqa: S608
                    "AND 'synchronous_commit=off' = ANY (rolconfig)",
                )
            )
            == [[1]]
        ),
    )


def split_brain(name: str, requirement: str) -> Fault:
    """A primary that nobody can reach goes on as if it were the only one."""
    return replicated(
        name,
        "a primary that is cut off goes on acknowledging writes by itself",
        requirement,
        {"pause": True, "synchronous_mode": False, "synchronous_mode_strict": False},
    )


def no_grace(plan: DatabasePlan, region: LabRegion) -> Fault:
    """Pods are killed before they can end."""
    path = stateful_set_path(plan, region)
    pod = f"/api/v1/namespaces/{plan.namespace(region.name)}/pods/{plan.service}-0"
    template = {"spec": {"terminationGracePeriodSeconds": 0}}
    return database_fault(
        "database-no-grace",
        f"database pods of {region.name} are killed before they can end",
        "DB-SURV-013",
        Patch(region.name, path, {"spec": {"template": template}}),
        confirm=object_says(region.name, pod, ("spec", "terminationGracePeriodSeconds"), 0),
    )


def failures_propagate(region: LabRegion, other: LabRegion) -> Fault:
    """A script ends one region's member when it does not reach another's."""
    return database_fault(
        "database-failures-propagate",
        f"the database of {region.name} is ended when that of {other.name} is out of reach",
        "DB-SURV-010",
        EndsWithOthers(region.name, other.name),
        confirm=lambda control: (
            "create_connection"
            in control.run(
                pod_place(database_of(control), region.name),
                ["sh", "-c", "cat /proc/[0-9]*/cmdline 2> /dev/null"],
                check=False,
            ).out
        ),
    )


def drops_without_control_plane(lab: LabTopology) -> Fault:
    """Nodes forward nothing while their region's API server does not answer."""
    return _forwards_only_while_served(
        lab,
        "database-goes-with-control-plane",
        "nodes forward nothing while their API server is away",
        "DB-SURV-008",
        lambda region: ([node for node in region.nodes if node.is_control_plane], API_SERVER_PORT),
    )


def routing_takes_data_along(lab: LabTopology) -> Fault:
    """Nodes forward nothing while their region's part of the mesh's control plane is away, and for a while after."""
    calico = lab.plan.cni is Cni.CALICO_BGP
    return _forwards_only_while_served(
        lab,
        "database-goes-with-routing",
        "nodes forward nothing while the mesh's control plane restarts in their region, nor soon after",
        "DB-SURV-009",
        lambda region: (
            [node for node in region.nodes if node.is_reflector or not calico],
            BGP_PORT if calico else region.store_port,
        ),
        settled=timedelta(seconds=5),
    )


def _forwards_only_while_served(
    lab: LabTopology,
    name: str,
    summary: str,
    requirement: str,
    watched: Callable[[LabRegion], tuple[Sequence[LabNode], int]],
    settled: timedelta = timedelta(0),
) -> Fault:
    """Nodes of every region that watch those nodes of it at that port: outages are made where the primary is then."""
    steps = []
    for region in lab.regions:
        nodes, port = watched(region)
        addresses = tuple(node.address for node in nodes)
        workers = [node for node in region.nodes if not node.is_control_plane] or list(region.nodes)
        steps += [DropsUnlessServed(node, addresses, port, settled) for node in workers]
    return database_fault(
        name,
        summary,
        requirement,
        *steps,
        confirm=command_succeeds(place(steps[-1].node), ("pgrep", "-f", WATCHDOG_NAME)),
    )


def clients_kept_at_home(lab: LabTopology) -> Fault:
    """Clients of the primary's region reach its own database alone."""
    nodes = {region.name: tuple(place(node) for node in region.nodes) for region in lab.regions}
    return database_fault(
        "database-clients-kept-at-home",
        "clients of the primary's region cannot connect to the databases of other regions",
        "DB-SURV-014",
        ClientsKeptAtHome(nodes),
        confirm=lambda control: any(table_is_loaded(there)(control) for there, *_ in nodes.values()),
        layer=Layer.POLICY,
    )
