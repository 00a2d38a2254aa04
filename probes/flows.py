"""Tries flows: many new connections and datagrams from many places at once, each with its controls, and asks who came.

One plan per source does it all: the controls, the flows, the controls again. Then the listeners tell whom they heard. A
flow that must pass and did not, or whose controls did not pass, is tried a second time with twice the patience: a busy
machine is no policy.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeAlias

from analysis.facts import FlowTrial, Gap, Participant, ProbeOutcome, Way
from probes.client import AgentRun, Operation, column, run_agent
from probes.cluster import Cluster
from probes.deploy import ProbePod
from probes.errors import ProbeError
from probes.mesh import Mesh

TIMEOUT_S = 1.3
"""Long enough for one more SYN by the kernel (after 1 s). What is dropped is dropped without a word."""

HASTY_S = 0.5
TRIES = 2
WINDOW = 512
WITHIN = timedelta(seconds=15)
PROTOCOLS = {
    "tcp": "TCP",
    "knock": "TCP",
    "line": "TCP",
    "dns-tcp": "TCP",
    "udp": "UDP",
    "udp-fragments": "UDP",
    "dns-udp": "UDP",
    "icmp": "ICMP",
    "sctp": "SCTP",
}
"""What the agent's ways to knock are over."""

PASSED = (ProbeOutcome.OPEN, ProbeOutcome.REFUSED)
"""There is no need to ask again: policy that stops a flow drops it, and a refusal is the target's word."""


@dataclass(frozen=True)
class Side:
    """Where flows begin or end.

    Attributes:
        pod: where the agent runs; None for those that flows only lead to.
        doors: what its listeners that tell who knocked are addressed by; "" where there are none.
        identity: what its listeners call themselves; of a DNS server, the name to ask it for.
        node_ports: its TCP ports, each with the port of every node of its region that leads there.
    """

    participant: Participant
    pod: ProbePod | None = None
    doors: str = ""
    identity: str = ""
    node_ports: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Flow:
    """A flow to try.

    Attributes:
        source: place in the row of sides; `target` likewise.
        kind: the agent's way to knock.
        must_pass: policy is to let it through, so that it is tried again when it does not pass.
        controls: flows that must pass before and after for a silence to say something.
        through: address and port to knock at instead, which lead to the target's.
    """

    source: int
    target: int
    kind: str
    port: int
    way: Way = Way.DIRECT
    must_pass: bool = False
    controls: tuple[Flow, ...] = ()
    through: tuple[str, int] | None = None


@dataclass(frozen=True)
class Tried:
    """What came of all flows.

    Attributes:
        trials: one for each flow, in their order.
        unwell: sides whose own listeners did not answer them, before or after, or where nothing could be run.
        deaf: sides that could not tell what their listeners had heard, and why.
    """

    trials: tuple[FlowTrial, ...]
    unwell: frozenset[int] = frozenset()
    gaps: tuple[Gap, ...] = ()
    deaf: Mapping[int, str] = field(default_factory=dict)


def try_flows(mesh: Mesh, sides: Sequence[Side], flows: Sequence[Flow]) -> Tried:
    """Try them all at once, and some of them once more."""
    first = _try_once(mesh, sides, flows, timeout=TIMEOUT_S, tries=TRIES)
    again = [
        place
        for place, (flow, trial) in enumerate(zip(flows, first.trials, strict=True))
        if trial.control is False
        or (flow.must_pass and trial.outcome not in PASSED)
        or (flow.target in first.deaf and trial.heard is None)
    ]
    if not again:
        return first
    second = _try_once(mesh, sides, [flows[place] for place in again], timeout=2 * TIMEOUT_S, tries=2 * TRIES)
    trials = list(first.trials)
    for place, trial in zip(again, second.trials, strict=True):
        if trial.outcome is not ProbeOutcome.INCONCLUSIVE:
            trials[place] = replace(trial, detail=f"{trial.detail} (tried twice)".lstrip())
    return Tried(tuple(trials), (first.unwell - {flows[place].source for place in again}) | second.unwell, second.gaps)


def knock(mesh: Mesh, sides: Sequence[Side], flows: Sequence[Flow], *, timeout: float = HASTY_S) -> Tried:
    """Try them once and in haste: to see whether it is time to try in earnest."""
    return _try_once(mesh, sides, [replace(flow, controls=()) for flow in flows], timeout=timeout, tries=1)


def _try_once(mesh: Mesh, sides: Sequence[Side], flows: Sequence[Flow], *, timeout: float, tries: int) -> Tried:
    token = secrets.token_hex(4)
    plans: dict[int, _Plan] = {}

    def plan_of(number: int) -> _Plan:
        return plans.setdefault(number, _Plan(f"{token}{number:04x}"))

    for flow in flows:
        plan_of(flow.source).flows.append(flow)
        for control in flow.controls:
            plan_of(control.source).controls.setdefault(control)

    def run(cluster: Cluster, number: int) -> AgentRun:
        pod = sides[number].pod
        assert pod is not None, "flows begin where the agent can run"
        operations = plans[number].operations(sides, timeout, tries)
        return run_agent(cluster, pod.namespace, pod.name, operations, within=WITHIN, control=pod.control)

    runs = dict(mesh.each(plans, lambda number: sides[number].participant.region, run))
    before, answers, after = (
        {flow: answer for number, plan in plans.items() for flow, answer in plan.read(place, runs[number])}
        for place in range(3)
    )
    told = _hear(mesh, sides, {flow.target for flow in flows if not flow.through})
    heard = {number: seen for number, seen in told.items() if not isinstance(seen, ProbeError)}
    deaf = {number: str(seen) for number, seen in told.items() if isinstance(seen, ProbeError)}
    passed = [{flow for flow, told in each.items() if _proves(flow, told.outcome)} for each in (before, after)]
    return Tried(
        trials=tuple(
            FlowTrial(
                flow.source,
                flow.target,
                PROTOCOLS[flow.kind],
                flow.port,
                answers[flow].outcome,
                flow.way,
                heard=_was_heard(sides, flow, answers[flow], heard.get(flow.target)),
                control=all(set(flow.controls) <= each for each in passed) if flow.controls else None,
                detail=": ".join(filter(None, (_way_in(flow), answers[flow].detail, deaf.get(flow.target, "")))),
            )
            for flow in flows
        ),
        unwell=frozenset(
            number for number, told in runs.items() if isinstance(told, ProbeError) or told.control_failure
        ),
        gaps=tuple(
            Gap(
                sides[number].participant.region, f"flows from {sides[number].participant.name}", str(told), ("trials",)
            )
            for number, told in runs.items()
            if isinstance(told, ProbeError)
        ),
        deaf=deaf,
    )


