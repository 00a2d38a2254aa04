"""Change over time: did everybody notice in time that something came or went, and did it stay so?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from analysis.facts import Gap
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import count, gap_findings, listed


@dataclass(frozen=True)
class Change:
    """Something that was done to the environment, which observers must come to see.

    Attributes:
        subject: what came or went; samples name it in the same words.
        at: when, in seconds of the runner's monotonic clock.
        appears: it came (observers must see it), or it went (they must not).
        until: when observing it ended, or the next change of the same subject came.
        observers: who must come to see it.
        budget: how long observers may take.
        cause: what it would mean if they took longer.
    """

    subject: str
    at: float
    appears: bool
    until: float
    observers: tuple[str, ...]
    budget: timedelta
    cause: str | None = None


@dataclass(frozen=True)
class Sample:
    """What one observer saw of a subject at one moment.

    Attributes:
        observer: who looked ("us-east-2-node-3").
        asked: when the question was sent, in seconds of the runner's monotonic clock.
        at: when the answer was there.
        present: whether the subject was seen; None when the instrument failed.
        detail: what the instrument said.
    """

    observer: str
    subject: str
    asked: float
    at: float
    present: bool | None
    detail: str = ""


@dataclass(frozen=True)
class History:
    """What was done and what was seen, in the course of one check; `remarks` tell what was left undone, and why."""

    changes: tuple[Change, ...]
    samples: tuple[Sample, ...]
    gaps: tuple[Gap, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Noticed:
    """One line of a timeline: what was done, and when one observer had come to see it.

    Attributes:
        at: seconds after the first change of the history.
        done: what was done ("new pod 192.168.0.5 came").
        observer: who looked.
        after: seconds from the change until the observer had noticed for good; None when it never did.
        budget: seconds that it may take; None for what was watched and should not change.
        remark: how often the observer was asked, and what it said where it did not agree.
    """

    at: float
    done: str
    observer: str
    after: float | None
    budget: float | None
    remark: str


def timeline(history: History) -> tuple[Noticed, ...]:
    """What was done when, and who noticed after how long, in the order in which it happened."""
    seen = _by_observer(history)
    begin = min((change.at for change in history.changes), default=0.0)
    lines = []
    for change in sorted(history.changes, key=lambda change: change.at):
        watched = not change.budget
        verb = "stands" if watched else "came" if change.appears else "went"
        for observer in change.observers:
            told = [sample for sample in _window(seen, observer, change) if sample.present is not None]
            settled = _settled(told, wanted=change.appears)
            others = [sample for sample in told if sample.present is not change.appears]
            remark = f"asked {count(len(told), 'time')}"
            if others:
                remark += f", {len(others)} said otherwise" + (f": {others[-1].detail}" if others[-1].detail else "")
            lines.append(
                Noticed(
                    round(change.at - begin, 1),
                    f"{change.subject} {verb}",
                    observer,
                    None if settled is None else round(settled.at - change.at, 1),
                    None if watched else change.budget.total_seconds(),
                    remark,
                )
            )
    return tuple(lines)


def judge_followed(expected: str, history: History) -> Verdict:
    """Every change was seen by every observer within its budget, and stayed seen while it was watched.

    A delay is counted from the change to the answer of the first sample after which no sample says otherwise: never
    less than it really took. An observer that was last asked before the budget was over, and had not seen it, proves
    nothing.

    Args:
        expected: the promise in one sentence.
        history: changes and samples.
    """
    seen = _by_observer(history)
    violations: list[Finding] = []
    gaps = gap_findings(history.gaps)
    examined = 0
    for change in history.changes:
        late: defaultdict[str, list[str]] = defaultdict(list)
        for observer in change.observers:
            window = _window(seen, observer, change)
            told = [sample for sample in window if sample.present is not None]
            settled = _settled(told, wanted=change.appears)
            if settled is not None:
                examined += 1
                delay = settled.at - change.at
                if delay > change.budget.total_seconds():
                    late[f"{'seen' if change.appears else 'gone'} after {delay:.1f} s"].append(observer)
            elif told and told[-1].asked - change.at >= change.budget.total_seconds():
                examined += 1
                last = told[-1]
                detail = f" ({last.detail})" if last.detail else ""
                state = "not seen" if change.appears else "still seen"
                late[f"{state} after {last.asked - change.at:.1f} s{detail}"].append(observer)
            else:
                reason = window[-1].detail if window else ""
                gaps.append(
                    Finding(f"{observer}: {change.subject}", "to be observed", reason or "not observed for long enough")
                )
        violations += [
            Finding(
                f"{change.subject} at {listed(sorted(names))}",
                f"{'seen' if change.appears else 'gone'} within {change.budget.total_seconds():g} s",
                observed,
                change.cause,
            )
            for observed, names in late.items()
        ]
    return conclude(
        expected=expected,
        examined=examined,
        what="observations of changes",
        violations=violations,
        gaps=gaps,
        warnings=history.remarks,
    )


def judge_undisturbed(expected: str, history: History) -> Verdict:
    """What was watched stood all the time: no sample of any observer says otherwise.

    Args:
        expected: the promise in one sentence.
        history: changes that mark what was watched and how long, and samples.
    """
    seen = _by_observer(history)
    violations: list[Finding] = []
    gaps = gap_findings(history.gaps)
    examined = 0
    for change in history.changes:
        broken: defaultdict[str, list[str]] = defaultdict(list)
        for observer in change.observers:
            window = _window(seen, observer, change)
            told = [sample for sample in window if sample.present is not None]
            examined += len(told)
            missed = [sample for sample in told if not sample.present]
            if missed:
                detail = f" ({missed[0].detail})" if missed[0].detail else ""
                when = f"first after {missed[0].asked - change.at:.1f} s{detail}"
                broken[f"failed {len(missed)} times of {len(told)}, {when}"].append(observer)
            elif not told:
                reason = window[-1].detail if window else ""
                gaps.append(Finding(f"{observer}: {change.subject}", "to be watched", reason or "it never was"))
        violations += [
            Finding(f"{change.subject} at {listed(sorted(names))}", "to go on all the time", observed, change.cause)
            for observed, names in broken.items()
        ]
    return conclude(
        expected=expected,
        examined=examined,
        what="observations",
        violations=violations,
        gaps=gaps,
        warnings=history.remarks,
    )


def _by_observer(history: History) -> Mapping[tuple[str, str], list[Sample]]:
    """What each observer saw of each subject, in the order in which it was asked."""
    seen: defaultdict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in sorted(history.samples, key=lambda sample: sample.asked):
        seen[sample.observer, sample.subject].append(sample)
    return seen


def _window(seen: Mapping[tuple[str, str], list[Sample]], observer: str, change: Change) -> list[Sample]:
    """The samples of an observer that were begun and ended while the change was watched."""
    samples = seen.get((observer, change.subject), [])
    return [sample for sample in samples if change.at <= sample.asked and sample.at <= change.until]


def _settled(samples: Sequence[Sample], *, wanted: bool) -> Sample | None:
    """The first sample from which on all agree with what is wanted; None when the last one does not."""
    settled = None
    for sample in reversed(samples):
        if sample.present is not wanted:
            break
        settled = sample
    return settled
