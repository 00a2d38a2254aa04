"""Judging what was done: flows that must get through, and flows that must not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping

from analysis.facts import Enforcement, Policies
from analysis.plan import Plan
from analysis.policy.judging.said import Said
from analysis.policy.judging.tried import Fate, Tried, called, flow_words, tried_flows
from analysis.policy.judging.ways import Ways
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import OUTCOME_WORDS, count, gap_findings, listed

Key = Callable[[Tried], Hashable]
Groups = dict[tuple[str, str], list[Tried]]

LOST = "the path is broken below policy, or the engine does not know the other end by its labels"
LEFT_OPEN = "the objects say so: a rule is wider than the intent, or no policy selects the pod"
NOT_DONE = (
    "what is enforced is not what the objects say: the agent of that node does not program them, or the sender's "
    "address is rewritten on the way"
)


def flows_of(enforcement: Enforcement) -> list[Tried]:
    """Everything that was tried, sweeps apart."""
    return tried_flows(enforcement.participants, enforcement.trials)


def judge_passing(
    plan: Plan,
    policies: Policies,
    enforcement: Enforcement,
    flows: list[Tried],
    *,
    expected: str,
    key: Key,
    required: Mapping[Hashable, str],
    remedy: str,
) -> Verdict:
    """Whether flows get through that must. Where nothing does, and the objects allow it, no policy is to blame.

    Args:
        plan: with the intent.
        policies: what the objects say.
        enforcement: everything that was tried.
        flows: those of it that are asked about, all of which must get through.
        expected: the promise.
        key: what a flow shows something about; everything in `required` needs a flow that shows something.
        required: the keys, with what each is called.
        remedy: what to do about it.
    """
    said, ways = Said(plan, policies, enforcement.participants), Ways(flows_of(enforcement))
    silent = [tried for tried in flows if tried.fate is Fate.STOPPED and tried.target.healthy]
    blocked = [tried for tried in silent if ways.is_open(tried) or said.denies(tried)]
    cut_off = [tried for tried in silent if tried not in blocked]
    passed = [tried for tried in flows if tried.fate is Fate.PASSED]
    shown = {key(tried) for tried in (*blocked, *passed)}
    undecided = [tried for tried in flows if tried not in silent and tried not in passed and key(tried) not in shown]
    return conclude(
        expected=expected,
        examined=len(blocked) + len(passed),
        what="connections",
        violations=[_blocked(group, flows, said) for group in by_pair(blocked).values()],
        gaps=[
            *gaps_of(enforcement),
            *(_cut_off(group) for group in by_pair(cut_off).values()),
            *(open_question(group) for group in by_pair(undecided).values()),
            *untried(required, {key(tried) for tried in flows}),
        ],
        remedy=remedy,
    )


def judge_stopped(
    flows: Iterable[Tried],
    said: Said,
    *,
    expected: str,
    key: Key,
    required: Mapping[Hashable, str],
    gaps: Iterable[Finding],
    remedy: str,
    violations: Iterable[Finding] = (),
    warnings: Iterable[str] = (),
) -> Verdict:
    """Whether flows are stopped that must be: only a silence that proves something counts.

    Args:
        flows: those that were tried, all of which must be.
        said: what the objects say.
        expected: the promise.
        key: what a flow shows something about; everything in `required` needs a flow that shows something.
        required: the keys, with what each is called.
        gaps: what could not be observed.
        remedy: what to do about it.
        violations: what else breaks the promise.
        warnings: what is worth a remark and breaks nothing.
    """
    flows = list(flows)
    passed = [tried for tried in flows if tried.fate is Fate.PASSED]
    denied = [tried for tried in flows if tried.fate is Fate.STOPPED and not tried.doubt]
    doubtful = [tried for tried in flows if tried.fate is not Fate.PASSED and tried.doubt]
    return conclude(
        expected=expected,
        examined=len(passed) + len(denied),
        what="attempts",
        violations=[*(let_through(group, said) for group in by_pair(passed).values()), *violations],
        gaps=[
            *gaps,
            *(open_question(group) for group in by_pair(doubtful).values()),
            *untried(required, {key(tried) for tried in flows}),
        ],
        remedy=remedy,
        warnings=tuple(warnings),
    )


def by_pair(flows: Iterable[Tried]) -> Groups:
    """Flows by who tried to reach whom."""
    groups: defaultdict[tuple[str, str], list[Tried]] = defaultdict(list)
    for tried in flows:
        groups[called(tried.source), called(tried.target)].append(tried)
    return dict(groups)


def subject(tried: Tried) -> str:
    """Who tried to reach whom."""
    return f"{called(tried.source)} -> {called(tried.target)}"


def kinds(group: Iterable[Tried]) -> str:
    """The protocols and ports of a group, and how they were tried where it was not the ordinary way."""
    return listed(
        dict.fromkeys(tried.flow + ("" if tried.direct else f" ({tried.trial.way.value})") for tried in group)
    )


def let_through(group: list[Tried], said: Said) -> Finding:
    """The finding that flows got through which must not."""
    telling = next((tried for tried in group if said.disagrees(tried)), group[0])
    observed = f"got through from {telling.source.name} to {telling.target.name} ({telling.target.address})"
    told = said.told(telling)
    return Finding(
        subject(telling),
        f"{kinds(group)} to be stopped",
        "; ".join(filter(None, (f"{kinds(group)} {observed}", told))),
        None if not told else NOT_DONE if said.disagrees(telling) else LEFT_OPEN,
    )


def open_question(group: list[Tried]) -> Finding:
    """The finding that nothing follows from what was tried."""
    return Finding(subject(group[0]), f"{kinds(group)} to be tried with a result", group[0].doubt or "nothing was told")


def untried(required: Mapping[Hashable, str], tried: set[Hashable]) -> list[Finding]:
    """A finding for each flow that nobody tried."""
    return [Finding(name, "to be tried", "nobody did") for key, name in required.items() if key not in tried]


def gaps_of(enforcement: Enforcement, *parts: str) -> list[Finding]:
    """What could not be tried."""
    return gap_findings(enforcement.gaps, *(parts or ("participants", "trials")))


def _cut_off(group: list[Tried]) -> Finding:
    observed = (
        "nothing at all gets through between their nodes, which no policy asks for: see what carries packets there"
    )
    return Finding(subject(group[0]), f"{kinds(group)} to be tried over a way that is there", observed)


def _blocked(group: list[Tried], flows: list[Tried], said: Said) -> Finding:
    first = group[0]
    alike = [tried for tried in flows if subject(tried) == subject(first)]
    outcome = OUTCOME_WORDS.get(first.trial.outcome, first.trial.outcome.value)
    told = said.told(first)
    observed = f"{kinds(group)}: {outcome} in {len(group)} of {count(len(alike), 'connection')}"
    return Finding(
        subject(first),
        f"{kinds(group)} to get through",
        "; ".join(filter(None, (observed, told))),
        None if not told else LOST if said.disagrees(first) else "the objects do not allow it",
    )


def ports_words(ports: Iterable[int], protocol: str = "TCP") -> str:
    """Ports of a protocol, in words."""
    return listed(flow_words(protocol, port) for port in sorted(ports))
