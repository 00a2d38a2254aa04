"""Whom a probe knocks at."""

from __future__ import annotations

from itertools import permutations

from probes.deploy import ProbePod
from probes.observers.reachability import choose_targets

PROBES = [
    ProbePod(region, node, "meshproof", f"{node}-{suffix}", on_host=suffix == "host")
    for region in ("us-east-1", "us-east-2")
    for node in ("n1", "n2")
    for suffix in ("1", "2", "3", "host")
]
PODS = 12


def pairs(limit: int, *, on_host: bool) -> set[tuple[int, int]]:
    targets, _sampling = choose_targets(PROBES, limit, "run")
    return {
        (source, target) for source, chosen in targets.items() for target in chosen if PROBES[source].on_host == on_host
    }


def kind(*, on_host: bool) -> list[int]:
    return [place for place, probe in enumerate(PROBES) if probe.on_host == on_host]


def test_all_pairs_of_few_pods_and_of_hosts() -> None:
    assert choose_targets(PROBES, PODS * (PODS - 1), "run")[1] is None
    for on_host in (False, True):
        assert pairs(PODS * (PODS - 1), on_host=on_host) == set(permutations(kind(on_host=on_host), 2))


def test_a_sample_of_many_pods_and_all_pairs_of_hosts() -> None:
    _targets, sampling = choose_targets(PROBES, 24, "run")
    assert sampling is not None
    assert (sampling.pod_pairs, sampling.all_pod_pairs) == (24, PODS * (PODS - 1))
    assert len(pairs(24, on_host=False)) == 24
    assert pairs(24, on_host=True) == set(permutations(kind(on_host=True), 2))


def test_nodes_of_one_name_in_two_regions_are_two() -> None:
    ends = {
        (PROBES[source].region, PROBES[source].node, PROBES[target].region, PROBES[target].node)
        for source, target in pairs(1, on_host=False)
    }
    assert len(ends) == 4 * 3


def test_no_pod_knocks_at_a_host() -> None:
    targets, _sampling = choose_targets(PROBES, 24, "run")
    assert all(PROBES[source].on_host == PROBES[t].on_host for source, chosen in targets.items() for t in chosen)
