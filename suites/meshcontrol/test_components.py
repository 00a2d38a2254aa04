"""Mesh control plane: what runs it."""

import pytest

from analysis.components import judge_components_healthy, judge_same_datapath, judge_single_plugin


@pytest.mark.requirement("MESH-CP-001")
def test_components_are_healthy(plan, facts, require):
    """The mesh's components report themselves healthy in every cluster."""
    require(judge_components_healthy(plan, facts.components))


@pytest.mark.requirement("MESH-CP-014")
def test_clusters_forward_alike(plan, facts, require):
    """All clusters forward in the same way and run compatible versions."""
    require(judge_same_datapath(plan, facts.inventory, facts.components))


@pytest.mark.requirement("MESH-CP-017")
def test_no_second_plugin_interferes(plan, facts, require):
    """No second network plug-in interferes."""
    require(judge_single_plugin(plan, facts.inventory, facts.components))
