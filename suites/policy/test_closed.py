"""Policy: what must not get through is stopped, whichever way it comes."""

import pytest

from analysis.policy.judging.kept_out import judge_destinations, judge_other_ports, judge_strangers
from analysis.policy.judging.over_time import judge_new_connections
from analysis.policy.judging.table import openings_table

pytestmark = pytest.mark.needs("policy")


@pytest.mark.requirement("NET-POL-007")
def test_other_ports_are_blocked(plan, facts, evidence, require):
    """Every other port between database pods of different regions is blocked."""
    evidence.text("openings.md", openings_table(plan, facts.policies, facts.enforcement))
    require(judge_other_ports(plan, facts.policies, facts.enforcement))


@pytest.mark.requirement("NET-POL-011")
def test_strangers_do_not_reach_the_database(plan, facts, require):
    """Pods without the database label, near or far, cannot reach the database ports."""
    require(judge_strangers(plan, facts.policies, facts.enforcement))


@pytest.mark.requirement("NET-POL-013")
def test_database_pods_reach_nobody_else(plan, facts, require):
    """Database pods cannot reach destinations that nobody declared."""
    require(judge_destinations(plan, facts.policies, facts.enforcement))


@pytest.mark.requirement("NET-POL-015")
def test_new_connections_are_what_policy_is_judged_by(plan, facts, require):
    """Policy is judged on new connections, and established ones are recorded apart."""
    require(judge_new_connections(plan, facts.policies, facts.enforcement))
