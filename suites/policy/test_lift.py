"""Policy: what taking it away brings back."""

import pytest

from analysis.policy.judging.over_time import judge_lift


@pytest.mark.requirement("NET-POL-017")
@pytest.mark.needs("policy", "disruption")
@pytest.mark.disruptive
def test_without_the_policy_all_is_open_again(plan, facts, lifted, require):
    """Taking the policy away brings the open baseline back."""
    require(judge_lift(plan, facts.policies, facts.enforcement, lifted))
