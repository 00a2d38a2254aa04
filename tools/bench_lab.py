"""A lab to measure in: its probe pods, what they can be told to do, and how long every stage of a run takes in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from analysis.fleet import Capability, Fleet  # noqa: E402 - the path must be set first
from fixtures.facts import FactStore, Family  # noqa: E402
from fixtures.serial import to_json  # noqa: E402
from probes.client import Operation, column, run_agent  # noqa: E402
from probes.cluster import Cluster  # noqa: E402
from probes.deploy import ProbePod, ProbeSet, deploy  # noqa: E402
from probes.errors import ProbeError  # noqa: E402
from probes.mesh import Mesh  # noqa: E402
from probes.observers import observe  # noqa: E402
from provision.environment_file import load_environment  # noqa: E402
from provision.lab import launcher, state  # noqa: E402
from provision.lab.stages import Stage  # noqa: E402
from provision.lab.topology import TOPOLOGIES  # noqa: E402
from provision.provider import NoProgress  # noqa: E402
from provision.providers.lab import LabProvider  # noqa: E402

PORTS = (20301, 20302, 20303, 20304)
"""The TCP ports of the mesh figures: listeners of the measurement's own, in every pod."""

PROBE_TIMEOUT_S = 3.0
PLAN_WITHIN = timedelta(minutes=2)
LISTENER_LIFE = timedelta(minutes=30)
CONNECT_WITHIN = timedelta(seconds=30)
JUDGED_WITHIN_S = 300

# The process's own peak: what its parent is told (ru_maxrss) counts the parent's memory from before the exec too.
_PYTEST_WITH_PEAK = (
    "import sys, pytest; code = pytest.main(sys.argv[1:]); print(open('/proc/self/status').read()); sys.exit(code)"
)

CONNECT = "import socket,sys;print(socket.create_connection((sys.argv[1],int(sys.argv[2])),3).makefile().readline())"
"""What one probe is without the agent: print the greeting of the listener."""

MATRIX, SPEED, NETWORKS = "reachability", "quality", "networks"
FAMILIES = tuple(name for name, kind in vars(FactStore).items() if isinstance(kind, Family))

Sample = dict[str, float]
Say = Callable[[str], None]
Target = tuple[str, int, str]


class BenchError(Exception):
    """Something could not be measured; the text says why."""


@dataclass(frozen=True)
class Size:
    """How large a lab is.

    Attributes:
        nodes: nodes in each region.
        per_node: probe pods on each node.
    """

    regions: int
    nodes: int
    per_node: int

    @property
    def pods(self) -> int:
        """Probe pods in the pod network."""
        return self.regions * self.nodes * self.per_node


