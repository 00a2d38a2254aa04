"""The arithmetic of rolling updates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.lab.kube.controllers.rollout import Revision, RollingLimits, amount, next_sizes


@pytest.mark.parametrize(
    ("value", "total", "up", "result"),
    [("25%", 3, True, 1), ("25%", 3, False, 0), ("100%", 3, True, 3), (2, 3, True, 2), ("0%", 9, True, 0)],
)
def test_shares_are_rounded_as_kubernetes_does(value, total, up, result):
    assert amount(value, total, up=up) == result


def test_a_rollout_can_always_move():
    strategy = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}
    assert RollingLimits.of(strategy, 3) == RollingLimits(0, 1)
    assert RollingLimits.of({}, 1) == RollingLimits(1, 0)


def test_a_new_deployment_gets_all_its_pods():
    assert next_sizes(Revision("new", 0, 0), [], 3, RollingLimits(1, 0)) == {"new": 3}


def test_pods_that_serve_nobody_go_first():
    broken = Revision("broken", 1, 0)
    good = Revision("good", 3, 3)
    sizes = next_sizes(Revision("new", 0, 0), [broken, good], 3, RollingLimits(1, 0))
    assert sizes == {"broken": 0}


@given(
    replicas=st.integers(1, 20),
    surge=st.integers(0, 5),
    unavailable=st.integers(0, 5),
    start=st.lists(st.integers(0, 20), max_size=3),
)
def test_every_rollout_ends_and_never_leaves_its_limits(replicas, surge, unavailable, start):
    """Played with pods that are ready at once, from any state: it ends at the new revision alone."""
    limits = RollingLimits(surge, unavailable if surge or unavailable else 1)
    sizes = {"new": 0} | {f"old-{index}": size for index, size in enumerate(start)}
    most = max(replicas + limits.surge, sum(sizes.values()))
    least = min(replicas - limits.unavailable, sum(sizes.values()))
    for _ in range(200):
        revisions = {name: Revision(name, size, size) for name, size in sizes.items()}
        new = revisions.pop("new")
        step = next_sizes(new, list(revisions.values()), replicas, limits)
        if not step:
            break
        sizes |= step
        assert least <= sum(sizes.values()) <= most
    assert sizes.pop("new") == replicas
    assert not any(sizes.values())
