"""What the judges of DB-FORM say of a database's own facts: met as planned, and what when it is not."""

from dataclasses import replace

import pytest

from analysis import formation, joining, placement, scheduling, serving, tenancy, versions
from analysis.facts import COCKROACHDB, Database, Gap, NodeRole, Workloads
from analysis.members import planned_members
from analysis.rootcause import Layer
from analysis.verdict import Outcome
from provision.lab.topology import aws_calico, azure_cilium
from tests.unit.analysis.database_world import at, change, cockroachdb, postgresql, workloads

MET, VIOLATED, INCONCLUSIVE = Outcome.MET, Outcome.VIOLATED, Outcome.INCONCLUSIVE
NOT_APPLICABLE = Outcome.NOT_APPLICABLE
JUDGES = {
    "DB-FORM-001": lambda plan, db, held: formation.judge_live_nodes(plan, db),
    "DB-FORM-002": lambda plan, db, held: formation.judge_one_cluster(plan, db),
    "DB-FORM-003": lambda plan, db, held: formation.judge_localities(plan, db),
    "DB-FORM-004": lambda plan, db, held: scheduling.judge_pods_ready(plan, held),
    "DB-FORM-005": lambda plan, db, held: formation.judge_initialised_once(db),
    "DB-FORM-006": lambda plan, db, held: formation.judge_before_init(db),
    "DB-FORM-007": lambda plan, db, held: joining.judge_join_lists(plan, held, db),
    "DB-FORM-008": lambda plan, db, held: formation.judge_advertised_names(plan, db),
    "DB-FORM-009": lambda plan, db, held: versions.judge_versions(plan, db, held),
    "DB-FORM-010": lambda plan, db, held: formation.judge_links(plan, db),
    "DB-FORM-011": lambda plan, db, held: serving.judge_crossings(plan, db),
    "DB-FORM-012": lambda plan, db, held: serving.judge_reads_and_writes(plan, db),
    "DB-FORM-013": lambda plan, db, held: placement.judge_counts(db),
    "DB-FORM-014": lambda plan, db, held: placement.judge_spread(plan, db),
    "DB-FORM-015": lambda plan, db, held: scheduling.judge_pods_apart(plan, held),
    "DB-FORM-016": lambda plan, db, held: scheduling.judge_volumes(plan, held),
    "DB-FORM-017": lambda plan, db, held: scheduling.judge_room(plan, held),
    "DB-FORM-018": lambda plan, db, held: serving.judge_entrances(plan, db),
    "DB-FORM-019": lambda plan, db, held: serving.judge_health(plan, db),
    "DB-FORM-020": lambda plan, db, held: scheduling.judge_disruption_budget(plan, held),
    "DB-FORM-021": lambda plan, db, held: tenancy.judge_namespaces(plan, held),
    "DB-FORM-022": lambda plan, db, held: formation.judge_clock_offsets(plan, db),
    "DB-FORM-023": lambda plan, db, held: tenancy.judge_bindings(plan, held),
    "NET-MTU-010": lambda plan, db, held: serving.judge_large_rows(plan, db),
    "DB-SURV-011": lambda plan, db, held: placement.judge_region_goal(db),
    "DB-SURV-012": lambda plan, db, held: placement.judge_zone_goals(plan, db),
}
WITHOUT_STAND_IN = {"DB-FORM-005", "DB-FORM-006", "DB-FORM-007", "DB-FORM-013"}
"""What says nothing about the stand-in, which has nothing of the kind."""


@pytest.fixture(params=[aws_calico, azure_cilium], ids=["calico", "cilium"])
def plan(request):
    return request.param("demo", engine=COCKROACHDB).plan


@pytest.fixture
def database(plan):
    return cockroachdb(plan)


@pytest.fixture
def standing_in():
    """The plan of a lab with the stand-in, and its facts."""
    plan = aws_calico("demo").plan
    return plan, postgresql(plan)


@pytest.fixture
def first(plan):
    return plan.regions[0].name


def findings(verdict):
    return [f"{finding.subject}: {finding.observed}" for finding in verdict.findings]


@pytest.mark.parametrize("requirement", JUDGES)
def test_a_database_as_planned_keeps_every_promise(plan, database, requirement):
    verdict = JUDGES[requirement](plan, database, workloads(plan))
    assert (verdict.outcome, findings(verdict)) == (MET, [])


@pytest.mark.parametrize("requirement", JUDGES)
def test_the_stand_in_keeps_what_applies_to_it(standing_in, requirement):
    plan, database = standing_in
    verdict = JUDGES[requirement](plan, database, workloads(plan))
    assert (verdict.outcome, findings(verdict)) == (NOT_APPLICABLE if requirement in WITHOUT_STAND_IN else MET, [])
    if requirement in WITHOUT_STAND_IN:
        assert "stand-in database: PostgreSQL with Patroni and etcd" in verdict.observed


