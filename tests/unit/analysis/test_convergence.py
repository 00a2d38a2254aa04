"""Late, never, not yet and not for long are told apart."""

from __future__ import annotations

from datetime import timedelta

import pytest

from analysis.convergence import Change, History, Noticed, Sample, judge_followed, judge_undisturbed, timeline
from analysis.facts import Gap
from analysis.verdict import Outcome

BUDGET = timedelta(seconds=15)
BLOCK = "192.168.10.0/26"
CAME = Change(BLOCK, at=100, appears=True, until=200, observers=("west-1", "west-2"), budget=BUDGET, cause="a filter")
WENT = Change(BLOCK, at=200, appears=False, until=300, observers=("west-1", "west-2"), budget=BUDGET)


def looks(observer, *seen, every=1.0, since=100.0, subject=BLOCK):
    """One sample a second, each answered half a second later."""
    return [
        Sample(observer, subject, since + every * n, since + every * n + 0.5, present) for n, present in enumerate(seen)
    ]


def judge(*samples, changes=(CAME,), gaps=(), remarks=()):
    return judge_followed("a block is known in time", History(changes, tuple(samples), gaps, remarks))


def test_noticed_in_time_by_everybody():
    told = judge(*looks("west-1", False, True, True), *looks("west-2", True, True))
    assert told.outcome is Outcome.MET
    assert told.examined == 2


def test_noticed_too_late_by_one():
    told = judge(*looks("west-1", True), *looks("west-2", *[False] * 20, True, True))
    assert told.outcome is Outcome.VIOLATED
    assert told.observed == f"{BLOCK} at west-2: seen after 20.5 s"
    assert told.cause == "a filter"


def test_never_noticed():
    told = judge(*looks("west-1", *[False] * 17), *looks("west-2", *[False] * 17))
    assert told.outcome is Outcome.VIOLATED
    assert told.observed == f"{BLOCK} at west-1 and west-2: not seen after 16.0 s"


def test_noticed_and_lost_again_is_not_noticed():
    told = judge(*looks("west-1", True, True), *looks("west-2", True, *[False] * 20))
    assert told.outcome is Outcome.VIOLATED


def test_a_flap_counts_until_it_has_settled():
    told = judge(*looks("west-1", True), *looks("west-2", True, False, True, True))
    assert told.outcome is Outcome.MET
    late = judge(*looks("west-1", True), *looks("west-2", True, *[False] * 16, True))
    assert late.outcome is Outcome.VIOLATED


def test_watching_ended_before_the_time_was_over():
    told = judge(*looks("west-1", True), *looks("west-2", False, False))
    assert told.outcome is Outcome.INCONCLUSIVE
    assert "west-2" in told.observed


def test_an_observer_that_never_answered_proves_nothing():
    failing = [Sample("west-2", BLOCK, 100 + n, 100 + n, None, "pod is gone") for n in range(20)]
    told = judge(*looks("west-1", True), *failing)
    assert told.outcome is Outcome.INCONCLUSIVE
    assert "pod is gone" in told.observed


def test_an_observer_that_failed_for_a_while_is_believed_afterwards():
    told = judge(*looks("west-1", True), *looks("west-2", None, None, True, True))
    assert told.outcome is Outcome.MET


def test_nobody_looked():
    assert judge().outcome is Outcome.INCONCLUSIVE
    assert judge(changes=()).outcome is Outcome.INCONCLUSIVE


def test_what_was_seen_before_the_change_is_no_proof():
    told = judge(*looks("west-1", True), *looks("west-2", True, True, since=90))
    assert told.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(("stays", "outcome"), [(3, Outcome.MET), (18, Outcome.VIOLATED)])
def test_what_goes_must_go_in_time_too(stays, outcome):
    told = judge(
        *looks("west-1", True),
        *looks("west-2", True),
        *looks("west-1", *[True] * stays, False, since=200),
        *looks("west-2", False, since=200),
        changes=(CAME, WENT),
    )
    assert told.outcome is outcome


def test_samples_of_one_change_do_not_speak_about_the_next():
    told = judge(
        *looks("west-1", True), *looks("west-2", True), *looks("west-1", False, since=200), changes=(CAME, WENT)
    )
    assert told.outcome is Outcome.INCONCLUSIVE


def test_the_order_of_samples_does_not_matter():
    samples = [*looks("west-1", False, True), *looks("west-2", True)]
    assert judge(*samples) == judge(*reversed(samples))


def test_gaps_and_remarks_reach_the_reader():
    told = judge(*looks("west-1", True), *looks("west-2", True), gaps=(Gap("west", "a second pod", "no address"),))
    assert told.outcome is Outcome.INCONCLUSIVE
    assert "no address" in told.observed
    remarked = judge(*looks("west-1", True), *looks("west-2", True), remarks=("the block was kept",))
    assert remarked.outcome is Outcome.MET
    assert remarked.warnings == ("the block was kept",)


def undisturbed(*samples, changes=(CAME,), gaps=()):
    return judge_undisturbed("traffic goes on", History(changes, tuple(samples), gaps))


def test_what_went_on_all_the_time_was_not_disturbed():
    told = undisturbed(*looks("west-1", True, True, True), *looks("west-2", True, True))
    assert told.outcome is Outcome.MET
    assert told.examined == 5


def test_a_moment_s_failure_is_a_disturbance_though_it_passes():
    told = undisturbed(*looks("west-1", True, True), *looks("west-2", True, True, False, True))
    assert told.outcome is Outcome.VIOLATED
    assert told.observed == f"{BLOCK} at west-2: failed 1 times of 4, first after 2.0 s"
    assert told.cause == "a filter"


def test_what_nobody_could_watch_may_have_been_disturbed():
    failing = Sample("west-2", BLOCK, 101, 102, None, "pod is gone")
    told = undisturbed(*looks("west-1", True), failing)
    assert told.outcome is Outcome.INCONCLUSIVE
    assert "pod is gone" in told.observed
    assert undisturbed(*looks("west-1", True), *looks("west-2", True), gaps=[Gap("a", "b", "c")]).outcome is (
        Outcome.INCONCLUSIVE
    )


def test_a_timeline_says_when_what_was_done_and_who_noticed_after_how_long():
    came = Change("the pod 10.0.0.1", 100.0, True, 120.0, ("east", "west"), timedelta(seconds=5))
    went = Change("the pod 10.0.0.1", 120.0, False, 130.0, ("east",), timedelta(seconds=5))
    samples = (
        Sample("east", came.subject, 100.5, 100.6, False, "no answer"),
        Sample("east", came.subject, 101.0, 101.2, True),
        Sample("west", came.subject, 106.0, 106.1, False, "no route"),
        Sample("east", went.subject, 121.0, 121.5, False),
    )
    assert timeline(History((went, came), samples)) == (
        Noticed(0.0, "the pod 10.0.0.1 came", "east", 1.2, 5.0, "asked 2 times, 1 said otherwise: no answer"),
        Noticed(0.0, "the pod 10.0.0.1 came", "west", None, 5.0, "asked 1 time, 1 said otherwise: no route"),
        Noticed(20.0, "the pod 10.0.0.1 went", "east", 1.5, 5.0, "asked 1 time"),
    )
