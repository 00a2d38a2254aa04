"""What the judges say of the database's objects in Kubernetes: pods, volumes, room, budgets, namespaces, bindings."""

from dataclasses import replace

import pytest

from analysis.facts import COCKROACHDB, Binding, DisruptionBudget, Gap, NodeRoom, StorageClass, Subject
from analysis.scheduling import (
    allowed_disruptions,
    judge_disruption_budget,
    judge_pods_apart,
    judge_pods_ready,
    judge_room,
    judge_volumes,
)
from analysis.tenancy import judge_bindings, judge_namespaces
from analysis.verdict import Outcome
from provision.lab.topology import aws_calico
from tests.unit.analysis.database_world import GIB, at, change, workloads

MET, VIOLATED, INCONCLUSIVE = Outcome.MET, Outcome.VIOLATED, Outcome.INCONCLUSIVE
A, B, C = "us-east-1", "us-east-2", "us-west-1"


@pytest.fixture
def plan():
    return aws_calico("demo", engine=COCKROACHDB).plan


@pytest.fixture
def held(plan):
    return workloads(plan)


def told(verdict):
    return [f"{finding.subject}: {finding.observed}" for finding in verdict.findings]


def lacking(held, collection, region=B):
    """The facts without a region's, and with a gap in their place."""
    without = change(held, collection, lambda item: None, at(region))
    return replace(without, gaps=(Gap(region, f"{collection} of the database", "403: forbidden", (collection,)),))


@pytest.mark.parametrize(
    ("judge", "collection"),
    [
        (judge_pods_ready, "stateful_sets"),
        (judge_pods_apart, "pods"),
        (judge_volumes, "claims"),
        (judge_volumes, "storage_classes"),
        (judge_room, "rooms"),
        (judge_disruption_budget, "budgets"),
        (judge_bindings, "bindings"),
    ],
)
def test_what_could_not_be_listed_leaves_the_question_open(plan, held, judge, collection):
    verdict = judge(plan, lacking(held, collection))
    assert verdict.outcome is INCONCLUSIVE
    assert B in verdict.observed


# --- pods ---------------------------------------------------------------------------------------------------------


def test_a_pod_that_is_not_ready_is_told_with_its_phase(plan, held):
    broken = change(held, "stateful_sets", lambda found: replace(found, ready=2), at(B))
    broken = change(broken, "pods", lambda pod: replace(pod, ready=False, phase="Pending"), at(B, "cockroachdb-2"))
    verdict = judge_pods_ready(plan, broken)
    assert told(verdict) == [f"{B}: StatefulSet cockroachdb: 2 of 3 Ready; cockroachdb-2 is Pending"]


def test_a_stateful_set_that_was_scaled_is_told(plan, held):
    broken = change(held, "stateful_sets", lambda found: replace(found, wanted=2, ready=2), at(B))
    assert judge_pods_ready(plan, broken).cause == "it was scaled"


def test_a_stateful_set_that_is_not_there_is_told(plan, held):
    broken = change(held, "stateful_sets", lambda found: None, at(B))
    assert told(judge_pods_ready(plan, broken)) == [f"{B}: StatefulSet {B}/cockroachdb: it is not there"]


def test_two_pods_on_one_node_are_told(plan, held):
    broken = change(held, "pods", lambda pod: replace(pod, node="n1"), lambda pod: at(C)(pod) and pod.name[-1] != "2")
    assert told(judge_pods_apart(plan, broken)) == [f"{C}: node n1: cockroachdb-0 and cockroachdb-1"]


def test_pods_without_a_node_are_not_on_the_same_one(plan, held):
    broken = change(held, "pods", lambda pod: replace(pod, node=""), lambda pod: at(C)(pod) and pod.name[-1] != "2")
    assert judge_pods_apart(plan, broken).outcome is MET


# --- volumes ------------------------------------------------------------------------------------------------------


