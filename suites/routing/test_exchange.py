"""Route exchange: what travels between clusters, and which way."""

import pytest

from analysis.routes import judge_direct_paths, judge_exchanged_prefixes


@pytest.mark.requirement("NET-ROUTE-016")
def test_only_planned_prefixes_are_exchanged(plan, facts, require):
    """No prefix outside the plan travels between clusters."""
    require(judge_exchanged_prefixes(plan, facts.inventory, facts.addressing, facts.routing))


@pytest.mark.requirement("NET-ROUTE-018")
def test_best_paths_are_direct(plan, facts, require):
    """While all peerings are up, the best path to a remote cluster is the direct one."""
    require(judge_direct_paths(plan, facts.inventory, facts.addressing, facts.routing))
