"""Addressing plan: every address comes from the range it should."""

import pytest

from analysis.addressing import judge_node_addresses, judge_pod_addresses, judge_service_addresses


@pytest.mark.requirement("NET-ADDR-006")
def test_pods_have_addresses_of_their_cluster(plan, facts, require):
    """Every pod has an address from its own cluster's pod range."""
    require(judge_pod_addresses(plan, facts.inventory))


@pytest.mark.requirement("NET-ADDR-007")
def test_services_have_addresses_of_their_cluster(plan, facts, require):
    """Every ClusterIP comes from its cluster's service range, and kube-dns sits at the planned address."""
    require(judge_service_addresses(plan, facts.inventory))


@pytest.mark.requirement("NET-ADDR-008")
def test_nodes_have_addresses_of_their_region(plan, facts, require):
    """Every node's InternalIP lies in the node subnet of its region."""
    require(judge_node_addresses(plan, facts.inventory))
