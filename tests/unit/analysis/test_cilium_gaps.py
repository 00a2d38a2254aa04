"""What was not seen of a mesh of agents is never called met, and never called violated."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from analysis.facts import Access, Credential, Gap, ProbeOutcome
from analysis.verdict import Outcome
from tests.unit.analysis.cilium_world import cluster, perfect_cilium
from tests.unit.analysis.judges import verdicts
from tests.unit.analysis.test_faults import where
from tests.unit.analysis.test_gaps import without_facts
from tests.unit.analysis.world import gone

PERFECT = perfect_cilium()
NODE = "crdb-eastus-node2"
SILENT = Gap("eastus", f"node {NODE}: agent", "exec: container not running")


def inconclusive(world):
    told = verdicts(world)
    violated = {requirement for requirement, verdict in told.items() if verdict.outcome is Outcome.VIOLATED}
    assert violated == set()
    return {requirement for requirement, verdict in told.items() if verdict.outcome is Outcome.INCONCLUSIVE}


def test_no_facts_prove_nothing():
    told = verdicts(without_facts(PERFECT))
    assert {
        requirement for requirement, verdict in told.items() if verdict.outcome is not Outcome.INCONCLUSIVE
    } == set()


def test_an_agent_that_does_not_answer_leaves_open_what_it_would_have_told():
    world = PERFECT.add("federation", "gaps", SILENT)
    for family in ("remotes", "nodes", "identities", "health", "knocks"):
        world = world.edit("federation", family, gone, where(node=NODE))
    assert inconclusive(world) >= {
        "NET-ROUTE-006",
        "NET-ROUTE-015",
        "NET-ROUTE-019",
        "NET-ROUTE-020",
        "MESH-CP-012",
        "MESH-CP-015",
    }
    assert "exec: container not running" in verdicts(world)["NET-ROUTE-019"].observed


def test_a_node_whose_status_is_unknown_leaves_its_agent_and_datapath_open():
    world = PERFECT.edit("components", "components", gone, where(name=f"cilium-agent on {NODE}")).edit(
        "components", "datapaths", gone, where(node=NODE)
    )
    assert inconclusive(world) == {"NET-ROUTE-005", "MESH-CP-014", "MESH-CP-017"}


@pytest.mark.parametrize(
    ("credential", "access", "open_requirements"),
    [
        (Credential.REMOTE, Access.READ, {"MESH-CP-004", "MESH-CP-005"}),
        (Credential.REMOTE, Access.WRITE, {"MESH-CP-004"}),
        (Credential.NONE, Access.CONNECT, {"MESH-CP-005"}),
        (Credential.FOREIGN, Access.CONNECT, {"MESH-CP-005"}),
        (Credential.PLAIN, Access.CONNECT, {"MESH-CP-005"}),
    ],
)
def test_an_access_that_could_not_be_tried_proves_nothing(credential, access, open_requirements):
    world = PERFECT.edit(
        "federation",
        "trials",
        lambda t: replace(t, allowed=None, detail="connection timed out"),
        where(region="westus", credential=credential, access=access),
    )
    assert inconclusive(world) == open_requirements


def test_a_store_that_lets_nobody_in_has_not_proven_that_it_refuses_strangers():
    world = PERFECT.edit(
        "federation",
        "trials",
        lambda t: replace(t, allowed=False),
        where(region="westus", credential=Credential.REMOTE, access=Access.READ),
    )
    told = verdicts(world)
    assert told["MESH-CP-004"].outcome is Outcome.VIOLATED
    assert told["MESH-CP-005"].outcome is Outcome.INCONCLUSIVE
    assert "a refusal proves nothing" in told["MESH-CP-005"].observed


@pytest.mark.parametrize(
    ("family", "collection", "requirement"),
    [
        ("federation", "settings", "MESH-CP-008"),
        ("federation", "settings", "MESH-CP-009"),
        ("federation", "settings", "MESH-CP-007"),
        ("federation", "settings", "NET-ROUTE-007"),
        ("federation", "certificates", "MESH-CP-006"),
        ("federation", "contents", "MESH-CP-003"),
        ("federation", "knocks", "MESH-CP-012"),
        ("components", "components", "MESH-CP-001"),
        ("components", "datapaths", "NET-ROUTE-014"),
    ],
)
def test_without_its_facts_a_requirement_is_open(family, collection, requirement):
    facts = getattr(PERFECT, family)
    world = replace(PERFECT, **{family: replace(facts, **{collection: ()})})
    assert verdicts(world)[requirement].outcome is not Outcome.MET
    world = world.add(family, "gaps", Gap("eastus", collection, "forbidden"))
    assert "forbidden" in "\n".join(finding.observed for finding in verdicts(world)[requirement].findings)


def test_an_answer_that_does_not_tell_its_cluster_is_none():
    world = PERFECT.edit(
        "paths", "services", lambda p: replace(p, answered_by=""), lambda p: p.source.region == "eastus"
    )
    assert inconclusive(world) == {"NET-POD-008"}


def test_an_inconclusive_knock_at_a_store_is_a_gap():
    world = PERFECT.edit(
        "federation",
        "knocks",
        lambda k: replace(k, outcome=ProbeOutcome.INCONCLUSIVE, detail="agent died"),
        where(node=NODE, remote=cluster("westus")),
    )
    assert inconclusive(world) == {"MESH-CP-012"}


def test_a_server_without_conditions_is_not_known_to_be_a_member():
    world = PERFECT.edit("inventory", "nodes", lambda n: replace(n, conditions=()), where(region="eastus"))
    assert inconclusive(world) == {"MESH-CP-019"}


def test_masquerading_is_open_where_no_listener_told_what_it_saw():
    world = PERFECT.edit(
        "reachability",
        "probes",
        lambda p: replace(p, seen_source=None),
        lambda p: PERFECT.reachability.endpoints[p.source].node == NODE,
    )
    assert "NET-ROUTE-014" in inconclusive(world)


def test_losing_any_single_fact_never_makes_a_judge_crash():
    for family in ("components", "federation"):
        facts = getattr(PERFECT, family)
        for part in fields(facts):
            for item in getattr(facts, part.name)[:2]:
                verdicts(PERFECT.edit(family, part.name, gone, lambda candidate, item=item: candidate is item))


def test_a_cluster_that_was_read_and_knows_of_no_other_is_not_connected():
    world = PERFECT
    for family in ("remotes", "settings", "nodes"):
        world = world.edit("federation", family, gone, where(region="eastus"))
    told = verdicts(world)
    assert told["MESH-CP-002"].outcome is Outcome.VIOLATED
    assert told["MESH-CP-008"].outcome is Outcome.VIOLATED
    unread = world.add("federation", "gaps", SILENT)
    assert verdicts(unread)["MESH-CP-002"].outcome is Outcome.INCONCLUSIVE


def test_a_gap_in_one_part_of_a_family_leaves_the_verdicts_about_the_others():
    gap = Gap("eastus", "doors of other clusters' stores", "timed out", ("trials", "certificates"))
    assert inconclusive(PERFECT.add("federation", "gaps", gap)) == {
        "MESH-CP-004",
        "MESH-CP-005",
        "MESH-CP-006",
        "MESH-CP-007",
    }
