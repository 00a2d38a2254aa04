"""The arithmetic of rolling updates: pure numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DEFAULT_SHARE = "25%"


@dataclass(frozen=True)
class RollingLimits:
    """How far a rollout may stray from the number of replicas that is asked for.

    Attributes:
        surge: how many pods there may be in excess.
        unavailable: how many may be missing.
    """

    surge: int
    unavailable: int

    @classmethod
    def of(cls, strategy: Mapping[str, Any], replicas: int) -> RollingLimits:
        """Reads a Deployment's `rollingUpdate`. Shares of surge are rounded up, of unavailability down.

        A rollout must be able to move, so where both would be 0 one pod may be unavailable.
        """
        rolling = strategy.get("rollingUpdate") or {}
        surge = amount(rolling.get("maxSurge", DEFAULT_SHARE), replicas, up=True)
        unavailable = amount(rolling.get("maxUnavailable", DEFAULT_SHARE), replicas, up=False)
        return cls(surge, unavailable if surge or unavailable else 1)


@dataclass(frozen=True)
class Revision:
    """One ReplicaSet of a Deployment, in numbers.

    Attributes:
        name: the ReplicaSet's.
        wanted: its spec.replicas.
        available: how many of its pods are available.
    """

    name: str
    wanted: int
    available: int


def amount(value: int | str, total: int, *, up: bool) -> int:
    """A number of pods, given as such or as a share of a total ("25%").

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        return int(value)
    share = total * int(value[:-1]) / 100
    return math.ceil(share) if up else math.floor(share)


def next_sizes(new: Revision, old: Sequence[Revision], replicas: int, limits: RollingLimits) -> dict[str, int]:
    """The sizes to give to a Deployment's ReplicaSets as the next step of a rolling update.

    Args:
        new: of the current template.
        old: the others, oldest first.
        replicas: how many pods are asked for.
        limits: how far a step may go.

    Returns:
        A size by name, for those that change.
    """
    sizes = {}
    if new.wanted > replicas:
        sizes[new.name] = replicas
    elif new.wanted < replicas:
        room = replicas + limits.surge - new.wanted - sum(row.wanted for row in old)
        if room > 0:
            sizes[new.name] = min(new.wanted + room, replicas)
    new_wanted = sizes.get(new.name, new.wanted)
    remaining = {row.name: row.wanted for row in old}
    # Pods that are not available serve nobody: they go first, as long as enough are left to be counted on.
    least = replicas - limits.unavailable
    may_go = new_wanted + sum(remaining.values()) - least - max(0, new_wanted - new.available)
    for row in old:
        go = min(may_go, row.wanted - row.available) if may_go > 0 else 0
        if go > 0:
            remaining[row.name] -= go
            may_go -= go
    available = new.available + sum(row.available for row in old)
    may_go = available - least
    for row in old:
        go = min(may_go, remaining[row.name])
        if go > 0:
            remaining[row.name] -= go
            may_go -= go
    return sizes | {row.name: remaining[row.name] for row in old if remaining[row.name] != row.wanted}
