"""Route exchange: what a cluster was told of the ranges of the others."""

import pytest

from analysis.pools import judge_masquerading, judge_outgoing_nat, judge_remote_pools, judge_tunnel_sources


@pytest.mark.requirement("NET-ROUTE-013")
def test_remote_ranges_are_disabled_pools(plan, facts, require):
    """Every remote pod and service range is a disabled pool without NAT, encapsulated as in its own cluster."""
    require(judge_remote_pools(plan, facts.addressing))


@pytest.mark.requirement("NET-ROUTE-014")
def test_only_the_own_pool_masquerades(plan, facts, require):
    """Only a cluster's own pool masquerades outgoing traffic, and never what goes to pods of another cluster."""
    require(judge_outgoing_nat(plan, facts.addressing))


@pytest.mark.needs("tunnel-map")
@pytest.mark.requirement("NET-ROUTE-014")
def test_traffic_between_clusters_is_not_masqueraded(plan, facts, require):
    """Only a cluster's own pool masquerades outgoing traffic, and never what goes to pods of another cluster."""
    require(judge_masquerading(plan, facts.components, facts.reachability))


@pytest.mark.needs("bgp")
@pytest.mark.requirement("NET-ROUTE-015")
def test_tunnels_are_accepted_from_remote_nodes_only(plan, facts, require):
    """Tunnel packets are accepted from the node subnets of the other regions, all of them and no more."""
    require(judge_tunnel_sources(plan, facts.configuration, facts.forwarding))
