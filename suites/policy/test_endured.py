"""Policy: the database lives under it."""

import pytest

from analysis.policy.judging.endured import judge_formation, judge_readiness

pytestmark = pytest.mark.needs("policy", "database")


@pytest.mark.requirement("NET-POL-010")
def test_readiness_probes_pass(plan, facts, require):
    """Readiness probes pass under the policy."""
    require(judge_readiness(plan, facts.enforcement, facts.workloads, facts.database))


@pytest.mark.requirement("NET-POL-021")
def test_the_database_stays_formed(plan, facts, require):
    """Under the policy the database stays formed, connected and consistent."""
    require(judge_formation(plan, facts.enforcement, facts.database))
