"""Policy and pods that change: one that gets the database's labels while it runs, and one that is made anew.

What is asked is how new connections fare before and after. Beside that a connection stands while the labels come: what
becomes of such ones is recorded, and nobody's promise.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from analysis.facts import FlowTrial, Gap, Party, ProbeOutcome, Way
from analysis.plan import DATABASE
from probes import deploy
from probes.client import ROUND_MARK, Operation, run_agent
from probes.cluster import Cluster
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ProbeError
from probes.flows import Flow, Side, Tried, knock, try_flows
from probes.mesh import Mesh
from probes.roles import ARBITRARY, Actor, Cast, enter, new_actor, ports_to_try, remove
from probes.scene import Scene, side_of

HOLD_EVERY_S = 0.1
HOLD_AT_MOST = timedelta(seconds=60)
STANDS_WITHIN = timedelta(seconds=10)
STALLED_S = 1.0
"""Nothing confirmed for so long: the connection does not go on."""

LOOK_AGAIN = wait_fixed(0.2)


@dataclass(frozen=True)
class Changes:
    """What came of it. The sides stand behind those of the scene."""

    sides: tuple[Side, ...] = ()
    trials: tuple[FlowTrial, ...] = ()
    gaps: tuple[Gap, ...] = ()


def try_changes(mesh: Mesh, probe_set: ProbeSet, scene: Scene, actors: Cast) -> Changes:
    """Both at once; what cannot be done is a gap."""
    done = [Changes()]
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="changes") as pool:
        attempts = [
            (what, actor, pool.submit(attempt, mesh, probe_set, scene, actor))
            for what, actor, attempt in (
                ("a pod that gets its labels later", actors.newcomer, _labelled_later),
                ("a pod that is made anew", actors.leaving, _made_anew),
            )
            if actor is not None
        ]
    for what, actor, attempt in attempts:
        try:
            side, trials = attempt.result()
        except ProbeError as error:
            done.append(Changes(gaps=(Gap(actor.pod.region, what, str(error), ("changes",)),)))
            continue
        place = len(scene.sides) + sum(len(each.sides) for each in done)
        moved = (replace(trial, target=place) for trial in trials)
        done.append(Changes((side,), tuple(moved)))
    return Changes(
        tuple(side for each in done for side in each.sides),
        tuple(trial for each in done for trial in each.trials),
        tuple(gap for each in done for gap in each.gaps),
    )


def _labelled_later(mesh: Mesh, _probe_set: ProbeSet, scene: Scene, actor: Actor) -> tuple[Side, tuple[FlowTrial, ...]]:
    """Before it has the labels anybody gets in, afterwards only who may. Raises ProbeError."""
    region = actor.pod.region
    with_it, newcomer = _with(scene, replace(actor, party=Party.ROLE, role=DATABASE))
    strange, allowed = _flows(with_it, newcomer, Way.LABELLED_LATER)
    open_before = [replace(flow, must_pass=True, controls=()) for flow in strange]
    held, port = strange[0], _sink(mesh.cluster(region), actor.pod)
    enough, stands = threading.Event(), threading.Event()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="hold") as pool:
        holding = pool.submit(_hold, mesh, with_it.sides[held.source], actor.pod, port, stands, enough)
        try:
            before = try_flows(mesh, with_it.sides, open_before)
            stands.wait(STANDS_WITHIN.total_seconds())
            mesh.cluster(region).patch(
                deploy.pod_path(actor.pod), {"metadata": {"labels": scene.policy.labels(DATABASE, region)}}
            )
            _await(mesh, with_it, strange[:1], passes=False, within=mesh.fleet.plan.budgets.convergence)
            _await(mesh, with_it, allowed[:1], passes=True, within=mesh.fleet.plan.budgets.pod_ready)
            after = try_flows(mesh, with_it.sides, [*strange, *allowed])
        finally:
            enough.set()
        outcome, detail = holding.result()
    established = FlowTrial(held.source, newcomer, "TCP", port, outcome, Way.ESTABLISHED, detail=detail)
    trials = (*_told(before, "before"), *_told(after, "after"), established)
    return with_it.sides[newcomer], trials


def _made_anew(mesh: Mesh, probe_set: ProbeSet, scene: Scene, actor: Actor) -> tuple[Side, tuple[FlowTrial, ...]]:
    """One goes, and another comes in its place: same node, same labels, another address. Raises ProbeError."""
    mesh.cluster(actor.pod.region).delete(deploy.pod_path(actor.pod))
    again = new_actor(mesh.fleet, actor.pod.region, actor.pod.node, DATABASE)
    try:
        entered, gaps = enter(mesh, probe_set, [again], ports_to_try(scene.policy))
        if not entered:
            raise ProbeError(gaps[0].error)
        with_it, anew = _with(scene, entered[0])
        strange, allowed = _flows(with_it, anew, Way.AFTER_RESTART)
        _await(mesh, with_it, allowed[:1], passes=True, within=mesh.fleet.plan.budgets.pod_ready)
        return with_it.sides[anew], try_flows(mesh, with_it.sides, [*strange, *allowed]).trials
    finally:
        remove(mesh, [again.pod])


def _with(scene: Scene, actor: Actor) -> tuple[Scene, int]:
    """The scene with one more, and its place."""
    return Scene(scene.policy, scene.services_routed, (*scene.sides, side_of(actor))), len(scene.sides)


def _flows(scene: Scene, target: int, way: Way) -> tuple[list[Flow], list[Flow]]:
    """From a stranger and from a database pod of another region, where there is one; what must be stopped, what not."""
    region = scene.sides[target].participant.region

    def elsewhere(places: Sequence[int]) -> list[int]:
        return sorted((place for place in places if place != target), key=lambda place: _region(scene, place) == region)

    strangers = elsewhere(scene.places(Party.STRANGER))[:1]
    database = elsewhere(scene.places(Party.ROLE, DATABASE))[:1]
    ports = {ARBITRARY, *(port for place in database for port in scene.must_pass(place, target))}
    tried = [
        replace(flow, way=way)
        for source in (*strangers, *database)
        for flow in scene.doors(source, target)
        if flow.kind == "tcp" and flow.port in ports
    ]
    strange = [flow for flow in tried if flow.source in strangers and not flow.must_pass]
    allowed = [flow for flow in tried if flow.source in database and flow.must_pass]
    if not strange or not allowed:
        raise ProbeError("there is nobody to try it from: a stranger and a database pod are needed")
    return strange, allowed


def _region(scene: Scene, place: int) -> str:
    return scene.sides[place].participant.region


def _await(mesh: Mesh, scene: Scene, flows: Sequence[Flow], *, passes: bool, within: timedelta) -> None:
    """Give the policy engines the time that they have; what comes of it is seen by whoever tries then."""

    def agree() -> bool:
        return all((trial.outcome is ProbeOutcome.OPEN) is passes for trial in knock(mesh, scene.sides, flows).trials)

    Retrying(
        wait=LOOK_AGAIN,
        stop=stop_after_delay(within.total_seconds()),
        retry=retry_if_result(lambda done: not done),
        retry_error_callback=lambda _state: False,
    )(agree)


def _told(tried: Tried, when: str) -> tuple[FlowTrial, ...]:
    return tuple(replace(trial, detail=f"{when}: {trial.detail}".rstrip(": ")) for trial in tried.trials)


def _sink(cluster: Cluster, pod: ProbePod) -> int:
    """Start a listener that takes whatever comes, for connections that stand; its port. Raises ProbeError."""
    operation: Operation = {
        "op": "listen",
        "name": f"{pod.name}-kept",
        "identity": pod.identity,
        "address": str(pod.address),
        "sink": [deploy.SINK_PORT],
        "life": HOLD_AT_MOST.total_seconds(),
    }
    answer = run_agent(cluster, pod.namespace, pod.name, [operation], within=STANDS_WITHIN).operations[0]
    if "error" in answer:
        raise ProbeError(f"{pod.identity}: {answer['error']}")
    return int(answer["ports"]["sink"][0])


def _hold(
    mesh: Mesh, source: Side, target: ProbePod, port: int, stands: threading.Event, enough: threading.Event
) -> tuple[ProbeOutcome, str]:
    """Keep a connection until that is enough; whether it still went on at the end."""
    pod = source.pod
    assert pod is not None
    operation: Operation = {
        "op": "hold",
        "target": [str(target.address), port, target.identity],
        "every": HOLD_EVERY_S,
        "seconds": HOLD_AT_MOST.total_seconds(),
    }

    def hear(said: bytes) -> bytes:
        if ROUND_MARK in said:
            stands.set()
        return b"\n" if enough.is_set() else b""

    try:
        cluster = mesh.cluster(pod.region)
        run = run_agent(cluster, pod.namespace, pod.name, [operation], within=2 * HOLD_AT_MOST, hear=hear)
    except ProbeError as error:
        return ProbeOutcome.INCONCLUSIVE, str(error)
    finally:
        stands.set()
    answer = run.operations[0]
    if "error" in answer:
        return ProbeOutcome.INCONCLUSIVE, str(answer["error"])
    idle = answer["seconds"] - answer["last"]
    if idle > STALLED_S:
        return ProbeOutcome.DROPPED, f"nothing was confirmed for the last {idle:.1f} of {answer['seconds']:.1f} s"
    return ProbeOutcome.OPEN, f"it went on for {answer['seconds']:.1f} s"