def test_a_cluster_without_a_default_class_is_told(plan, held):
    broken = change(held, "storage_classes", lambda each: replace(each, default=False), at(B))
    assert told(judge_volumes(plan, broken)) == [f"cluster {B}: none of gp3 and slow is"]
    broken = change(held, "storage_classes", lambda each: None, at(B))
    assert told(judge_volumes(plan, broken)) == [f"cluster {B}: there is no StorageClass"]


def test_a_second_default_class_is_remarked(plan, held):
    more = replace(held, storage_classes=(*held.storage_classes, StorageClass(B, "other", default=True)))
    verdict = judge_volumes(plan, more)
    assert (verdict.outcome, len(verdict.warnings)) == (MET, 1)


def test_a_claim_that_is_not_bound_is_told(plan, held):
    broken = change(
        held,
        "claims",
        lambda claim: replace(claim, phase="Pending", size=None, storage_class=""),
        at(B, "datadir-cockroachdb-1"),
    )
    verdict = judge_volumes(plan, broken)
    assert told(verdict) == [f"{B}: volume claim datadir-cockroachdb-1: Pending"]
    assert verdict.cause == "there is no default StorageClass"


@pytest.mark.parametrize(("wanted", "size", "outcome"), [(2, 2, VIOLATED), (1, 0.5, VIOLATED), (1, 2, MET)])
def test_a_volume_has_its_planned_size(plan, held, wanted, size, outcome):
    planned = plan.database.storage
    broken = change(
        held, "claims", lambda claim: replace(claim, wanted=int(wanted * planned), size=int(size * planned)), at(B)
    )
    assert judge_volumes(plan, broken).outcome is outcome


def test_a_pod_without_a_volume_is_told(plan, held):
    broken = change(held, "claims", lambda claim: None, at(B, "datadir-cockroachdb-1"))
    assert told(judge_volumes(plan, broken)) == [f"{B}/cockroachdb-1: it has no claim"]


# --- room ---------------------------------------------------------------------------------------------------------


def requesting(held, cpu, memory=8 * GIB):
    return change(held, "pods", lambda pod: replace(pod, cpu=cpu, memory=memory))


def test_machines_that_are_too_small_are_told(plan, held):
    small = change(requesting(held, 4000), "rooms", lambda room: replace(room, cpu=2000, memory=7 * GIB), at(B))
    small = change(small, "rooms", lambda room: replace(room, cpu=8000), lambda room: room.region != B)
    verdict = judge_room(plan, small)
    assert told(verdict) == [f"nodes of {B}: room for 0; {B}-node-1 has 1.75 CPU and 6 GiB left"]
    assert verdict.findings[0].expected == "room for 3 pods of 4 CPU and 8 GiB"
    assert verdict.cause == "the machines are smaller than what is requested"


def test_room_that_others_have_taken_is_told(plan, held):
    taken = change(requesting(held, 2000), "rooms", lambda room: replace(room, cpu_taken=3000), at(B))
    verdict = judge_room(plan, taken)
    assert verdict.outcome is VIOLATED
    assert verdict.cause == "other pods have taken it"


def test_pods_that_do_not_run_yet_are_counted_by_the_plan(plan, held):
    without = change(held, "pods", lambda pod: None, at(B))
    assert judge_room(plan, without).outcome is MET
    full = change(without, "rooms", lambda room: replace(room, cpu_taken=room.cpu), at(B))
    assert judge_room(plan, full).outcome is VIOLATED


def test_a_large_node_holds_several_pods(plan, held):
    one = change(requesting(held, 4000), "rooms", lambda room: None, lambda room: room.node[-1] != "1")
    large = change(one, "rooms", lambda room: NodeRoom(room.region, room.node, 13_000, 25 * GIB))
    assert judge_room(plan, large).outcome is MET


def test_pods_that_request_nothing_are_remarked(plan, held):
    database = replace(plan.database, cpu=None, memory=None)
    bare = requesting(held, None, None)
    verdict = judge_room(replace(plan, database=database), bare)
    assert (verdict.outcome, len(verdict.warnings)) == (MET, 3)


