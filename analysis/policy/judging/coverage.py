"""NET-POL-014: is there a policy in every cluster that is about that cluster's own database pods?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

from analysis.facts import Policies
from analysis.members import database_of, planned_members
from analysis.plan import DATABASE, Plan
from analysis.policy.decide import Evaluator
from analysis.policy.judging.meant import intent_of
from analysis.policy.model import (
    Direction,
    EndDecision,
    Endpoint,
    EndpointKind,
    Flow,
    Policy,
    PolicyKind,
    Protocol,
    World,
)
from analysis.policy.read import world_of
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings, listed

STAGED = frozenset({PolicyKind.STAGED_GLOBAL_NETWORK_POLICY})
"""Kinds that are there to be tried out, and enforce nothing."""

_UNTOUCHED = ("not-policed", "non-isolated", "default-allow", "itself")
_PROFILE = "profile/"
_NOBODY = Endpoint("nobody", EndpointKind.EXTERNAL, IPv4Address("192.0.2.1"))
_PORT = 1


def judge_present(plan: Plan, policies: Policies) -> Verdict:
    """NET-POL-014: each cluster has a policy that selects its own region's database pods, in both directions."""
    world = world_of(policies, plan)
    gaps = gap_findings(policies.gaps, "objects")
    unread = {gap.region for gap in policies.gaps if not gap.parts or "objects" in gap.parts}
    violations: list[Finding] = []
    for region in plan.regions:
        if region.name in unread:
            continue
        own = [policy for policy in world.policies if policy.cluster == region.name and policy.kind not in STAGED]
        covered = {direction for policy in own for direction in directions(world, policy, _pod(plan, region.name))}
        missing = [direction for direction in Direction if direction not in covered]
        if missing:
            ways = listed(direction.value for direction in missing)
            violations.append(
                Finding(
                    f"cluster {region.name}",
                    f"a policy about the database pods of {region.name}, for ingress and egress",
                    _instead(plan, world, own, region.name) or f"none of {len(own)} policies is about their {ways}",
                    "policies are not copied between clusters: each needs one of its own" if not own else None,
                )
            )
    return conclude(
        expected="every cluster has a policy about the database pods of its own region, for both directions",
        examined=len(plan.regions) - len(unread) if policies.objects or not gaps else 0,
        what="clusters",
        violations=violations,
        gaps=gaps,
        remedy="apply the region's own policy in its own cluster: the selector names that region, the peers name all",
    )


def directions(world: World, policy: Policy, pod: Endpoint) -> frozenset[Direction]:
    """The directions in which a policy, taken by itself, has something to say about a pod."""
    alone = Evaluator(replace(world, policies=(policy,), endpoints=(pod, _NOBODY), host_endpoints=()))
    decision = alone.decide(Flow(pod, _NOBODY, Protocol.TCP, _PORT)).egress
    answer = alone.decide(Flow(_NOBODY, pod, Protocol.TCP, _PORT)).ingress
    told = ((Direction.EGRESS, decision), (Direction.INGRESS, answer))
    return frozenset(direction for direction, end in told if not _untouched(end))


def _untouched(end: EndDecision) -> bool:
    return end.decider in _UNTOUCHED or end.decider.startswith(_PROFILE)


def _instead(plan: Plan, world: World, own: list[Policy], region: str) -> str:
    """What is in a cluster in place of its own policy, in words; "" when there is nothing to say."""
    if not own:
        return "there is no policy in it at all"
    strayed = sorted(set(_about_others(plan, world, own, region)))
    return f"its policies are about others: {listed(strayed)}" if strayed else ""


def _about_others(plan: Plan, world: World, own: list[Policy], region: str) -> Iterator[str]:
    for other in plan.others(region):
        pod = replace(_pod(plan, other.name), cluster=region)
        for policy in own:
            if directions(world, policy, pod):
                yield f"{policy.path} selects the labels of {other.name}"


def _pod(plan: Plan, region: str) -> Endpoint:
    """A database pod of a region as it is planned, whatever labels the real ones have: NET-POL-002 speaks of those."""
    member = next(member for member in planned_members(plan) if member.region == region)
    database = database_of(plan)
    return Endpoint(
        member.pod,
        EndpointKind.POD,
        plan.region(region).pod_cidr[1],
        region,
        database.namespace(region),
        f"node of {region}",
        database.service_account,
        intent_of(plan).labels(DATABASE, region),
    )