@dataclass(frozen=True)
class BenchLab:
    """A ready lab with its probe pods.

    Attributes:
        up_s: how long the lab took to become ready.
        place_s: how long its probe pods took to listen.
    """

    lab: state.Lab
    fleet: Fleet
    mesh: Mesh
    probes: ProbeSet
    up_s: float
    place_s: float

    @property
    def pods(self) -> tuple[ProbePod, ...]:
        """The probe pods in the pod network."""
        return self.probes.on_pods()

    def memory_mb(self) -> float:
        """The proportional share of memory of all processes of the lab."""
        waiting, total_kb = [self.lab.state.process], 0
        while waiting:
            process = waiting.pop()
            waiting += process.children
            try:
                rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            total_kb += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        return total_kb / 1024

    def listen(self) -> None:
        """Start listeners on all of PORTS in every pod."""

        def operation(pod: ProbePod) -> Operation:
            life = LISTENER_LIFE.total_seconds()
            place = {"name": f"{pod.listener_name}-bench", "identity": pod.identity, "address": str(pod.address)}
            return {"op": "listen", **place, "tcp": list(PORTS), "life": life}

        for pod, answer in zip(self.pods, self.run({pod: operation(pod) for pod in self.pods}), strict=True):
            if answer["ports"]["tcp"] != list(PORTS):
                raise BenchError(f"{pod.identity}: some of the ports {PORTS} are taken")

    def run(self, plans: dict[ProbePod, Operation]) -> list[dict[str, Any]]:
        """Let the agents of these pods do one operation each, all at once; their answers, in the order of the plans."""
        answers = []
        for pod, run in self.mesh.each(
            plans,
            lambda pod: pod.region,
            lambda cluster, pod: run_agent(
                cluster, pod.namespace, pod.name, [plans[pod]], within=PLAN_WITHIN, control=pod.control
            ),
        ):
            if isinstance(run, ProbeError):
                raise run
            answer = run.operations[0]
            if failure := run.control_failure or answer.get("error"):
                raise BenchError(f"{pod.identity}: {failure}")
            answers.append(answer)
        return answers

    def probe(self, targets: dict[ProbePod, list[Target]]) -> tuple[float, list[list[str]]]:
        """Probe all targets by TCP, all agents at once; how long that took, and the source addresses that were seen.

        Raises:
            BenchError: a probe was not open.
        """
        began = time.perf_counter()
        answers = self.run({pod: tcp_probes(wanted) for pod, wanted in targets.items()})
        seconds = time.perf_counter() - began
        batches = [answer["batches"][0] for answer in answers]
        for pod, batch in zip(targets, batches, strict=True):
            outcomes = column(batch, "outcome")
            if failed := [place for place, outcome in enumerate(outcomes) if outcome != "open"]:
                first = failed[0]
                raise BenchError(
                    f"{len(failed)} of {len(outcomes)} probes from {pod.identity} were not open, the first of them to "
                    f"{targets[pod][first]}: {outcomes[first]}, {column(batch, 'detail')[first]}"
                )
        return seconds, [column(batch, "seen") for batch in batches]

    def probe_one_by_one(self, targets: dict[ProbePod, list[Target]]) -> tuple[float, list[list[str]]]:
        """The same as `probe`, by one exec of a small program for each probe."""
        pairs = [(pod, target) for pod, wanted in targets.items() for target in wanted]
        began = time.perf_counter()
        greetings = self.mesh.each(
            pairs,
            lambda pair: pair[0].region,
            lambda cluster, pair: cluster.exec(
                pair[0].namespace,
                pair[0].name,
                ["python3", "-I", "-S", "-c", CONNECT, pair[1][0], str(pair[1][1])],
                within=CONNECT_WITHIN,
            ),
        )
        seconds = time.perf_counter() - began
        seen: dict[ProbePod, list[str]] = {pod: [] for pod in targets}
        for (pod, target), greeting in greetings:
            if isinstance(greeting, ProbeError):
                raise greeting
            words = greeting.stdout.decode().split()
            if len(words) != 3 or words[0] != target[2]:
                raise BenchError(f"exec in {pod.identity}, {target}: {greeting.stdout!r} {greeting.stderr!r}")
            seen[pod].append(words[1])
        return seconds, list(seen.values())

    def stages(self, say: Say) -> Sample:
        """How long each stage of a run takes here, what it costs, and how much it is about.

        `facts_s` is for all families but the matrix (`matrix_s`: pods with pods by three protocols, nodes with nodes by
        two) and the speed of paths, which waits rather than works. `judging_s` is for reading all of them and judging
        them, `judging_mb` the memory of the process that does so. The matrix is full, whatever the limit.
        """
        fleet = replace(self.fleet, full_mesh_limit=len(self.pods) ** 2)
        self.mesh.fleet = fleet
        families: dict[str, object] = {}
        with counted_execs() as execs:
            say("facts")
            began = time.perf_counter()
            families[NETWORKS] = LabProvider().networks(fleet)
            for family in FAMILIES:
                if family not in (NETWORKS, MATRIX, SPEED):
                    families[family] = observe(family, self.mesh, self.probes)
            facts = time.perf_counter() - began
            say("matrix")
            began = time.perf_counter()
            matrix = observe(MATRIX, self.mesh, self.probes)
            probing = time.perf_counter() - began
        if unwell := [agent for agent in matrix.agents if not agent.loopback_ok]:
            raise BenchError(f"the agent in {matrix.endpoints[unwell[0].endpoint].name}: {unwell[0].error}")
        say("judging")
        judging, judging_mb, facts_mb = judge(fleet, families | {MATRIX: matrix})
        return {
            "up_s": self.up_s,
            "place_s": self.place_s,
            "facts_s": facts,
            "matrix_s": probing,
            "judging_s": judging,
            "lab_mb": self.memory_mb(),
            "judging_mb": judging_mb,
            "facts_mb": facts_mb,
            "execs": len(execs),
            "probes": len(matrix.probes),
        }


