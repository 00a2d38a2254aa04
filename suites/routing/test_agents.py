"""Route exchange: whom the nodes' agents are in touch with."""

import pytest

from analysis.connections import (
    judge_agents_at_home,
    judge_agents_connected,
    judge_store_addresses,
    judge_store_redundancy,
)


@pytest.mark.needs("tunnel-map")
@pytest.mark.requirement("NET-ROUTE-004")
def test_stores_are_redundant(plan, facts, require):
    """Every cluster has at least two route reflectors, or two servers of its mesh store."""
    require(judge_store_redundancy(plan, facts.components))


@pytest.mark.needs("tunnel-map")
@pytest.mark.requirement("NET-ROUTE-005")
def test_agents_are_in_touch_with_their_cluster(plan, facts, require):
    """Every node is in touch with its own cluster's control plane, by its BGP sessions or by its agent."""
    require(judge_agents_at_home(plan, facts.inventory, facts.components))


@pytest.mark.needs("tunnel-map")
@pytest.mark.requirement("NET-ROUTE-006")
def test_agents_are_ready_for_other_clusters(plan, facts, require):
    """Every cluster's reflectors, or the agents of its nodes, are in session with every other cluster as planned."""
    require(judge_agents_connected(plan, facts.inventory, facts.federation))


@pytest.mark.needs("tunnel-map")
@pytest.mark.requirement("NET-ROUTE-007")
def test_settings_name_present_addresses(plan, facts, require):
    """Every peering with another cluster names present addresses there, of a reflector or of its mesh store."""
    require(judge_store_addresses(plan, facts.inventory, facts.federation))
