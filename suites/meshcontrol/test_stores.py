"""Mesh control plane: the stores, and what they hold."""

import pytest

from analysis.services import judge_global_services
from analysis.stores import judge_store_members, judge_store_port_apart, judge_stores_own


@pytest.mark.requirement("MESH-CP-003")
def test_stores_hold_their_own_state(plan, facts, require):
    """Every cluster has a store of its own that holds nothing but its own state."""
    require(judge_stores_own(plan, facts.federation))


@pytest.mark.requirement("MESH-CP-013")
def test_stores_share_no_port(plan, facts, require):
    """The mesh's store and Kubernetes' own do not fight over one port of a node."""
    require(judge_store_port_apart(plan, facts.inventory, facts.federation))


@pytest.mark.needs("tunnel-map")
@pytest.mark.requirement("MESH-CP-018")
def test_global_services_span_clusters(plan, facts, require):
    """Services that span clusters balance over them and leave the database alone."""
    require(judge_global_services(plan, facts.federation))


@pytest.mark.requirement("MESH-CP-019")
def test_servers_are_members_with_a_majority_to_spare(plan, facts, require):
    """All servers of a cluster are members of its store, with a majority to spare."""
    require(judge_store_members(plan, facts.inventory))
