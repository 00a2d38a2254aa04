"""Faults of the running database: its members, its replication, its paths; each function makes one, for a lab.

They are of the stand-in: what only CockroachDB has (ranges, zone configurations, an init) cannot be broken here.
"""

from __future__ import annotations

from typing import Any

from analysis.plan import DatabasePlan
from analysis.rootcause import Layer
from provision.faults import Confirm, Control, Fault, Filter, Patch, Step
from provision.lab.database.condition import database_of, members, pod_place, rows_of, run_sql
from provision.lab.faults.database_steps import (
    RELOAD,
    EndsWithOthers,
    Hung,
    PlainConsole,
    Reconfigured,
    Replication,
    Statements,
)
from provision.lab.faults.steps import (
    DropsUnlessServed,
    object_is_gone,
    object_says,
    place,
    table_is_loaded,
)
from provision.lab.topology import LabRegion, LabTopology

FORMED = frozenset(f"DB-FORM-{number:03}" for number in (1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18, 19, 22))
"""What is asked of nodes, and cannot be told of one that does not answer."""

KNOCKED = frozenset(f"SEC-TLS-{number:03}" for number in (1, 2, 5, 6, 13, 14, 15))
"""What is seen at the entrances of a pod, and not where nobody answers."""

SURVIVAL = frozenset(f"DB-SURV-{number:03}" for number in (1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14))
"""What outages show: one that goes wrong shows in several."""

DOWN = FORMED | KNOCKED | SURVIVAL | {"DB-FORM-004", "DB-FORM-015", "DB-FORM-020", "SEC-TLS-008", "SEC-TLS-010"}
"""What turns, or cannot be told, where a pod of the database does not serve."""


def database_faults(lab: LabTopology) -> tuple[Fault, ...]:
    """All of them."""
    first, second, third, *_ = lab.regions
    plan = lab.plan.database or DatabasePlan()
    return (
        stateful_set_short_of_a_pod(plan, third),
        budget_too_wide(plan, first),
        volume_too_small(plan, second),
        locality_missing(second),
        advertised_nowhere(second),
        member_hung(lab, third),
        one_direction_blocked(lab, first),
        entrance_without_pods(plan, second),
        console_in_the_clear(lab, second),
        writes_refused(),
        stale_reads(second),
        synchronous_off(),
        goal_of_a_zone(),
        failover_off("database-failover-off", "DB-SURV-001"),
        failover_off("database-primary-not-replaced", "DB-SURV-011"),
        failover_off("database-region-does-not-rejoin", "DB-SURV-004"),
        failover_slow(),
        acknowledged_alone("database-lying-acknowledgement", "DB-SURV-005"),
        split_brain("database-split-brain", "DB-SURV-003"),
        split_brain("database-writes-without-majority", "DB-SURV-006"),
        no_grace(plan, second),
        failures_propagate(first, second),
        drops_without_control_plane(lab, second),
        clients_kept_at_home(lab, second),
    )


# --- objects ------------------------------------------------------------------------------------------------------


def stateful_set_short_of_a_pod(plan: DatabasePlan, region: LabRegion) -> Fault:
    """Somebody scaled the database down in one region."""
    path = _stateful_set(plan, region)
    pod = f"/api/v1/namespaces/{plan.namespace(region.name)}/pods/{plan.service}-{plan.replicas - 1}"
    return _fault(
        "database-short-of-a-pod",
        f"the database of {region.name} was scaled down by one",
        "DB-FORM-004",
        Patch(region.name, path, {"spec": {"replicas": plan.replicas - 1}}),
        confirm=object_is_gone(region.name, pod),
        follows=DOWN | {"NET-DNS-006", "NET-DNS-008", "NET-DNS-009"},
        layer=Layer.SQL,
    )


def budget_too_wide(plan: DatabasePlan, region: LabRegion) -> Fault:
    """The disruption budget lets several pods go at once."""
    path = _budget(plan, region)
    return _fault(
        "database-budget-too-wide",
        f"the disruption budget of {region.name} lets three database pods go at once",
        "DB-FORM-020",
        Patch(region.name, path, {"spec": {"maxUnavailable": 3}}),
        confirm=object_says(region.name, path, ("spec", "maxUnavailable"), 3),
        layer=Layer.HYGIENE,
    )


