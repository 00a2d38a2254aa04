"""NET-POL-003, 004: is there anything that the rules of the policies are about?"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address

from analysis.facts import Policies
from analysis.plan import DATABASE, Plan
from analysis.policy.decide import dead_rules
from analysis.policy.judging.labels import database_pods
from analysis.policy.judging.meant import intent_of
from analysis.policy.model import DeadRule, Endpoint, EndpointKind
from analysis.policy.read import world_of
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings, listed

IMPOSSIBLE = frozenset({"unsatisfiable-selector", "unsatisfiable-by-implicit-labels"})
"""What no labels whatever can satisfy."""

NOBODY = frozenset({"matches-nobody-now", "policy-selects-nobody"})
"""What somebody could satisfy, and nobody there is does."""

_OF_RULE = re.compile(r"/(ingress|egress)(Deny)?/.*")
_SOMEWHERE = IPv4Address("192.0.2.0")
"""Of addresses that nobody has (RFC 5737)."""


def judge_satisfiable(plan: Plan, policies: Policies) -> Verdict:
    """NET-POL-003: no selector asks for what no labels can be, like one label with two values."""
    world = world_of(policies, plan)
    dead = dead_rules(world)
    return conclude(
        expected="no selector asks for what no pod can be: a label has one value",
        examined=len(world.policies),
        what="policies",
        violations=_findings((each for each in dead if each.reason in IMPOSSIBLE), "a selector that can match"),
        gaps=gap_findings(policies.gaps, "objects"),
        remedy='where any of several values will do, write them as one set: geography in {"us-east-2", "us-west-1"}, '
        "or `||` in place of `&&`",
        warnings=[
            f"{each.cluster}: {each.rule} never decides anything: {each.explanation}"
            for each in dead
            if each.reason not in IMPOSSIBLE | NOBODY
        ],
    )


def judge_matching(plan: Plan, policies: Policies) -> Verdict:
    """NET-POL-004: every selector matches something that exists, or that the intent speaks of."""
    world = world_of(policies, plan)
    world = replace(world, endpoints=(*world.endpoints, *_declared(plan, policies)))
    dead = dead_rules(world) if policies.endpoints else ()
    return conclude(
        expected="every selector of a policy and of its rules matches an endpoint or a network set",
        examined=len(world.policies) if policies.endpoints else 0,
        what="policies",
        violations=_findings((each for each in dead if each.reason in NOBODY), "selectors that match something"),
        gaps=gap_findings(policies.gaps, "objects", "endpoints", "namespaces"),
        remedy="compare the selector's labels with those of the pods it was written for: kubectl get pods "
        "-A --show-labels",
    )


def _findings(dead: Iterable[DeadRule], expected: str) -> Iterator[Finding]:
    """A finding for each policy, which tells its rules and why they are dead."""
    by_policy: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
    for each in dead:
        policy, rule = _parts(each.rule)
        by_policy[each.cluster, policy, each.explanation].append(rule)
    for (cluster, policy, explanation), rules in by_policy.items():
        which = f"{listed(rules)}: " if all(rules) else ""
        cause = "the rule decides nothing; what is not allowed elsewhere is dropped at the end" if which else None
        yield Finding(f"{cluster}: {policy}", expected, f"{which}{explanation}", cause)


def _parts(rule: str) -> tuple[str, str]:
    """What a policy is called, and its rule, which is "" where the whole policy is meant."""
    found = _OF_RULE.search(rule)
    return (rule[: found.start()], found[0].lstrip("/")) if found else (rule, "")


def _declared(plan: Plan, policies: Policies) -> Iterator[Endpoint]:
    """Pods of the roles that the intent speaks of: a rule about clients is right before the first of them comes.

    The database's own are there or are not: its rules are about those, where there are any.
    """
    intent = intent_of(plan)
    there = {pod.region for pod in database_pods(plan, policies)}
    roles = [(role.name, region.name) for region in plan.regions for role in intent.roles]
    for number, (role, region) in enumerate(roles, 1):
        if role == DATABASE and region in there:
            continue
        namespaces = {plan.database.namespace(region)} if plan.database else set()
        for namespace in sorted(namespaces | {intent.namespace} - {""}):
            yield Endpoint(
                f"{role} of {region}",
                EndpointKind.POD,
                _SOMEWHERE + number,
                region,
                namespace,
                labels=intent.labels(role, region),
            )
