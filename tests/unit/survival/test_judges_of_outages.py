"""Each judge of outages: met when all went well, violated each way it can go wrong, else inconclusive."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from analysis.facts import Gap
from analysis.facts.database import Placement, Replica, SurvivalGoal
from analysis.facts.outage import Event, Moment, PathSample, PodEnd
from analysis.fleet import OutageMode
from analysis.history.operation import Act, Result
from analysis.survival.majority import judge_no_split_brain, judge_pod_each, judge_two_regions
from analysis.survival.recovery import judge_nothing_lost, judge_rejoin, judge_shutdown
from analysis.survival.service import errors
from analysis.survival.serving import judge_isolation, judge_pods_lost, judge_primary_lost, judge_served_elsewhere
from analysis.survival.timetable import timetable
from analysis.survival.undisturbed import judge_control_plane, judge_no_restarts, judge_routing
from analysis.verdict import Outcome
from tests.unit.survival.outages_made import (
    BEGUN,
    DATABASE,
    EFFECTIVE,
    FAILOVER,
    HEALED,
    MEANWHILE,
    PLAN,
    REGIONS,
    A,
    B,
    C,
    moved,
    outage,
    pod,
    without,
)

MET, VIOLATED, INCONCLUSIVE = Outcome.MET, Outcome.VIOLATED, Outcome.INCONCLUSIVE
NEVER = (EFFECTIVE - 0.3, HEALED)
ISOLATED = outage(OutageMode.ISOLATION)
IN_TURN = [outage(lost=(region,), away=dict.fromkeys(REGIONS, FAILOVER)) for region in REGIONS]
TWO = outage(OutageMode.POWER, (A, B), away=dict.fromkeys(REGIONS, (10.2, 52.0)))
EACH = outage(OutageMode.POD_EACH, REGIONS, away=dict.fromkeys(REGIONS, (10.2, 20.0)),
              after=tuple(pod(region, uid="2") for region in REGIONS))  # fmt: skip
CONTROL_PLANE = outage(OutageMode.CONTROL_PLANE, away={})
ROUTING = outage(OutageMode.ROUTING, away={})
SHUTDOWN = outage(OutageMode.SHUTDOWN, away={})


def quick(plan=PLAN, **budgets):
    return replace(plan, budgets=replace(plan.budgets, **{k: timedelta(seconds=v) for k, v in budgets.items()}))


def with_operations(made, change):
    """That outage with each of its operations changed, or left out where the change is None."""
    changed = (change(operation) for operation in made.operations)
    return replace(made, operations=tuple(operation for operation in changed if operation))


def silent(region, since=0.0, until=1000.0, act=None):
    """Leaves out what that region's clients did in that time."""
    return lambda operation: (
        None
        if operation.region == region and since <= operation.invoked < until and (act is None or operation.act is act)
        else operation
    )


def one_first(served):
    """Two regions are lost; one returns at 50 s, the other at 60 s, and clients are served from that moment on."""
    both = outage(OutageMode.POWER, (A, B), away=dict.fromkeys(REGIONS, (10.2, served)))
    times = {Moment.HEALED: 60.5, Moment.WHOLE: 63.0}
    events = [replace(event, at=times.get(event.moment, event.at)) for event in both.events]
    return replace(both, events=(*events, Event(Moment.REST, 60.0)))


def waiting(region, since, until):
    """What that region's clients ask for at that moment is answered only then; they ask for nothing else meanwhile."""

    def change(operation):
        if operation.region != region or not since <= operation.invoked < until:
            return operation
        return replace(operation, completed=until) if operation.invoked < since + 0.5 else None

    return change


PROMISES = {
    "001": (judge_pods_lost, IN_TURN),
    "002": (judge_isolation, [ISOLATED]),
    "003": (judge_no_split_brain, [ISOLATED]),
    "004": (judge_rejoin, [ISOLATED, *IN_TURN, TWO]),
    "005": (judge_nothing_lost, [ISOLATED, *IN_TURN, TWO]),
    "006": (judge_two_regions, [TWO]),
    "007": (lambda plan, outages: judge_pod_each(plan, outages, DATABASE), [EACH]),
    "008": (judge_control_plane, [CONTROL_PLANE]),
    "009": (judge_routing, [ROUTING]),
    "010": (judge_no_restarts, [ISOLATED, *IN_TURN]),
    "011": (lambda plan, outages: judge_primary_lost(plan, outages, DATABASE), [ISOLATED]),
    "013": (judge_shutdown, [SHUTDOWN]),
    "014": (judge_served_elsewhere, IN_TURN),
}
EVERYTHING = [*IN_TURN, ISOLATED, TWO, EACH, CONTROL_PLANE, ROUTING, SHUTDOWN]