def volume_too_small(plan: DatabasePlan, region: LabRegion) -> Fault:
    """The volume that a pod was given is smaller than planned."""
    path = f"/api/v1/namespaces/{plan.namespace(region.name)}/persistentvolumeclaims/datadir-{plan.service}-0"
    return _fault(
        "database-volume-too-small",
        f"the volume of {region.name}'s database has a hundredth of the planned size",
        "DB-FORM-016",
        StatusPatch(region.name, path, {"capacity": {"storage": "10Mi"}}),
        confirm=object_says(region.name, path, ("status", "capacity", "storage"), "10Mi"),
    )


class StatusPatch:
    """A merge patch of an object's status; healing puts the old status back."""

    def __init__(self, region: str, path: str, status: dict[str, Any]) -> None:
        self.region, self.path, self.status = region, path, status

    def apply(self, control: Control) -> dict[str, Any]:
        """Patch it, and remember what it was."""
        before = (control.get(self.region, self.path) or {}).get("status") or {}
        control.patch(self.region, f"{self.path}/status", {"status": self.status})
        return {key: before.get(key) for key in self.status}

    def heal(self, control: Control, memory: dict[str, Any]) -> None:
        """Put it back."""
        control.patch(self.region, f"{self.path}/status", {"status": memory})


def entrance_without_pods(plan: DatabasePlan, region: LabRegion) -> Fault:
    """The Service that clients use selects nobody."""
    path = f"/api/v1/namespaces/{plan.namespace(region.name)}/services/{plan.public_service}"
    return _fault(
        "database-entrance-without-pods",
        f"the Service that clients of {region.name} use selects no pod",
        "DB-FORM-018",
        Patch(region.name, path, {"spec": {"selector": {"app": "nobody"}}}),
        confirm=object_says(region.name, path, ("spec", "selector", "app"), "nobody"),
        follows=FORMED | SURVIVAL,
        layer=Layer.SQL,
    )


# --- members ------------------------------------------------------------------------------------------------------


def locality_missing(region: LabRegion) -> Fault:
    """A member does not say where it is."""
    return _fault(
        "database-locality-missing",
        f"the database of {region.name} was started without its region",
        "DB-FORM-003",
        Reconfigured(region.name, lambda settings: settings.update(tags={})),
        confirm=lambda control: any(not (each.get("tags") or {}).get("region") for each in members(control)),
        follows=frozenset({"DB-FORM-001", "DB-FORM-014"}),
    )


def advertised_nowhere(region: LabRegion) -> Fault:
    """A member advertises a name that leads nowhere."""

    def misspell(settings: dict[str, Any]) -> None:
        own = settings["postgresql"]
        own["connect_address"] = own["connect_address"].replace(".svc.", ".scv.")

    return _fault(
        "database-advertised-nowhere",
        f"the database of {region.name} advertises a name that does not exist",
        "DB-FORM-008",
        Reconfigured(region.name, misspell),
        confirm=lambda control: any(".scv." in str(each.get("host")) for each in members(control)),
        follows=FORMED | SURVIVAL,
    )


def member_hung(lab: LabTopology, region: LabRegion) -> Fault:
    """A member's processes stand still."""
    return _fault(
        "database-member-hung",
        f"the database of {region.name} does not answer any more",
        "DB-FORM-001",
        Hung(region.name),
        confirm=lambda control: (
            sum(each.get("state") in ("running", "streaming") for each in members(control)) < len(lab.regions)
        ),
        follows=DOWN,
    )


