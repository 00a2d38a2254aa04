"""Policy: what must get through gets through, over new connections."""

import pytest

from analysis.policy.judging.let_in import (
    judge_clients,
    judge_console_port,
    judge_database_ports,
    judge_dns,
    judge_inside_regions,
)
from analysis.policy.judging.over_time import judge_baseline

pytestmark = pytest.mark.needs("policy")


@pytest.mark.requirement("NET-POL-001")
def test_without_policy_every_port_is_open(plan, facts, require):
    """Without policy, traffic between clusters is allowed on every port."""
    require(judge_baseline(plan, facts.policies, facts.enforcement))


@pytest.mark.requirement("NET-POL-005")
def test_database_pods_reach_each_other_on_the_sql_port(plan, facts, require):
    """Database pods of all regions reach each other on TCP 26257."""
    require(judge_database_ports(plan, facts.policies, facts.enforcement))


@pytest.mark.requirement("NET-POL-006")
def test_database_pods_reach_each_other_on_the_console_port(plan, facts, require):
    """Database pods of all regions reach each other on TCP 8080."""
    require(judge_console_port(plan, facts.policies, facts.enforcement))


@pytest.mark.requirement("NET-POL-008")
def test_database_traffic_inside_a_region_is_allowed(plan, facts, require):
    """Database traffic inside a region stays allowed."""
    require(judge_inside_regions(plan, facts.policies, facts.enforcement))


@pytest.mark.requirement("NET-POL-009")
def test_database_pods_can_ask_dns(plan, facts, require):
    """Database pods can still ask their cluster's DNS, over UDP and TCP."""
    require(judge_dns(plan, facts.policies, facts.enforcement))


@pytest.mark.requirement("NET-POL-012")
def test_declared_clients_reach_sql(plan, facts, require):
    """Declared clients can reach SQL in their region."""
    require(judge_clients(plan, facts.policies, facts.enforcement))
