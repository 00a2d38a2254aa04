"""NET-POL: does the database stay what it was, under the policy?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.facts import Database, Enforcement, Workloads
from analysis.formation import judge_links, judge_live_nodes
from analysis.plan import Plan
from analysis.policy.judging.over_time import enforced_in
from analysis.scheduling import judge_pods_ready
from analysis.serving import judge_crossings, judge_health
from analysis.verdict import Finding, Outcome, Verdict, conclude, worst

_CAUSE = "the policy stops what the database needs: see NET-POL-005, 008 and 009; else the database is unwell by itself"


def judge_readiness(plan: Plan, enforcement: Enforcement, workloads: Workloads, database: Database) -> Verdict:
    """NET-POL-010: under the policy every database pod is Ready, and its health address says so when it is asked."""
    told = [judge_pods_ready(plan, workloads), judge_health(plan, database)]
    return _together(
        plan,
        enforcement,
        told,
        expected="under the policy every database pod is Ready and answers when its health is asked",
        what="pods and answers",
        remedy="kubelets reach their own pods whatever a policy says: where a probe fails, see whether the pod reaches "
        "the other members and DNS",
    )


def judge_formation(plan: Plan, enforcement: Enforcement, database: Database) -> Verdict:
    """NET-POL-021: under the policy all members are live and connected, and what one region writes all others read."""
    told = [judge_live_nodes(plan, database), judge_links(plan, database), judge_crossings(plan, database)]
    return _together(
        plan,
        enforcement,
        told,
        expected="under the policy the database stays formed, connected and consistent (DB-FORM-001, 010, 011)",
        what="members, connections and rows",
        remedy="compare what is open between the members with the intent: NET-POL-005 and NET-POL-008 name direction, "
        "port and rule",
    )


def _together(
    plan: Plan, enforcement: Enforcement, told: Sequence[Verdict], *, expected: str, what: str, remedy: str
) -> Verdict:
    """Several verdicts as one about the policy, which must be in force for that."""
    speaking = [verdict for verdict in told if verdict.outcome is not Outcome.NOT_APPLICABLE]
    state = worst(verdict.outcome for verdict in speaking)
    findings = [finding for verdict in speaking for finding in verdict.findings if verdict.outcome is state]
    violated = state is Outcome.VIOLATED
    in_force = enforced_in(plan, enforcement)
    idle = [
        Finding(
            f"policy of {region.name}", "to be seen to stop something", "nothing was: it does not prove itself there"
        )
        for region in plan.regions
        if region.name not in in_force
    ]
    silent = [
        Finding("the database", verdict.expected, verdict.observed)
        for verdict in speaking
        if verdict.outcome is Outcome.INCONCLUSIVE and not verdict.findings
    ]
    return conclude(
        expected=expected,
        examined=sum(verdict.examined for verdict in speaking),
        what=what,
        violations=[replace(finding, cause=finding.cause or _CAUSE) for finding in findings] if violated else (),
        gaps=[*([] if violated else findings), *silent, *idle],
        remedy=remedy,
        cause=_CAUSE if violated else None,
    )
