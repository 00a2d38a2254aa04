"""DB-SURV, quorum: nobody acknowledges a write without a majority, and with one everybody is served."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.facts.database import Database
from analysis.facts.outage import Moment, Outage
from analysis.fleet import OutageMode
from analysis.history.operation import Result
from analysis.plan import Plan
from analysis.survival.outages import known_of, of_modes, told, too_little, unknown_of
from analysis.survival.recovery import history_findings
from analysis.survival.service import ENOUGH, Service, Work, errors, operations_of, services
from analysis.verdict import Finding, Verdict, not_applicable
from analysis.words import count, gap_findings, listed

TRIED = 3
"""Writes that must have been tried in vain before it is believed that none would have been acknowledged."""

WHOLE_REGIONS = (OutageMode.POWER, OutageMode.PODS, OutageMode.ISOLATION, OutageMode.HANG)

_SPLIT = "two parts of the database both hold themselves for the majority; a write there is lost when they meet again"


def judge_no_split_brain(plan: Plan, outages: Sequence[Outage]) -> Verdict:
    """DB-SURV-003: a region that is cut off acknowledges no write, and its database pods turn not ready."""
    cut_off = of_modes(outages, (OutageMode.ISOLATION,), regions=1)
    violations: list[Finding] = []
    gaps: list[Finding] = []
    examined = 0
    for outage in known_of(cut_off, gaps, "operations", "sights"):
        examined += 1
        for region in outage.regions:
            acknowledged, missing = _acknowledged_alone(outage, region)
            violations += acknowledged
            gaps += missing
            still_ready, unseen = _readiness(outage, region)
            violations += still_ready
            gaps += unseen
    return told(
        expected="A region that is cut off acknowledges no write, and its database pods report themselves as not ready",
        outages=cut_off,
        examined=examined,
        violations=violations,
        gaps=gaps,
        what="isolated regions",
        summary=f"no write was acknowledged in {listed(region for outage in cut_off for region in outage.regions)} "
        "while cut off, and its database pods were not ready",
    )


def judge_two_regions(plan: Plan, outages: Sequence[Outage]) -> Verdict:
    """DB-SURV-006: without a majority no write is acknowledged, and once it is back so are service and all data."""
    limit = plan.budgets.rejoin.total_seconds()
    expected = f"The loss of two regions stops writes; their return restores service within {limit:g} s, with all data"
    if len(plan.regions) > 4:
        return not_applicable(expected, f"{len(plan.regions)} regions keep a majority when two are lost")
    lost = of_modes(outages, WHOLE_REGIONS, regions=2)
    violations: list[Finding] = []
    gaps: list[Finding] = []
    examined = 0
    for outage in known_of(lost, gaps, "operations", "finals"):
        examined += 1
        for region in plan.regions:
            acknowledged, missing = _acknowledged_alone(outage, region.name)
            violations += acknowledged
            if region.name not in outage.regions:
                gaps += missing
                late, unsure = _returned(outage, region.name, limit)
                violations += late
                gaps += unsure
        anomalies, undecided = history_findings([outage])
        violations += anomalies
        gaps += undecided
    return told(
        expected=expected,
        outages=lost,
        examined=examined,
        violations=violations,
        gaps=gaps,
        what="losses of two regions",
        summary="no write was acknowledged while two regions were lost; service came back, with all data",
    )


def judge_pod_each(plan: Plan, outages: Sequence[Outage], database: Database) -> Verdict:
    """DB-SURV-007: one database pod of every region is killed at once; what keeps its quorum goes on being served."""
    killed = of_modes(outages, (OutageMode.POD_EACH,))
    violations: list[Finding] = []
    gaps = gap_findings(database.gaps, "placement", "nodes") if killed else []
    judged: list[Service] = []
    remarks: list[str] = []
    if killed and not database.placement:
        gaps.append(Finding("the database", "where its replicas are", "not told, so nobody knows who kept a quorum"))
    for outage in killed:
        unknown = unknown_of(outage, "operations", "before", "after")
        gaps += unknown
        if unknown or not database.placement:
            continue
        without = _without_quorum(outage, database)
        budget = plan.budgets.rejoin if without else plan.budgets.rto
        limit = budget.total_seconds()
        served = services(outage, [region.name for region in plan.regions], until=Moment.ENDED)
        judged += served
        for each in served:
            if not each.resumed and each.gap < limit:
                gaps.append(
                    Finding(f"{outage.name}: {each.subject}", f"served within {limit:g} s", f"not in {each.gap:.1f} s")
                )
            elif each.gap > limit:
                seen = f"not served for {each.gap:.1f} s"
                violations.append(Finding(f"{outage.name}: {each.subject}", f"served within {limit:g} s", seen))
            else:
                gaps += too_little(outage, each)
        longest = max((each.gap for each in served), default=0.0)
        kept = (
            f"{count(len(without), 'unit')} of {len(database.placement)} lost the quorum ({listed(without)})"
            if without
            else f"all {len(database.placement)} units kept their quorum"
        )
        remarks.append(f"{outage.name}: {kept}; the longest time without service was {longest:.1f} s")
        anomalies, undecided = history_findings([outage])
        violations += anomalies
        gaps += undecided
    return told(
        expected="With one database pod of every region killed at once, data that keeps its quorum is served within "
        f"{plan.budgets.rto.total_seconds():g} s, and all is there once the pods are back",
        outages=killed,
        examined=len(judged),
        violations=violations,
        gaps=gaps,
        what="kinds of work",
        summary="; ".join(remarks),
        warnings=remarks,
    )


def _acknowledged_alone(outage: Outage, region: str) -> tuple[list[Finding], list[Finding]]:
    """Writes that were sent once the fault was effective, and acknowledged before anybody healed: deviations, gaps.

    What was sent before may have been decided before; what hung until the healing was decided after it.
    """
    begun, effective, healing = (outage.at(each) for each in (Moment.BEGUN, Moment.EFFECTIVE, Moment.HEALING))
    if begun is None or effective is None or healing is None:
        return [], []
    writes = operations_of(outage, region, Work.WRITES)
    before = sum(write.result is Result.OK and write.completed < begun for write in writes)
    tried = [write for write in writes if effective < write.invoked < healing]
    acknowledged = [write for write in tried if write.result is Result.OK and write.completed < healing]
    subject, expected = f"{outage.name}: writes in {region}", "none acknowledged"
    if acknowledged:
        first = acknowledged[0]
        seen = (
            f"{count(len(acknowledged), 'write')} of {len(tried)} acknowledged, the first sent "
            f"{first.invoked - effective:.1f} s after the fault was effective "
            f"(operation {first.number}{f', by {first.node}' if first.node else ''})"
        )
        return [Finding(subject, expected, seen, _SPLIT)], []
    if before < ENOUGH or len(tried) < TRIED:
        seen = f"{count(before, 'write')} acknowledged before and {len(tried)} tried meanwhile, too little to judge by"
        return [], [Finding(subject, f"{ENOUGH} acknowledged before, and {TRIED} tried meanwhile", seen)]
    return [], []


def _readiness(outage: Outage, region: str) -> tuple[list[Finding], list[Finding]]:
    """Database pods that still called themselves ready when the isolation had lasted to its end: deviations, gaps."""
    begun, effective, healing = (outage.at(each) for each in (Moment.BEGUN, Moment.EFFECTIVE, Moment.HEALING))
    if begun is None or effective is None or healing is None:
        return [], []
    sights = sorted((sight for sight in outage.sights if sight.region == region), key=lambda sight: sight.at)
    ready_before = {sight.pod for sight in sights if sight.at < begun and sight.ready}
    last = {sight.pod: sight for sight in sights if effective < sight.at < healing and sight.ready is not None}
    pods = sorted({pod.name for pod in outage.before if pod.region == region} | {sight.pod for sight in sights})
    violations, gaps = [], []
    for pod in pods:
        subject = f"{outage.name}: pod {pod} of {region}"
        if pod not in ready_before:
            gaps.append(Finding(subject, "seen ready before", "it was not, so its readiness tells nothing"))
        elif pod not in last:
            gaps.append(Finding(subject, "to say whether it is ready while cut off", "it gave no answer"))
        elif last[pod].ready:
            seen = f"still ready {last[pod].at - effective:.1f} s after the fault was effective"
            cause = "readiness asks only whether the process answers, not whether it has a majority"
            violations.append(Finding(subject, "not ready while cut off", seen, cause))
    if not pods:
        gaps.append(Finding(f"{outage.name}: {region}", "database pods to be seen", "none was"))
    return violations, gaps


def _returned(outage: Outage, region: str, limit: float) -> tuple[list[Finding], list[Finding]]:
    """Whether writes of that region were acknowledged in time after the healing: deviations, gaps.

    Where one of the lost regions came back first, they must have been with that one alone.
    """
    rest = outage.at(Moment.REST)
    since, until = outage.at(Moment.HEALING if rest else Moment.HEALED), rest or outage.at(Moment.ENDED)
    if since is None or until is None:
        return [], []
    tried = [write for write in operations_of(outage, region, Work.WRITES) if since <= write.completed < until]
    after = [write for write in tried if write.result is Result.OK]
    when = "the return of one region" if rest else "the healing"
    subject, expected = f"{outage.name}: writes in {region}", f"served again within {limit:g} s of {when}"
    if not after:
        seen = f"not served for {until - since:.1f} s after it"
        finding = Finding(subject, expected, f"{seen} ({errors(tried)})")
        return ([finding], []) if until - since >= limit else ([], [finding])
    waited = after[0].completed - since
    if waited > limit:
        return [Finding(subject, expected, f"served after {waited:.1f} s")], []
    if len(after) < ENOUGH:
        return [], [Finding(subject, expected, f"only {count(len(after), 'acknowledgement')} after it")]
    return [], []


def _without_quorum(outage: Outage, database: Database) -> list[str]:
    """Units of data of which a majority of voters ran on pods that were killed."""
    uids = {(pod.region, pod.name): pod.uid for pod in outage.before}
    killed = {(end.region, end.pod) for end in outage.ends}
    killed |= {(pod.region, pod.name) for pod in outage.after if uids.get((pod.region, pod.name), pod.uid) != pod.uid}
    nodes = {
        node.name for node in database.nodes if (node.region, node.advertised.partition(":")[0].split(".")[0]) in killed
    }
    units = []
    for placed in database.placement:
        voters = [replica for replica in placed.replicas if replica.voter]
        if 2 * sum(voter.node not in nodes for voter in voters) <= len(voters):
            units.append(f"{placed.unit} of {placed.owner}")
    return units
