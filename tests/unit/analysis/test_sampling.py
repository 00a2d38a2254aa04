"""A sample of the pairs of pods leaves out no pair of nodes and overloads nobody."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from analysis.sampling import choose_pairs

NODES = st.lists(st.integers(1, 6), min_size=2, max_size=8)
"""The number of pods on each node."""


def homes(pods_on: list[int]) -> list[int]:
    """The node of every pod, the nodes' pods mixed as a listing by name may mix them."""
    return [node for turn in range(max(pods_on)) for node, pods in enumerate(pods_on) if turn < pods]


def pairs(targets: tuple[tuple[int, ...], ...]) -> list[tuple[int, int]]:
    return [(source, target) for source, wanted in enumerate(targets) for target in wanted]


@given(NODES, st.integers(0, 800), st.text(max_size=8))
def test_every_ordered_pair_of_nodes_is_covered(pods_on: list[int], limit: int, seed: str) -> None:
    nodes = homes(pods_on)
    choice = choose_pairs(nodes, limit=limit, seed=seed)
    covered = {(nodes[source], nodes[target]) for source, target in pairs(choice.targets)}
    assert covered >= set(permutations(range(len(pods_on)), 2))


@given(NODES, st.integers(0, 800), st.text(max_size=8))
def test_no_pair_is_probed_twice_and_no_pod_probes_itself(pods_on: list[int], limit: int, seed: str) -> None:
    chosen = pairs(choose_pairs(homes(pods_on), limit=limit, seed=seed).targets)
    assert len(chosen) == len(set(chosen))
    assert all(source != target for source, target in chosen)


@given(NODES, st.integers(0, 800), st.text(max_size=8))
def test_the_pods_of_a_node_share_its_load(pods_on: list[int], limit: int, seed: str) -> None:
    nodes = homes(pods_on)
    chosen = pairs(choose_pairs(nodes, limit=limit, seed=seed).targets)
    for loads in (Counter(source for source, _ in chosen), Counter(target for _, target in chosen)):
        for node in range(len(pods_on)):
            own = [loads[pod] for pod, home in enumerate(nodes) if home == node]
            assert max(own) - min(own) <= 1
            assert min(own) >= 1


@given(NODES, st.integers(0, 800), st.text(max_size=8))
def test_a_sample_costs_what_the_nodes_cost(pods_on: list[int], limit: int, seed: str) -> None:
    choice = choose_pairs(homes(pods_on), limit=limit, seed=seed)
    peers = len(pods_on) - 1
    assert sum(map(len, choice.targets)) <= max(limit, len(pods_on) * (peers + max(pods_on)))


@given(NODES, st.integers(0, 800), st.text(max_size=8))
def test_a_seed_gives_one_sample(pods_on: list[int], limit: int, seed: str) -> None:
    nodes = homes(pods_on)
    assert choose_pairs(nodes, limit=limit, seed=seed) == choose_pairs(nodes, limit=limit, seed=seed)


@given(NODES, st.text(max_size=8))
def test_a_sample_says_what_it_is_of(pods_on: list[int], seed: str) -> None:
    choice = choose_pairs(homes(pods_on), limit=0, seed=seed)
    pods = sum(pods_on)
    assert choice.sampling is not None
    assert choice.sampling.pod_pairs == len(pairs(choice.targets))
    assert choice.sampling.all_pod_pairs == pods * (pods - 1)
    assert choice.sampling.node_pairs == len(pods_on) * (len(pods_on) - 1)


def test_seeds_give_different_samples() -> None:
    nodes = homes([9] * 6)
    assert choose_pairs(nodes, limit=0, seed="a") != choose_pairs(nodes, limit=0, seed="b")


@given(NODES)
def test_few_pods_all_probe_each_other(pods_on: list[int]) -> None:
    pods = sum(pods_on)
    choice = choose_pairs(homes(pods_on), limit=pods * (pods - 1), seed="")
    assert choice.sampling is None
    assert set(pairs(choice.targets)) == set(permutations(range(pods), 2))


def test_neighbours_do_not_all_begin_at_the_same_door() -> None:
    first = [targets[0] for targets in choose_pairs(range(30), limit=10_000, seed="").targets]
    assert len(set(first)) == 30