@pytest.mark.parametrize("requirement", PROMISES)
def test_met_when_all_went_well(requirement):
    judge, outages = PROMISES[requirement]
    verdict = judge(PLAN, outages)
    assert verdict.outcome is MET, verdict
    assert "postgresql 18.1" in verdict.observed


@pytest.mark.parametrize("requirement", PROMISES)
def test_each_judge_finds_its_outages_among_all(requirement):
    assert PROMISES[requirement][0](PLAN, EVERYTHING).outcome is MET


@pytest.mark.parametrize("requirement", PROMISES)
def test_nothing_is_said_without_an_outage(requirement):
    assert PROMISES[requirement][0](PLAN, []).outcome is INCONCLUSIVE


@pytest.mark.parametrize("requirement", PROMISES)
@pytest.mark.parametrize("moment", [Moment.STEADY, Moment.EFFECTIVE, Moment.HEALING, Moment.ENDED])
def test_a_fault_that_was_not_seen_proves_nothing(requirement, moment):
    if requirement == "013":
        return  # how a pod ended is seen of itself
    judge, outages = PROMISES[requirement]
    verdict = judge(PLAN, [without(outages[0], moment), *outages[1:]])
    assert verdict.outcome is INCONCLUSIVE, verdict


@pytest.mark.parametrize("requirement", ["001", "002", "003", "005", "006", "007", "008", "009", "011", "014"])
def test_what_was_not_recorded_proves_nothing(requirement):
    judge, outages = PROMISES[requirement]
    gap = Gap(A, "clients", "the relay died", ("operations",))
    verdict = judge(PLAN, [replace(each, gaps=(gap,)) for each in outages])
    assert verdict.outcome is INCONCLUSIVE
    assert "the relay died" in verdict.observed


@pytest.mark.parametrize("requirement", ["001", "002", "008", "009", "011"])
@pytest.mark.parametrize(
    ("since", "until"), [(0, BEGUN), (14, 1000), (HEALED, 1000)], ids=["before", "meanwhile", "after"]
)
def test_service_needs_clients_at_work(requirement, since, until):
    judge, outages = PROMISES[requirement]
    idle = [
        with_operations(each, silent(region, since, until)) for each, region in zip(outages, (B, C, B), strict=False)
    ]
    assert judge(PLAN, idle).outcome is not MET


@pytest.mark.parametrize("requirement", ["001", "002", "011"])
class TestServiceOfTheRest:
    def test_not_served_in_time(self, requirement):
        judge, outages = PROMISES[requirement]
        slow = replace(outage(outages[0].mode, away={A: MEANWHILE, B: FAILOVER, C: (10.2, 43.0)}))
        verdict = judge(PLAN, [slow, *outages[1:]])
        assert verdict.outcome is VIOLATED
        assert f"writes in {C}" in verdict.observed or f"reads in {C}" in verdict.observed
        assert "not served for 33" in verdict.observed
        assert len(verdict.findings) == 2

    def test_never_served_until_the_healing(self, requirement):
        judge, outages = PROMISES[requirement]
        dead = outage(outages[0].mode, away=dict.fromkeys(REGIONS, NEVER))
        verdict = judge(PLAN, [dead, *outages[1:]])
        assert verdict.outcome is VIOLATED
        assert "not before the healing" in verdict.observed
        assert "57P01" in verdict.observed

    def test_given_back_too_early_to_say(self, requirement):
        judge, outages = PROMISES[requirement]
        dead = moved(outage(outages[0].mode, away=dict.fromkeys(REGIONS, NEVER)), Moment.HEALING, 30.0)
        assert judge(PLAN, [dead, *outages[1:]]).outcome is INCONCLUSIVE


def test_a_healing_between_two_acknowledgements_is_no_pause():
    quiet = moved(outage(away={A: MEANWHILE}), Moment.HEALING, 49.99)
    assert judge_pods_lost(PLAN, [quiet, *IN_TURN[1:]]).outcome is MET
    assert all(row.served and row.kept for row in timetable(PLAN, quiet) if row.region != A)


