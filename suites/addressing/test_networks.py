"""Addressing plan: the networks under the clusters."""

import pytest

from analysis.addressing import judge_networks_disjoint, judge_subnets_as_planned


@pytest.mark.requirement("NET-ADDR-001")
def test_regional_networks_do_not_overlap(plan, facts, require):
    """The networks of the regions do not overlap."""
    require(judge_networks_disjoint(plan, facts.networks))


@pytest.mark.requirement("NET-ADDR-002")
def test_subnets_lie_in_their_network(plan, facts, require):
    """Every subnet lies inside its own region's network and is the one the plan names."""
    require(judge_subnets_as_planned(plan, facts.networks))
