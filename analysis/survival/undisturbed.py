"""DB-SURV, bystanders: what must not notice an outage at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from analysis.facts.outage import Moment, Outage
from analysis.facts.workloads import DatabasePod
from analysis.fleet import OutageMode
from analysis.history.operation import Operation, Result
from analysis.plan import Plan
from analysis.survival.outages import known_of, of_modes, surviving, told, too_little
from analysis.survival.recovery import LOSSES
from analysis.survival.service import Service, Work, errors, operations_of, services, went_wrong
from analysis.survival.waiting import longest_silence, longest_wait
from analysis.verdict import Finding, Verdict
from analysis.words import count, listed, qualified

BROKEN = ("08", "57")
"""Classes of SQLSTATE that say that a session ended: connection exceptions and operator intervention."""


def judge_control_plane(plan: Plan, outages: Sequence[Outage]) -> Verdict:
    """DB-SURV-008: a cluster's control plane is gone, and clients of the other regions do not notice.

    Its own clients are reached through that control plane, so nothing is learnt from them.
    """
    lost = of_modes(outages, (OutageMode.CONTROL_PLANE,))
    return _judge(
        plan, lost, "The loss of one cluster's control plane leaves the database's clients alone",
        {outage.name: surviving(plan, outage) for outage in lost},
    )  # fmt: skip


def judge_routing(plan: Plan, outages: Sequence[Outage]) -> Verdict:
    """DB-SURV-009: a region's routing control restarts, and traffic between regions goes on."""
    lost = of_modes(outages, (OutageMode.ROUTING,))
    everybody = [region.name for region in plan.regions]
    return _judge(
        plan, lost, "The loss of a region's routing control leaves established traffic between regions alone",
        {outage.name: everybody for outage in lost},
    )  # fmt: skip


def judge_no_restarts(plan: Plan, outages: Sequence[Outage]) -> Verdict:
    """DB-SURV-010: database pods of healthy regions are the same before and after another region's outage."""
    remote = of_modes(outages, (*LOSSES, OutageMode.CONTROL_PLANE, OutageMode.ROUTING))
    violations: list[Finding] = []
    gaps: list[Finding] = []
    examined = 0
    for outage in known_of(remote, gaps, "before", "after"):
        after = {(pod.region, pod.name): pod for pod in outage.after}
        seen_after = {pod.region for pod in outage.after}
        for region in surviving(plan, outage):
            before = [pod for pod in outage.before if pod.region == region]
            if not before or region not in seen_after:
                when = "before" if not before else "after"
                gaps.append(Finding(f"{outage.name}: {region}", f"its database pods {when}", "none was seen"))
                continue
            for pod in before:
                examined += 1
                changed = _changed(pod, after.get((pod.region, pod.name)))
                if changed:
                    subject = f"{outage.name}: pod {qualified((region, pod.name))}"
                    cause = "its liveness depends on the other regions"
                    violations.append(Finding(subject, "the same as before, never restarted", changed, cause))
    return told(
        expected="Database pods of healthy regions are not restarted while another region is out",
        outages=remote,
        examined=examined,
        violations=violations,
        gaps=gaps,
        what="database pods of healthy regions",
        summary=f"none of {count(examined, 'look')} at database pods of healthy regions showed a restart",
    )


def _judge(plan: Plan, lost: Sequence[Outage], expected: str, regions: dict[str, list[str]]) -> Verdict:
    """Whether clients were served all the time, their sessions lasted, and regions went on answering each other."""
    limit = plan.budgets.stall.total_seconds()
    violations: list[Finding] = []
    gaps: list[Finding] = []
    judged: list[float] = []
    for outage in known_of(lost, gaps, "operations", "paths"):
        for served in services(outage, regions[outage.name]):
            waited, unsure = _waited(outage, served, limit)
            judged.append(waited)
            violations += [] if unsure or waited <= limit else [_late(outage, served, limit, waited)]
            gaps += unsure or ([] if waited > limit else too_little(outage, served))
        broken, unsure = _sessions(outage, regions[outage.name])
        violations += broken + _paths(outage, limit)
        gaps += unsure
    longest = max(judged, default=0.0)
    return told(
        expected=f"{expected}: no gap above {limit:g} s, no session broken",
        outages=lost,
        examined=len(judged),
        violations=violations,
        gaps=gaps,
        what="kinds of work",
        summary=f"clients never waited for an answer for more than {longest:.1f} s, and no session broke",
    )


