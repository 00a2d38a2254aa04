"""Route exchange: what the nodes' agents know of the other clusters."""

import pytest

from analysis.knowledge import judge_known_identities, judge_known_nodes, judge_tunnel_peers


@pytest.mark.needs("tunnel-map")
@pytest.mark.requirement("NET-ROUTE-015")
def test_tunnels_lead_to_remote_nodes_only(plan, facts, require):
    """Tunnel packets are accepted from the node subnets of the other regions, all of them and no more."""
    require(judge_tunnel_peers(plan, facts.inventory, facts.federation))


@pytest.mark.requirement("NET-ROUTE-019")
def test_agents_know_all_nodes(plan, facts, require):
    """Every agent knows every node of the other clusters."""
    require(judge_known_nodes(plan, facts.inventory, facts.addressing, facts.federation))


@pytest.mark.needs("tunnel-map")
@pytest.mark.requirement("NET-ROUTE-020")
def test_agents_know_identities_of_all_clusters(plan, facts, require):
    """Identities of the other clusters are known, with the name of their cluster."""
    require(judge_known_identities(plan, facts.inventory, facts.federation))
