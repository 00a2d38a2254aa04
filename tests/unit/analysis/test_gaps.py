"""What was not seen is never called met, and never called violated."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from analysis.facts import Gap, ProbeOutcome, ProbeProtocol
from analysis.verdict import Outcome
from tests.unit.analysis.judges import JUDGES, verdicts
from tests.unit.analysis.world import gone, perfect

PERFECT = perfect()


def without_facts(world):
    """A world of which nothing was observed, and nobody says why."""
    emptied = {}
    for family in fields(world):
        facts = getattr(world, family.name)
        if family.name != "plan":
            kept = {f.name: () for f in fields(facts) if isinstance(getattr(facts, f.name), tuple)}
            emptied[family.name] = replace(facts, **kept)
    return replace(world, **emptied)


def outcomes(world):
    return {requirement: verdict.outcome for requirement, verdict in verdicts(world).items()}


def inconclusive(world):
    told = outcomes(world)
    assert Outcome.VIOLATED not in told.values()
    return {requirement for requirement, outcome in told.items() if outcome is Outcome.INCONCLUSIVE}


def test_no_facts_prove_nothing():
    assert set(outcomes(without_facts(PERFECT)).values()) == {Outcome.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("family", "area"),
    [
        ("networks", {"NET-ADDR-001", "NET-ADDR-002"}),
        (
            "addressing",
            {"NET-ADDR-003", "NET-ADDR-009", "NET-ADDR-010", "NET-ROUTE-008", "NET-ROUTE-013", "NET-ROUTE-016"},
        ),
        ("inventory", {"NET-ADDR-006", "NET-ADDR-007", "NET-ADDR-008", "NET-ADDR-012", "NET-ADDR-013", "NET-POD-014"}),
        ("configuration", {"NET-ROUTE-001", "NET-ROUTE-002", "NET-ROUTE-003", "NET-ROUTE-007", "NET-ROUTE-015"}),
        ("paths", {"NET-POD-008", "NET-POD-009"}),
        ("quality", {"NET-POD-012", "NET-POD-013"}),
        ("reachability", {"NET-POD-001", "NET-POD-004", "NET-POD-005"}),
    ],
)
def test_a_gap_in_what_the_api_tells_leaves_its_requirements_open(family, area):
    gap = Gap("us-east-2", "ippools", "forbidden: cannot list resource")
    world = PERFECT.add(family, "gaps", gap)
    assert area <= inconclusive(world)
    verdict = JUDGES[min(area)](world)
    assert "forbidden: cannot list resource" in verdict.observed
    assert "us-east-2" in verdict.observed


def test_a_node_whose_daemon_did_not_answer_is_known_from_the_other_end():
    world = (
        PERFECT.edit("routing", "sessions", gone, lambda s: s.node == "us-east-1-node-3")
        .edit("routing", "routes", gone, lambda r: r.node == "us-east-1-node-3")
        .add("routing", "gaps", Gap("us-east-1", "node us-east-1-node-3: BGP sessions", "birdcl: connection refused"))
    )
    told = verdicts(world)
    assert told["NET-ROUTE-005"].outcome is Outcome.MET
    assert told["NET-ROUTE-016"].outcome is Outcome.INCONCLUSIVE
    assert "birdcl: connection refused" in told["NET-ROUTE-016"].observed


def test_a_reflector_whose_daemon_did_not_answer_leaves_its_sessions_open():
    world = PERFECT.edit("routing", "sessions", gone, lambda s: s.node == "us-east-1-node-1").edit(
        "routing", "routes", gone, lambda r: r.node == "us-east-1-node-1"
    )
    assert "NET-ROUTE-006" in inconclusive(world)


def test_a_node_without_sessions_that_did_answer_is_a_fault():
    world = PERFECT.edit("routing", "sessions", gone, lambda s: "us-east-1-node-3" in s.node)
    verdict = verdicts(world)["NET-ROUTE-005"]
    assert verdict.outcome is Outcome.VIOLATED
    assert "there is no such session" in verdict.observed
    assert "has not taken it up" in (verdict.cause or "")


def test_a_node_whose_kernel_was_not_read_leaves_routes_open():
    world = PERFECT.edit("forwarding", "routes", gone, lambda r: r.node == "us-west-1-node-2")
    assert inconclusive(world) == {
        "NET-ROUTE-008",
        "NET-ROUTE-009",
        "NET-ROUTE-010",
        "NET-ROUTE-011",
        "NET-ROUTE-012",
    }


def test_a_violation_stands_in_spite_of_gaps():
    world = PERFECT.edit("forwarding", "routes", gone, lambda r: r.node == "us-west-1-node-2").edit(
        "forwarding", "routes", gone, lambda r: r.node == "us-east-1-node-2" and r.protocol == "bird" and r.gateways
    )
    verdict = verdicts(world)["NET-ROUTE-008"]
    assert verdict.outcome is Outcome.VIOLATED
    assert any("us-west-1-node-2" in finding.subject for finding in verdict.findings)


def test_a_tunnel_whose_far_end_cannot_be_told_is_no_next_hop():
    world = PERFECT.edit(
        "forwarding",
        "routes",
        lambda r: replace(r, tunnel_endpoints=(None,)),
        lambda r: r.node == "us-east-1-node-2" and r.tunnel_endpoints,
    )
    assert inconclusive(world) == {"NET-ROUTE-009"}


def test_a_device_that_is_not_listed_is_of_no_known_kind():
    world = PERFECT.edit("forwarding", "links", gone, lambda link: link.node == "us-east-1-node-2")
    assert inconclusive(world) == {"NET-ROUTE-010", "NET-MTU-011"}


def unwell(world, node, lost):
    """The agent on a node has no positive control, and some of the probes to or from it got no answer."""
    ends = world.reachability.endpoints
    index = next(i for i, end in enumerate(ends) if end.node == node and not end.on_host)
    return world.edit(
        "reachability", "agents", lambda a: replace(a, loopback_ok=False), lambda a: a.endpoint == index
    ).edit(
        "reachability",
        "probes",
        lambda p: replace(p, outcome=ProbeOutcome.DROPPED, ttl=None, seen_source=None),
        lambda p: not ends[p.source].on_host and lost(p, index),
    )


def test_what_an_unwell_agent_did_not_reach_proves_nothing():
    world = unwell(PERFECT, "us-east-1-node-2", lambda p, index: p.source == index)
    assert {"NET-POD-001", "NET-POD-002", "NET-POD-003", "NET-POD-005", "NET-POD-006"} <= inconclusive(world)


def test_not_reaching_an_unwell_agent_proves_nothing():
    world = unwell(PERFECT, "us-east-1-node-2", lambda p, index: p.target == index)
    assert {"NET-POD-001", "NET-POD-002", "NET-POD-003", "NET-POD-005", "NET-POD-006"} <= inconclusive(world)


def test_an_unwell_agent_that_lost_nothing_is_believed():
    index = 0
    world = PERFECT.edit(
        "reachability", "agents", lambda a: replace(a, loopback_ok=False), lambda a: a.endpoint == index
    )
    assert inconclusive(world) == set()


def test_an_agent_that_had_to_be_started_again_is_told_and_changes_nothing():
    world = PERFECT.edit("reachability", "agents", lambda a: replace(a, retries=2), lambda a: a.endpoint == 0)
    verdict = verdicts(world)["NET-POD-001"]
    assert verdict.outcome is Outcome.MET
    assert [warning.endswith("was started again 2 times") for warning in verdict.warnings] == [True]


def test_an_agent_that_gave_no_result_leaves_its_pairs_open():
    ends = PERFECT.reachability.endpoints
    world = PERFECT.edit(
        "reachability",
        "agents",
        lambda a: replace(a, loopback_ok=False, error="pod is gone"),
        lambda a: a.endpoint == 0,
    ).edit(
        "reachability",
        "probes",
        lambda p: replace(p, outcome=ProbeOutcome.INCONCLUSIVE, ttl=None, seen_source=None, detail="pod is gone"),
        lambda p: p.source == 0 and not ends[p.target].on_host,
    )
    assert {"NET-POD-001", "NET-POD-002", "NET-POD-003", "NET-POD-005", "NET-POD-006"} <= inconclusive(world)
    assert "pod is gone" in verdicts(world)["NET-POD-001"].observed


def test_probes_that_were_never_made_are_missed():
    ends = PERFECT.reachability.endpoints
    world = PERFECT.edit(
        "reachability",
        "probes",
        gone,
        lambda p: p.protocol is ProbeProtocol.UDP and ends[p.source].region == "us-east-1" and p.target == 5,
    )
    assert inconclusive(world) == {"NET-POD-003"}


def test_a_node_without_a_probe_pod_is_missed():
    lonely = next(i for i, end in enumerate(PERFECT.reachability.endpoints) if end.node == "us-west-1-node-4")
    world = PERFECT.edit("reachability", "probes", gone, lambda p: lonely in (p.source, p.target))
    assert "NET-POD-005" in inconclusive(world)
    told = verdicts(world)["NET-POD-005"]
    assert any(
        "us-west-1-node-4" in finding.observed or "us-west-1-node-4" in finding.subject for finding in told.findings
    )


def test_inconclusive_knocks_elsewhere_are_gaps():
    world = PERFECT.edit(
        "paths", "services", lambda p: replace(p, outcome=ProbeOutcome.INCONCLUSIVE, detail="agent died")
    ).edit("paths", "egress", lambda p: replace(p, outcome=ProbeOutcome.INCONCLUSIVE, detail="agent died"))
    assert inconclusive(world) == {"NET-POD-008", "NET-POD-009"}


def test_a_cluster_without_reflector_leaves_its_sessions_to_the_requirement_that_wants_one():
    world = PERFECT.edit("inventory", "nodes", lambda n: replace(n, labels=()), lambda n: n.region == "us-east-2")
    told = outcomes(world)
    assert {requirement for requirement, outcome in told.items() if outcome is Outcome.VIOLATED} == {
        "NET-ROUTE-003",
        "NET-ROUTE-004",
        "NET-ROUTE-007",
        "MESH-CP-016",
    }
    assert told["NET-ROUTE-005"] is Outcome.INCONCLUSIVE
    assert told["NET-ROUTE-006"] is Outcome.INCONCLUSIVE