def test_operations_in_vain_are_no_errors():
    vain = with_operations(
        IN_TURN[0],
        lambda o: replace(o, result=Result.FAILED, message="mismatch", code="") if o.result is not Result.OK else o,
    )
    assert "no client saw an error" in judge_pods_lost(PLAN, [vain]).observed


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("57P01", "terminating connection", "57P01"),
        ("", "", "no answer"),
        (
            "",
            "a: no connection within 2.0 s; b: connection failed: session is read-only",
            "read-only session",
        ),
        ("", "a: no connection within 2.0 s; b: no connection within 1.7 s", "no connection in time"),
        ("", "consuming input failed: server closed the connection unexpectedly", "connection lost"),
        ("", "connection to server failed: Connection refused", "connection refused"),
        ("", "the moon is in the way today", "the moon is in"),
    ],
)
def test_kinds_of_errors(code, message, kind):
    operation = replace(ISOLATED.operations[0], result=Result.FAILED, code=code, message=message)
    assert errors([operation]) == f"{kind} 1"


def test_the_timetable_has_reads_and_writes_of_every_region():
    rows = timetable(PLAN, ISOLATED)
    assert [(row.region, row.work.value) for row in rows] == [(r, w) for r in REGIONS for w in ("reads", "writes")]
    lost, other = rows[1], rows[3]
    assert (lost.budget, lost.served, lost.kept) == (None, False, True)
    assert (other.budget, other.served, other.kept) == (30.0, True, True)
    assert other.gap == pytest.approx(4.0, abs=0.5)
    assert other.rejoined == pytest.approx(2.0)
    assert other.errors == "57P01 7"
    assert not any(row.kept for row in timetable(quick(rto=2), ISOLATED) if row.region == B)
    assert timetable(PLAN, without(ISOLATED, Moment.HEALING)) == ()


def test_every_region_must_be_lost_in_turn():
    verdict = judge_pods_lost(PLAN, IN_TURN[:2])
    assert verdict.outcome is INCONCLUSIVE
    assert C in verdict.observed


def test_reads_may_stand_still_alone():
    made = with_operations(
        IN_TURN[0],
        lambda operation: (
            replace(operation, result=Result.FAILED, answer=(), code="58C00")
            if operation.act in (Act.READ, Act.READ_LEDGER) and operation.region == B and 10 < operation.invoked < 45
            else operation
        ),
    )
    verdict = judge_pods_lost(PLAN, [made, *IN_TURN[1:]])
    assert verdict.outcome is VIOLATED
    assert f"reads in {B}" in verdict.observed
    assert len(verdict.findings) == 1


class TestSplitBrain:
    def test_a_write_acknowledged_in_the_isolated_region(self):
        split = outage(OutageMode.ISOLATION, away={A: (0, 0), B: FAILOVER, C: FAILOVER})
        verdict = judge_no_split_brain(PLAN, [split])
        assert verdict.outcome is VIOLATED
        assert "acknowledged" in verdict.observed

    def test_a_write_that_hung_until_the_healing(self):
        def hang(operation):
            if operation.region == A and operation.act is Act.APPEND and 30 < operation.invoked < 30.6:
                return replace(operation, result=Result.OK, completed=51.0)
            return operation

        assert judge_no_split_brain(PLAN, [with_operations(ISOLATED, hang)]).outcome is MET

    def test_a_pod_that_stays_ready(self):
        ready = replace(ISOLATED, sights=tuple(replace(sight, ready=True) for sight in ISOLATED.sights))
        verdict = judge_no_split_brain(PLAN, [ready])
        assert verdict.outcome is VIOLATED
        assert "still ready" in verdict.observed

    def test_nobody_tried(self):
        idle = with_operations(ISOLATED, silent(A, EFFECTIVE, HEALED))
        assert judge_no_split_brain(PLAN, [idle]).outcome is INCONCLUSIVE

    def test_nobody_was_ever_served_there(self):
        idle = with_operations(ISOLATED, silent(A, 0, BEGUN))
        assert judge_no_split_brain(PLAN, [idle]).outcome is INCONCLUSIVE

    @pytest.mark.parametrize(("since", "until"), [(0, BEGUN), (EFFECTIVE, HEALED)])
    def test_readiness_was_not_seen(self, since, until):
        blind = replace(ISOLATED, sights=tuple(s for s in ISOLATED.sights if not since <= s.at < until))
        assert judge_no_split_brain(PLAN, [blind]).outcome is INCONCLUSIVE


