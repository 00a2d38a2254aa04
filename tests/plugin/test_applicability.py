"""What is set aside, with a reason: capabilities, disruption, recordings."""

from __future__ import annotations

import multiprocessing

import pytest

from fixtures.locks import hold

pytest_plugins = ["pytester"]

NEEDS = """
@pytest.mark.requirement("NET-ROUTE-005")
def test_catalogue_needs_bgp(plan, require):
    require(met())

@pytest.mark.requirement("NET-ADDR-001")
@pytest.mark.needs(Capability.CLOUD_NETWORK)
def test_marker_needs_a_cloud(plan, require):
    require(met())

@pytest.mark.disruptive
@pytest.mark.requirement("NET-ROUTE-021")
def test_breaks_something(plan, require):
    require(met())

@pytest.mark.requirement("NET-POD-001")
def test_needs_nothing(plan, require):
    require(met())
"""


def test_what_the_environment_does_not_offer_is_not_applicable(project):
    project.settings("{'capabilities': frozenset()}")
    project.suite(NEEDS)
    assert project.run().ret == 0
    assert project.compliance["counts"]["not-applicable"] == 3
    assert project.row("NET-ROUTE-005")["reason"] == "this environment does not offer: bgp"
    assert project.row("NET-ADDR-001")["reason"] == "this environment does not offer: cloud-network"
    assert "--allow-disruption double would allow it" in project.row("NET-ROUTE-021")["reason"]


TWO_KINDS_OF_MESH = """
@pytest.mark.requirement("NET-POD-001")
@pytest.mark.needs(Capability.BGP)
def test_sessions(plan, require):
    require({sessions})

@pytest.mark.requirement("NET-POD-001")
@pytest.mark.needs(Capability.TUNNEL_MAP)
def test_agents(plan, require):
    require({agents})
"""


@pytest.mark.parametrize(
    ("offered", "agents", "verdict"),
    [
        ("Capability.TUNNEL_MAP", "met()", "met"),
        ("Capability.TUNNEL_MAP", "violated()", "violated"),
        ("Capability.BGP", "violated()", "met"),
        ("Capability.DISRUPTION", "met()", "not-applicable"),
        ("Capability.BGP, Capability.TUNNEL_MAP", "unclear()", "inconclusive"),
    ],
)
def test_a_check_that_does_not_apply_hides_no_verdict_of_one_that_does(project, offered, agents, verdict):
    project.settings(f"{{'capabilities': frozenset({{{offered}}})}}")
    project.suite(TWO_KINDS_OF_MESH.format(sessions="met()", agents=agents))
    project.run()
    assert project.verdict("NET-POD-001") == verdict
    assert (verdict == "not-applicable") == ("does not offer" in project.row("NET-POD-001")["reason"])


def test_disruptive_checks_come_last(project):
    project.suite(NEEDS)
    result = project.run("-v")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_needs_nothing PASSED*", "*test_breaks_something PASSED*"])


def test_a_disruptive_check_is_alone(project):
    project.suite("""
from pathlib import Path
BUSY = Path("busy")

@pytest.mark.requirement("NET-ADDR-001")
@pytest.mark.parametrize("n", range(6))
def test_shares(plan, require, n):
    assert not BUSY.exists()
    require(met())

@pytest.mark.disruptive
@pytest.mark.requirement("NET-ROUTE-021")
@pytest.mark.parametrize("n", range(3))
def test_breaks(plan, require, n):
    BUSY.touch(exist_ok=False)
    try:
        require(met())
    finally:
        BUSY.unlink()
""")
    assert project.run("-n", "2", apart=True).ret == 0


def _touch_alone(folder, done):
    with hold(folder, alone=True):
        done.set()


def test_the_lease_lets_readers_in_together_and_a_writer_alone(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    done = spawn.Event()
    writer = spawn.Process(target=_touch_alone, args=(tmp_path, done))
    with hold(tmp_path, alone=False), hold(tmp_path, alone=False):
        writer.start()
        assert not done.wait(0.5)
    assert done.wait(30)
    writer.join()


RECORDED = """
@pytest.mark.requirement("NET-ADDR-001")
def test_facts(facts, require):
    assert len(facts.inventory.nodes) == 3
    require(met())
"""


def test_a_recording_is_judged_without_environment(project):
    project.suite(RECORDED)
    assert project.run("--record", "kept").ret == 0
    assert "/nowhere/kubeconfig" not in (project.pytester.path / "kept" / "fleet.json").read_text()
    project.suite(
        RECORDED
        + """
@pytest.mark.requirement("NET-ROUTE-005")
def test_not_recorded(facts, require):
    require(met() if facts.routing else met())

@pytest.mark.requirement("NET-POD-001")
def test_reaches_in(mesh, require):
    require(met())
"""
    )
    project.log.unlink()
    assert project.run("--replay", "kept").ret == 11
    assert project.events == []
    assert project.verdict("NET-ADDR-001") == "met"
    assert project.row("NET-ROUTE-005")["reason"] == "the recording kept has no facts about routing"
    assert project.verdict("NET-POD-001") == "not-applicable"


def test_evidence_is_kept_and_named(project):
    project.suite("""
@pytest.mark.requirement("NET-ADDR-001")
def test_it(facts, require, evidence, tmp_path):
    evidence.text("route.txt", "default via 10.0.1.1")
    evidence.json("seen.json", {"nodes": [node.internal_ip for node in facts.inventory.nodes]})
    evidence.csv("history.csv", ("when", "what"), [(1, "open"), (2, "dropped")])
    (tmp_path / "cut.pcap").write_bytes(b"packets")
    evidence.file(tmp_path / "cut.pcap")
    with pytest.raises(ValueError, match="a plain file name"):
        evidence.text("../escape.txt", "")
    require(met())
""")
    assert project.run().ret == 0
    kept = {record["path"]: record["media_type"] for record in project.row("NET-ADDR-001")["evidence"]}
    folder = "evidence/addressing_test_it.py_test_it"
    assert kept == {
        f"{folder}/route.txt": "text/plain",
        f"{folder}/seen.json": "application/json",
        f"{folder}/history.csv": "text/csv",
        f"{folder}/cut.pcap": "application/vnd.tcpdump.pcap",
        "facts/inventory.json": "application/json",
    }
    assert (project.folder / folder / "history.csv").read_text() == "when,what\n1,open\n2,dropped\n"
