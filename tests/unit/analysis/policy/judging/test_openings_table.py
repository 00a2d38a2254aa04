"""The table that an auditor reads: what is open between whom, with what differs on top."""

from dataclasses import replace

from analysis.policy.judging.table import openings_table
from tests.unit.analysis.policy.judging.policy_world import (
    EAST,
    OTHER_PORT,
    PLAN,
    WEST,
    enforcement,
    opened,
    policies,
    role,
)

ROW = f"| database pods of {EAST} | database pods of {WEST} | TCP 8080, 26257 | TCP 8080, 26257 |"


def test_where_all_agree_there_is_one_table():
    table = openings_table(PLAN, policies(), enforcement())
    assert "differ" not in table
    assert f"{ROW} TCP 8080, 26257 |" in table
    assert f"| database pods of {EAST} | DNS of {EAST} | TCP 53; UDP 53 |" in table
    assert f"| pods of {EAST} without a role | pods of {WEST} without a role | not spoken of |" in table


def test_what_differs_comes_first():
    table = openings_table(PLAN, policies(), opened(enforcement(), role(EAST), role(WEST), OTHER_PORT))
    first = table.partition("## As meant, as said")[0]
    assert f"{ROW} TCP 8080, {OTHER_PORT}, 26257 |" in first
    assert first.count("\n| database") == 1


def test_objects_that_nobody_read_say_nothing():
    table = openings_table(PLAN, replace(policies(), endpoints=()), enforcement())
    assert "not read" in table
    assert "differ" not in table
