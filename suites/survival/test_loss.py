"""Survival: what the loss of a region costs those that remain."""

import pytest

from analysis.survival.majority import judge_no_split_brain, judge_pod_each, judge_two_regions
from analysis.survival.serving import judge_isolation, judge_pods_lost, judge_primary_lost, judge_served_elsewhere

pytestmark = pytest.mark.disruptive


@pytest.mark.requirement("DB-SURV-001")
def test_loss_of_a_regions_pods_is_survived(plan, outages, require):
    """When one region's database pods are gone, the others serve reads and writes again in the planned time."""
    require(judge_pods_lost(plan, outages))


@pytest.mark.requirement("DB-SURV-014")
def test_clients_without_a_database_use_another_regions(plan, outages, require):
    """Clients whose own region lost its database pods can use another region's by name."""
    require(judge_served_elsewhere(plan, outages))


@pytest.mark.requirement("DB-SURV-002")
def test_the_majority_goes_on_without_an_isolated_region(plan, outages, require):
    """When one region is cut off, the majority goes on serving."""
    require(judge_isolation(plan, outages))


@pytest.mark.requirement("DB-SURV-003")
def test_an_isolated_region_accepts_no_writes(plan, outages, require):
    """A region that is cut off accepts no writes and reports itself as not ready."""
    require(judge_no_split_brain(plan, outages))


@pytest.mark.requirement("DB-SURV-011")
def test_loss_of_the_primary_region_is_survived(plan, facts, outages, require):
    """A database with the region survival goal survives the loss of its primary region."""
    require(judge_primary_lost(plan, outages, facts.database))


@pytest.mark.requirement("DB-SURV-006")
def test_without_a_majority_nothing_is_written_and_nothing_is_lost(plan, outages, require):
    """The loss of two regions stops writes, and the return of one restores service with all data."""
    require(judge_two_regions(plan, outages))


@pytest.mark.requirement("DB-SURV-007")
def test_a_pod_of_every_region_at_once(plan, facts, outages, require):
    """Losing one database pod in every region at once is survived exactly where each range keeps its quorum."""
    require(judge_pod_each(plan, outages, facts.database))
