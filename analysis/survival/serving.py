"""DB-SURV, service: while a region is lost, the others are served again in time."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.facts.database import COCKROACHDB, POSTGRESQL, Database
from analysis.facts.outage import Moment, Outage
from analysis.fleet import OutageMode
from analysis.history.operation import Result
from analysis.plan import Plan
from analysis.survival.outages import not_in_turn, of_modes, surviving, told, too_little, unknown_of
from analysis.survival.service import ENOUGH, Service, Work, errors, operations_of, services
from analysis.verdict import Finding, Verdict
from analysis.words import count, listed

GONE = (OutageMode.PODS, OutageMode.POWER, OutageMode.HANG)
CUT_OFF = (OutageMode.ISOLATION, OutageMode.ONE_WAY)

_NO_MAJORITY = "the rest has no majority, does not know that it has one, or clients do not find the new way in time"


def judge_pods_lost(plan: Plan, outages: Sequence[Outage]) -> Verdict:
    """DB-SURV-001: the database pods of each region in turn are gone, and clients of the others are served in time."""
    lost = of_modes(outages, GONE, regions=1)
    return _judge(
        plan, lost, "When the database pods of one region are gone, the others serve", not_in_turn(plan, lost)
    )


def judge_isolation(plan: Plan, outages: Sequence[Outage]) -> Verdict:
    """DB-SURV-002: a region is cut off, and clients of the others are served in time."""
    return _judge(plan, of_modes(outages, CUT_OFF, regions=1), "When one region is cut off, the others serve", [])


def judge_primary_lost(plan: Plan, outages: Sequence[Outage], database: Database) -> Verdict:
    """DB-SURV-011: with the region survival goal, the loss of the primary region is survived.

    The stand-in has no survival goals: that each of its writes waits for a second region is the same promise.
    """
    lost = [
        outage
        for outage in of_modes(outages, (*GONE, *CUT_OFF), regions=1)
        if outage.primary and outage.primary in outage.regions
    ]
    expected = "When the primary region of a database that is to survive it is lost, the others serve"
    return _judge(plan, lost, expected, _goal_unknown(plan, database), _goal_missed(plan, database))


def judge_served_elsewhere(plan: Plan, outages: Sequence[Outage]) -> Verdict:
    """DB-SURV-014: clients whose own region has no database pods left are served by another region's, by name."""
    lost = of_modes(outages, (OutageMode.PODS,), regions=1)
    violations, gaps = [], not_in_turn(plan, lost)
    examined = 0
    for outage in lost:
        unknown = unknown_of(outage, "operations")
        gaps += unknown
        effective, healing = outage.at(Moment.EFFECTIVE), outage.at(Moment.HEALING)
        if unknown or effective is None or healing is None:
            continue
        for region, work in ((region, work) for region in outage.regions for work in Work):
            made = operations_of(outage, region, work)
            tried = [each for each in made if effective < each.invoked < healing]
            served = [each for each in tried if each.result is Result.OK and each.completed < healing]
            before = [each for each in made if each.result is Result.OK and each.completed < effective]
            subject, wanted = f"{outage.name}: {work.value} in {region}", "to be served by another region"
            examined += 1
            if len(served) >= ENOUGH:
                continue
            if len(before) < ENOUGH or len(tried) < ENOUGH:
                seen = f"clients were served {count(len(before), 'time')} before and tried {len(tried)} meanwhile"
                gaps.append(Finding(subject, wanted, f"{seen}, too little to judge by"))
            elif served or healing - effective < plan.budgets.rto.total_seconds():
                seen = f"{len(served)} of {len(tried)} operations in {healing - effective:.1f} s, too few to judge by"
                gaps.append(Finding(subject, wanted, seen))
            else:
                seen = f"none of {len(tried)} operations succeeded in {healing - effective:.1f} s ({errors(tried)})"
                cause = "the names of the other regions' endpoints do not resolve there, or policy does not let it pass"
                violations.append(Finding(subject, wanted, seen, cause))
    return told(
        expected="Clients of a region without database pods are served by another region's, which they find by name",
        outages=lost,
        examined=examined,
        violations=violations,
        gaps=gaps,
        what="kinds of work in lost regions",
        summary=f"clients of {listed(dict.fromkeys(r for outage in lost for r in outage.regions))} were served "
        "by other regions while their own database pods were gone",
    )


def _judge(
    plan: Plan, lost: Sequence[Outage], promise: str, gaps: Sequence[Finding], violations: Sequence[Finding] = ()
) -> Verdict:
    """Whether clients of the surviving regions were served again in time, reads and writes apart."""
    budget = plan.budgets.rto.total_seconds()
    missing, late = list(gaps), list(violations)
    judged: list[Service] = []
    for outage in lost:
        unknown = unknown_of(outage, "operations")
        missing += unknown
        if unknown:
            continue
        for served in services(outage, surviving(plan, outage)):
            judged.append(served)
            subject, expected = f"{outage.name}: {served.subject}", f"served again within {budget:g} s"
            if not served.before or not served.tried:
                missing += too_little(outage, served)
            elif served.gap > budget:
                back = "" if served.resumed else ", and not before the healing"
                late.append(Finding(subject, expected, f"not served for {served.gap:.1f} s{back}", _NO_MAJORITY))
            elif not served.resumed:
                seen = f"not served for {served.gap:.1f} s, when the region was given back before its time was over"
                missing.append(Finding(subject, expected, seen))
            else:
                missing += too_little(outage, served)
    slowest = [
        f"slowest to return were {served.subject}, after {served.gap:.1f} s"
        for served in sorted(judged, key=lambda served: -served.gap)[:1]
    ]
    return told(
        expected=f"{promise} reads and writes again within {budget:g} s",
        outages=lost,
        examined=len(judged),
        violations=late,
        gaps=missing,
        what="kinds of work in surviving regions",
        summary="; ".join([f"all {len(judged)} kinds of work in surviving regions went on", *slowest]),
    )


def _goal_unknown(plan: Plan, database: Database) -> list[Finding]:
    if database.engine == POSTGRESQL and database.synchronous is None:
        return [Finding("the database", "a write that waits for a second region", "not told whether it does")]
    told_of = {goal.database for goal in database.goals}
    must = plan.database.must_survive if plan.database else ()
    if database.engine == COCKROACHDB:
        return [Finding(f"database {name}", "its survival goal", "not told") for name in must if name not in told_of]
    return []


def _goal_missed(plan: Plan, database: Database) -> list[Finding]:
    if database.engine == POSTGRESQL:
        missed = database.synchronous is False
        cause = "synchronous mode is off: what was acknowledged last is lost with the primary"
        seen = "writes are acknowledged before a second region has them"
        return [Finding("the database", "a write that waits for a second region", seen, cause)] if missed else []
    must = plan.database.must_survive if plan.database else ()
    wrong = [goal for goal in database.goals if goal.database in must and goal.goal != "region"]
    findings = [
        Finding(f"database {goal.database}", "survival goal region", f"survival goal {goal.goal or 'none'}")
        for goal in wrong
    ]
    refused = [goal for goal in database.goals if goal.accepts_region is False]
    return findings + [
        Finding(f"database {goal.database}", "to accept SURVIVE REGION FAILURE", "it was refused") for goal in refused
    ]
