"""Formation: what Kubernetes has made of the database."""

import pytest

from analysis.scheduling import (
    judge_disruption_budget,
    judge_pods_apart,
    judge_pods_ready,
    judge_room,
    judge_volumes,
)
from analysis.tenancy import judge_bindings, judge_namespaces


@pytest.mark.requirement("DB-FORM-004")
def test_stateful_sets_have_all_pods_ready(plan, facts, require):
    """Every region's StatefulSet has all its pods Ready."""
    require(judge_pods_ready(plan, facts.workloads))


@pytest.mark.requirement("DB-FORM-015")
def test_pods_are_on_nodes_of_their_own(plan, facts, require):
    """No two database pods share a node."""
    require(judge_pods_apart(plan, facts.workloads))


@pytest.mark.requirement("DB-FORM-016")
def test_volumes_are_bound_at_their_planned_size(plan, facts, require):
    """A default storage class exists, and every database volume is bound at its planned size."""
    require(judge_volumes(plan, facts.workloads))


@pytest.mark.requirement("DB-FORM-017")
def test_nodes_have_room_for_the_pods(plan, facts, require):
    """The nodes have room for what the database pods request."""
    require(judge_room(plan, facts.workloads))


@pytest.mark.requirement("DB-FORM-020")
def test_one_pod_at_a_time_may_go(plan, facts, require):
    """A disruption budget lets at most one database pod go at a time."""
    require(judge_disruption_budget(plan, facts.workloads))


@pytest.mark.requirement("DB-FORM-021")
def test_namespaces_are_in_their_own_clusters_only(plan, facts, require):
    """Each region's namespace exists in its own cluster, is named like the region, and exists nowhere else."""
    require(judge_namespaces(plan, facts.workloads))


@pytest.mark.requirement("DB-FORM-023")
def test_role_bindings_name_the_namespace_in_use(plan, facts, require):
    """Role bindings of the database name the namespace it really runs in."""
    require(judge_bindings(plan, facts.workloads))