@pytest.mark.parametrize("requirement", JUDGES)
def test_without_facts_nothing_is_met_nor_violated(plan, requirement):
    gaps = tuple(Gap(region.name, "the database", "it did not answer") for region in plan.regions)
    verdict = JUDGES[requirement](plan, Database(COCKROACHDB, gaps=gaps), Workloads(gaps=gaps))
    assert verdict.outcome is INCONCLUSIVE


@pytest.mark.parametrize("requirement", JUDGES)
def test_of_a_silent_database_nothing_is_met(plan, requirement):
    outcome = JUDGES[requirement](plan, Database(COCKROACHDB), Workloads()).outcome
    assert outcome is not MET


# --- nodes --------------------------------------------------------------------------------------------------------


def test_a_dead_node_is_missed_in_its_region(plan, database, first):
    broken = change(database, "nodes", lambda node: replace(node, live=False), lambda node: node.name == "2")
    verdict = formation.judge_live_nodes(plan, broken)
    assert verdict.outcome is VIOLATED
    assert findings(verdict) == [f"database in {first}: 2 live nodes; {first}/cockroachdb-1 not live"]


def test_a_node_that_never_came_is_missed(plan, database, first):
    broken = change(database, "nodes", lambda node: None, lambda node: node.name == "2")
    assert findings(formation.judge_live_nodes(plan, broken)) == [f"database in {first}: 2 live nodes"]


def test_a_node_is_counted_where_it_runs_whatever_its_locality_says(plan, database):
    broken = change(database, "nodes", lambda node: replace(node, region=""), lambda node: node.name == "2")
    assert formation.judge_live_nodes(plan, broken).outcome is MET


def test_a_dead_node_that_was_replaced_is_only_remarked(plan, database):
    dead = replace(database.nodes[0], name="10", live=False)
    verdict = formation.judge_live_nodes(plan, replace(database, nodes=(*database.nodes, dead)))
    assert verdict.outcome is MET
    assert "decommission it" in verdict.warnings[0]


def test_a_node_too_many_is_told(plan, database, first):
    more = replace(database.nodes[0], name="10", advertised=f"elsewhere.{first}:26257")
    verdict = formation.judge_live_nodes(plan, replace(database, nodes=(*database.nodes, more)))
    assert findings(verdict) == [f"database in {first}: 4 live nodes"]


def test_a_node_of_which_nobody_knows_whether_it_lives_leaves_the_question_open(plan, database):
    broken = change(database, "nodes", lambda node: replace(node, live=None), lambda node: node.name == "2")
    assert formation.judge_live_nodes(plan, broken).outcome is INCONCLUSIVE


def test_two_clusters_are_told_with_their_regions(plan, database):
    last = plan.regions[-1].name
    broken = change(database, "gateways", lambda gateway: replace(gateway, cluster="d00d"), at(last))
    verdict = formation.judge_one_cluster(plan, broken)
    assert verdict.outcome is VIOLATED
    assert findings(verdict) == [f"database in {last}: cluster d00d"]


def test_a_region_that_tells_no_cluster_id_leaves_the_question_open(plan, database, first):
    broken = change(database, "gateways", lambda gateway: replace(gateway, node="", cluster=""), at(first))
    assert formation.judge_one_cluster(plan, broken).outcome is INCONCLUSIVE


def test_a_missing_region_tier_is_told(plan, database):
    broken = change(
        database, "nodes", lambda node: replace(node, region="", locality="zone=a"), lambda node: node.name == "5"
    )
    verdict = formation.judge_localities(plan, broken)
    assert findings(verdict) == [f"{plan.regions[1].name}/cockroachdb-1: no region (locality 'zone=a')"]


def test_a_misspelt_region_is_told_with_what_was_meant(plan, database, first):
    wrong = f"{first}x"
    broken = change(database, "nodes", lambda node: replace(node, region=wrong), lambda node: node.name == "1")
    broken = replace(broken, regions=(*broken.regions, wrong))
    told = findings(formation.judge_localities(plan, broken))
    assert f"did you mean '{first}'" in told[0]
    assert f"{wrong} unknown to the plan, did you mean '{first}'" in told[1]


def test_a_region_that_the_database_does_not_know_is_missed(plan, database, first):
    verdict = formation.judge_localities(plan, replace(database, regions=database.regions[1:]))
    assert verdict.outcome is VIOLATED
    assert f"{first} missing" in verdict.observed


def test_a_second_init_that_is_taken_is_a_violation(database):
    broken = change(database, "init", lambda trial: replace(trial, refused=False, detail="cluster initialized"))
    assert formation.judge_initialised_once(broken).outcome is VIOLATED


def test_a_second_init_that_was_not_tried_leaves_the_question_open(database):
    broken = change(database, "init", lambda trial: replace(trial, refused=None, detail="no exec"))
    assert formation.judge_initialised_once(broken).outcome is INCONCLUSIVE


