"""What a judge says: an outcome, the reasons for it, and the facts it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from analysis.rootcause import Layer


class Outcome(str, Enum):
    """The five things that can be said of a requirement after a run.

    The values are the ones written to ``compliance.json``. `rank` orders them so that the worst of several verdicts
    on one requirement stands.
    """

    MET = "met"
    NOT_APPLICABLE = "not-applicable"
    NOT_COVERED = "not-covered"
    INCONCLUSIVE = "inconclusive"
    VIOLATED = "violated"

    @property
    def rank(self) -> int:
        """Position from harmless (0) to worst."""
        return list(Outcome).index(self)


@dataclass(frozen=True)
class Finding:
    """One deviation: where it is, what the plan says, what was seen.

    Attributes:
        subject: the thing at fault, in the words an engineer would use ("us-east-1/node-2 -> 192.168.70.0/26").
        expected: what the plan asks for.
        observed: what the facts show, with addresses.
        cause: the likely cause, when the facts point at one.
        layer: where the trouble sits, when the facts show it in another layer than its requirement speaks about.
    """

    subject: str
    expected: str
    observed: str
    cause: str | None = None
    layer: Layer | None = None


@dataclass(frozen=True)
class Verdict:
    """The conclusion of a judge about one requirement.

    Attributes:
        outcome: met, violated, inconclusive or not applicable. A judge never says "not covered".
        expected: the promise, in one sentence, with numbers.
        observed: what was seen, in one sentence, with numbers.
        findings: the deviations (violated) or the gaps in the facts (inconclusive), most telling first.
        examined: how many things were judged; a verdict over nothing is never met.
        cause: the likely cause, for the reader.
        remedy: what to do about it, when the judge can tell.
        warnings: remarks that do not change the outcome but belong in the report.
        layer: where the findings see the trouble, the lowest layer of several; None when one of them does not say.
    """

    outcome: Outcome
    expected: str
    observed: str
    findings: tuple[Finding, ...] = ()
    examined: int = 0
    cause: str | None = None
    remedy: str | None = None
    warnings: tuple[str, ...] = field(default=())
    layer: Layer | None = None


def conclude(
    *,
    expected: str,
    examined: int,
    violations: Iterable[Finding] = (),
    gaps: Iterable[Finding] = (),
    what: str = "things",
    cause: str | None = None,
    remedy: str | None = None,
    warnings: Sequence[str] = (),
) -> Verdict:
    """Turn what a judge found into a verdict by the rules that hold for every requirement.

    A violation that was positively observed stands even when other facts are missing; without one, a gap in
    the facts makes the verdict inconclusive; and a judge that had nothing to examine is inconclusive too.

    Args:
        expected: the promise in one sentence.
        examined: number of things judged, of the kind named by `what` ("node pairs").
        violations: deviations that were observed.
        gaps: facts that were needed and could not be had.
        what: plural noun for the things examined.
        cause: likely cause; by default that of the first violation.
        remedy: what the reader should do.
        warnings: remarks that leave the outcome as it is.
    """
    violated, missing = tuple(violations), tuple(gaps)
    if violated:
        first = violated[0]
        more = f" (and {len(violated) - 1} more)" if len(violated) > 1 else ""
        return Verdict(
            Outcome.VIOLATED,
            expected,
            f"{first.subject}: {first.observed}{more}",
            violated + missing,
            examined,
            cause or first.cause,
            remedy,
            tuple(warnings),
            _lowest(violated),
        )
    if missing or examined == 0:
        observed = (
            f"{missing[0].subject}: {missing[0].observed}"
            + (f" (and {len(missing) - 1} more gaps)" if len(missing) > 1 else "")
            if missing
            else f"no {what} were there to examine"
        )
        return Verdict(Outcome.INCONCLUSIVE, expected, observed, missing, examined, cause, remedy, tuple(warnings))
    return Verdict(
        Outcome.MET, expected, f"all {examined} {what} are as planned", (), examined, None, None, tuple(warnings)
    )


def not_applicable(expected: str, reason: str) -> Verdict:
    """A verdict that the requirement says nothing about this environment, with the reason why."""
    return Verdict(Outcome.NOT_APPLICABLE, expected, reason)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome that stands when several checks speak about one requirement; not covered when none does.

    A check that does not apply says nothing beside one that does: a requirement can have a check for each kind of mesh.
    """
    told = list(outcomes)
    applying = [outcome for outcome in told if outcome is not Outcome.NOT_APPLICABLE]
    return max(applying or told, key=lambda outcome: outcome.rank, default=Outcome.NOT_COVERED)


def _lowest(findings: Sequence[Finding]) -> Layer | None:
    """The lowest layer that they name, unless one of them names none and leaves that to the requirement."""
    order = list(Layer)
    layers = [finding.layer for finding in findings]
    return None if None in layers else min((layer for layer in layers if layer), key=order.index, default=None)
