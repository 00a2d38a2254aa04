"""NET-POL: what is open without a policy, when a policy takes hold, and what its removal brings back."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from analysis.facts import Enforcement, Lift, Party, Policies, Way
from analysis.plan import DATABASE, Plan
from analysis.policy.judging.flows import (
    by_pair,
    flows_of,
    gaps_of,
    judge_passing,
    kinds,
    let_through,
    open_question,
    subject,
    untried,
)
from analysis.policy.judging.meant import intent_of, meant
from analysis.policy.judging.said import Said
from analysis.policy.judging.tried import Fate, Tried, called, role_of, tried_flows
from analysis.policy.judging.ways import Ways
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import gap_findings, listed

BEFORE = "before"
"""How the detail of a trial begins that was made before the pod had its label."""


def judge_baseline(plan: Plan, policies: Policies, enforcement: Enforcement) -> Verdict:
    """NET-POL-001: between pods of different clusters that no policy is about, all ports are open."""
    return judge_passing(
        plan,
        policies,
        enforcement,
        [
            tried
            for tried in flows_of(enforcement)
            if tried.direct
            and tried.crosses
            and (tried.source.party, tried.target.party) == (Party.STRANGER, Party.STRANGER)
        ],
        expected="between pods of different clusters that no policy is about, every port is open",
        key=lambda tried: (tried.source.region, tried.target.region),
        required={
            (a.name, b.name): f"pods of {a.name} without a role -> pods of {b.name} without a role"
            for a, b in plan.ordered_pairs()
        },
        remedy="find the policy, or the packet filter, that is about pods which it was not meant for",
    )


def judge_new_connections(plan: Plan, policies: Policies, enforcement: Enforcement) -> Verdict:
    """NET-POL-015: policy takes hold of a pod that gets its label later, and of one made anew, for new connections.

    Connections that were there before may go on, as conntrack has it; that is told, and judged by nobody.
    """
    intent, said = intent_of(plan), Said(plan, policies, enforcement.participants)
    flows = [tried for tried in flows_of(enforcement) if tried.trial.way in (Way.LABELLED_LATER, Way.AFTER_RESTART)]
    after = [tried for tried in flows if not _unlabelled(tried)]
    let_in = [tried for tried in after if tried.fate is Fate.PASSED and meant(intent, tried) is False]
    ways = Ways(flows_of(enforcement))
    shut_out = [tried for tried in after if tried.fate is Fate.STOPPED and meant(intent, tried) and ways.is_open(tried)]
    doubtful = [
        tried
        for tried in after
        if tried.fate is Fate.UNDECIDED
        or (tried.fate is Fate.STOPPED and meant(intent, tried) is False and tried.doubt)
    ]
    never_open = [tried for tried in flows if _unlabelled(tried) and tried.fate is not Fate.PASSED]
    required: dict[Hashable, str] = {
        Way.LABELLED_LATER: "a pod that gets its label later",
        Way.AFTER_RESTART: "a pod made anew",
    }
    return conclude(
        expected="policy holds for every new connection to a pod, from the moment that it has its label",
        examined=len(after) - len(doubtful),
        what="new connections after a change",
        violations=[
            *(let_through(group, said) for group in by_pair(let_in).values()),
            *(_shut_out(group) for group in by_pair(shut_out).values()),
        ],
        gaps=[
            *gaps_of(enforcement, "participants", "trials", "changes"),
            *(open_question(group) for group in by_pair(doubtful).values()),
            *(_never_open(group) for group in by_pair(never_open).values()),
            *untried(required, {tried.trial.way for tried in flows}),
        ],
        warnings=tuple(_established(enforcement)),
        remedy="see whether the node's agent follows changes of labels and new pods",
    )


def judge_lift(plan: Plan, policies: Policies, enforcement: Enforcement, lift: Lift) -> Verdict:
    """NET-POL-017: without the policy what it stopped gets through, and once it is back it is stopped again.

    What got through before it was taken away is no matter of its removal.
    """
    intent, said = intent_of(plan), Said(plan, policies, lift.participants)
    without = [tried for tried in tried_flows(lift.participants, lift.without) if meant(intent, tried) is False]
    again = [tried for tried in tried_flows(lift.participants, lift.again) if meant(intent, tried) is False]
    ways = Ways([*flows_of(enforcement), *tried_flows(lift.participants, (*lift.without, *lift.again))])
    still_stopped = [
        tried for tried in without if tried.fate is Fate.STOPPED and tried.target.healthy and ways.is_open(tried)
    ]
    open_before = {_place(tried) for tried in flows_of(enforcement) if tried.fate is Fate.PASSED}
    let_in = [tried for tried in again if tried.fate is Fate.PASSED and _place(tried) not in open_before]
    undecided = [
        *(tried for tried in without if tried.fate is not Fate.PASSED and tried not in still_stopped),
        *(tried for tried in again if tried.fate is not Fate.PASSED and tried.doubt),
    ]
    required: dict[Hashable, str] = {region.name: f"{DATABASE} pods of {region.name}" for region in plan.regions}
    return conclude(
        expected="without its policy the database's pods are open to all, and closed again once it is back",
        examined=len(without) + len(again) - len(undecided),
        what="connections without the policy and after it",
        violations=[*(_still_stopped(group) for group in by_pair(still_stopped).values())]
        + [let_through(group, said) for group in by_pair(let_in).values()],
        gaps=[
            *gap_findings(lift.gaps),
            *(open_question(group) for group in by_pair(undecided).values()),
            *untried(required, {region for region, _, _ in lift.removed}),
        ],
        remedy="look for what the agents left behind (rules, sets, endpoints' policy maps), and for other policies "
        "that are about these pods",
    )


def _place(tried: Tried) -> tuple[str, str, str]:
    """What a flow was about, whichever pods of ours it was tried with."""
    return called(tried.source), called(tried.target), tried.flow


def _unlabelled(tried: Tried) -> bool:
    """Whether it was made before the pod had its label."""
    return tried.trial.way is Way.LABELLED_LATER and tried.trial.detail.startswith(BEFORE)


def _shut_out(group: list[Tried]) -> Finding:
    cause = "the agent has not taken the change up: to it the pod still is what it was"
    return Finding(subject(group[0]), f"{kinds(group)} to get through", "nothing came through", cause)


def _still_stopped(group: list[Tried]) -> Finding:
    cause = "the agents keep what they programmed for it, or something else stops these flows as well"
    return Finding(
        subject(group[0]), f"{kinds(group)} to get through without the policy", "nothing came through", cause
    )


def _never_open(group: list[Tried]) -> Finding:
    expected = f"{kinds(group)} to get through before the pod has its label, as the control"
    return Finding(subject(group[0]), expected, "nothing came through")


def _established(enforcement: Enforcement) -> Iterator[str]:
    """What became of connections that were there before policy took hold."""
    flows = [tried for tried in flows_of(enforcement) if tried.trial.way is Way.ESTABLISHED]
    for fate, words in ((Fate.PASSED, "went on"), (Fate.STOPPED, "ended")):
        if alike := [tried for tried in flows if tried.fate is fate]:
            where = listed(dict.fromkeys(f"{tried.target.region}" for tried in alike))
            yield (
                f"of the connections that were there before the policy, {len(alike)} to pods of {where} {words}: "
                f"whoever is connected when a policy comes is {'not touched' if fate is Fate.PASSED else 'cut off'}"
            )


def enforced_in(plan: Plan, enforcement: Enforcement) -> frozenset[str]:
    """The regions where policy was seen to stop something on its way to database pods."""
    intent = intent_of(plan)
    return frozenset(
        tried.target.region
        for tried in flows_of(enforcement)
        if tried.fate is Fate.STOPPED
        and not tried.doubt
        and role_of(tried.target) == DATABASE
        and meant(intent, tried) is False
    )
