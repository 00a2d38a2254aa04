"""From what a check does to what the report says of its requirement."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from xml.etree import ElementTree

import pytest

pytest_plugins = ["pytester"]

EVERYTHING = """
@pytest.mark.requirement("NET-ADDR-001")
def test_met(plan, require):
    require(met())

@pytest.mark.requirement("NET-ADDR-002")
def test_violated(plan, require):
    require(violated(3))

@pytest.mark.requirement("NET-ADDR-003")
def test_inconclusive(plan, require):
    require(unclear())

@pytest.mark.requirement("NET-ROUTE-005")
def test_says_nothing_here(plan, require):
    require(not_applicable("one thing", "there is nothing of that kind"))

@pytest.mark.requirement("NET-ROUTE-008")
def test_never_concludes(plan):
    pass

@pytest.mark.requirement("NET-POD-001")
@pytest.mark.parametrize("pair", ["a", "b"])
def test_worst_wins(plan, require, pair):
    require(met() if pair == "a" else violated())
"""


def test_every_verdict_has_its_row(project):
    project.suite(EVERYTHING)
    result = project.run()
    assert result.ret == 1
    assert {row["id"]: row["verdict"] for row in project.compliance["requirements"]} == {
        "NET-ADDR-001": "met",
        "NET-ADDR-002": "violated",
        "NET-ADDR-003": "inconclusive",
        "NET-ROUTE-005": "not-applicable",
        "NET-ROUTE-008": "inconclusive",
        "NET-ROUTE-021": "not-covered",
        "NET-POD-001": "violated",
        "NET-POD-013": "not-covered",
    }
    assert project.row("NET-ADDR-001")["reason"] == "all 2 things are as planned"
    assert project.row("NET-ROUTE-008")["reason"] == "the check ended without a verdict"
    assert project.row("NET-POD-001")["follows_from"] == ["NET-ADDR-002"]
    assert project.compliance["root_cause"] == {
        "layer": "addressing",
        "requirement": "NET-ADDR-002",
        "text": "a typing error",
        "title": project.row("NET-ADDR-002")["title"],
        "observed": project.row("NET-ADDR-002")["reason"],
        "where": ["us-east-1/node-0", "us-east-1/node-1", "us-east-1/node-2"],
        "remedy": "",
        "explains": ["NET-POD-001"],
    }
    assert project.compliance["contradictions"] == []


def test_the_report_has_the_promised_shape(project):
    project.suite(EVERYTHING)
    project.run()
    report = project.compliance
    assert set(report) == {"run", "environment", "counts", "requirements", "root_cause", "contradictions", "outages"}
    assert set(report["run"]) == {"id", "start", "end", "commit", "exit", "instrument_retries", "outages_apart"}
    assert report["environment"] == {
        "name": "double",
        "provider": "double",
        "profile": "aws-calico",
        "database": "postgresql",
    }
    assert sum(report["counts"].values()) == len(report["requirements"]) == 8
    for row in report["requirements"]:
        assert set(row) == {
            *("id", "title", "area", "severity", "verdict", "reason", "follows_from", "tests", "evidence"),
        }
    assert report["run"]["exit"] == 1
    test = project.row("NET-ADDR-002")["tests"][0]
    assert test["nodeid"] == "suites/addressing/test_it.py::test_violated"
    evidence = project.row("NET-ADDR-002")["evidence"][0]
    assert evidence["media_type"] == "application/json"
    assert len(evidence["sha256"]) == 64
    assert (project.folder / evidence["path"]).is_file()
    page = (project.folder / "compliance.md").read_text(encoding="utf-8")
    assert "2 violated, 2 inconclusive, 1 met, 1 not applicable, 2 not covered." in page
    assert page.index("## Violated") < page.index("## Inconclusive") < page.index("## All requirements")


def test_a_failure_tells_what_why_and_how_to_repeat(project):
    project.suite("""
@pytest.mark.requirement("NET-ADDR-002")
def test_blocks(plan, require):
    require(violated(11))
