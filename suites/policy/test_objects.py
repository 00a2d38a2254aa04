"""Policy: what its objects say, and what they are about."""

import pytest

from analysis.policy.judging.admission import judge_admission
from analysis.policy.judging.coverage import judge_present
from analysis.policy.judging.known import judge_remote_endpoints
from analysis.policy.judging.labels import judge_labels
from analysis.policy.judging.rules import judge_matching, judge_satisfiable
from analysis.policy.judging.scopes import judge_clusters_named, judge_namespaces_named
from analysis.policy.judging.self_test import judge_sample


@pytest.mark.requirement("NET-POL-002")
def test_database_pods_carry_their_regions_label(plan, facts, require):
    """Database pods carry their region's label from the pod template on."""
    require(judge_labels(plan, facts.policies))


@pytest.mark.requirement("NET-POL-003")
@pytest.mark.needs("policy")
def test_no_selector_is_impossible(plan, facts, require):
    """No rule asks one label to have two values at once."""
    require(judge_satisfiable(plan, facts.policies))


@pytest.mark.requirement("NET-POL-004")
@pytest.mark.needs("policy")
def test_every_selector_matches_something(plan, facts, require):
    """Every selector of a policy and of its rules matches something that exists."""
    require(judge_matching(plan, facts.policies))


@pytest.mark.requirement("NET-POL-014")
@pytest.mark.needs("policy")
def test_every_cluster_has_its_policy(plan, facts, require):
    """The policy exists in every cluster, each time for that cluster's region."""
    require(judge_present(plan, facts.policies))


@pytest.mark.requirement("NET-POL-016")
@pytest.mark.needs("policy")
def test_remote_endpoints_are_known(plan, facts, require):
    """The policy engine knows the endpoints of the other clusters."""
    require(judge_remote_endpoints(plan, facts.policies))


@pytest.mark.requirement("NET-POL-018")
def test_the_published_sample_is_recognised(require):
    """The published sample policy is recognised as one that isolates everything."""
    require(judge_sample())


@pytest.mark.requirement("NET-POL-019")
@pytest.mark.needs("policy")
def test_selectors_name_their_cluster(plan, facts, require):
    """Selectors that mean one cluster name that cluster."""
    require(judge_clusters_named(plan, facts.policies))


@pytest.mark.requirement("NET-POL-020")
@pytest.mark.needs("policy")
def test_selectors_name_their_namespace(plan, facts, require):
    """Peers in another namespace are selected with the name of that namespace."""
    require(judge_namespaces_named(plan, facts.policies))


@pytest.mark.requirement("NET-POL-022")
@pytest.mark.needs("policy")
def test_the_api_accepts_the_objects_whole(facts, require):
    """The API accepts the policy objects without dropping any field."""
    require(judge_admission(facts.policies))
