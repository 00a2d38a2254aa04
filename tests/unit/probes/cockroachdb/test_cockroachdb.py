"""CockroachDB's answers as facts, release by release, and what the judges say of them."""

from datetime import timedelta

import pytest

from analysis import formation, placement, serving
from analysis.facts import COCKROACHDB
from analysis.history.operation import Act, Result
from analysis.verdict import Outcome
from probes.database.port import Access, SessionError
from tests.unit.probes.cockroachdb.conftest import adapter

SOON = timedelta(seconds=10)
JUDGES = {
    "DB-FORM-001": formation.judge_live_nodes,
    "DB-FORM-002": formation.judge_one_cluster,
    "DB-FORM-003": formation.judge_localities,
    "DB-FORM-008": formation.judge_advertised_names,
    "DB-FORM-010": formation.judge_links,
    "DB-FORM-011": serving.judge_crossings,
    "DB-FORM-012": serving.judge_reads_and_writes,
    "DB-FORM-013": lambda plan, facts: placement.judge_counts(facts),
    "DB-FORM-014": placement.judge_spread,
    "DB-FORM-018": serving.judge_entrances,
    "DB-FORM-019": serving.judge_health,
    "DB-FORM-022": formation.judge_clock_offsets,
    "NET-MTU-010": serving.judge_large_rows,
    "DB-SURV-011": lambda plan, facts: placement.judge_region_goal(facts),
    "DB-SURV-012": placement.judge_zone_goals,
}


def outcomes(plan, facts):
    return {name: judge(plan, facts).outcome for name, judge in JUDGES.items()}


def test_a_whole_cluster_is_whole_in_every_release(cluster, database, plan):
    facts = database.observe()

    assert facts.gaps == ()
    assert facts.engine == COCKROACHDB
    assert facts.version == cluster.tag
    verdicts = {name: judge(plan, facts) for name, judge in JUDGES.items()}
    assert {name: verdict for name, verdict in verdicts.items() if verdict.outcome is not Outcome.MET} == {}
    assert database.whole() == ""
    assert set(cluster.databases) == {"defaultdb", "system"}, "what was made to try things out is gone"


def test_writes_are_decided_where_the_leases_are(database):
    database.prepare(())
    assert database.primary_region() == "us-east-1"


def wrong_locality(cluster):
    cluster.nodes[3].locality = "cloud=aws"


def dead_node(cluster):
    cluster.nodes[8].live = False


def another_cluster(cluster):
    cluster.cluster_id["us-west-1"] = "00000000-0000-0000-0000-000000000001"


def advertised_by_address(cluster):
    cluster.nodes[4].advertised = "192.168.64.7:26257"


def deaf_to_another(cluster):
    cluster.nodes[0].unreachable.add(7)


def lacking_replicas(cluster):
    cluster.nodes[1].underreplicated = 3


def voters_of_two_regions(cluster):
    cluster.ranges[-1].voters = (1, 2, 3, 4, 5)


def system_range_in_one_region(cluster):
    cluster.ranges[1].voters = (1, 2, 3)


def not_ready(cluster):
    cluster.nodes[5].ready = 503


def clock_ahead(cluster):
    cluster.nodes[6].offset_ns = 450_000_000


def without_licence(cluster):
    cluster.licensed = False


def zone_goal(cluster):
    cluster.databases["shop"] = ("us-east-1", ("us-east-1", "us-east-2", "us-west-1"), "zone")


HARM = {
    "DB-FORM-001": dead_node,
    "DB-FORM-002": another_cluster,
    "DB-FORM-003": wrong_locality,
    "DB-FORM-008": advertised_by_address,
    "DB-FORM-010": deaf_to_another,
    "DB-FORM-013": lacking_replicas,
    "DB-FORM-014": system_range_in_one_region,
    "DB-FORM-019": not_ready,
    "DB-FORM-022": clock_ahead,
}


def test_what_is_wrong_is_seen_in_every_release(cluster, database, plan):
    for harm in HARM.values():
        harm(cluster)
    told = outcomes(plan, database.observe())
    violated = {name for name, outcome in told.items() if outcome is Outcome.VIOLATED}
    assert violated == {*HARM, "DB-SURV-011"}, "a copy whose region nobody knows survives nothing for certain"


