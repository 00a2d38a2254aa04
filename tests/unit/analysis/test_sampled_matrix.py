"""What judges say of a matrix in which not every pair of pods was probed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.facts import AgentHealth, ProbeProtocol, ReachabilityMatrix, Sampling
from analysis.reachability import judge_between_clusters, judge_inside_clusters, judge_source_preserved
from analysis.sampling import choose_pairs
from analysis.verdict import Outcome
from tests.unit.analysis.world import World, perfect

PODS_PER_NODE = 3


@pytest.fixture(scope="module")
def sampled() -> World:
    """A perfect mesh, of whose pairs of pods a sample was probed."""
    world = perfect(regions=2, nodes=3, pods_per_node=PODS_PER_NODE)
    return replace(world, reachability=sample_of(world.reachability))


def sample_of(matrix: ReachabilityMatrix) -> ReachabilityMatrix:
    pods = [index for index, endpoint in enumerate(matrix.endpoints) if not endpoint.on_host]
    choice = choose_pairs([matrix.endpoints[pod].node for pod in pods], limit=1, seed="run")
    chosen = {(pods[source], pods[target]) for source, wanted in enumerate(choice.targets) for target in wanted}
    probes = tuple(
        probe
        for probe in matrix.probes
        if matrix.endpoints[probe.source].on_host or (probe.source, probe.target) in chosen
    )
    return replace(matrix, probes=probes, sampling=choice.sampling)


def test_a_sample_that_came_through_meets_and_says_what_it_covers(sampled: World) -> None:
    for verdict in (
        judge_between_clusters(sampled.plan, sampled.reachability, ProbeProtocol.TCP),
        judge_inside_clusters(sampled.plan, sampled.reachability),
        judge_source_preserved(sampled.inventory, sampled.reachability),
    ):
        assert verdict.outcome is Outcome.MET
        assert "(a sample: every ordered pair of nodes; 10% of the pairs of pods)" in verdict.observed


def test_without_a_sample_every_pair_of_pods_is_asked_for(sampled: World) -> None:
    unexplained = replace(sampled.reachability, sampling=None)
    verdict = judge_between_clusters(sampled.plan, unexplained, ProbeProtocol.TCP)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "sample" not in verdict.observed


@pytest.mark.parametrize("same_cluster", [False, True])
def test_a_pair_of_nodes_left_out_is_a_gap(sampled: World, same_cluster: bool) -> None:
    matrix = sampled.reachability
    source = matrix.endpoints[0]
    target = next(
        end for end in matrix.endpoints if end.node != source.node and (end.region == source.region) is same_cluster
    )
    kept = tuple(
        probe
        for probe in matrix.probes
        if matrix.endpoints[probe.source].node != source.node or matrix.endpoints[probe.target].node != target.node
    )
    holed = replace(matrix, probes=kept)
    verdict = (
        judge_inside_clusters(sampled.plan, holed)
        if same_cluster
        else judge_between_clusters(sampled.plan, holed, ProbeProtocol.TCP)
    )
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert target.node in verdict.observed


def test_a_small_share_is_not_rounded_to_nothing() -> None:
    world = perfect(regions=2, nodes=2)
    matrix = world.reachability
    many = tuple(replace(matrix.endpoints[0], name=f"probe-{number}") for number in range(100))
    endpoints = (*matrix.endpoints, *many)
    agents = tuple(AgentHealth(place, loopback_ok=True) for place in range(len(endpoints)))
    sampling = Sampling("run", node_pairs=12, pod_pairs=12, all_pod_pairs=104 * 103)
    large = replace(matrix, endpoints=endpoints, agents=agents, sampling=sampling)
    assert "0.11% of the pairs of pods" in judge_source_preserved(world.inventory, large).observed
