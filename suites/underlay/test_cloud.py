"""Underlay: what the cloud says of networks, peerings, routes and security groups."""

import pytest

from analysis.cloud import (
    judge_foreign_addresses,
    judge_one_network_each,
    judge_peerings,
    judge_peerings_permit,
    judge_routes_to_regions,
    judge_ways_out,
)
from analysis.rulesets import (
    judge_administration_limited,
    judge_closed_to_the_internet,
    judge_neighbours_let_in,
    judge_pings_let_in,
    judge_reflectors_let_in,
    judge_rules_as_planned,
    judge_size_reports_let_in,
    judge_stores_let_in,
    judge_tunnels_let_in,
)


@pytest.mark.requirement("NET-UNDR-001")
def test_each_region_has_one_network(plan, facts, require):
    """Each region has exactly one network, and the regions are distinct."""
    require(judge_one_network_each(plan, facts.networks))


@pytest.mark.requirement("NET-UNDR-002")
def test_node_subnets_have_a_way_out(plan, facts, require):
    """Node subnets have a way to the internet through their region's own gateway."""
    require(judge_ways_out(plan, facts.networks))


@pytest.mark.requirement("NET-UNDR-003")
def test_networks_are_peered_each_with_each(plan, facts, require):
    """Every pair of networks is peered, and both ends report the peering as active."""
    require(judge_peerings(plan, facts.networks))


@pytest.mark.requirement("NET-UNDR-004")
def test_routes_lead_into_the_matching_peering(plan, facts, require):
    """Every route table sends each remote node subnet into the peering that leads there, and no route is a dead end."""
    require(judge_routes_to_regions(plan, facts.networks))


@pytest.mark.requirement("NET-UNDR-005")
def test_peerings_let_traffic_through(plan, facts, require):
    """Every peering lets direct and forwarded traffic through."""
    require(judge_peerings_permit(plan, facts.networks))


@pytest.mark.requirement("NET-UNDR-006")
@pytest.mark.needs("cloud-network")
def test_security_groups_let_pings_in(plan, facts, require):
    """Every node answers pings from every node of the other regions at its private address."""
    require(judge_pings_let_in(plan, facts.networks))


@pytest.mark.requirement("NET-UNDR-009")
@pytest.mark.needs("cloud-network")
def test_security_groups_let_reflectors_in(plan, facts, require):
    """Route reflectors of different regions can open the BGP port of each other."""
    require(judge_reflectors_let_in(plan, facts.inventory, facts.networks))


@pytest.mark.requirement("NET-UNDR-010")
@pytest.mark.needs("cloud-network")
def test_security_groups_let_the_encapsulation_in(plan, facts, require):
    """The packets of the encapsulation pass between any two nodes."""
    require(judge_tunnels_let_in(plan, facts.networks))


@pytest.mark.requirement("NET-UNDR-011")
@pytest.mark.needs("cloud-network")
def test_security_groups_let_the_control_plane_in(plan, facts, require):
    """Every node can open the mesh's control-plane port in the other regions."""
    require(judge_stores_let_in(plan, facts.inventory, facts.networks))


@pytest.mark.requirement("NET-UNDR-013")
def test_security_groups_are_as_planned(plan, facts, require):
    """The security groups allow what the plan lists and nothing else of our own making."""
    require(judge_rules_as_planned(plan, facts.networks))


@pytest.mark.requirement("NET-UNDR-014")
@pytest.mark.needs("cloud-network")
def test_security_groups_keep_the_internet_out(plan, facts, require):
    """Tunnel, BGP, etcd and database ports stay closed to the internet."""
    require(judge_closed_to_the_internet(plan, facts.inventory, facts.networks))


@pytest.mark.requirement("NET-UNDR-015")
def test_administration_is_limited_to_known_addresses(plan, facts, require):
    """SSH and API access is limited to known source addresses."""
    require(judge_administration_limited(plan, facts.networks))


@pytest.mark.requirement("NET-UNDR-016")
def test_nodes_may_use_foreign_addresses_or_hide_them(plan, facts, require):
    """Nodes may forward foreign addresses, or else every pod packet leaves encapsulated."""
    require(judge_foreign_addresses(plan, facts.networks, facts.addressing))


@pytest.mark.requirement("NET-UNDR-018")
@pytest.mark.needs("cloud-network")
def test_security_groups_let_neighbours_in(plan, facts, require):
    """The ports that nodes of one cluster need of each other are open."""
    require(judge_neighbours_let_in(plan, facts.inventory, facts.networks))


@pytest.mark.requirement("NET-MTU-002")
@pytest.mark.needs("cloud-network")
def test_security_groups_let_size_reports_in(plan, facts, require):
    """A packet of exactly the pod MTU crosses every pair of regions, and one byte more is refused with a reason."""
    require(judge_size_reports_let_in(plan, facts.networks))