class TestReturn:
    def test_not_whole_in_time(self):
        late = without(ISOLATED, Moment.WHOLE)
        assert judge_rejoin(quick(rejoin=10), [late]).outcome is VIOLATED
        assert judge_rejoin(quick(rejoin=1), [ISOLATED]).outcome is VIOLATED

    def test_watched_too_shortly(self):
        assert judge_rejoin(PLAN, [without(ISOLATED, Moment.WHOLE)]).outcome is INCONCLUSIVE

    def test_regions_that_end_with_different_data(self):
        first, *others = ISOLATED.finals
        divergent = replace(ISOLATED, finals=(replace(first, answer=first.answer[:-5]), *others))
        assert judge_rejoin(PLAN, [divergent]).outcome is VIOLATED

    def test_a_region_that_was_not_read_in_the_end(self):
        assert judge_rejoin(PLAN, [replace(ISOLATED, finals=ISOLATED.finals[1:])]).outcome is INCONCLUSIVE

    def test_clients_that_are_not_served_in_the_returned_region(self):
        idle = with_operations(ISOLATED, silent(A, HEALED))
        assert judge_rejoin(PLAN, [idle]).outcome is INCONCLUSIVE

    def test_a_return_that_others_notice_is_remarked(self):
        rough = outage(OutageMode.ISOLATION, away={A: MEANWHILE, B: (50.5, 56.0)})
        verdict = judge_rejoin(PLAN, [rough])
        assert verdict.outcome is MET
        assert any("stood still" in warning for warning in verdict.warnings)
        assert judge_rejoin(quick(rto=5), [rough]).outcome is VIOLATED


class TestNothingLost:
    def lose(self, made, count=1):
        return replace(made, finals=tuple(replace(final, answer=final.answer[count:]) for final in made.finals))

    def test_an_acknowledged_write_is_gone(self):
        verdict = judge_nothing_lost(PLAN, [*IN_TURN, self.lose(ISOLATED)])
        assert verdict.outcome is VIOLATED
        assert "acknowledged" in verdict.observed
        assert "lost write" in verdict.observed

    def test_a_later_outage_loses_what_survived_its_own(self):
        first, *others = IN_TURN
        again = [replace(final, answer=final.answer[3:]) for final in first.finals]
        later = [replace(f, number=f.number + 100, invoked=f.invoked + 100, completed=f.completed + 100) for f in again]
        second = replace(others[0], finals=(*others[0].finals, *later))
        assert judge_nothing_lost(PLAN, [first, second]).outcome is VIOLATED

    def test_no_final_read(self):
        assert judge_nothing_lost(PLAN, [replace(ISOLATED, finals=())]).outcome is INCONCLUSIVE

    def test_no_writes(self):
        idle = with_operations(ISOLATED, lambda operation: None if operation.act is Act.APPEND else operation)
        assert judge_nothing_lost(PLAN, [idle]).outcome is not MET


class TestTwoRegions:
    def test_the_return_of_one_suffices(self):
        assert judge_two_regions(PLAN, [one_first(52.0)]).outcome is MET

    def test_it_takes_the_return_of_both(self):
        late = one_first(62.0)
        assert judge_two_regions(quick(rejoin=5), [late]).outcome is VIOLATED
        assert judge_two_regions(PLAN, [late]).outcome is INCONCLUSIVE

    def test_a_write_without_majority(self):
        alone = outage(OutageMode.POWER, (A, B), away={A: MEANWHILE, B: MEANWHILE})
        verdict = judge_two_regions(PLAN, [alone])
        assert verdict.outcome is VIOLATED
        assert f"writes in {C}" in verdict.observed

    def test_service_does_not_return(self):
        dead = outage(OutageMode.POWER, (A, B), away=dict.fromkeys(REGIONS, (10.2, 99.0)))
        assert judge_two_regions(quick(rejoin=5), [dead]).outcome is VIOLATED
        assert judge_two_regions(PLAN, [dead]).outcome is INCONCLUSIVE

    def test_data_does_not_return(self):
        lost = replace(TWO, finals=tuple(replace(final, answer=final.answer[:-1]) for final in TWO.finals))
        assert judge_two_regions(PLAN, [lost]).outcome is VIOLATED

    def test_nobody_tried_meanwhile(self):
        assert judge_two_regions(PLAN, [with_operations(TWO, silent(C, EFFECTIVE, HEALED))]).outcome is INCONCLUSIVE


