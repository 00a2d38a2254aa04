"""Which regions a unit of data cannot lose: by arithmetic, and by taking each region away and counting."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.facts import COCKROACHDB, Gap, Placement, Replica, ReplicationCount
from analysis.placement import (
    fatal_regions,
    judge_counts,
    judge_region_goal,
    judge_spread,
    judge_zone_goals,
    shape_of,
)
from analysis.verdict import Outcome
from provision.lab.topology import aws_calico
from tests.unit.analysis.database_world import change, cockroachdb, postgresql

MET, VIOLATED, INCONCLUSIVE = Outcome.MET, Outcome.VIOLATED, Outcome.INCONCLUSIVE
A, B, C = "us-east-1", "us-east-2", "us-west-1"


@pytest.fixture
def plan():
    return aws_calico("demo", engine=COCKROACHDB).plan


@pytest.fixture
def database(plan):
    return cockroachdb(plan)


def unit(*voters, others=(), owner="meshproof.ledger", name="range 99", **fields):
    replicas = [Replica(f"n{number}", region, voter=True) for number, region in enumerate(voters)]
    replicas += [Replica(f"o{number}", region, voter=False) for number, region in enumerate(others)]
    return Placement(name, owner, tuple(replicas), **fields)


def beside(database, *more):
    return replace(database, placement=(*database.placement, *more))


def observed(verdict):
    return [f"{finding.subject}: {finding.observed}" for finding in verdict.findings]


# --- arithmetic ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voters", "fatal"),
    [
        ((A, A, B, B, C), ()),
        ((A, B, C), ()),
        ((A, A, A, B, C), (A,)),
        ((A, A, B), (A,)),
        ((A, A, A), (A,)),
        ((A, B), (A, B)),
        ((A, B, ""), (A, B)),
        ((A, B, C, "", ""), (A, B, C)),
        ((A, A, B, B, C, C, ""), ()),
    ],
)
def test_a_majority_must_be_left_without_any_one_region(voters, fatal):
    assert fatal_regions(shape_of(unit(*voters)), primary=False) == fatal


@pytest.mark.parametrize(("voters", "fatal"), [((A, B), ()), ((A, A), (A,)), ((A,), (A,)), ((A, ""), (A,)), ((), (C,))])
def test_with_a_primary_one_voter_must_be_left(voters, fatal):
    assert fatal_regions(shape_of(unit(*voters, others=(C,))), primary=True) == fatal


REGIONS = st.sampled_from([A, B, C, "eu", "ap"])


@given(st.lists(REGIONS, max_size=7), st.lists(REGIONS, max_size=4), st.booleans())
def test_arithmetic_agrees_with_taking_regions_away(voters, others, primary):
    placement = unit(*voters, others=others)
    naive = []
    for lost in sorted({replica.region for replica in placement.replicas}):
        left = [replica for replica in placement.replicas if replica.voter and replica.region != lost]
        serves = bool(left) if primary else 2 * len(left) > len(voters)
        if not serves:
            naive.append(lost)
    found = fatal_regions(shape_of(placement), primary=primary)
    assert list(found) == (naive if placement.replicas else [""])


@given(st.lists(REGIONS, min_size=1, max_size=7), st.data())
def test_a_voter_of_unknown_region_never_makes_a_unit_safer(voters, data):
    place = data.draw(st.integers(0, len(voters) - 1))
    unknown = [*voters[:place], "", *voters[place + 1 :]]
    known = {region for region in voters if region in unknown}
    before = set(fatal_regions(shape_of(unit(*voters)), primary=False))
    assert before & known <= set(fatal_regions(shape_of(unit(*unknown)), primary=False))


@given(st.permutations([A, A, B, B, C]))
def test_order_and_names_of_replicas_do_not_matter(voters):
    assert shape_of(unit(*voters)) == shape_of(unit(A, A, B, B, C))


# --- DB-FORM-014 --------------------------------------------------------------------------------------------------


def test_copies_in_two_regions_only_are_told_once_for_all_units_alike(plan, database):
    verdict = judge_spread(plan, beside(database, *(unit(A, A, B, name=f"range {n}") for n in range(90, 96))))
    assert verdict.outcome is VIOLATED
    assert observed(verdict) == [
        f"meshproof.ledger (range 90, range 91, range 92 and 3 more) in {A} and {B}: voters: 2 in {A}, 1 in {B}"
    ]


def test_a_region_with_the_majority_is_told(plan, database):
    verdict = judge_spread(plan, beside(database, unit(A, A, A, B, C)))
    assert observed(verdict) == [f"meshproof.ledger (range 99) in {A}: voters: 3 in {A}, 1 in {B}, 1 in {C}"]
    assert verdict.findings[0].expected == f"to survive the loss of {A}"


def test_a_system_range_is_told_first_and_as_what_it_is(plan, database):
    verdict = judge_spread(plan, beside(database, unit(A, A, B), unit(A, A, A, B, C, owner="system", system=True)))
    assert verdict.findings[0].subject == f"system (range 99) in {A}"
    assert verdict.cause == "without it the whole database stops"


def test_data_that_need_not_survive_may_end_with_its_region(plan, database):
    kept = beside(database, unit(A, A, A, others=(B, C), owner="reports.more"))
    assert judge_spread(plan, kept).outcome is MET
    unknown = replace(kept, gaps=(Gap(A, "survival goals", "no rights", ("goals",)),))
    assert judge_spread(plan, unknown).outcome is INCONCLUSIVE


def test_replicas_that_are_moving_are_not_yet_a_violation(plan, database):
    verdict = judge_spread(plan, beside(database, unit(A, A, B, moving=True)))
    assert verdict.outcome is INCONCLUSIVE
    assert "not yet" in verdict.observed


def test_a_locality_without_its_region_shows_as_such(plan, database):
    verdict = judge_spread(plan, beside(database, unit(A, B, "")))
    assert verdict.outcome is VIOLATED
    assert verdict.cause == "the locality of a node lacks its region"


@pytest.fixture
def standing_in():
    plan = aws_calico("demo").plan
    return plan, postgresql(plan)


def test_the_stand_in_needs_a_synchronous_standby_elsewhere(standing_in):
    plan, database = standing_in
    alone = change(
        database,
        "placement",
        lambda placed: replace(
            placed, replicas=tuple(replace(each, voter=each.node == placed.leader) for each in placed.replicas)
        ),
    )
    verdict = judge_spread(plan, alone)
    assert observed(verdict) == [f"all databases (instance) in {A}: voters: 1 in {A}; others in {B} and {C}"]


def test_the_stand_in_must_wait_for_its_standby(standing_in):
    plan, database = standing_in
    verdict = judge_spread(plan, replace(database, synchronous=False))
    assert observed(verdict) == ["synchronous replication: it waits for none"]


def test_a_member_that_is_gone_leaves_copies_in_two_regions(standing_in):
    plan, database = standing_in
    two = change(database, "placement", lambda placed: replace(placed, replicas=placed.replicas[:2]))
    assert judge_spread(plan, two).outcome is VIOLATED


# --- DB-FORM-013 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "outcome"),
    [
        (ReplicationCount("4", 3, 0), VIOLATED),
        (ReplicationCount("4", 0, 1), VIOLATED),
        (ReplicationCount("4", None, 0), INCONCLUSIVE),
        (ReplicationCount("4", 0, None), INCONCLUSIVE),
    ],
)
def test_a_node_that_counts_ranges_is_told(database, count, outcome):
    broken = change(database, "counts", lambda _: count, lambda each: each.node == "4")
    verdict = judge_counts(broken)
    assert verdict.outcome is outcome
    assert verdict.findings[0].subject == f"{B}: node 4"


def test_a_node_without_its_count_leaves_the_question_open(database):
    broken = change(database, "counts", lambda _: None, lambda each: each.node == "4")
    assert judge_counts(broken).outcome is INCONCLUSIVE


@pytest.mark.parametrize(("unavailable", "outcome"), [(0, INCONCLUSIVE), (1, VIOLATED)])
def test_while_replicas_move_only_what_is_unavailable_counts(database, unavailable, outcome):
    moving = beside(database, unit(A, B, moving=True))
    broken = change(moving, "counts", lambda each: replace(each, underreplicated=2, unavailable=unavailable))
    assert judge_counts(broken).outcome is outcome


# --- survival goals -----------------------------------------------------------------------------------------------


def goals(database, **changes):
    return change(database, "goals", lambda goal: replace(goal, **changes), lambda goal: goal.database == "meshproof")


def test_a_zone_goal_is_reported_with_the_region_that_must_not_be_lost(plan, database):
    verdict = judge_zone_goals(plan, database)
    assert verdict.outcome is MET
    assert verdict.warnings == (f"database reports cannot survive the loss of a region: its data ends with {A}",)


def test_a_database_that_must_survive_needs_the_goal_for_it(plan, database):
    verdict = judge_zone_goals(plan, goals(database, goal="zone"))
    assert verdict.outcome is VIOLATED
    assert verdict.findings[0].subject == "database meshproof"
    assert "SURVIVE REGION FAILURE" in verdict.remedy


def test_the_stand_in_without_a_synchronous_standby_is_told_as_what_it_cannot_survive(standing_in):
    plan, database = standing_in
    loose = goals(database, goal="zone")
    loose = change(
        loose,
        "placement",
        lambda placed: replace(
            placed, replicas=tuple(replace(each, voter=each.node == placed.leader) for each in placed.replicas)
        ),
    )
    verdict = judge_zone_goals(plan, loose)
    assert verdict.outcome is VIOLATED
    assert verdict.findings[0].observed == f'its goal is "zone": its data ends with {A}'
    assert "synchronous_mode" in verdict.remedy


@pytest.mark.parametrize(("voters", "outcome"), [((A, B, C), MET), ((A, A, B), VIOLATED)])
def test_without_a_goal_the_placement_of_today_counts(plan, database, voters, outcome):
    without = goals(database, goal=None)
    without = replace(without, placement=(unit(*voters),))
    verdict = judge_zone_goals(plan, without)
    assert verdict.outcome is outcome
    assert outcome is VIOLATED or "nothing demands that" in verdict.warnings[0]


def test_a_database_that_is_not_there_is_remarked(plan, database):
    gone = change(database, "goals", lambda goal: None, lambda goal: goal.database == "meshproof")
    verdict = judge_zone_goals(plan, gone)
    assert (verdict.outcome, verdict.warnings[0]) == (
        MET,
        "database meshproof must survive a region, and is not there",
    )


def test_without_any_goal_there_is_nothing_to_report(plan, database):
    none = change(database, "goals", lambda goal: replace(goal, goal=None))
    careless = replace(plan, database=replace(plan.database, must_survive=()))
    assert judge_zone_goals(careless, none).outcome is Outcome.NOT_APPLICABLE
    unseen = replace(none, goals=(), gaps=(Gap(A, "survival goals", "no rights", ("goals",)),))
    assert judge_zone_goals(plan, unseen).outcome is INCONCLUSIVE


def test_a_region_goal_that_is_turned_down_is_told(database):
    assert judge_region_goal(goals(database, accepts_region=False)).outcome is VIOLATED


def test_a_region_goal_that_the_placement_does_not_keep_is_told(database):
    verdict = judge_region_goal(beside(database, unit(A, A, A, B, C)))
    assert observed(verdict) == [f"meshproof.ledger (range 99) in {A}: voters: 3 in {A}, 1 in {B}, 1 in {C}"]
    assert judge_region_goal(beside(database, unit(A, A, A, B, C, moving=True))).outcome is INCONCLUSIVE
