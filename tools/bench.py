"""Measure how fast the project is and how much memory its lab takes: `reports/bench.json` and `reports/bench.md`.

Budgets are reported next to the figures and never asserted: a busy machine is no fault of the code.

    python tools/bench.py [--runs N] [--only FIGURE ...] [--list]

Exit code: 0 when everything asked for was measured, 1 otherwise, 4 for a mistake in the arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

from rich.console import Console
from rich.status import Status

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from analysis.fleet import Capability  # noqa: E402 - the path must be set first
from probes.client import Operation, column, run_agent  # noqa: E402
from probes.deploy import ProbePod, deploy  # noqa: E402
from probes.errors import ProbeError  # noqa: E402
from probes.mesh import Mesh  # noqa: E402
from provision.environment_file import load_environment  # noqa: E402
from provision.errors import ProvisionError  # noqa: E402
from provision.lab import launcher, state  # noqa: E402
from provision.lab.stages import Stage  # noqa: E402
from provision.lab.topology import aws_calico  # noqa: E402
from provision.provider import NoProgress  # noqa: E402
from provision.providers.lab import LabProvider  # noqa: E402

PORTS = (20301, 20302, 20303, 20304)
"""The TCP ports of the mesh figures: listeners of the measurement's own, in every pod."""

RATE_PROBES = 4400
"""Probes of each agent when the rate is measured: so many that starting the agents hardly counts."""

PROBE_TIMEOUT_S = 3.0
PLAN_WITHIN = timedelta(minutes=2)
LISTENER_LIFE = timedelta(minutes=30)
CONNECT_WITHIN = timedelta(seconds=30)
COMMAND_TIMEOUT = timedelta(minutes=5)
CLEAN_UP_WITHIN = timedelta(seconds=15)

CONNECT = "import socket,sys;print(socket.create_connection((sys.argv[1],int(sys.argv[2])),3).makefile().readline())"
"""What one probe is without the agent: print the greeting of the listener."""

Sample = dict[str, float]
Samples = dict[str, list[float]]
Say = Callable[[str], None]
Target = tuple[str, int, str]


class BenchError(Exception):
    """Something could not be measured; the text says why."""


@dataclass(frozen=True)
class Figure:
    """One thing that is measured.

    Attributes:
        key: its name in `bench.json`.
        what: what it is, in words.
        unit: "s", "MB", "/s" or "x".
        budget: what is aimed at, None when there is no budget of its own.
        at_least: the budget is a floor rather than a ceiling.
    """

    key: str
    what: str
    unit: str
    budget: float | None = None
    at_least: bool = False

    def kept(self, value: float) -> bool:
        """Whether the value is within the budget; without one, any is."""
        if self.budget is None:
            return True
        return value >= self.budget if self.at_least else value <= self.budget


_FIGURES = (
    Figure("lab_up_s", "lab up: `python -m provision up`, all of it", "s", 3.0),
    Figure("lab_down_s", "lab down: `python -m provision down`, nothing left", "s", 0.5),
    Figure("lab_memory_mb", "memory of a lab with its 24 probe pods (PSS)", "MB", 600.0),
    Figure("probes_per_s", "TCP probes, 12 agents at once, pod to pod", "/s", 10_000.0, at_least=True),
    Figure("agent_vs_exec", "agents against one exec per probe, same answers", "x", 50.0, at_least=True),
    Figure("mesh_27_s", "27 pods, full mesh, 4 ports: 2,808 probes, probing only", "s"),
    Figure("mesh_90_s", "90 pods, full mesh, 4 ports: 32,040 probes, probing only", "s"),
    Figure("mesh_270_s", "270 pods, full mesh, 4 ports: 290,520 probes, probing only", "s", 60.0),
    Figure("suite_n0_s", "`pytest suites/ -n 0`, lab included", "s", 20.0),
    Figure("suite_auto_s", "`pytest suites/ -n auto`, lab included", "s", 20.0),
)
FIGURES = {figure.key: figure for figure in _FIGURES}