""")
    result = project.run()
    result.stdout.fnmatch_lines(
        [
            "NET-ADDR-002 violated in double",
            "  expected  every node has its block",
            "  observed  us-east-1/node-0: 10.9.9.0/26 (and 10 more)",
            "    us-east-1/node-0: expected 192.168.0.0/26; observed 10.9.9.0/26",
            "    and 3 more",
            "  likely    a typing error",
            "  evidence  evidence/addressing_test_it.py_test_blocks/verdict.json",
            "  repeat    pytest suites/addressing/test_it.py::test_blocks",
            "root cause: NET-ADDR-002 (layer: addressing): *",
            "  where     us-east-1/node-0; us-east-1/node-1; us-east-1/node-2; us-east-1/node-3; and 7 more",
            "  observed  us-east-1/node-0: 10.9.9.0/26 (and 10 more)",
            "  likely    a typing error",
            "*mend first: NET-ADDR-002 (layer: addressing)*",
        ]
    )
    result.stdout.no_fnmatch_line("*require(violated*")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("def test_it(plan, require):\n    raise OSError('no route to host')", "call ended with OSError: no route*"),
        ("def test_it(plan, require, broken):\n    require(met())", "setup ended with OSError: no ladder"),
        ("def test_it(plan, require, sticky):\n    require(met())", "teardown ended with OSError: stuck"),
        ("def test_it(plan):\n    pytest.skip('not today')", "call ended with Skipped: not today"),
        (
            "@pytest.mark.timeout(0.2)\ndef test_it(plan):\n    import time; time.sleep(9)",
            "call ended with Failed: Timeout*",
        ),
    ],
    ids=["error", "setup", "teardown", "skip", "hang"],
)
def test_what_does_not_come_to_a_verdict_is_inconclusive(project, body, reason):
    project.suite(f"""
@pytest.fixture
def broken():
    raise OSError("no ladder")

@pytest.fixture
def sticky():
    yield
    raise OSError("stuck")

@pytest.mark.requirement("NET-ADDR-001")
{body}
""")
    assert project.run().ret == 11
    assert project.verdict("NET-ADDR-001") == "inconclusive"
    assert fnmatch(project.row("NET-ADDR-001")["reason"], reason)


def test_an_expected_failure_stays_violated(project):
    project.suite("""
@pytest.mark.requirement("NET-ADDR-001")
@pytest.mark.xfail(reason="issue 7")
def test_it(plan, require):
    require(violated())
""")
    assert project.run().ret == 1
    assert project.verdict("NET-ADDR-001") == "violated"


def test_exit_codes(project):
    project.suite("""
@pytest.mark.requirement("NET-ADDR-001")
def test_met(plan, require):
    require(met())

@pytest.mark.requirement("NET-ADDR-002")
def test_inconclusive(plan, require):
    require(unclear())

def test_no_requirement():
    assert not os.environ.get("FAIL")
""")
    assert project.run("-k", "met").ret == 0
    assert project.run().ret == 11
    assert project.run("--requirement", "NET-ADDR-001").ret == 0
    assert project.run("--requirement", "NET-ADDR-003").ret == 11, "a MUST that was asked for has no result"
    assert project.run("--requirement", "NET-POD-013").ret == 5, "a SHOULD may stay without one"


def test_a_failed_test_without_requirement_counts(project):
    project.suite("""
@pytest.mark.requirement("NET-ADDR-001")
def test_met(plan, require):
    require(met())

def test_helper():
    assert False
""")
    assert project.run().ret == 1
    assert project.compliance["counts"]["violated"] == 0


def test_allure_and_junit_carry_the_requirement(project):
    project.suite(EVERYTHING)
    project.run("-k", "violated")
    results = [json.loads(path.read_text()) for path in (project.folder / "allure-results").glob("*-result.json")]
    labels = {(label["name"], label["value"]) for label in results[0]["labels"]}
    assert {
        ("requirement", "NET-ADDR-002"),
        ("environment", "double"),
        ("epic", "NET-ADDR Addressing plan"),
        ("feature", "Subnets are inside."),
        ("severity", "critical"),
    } <= labels
    assert results[0]["status"] == "failed"
    described = (project.folder / "allure-results" / "environment.properties").read_text(encoding="utf-8")
    assert "stand-in.encapsulation=VXLAN for IPIP" in described
    assert results[0]["attachments"][0]["name"] == "verdict.json"
    case = ElementTree.parse(project.folder / "junit.xml").find(".//testcase")
    properties = {each.get("name"): each.get("value") for each in case.findall(".//property")}
    assert properties["requirement"] == "NET-ADDR-002"
    assert properties["verdict"] == "violated"