def one_direction_blocked(lab: LabTopology, region: LabRegion) -> Fault:
    """What a region sends to the other regions' databases is lost; what they send arrives."""
    plan = lab.plan.database or DatabasePlan()
    others = ", ".join(str(other.plan.pod_cidr) for other in lab.regions if other is not region)
    where = pod_place(plan, region.name)
    body = (
        f"  chain out {{ type filter hook output priority 0; ip daddr {{ {others} }} "
        f"tcp dport {plan.sql_port} drop; }}\n"
        f"  chain in {{ type filter hook input priority 0; ip saddr {{ {others} }} tcp dport {plan.sql_port} drop; }}"
    )
    return _fault(
        "database-path-blocked",
        f"the database of {region.name} and those of the others do not reach each other's port {plan.sql_port}",
        "DB-FORM-010",
        Filter(where, body),
        confirm=table_is_loaded(where),
        follows=DOWN,
        layer=Layer.POLICY,
    )


def console_in_the_clear(lab: LabTopology, region: LabRegion) -> Fault:
    """The console answers probes of its own region without TLS."""
    plan = lab.plan.database or DatabasePlan()
    return _fault(
        "database-console-in-the-clear",
        f"the console of {region.name}'s database speaks no HTTPS to its own region",
        "DB-FORM-019",
        PlainConsole(region.name, (str(region.plan.pod_cidr),)),
        confirm=lambda control: (
            control.run(
                pod_place(plan, region.name), ["nft", "list", "table", "ip", "planted_console"], check=False
            ).code
            == 0
        ),
        follows=FORMED | SURVIVAL | {"SEC-TLS-002"},
    )


def writes_refused() -> Fault:
    """The primary takes no writes."""
    setting = "default_transaction_read_only"
    return _fault(
        "database-writes-refused",
        "the database reads, and takes no writes",
        "DB-FORM-012",
        Statements("", (f"ALTER SYSTEM SET {setting} = on", RELOAD), (f"ALTER SYSTEM RESET {setting}", RELOAD)),
        confirm=lambda _control: True,
        follows=frozenset({"DB-FORM-011"}) | SURVIVAL,
    )


def stale_reads(region: LabRegion) -> Fault:
    """A standby stands still: what is read there is old."""
    return _fault(
        "database-stale-reads",
        f"the database of {region.name} does not apply what it is sent",
        "DB-FORM-011",
        Statements(region.name, ("SELECT pg_wal_replay_pause()",), ("SELECT pg_wal_replay_resume()",)),
        confirm=lambda control: (
            rows_of(run_sql(control, region.name, "SELECT pg_is_wal_replay_paused()", check=False)) == [[True]]
        ),
        follows=SURVIVAL,
    )


# --- replication --------------------------------------------------------------------------------------------------


def synchronous_off() -> Fault:
    """A write is acknowledged before any other region has it."""
    return _replicated(
        "database-synchronous-off",
        "writes are acknowledged before another region has them",
        "DB-FORM-014",
        {"synchronous_mode": False, "synchronous_mode_strict": False},
        follows=SURVIVAL | {"DB-FORM-010"},
    )


def goal_of_a_zone() -> Fault:
    """Writes go on without a synchronous standby when there is none: the stand-in's goal is that of a zone then."""
    return _replicated(
        "database-goal-of-a-zone",
        "the database goes on without any other region when it has lost them",
        "DB-SURV-012",
        {"synchronous_mode_strict": False},
        follows=SURVIVAL | {"DB-FORM-014"},
        layer=Layer.SQL,
    )


def failover_off(name: str, requirement: str) -> Fault:
    """Nobody takes over from a lost primary, and a lost member is not started again."""
    return _replicated(
        name, "the database's members were told to leave each other alone (paused)", requirement, {"pause": True}
    )


def failover_slow() -> Fault:
    """A lost primary is replaced after its budget only."""
    return _replicated(
        "database-failover-slow",
        "a lost primary is replaced only after two minutes",
        "DB-SURV-002",
        {"ttl": 120},
    )


def acknowledged_alone(name: str, requirement: str) -> Fault:
    """Writes are acknowledged before another region has them: those of the last seconds are lost with the region."""
    return _replicated(
        name,
        "writes are acknowledged before another region has them, and are lost with their region",
        requirement,
        {"synchronous_mode": False, "synchronous_mode_strict": False},
        follows=SURVIVAL | {"DB-FORM-010", "DB-FORM-014"},
    )