@dataclass(frozen=True)
class Experiment:
    """What is measured in one go: a lab, or a series of commands.

    Attributes:
        keys: the figures it gives.
        runs: how often, unless the command line says otherwise.
        hold: takes a sample of every figure that often.
    """

    keys: tuple[str, ...]
    runs: int
    hold: Callable[[int, Say], Generator[Sample, None, None]]


# --- labs and their probes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BenchLab:
    """A ready lab with its probe pods."""

    lab: state.Lab
    mesh: Mesh
    pods: tuple[ProbePod, ...]

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


@contextmanager
def bench_lab(name: str, say: Say, *, nodes: int, per_node: int, hosts: bool) -> Iterator[BenchLab]:
    """A lab of three regions that ends with this process, its probe pods listening.

    Args:
        name: tells it from the other labs of this process.
        say: told what is being done.
        nodes: nodes in each region.
        per_node: probe pods on each node.
        hosts: whether there is one more on each node's own network.
    """
    say("lab")
    folder = state.claim(f"bench-{os.getpid()}-{name}")
    try:
        lab = launcher.launch(aws_calico(folder.path.name, nodes=nodes), folder, progress=NoProgress())
    except BaseException:
        state.forget(folder)
        raise
    with ExitStack() as after:
        try:
            launcher.await_stage(lab, Stage.READY, progress=NoProgress())
            fleet = LabProvider().up(load_environment(folder.environment), folder=folder.path, progress=NoProgress())
            if not hosts:
                fleet = replace(fleet, capabilities=fleet.capabilities - {Capability.NODE_PROBES})
            mesh = Mesh(fleet, folder.path.name)
            after.callback(mesh.close)
            say("probe pods")
            probes = deploy(mesh, per_node)
            if probes.gaps:
                raise BenchError(f"not every probe pod came up: {probes.gaps[0].error}")
            yield BenchLab(lab, mesh, probes.on_pods())
        finally:
            # First the lab, then the mesh: closing that waits for execs, which end with the lab.
            state.remove(lab)


def tcp_probes(targets: Sequence[Target]) -> Operation:
    """One batch of TCP probes."""
    return {"op": "probe", "batches": [{"kind": "tcp", "targets": targets, "timeout": PROBE_TIMEOUT_S}]}


def others(pod: ProbePod, pods: Sequence[ProbePod], ports: Sequence[int]) -> list[Target]:
    """All other pods on these ports, beginning with the successor, so that not all knock at the same door at once."""
    own = pods.index(pod)
    peers = [*pods[own + 1 :], *pods[:own]]
    return [(str(peer.address), port, peer.identity) for port in ports for peer in peers]


# --- the experiments ------------------------------------------------------------------------------------------------


def measure_lab_life(runs: int, say: Say) -> Generator[Sample, None, None]:
    """Bring labs up and take them down, by the command line."""
    for run in range(1, runs + 1):
        name = f"bench-{os.getpid()}-life"
        say(f"run {run} of {runs}")
        try:
            up = timed([sys.executable, "-m", "provision", "up", "lab:aws-calico", "--name", name])
            yield {"lab_up_s": up, "lab_down_s": timed([sys.executable, "-m", "provision", "down", name])}
        finally:
            # Labs of the command line outlive the process that asked for them.
            for lab in state.all_labs():
                if lab.state.name == name:
                    state.remove(lab)


