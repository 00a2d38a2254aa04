"""Underlay: what encapsulates the pods' traffic passes."""

import pytest

from analysis.wire import judge_tunnel_passes


@pytest.mark.requirement("NET-UNDR-010")
@pytest.mark.needs("node-probes")
def test_the_encapsulation_passes(plan, facts, require):
    """The packets of the encapsulation pass between any two nodes."""
    require(judge_tunnel_passes(plan, facts.inventory, facts.wire))
