"""Pod-to-pod reachability: every pod reaches every other."""

import pytest

from analysis.facts import ProbeProtocol
from analysis.reachability import (
    judge_between_clusters,
    judge_inside_clusters,
    judge_node_pairs,
    judge_source_preserved,
    judge_straight_way,
)


@pytest.mark.requirement("NET-POD-001")
def test_pods_answer_pings_across_clusters(plan, facts, require):
    """Every pod answers pings from the pods of every other cluster, in both directions."""
    require(judge_between_clusters(plan, facts.reachability, ProbeProtocol.ICMP))


@pytest.mark.requirement("NET-POD-002")
def test_pods_connect_across_clusters(plan, facts, require):
    """Pods of different clusters reach each other over TCP on any port."""
    require(judge_between_clusters(plan, facts.reachability, ProbeProtocol.TCP))


@pytest.mark.requirement("NET-POD-003")
def test_datagrams_cross_clusters(plan, facts, require):
    """Pods of different clusters reach each other over UDP."""
    require(judge_between_clusters(plan, facts.reachability, ProbeProtocol.UDP))


@pytest.mark.requirement("NET-POD-004")
def test_source_addresses_survive(facts, require):
    """A pod in another cluster sees the sender's own pod address."""
    require(judge_source_preserved(facts.inventory, facts.reachability))


@pytest.mark.requirement("NET-POD-005")
def test_every_pair_of_nodes_is_connected(plan, facts, require):
    """Pods on any two nodes of different clusters reach each other, control-plane nodes included."""
    require(judge_node_pairs(plan, facts.inventory, facts.reachability))


@pytest.mark.requirement("NET-POD-006")
def test_pods_reach_each_other_inside_clusters(plan, facts, require):
    """Pods on different nodes of one cluster reach each other."""
    require(judge_inside_clusters(plan, facts.reachability))


@pytest.mark.requirement("NET-POD-007")
def test_no_gateway_is_on_the_way(facts, require):
    """No gateway or proxy sits on the way: an echo between clusters loses as many hops as one inside a cluster."""
    require(judge_straight_way(facts.reachability))