def measure_probing(runs: int, say: Say) -> Generator[Sample, None, None]:
    """Memory and probe rate of the lab as the suites use it."""
    with bench_lab("probing", say, nodes=4, per_node=1, hosts=True) as bench:
        targets = {}
        for pod in bench.pods:
            once = others(pod, bench.pods, [pod.tcp_port])
            targets[pod] = (once * (RATE_PROBES // len(once) + 1))[:RATE_PROBES]
        for run in range(1, runs + 1):
            say(f"run {run} of {runs}")
            memory = bench.memory_mb()
            seconds, _seen = bench.probe(targets)
            yield {"lab_memory_mb": memory, "probes_per_s": RATE_PROBES * len(bench.pods) / seconds}


def measure_agent_vs_exec(runs: int, say: Say) -> Generator[Sample, None, None]:
    """The probes of one pod in each region to all others of 27, on four ports, in both ways."""
    with bench_lab("exec", say, nodes=3, per_node=3, hosts=False) as bench:
        say("listeners")
        bench.listen()
        sources = {pod.region: pod for pod in bench.pods}.values()
        targets = {pod: others(pod, bench.pods, PORTS) for pod in sources}
        for run in range(1, runs + 1):
            say(f"run {run} of {runs}")
            by_agent, seen = bench.probe(targets)
            by_exec, seen_by_exec = bench.probe_one_by_one(targets)
            if seen != seen_by_exec:
                raise BenchError("agents and execs were seen under different addresses")
            yield {"agent_vs_exec": by_exec / by_agent}


def mesh_experiment(key: str, nodes: int, per_node: int) -> Experiment:
    """Every pod to every other on four ports, in a lab of three regions."""

    def hold(runs: int, say: Say) -> Generator[Sample, None, None]:
        with bench_lab(key.replace("_", "-"), say, nodes=nodes, per_node=per_node, hosts=False) as bench:
            say("listeners")
            bench.listen()
            targets = {pod: others(pod, bench.pods, PORTS) for pod in bench.pods}
            for run in range(1, runs + 1):
                say(f"run {run} of {runs}")
                yield {key: bench.probe(targets)[0]}

    return Experiment((key,), 3, hold)


def suite_experiment(key: str, workers: str) -> Experiment:
    """The suites as anybody runs them, a lab of their own included."""

    def hold(runs: int, say: Say) -> Generator[Sample, None, None]:
        for run in range(1, runs + 1):
            say(f"run {run} of {runs}")
            with tempfile.TemporaryDirectory(prefix="meshproof-bench-") as reports:
                yield {key: timed([sys.executable, "-m", "pytest", "suites/", "-n", workers, "--reports", reports])}

    return Experiment((key,), 3, hold)


EXPERIMENTS = (
    Experiment(("lab_up_s", "lab_down_s"), 5, measure_lab_life),
    Experiment(("lab_memory_mb", "probes_per_s"), 5, measure_probing),
    Experiment(("agent_vs_exec",), 3, measure_agent_vs_exec),
    mesh_experiment("mesh_27_s", nodes=3, per_node=3),
    mesh_experiment("mesh_90_s", nodes=10, per_node=3),
    mesh_experiment("mesh_270_s", nodes=10, per_node=9),
    suite_experiment("suite_n0_s", "0"),
    suite_experiment("suite_auto_s", "auto"),
)


def timed(argv: Sequence[str]) -> float:
    """Seconds that the command takes, from before it starts until it has ended.

    Raises:
        BenchError: it failed, or did not end.
    """
    began = time.perf_counter()
    # In a session of its own, so that Ctrl-C reaches it once, through us.
    process = subprocess.Popen(
        argv,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=COMMAND_TIMEOUT.total_seconds())
    except subprocess.TimeoutExpired:
        raise BenchError(f"`{' '.join(argv)}` did not end within {COMMAND_TIMEOUT}") from None
    finally:
        _end(process)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise BenchError(f"`{' '.join(argv)}` ended with {process.returncode}:\n{said[-2000:]}")
    return seconds


def _end(process: subprocess.Popen[str]) -> None:
    """End a command as Ctrl-C would, with time to clean up; nothing happens when it has ended."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=CLEAN_UP_WITHIN.total_seconds())
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


# --- the results ----------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What it was measured on."""
    processor = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory_kb = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    return {
        "cpu": processor,
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": memory_kb // 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines()


def as_data(samples: Samples, host: dict[str, Any]) -> dict[str, Any]:
    """What `bench.json` holds: the median of each figure that was measured, and the machine."""
    return {key: _rounded(median(values)) for key, values in samples.items()} | {"machine": host}


def as_table(samples: Samples) -> str:
    """The figures with their spread and their budgets, as aligned Markdown."""
    rows: list[tuple[str, ...]] = [("figure", "what", "median", "min", "max", "runs", "budget", "kept")]
    for key, values in samples.items():
        figure = FIGURES[key]
        budget, kept = "-", "-"
        if figure.budget is not None:
            budget = f"{'≥' if figure.at_least else '≤'} {_text(figure.budget, figure.unit)}"
            kept = "yes" if figure.kept(median(values)) else "NO"
        spread = (_text(summary, figure.unit) for summary in (median(values), min(values), max(values)))
        rows.append((figure.key, figure.what, *spread, str(len(values)), budget, kept))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))
    cells = ((cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


def as_markdown(samples: Samples, host: dict[str, Any]) -> str:
    """What `bench.md` holds."""
    where = ", ".join(f"{name} {value}" for name, value in host.items())
    note = "Whole processes, medians. Budgets are aims, not assertions. How each is measured: docs/performance.md."
    return f"# Speed and memory\n\nMachine: {where}.\n\n{note}\n\n{as_table(samples)}"


def _rounded(value: float) -> float:
    return round(value, 2) if value < 100 else round(value)


def _text(value: float, unit: str) -> str:
    return f"{_rounded(value):,} {unit}"


def take(experiments: Sequence[Experiment], runs: int | None, console: Console) -> tuple[Samples, bool]:
    """Hold the experiments one after the other; the samples by figure, and whether all succeeded."""
    samples: Samples = {}
    complete = True
    for experiment in experiments:
        title = ", ".join(experiment.keys)
        taken: Samples = {key: [] for key in experiment.keys}
        try:
            with console.status(title) as status:
                _hold(experiment, runs or experiment.runs, taken, partial(_show, status, title))
        except (BenchError, ProbeError, ProvisionError) as problem:
            complete = False
            console.print(f"{title}: not measured: {problem}", markup=False, highlight=False, soft_wrap=True)
            continue
        samples |= taken
        medians = (f"{key} {_text(median(values), FIGURES[key].unit)}" for key, values in taken.items())
        console.print(", ".join(medians), markup=False, highlight=False)
    return samples, complete


def _hold(experiment: Experiment, runs: int, taken: Samples, say: Say) -> None:
    # Closed whatever happens, and with it the lab that it holds.
    with closing(experiment.hold(runs, say)) as held:
        for sample in held:
            for key, value in sample.items():
                taken[key].append(value)


def _show(status: Status, title: str, text: str) -> None:
    status.update(f"{title}: {text}")


class _Parser(argparse.ArgumentParser):
    """Exits with 4 for wrong usage, as everything here does."""

    def error(self, message: str) -> NoReturn:
        self.exit(4, f"{self.prog}: {message}\n")


def _figure(key: str) -> str:
    if key not in FIGURES:
        raise argparse.ArgumentTypeError(f"no figure {key}; there are {', '.join(FIGURES)}")
    return key


def _runs(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of runs")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, measure, write the reports."""
    parser = _Parser(prog="bench", description="Measure speed and memory.")
    parser.add_argument("--runs", type=_runs, metavar="N", help="measure everything N times (default: 3 or 5 times)")
    parser.add_argument(
        "--only", nargs="+", type=_figure, default=list(FIGURES), metavar="FIGURE", help="only these; see --list"
    )
    parser.add_argument("--list", action="store_true", help="list the figures and stop")
    options = parser.parse_args(arguments)
    if options.list:
        for figure in FIGURES.values():
            print(f"{figure.key:16} {figure.what}")
        return 0
    # Ended from outside, take down what runs as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    wanted = [experiment for experiment in EXPERIMENTS if set(experiment.keys) & set(options.only)]
    try:
        samples, complete = take(wanted, options.runs, Console(stderr=True))
    except KeyboardInterrupt:
        return 130
    host = machine()
    (ROOT / "reports" / "bench.json").write_text(json.dumps(as_data(samples, host), indent=2) + "\n")
    (ROOT / "reports" / "bench.md").write_text(as_markdown(samples, host))
    print(as_table(samples), end="")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