def split_brain(name: str, requirement: str) -> Fault:
    """A primary that nobody can reach goes on as if it were the only one."""
    return _replicated(
        name,
        "a primary that is cut off goes on acknowledging writes by itself",
        requirement,
        {"pause": True, "synchronous_mode": False, "synchronous_mode_strict": False},
        follows=SURVIVAL | {"DB-FORM-010", "DB-FORM-014"},
    )


def no_grace(plan: DatabasePlan, region: LabRegion) -> Fault:
    """Pods are killed before they can end."""
    path = _stateful_set(plan, region)
    template = {"spec": {"terminationGracePeriodSeconds": 0}}
    return _fault(
        "database-no-grace",
        f"database pods of {region.name} are killed before they can end",
        "DB-SURV-013",
        Patch(region.name, path, {"spec": {"template": template}}),
        confirm=object_says(region.name, path, ("spec", "template", "spec", "terminationGracePeriodSeconds"), 0),
        follows=SURVIVAL,
    )


def failures_propagate(region: LabRegion, other: LabRegion) -> Fault:
    """A script ends one region's member when it does not reach another's."""
    return _fault(
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
        follows=SURVIVAL,
    )


def drops_without_control_plane(lab: LabTopology, region: LabRegion) -> Fault:
    """Nodes of a region forward nothing while its API server does not answer."""
    workers = [node for node in region.nodes if not node.is_control_plane] or list(region.nodes)
    addresses = tuple(node.address for node in region.nodes if node.is_control_plane)
    return _fault(
        "database-goes-with-control-plane",
        f"nodes of {region.name} forward nothing while their API server is away",
        "DB-SURV-008",
        *(DropsUnlessServed(node, addresses, 6443) for node in workers),
        confirm=lambda _control: True,
        follows=SURVIVAL | {"MESH-CP-013"},
    )


def clients_kept_at_home(lab: LabTopology, region: LabRegion) -> Fault:
    """Clients of a region reach its own database alone."""
    plan = lab.plan.database or DatabasePlan()
    match = " ".join(
        [
            f"ip saddr {region.plan.pod_cidr}",
            f"ip daddr {{ {', '.join(str(other.plan.pod_cidr) for other in lab.regions if other is not region)} }}",
            f"tcp dport {plan.sql_port} drop",
        ]
    )
    bodies = [
        Filter(place(node), f"  chain forward {{ type filter hook forward priority -10; {match}; }}")
        for node in region.nodes
    ]
    return _fault(
        "database-clients-kept-at-home",
        f"clients of {region.name} cannot connect to the databases of other regions",
        "DB-SURV-014",
        *bodies,
        confirm=lambda control: (
            control.run(place(region.nodes[-1]), ["nft", "list", "table", "inet", "planted"], check=False).code == 0
        ),
        follows=DOWN,
        layer=Layer.POLICY,
    )


def _replicated(
    name: str,
    summary: str,
    requirement: str,
    settings: dict[str, Any],
    *,
    follows: frozenset[str] = SURVIVAL,
    layer: Layer | None = None,
) -> Fault:
    step = Replication(settings)
    return _fault(name, summary, requirement, step, confirm=step.in_force, follows=follows, layer=layer)


def _fault(
    name: str,
    summary: str,
    requirement: str,
    *steps: Step,
    confirm: Confirm,
    follows: frozenset[str] = frozenset(),
    layer: Layer | None = None,
) -> Fault:
    told = layer or (Layer.SERVICE if requirement.startswith("DB-SURV") else Layer.SQL)
    return Fault(name, summary, told, requirement, steps, confirm, follows - {requirement}, database=True)


def _stateful_set(plan: DatabasePlan, region: LabRegion) -> str:
    return f"/apis/apps/v1/namespaces/{plan.namespace(region.name)}/statefulsets/{plan.service}"


def _budget(plan: DatabasePlan, region: LabRegion) -> str:
    return f"/apis/policy/v1/namespaces/{plan.namespace(region.name)}/poddisruptionbudgets/{plan.service}-budget"
