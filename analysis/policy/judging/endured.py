"""NET-POL: does the database stay what it was, under the policy?"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from analysis.facts import Database, Enforcement, HealthAnswer, Workloads
from analysis.formation import judge_links, judge_live_nodes
from analysis.plan import Plan
from analysis.policy.judging.over_time import enforced_in
from analysis.rootcause import Layer
from analysis.serving import OK, judge_crossings
from analysis.verdict import Finding, Outcome, Verdict, conclude
from analysis.words import gap_findings, listed, unseen_regions

_KEPT_OUT = "something on its node keeps the kubelet's questions from it: a packet filter, or a rule about nodes"
_CAUSE = "the policy stops what the database needs: see NET-POL-005, 008 and 009; else the database is unwell by itself"


def judge_readiness(plan: Plan, enforcement: Enforcement, workloads: Workloads, database: Database) -> Verdict:
    """NET-POL-010: under the policy every database pod is Ready, and says so when another pod asks it.

    A pod that answers others and is not Ready is well: what asks it from its own node is kept from it.
    """
    asked: defaultdict[tuple[str, str], list[HealthAnswer]] = defaultdict(list)
    for answer in database.health:
        asked[answer.region, answer.pod].append(answer)
    violations = []
    for pod in workloads.pods:
        answers = asked.get((pod.region, pod.name), [])
        unwell = [answer for answer in answers if answer.status != OK]
        subject = f"{pod.region}/{pod.name}"
        if not pod.ready and answers and not unwell:
            observed = "it is not Ready, and answers its health addresses when another pod asks"
            violations.append(Finding(subject, "Ready", observed, _KEPT_OUT, Layer.POLICY))
        elif not pod.ready or unwell:
            state = "Ready" if pod.ready else f"not Ready ({pod.phase})"
            told = listed(f"{answer.status or 'no answer'} at {answer.path}" for answer in unwell)
            violations.append(
                Finding(subject, f"Ready, and {OK} from its health addresses", f"{state} {told}".strip(), _CAUSE)
            )
    seen = {pod.region for pod in workloads.pods}
    gaps = [*gap_findings(workloads.gaps, "pods"), *gap_findings(database.gaps, "health")]
    return conclude(
        expected="under the policy every database pod is Ready, and answers when its health is asked",
        examined=len(workloads.pods),
        what="database pods",
        violations=violations,
        gaps=[*gaps, *_idle(plan, enforcement), *(() if gaps else unseen_regions(plan, seen, "its database pods"))],
        remedy="kubelets must reach their own pods whatever a policy says: look for what filters on the node; else see "
        "whether the pod reaches the other members and DNS",
    )


def judge_formation(plan: Plan, enforcement: Enforcement, database: Database) -> Verdict:
    """NET-POL-021: what DB-FORM-001, 010 and 011 ask, asked of a database that is under a policy."""
    told = [judge_live_nodes(plan, database), judge_links(plan, database), judge_crossings(plan, database)]
    gaps = [
        finding
        for verdict in told
        if verdict.outcome is Outcome.INCONCLUSIVE
        for finding in verdict.findings or (Finding("the database", verdict.expected, verdict.observed),)
    ]
    return conclude(
        expected="under the policy all nodes are live and connected, and what one region writes all others read",
        examined=sum(verdict.examined for verdict in told),
        what="nodes, connections and rows",
        violations=[
            replace(finding, cause=finding.cause or _CAUSE)
            for verdict in told
            if verdict.outcome is Outcome.VIOLATED
            for finding in verdict.findings
        ],
        gaps=[*gaps, *_idle(plan, enforcement)],
        remedy="compare what is open between the members with the intent: NET-POL-005 and NET-POL-008 name direction, "
        "port and rule",
    )


def _idle(plan: Plan, enforcement: Enforcement) -> list[Finding]:
    """Regions whose policy was not seen to stop anything: what holds there says nothing about it."""
    in_force = enforced_in(plan, enforcement)
    return [
        Finding(f"policy of {region.name}", "to be seen to stop something", "nothing was stopped: it is not in force")
        for region in plan.regions
        if region.name not in in_force
    ]
