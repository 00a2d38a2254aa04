"""What all policy objects together open or close against the intent, over every port, without a packet being sent."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.facts import Policies
from analysis.plan import Plan, PolicyPlan
from analysis.policy.decide import Evaluator
from analysis.policy.judging.meant import intent_of
from analysis.policy.model import Endpoint
from analysis.policy.openings import ALL_PORTS, Concerns, Deviation, deviations, role_of
from analysis.policy.read import world_of
from analysis.verdict import Finding
from analysis.words import listed


def said_apart(plan: Plan, policies: Policies, concerns: Concerns) -> list[Finding]:
    """Where the objects do not say what was meant, between the pods that there are. Nothing where not all was read.

    Args:
        plan: with the intent.
        policies: the objects, and the pods as they know them.
        concerns: which flows are asked about.
    """
    if policies.gaps:
        return []
    intent = intent_of(plan)
    by_ends: dict[tuple[object, ...], list[Deviation]] = {}
    for each in deviations(Evaluator(world_of(policies, plan)), intent, concerns):
        ends = _called(each.source, intent), _called(each.target, intent)
        by_ends.setdefault((*ends, each.intended, each.decider), []).append(each)
    return list(_findings(by_ends))


def _findings(by_ends: dict[tuple[object, ...], list[Deviation]]) -> Iterator[Finding]:
    for (source, target, intended, decider), alike in by_ends.items():
        ports = listed(dict.fromkeys(_ports(each) for each in alike), limit=6)
        closed, opened = f"{ports} closed to new connections", f"{ports} open"
        subject = f"{source} -> {target}, as the objects say"
        yield Finding(
            subject,
            opened if intended else closed,
            f"{closed if intended else opened}: {decider} decides",
        )


def _called(endpoint: Endpoint, intent: PolicyPlan) -> str:
    role = role_of(endpoint, intent)
    return (
        f"{role} pods of {endpoint.cluster}"
        if role
        else f"pods of {endpoint.cluster}/{endpoint.namespace} without a role"
    )


def _ports(deviation: Deviation) -> str:
    """Ports in words: "TCP 22", "TCP 1 to 65535" as "all of TCP"."""
    protocol, first, last = deviation.protocol.value, deviation.first, deviation.last
    if first == 0:
        return protocol
    if (first, last) == ALL_PORTS:
        return f"all of {protocol}"
    return f"{protocol} {first}" if first == last else f"{protocol} {first} to {last}"
