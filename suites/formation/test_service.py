"""Formation: what clients in each region get from the database."""

import pytest

from analysis.serving import judge_crossings, judge_entrances, judge_health, judge_reads_and_writes


@pytest.mark.requirement("DB-FORM-011")
def test_rows_cross_regions_at_once(plan, facts, require):
    """A row committed in one region is read at once in the others."""
    require(judge_crossings(plan, facts.database))


@pytest.mark.requirement("DB-FORM-012")
def test_every_region_reads_and_writes(plan, facts, require):
    """Every region accepts reads and writes."""
    require(judge_reads_and_writes(plan, facts.database))


@pytest.mark.requirement("DB-FORM-018")
def test_sql_answers_at_the_public_service(plan, facts, require):
    """SQL is reachable through the public service in every region."""
    require(judge_entrances(plan, facts.database))


@pytest.mark.requirement("DB-FORM-019")
def test_pods_answer_their_health_address(plan, facts, require):
    """Every database pod answers its health address over HTTPS."""
    require(judge_health(plan, facts.database))
