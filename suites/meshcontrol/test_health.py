"""Mesh control plane: its own view of the nodes, and whom it speaks with."""

import pytest

from analysis.knowledge import judge_node_health
from analysis.sessions import judge_declared_peers, judge_sessions_complete


@pytest.mark.needs("bgp")
@pytest.mark.requirement("MESH-CP-015")
def test_all_sessions_are_established(plan, facts, require):
    """The mesh's own view of node health is complete."""
    require(judge_sessions_complete(plan, facts.inventory, facts.routing))


@pytest.mark.needs("tunnel-map")
@pytest.mark.requirement("MESH-CP-015")
def test_agents_reach_all_nodes(plan, facts, require):
    """The mesh's own view of node health is complete."""
    require(judge_node_health(plan, facts.inventory, facts.federation))


@pytest.mark.requirement("MESH-CP-016")
def test_sessions_are_with_declared_peers(plan, facts, require):
    """BGP is spoken with declared peers only, and with a password where possible."""
    require(judge_declared_peers(plan, facts.inventory, facts.configuration, facts.routing))
