"""Pod-to-pod reachability: pods are about as fast as their nodes."""

import pytest

from analysis.paths import judge_round_trips, judge_throughput


@pytest.mark.requirement("NET-POD-012")
def test_round_trips_cost_little_more(plan, facts, require):
    """A round trip between pods of two regions takes hardly longer than one between their nodes."""
    require(judge_round_trips(plan, facts.quality))


@pytest.mark.requirement("NET-POD-013")
def test_throughput_keeps_its_share(plan, facts, require):
    """Pods of two regions get at least the planned share of the throughput between their nodes."""
    require(judge_throughput(plan, facts.quality))