@contextmanager
def bench_lab(
    name: str, say: Say, *, profile: str, size: Size, hosts: bool = True, listening: bool = False
) -> Iterator[BenchLab]:
    """A lab that ends with this process, its probe pods listening.

    Args:
        name: tells it from the other labs of this process.
        say: told what is being done.
        profile: which kind of lab.
        size: how large.
        hosts: whether there is one more probe on each node's own network.
        listening: whether the pods listen on PORTS too.
    """
    say("lab")
    began = time.perf_counter()
    folder = state.claim(f"bench-{os.getpid()}-{name}")
    try:
        topology = TOPOLOGIES[profile](folder.path.name, regions=size.regions, nodes=size.nodes)
        lab = launcher.launch(topology, folder, progress=NoProgress())
    except BaseException:
        state.forget(folder)
        raise
    with ExitStack() as after:
        try:
            launcher.await_stage(lab, Stage.READY, progress=NoProgress())
            up = time.perf_counter() - began
            fleet = LabProvider().up(load_environment(folder.environment), folder=folder.path, progress=NoProgress())
            if not hosts:
                fleet = replace(fleet, capabilities=fleet.capabilities - {Capability.NODE_PROBES})
            mesh = Mesh(fleet, folder.path.name)
            after.callback(mesh.close)
            say("probe pods")
            began = time.perf_counter()
            probes = deploy(mesh, size.per_node)
            if probes.gaps:
                raise BenchError(f"not every probe pod came up: {probes.gaps[0].error}")
            bench = BenchLab(lab, fleet, mesh, probes, up, time.perf_counter() - began)
            if listening:
                say("listeners")
                bench.listen()
            yield bench
        finally:
            # First the lab, then the mesh: closing that waits for execs, which end with the lab.
            state.remove(lab)


def judge(fleet: Fleet, families: dict[str, object]) -> tuple[float, float, float]:
    """Judge these facts as `pytest --replay` does: seconds in checks, memory of the process, size of the facts (MB).

    Raises:
        BenchError: there was no report.
    """
    with tempfile.TemporaryDirectory(prefix="meshproof-bench-") as scratch:
        recording, reports = Path(scratch, "recording"), Path(scratch, "reports")
        (recording / "facts").mkdir(parents=True)
        handles = tuple(replace(handle, kubeconfig="", context=handle.region) for handle in fleet.clusters)
        (recording / "fleet.json").write_text(to_json(replace(fleet, clusters=handles, state_dir=None, outposts=())))
        for family, facts in families.items():
            (recording / "facts" / f"{family}.json").write_text(to_json(facts))
        size = sum(file.stat().st_size for file in (recording / "facts").iterdir())
        argv = [sys.executable, "-c", _PYTEST_WITH_PEAK, "suites/", "-n", "0", "-q"]
        argv += ["--replay", str(recording), "--reports", str(reports)]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=JUDGED_WITHIN_S, check=False)
        report = reports / "latest" / "compliance.json"
        if not report.exists():
            raise BenchError(f"judging ended with {done.returncode} and no report")
        rows = json.loads(report.read_text())["requirements"]
        peak_kb = int(done.stdout.rpartition("VmHWM:")[2].split()[0])
        return sum(test["seconds"] for row in rows for test in row["tests"]), peak_kb / 1024, size / 1e6


@contextmanager
def counted_execs() -> Iterator[list[str]]:
    """Every exec in the body, by the pod it went to."""
    execs: list[str] = []
    plain = Cluster.exec

    def counting(cluster: Cluster, namespace: str, pod: str, *arguments: Any, **options: Any) -> Any:
        execs.append(pod)
        return plain(cluster, namespace, pod, *arguments, **options)

    Cluster.exec = counting  # type: ignore[assignment, method-assign]
    try:
        yield execs
    finally:
        Cluster.exec = plain  # type: ignore[assignment, method-assign]


def tcp_probes(targets: Sequence[Target]) -> Operation:
    """One batch of TCP probes."""
    return {"op": "probe", "batches": [{"kind": "tcp", "targets": targets, "timeout": PROBE_TIMEOUT_S}]}


def others(pod: ProbePod, pods: Sequence[ProbePod], ports: Sequence[int]) -> list[Target]:
    """All other pods on these ports, beginning with the successor, so that not all knock at the same door at once."""
    own = pods.index(pod)
    peers = [*pods[own + 1 :], *pods[:own]]
    return [(str(peer.address), port, peer.identity) for port in ports for peer in peers]
