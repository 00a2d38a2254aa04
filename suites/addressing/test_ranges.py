"""Addressing plan: ranges that must stay apart."""

import pytest

from analysis.addressing import judge_pod_ranges_disjoint, judge_ranges_apart, judge_service_ranges


@pytest.mark.requirement("NET-ADDR-003")
def test_pod_ranges_do_not_overlap(plan, facts, require):
    """The pod ranges of the clusters do not overlap."""
    require(judge_pod_ranges_disjoint(plan, facts.addressing))


@pytest.mark.requirement("NET-ADDR-004")
def test_routed_service_ranges_do_not_overlap(plan, facts, require):
    """Service ranges routed between clusters do not overlap; where they do, nothing relies on a remote ClusterIP."""
    require(judge_service_ranges(plan, facts.configuration))


@pytest.mark.requirement("NET-ADDR-005")
def test_all_ranges_stay_apart(plan, facts, require):
    """Node, pod and service ranges of all clusters stay clear of each other."""
    require(judge_ranges_apart(plan, facts.addressing, facts.configuration))
