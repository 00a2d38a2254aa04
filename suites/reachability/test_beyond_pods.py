"""Pod-to-pod reachability: remote services, the internet, and what was left behind."""

import pytest

from analysis.paths import judge_egress, judge_no_leftovers, judge_remote_services


@pytest.mark.requirement("NET-POD-008")
def test_remote_services_answer(plan, facts, require):
    """A remote ClusterIP answers where service ranges are advertised, and nothing relies on one elsewhere."""
    require(judge_remote_services(plan, facts.paths))


@pytest.mark.requirement("NET-POD-009")
def test_pods_reach_the_internet(plan, facts, require):
    """Pods reach the internet under the address of a node."""
    require(judge_egress(plan, facts.inventory, facts.paths))


@pytest.mark.requirement("NET-POD-014")
def test_no_test_pods_are_left_behind(plan, facts, require):
    """No test pod of an earlier run is left behind."""
    require(judge_no_leftovers(plan, facts.inventory))