class TestPodOfEachRegion:
    NINE = replace(
        DATABASE,
        nodes=tuple(
            replace(node, name=f"{node.region}-{n}", advertised=f"cockroachdb-{n}.cockroachdb.{node.region}.svc:26257")
            for node in DATABASE.nodes
            for n in range(3)
        ),
    )

    def placed(self, *nodes):
        replicas = tuple(Replica(node, node[:-2], True) for node in nodes)
        return replace(self.NINE, placement=(Placement("range 1", "system", replicas),))

    def test_with_a_quorum_service_returns_as_after_any_failover(self):
        kept = self.placed(f"{A}-0", f"{B}-1", f"{C}-2")
        assert judge_pod_each(quick(rto=15), [EACH], kept).outcome is MET
        assert judge_pod_each(quick(rto=5), [EACH], kept).outcome is VIOLATED

    def test_without_a_quorum_it_returns_with_the_pods(self):
        lost = self.placed(f"{A}-0", f"{B}-0", f"{C}-2")
        verdict = judge_pod_each(quick(rto=5, rejoin=15), [EACH], lost)
        assert verdict.outcome is MET
        assert "range 1 of system" in verdict.observed
        assert judge_pod_each(quick(rejoin=5), [EACH], lost).outcome is VIOLATED

    def test_nobody_knows_where_replicas_are(self):
        assert judge_pod_each(PLAN, [EACH], replace(DATABASE, placement=())).outcome is INCONCLUSIVE

    def test_data_is_lost(self):
        lost = replace(EACH, finals=tuple(replace(final, answer=final.answer[:-1]) for final in EACH.finals))
        assert judge_pod_each(PLAN, [lost], DATABASE).outcome is VIOLATED


@pytest.mark.parametrize(("judge", "made"), [(judge_control_plane, CONTROL_PLANE), (judge_routing, ROUTING)])
class TestBystanders:
    def test_clients_that_asked_and_waited(self, judge, made):
        stalled = with_operations(made, waiting(B, 20, 26))
        verdict = judge(PLAN, [stalled])
        assert verdict.outcome is VIOLATED
        assert "s of waiting" in verdict.observed

    def test_clients_that_did_not_ask_for_a_moment(self, judge, made):
        assert judge(PLAN, [with_operations(made, silent(B, 20, 21.5, Act.READ))]).outcome is MET

    def test_clients_that_were_refused_again_and_again_waited_all_the_time(self, judge, made):
        refused = {"result": Result.FAILED, "code": "40001"}
        failing = with_operations(made, lambda o: replace(o, **refused) if o.region == B and 20 < o.invoked < 25 else o)
        assert judge(PLAN, [failing]).outcome is VIOLATED

    def test_clients_whose_process_stood_still(self, judge, made):
        verdict = judge(PLAN, [with_operations(made, silent(B, 20, 26))])
        assert verdict.outcome is INCONCLUSIVE
        assert "clients asked nothing for" in verdict.observed

    def test_a_broken_session(self, judge, made):
        broken = with_operations(
            made,
            lambda o: replace(o, result=Result.UNKNOWN, code="08006") if o.invoked == 20.0 and o.region == B else o,
        )
        verdict = judge(PLAN, [broken])
        assert verdict.outcome is VIOLATED
        assert "sessions in" in verdict.observed

    def test_a_database_that_stalls_anyway(self, judge, made):
        rough = with_operations(made, waiting(B, 2, 7))
        assert judge(PLAN, [rough]).outcome is INCONCLUSIVE

    def test_regions_that_do_not_answer_each_other(self, judge, made):
        lossy = tuple(PathSample(s.at, s.source, s.target, s.answered and not 20 < s.at < 30) for s in made.paths)
        assert judge(PLAN, [replace(made, paths=lossy)]).outcome is VIOLATED

    def test_a_write_that_was_merely_in_vain(self, judge, made):
        tried = {
            "act": Act.COMPARE_AND_SET,
            "key": "r",
            "value": (1, 2),
            "result": Result.FAILED,
            "message": "mismatch",
        }
        vain = with_operations(
            made, lambda o: replace(o, **tried) if o.act is Act.READ and not int(o.invoked) % 4 else o
        )
        assert judge(PLAN, [vain]).outcome is MET