# --- disruption budgets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "least", "allowed"),
    [
        ("1", "", 1),
        ("5", "", 5),
        ("2", "", 2),
        ("33%", "", 1),
        ("34%", "", 2),
        ("", "2", 1),
        ("", "50%", 1),
        ("", "", 3),
        ("0", "", 0),
    ],
)
def test_what_a_budget_allows_is_computed_like_kubernetes_does(most, least, allowed):
    assert allowed_disruptions(DisruptionBudget(A, A, "b", most, least, ("x-0", "x-1", "x-2"))) == allowed


def test_a_budget_that_lets_two_go_is_told(plan, held):
    broken = change(held, "budgets", lambda budget: replace(budget, max_unavailable="2"), at(B))
    assert told(judge_disruption_budget(plan, broken)) == [
        f"{B}: budget cockroachdb-budget: lets 2 go (maxUnavailable: 2)"
    ]


def test_a_missing_budget_and_one_that_picks_nobody_are_told(plan, held):
    gone = change(held, "budgets", lambda budget: None, at(B))
    elsewhere = change(held, "budgets", lambda budget: replace(budget, covers=()), at(B))
    for broken in (gone, elsewhere):
        assert told(judge_disruption_budget(plan, broken))[0] == f"{B}/cockroachdb-0: no budget covers it"


def test_two_budgets_for_one_pod_are_told(plan, held):
    twice = replace(held, budgets=(*held.budgets, replace(held.budgets[0], name="second")))
    assert told(judge_disruption_budget(plan, twice))[0] == f"{A}/cockroachdb-0: cockroachdb-budget and second"


def test_a_budget_that_lets_nobody_go_is_remarked(plan, held):
    tight = change(held, "budgets", lambda budget: replace(budget, max_unavailable="0"), at(B))
    verdict = judge_disruption_budget(plan, tight)
    assert (verdict.outcome, len(verdict.warnings)) == (MET, 1)


# --- namespaces and bindings --------------------------------------------------------------------------------------


def test_a_missing_namespace_and_one_in_the_wrong_cluster_are_told(plan, held):
    broken = replace(held, namespaces=((A, A), (B, B), (B, A)))
    assert told(judge_namespaces(plan, broken)) == [
        f"cluster {C}: it is not there",
        f"cluster {B}: namespace {A}, which is that of {A}",
    ]


def test_a_namespace_of_another_name_is_remarked(plan, held):
    named = replace(plan, database=replace(plan.database, namespaces=((A, "crdb"), (B, B), (C, C))))
    there = replace(held, namespaces=((A, "crdb"), (B, B), (C, C)))
    verdict = judge_namespaces(named, there)
    assert (verdict.outcome, len(verdict.warnings)) == (MET, 1)


def test_a_subject_in_another_namespace_is_told(plan, held):
    other = (Subject("ServiceAccount", "default", "cockroachdb"),)
    broken = change(held, "bindings", lambda binding: replace(binding, subjects=other), at(B))
    assert told(judge_bindings(plan, broken)) == [
        f"{B}: RoleBinding cockroachdb: default",
        f"{B}: ClusterRoleBinding cockroachdb: default",
    ]


def test_bindings_of_others_are_nobody_elses_business(plan, held):
    others = Binding(
        B, B, "reader", "reader", (Subject("ServiceAccount", "meshproof", "verifier"), Subject("User", "", "x"))
    )
    assert judge_bindings(plan, replace(held, bindings=(*held.bindings, others))).outcome is MET
    assert judge_bindings(plan, replace(held, bindings=(others,))).outcome is INCONCLUSIVE


def test_pods_of_another_account_are_remarked(plan, held):
    broken = replace(held, service_accounts=((A, "default"), (B, "cockroachdb"), (C, "cockroachdb")))
    verdict = judge_bindings(plan, broken)
    assert (verdict.outcome, len(verdict.warnings)) == (MET, 1)