@pytest.mark.parametrize("wrong", [{"ready": True}, {"status": 200}, {"status": None}, {"phase": "Pending"}])
def test_a_pod_that_does_not_wait_for_its_init_is_told(database, wrong):
    broken = change(database, "first_starts", lambda seen: replace(seen, **wrong), lambda seen: seen.pod[-1] == "1")
    assert len(formation.judge_before_init(broken).findings) == 3


def test_a_short_advertised_name_is_told_with_the_full_one(plan, database, first):
    broken = change(
        database,
        "nodes",
        lambda node: replace(node, advertised=f"cockroachdb-0.cockroachdb.{first}:26257"),
        lambda node: node.name == "1",
    )
    (told,) = findings(formation.judge_advertised_names(plan, broken))
    assert f"did you mean 'cockroachdb-0.cockroachdb.{first}.svc.cluster.local'?" in told


def test_another_port_and_a_name_for_two_are_told(plan, database):
    port = change(
        database, "nodes", lambda node: replace(node, advertised=node.advertised[:-1] + "8"), lambda n: n.name == "1"
    )
    assert formation.judge_advertised_names(plan, port).outcome is VIOLATED
    shared = change(
        database, "nodes", lambda node: replace(node, advertised=database.nodes[0].advertised), lambda n: n.name == "2"
    )
    assert "all advertise cockroachdb-0" in formation.judge_advertised_names(plan, shared).observed


# --- connections and clocks ---------------------------------------------------------------------------------------


def test_one_direction_that_is_blocked_is_one_finding(plan, database):
    a, b = (region.name for region in plan.regions[:2])
    here, there = ({node.name for node in database.nodes if node.region == region} for region in (a, b))
    broken = change(
        database,
        "links",
        lambda link: replace(link, healthy=False, detail="connection refused"),
        lambda link: link.source in here and link.target in there,
    )
    verdict = formation.judge_links(plan, broken)
    assert findings(verdict) == [f"nodes of {a} -> nodes of {b}: 9 of 9 connections not healthy: connection refused"]


@pytest.mark.parametrize("change_link", [lambda link: None, lambda link: replace(link, healthy=None)])
def test_a_connection_that_nobody_tells_of_leaves_the_question_open(plan, database, change_link):
    broken = change(database, "links", change_link, lambda link: (link.source, link.target) == ("1", "9"))
    assert formation.judge_links(plan, broken).outcome is INCONCLUSIVE


def test_a_standby_must_be_connected_with_the_primary(standing_in):
    plan, database = standing_in
    lost = change(database, "links", lambda link: None, lambda link: link.source == database.nodes[2].name)
    assert formation.judge_links(plan, lost).outcome is INCONCLUSIVE
    broken = change(database, "links", lambda link: replace(link, healthy=False), lambda link: True)
    assert formation.judge_links(plan, broken).outcome is VIOLATED


@pytest.mark.parametrize(
    ("offset", "outcome"), [(0.399, MET), (0.4, VIOLATED), (-0.45, VIOLATED), (None, INCONCLUSIVE)]
)
def test_clock_offsets_are_held_against_four_fifths_of_the_maximum(plan, database, offset, outcome):
    broken = change(database, "nodes", lambda node: replace(node, clock_offset=offset), lambda n: n.name == "4")
    assert formation.judge_clock_offsets(plan, broken).outcome is outcome


@pytest.mark.parametrize(("offset", "outcome"), [(0.2, MET), (1.0, VIOLATED)])
def test_clocks_of_the_stand_in_are_held_to_the_budget(standing_in, offset, outcome):
    plan, database = standing_in
    off = change(database, "nodes", lambda node: replace(node, clock_offset=offset), lambda n: n is database.nodes[1])
    assert formation.judge_clock_offsets(plan, off).outcome is outcome


def test_without_a_known_maximum_no_offset_is_judged(plan, database):
    assert formation.judge_clock_offsets(plan, replace(database, maximum_offset=None)).outcome is INCONCLUSIVE


# --- versions -----------------------------------------------------------------------------------------------------


def test_another_version_is_told(plan, database):
    broken = change(database, "nodes", lambda node: replace(node, version="v23.1.9"), lambda n: n.name == "4")
    verdict = versions.judge_versions(plan, broken, workloads(plan))
    assert findings(verdict) == [f"{plan.regions[1].name}/cockroachdb-0: v23.1.9"]


def test_a_tag_without_its_letter_does_not_exist(plan, database, first):
    image = "cockroachdb/cockroach:23.2.5"
    held = change(workloads(plan), "stateful_sets", lambda found: replace(found, image=image), at(first))
    verdict = versions.judge_versions(plan, database, held)
    assert findings(verdict) == [f"{first}: StatefulSet cockroachdb: {image}"]
    assert "has no tag 23.2.5" in verdict.cause


