"""Underlay: what can be opened from outside the regions."""

import pytest

from analysis.underlay import judge_administration, judge_closed_to_the_internet


@pytest.mark.requirement("NET-UNDR-012")
def test_the_operator_gets_in(plan, facts, require):
    """The operator can open SSH and the Kubernetes API of every region."""
    require(judge_administration(plan, facts.underlay))


@pytest.mark.requirement("NET-UNDR-014")
def test_nobody_else_gets_in(facts, require):
    """Tunnel, BGP, etcd and database ports stay closed to the internet."""
    require(judge_closed_to_the_internet(facts.underlay, facts.networks))
