"""Route exchange: who speaks with whom."""

import pytest

from analysis.identity import judge_identities
from analysis.sessions import (
    judge_external_sessions,
    judge_full_mesh_off,
    judge_internal_sessions,
    judge_peer_addresses,
    judge_reflector_redundancy,
    judge_reflectors,
)


@pytest.mark.requirement("NET-ROUTE-001")
def test_clusters_have_identities_of_their_own(plan, facts, require):
    """Every cluster has an identity of its own in the mesh, as planned."""
    require(judge_identities(plan, facts.configuration))


@pytest.mark.requirement("NET-ROUTE-002")
def test_full_mesh_is_off(plan, facts, require):
    """No node peers with every other node once route reflectors are in use."""
    require(judge_full_mesh_off(plan, facts.configuration, facts.routing))


@pytest.mark.requirement("NET-ROUTE-003")
def test_clusters_have_reflectors(plan, facts, require):
    """Every cluster has a labelled route reflector with a cluster id that no other cluster uses."""
    require(judge_reflectors(plan, facts.inventory, facts.configuration))


@pytest.mark.needs("bgp")
@pytest.mark.requirement("NET-ROUTE-004")
def test_reflectors_are_redundant(plan, facts, require):
    """Every cluster has at least two route reflectors, or two servers of its mesh store."""
    require(judge_reflector_redundancy(plan, facts.inventory))


@pytest.mark.needs("bgp")
@pytest.mark.requirement("NET-ROUTE-005")
def test_nodes_are_in_session_with_their_reflectors(plan, facts, require):
    """Every node is in touch with its own cluster's control plane, by its BGP sessions or by its agent."""
    require(judge_internal_sessions(plan, facts.inventory, facts.configuration, facts.routing))


@pytest.mark.needs("bgp")
@pytest.mark.requirement("NET-ROUTE-006")
def test_reflectors_are_in_session_with_other_clusters(plan, facts, require):
    """Every cluster's reflectors, or the agents of its nodes, are in session with every other cluster as planned."""
    require(judge_external_sessions(plan, facts.inventory, facts.configuration, facts.routing))


@pytest.mark.needs("bgp")
@pytest.mark.requirement("NET-ROUTE-007")
def test_peerings_name_present_addresses(plan, facts, require):
    """Every peering with another cluster names present addresses there, of a reflector or of its mesh store."""
    require(judge_peer_addresses(plan, facts.inventory, facts.configuration))