@pytest.mark.parametrize(
    "image", ["cockroachdb/cockroach", "cockroachdb/cockroach:latest", "cockroachdb/cockroach:v23.2.4"]
)
def test_no_tag_a_moving_one_and_another_one_are_told(plan, database, first, image):
    held = change(workloads(plan), "pods", lambda pod: replace(pod, image=image), at(first, "cockroachdb-0"))
    assert findings(versions.judge_versions(plan, database, held)) == [f"{first}/cockroachdb-0: {image}"]


def test_an_image_that_is_pinned_by_its_digest_needs_no_tag(plan, database):
    image = "registry.local/db@sha256:" + "0" * 64
    held = change(workloads(plan), "pods", lambda pod: replace(pod, image=image))
    held = change(held, "stateful_sets", lambda found: replace(found, image=image))
    assert versions.judge_versions(plan, database, held).outcome is MET


# --- what clients get ---------------------------------------------------------------------------------------------


def test_an_entrance_where_nobody_answers_is_told_with_the_reason(plan, database, first):
    broken = change(
        database, "gateways", lambda gateway: replace(gateway, node="", detail="connection refused"), at(first)
    )
    verdict = serving.judge_entrances(plan, broken)
    assert findings(verdict) == [f"{first}: cockroachdb-public.{first}.svc.cluster.local:26257: connection refused"]


def test_a_region_without_an_entrance_leaves_the_question_open(plan, database, first):
    broken = change(database, "gateways", lambda gateway: None, at(first))
    assert serving.judge_entrances(plan, broken).outcome is INCONCLUSIVE
    assert serving.judge_reads_and_writes(plan, broken).outcome is INCONCLUSIVE


@pytest.mark.parametrize(("field", "what"), [("read", "reads"), ("written", "writes")])
def test_a_region_that_cannot_read_or_write_is_told(plan, database, first, field, what):
    broken = change(database, "gateways", lambda gateway: replace(gateway, **{field: False}), at(first))
    assert findings(serving.judge_reads_and_writes(plan, broken)) == [f"clients in {first}: none of their {what} did"]
    untried = change(database, "gateways", lambda gateway: replace(gateway, **{field: None}), at(first))
    assert serving.judge_reads_and_writes(plan, untried).outcome is INCONCLUSIVE


@pytest.mark.parametrize(("seen", "outcome"), [(False, VIOLATED), (None, INCONCLUSIVE)])
def test_a_row_that_is_not_there_at_once_is_told(plan, database, first, seen, outcome):
    broken = change(
        database, "crossings", lambda crossing: replace(crossing, seen=seen), lambda each: each.written_in == first
    )
    verdict = serving.judge_crossings(plan, broken)
    assert (verdict.outcome, len(verdict.findings)) == (outcome, 2)


@pytest.mark.parametrize(
    ("seen", "control", "outcome"), [(False, True, VIOLATED), (None, True, VIOLATED), (None, None, INCONCLUSIVE)]
)
def test_a_large_row_counts_as_lost_where_small_ones_arrive(plan, database, first, seen, control, outcome):
    mine = lambda crossing: crossing.written_in == first  # noqa: E731
    broken = change(database, "large_rows", lambda crossing: replace(crossing, seen=seen, detail="not written"), mine)
    broken = change(broken, "crossings", lambda crossing: replace(crossing, seen=control), mine)
    verdict = serving.judge_large_rows(plan, broken)
    assert (verdict.outcome, len(verdict.findings)) == (outcome, 1)
    assert verdict.layer is (Layer.MTU if outcome is VIOLATED else None)


def test_large_rows_that_nobody_tried_are_no_proof(plan, database):
    assert serving.judge_large_rows(plan, replace(database, large_rows=())).outcome is INCONCLUSIVE


@pytest.mark.parametrize("status", [503, None])
def test_a_pod_that_is_not_ready_is_told(plan, database, first, status):
    broken = change(
        database,
        "health",
        lambda answer: replace(answer, status=status),
        lambda answer: answer.path.endswith("ready=1") and at(first, "cockroachdb-2")(answer),
    )
    verdict = serving.judge_health(plan, broken)
    assert findings(verdict) == [f"{first}/cockroachdb-2: {status or 'no answer'}"]


def test_a_pod_that_was_not_asked_leaves_the_question_open(plan, database, first):
    broken = change(database, "health", lambda answer: None, at(first, "cockroachdb-2"))
    assert serving.judge_health(plan, broken).outcome is INCONCLUSIVE


def test_there_are_as_many_planned_members_as_pods(plan, standing_in):
    assert len(planned_members(plan)) == 9
    assert len(planned_members(standing_in[0])) == 3
    assert standing_in[1].nodes[0].role is NodeRole.PRIMARY
