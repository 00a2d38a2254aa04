"""Route exchange: how nodes forward to the other clusters."""

import pytest

from analysis.routes import (
    judge_next_hops,
    judge_own_services_kept_out,
    judge_remote_routes,
    judge_service_routes,
    judge_tunnel_devices,
)


@pytest.mark.requirement("NET-ROUTE-008")
def test_nodes_have_routes_to_all_remote_blocks(plan, facts, require):
    """Every node has a route to every block of pod addresses in the other clusters."""
    require(judge_remote_routes(plan, facts.inventory, facts.addressing, facts.forwarding, facts.routing))


@pytest.mark.requirement("NET-ROUTE-009")
def test_next_hop_is_the_owner_of_the_block(plan, facts, require):
    """A route to a remote block leads straight to the node that owns the block."""
    require(judge_next_hops(plan, facts.inventory, facts.addressing, facts.forwarding, facts.routing))


@pytest.mark.requirement("NET-ROUTE-010")
def test_remote_routes_use_the_tunnel(plan, facts, require):
    """Routes to remote blocks leave through the tunnel device."""
    require(judge_tunnel_devices(plan, facts.inventory, facts.addressing, facts.forwarding))


@pytest.mark.requirement("NET-ROUTE-011")
def test_nodes_have_routes_to_remote_services(plan, facts, require):
    """Every node has a route to the service range that each other cluster advertises, and none to one that is not."""
    require(judge_service_routes(plan, facts.inventory, facts.configuration, facts.forwarding))


@pytest.mark.requirement("NET-ROUTE-012")
def test_own_services_are_not_taken_from_bgp(plan, facts, require):
    """No node installs its own cluster's service range from BGP."""
    require(judge_own_services_kept_out(plan, facts.inventory, facts.forwarding))
