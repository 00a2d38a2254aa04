"""DB-SURV, return: a region comes back by itself, nothing acknowledged is lost, pods end cleanly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.facts.outage import Moment, Outage
from analysis.fleet import OutageMode
from analysis.history.anomaly import Anomaly, Kind
from analysis.history.check import check
from analysis.history.operation import READS, Act, Operation, Result
from analysis.plan import Plan
from analysis.survival.outages import of_modes, surviving, told, unknown_of
from analysis.survival.service import ENOUGH, Work, operations_of, service
from analysis.verdict import Finding, Verdict
from analysis.words import count, gap_findings, listed, qualified

LOSSES = (OutageMode.PODS, OutageMode.ISOLATION, OutageMode.POWER, OutageMode.ONE_WAY, OutageMode.HANG)
"""Modes that take a region away from the database."""

DIFFERENT = frozenset({Kind.DIVERGENT})


def judge_rejoin(plan: Plan, outages: Sequence[Outage]) -> Verdict:
    """DB-SURV-004: after its return a region takes part again with all its replicas, by itself and in time."""
    limit = plan.budgets.rejoin.total_seconds()
    lost = of_modes(outages, LOSSES)
    violations: list[Finding] = []
    gaps: list[Finding] = []
    warnings: list[str] = []
    times: list[float] = []
    for outage in lost:
        unknown = unknown_of(outage, "finals")
        gaps += unknown
        healed, whole, ended = (outage.at(each) for each in (Moment.HEALED, Moment.WHOLE, Moment.ENDED))
        if unknown or healed is None or ended is None:
            continue
        subject = f"{outage.name}: {listed(outage.regions)}"
        expected = f"the database whole again within {limit:g} s of the return"
        if whole is None:
            finding = Finding(subject, expected, f"not whole in the {ended - healed:.1f} s that it was watched")
            (violations if ended - healed >= limit else gaps).append(finding)
            continue
        times.append(whole - healed)
        if whole - healed > limit:
            violations.append(Finding(subject, expected, f"whole after {whole - healed:.1f} s"))
        gaps += _unread(plan, outage)
        anomalies, _ = history_findings([outage], DIFFERENT)
        violations += anomalies
        gaps += _idle_after_return(outage, whole)
        unserved, remarks = _disturbed_by_return(plan, outage)
        violations += unserved
        warnings += remarks
    return told(
        expected=f"After a region's return the database is whole again within {limit:g} s, without anybody's help",
        outages=lost,
        examined=len(times),
        violations=violations,
        gaps=gaps,
        what="returns",
        summary=f"whole again after {max(times, default=0.0):.1f} s at most, {count(len(times), 'time')}",
        remedy="read what the database pods of that region said last (histories/): what do they wait for?",
        warnings=warnings,
    )


def judge_nothing_lost(plan: Plan, outages: Sequence[Outage]) -> Verdict:
    """DB-SURV-005: over all outages, the history of operations shows nothing that a correct database never does."""
    violations, gaps = history_findings(outages)
    acknowledged = 0
    for outage in outages:
        gaps += unknown_of(outage, "operations", "finals") + _unread(plan, outage)
        writes = [
            operation for operation in outage.operations if operation.result is Result.OK and operation.act not in READS
        ]
        if len(writes) < ENOUGH:
            gaps.append(Finding(outage.name, "writes to be acknowledged", f"only {len(writes)} were"))
        acknowledged += len(writes)
    unknown = sum(each.result is Result.UNKNOWN for outage in outages for each in outage.operations)
    return told(
        expected="No acknowledged write is lost, nothing is there that failed or that nobody wrote, no read is wrong",
        outages=outages,
        examined=acknowledged,
        violations=violations,
        gaps=gaps,
        what="acknowledged writes",
        summary=f"all {acknowledged} acknowledged writes of {count(len(outages), 'outage')} are there; "
        f"{count(unknown, 'operation')} of unknown result accounted for",
    )


def judge_shutdown(plan: Plan, outages: Sequence[Outage]) -> Verdict:
    """DB-SURV-013: a database pod that is told to end does so by itself, with exit code 0, in its grace period.

    Pods that are scaled away to lose a region are told to end, too.
    """
    asked = of_modes(outages, (OutageMode.SHUTDOWN, OutageMode.PODS))
    told_to_end = [outage for outage in asked if outage.ends or outage.mode is OutageMode.SHUTDOWN]
    violations: list[Finding] = []
    gaps: list[Finding] = []
    ends = [(outage, end) for outage in told_to_end for end in outage.ends]
    for outage in told_to_end:
        gaps += gap_findings(outage.gaps, "ends")
        if not outage.ends:
            gaps.append(Finding(outage.name, "the end of a pod", "not seen"))
    for outage, end in ends:
        subject = f"{outage.name}: pod {qualified((end.region, end.pod))}"
        expected = f"exit code 0 within its grace period of {end.grace:g} s"
        if not end.grace:
            why = "the StatefulSet's terminationGracePeriodSeconds is 0"
            violations.append(Finding(subject, "time to end", "none: it is killed at once", why))
        elif end.exit_code is None or end.seconds is None:
            seen = "its end was not seen" if end.seconds is None else "its exit code was not seen"
            gaps.append(Finding(subject, expected, seen))
        elif end.exit_code or end.seconds > end.grace:
            cause = "it was killed when its time was over" if end.exit_code == 137 or end.seconds > end.grace else None
            seen = f"exit code {end.exit_code} after {end.seconds:.1f} s"
            violations.append(Finding(subject, expected, seen, cause))
    return told(
        expected="A database pod that is told to end does so with exit code 0 within its grace period",
        outages=told_to_end,
        examined=len(ends),
        violations=violations,
        gaps=gaps,
        what="ends of pods",
        summary=listed(
            f"{qualified((end.region, end.pod))} ended by itself after {end.seconds or 0:.1f} s" for _, end in ends
        ),
    )


def history_findings(
    outages: Sequence[Outage], only: frozenset[Kind] | None = None
) -> tuple[list[Finding], list[Finding]]:
    """What the histories of these outages show that must not be, and what could not be decided.

    Each outage has keys of its own. What later outages read of them in the end counts too: a write that survived its
    own outage must survive the next ones.

    Args:
        outages: in any order.
        only: kinds of anomalies that matter; all of them when not given.
    """
    violations: list[Finding] = []
    gaps: list[Finding] = []
    for outage in outages:
        for found in check(outage.operations, _finals_of(outage, outages)):
            if only is not None and found.kind not in only:
                continue
            finding = Finding(f"{outage.name}: {found.kind.value}", "nothing of the kind", _told(outage, found))
            (gaps if found.kind is Kind.NOT_DECIDED else violations).append(finding)
    return violations, gaps


def _finals_of(outage: Outage, outages: Sequence[Outage]) -> list[Operation]:
    """The final reads of an outage's keys, its own and those of other outages, which are given numbers of their own."""
    keys = {operation.key for operation in outage.operations}
    elsewhere = [final for other in outages if other is not outage for final in other.finals if final.key in keys]
    taken = max((operation.number for operation in (*outage.operations, *outage.finals)), default=0)
    renumbered = [replace(final, number=taken + n) for n, final in enumerate(elsewhere, 1)]
    return [*outage.finals, *renumbered]