def _proves(control: Flow, outcome: ProbeOutcome) -> bool:
    """Whether a control has passed. Where none of ours listens, a refusal is the target's own word as well."""
    return outcome is ProbeOutcome.OPEN or (control.kind == "knock" and outcome is ProbeOutcome.REFUSED)


_Heard: TypeAlias = Mapping[str, Mapping[str, int]]
"""By protocol, what a listener saw come and how often."""


@dataclass(frozen=True)
class _Answer:
    """What came of a flow once. `seen` is the source that the listener saw, `mark` what its datagrams are known by."""

    outcome: ProbeOutcome
    detail: str = ""
    seen: str = ""
    mark: str = ""


@dataclass
class _Plan:
    """What one side tries: flows, and the controls of anybody's flows that begin here, each once."""

    mark: str
    flows: list[Flow] = field(default_factory=list)
    controls: dict[Flow, None] = field(default_factory=dict)

    def row(self, place: int) -> list[tuple[str, list[Flow]]]:
        """Controls, flows, or controls again, by their kind."""
        kinds: dict[str, list[Flow]] = {}
        for flow in self.flows if place == 1 else self.controls:
            kinds.setdefault(flow.kind, []).append(flow)
        return list(kinds.items())

    def operations(self, sides: Sequence[Side], timeout: float, tries: int) -> list[Operation]:
        """The three rows as the agent is asked for them."""
        return [
            {
                "op": "probe",
                "batches": [
                    {
                        "kind": kind,
                        "targets": [_target(sides, flow) for flow in flows],
                        "timeout": timeout,
                        "tries": tries,
                        "window": WINDOW,
                        "mark": f"{self.mark}{place:04x}",
                    }
                    for kind, flows in self.row(place)
                ],
            }
            for place in range(3)
        ]

    def read(self, place: int, run: AgentRun | ProbeError) -> Iterable[tuple[Flow, _Answer]]:
        """What came of a row."""
        told = {"error": str(run)} if isinstance(run, ProbeError) else run.operations[place]
        if "error" in told:
            for _kind, flows in self.row(place):
                yield from ((flow, _Answer(ProbeOutcome.INCONCLUSIVE, told["error"])) for flow in flows)
            return
        for (_kind, flows), batch in zip(self.row(place), told["batches"], strict=True):
            columns = (column(batch, name) for name in ("outcome", "detail", "seen"))
            for number, (flow, outcome, detail, seen) in enumerate(zip(flows, *columns, strict=True)):
                mark = f"{self.mark}{place:04x} {number}"
                yield flow, _Answer(ProbeOutcome(outcome), detail or "", seen or "", mark)


def _way_in(flow: Flow) -> str:
    """What was knocked at in place of the target, in words."""
    return "port {1} of {0}".format(*flow.through) if flow.through else ""


def _target(sides: Sequence[Side], flow: Flow) -> list[Any]:
    target = sides[flow.target]
    address, port = flow.through or (str(target.participant.address), flow.port)
    return [address, port, target.identity]


def _hear(mesh: Mesh, sides: Sequence[Side], targets: Iterable[int]) -> dict[int, _Heard | ProbeError]:
    """What the listeners of these sides have heard since they were last asked, or why it is not known."""

    def ask(cluster: Cluster, number: int) -> _Heard:
        pod = sides[number].pod
        assert pod is not None
        operation: Operation = {"op": "account", "name": sides[number].doors}
        answer = run_agent(cluster, pod.namespace, pod.name, [operation], within=WITHIN).operations[0]
        if "error" in answer:
            raise ProbeError(answer["error"])
        seen: _Heard = answer["seen"]
        return seen

    asked = [number for number in targets if sides[number].doors and sides[number].pod]
    return dict(mesh.each(asked, lambda number: sides[number].participant.region, ask))


def _was_heard(sides: Sequence[Side], flow: Flow, answer: _Answer, seen: _Heard | None) -> bool | None:
    """Whether the listener that the flow was for saw it come; None where there is none, or it cannot be asked."""
    protocol = PROTOCOLS[flow.kind]
    if (protocol, flow.port) not in sides[flow.target].participant.listening:
        return None
    if answer.outcome is ProbeOutcome.OPEN:
        return True
    if flow.through:
        return False  # it would come under a node's address, as others do; that the listener lives, controls show
    if seen is None:
        return None
    if protocol == "UDP":
        return answer.mark in seen["udp"]
    return f"{flow.port} {sides[flow.source].participant.address}" in seen[protocol.lower()]