class TestRestarts:
    @pytest.mark.parametrize(
        "after",
        [
            (pod(A), pod(B, uid="2"), pod(C)),
            (pod(A), pod(B, restarts=1), pod(C)),
            (pod(A), pod(B, started="2026-11-22T11:00:00Z"), pod(C)),
        ],
    )
    def test_a_pod_of_a_healthy_region_is_another(self, after):
        verdict = judge_no_restarts(PLAN, [replace(ISOLATED, after=after)])
        assert verdict.outcome is VIOLATED
        assert B in verdict.observed

    def test_pods_of_the_lost_region_may_be_new(self):
        assert judge_no_restarts(PLAN, [replace(ISOLATED, after=(pod(A, uid="2"), pod(B), pod(C)))]).outcome is MET

    @pytest.mark.parametrize("field", ["before", "after"])
    def test_pods_were_not_seen(self, field):
        assert judge_no_restarts(PLAN, [replace(ISOLATED, **{field: (pod(A), pod(B))})]).outcome is INCONCLUSIVE


class TestPrimaryRegion:
    def test_it_was_never_lost(self):
        assert judge_primary_lost(PLAN, [replace(ISOLATED, primary=B)], DATABASE).outcome is INCONCLUSIVE

    def test_writes_that_wait_for_nobody(self):
        assert judge_primary_lost(PLAN, [ISOLATED], replace(DATABASE, synchronous=False)).outcome is VIOLATED
        assert judge_primary_lost(PLAN, [ISOLATED], replace(DATABASE, synchronous=None)).outcome is INCONCLUSIVE

    @pytest.mark.parametrize(
        ("goals", "outcome"),
        [
            ((SurvivalGoal("bank", "region", accepts_region=True),), MET),
            ((SurvivalGoal("bank", "zone"),), VIOLATED),
            ((SurvivalGoal("bank", "region", accepts_region=False),), VIOLATED),
            ((), INCONCLUSIVE),
        ],
    )
    def test_the_goal_of_a_real_one(self, goals, outcome):
        plan = replace(PLAN, database=replace(PLAN.database, must_survive=("bank",)))
        told = replace(DATABASE, engine="cockroachdb", synchronous=None, goals=goals)
        assert judge_primary_lost(plan, [ISOLATED], told).outcome is outcome


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (PodEnd(A, "cockroachdb-0", 1.5, 0, 60.0), MET),
        (PodEnd(A, "cockroachdb-0", 1.5, 1, 60.0), VIOLATED),
        (PodEnd(A, "cockroachdb-0", 60.5, 137, 60.0), VIOLATED),
        (PodEnd(A, "cockroachdb-0", None, None, 60.0), INCONCLUSIVE),
        (PodEnd(A, "cockroachdb-0", 2.0, None, 60.0), INCONCLUSIVE),
        (PodEnd(A, "cockroachdb-0", 0.5, None, 0.0), VIOLATED),
    ],
)
def test_how_a_pod_ends(end, outcome):
    assert judge_shutdown(PLAN, [replace(SHUTDOWN, ends=(end,))]).outcome is outcome


def test_pods_that_are_scaled_away_are_told_to_end():
    first, *others = IN_TURN
    ended = replace(first, ends=(PodEnd(A, "cockroachdb-0", 61.0, 137, 60.0),))
    assert judge_shutdown(PLAN, [ended, *others]).outcome is VIOLATED
    assert judge_shutdown(PLAN, IN_TURN).outcome is INCONCLUSIVE


class TestServedElsewhere:
    def test_not_served_by_others(self):
        alone = [outage(lost=(region,)) for region in REGIONS]
        verdict = judge_served_elsewhere(PLAN, alone)
        assert verdict.outcome is VIOLATED
        assert len(verdict.findings) == 6

    def test_nobody_tried(self):
        idle = [with_operations(IN_TURN[0], silent(A, EFFECTIVE, HEALED)), *IN_TURN[1:]]
        assert judge_served_elsewhere(PLAN, idle).outcome is INCONCLUSIVE