def _told(outage: Outage, found: Anomaly) -> str:
    since, until = (moment - outage.origin for moment in found.times)
    return f"{found.explanation} ({since:.1f} s to {until:.1f} s of the outage)"


def _unread(plan: Plan, outage: Outage) -> list[Finding]:
    """Regions from which nothing was read once all was over, by kind of workload that was used."""
    read = {(final.region, final.act) for final in outage.finals if final.result is Result.OK and not final.stale}
    used = {_READ_BY[operation.act] for operation in outage.operations if operation.act in _READ_BY}
    return [
        Finding(f"{outage.name}: {region.name}", f"{act.value} once the database was whole", "it was not read")
        for region in plan.regions
        for act in sorted(used)
        if (region.name, act) not in read
    ]


_READ_BY = {
    Act.APPEND: Act.READ_LEDGER,
    Act.TRANSFER: Act.READ_BANK,
    Act.WRITE: Act.READ,
    Act.COMPARE_AND_SET: Act.READ,
    Act.INCREMENT: Act.READ_COUNTER,
}
"""What shows that a write is there."""


def _idle_after_return(outage: Outage, whole: float) -> list[Finding]:
    """Regions that returned whose clients were not served once the database was whole, or did not try."""
    return [
        Finding(f"{outage.name}: {work.value} in {region}", "to be served once the database is whole", "none were")
        for region in outage.regions
        for work in Work
        if not any(
            each.result is Result.OK and each.completed >= whole
            for each in (*operations_of(outage, region, work), *(outage.finals if work is Work.READS else ()))
            if each.region == region
        )
    ]


def _disturbed_by_return(plan: Plan, outage: Outage) -> tuple[list[Finding], list[str]]:
    """Surviving regions whose service stood still while the lost one came back: longer than any outage may, or a bit.

    Where no majority had survived, there was no service that the return could disturb.
    """
    if 2 * len(outage.regions) >= len(plan.regions):
        return [], []
    may, notable = plan.budgets.rto.total_seconds(), plan.budgets.stall.total_seconds()
    told_of = [service(outage, region, work) for region in surviving(plan, outage) for work in Work]
    stood = [each for each in told_of if each and each.returned > notable]
    violations = [
        Finding(
            f"{outage.name}: {each.subject}",
            f"served on while the region comes back, or again within {may:g} s",
            f"not served for {each.returned:.1f} s while it came back",
            "the return makes the others vote again, or takes a part over that it is not ready for",
        )
        for each in stood
        if each.returned > may
    ]
    remarks = [
        f"{outage.name}: {each.subject} stood still for {each.returned:.1f} s while the region came back"
        for each in stood
        if each.returned <= may
    ]
    return violations, remarks
