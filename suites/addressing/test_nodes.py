"""Addressing plan: the nodes themselves."""

import pytest

from analysis.addressing import judge_node_count, judge_node_names_unique


@pytest.mark.requirement("NET-ADDR-012")
def test_node_names_are_unique(plan, facts, require):
    """A node name occurs once in the whole mesh."""
    require(judge_node_names_unique(plan, facts.inventory))


@pytest.mark.requirement("NET-ADDR-013")
def test_planned_nodes_are_ready(plan, facts, require):
    """Every region has the planned number of nodes and all of them are Ready."""
    require(judge_node_count(plan, facts.inventory))
