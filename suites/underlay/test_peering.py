"""Underlay: what the loss of one peering does."""

import pytest

from analysis.underlay import judge_peering_lost
from analysis.verdict import not_applicable


@pytest.mark.disruptive
@pytest.mark.requirement("NET-UNDR-008")
def test_a_lost_peering_cuts_its_own_pair_only(plan, peerings, evidence, require):
    """Taking one peering away cuts that pair of regions on the underlay and no other pair."""
    if not peerings.can_be_lost:
        reason = "nobody here can take a peering away: only a lab's routers obey"
        require(not_applicable("a pair of regions without its peering is cut, and no other pair", reason))
        return
    a, b = (region.name for region in plan.regions[:2])
    loss = peerings.lose(a, b)

    evidence.json("pings.json", loss)
    require(judge_peering_lost(plan, loss))
