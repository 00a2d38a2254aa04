"""NET-POL-010, 021: the database lives under its policy, which must be seen to be in force."""

from dataclasses import replace

import pytest

from analysis.facts import Gap
from analysis.policy.judging.endured import judge_formation, judge_readiness
from analysis.rootcause import Layer
from analysis.verdict import Outcome
from tests.unit.analysis.database_world import at, change, cockroachdb, workloads
from tests.unit.analysis.policy.judging.policy_world import EAST, PLAN, REGIONS, enforcement

NODES = cockroachdb(PLAN)
HELD = workloads(PLAN)


def readiness(held=HELD, nodes=NODES, enforced=None):
    return judge_readiness(PLAN, enforced or enforcement(), held, nodes)


def formation(nodes=NODES, enforced=None):
    return judge_formation(PLAN, enforced or enforcement(), nodes)


def idle():
    """Nothing is stopped on its way to database pods of EAST."""
    facts = enforcement()
    kept = tuple(
        trial
        for trial in facts.trials
        if not (
            facts.participants[trial.target].region == EAST and facts.participants[trial.target].role and trial.control
        )
    )
    return replace(facts, trials=kept)


@pytest.mark.parametrize("judged", [readiness, formation])
def test_a_database_that_is_well_under_its_policy_is_met(judged):
    assert judged().outcome is Outcome.MET


@pytest.mark.parametrize("judged", [readiness, formation])
def test_a_policy_that_stops_nothing_proves_nothing(judged):
    verdict = judged(enforced=idle())
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert EAST in verdict.observed


def test_a_pod_that_answers_others_and_is_not_ready_is_kept_from_its_kubelet():
    held = change(HELD, "pods", lambda pod: replace(pod, ready=False), at(EAST, "cockroachdb-0"))
    verdict = readiness(held)
    assert verdict.outcome is Outcome.VIOLATED
    assert verdict.layer is Layer.POLICY
    assert verdict.findings[0].subject == f"{EAST}/cockroachdb-0"
    assert "kubelet" in (verdict.cause or "")


def test_a_pod_that_is_unwell_to_everybody_may_be_so_by_itself():
    held = change(HELD, "pods", lambda pod: replace(pod, ready=False), at(EAST, "cockroachdb-0"))
    nodes = change(
        NODES,
        "health",
        lambda answer: replace(answer, status=503),
        lambda each: (each.region, each.pod) == (EAST, "cockroachdb-0"),
    )
    verdict = readiness(held, nodes)
    assert verdict.outcome is Outcome.VIOLATED
    assert verdict.layer is None
    assert "503" in verdict.observed


def test_pods_that_could_not_be_listed_leave_it_open():
    held = replace(change(HELD, "pods", lambda pod: None, at(EAST)), gaps=(Gap(EAST, "pods", "403", ("pods",)),))
    assert readiness(held).outcome is Outcome.INCONCLUSIVE


def test_a_node_that_is_lost_is_a_violation():
    nodes = change(NODES, "nodes", lambda node: replace(node, live=False), lambda node: node.region == EAST)
    verdict = formation(nodes)
    assert verdict.outcome is Outcome.VIOLATED
    assert EAST in verdict.findings[0].subject


def test_links_that_were_not_seen_leave_it_open():
    nodes = replace(NODES, links=(), gaps=(Gap(REGIONS[1], "links", "timeout", ("links",)),))
    assert formation(nodes).outcome is Outcome.INCONCLUSIVE
