"""Which pairs of pods to probe when there are too many: every ordered pair of nodes, with even load on the pods.

The number of pairs of pods grows with the square of the pods, and a mesh has many pods on each node that share its
routes, its tunnels and its filters. So a sample gives up pairs of pods and never a pair of nodes. It is drawn from a
seed alone: the same nodes, pods and seed give the same sample, which makes a recorded matrix reproducible.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import lcm
from random import Random

from analysis.facts import Sampling


@dataclass(frozen=True)
class Choice:
    """Whom each pod probes.

    Attributes:
        targets: for every pod the indexes of its targets, beginning behind its own, so that not all knock at the same
            door at once.
        sampling: what was chosen from what; None when every pod probes every other.
    """

    targets: tuple[tuple[int, ...], ...]
    sampling: Sampling | None = None


def choose_pairs(nodes: Sequence[Hashable], *, limit: int, seed: str) -> Choice:
    """Every ordered pair of pods where there are at most `limit`, else a sample of about so many.

    A sample holds at least one pair of pods for every ordered pair of distinct nodes, even where these alone are more
    than `limit`, and every pod probes and is probed. Pods of one node send equally often, and are probed equally often,
    but for one. The effort is that of the pairs of nodes and the chosen pairs of pods.

    Args:
        nodes: the node of every pod.
        limit: ordered pairs of pods that are not too many.
        seed: what the sample is drawn from, the run's id for instance.
    """
    number = len(nodes)
    possible = number * (number - 1)
    if possible <= limit:
        return Choice(tuple((*range(own + 1, number), *range(own)) for own in range(number)))
    pods_of: dict[Hashable, list[int]] = {}
    for pod, node in enumerate(nodes):
        pods_of.setdefault(node, []).append(pod)
    groups = list(pods_of.values())
    chosen = _sample(groups, limit, Random(seed))  # noqa: S311 - to spread load, not to keep a secret
    return Choice(
        tuple(_from_successor(own, targets) for own, targets in enumerate(chosen)),
        Sampling(seed, len(groups) * (len(groups) - 1), sum(map(len, chosen)), possible),
    )


def _from_successor(own: int, targets: list[int]) -> tuple[int, ...]:
    return tuple(sorted(targets, key=lambda target: (target < own, target)))


def _sample(groups: Sequence[Sequence[int]], limit: int, random: Random) -> list[list[int]]:
    """The targets of every pod. Each node deals out its pods in turn, to send and to receive, from a random one on."""
    targets: list[list[int]] = [[] for group in groups for _pod in group]
    peers = len(groups) - 1
    if not peers:
        return targets
    most = max(map(len, groups))
    # So many that every pod of the fullest node gets a turn, whatever the limit.
    share = max(1, limit // (len(groups) * peers), -(-most // peers))
    sender = [random.randrange(len(group)) for group in groups]
    receiver = [random.randrange(len(group)) for group in groups]
    for a, sources in enumerate(groups):
        for b, sinks in enumerate(groups):
            if a == b:
                continue
            pairs = min(share, len(sources) * len(sinks))
            # Both turn in step and meet the same partner after `cycle` pairs: from then on the targets are one ahead.
            # The incomplete cycle goes last and is not shifted, so that the next pair of nodes carries on evenly.
            cycle = lcm(len(sources), len(sinks))
            last = (pairs - 1) // cycle
            for pair in range(pairs):
                source = sources[(sender[a] + pair) % len(sources)]
                targets[source].append(sinks[(receiver[b] + pair + pair // cycle - last) % len(sinks)])
            sender[a] += pairs
            receiver[b] += pairs
    return targets
