"""The database's pods as they are planned: what they are called, and which of them a node of the database is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analysis.facts import POSTGRESQL, Database, DatabaseNode
from analysis.plan import DatabasePlan, Plan
from analysis.verdict import Finding

STAND_IN = "PostgreSQL with Patroni and etcd"


@dataclass(frozen=True)
class Member:
    """A planned pod of the database.

    Attributes:
        name: by which the others reach it ("cockroachdb-0.cockroachdb.eastus.svc.cluster.local").
    """

    region: str
    pod: str
    name: str

    def __str__(self) -> str:
        """As reports call it: "eastus/cockroachdb-0"."""
        return f"{self.region}/{self.pod}"


def database_of(plan: Plan) -> DatabasePlan:
    """The plan of the database; that of the published manifests where there is none."""
    return plan.database or DatabasePlan()


def planned_members(plan: Plan) -> tuple[Member, ...]:
    """All pods that the database is to have, region by region."""
    database = database_of(plan)
    pods = [f"{database.service}-{number}" for number in range(database.replicas)]
    return tuple(
        Member(region.name, pod, database.pod_name(region.name, pod)) for region in plan.regions for pod in pods
    )


def member_of(plan: Plan, node: DatabaseNode) -> Member | None:
    """The planned pod that a node of the database is, by the name that it advertises; None when it is none of them."""
    host = host_of(node.advertised)
    return next((member for member in planned_members(plan) if member.name == host), None)


def home_of(plan: Plan, node: DatabaseNode) -> str:
    """The region that a node runs in: that of its name, which a wrong locality leaves alone; else what it states."""
    member = member_of(plan, node)
    return member.region if member else node.region


def called(plan: Plan, node: DatabaseNode) -> str:
    """A node in words: its pod, or its name and address where it is none that was planned."""
    member = member_of(plan, node)
    return str(member) if member else f"node {node.name} at {node.advertised}"


def host_of(address: str) -> str:
    """The host of host:port."""
    return address.rpartition(":")[0] or address


def has_primary(database: Database) -> bool:
    """Whether its engine lets one node take all writes, whom the others follow, rather than all being alike."""
    return database.engine == POSTGRESQL


def is_stand_in(database: Database) -> bool:
    """Whether it is the stand-in that answers, which shows that the checks work and nothing about CockroachDB."""
    return database.engine == POSTGRESQL


def lacking(thing: str) -> str:
    """Why a promise says nothing about the stand-in; `thing` is what it does not have."""
    return f"stand-in database: {STAND_IN} has no {thing}"


def untold(plan: Plan, told: Iterable[str], what: str) -> list[Finding]:
    """A finding for each planned region of which nothing was told; `what` should have been ("a client's answer")."""
    known = set(told)
    return [
        Finding(f"database in {region.name}", f"{what} to be observed", "nothing was observed")
        for region in plan.regions
        if region.name not in known
    ]
