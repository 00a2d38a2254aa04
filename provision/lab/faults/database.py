"""Faults of the running database: its members, its replication, its paths; each function makes one, for a lab.

They are of the stand-in: what only CockroachDB has (ranges, zone configurations, an init) cannot be broken here.
"""

from __future__ import annotations

from typing import Any

from analysis.plan import DatabasePlan
from analysis.rootcause import Layer
from provision.faults import Confirm, Control, Fault, Filter, Patch, Step
from provision.lab.database.condition import members, pod_place
from provision.lab.faults.database_steps import (
    Hung,
    PlainConsole,
    Reconfigured,
    Replication,
    StandbysTagged,
)
from provision.lab.faults.steps import (
    object_is_gone,
    object_says,
    table_is_loaded,
)
from provision.lab.topology import LabRegion, LabTopology

FORMED = frozenset(f"DB-FORM-{number:03}" for number in (1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18, 19, 22))
"""What is asked of nodes, and cannot be told of one that does not answer."""

KNOCKED = frozenset(f"SEC-TLS-{number:03}" for number in (1, 2, 5, 6, 13, 14, 15))
"""What is seen at the entrances of a pod, and not where nobody answers."""

SURVIVAL = frozenset({"DB-SURV-012"})
"""What is said about survival without an outage; no outage is made for a fault that shows without one."""

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
        members_in_one_region(),
        advertised_nowhere(second),
        member_hung(lab, third),
        one_direction_blocked(lab, first),
        entrance_without_pods(plan, second),
        console_in_the_clear(lab, second),
        database_of_its_own(third),
        synchronous_off(),
    )


# --- objects ------------------------------------------------------------------------------------------------------


def stateful_set_short_of_a_pod(plan: DatabasePlan, region: LabRegion) -> Fault:
    """Somebody scaled the database down in one region."""
    path = stateful_set_path(plan, region)
    pod = f"/api/v1/namespaces/{plan.namespace(region.name)}/pods/{plan.service}-{plan.replicas - 1}"
    return database_fault(
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
    return database_fault(
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
    return database_fault(
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
    return database_fault(
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
    return database_fault(
        "database-locality-missing",
        f"the database of {region.name} was started without its region",
        "DB-FORM-003",
        Reconfigured(region.name, lambda settings: settings.update(tags={})),
        confirm=lambda control: any(not (each.get("tags") or {}).get("region") for each in members(control)),
        follows=frozenset({"DB-FORM-001", "DB-FORM-014"}),
    )


def members_in_one_region() -> Fault:
    """Members of other regions take themselves for the primary's: a write waits for one that is lost with it."""
    return database_fault(
        "database-members-in-one-region",
        "all members of the database were started as members of one region",
        "DB-FORM-014",
        StandbysTagged(lambda primary: {"region": primary}),
        confirm=lambda control: len({(each.get("tags") or {}).get("region") for each in members(control)}) == 1,
        follows=frozenset({"DB-FORM-001", "DB-FORM-003", "DB-FORM-018", *SURVIVAL}),
    )


def advertised_nowhere(region: LabRegion) -> Fault:
    """A member advertises a name that leads nowhere."""

    def misspell(settings: dict[str, Any]) -> None:
        own = settings["postgresql"]
        own["connect_address"] = own["connect_address"].replace(".svc.", ".scv.")

    return database_fault(
        "database-advertised-nowhere",
        f"the database of {region.name} advertises a name that does not exist",
        "DB-FORM-008",
        Reconfigured(region.name, misspell),
        confirm=lambda control: any(".scv." in str(each.get("host")) for each in members(control)),
        follows=FORMED | SURVIVAL,
    )


def member_hung(lab: LabTopology, region: LabRegion) -> Fault:
    """A member's processes stand still."""
    return database_fault(
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
    return database_fault(
        "database-path-blocked",
        f"the database of {region.name} and those of the others do not reach each other's port {plan.sql_port}",
        "DB-FORM-010",
        Filter(where, body),
        confirm=table_is_loaded(where),
        follows=DOWN,
    )


def console_in_the_clear(lab: LabTopology, region: LabRegion) -> Fault:
    """The console answers probes of its own region without TLS."""
    plan = lab.plan.database or DatabasePlan()
    return database_fault(
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


def database_of_its_own(region: LabRegion) -> Fault:
    """A region made a database of its own instead of joining the others'."""
    return database_fault(
        "database-of-its-own",
        f"{region.name} runs a database of its own behind the names of the others'",
        "DB-FORM-002",
        Reconfigured(region.name, lambda settings: settings.update(scope="alone"), anew=True),
        confirm=lambda control: len(members(control)) < len(control.plan.regions),
        follows=DOWN,
    )


def synchronous_off() -> Fault:
    """A write is acknowledged before any other region has it."""
    return replicated(
        "database-synchronous-off",
        "writes are acknowledged before another region has them",
        "DB-FORM-014",
        {"synchronous_mode": False, "synchronous_mode_strict": False},
        follows=SURVIVAL | {"DB-FORM-010"},
    )


def replicated(
    name: str,
    summary: str,
    requirement: str,
    settings: dict[str, Any],
    *,
    follows: frozenset[str] = frozenset(),
    layer: Layer | None = None,
) -> Fault:
    """Other settings of replication than those that were planned."""
    step = Replication(settings)
    return database_fault(name, summary, requirement, step, confirm=step.in_force, follows=follows, layer=layer)


def database_fault(
    name: str,
    summary: str,
    requirement: str,
    *steps: Step,
    confirm: Confirm,
    follows: frozenset[str] = frozenset(),
    layer: Layer | None = None,
) -> Fault:
    """A fault that only a running database can have; its layer is by default that which its requirement speaks of."""
    told = layer or (Layer.SERVICE if requirement.startswith("DB-SURV") else Layer.SQL)
    return Fault(name, summary, told, requirement, steps, confirm, follows - {requirement}, database=True)


def stateful_set_path(plan: DatabasePlan, region: LabRegion) -> str:
    """Where the API has the database's StatefulSet."""
    return f"/apis/apps/v1/namespaces/{plan.namespace(region.name)}/statefulsets/{plan.service}"


def _budget(plan: DatabasePlan, region: LabRegion) -> str:
    return f"/apis/policy/v1/namespaces/{plan.namespace(region.name)}/poddisruptionbudgets/{plan.service}-budget"
