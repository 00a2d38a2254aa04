"""Faults that only outages show: who takes over, who must not, what is lost; each function makes one, for a lab."""

from __future__ import annotations

from analysis.plan import Cni, DatabasePlan
from analysis.rootcause import Layer
from provision.faults import Fault, Filter, Patch
from provision.lab.database.condition import database_of, pod_place
from provision.lab.faults.database import DOWN, SURVIVAL, database_fault, replicated, stateful_set_path
from provision.lab.faults.database_steps import EndsWithOthers
from provision.lab.faults.steps import WATCHDOG_NAME, DropsUnlessServed, command_succeeds, object_says, place
from provision.lab.topology import LabRegion, LabTopology

BGP_PORT = 179


def survival_faults(lab: LabTopology) -> tuple[Fault, ...]:
    """All of them."""
    first, second, *_ = lab.regions
    plan = lab.plan.database or DatabasePlan()
    return (
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
        routing_takes_data_along(lab, second),
        clients_kept_at_home(lab, second),
    )


def goal_of_a_zone() -> Fault:
    """Writes go on without a synchronous standby when there is none: the stand-in's goal is that of a zone then."""
    return replicated(
        "database-goal-of-a-zone",
        "the database goes on without any other region when it has lost them",
        "DB-SURV-012",
        {"synchronous_mode_strict": False},
        follows=SURVIVAL | {"DB-FORM-014"},
        layer=Layer.SQL,
    )


def failover_off(name: str, requirement: str) -> Fault:
    """Nobody takes over from a lost primary, and a lost member is not started again."""
    return replicated(
        name, "the database's members were told to leave each other alone (paused)", requirement, {"pause": True}
    )


def failover_slow() -> Fault:
    """A lost primary is replaced after its budget only."""
    return replicated(
        "database-failover-slow",
        "a lost primary is replaced only after two minutes",
        "DB-SURV-002",
        {"ttl": 120},
    )


def acknowledged_alone(name: str, requirement: str) -> Fault:
    """Writes are acknowledged before another region has them: those of the last seconds are lost with the region."""
    return replicated(
        name,
        "writes are acknowledged before another region has them, and are lost with their region",
        requirement,
        {"synchronous_mode": False, "synchronous_mode_strict": False},
        follows=SURVIVAL | {"DB-FORM-010", "DB-FORM-014"},
    )


def split_brain(name: str, requirement: str) -> Fault:
    """A primary that nobody can reach goes on as if it were the only one."""
    return replicated(
        name,
        "a primary that is cut off goes on acknowledging writes by itself",
        requirement,
        {"pause": True, "synchronous_mode": False, "synchronous_mode_strict": False},
        follows=SURVIVAL | {"DB-FORM-010", "DB-FORM-014"},
    )


def no_grace(plan: DatabasePlan, region: LabRegion) -> Fault:
    """Pods are killed before they can end."""
    path = stateful_set_path(plan, region)
    template = {"spec": {"terminationGracePeriodSeconds": 0}}
    return database_fault(
        "database-no-grace",
        f"database pods of {region.name} are killed before they can end",
        "DB-SURV-013",
        Patch(region.name, path, {"spec": {"template": template}}),
        confirm=object_says(region.name, path, ("spec", "template", "spec", "terminationGracePeriodSeconds"), 0),
        follows=SURVIVAL,
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
        follows=SURVIVAL,
    )


def drops_without_control_plane(lab: LabTopology, region: LabRegion) -> Fault:
    """Nodes of a region forward nothing while its API server does not answer."""
    workers = [node for node in region.nodes if not node.is_control_plane] or list(region.nodes)
    addresses = tuple(node.address for node in region.nodes if node.is_control_plane)
    return database_fault(
        "database-goes-with-control-plane",
        f"nodes of {region.name} forward nothing while their API server is away",
        "DB-SURV-008",
        *(DropsUnlessServed(node, addresses, 6443) for node in workers),
        confirm=command_succeeds(place(workers[-1]), ("pgrep", "-f", WATCHDOG_NAME)),
        follows=SURVIVAL | {"MESH-CP-013"},
    )


def routing_takes_data_along(lab: LabTopology, region: LabRegion) -> Fault:
    """Nodes of a region forward nothing while its part of the mesh's control plane is away."""
    calico = lab.plan.cni is Cni.CALICO_BGP
    port = BGP_PORT if calico else region.store_port
    controllers = tuple(node.address for node in region.nodes if node.is_control_plane)
    addresses = controllers if calico else tuple(node.address for node in region.nodes)
    workers = [node for node in region.nodes if not node.is_control_plane] or list(region.nodes)
    return database_fault(
        "database-goes-with-routing",
        f"nodes of {region.name} forward nothing while the mesh's control plane restarts there",
        "DB-SURV-009",
        *(DropsUnlessServed(node, addresses, port) for node in workers),
        confirm=command_succeeds(place(workers[-1]), ("pgrep", "-f", WATCHDOG_NAME)),
        follows=SURVIVAL | {"MESH-CP-010", "MESH-CP-011"},
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
    return database_fault(
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
