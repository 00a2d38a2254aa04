"""NET-POL: is what must not get through stopped, over new connections and by the ways around policy?"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from analysis.facts import Enforcement, Participant, Party, Policies, Sweep, Way
from analysis.members import database_of
from analysis.plan import DATABASE, Plan
from analysis.policy.judging.flows import flows_of, gaps_of, judge_stopped
from analysis.policy.judging.meant import intent_of, meant
from analysis.policy.judging.said import Said
from analysis.policy.judging.tried import IN_TIME, Tried, called, role_of
from analysis.policy.judging.whole_set import said_apart
from analysis.verdict import Finding, Verdict
from analysis.words import count, gap_findings, listed

SHOWN_PORTS = 8
SHOWN_DETOURS = 3


def judge_other_ports(plan: Plan, policies: Policies, enforcement: Enforcement) -> Verdict:
    """NET-POL-007: between database pods nothing is open but what the intent lists, by whatever protocol or way."""
    names = [region.name for region in plan.regions]
    required: dict[Hashable, str] = {
        (a, b, protocol): f"unlisted {protocol} ports, {DATABASE} pods of {a} -> {DATABASE} pods of {b}"
        for a in names
        for b in names
        for protocol in ("TCP", "UDP")
        if a != b
    }
    return judge_stopped(
        [tried for tried in _unmeant(plan, enforcement) if tried.between(DATABASE, DATABASE)],
        Said(plan, policies, enforcement.participants),
        expected="between database pods everything is blocked but the ports that the intent lists",
        key=lambda tried: (tried.source.region, tried.target.region, tried.trial.protocol),
        required=required,
        gaps=[*gaps_of(enforcement), *_sweep_gaps(plan, enforcement, into=DATABASE, out_of=DATABASE)],
        violations=_swept_open(plan, enforcement, into=DATABASE, out_of=DATABASE),
        remedy="allow ports by number, in a policy that has both directions in its types, and nothing beside it: no "
        "rule without ports or protocol, no earlier tier or policy that allows all",
        warnings=[
            f"{finding.subject}: {finding.observed}; it should be: {finding.expected}"
            for finding in said_apart(plan, policies, lambda source, target: source == target == DATABASE)
        ],
    )


def judge_strangers(plan: Plan, policies: Policies, enforcement: Enforcement) -> Verdict:
    """NET-POL-011: whoever was not declared does not reach the database, from near or far, in person or disguised."""
    names = [region.name for region in plan.regions]
    required: dict[Hashable, str] = {
        (a, b, port): f"TCP {port}, pods of {a} without a role -> {DATABASE} pods of {b}"
        for a in names
        for b in names
        for port in database_of(plan).ports
    }
    return judge_stopped(
        [
            tried
            for tried in _unmeant(plan, enforcement)
            if role_of(tried.target) == DATABASE and role_of(tried.source) != DATABASE
        ],
        Said(plan, policies, enforcement.participants),
        expected="nobody reaches database pods but those whom the intent names, on the ports that it lists",
        key=lambda tried: (tried.source.region, tried.target.region, tried.trial.port),
        required=required,
        gaps=[*gaps_of(enforcement), *_sweep_gaps(plan, enforcement, into=DATABASE)],
        violations=_swept_open(plan, enforcement, into=DATABASE),
        remedy="select the database's pods by a policy with ingress in its types, and let in by label only",
        warnings=list(_untried(enforcement)),
    )


def judge_destinations(plan: Plan, policies: Policies, enforcement: Enforcement) -> Verdict:
    """NET-POL-013: database pods reach nobody but whom the intent names."""
    required: dict[Hashable, str] = {
        (region.name, Party.STRANGER): f"{DATABASE} pods of {region.name} -> pods without a role"
        for region in plan.regions
    }
    if plan.egress:
        required |= {
            (region.name, Party.OUTSIDE): f"{DATABASE} pods of {region.name} -> {plan.egress.address} outside"
            for region in plan.regions
        }
    return judge_stopped(
        [
            tried
            for tried in _unmeant(plan, enforcement)
            if role_of(tried.source) == DATABASE and role_of(tried.target) != DATABASE
        ],
        Said(plan, policies, enforcement.participants),
        expected="database pods reach nothing but what the intent lists and their cluster's DNS",
        key=lambda tried: (tried.source.region, tried.target.party),
        required=required,
        gaps=[*gaps_of(enforcement), *_sweep_gaps(plan, enforcement, out_of=DATABASE)],
        violations=_swept_open(plan, enforcement, out_of=DATABASE),
        remedy="put Egress into the types of the database's policy, and allow destinations by label and port",
    )


def _unmeant(plan: Plan, enforcement: Enforcement) -> list[Tried]:
    """What was tried although it was not meant to get through."""
    intent = intent_of(plan)
    return [
        tried for tried in flows_of(enforcement) if tried.trial.way not in IN_TIME and meant(intent, tried) is False
    ]


def _untried(enforcement: Enforcement) -> Iterator[str]:
    """Ways to the database that may be there and were not tried."""
    yield from _shut_detours(enforcement)
    if enforcement.ipv6:
        yield f"pods of {listed(enforcement.ipv6)} have IPv6 addresses, and nothing was tried over IPv6"


def _shut_detours(enforcement: Enforcement) -> Iterator[str]:
    """Node ports by which nobody could go around policy, so that it remains open whether it would stop them."""
    untried = [gap for gap in enforcement.gaps if gap.parts == ("node-ports",)]
    if untried:
        told = listed((f"{gap.region}: {gap.subject}: {gap.error}" for gap in untried), limit=SHOWN_DETOURS)
        yield f"not every way by node ports was tried: {told}"
    elif not any(trial.way is Way.NODE_PORT for trial in enforcement.trials):
        yield "no way by node ports was tried"


def _sweeps(
    plan: Plan, enforcement: Enforcement, *, into: str = "", out_of: str = ""
) -> Iterator[tuple[Sweep, Participant, Participant, frozenset[int]]]:
    """Sweeps of all ports of a pair that is meant, and the ports of it that the intent lists.

    With both roles, sweeps from the one to the other; with one of them, those with that role at that end only.
    """
    for sweep in enforcement.sweeps:
        source, target = enforcement.participants[sweep.source], enforcement.participants[sweep.target]
        ends = (role_of(source) == DATABASE, role_of(target) == DATABASE)
        if ends != (bool(out_of), bool(into)):
            continue
        listed_ports = intent_of(plan).ports((role_of(source), source.region), (role_of(target), target.region))
        yield sweep, source, target, listed_ports if sweep.protocol == "TCP" else frozenset()


def _swept_open(plan: Plan, enforcement: Enforcement, *, into: str = "", out_of: str = "") -> list[Finding]:
    """Findings for ports that a sweep found open and the intent does not list."""
    found = []
    for sweep, source, target, allowed in _sweeps(plan, enforcement, into=into, out_of=out_of):
        if surplus := [port for port in sweep.reached if port not in allowed]:
            ports = listed(_ranges(surplus), limit=SHOWN_PORTS)
            where = f"{called(source)} -> {called(target)}"
            told = f"{count(len(surplus), 'port')} more of {_swept(sweep)}: {ports}"
            found.append(Finding(where, "nothing open but what is listed", told))
    return found


def _sweep_gaps(plan: Plan, enforcement: Enforcement, *, into: str = "", out_of: str = "") -> Iterator[Finding]:
    """What sweeps leave open: ports of which nothing is known, and sweeps that did not even find what must be open."""
    yield from gap_findings((gap for gap in enforcement.gaps if gap.parts == ("sweeps",)), "sweeps")
    for sweep, source, target, allowed in _sweeps(plan, enforcement, into=into, out_of=out_of):
        where = f"{called(source)} -> {called(target)}, {_swept(sweep)}"
        if sweep.undecided:
            told = f"nothing can be said of {count(len(sweep.undecided), 'port')}: {listed(_ranges(sweep.undecided))}"
            yield Finding(where, "every port to be tried with a result", told)
        control = allowed.intersection(sweep.ports or range(sweep.first, sweep.last + 1))
        if lost := control.difference(sweep.reached):
            yield Finding(
                where, "the listed ports to be found, as the control", f"{listed(sorted(lost))} did not answer"
            )


def _swept(sweep: Sweep) -> str:
    """The ports of a sweep, in words."""
    return (f"{len(sweep.ports)} of " if sweep.ports else "") + f"{sweep.protocol} {sweep.first}-{sweep.last}"


def _ranges(ports: Iterable[int]) -> list[str]:
    """Ports in ascending order, neighbours together: "1-21", "8081"."""
    runs: list[list[int]] = []
    for port in sorted(ports):
        if runs and port == runs[-1][1] + 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    return [str(first) if first == last else f"{first}-{last}" for first, last in runs]