def _sessions(outage: Outage, regions: Sequence[str]) -> tuple[list[Finding], list[Finding]]:
    """Sessions that broke while the fault lasted: deviations, or gaps where they had broken before it, too."""
    begun, healing = outage.at(Moment.BEGUN), outage.at(Moment.HEALING)
    violations: list[Finding] = []
    gaps: list[Finding] = []
    for region in regions:
        broken = [each for work in Work for each in operations_of(outage, region, work) if _is_broken(each)]
        before = [each for each in broken if begun is None or each.completed < begun]
        meanwhile = [
            each for each in broken if begun is not None and healing is not None and begun <= each.completed < healing
        ]
        if meanwhile:
            seen = f"{count(len(meanwhile), 'operation')} lost the connection or the answer ({errors(meanwhile)})"
            finding = Finding(f"{outage.name}: sessions in {region}", "to last", seen)
            (gaps if before else violations).append(finding)
    return violations, gaps


def _is_broken(operation: Operation) -> bool:
    """Whether its client lost the connection or the answer; without a code, the server said nothing."""
    return went_wrong(operation) and (
        operation.result is Result.UNKNOWN or not operation.code or operation.code[:2] in BROKEN
    )


def _paths(outage: Outage, limit: float) -> list[Finding]:
    """Pairs of regions, well before the fault, that did not answer each other for longer than that."""
    begun, healing = outage.at(Moment.BEGUN), outage.at(Moment.HEALING)
    if begun is None or healing is None:
        return []
    answers: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    missed: defaultdict[tuple[str, str], int] = defaultdict(int)
    for sample in sorted(outage.paths, key=lambda sample: sample.at):
        if sample.answered:
            answers[sample.source, sample.target].append(sample.at)
        elif begun <= sample.at < healing:
            missed[sample.source, sample.target] += 1
    late = []
    for (source, target), lost in missed.items():
        known = [at for at in answers[source, target] if at < healing]
        if any(at < begun for at in known):
            gap = max(later - earlier for earlier, later in pairwise([*known, healing]))
            if gap > limit:
                late.append((f"{source} -> {target}", gap, lost))
    return [
        Finding(
            f"{outage.name}: {name}", f"never unanswered for {limit:g} s", f"unanswered for {gap:.1f} s ({lost} probes)"
        )
        for name, gap, lost in late
    ]


def _changed(before: DatabasePod, after: DatabasePod | None) -> str:
    """How a pod differs from what it was, in words; "" for not at all."""
    if after is None:
        return "it is gone"
    differences = [
        "it was made anew" if after.uid != before.uid else "",
        f"{count(after.restarts - before.restarts, 'restart')} of its container"
        if after.restarts > before.restarts
        else "",
        f"its container started at {after.started}" if after.started != before.started else "",
    ]
    return listed(filter(None, differences))


def _waited(outage: Outage, served: Service, limit: float) -> tuple[float, list[Finding]]:
    """For how long clients waited for an answer while the fault lasted (s), and why that cannot be held against it.

    Clients that asked nothing for longer than an answer may take would not have noticed that none comes. Clients that
    waited as long before the fault tell nothing of it.
    """
    steady, begun, healing = (outage.at(moment) for moment in (Moment.STEADY, Moment.BEGUN, Moment.HEALING))
    assert steady is not None
    assert begun is not None
    assert healing is not None
    operations = operations_of(outage, served.region, served.work)
    waited = longest_wait(operations, begun, healing)
    subject, expected = f"{outage.name}: {served.subject}", f"never to wait for an answer for more than {limit:g} s"
    before = longest_wait(operations, steady, begun)
    if before > limit:
        return waited, [Finding(subject, expected, f"{before:.1f} s of waiting before the fault already")]
    silent = longest_silence(operations, steady, healing)
    if waited <= limit < silent:
        seen = f"clients asked nothing for {silent:.1f} s, and would not have noticed a pause: the machine was too busy"
        return waited, [Finding(subject, "clients that ask all the time", seen)]
    return waited, []


def _late(outage: Outage, served: Service, limit: float, waited: float) -> Finding:
    expected = f"never to wait for an answer for more than {limit:g} s"
    return Finding(f"{outage.name}: {served.subject}", expected, f"{waited:.1f} s of waiting")
