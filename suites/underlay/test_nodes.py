"""Underlay: what nodes see of each other without any overlay."""

import pytest

from analysis.underlay import (
    judge_clocks,
    judge_cluster_ports,
    judge_kernel_settings,
    judge_mesh_ports,
    judge_node_sizes,
    judge_nodes_answer,
    judge_private_paths,
    judge_reflector_ports,
)


@pytest.mark.requirement("NET-UNDR-006")
def test_nodes_answer_pings_across_regions(plan, facts, require):
    """Every node answers pings from every node of the other regions at its private address."""
    require(judge_nodes_answer(plan, facts.inventory, facts.reachability))


@pytest.mark.requirement("NET-UNDR-007")
def test_paths_between_regions_are_private(plan, facts, require):
    """Traffic between regions keeps to private addresses and never leaves by the internet gateway."""
    require(judge_private_paths(plan, facts.underlay))


@pytest.mark.needs("bgp")
@pytest.mark.requirement("NET-UNDR-009")
def test_reflectors_can_open_each_others_bgp_port(plan, facts, require):
    """Route reflectors of different regions can open the BGP port of each other."""
    require(judge_reflector_ports(plan, facts.inventory, facts.configuration, facts.routing, facts.underlay))


@pytest.mark.requirement("NET-UNDR-011")
def test_nodes_can_open_remote_control_planes(plan, facts, require):
    """Every node can open the mesh's control-plane port in the other regions."""
    require(judge_mesh_ports(plan, facts.inventory, facts.underlay))


@pytest.mark.requirement("NET-UNDR-017")
def test_kernels_forward_and_go_on_doing_so(plan, facts, require):
    """The kernel settings that forwarding needs are on and stay on after a reboot."""
    require(judge_kernel_settings(plan, facts.inventory, facts.underlay))


@pytest.mark.requirement("NET-UNDR-018")
def test_nodes_of_a_cluster_can_open_each_others_ports(plan, facts, require):
    """The ports that nodes of one cluster need of each other are open."""
    require(judge_cluster_ports(plan, facts.inventory, facts.underlay))


@pytest.mark.requirement("NET-UNDR-019")
def test_nodes_have_room_for_the_database(plan, facts, require):
    """Nodes are large enough for a database pod next to the system pods."""
    require(judge_node_sizes(plan, facts.inventory))


@pytest.mark.requirement("NET-UNDR-020")
def test_clocks_agree(plan, facts, require):
    """The clocks of any two nodes differ by less than 250 ms."""
    require(judge_clocks(plan, facts.inventory, facts.underlay))
