"""DNS: what the servers of each cluster are told about the others."""

import pytest

from analysis.dns import (
    judge_caches,
    judge_own_zone,
    judge_servers,
    judge_spare_upstreams,
    judge_spelling,
    judge_targets,
    judge_zones,
)


@pytest.mark.requirement("NET-DNS-001")
def test_clusters_forward_the_zones_of_exactly_the_others(plan, facts, require):
    """Every cluster forwards the zones of exactly its two fellow clusters."""
    require(judge_zones(plan, facts.dns))


@pytest.mark.requirement("NET-DNS-002")
def test_no_cluster_forwards_its_own_zone(plan, facts, require):
    """No cluster forwards its own zone."""
    require(judge_own_zone(plan, facts.dns))


@pytest.mark.requirement("NET-DNS-003")
def test_zones_are_spelt_like_namespaces(plan, facts, require):
    """Every forwarded zone is spelt like a namespace that exists in the cluster it stands for."""
    require(judge_spelling(plan, facts.dns))


@pytest.mark.requirement("NET-DNS-004")
def test_servers_run_with_a_configuration_that_parses(plan, facts, require):
    """The DNS configuration parses, and the servers run with it."""
    require(judge_servers(plan, facts.dns))


@pytest.mark.requirement("NET-DNS-005")
def test_questions_are_forwarded_to_where_they_are_answered(plan, facts, require):
    """Forwarded queries go to the present DNS addresses of the remote cluster, and these answer."""
    require(judge_targets(plan, facts.dns))


@pytest.mark.requirement("NET-DNS-011")
def test_caches_let_changes_through_in_time(plan, facts, require):
    """After a pod is recreated, its new address is seen remotely as soon as caches allow."""
    require(judge_caches(plan, facts.dns))


@pytest.mark.requirement("NET-DNS-014")
def test_zones_have_upstreams_to_spare(plan, facts, require):
    """Resolution survives the loss of one upstream node."""
    require(judge_spare_upstreams(plan, facts.dns))
