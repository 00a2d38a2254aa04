"""Sweeps: far more ports than flows are tried at, between one pair of database pods for every two regions.

TCP needs no listener: a host that a packet reaches answers with a reset where nobody listens. Of UDP only ports with a
listener tell anything, so that a sample of doors is opened for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from random import Random
from typing import Any

from analysis.facts import Gap, Party, Sweep
from analysis.plan import DATABASE
from probes.client import Operation, column, run_agent
from probes.cluster import Cluster
from probes.doors import open_doors
from probes.errors import ProbeError
from probes.flows import PASSED, Side
from probes.mesh import Mesh
from probes.scene import Scene

TIMEOUT_S = 1.2
"""One more SYN by the kernel (after 1 s), for those that got lost in the burst."""

WINDOW = 16_384
SAMPLE = 1_500
UDP_SAMPLE = 96
UDP_TRIES = 2
LAST = (1 << 16) - 1
LIFE = timedelta(minutes=2)
WITHIN = timedelta(seconds=90)
"""All ports take 6 s where nothing else goes on."""


class SweepWidth(str, Enum):
    """How many ports are swept."""

    NONE = "none"
    SAMPLE = "sample"
    ALL = "all"


@dataclass(frozen=True)
class Swept:
    """What came of all sweeps."""

    sweeps: tuple[Sweep, ...]
    gaps: tuple[Gap, ...] = ()


def sweep(mesh: Mesh, scene: Scene, width: SweepWidth) -> Swept:
    """Sweep between the regions, all pairs at once, each pair TCP first and then UDP."""
    if width is SweepWidth.NONE:
        return Swept(())
    chosen = Random(mesh.run_id)  # noqa: S311 - to sample ports, not to keep a secret
    every = range(1, LAST + 1)
    tcp = sorted(chosen.sample(every, SAMPLE)) if width is SweepWidth.SAMPLE else []
    udp = sorted(chosen.sample(every, UDP_SAMPLE))
    pairs = list(_pairs(scene))
    targets = {target for _, target in pairs}
    told = dict(mesh.each(targets, lambda place: _region(scene, place), lambda c, t: _open(c, scene.sides[t], udp)))
    gaps: list[Gap] = []
    sweeps: list[Sweep] = []

    def run(cluster: Cluster, pair: tuple[int, int]) -> list[Sweep]:
        return list(_sweep_one(cluster, scene, *pair, tcp, _doors(told[pair[1]])))

    for (source, _target), swept in mesh.each(pairs, lambda pair: _region(scene, pair[0]), run):
        if isinstance(swept, ProbeError):
            name = scene.sides[source].participant.name
            gaps.append(Gap(_region(scene, source), f"sweeps from {name}", str(swept), ("sweeps",)))
        else:
            sweeps += swept
    return Swept(tuple(sweeps), tuple(gaps))


def _pairs(scene: Scene) -> Iterator[tuple[int, int]]:
    """The first database pod of each region towards the last one of every other."""
    pods: dict[str, list[int]] = {}
    for place in scene.places(Party.ROLE, DATABASE):
        pods.setdefault(_region(scene, place), []).append(place)
    for here, own in pods.items():
        for there, others in pods.items():
            if here != there:
                yield own[0], others[-1]


def _region(scene: Scene, place: int) -> str:
    return scene.sides[place].participant.region


def _open(cluster: Cluster, side: Side, ports: Sequence[int]) -> tuple[int, ...]:
    """Open UDP doors; those that are open. Raises ProbeError."""
    assert side.pod is not None
    return tuple(port for _, port in open_doors(cluster, side.pod, "swept", {"udp": ports}, life=LIFE, within=WITHIN))


def _doors(told: tuple[int, ...] | ProbeError) -> tuple[int, ...]:
    return () if isinstance(told, ProbeError) else told


def _sweep_one(
    cluster: Cluster, scene: Scene, source: int, target: int, tcp: Sequence[int], udp: Sequence[int]
) -> Iterator[Sweep]:
    """One pair. Raises ProbeError, also when nothing of what must pass did: then nothing was proven."""
    pod, other = scene.sides[source].pod, scene.sides[target]
    assert pod is not None
    address = str(other.participant.address)
    ranges = [[port, port] for port in tcp] or [[1, LAST]]
    allowed = scene.must_pass(source, target)
    ranges += [[port, port] for port in sorted(allowed) if tcp and port not in tcp]
    operations: list[Operation] = [
        {"op": "sweep", "address": address, "ports": ranges, "timeout": TIMEOUT_S, "window": WINDOW},
        {
            "op": "probe",
            "batches": [
                {
                    "kind": "udp",
                    "targets": [[address, port, other.identity] for port in udp],
                    "timeout": TIMEOUT_S,
                    "tries": UDP_TRIES,
                    "window": len(udp) or 1,
                }
            ],
        },
    ]
    streams, datagrams = _checked(
        run_agent(cluster, pod.namespace, pod.name, operations, within=WITHIN, control=pod.control).operations
    )
    if not allowed & set(streams["reached"]):
        raise ProbeError(f"nothing on {other.participant.name} was reached, not even what must be")
    reached, undecided = tuple(streams["reached"]), tuple(streams["undecided"])
    yield Sweep(source, target, "TCP", 1, LAST, reached, undecided, streams["seconds"], tuple(tcp))
    outcomes = column(datagrams["batches"][0], "outcome")
    answered = tuple(port for port, outcome in zip(udp, outcomes, strict=True) if outcome in PASSED)
    yield Sweep(source, target, "UDP", 1, LAST, answered, (), datagrams["seconds"], tuple(udp))


def _checked(told: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    error = next((answer["error"] for answer in told if "error" in answer), "")
    if error:
        raise ProbeError(error)
    return told
