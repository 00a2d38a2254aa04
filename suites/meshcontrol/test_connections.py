"""Mesh control plane: who is connected to whom."""

import pytest

from analysis.connections import judge_clusters_connected, judge_endpoints_open, judge_settings_complete


@pytest.mark.requirement("MESH-CP-002")
def test_clusters_are_connected_both_ways(plan, facts, require):
    """Every cluster is connected to every other, both ways."""
    require(judge_clusters_connected(plan, facts.federation))


@pytest.mark.requirement("MESH-CP-008")
def test_settings_name_the_other_clusters(plan, facts, require):
    """The connection to every remote cluster is configured in a secret with address and certificates."""
    require(judge_settings_complete(plan, facts.federation))


@pytest.mark.requirement("MESH-CP-012")
def test_mesh_endpoints_are_open(plan, facts, require):
    """Every node can open the mesh endpoint of every other cluster at its configured address."""
    require(judge_endpoints_open(plan, facts.inventory, facts.federation))
