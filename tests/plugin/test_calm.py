"""Trials leave out the checks that disrupt, and say which."""

from __future__ import annotations

import json

pytest_plugins = ["pytester"]

TWO_THAT_DISRUPT = """
@pytest.mark.disruptive
@pytest.mark.requirement("NET-ROUTE-021")
def test_restarts_an_agent(plan, require):
    require(met())

@pytest.mark.disruptive
@pytest.mark.requirement("NET-ROUTE-005")
def test_shuts_a_session(plan, require):
    require(met())

@pytest.mark.requirement("NET-POD-001")
def test_looks(plan, require):
    require(met())
"""


def verdicts(project) -> dict[str, str]:
    return {row["id"]: row["verdict"] for row in project.compliance["requirements"] if row["verdict"] != "not-covered"}


def left_out(project) -> list[str]:
    return json.loads((project.folder / "left-out.json").read_text())


def test_only_what_is_asked_for_disrupts_and_the_rest_is_not_covered(project):
    project.suite(TWO_THAT_DISRUPT)
    assert project.run("-p", "tools.calm", "--disruptive-of", "NET-ROUTE-021").ret == 0
    assert verdicts(project) == {"NET-ROUTE-021": "met", "NET-POD-001": "met"}
    assert left_out(project) == ["NET-ROUTE-005"]


def test_nothing_disrupts_where_nothing_was_asked_for(project):
    project.suite(TWO_THAT_DISRUPT)
    assert project.run("-p", "tools.calm").ret == 0
    assert verdicts(project) == {"NET-POD-001": "met"}
    assert left_out(project) == ["NET-ROUTE-005", "NET-ROUTE-021"]


def test_an_area_that_is_not_looked_at_is_left_out_as_a_whole(project):
    project.suite(TWO_THAT_DISRUPT)
    assert project.run("-p", "tools.calm", "--without", "NET-POD", "--disruptive-of", "NET-ROUTE-005").ret == 0
    assert verdicts(project) == {"NET-ROUTE-005": "met"}
    assert left_out(project) == ["NET-POD-001", "NET-ROUTE-021"]
