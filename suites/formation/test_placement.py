"""Formation: whether the data lies so that a region can be lost."""

import pytest

from analysis.placement import judge_counts, judge_spread, judge_zone_goals


@pytest.mark.requirement("DB-FORM-013")
def test_no_range_lacks_replicas(facts, require):
    """In steady state no range lacks replicas or is unavailable."""
    require(judge_counts(facts.database))


@pytest.mark.requirement("DB-FORM-014")
def test_replicas_are_spread_over_the_regions(plan, facts, require):
    """The replicas of every range are spread over at least three regions."""
    require(judge_spread(plan, facts.database))


@pytest.mark.requirement("DB-SURV-012")
def test_databases_that_cannot_lose_a_region_are_reported(plan, facts, require):
    """A database with the zone survival goal is reported as unable to survive a region."""
    require(judge_zone_goals(plan, facts.database))