def test_user_data_with_its_quorum_in_two_regions_is_seen(cluster, database, plan):
    voters_of_two_regions(cluster)
    assert outcomes(plan, database.observe())["DB-FORM-014"] is Outcome.VIOLATED


def test_a_cluster_without_the_licence_does_not_take_the_region_goal(cluster, database, plan):
    without_licence(cluster)
    assert outcomes(plan, database.observe())["DB-SURV-011"] is Outcome.VIOLATED


def test_a_database_that_survives_zones_alone_is_told(cluster, database, plan):
    zone_goal(cluster)
    goals = {goal.database: goal.goal for goal in database.observe().goals}
    assert goals["shop"] == "zone"


def test_internals_that_stay_shut_are_gaps_and_never_a_verdict(cluster, database, plan):
    cluster.internals_forbidden = True
    facts = database.observe()
    told = outcomes(plan, facts)
    assert {gap.parts for gap in facts.gaps} >= {("nodes",), ("links",)}
    assert told["DB-FORM-001"] is Outcome.INCONCLUSIVE
    assert told["DB-FORM-010"] is Outcome.INCONCLUSIVE
    assert Outcome.VIOLATED not in told.values()


def test_leaseholders_that_do_not_answer_leave_the_ranges_readable(cluster, database, plan):
    cluster.quorum = False
    facts = database.observe()
    assert {unit.owner for unit in facts.placement} >= {"meta", "system.descriptor"}
    assert outcomes(plan, facts)["DB-FORM-014"] is Outcome.MET


def test_stores_are_not_taken_for_nodes(cluster, database):
    [ledger] = [unit for unit in database.observe().placement if unit.owner == "meshproof.ledger"]
    assert {replica.node for replica in ledger.replicas} == {"1", "2", "4", "5", "7"}
    assert ledger.leader == ("2" if cluster.release >= (23, 2) else "")


def test_nobody_there_is_a_gap(plan, certificates):
    database = adapter(plan, {}, certificates)
    facts = database.observe()
    assert outcomes(plan, facts)["DB-FORM-001"] is Outcome.INCONCLUSIVE
    assert "refused" in database.whole()
    with pytest.raises(SessionError):
        database.connect("us-east-1", Access.WRITE, within=SOON)


def test_a_client_works_on_what_was_prepared(database):
    database.prepare(("ledger", "bank"))
    session = database.connect("us-west-1", Access.WRITE, within=SOON)
    assert session.run(Act.APPEND, "ledger", (7,), within=SOON).result is Result.OK
    assert session.run(Act.READ_LEDGER, "ledger", (), within=SOON).answer == (7,)
    assert session.run(Act.TRANSFER, "bank", (0, 1, 30), within=SOON).result is Result.OK
    assert session.run(Act.READ_BANK, "bank", (), within=SOON).answer[:2] == (70, 130)
    assert session.run(Act.TRANSFER, "bank", (0, 1, 71), within=SOON).result is Result.FAILED
    assert session.run(Act.WRITE, "register-1", (1,), within=SOON).result is Result.OK
    assert session.run(Act.COMPARE_AND_SET, "register-1", (2, 3), within=SOON).result is Result.FAILED
    assert session.run(Act.INCREMENT, "counter-1", (), within=SOON).answer == (1,)
    session.close()


@pytest.mark.parametrize(
    ("code", "message", "result"),
    [
        ("40001", "restart transaction: TransactionRetryWithProtoRefreshError", Result.FAILED),
        ("40003", "result is ambiguous: error=replica unavailable", Result.UNKNOWN),
        ("XXUUU", "replica unavailable: (n1,s1):1 unable to serve request to r71: lost quorum", Result.UNKNOWN),
        ("58C01", "internal connection failure", Result.UNKNOWN),
    ],
)
def test_an_error_of_a_write_is_taken_for_no_more_than_it_says(cluster, database, code, message, result):
    database.prepare(("ledger",))
    session = database.connect("us-east-1", Access.WRITE, within=SOON)
    cluster.refuses["INSERT"] = (code, message)
    answer = session.run(Act.APPEND, "ledger", (7,), within=SOON)
    assert (answer.result, answer.code) == (result, code)
    session.close()
