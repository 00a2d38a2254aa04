"""What an environment file says of policy, as far as its values must go together."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.nearest import nearest
from analysis.plan import DATABASE
from provision.environment import Environment
from provision.environment_errors import Location, Problem
from provision.sections.policy import PolicyIntent


def check_policy(environment: Environment) -> Iterator[Problem]:
    """Whether its roles, its flows and the place where it is tried go together."""
    if environment.policy is not None:
        yield from _roles(environment.policy)
        yield from _flows(environment.policy)
        yield from _namespace(environment, environment.policy)


def one_of(word: str, known: list[str]) -> str:
    """What would be right in place of a word that is none of those known."""
    meant = nearest(word, known)
    choice = f"one of {', '.join(known)}" if known else "none, as there are none"
    return f"{meant}? ({choice})" if meant else choice


def _roles(policy: PolicyIntent) -> Iterator[Problem]:
    at: Location = ("policy", "roles")
    roles = list(policy.roles)
    if DATABASE not in roles:
        meant = nearest(DATABASE, roles)
        yield Problem(
            at,
            f"do not have {DATABASE}, the role that policy is for",
            f"{DATABASE} in place of {meant}" if meant else f"{DATABASE}: app=cockroachdb, or the label of your pods",
            ", ".join(roles) or None,
        )
    first: dict[str, str] = {}
    for role, label in policy.roles.items():
        if (other := first.setdefault(label, role)) != role:
            yield Problem((*at, role), f"is the label of {other} too", "a label that tells the two apart", label)
        if label.partition("=")[0] == policy.region_label:
            yield Problem(
                (*at, role),
                "has the key of region_label, and a label has one value",
                "another label of these pods",
                label,
            )


def _flows(policy: PolicyIntent) -> Iterator[Problem]:
    roles = list(policy.roles)
    known = {DATABASE, *roles}  # where it is missing, that has been told
    for index, flow in enumerate(policy.allow):
        at: Location = ("policy", "allow", index)
        ends = (("from", flow.source), ("to", flow.target))
        strange = [(key, role) for key, role in ends if role not in known]
        for key, role in strange:
            yield Problem((*at, key), "is not one of the roles", one_of(role, roles), role)
        if not strange and DATABASE not in (flow.source, flow.target):
            yield Problem(
                at,
                "is not about the database: the intent speaks of its pods alone",
                f"{DATABASE} as from or as to, or no such entry",
                f"{flow.source} -> {flow.target}",
            )
        for place, port in enumerate(flow.ports):
            if port in flow.ports[:place]:
                yield Problem((*at, "ports", place), "is there twice", "each port once", str(port))
        if flow in policy.allow[:index]:
            yield Problem(at, "is there twice", "each flow once", f"{flow.source} -> {flow.target}")
    if DATABASE in roles and not any(flow.source == flow.target == DATABASE for flow in policy.allow):
        yield Problem(
            ("policy", "allow"),
            "does not let database pods reach each other, and so there would be no database",
            f"an entry like {{from: {DATABASE}, to: {DATABASE}, ports: [26257, 8080]}}",
        )


def _namespace(environment: Environment, policy: PolicyIntent) -> Iterator[Problem]:
    """Pods with the database's labels would be taken for the database by its own Services."""
    if policy.namespace is None or environment.database is None:
        return
    for region in environment.regions:
        if policy.namespace == environment.database.namespaces.get(region.name, region.name):
            yield Problem(
                ("policy", "namespace"),
                f"is the database's own in {region.name}: its Services would lead clients to pods that wear its labels",
                "a namespace of its own, or none for that of the probes",
                policy.namespace,
            )
