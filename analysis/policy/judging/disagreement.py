"""Where the policy objects say one thing and packets do another: each alone would send an engineer the wrong way."""

from __future__ import annotations

from analysis.contradictions import Contradiction
from analysis.facts import Enforcement, Policies
from analysis.plan import Plan
from analysis.policy.judging.flows import by_pair, flows_of, kinds, subject
from analysis.policy.judging.said import Said
from analysis.policy.judging.tried import IN_TIME, Fate, Tried, called
from analysis.policy.judging.ways import Ways
from analysis.words import listed


def find_disagreements(plan: Plan, policies: Policies, enforcement: Enforcement) -> tuple[Contradiction, ...]:
    """Every pair of parties between whom the objects and the packets disagree.

    A flow that is allowed and does not arrive says something about policy only where others find the way between the
    same nodes; what got through although it is denied says so in any case.
    """
    said = Said(plan, policies, enforcement.participants)
    flows = [tried for tried in flows_of(enforcement) if tried.trial.way not in IN_TIME and tried.target.healthy]
    ways = Ways(flows)
    apart = [tried for tried in flows if _tells(tried, ways) and said.disagrees(tried)]
    found = []
    for group in by_pair(apart).values():
        for fate in (Fate.PASSED, Fate.STOPPED):
            if alike := [tried for tried in group if tried.fate is fate]:
                found.append(_contradiction(alike, said))
    return tuple(found)


def _tells(tried: Tried, ways: Ways) -> bool:
    if tried.fate is Fate.STOPPED:
        return tried.trial.control is not False and ways.is_open(tried)
    return tried.fate is Fate.PASSED


def _contradiction(group: list[Tried], said: Said) -> Contradiction:
    first = group[0]
    if first.fate is Fate.PASSED:
        meaning = (
            "the policy is there and is not enforced: the agent of that node has not programmed it, or the packets "
            "arrive under another address than their sender's"
        )
        remedy = (
            "look at the agent's log and at what it has programmed on that node, and at the source that the pod sees"
        )
    else:
        meaning = (
            "the engine does not take the other end for what it is: pods of another cluster that it does not know, "
            "labels that it has not followed, or rules of another that are in front of it"
        )
        remedy = "compare what the engine holds of that pod (its address, labels or identity) with the API"
    places = listed(dict.fromkeys(f"{tried.source.name} -> {tried.target.name}" for tried in group))
    outcome = "got through" if first.fate is Fate.PASSED else "did not arrive"
    data = f"{kinds(group)} {outcome} ({places})"
    return Contradiction(subject(first), _said(first, said), data, meaning, remedy, "policy objects and packets")


def _said(tried: Tried, said: Said) -> str:
    return f"{called(tried.source)} to {called(tried.target)}, {tried.flow}: {said.told(tried).partition(', yet')[0]}"
