"""What judges of outages have in common: which outages speak, what must be known of them, how a verdict is told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from analysis.facts.outage import Moment, Outage
from analysis.fleet import OutageMode
from analysis.plan import Plan
from analysis.survival.service import ENOUGH, Service, remark
from analysis.verdict import Finding, Outcome, Verdict, conclude
from analysis.words import count, gap_findings, listed

MOMENTS = (Moment.STEADY, Moment.BEGUN, Moment.EFFECTIVE, Moment.HEALING, Moment.HEALED, Moment.ENDED)
"""Without these, nothing can be said of an outage. That the database becomes whole again is a judge's matter."""

_MISSING = {
    Moment.STEADY: "the database was not seen whole, with clients served, before the fault",
    Moment.EFFECTIVE: "the fault was not seen to have its effect",
}


def of_modes(outages: Sequence[Outage], modes: Collection[OutageMode], regions: int | None = None) -> list[Outage]:
    """Those of these modes, and where a number is given, of so many regions."""
    return [each for each in outages if each.mode in modes and (regions is None or len(each.regions) == regions)]


def surviving(plan: Plan, outage: Outage) -> list[str]:
    """Regions that the outage was not made to."""
    return [region.name for region in plan.regions if region.name not in outage.regions]


def told(
    *,
    expected: str,
    outages: Sequence[Outage],
    examined: int,
    violations: Iterable[Finding] = (),
    gaps: Iterable[Finding] = (),
    what: str,
    summary: str = "",
    remedy: str | None = None,
    warnings: Sequence[str] = (),
) -> Verdict:
    """The verdict, with the summary where all is well, and with engine, version and kinds of errors in any case."""
    missing = list(gaps)
    if not outages:
        missing.append(Finding("the outage that would show it", "to be made", "it was not"))
    verdict = conclude(
        expected=expected, examined=examined, violations=violations, gaps=missing, what=what, remedy=remedy,
        warnings=warnings,
    )  # fmt: skip
    if not outages:
        return verdict
    seen = summary if summary and verdict.outcome is Outcome.MET else verdict.observed
    return replace(verdict, observed=f"{seen} ({remark(outages)})")


def unknown_of(outage: Outage, *parts: str) -> list[Finding]:
    """What must be known of an outage and is not: its moments, and the named fields of it."""
    absent = [
        Finding(outage.name, f"the moment {moment.value!r}", _MISSING.get(moment, "it did not come, or was not seen"))
        for moment in MOMENTS
        if outage.at(moment) is None
    ]
    return absent + gap_findings(outage.gaps, "events", *parts)


def known_of(outages: Iterable[Outage], gaps: list[Finding], *parts: str) -> Iterator[Outage]:
    """Those of which all moments and the named fields are known; what is missing of the others is added to the gaps."""
    for outage in outages:
        unknown = unknown_of(outage, *parts)
        gaps += unknown
        if not unknown:
            yield outage


def too_little(outage: Outage, served: Service, *, meanwhile: bool = True) -> list[Finding]:
    """Where clients got too little to say anything: before the fault, after it where they should, and in the end.

    A service that did not resume in time is not too little: it is the deviation that is looked for.
    """
    short = [("before the fault", served.before), ("after the healing", served.afterwards)]
    if meanwhile and served.resumed:
        short.insert(1, ("between its return and the healing", served.meanwhile))
    return [
        Finding(
            f"{outage.name}: {served.subject}",
            f"at least {count(ENOUGH, 'acknowledgement')} {when}",
            f"only {count(number, 'acknowledgement')} {when}",
        )
        for when, number in short
        if number < ENOUGH
    ]


def not_in_turn(plan: Plan, outages: Sequence[Outage]) -> list[Finding]:
    """Regions that no outage was made to, of those that should each be lost in turn."""
    lost = {region for outage in outages for region in outage.regions}
    missing = [region.name for region in plan.regions if region.name not in lost]
    return [Finding(f"loss of {listed(missing)}", "to be tried", "it was not")] if missing and outages else []
