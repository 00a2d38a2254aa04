"""Measure how fast the project is and how much memory its lab takes: `reports/bench.json` and `reports/bench.md`.

Budgets are reported next to the figures and never asserted: a busy machine is no fault of the code. What grows with the
mesh is measured stage by stage beside the figures; `tools/plots.py` draws it.

    python tools/bench.py [--profile PROFILE ...] [--runs N] [--only FIGURE ...] [--list]

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
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

import bench_policy
from bench_lab import PORTS, ROOT, BenchError, Sample, Say, Size, bench_lab, others
from rich.console import Console
from rich.status import Status

from analysis.policy.model import Engine
from probes.errors import ProbeError
from provision.errors import ProvisionError
from provision.lab import state
from provision.lab.topology import AWS_CALICO, TOPOLOGIES

RATE_PROBES = 4400
"""Probes of each agent when the rate is measured: so many that starting the agents hardly counts."""

COMMAND_TIMEOUT = timedelta(minutes=5)
CLEAN_UP_WITHIN = timedelta(seconds=15)

Samples = dict[str, list[float]]


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


REGIONS = (2, 3, 5, 8)
"""The numbers of regions that growth is measured at."""

_FIGURES = (
    Figure("lab_up_s", "lab up: `python -m provision up`, all of it", "s", 3.0),
    Figure("lab_down_s", "lab down: `python -m provision down`, nothing left", "s", 0.5),
    Figure("lab_memory_mb", "memory of a lab with its 24 probe pods (PSS)", "MB", 600.0),
    Figure("probes_per_s", "TCP probes, 12 agents at once, pod to pod", "/s", 10_000.0, at_least=True),
    Figure("agent_vs_exec", "agents against one exec per probe, same answers", "x", 50.0, at_least=True),
    Figure("mesh_27_s", "27 pods, full mesh, 4 ports: 2,808 probes, probing only", "s"),
    Figure("mesh_90_s", "90 pods, full mesh, 4 ports: 32,040 probes, probing only", "s"),
    Figure("mesh_270_s", "270 pods, full mesh, 4 ports: 290,520 probes, probing only", "s", 60.0),
    *(
        Figure(f"regions_{number}_s", f"{number} regions of 3 nodes: lab up, 3 probe pods on each, facts, judged", "s")
        for number in REGIONS
    ),
    Figure("suite_n0_s", "`pytest suites/ -n 0`, without what disrupts, lab included", "s", 20.0),
    Figure("suite_auto_s", "`pytest suites/ -n auto`, without what disrupts, lab included", "s", 20.0),
    Figure("database_up_s", "the lab's database, from the lab's start until all members are Ready", "s", 12.0),
    Figure("policies_s", "2,000 policies over 10,000 pods: the dead rules found, processor time", "s", 10.0),
    Figure("survival_s", "`pytest suites/ -n auto`, everything, the loss of regions included", "s", 150.0),
)
FIGURES = {figure.key: figure for figure in _FIGURES}


@dataclass(frozen=True)
class Experiment:
    """What is measured in one go: a lab, or a series of commands.

    Attributes:
        keys: the figures it gives.
        runs: how often, unless the command line says otherwise.
        hold: takes a sample of every figure that often, in a lab of the profile named.
        size: the lab's, where its samples tell of stages too: whatever is in them besides the figures.
        usual: whether it is held in other profiles than the first unless it is asked for.
    """

    keys: tuple[str, ...]
    runs: int
    hold: Callable[[str, int, Say], Generator[Sample, None, None]]
    size: Size | None = None
    usual: bool = True


@dataclass
class Taken:
    """What was measured in one profile: the samples of every figure, and the stages by size."""

    figures: Samples = field(default_factory=dict)
    growth: dict[Size, Samples] = field(default_factory=dict)


# --- the experiments ------------------------------------------------------------------------------------------------


def measure_lab_life(profile: str, runs: int, say: Say) -> Generator[Sample, None, None]:
    """Bring labs up and take them down, by the command line."""
    for run in range(1, runs + 1):
        name = f"bench-{os.getpid()}-life"
        say(f"run {run} of {runs}")
        try:
            up = timed([sys.executable, "-m", "provision", "up", f"lab:{profile}", "--name", name])
            yield {"lab_up_s": up, "lab_down_s": timed([sys.executable, "-m", "provision", "down", name])}
        finally:
            # Labs of the command line outlive the process that asked for them.
            for lab in state.all_labs():
                if lab.state.name == name:
                    state.remove(lab)


def measure_probing(profile: str, runs: int, say: Say) -> Generator[Sample, None, None]:
    """Memory and probe rate of the lab as the suites use it."""
    with bench_lab("probing", say, profile=profile, size=Size(3, 4, 1)) as bench:
        targets = {}
        for pod in bench.pods:
            once = others(pod, bench.pods, [pod.tcp_port])
            targets[pod] = (once * (RATE_PROBES // len(once) + 1))[:RATE_PROBES]
        for run in range(1, runs + 1):
            say(f"run {run} of {runs}")
            memory = bench.memory_mb()
            seconds, _seen = bench.probe(targets)
            yield {"lab_memory_mb": memory, "probes_per_s": RATE_PROBES * len(bench.pods) / seconds}


def measure_agent_vs_exec(profile: str, runs: int, say: Say) -> Generator[Sample, None, None]:
    """The probes of one pod in each region to all others of 27, on four ports, in both ways."""
    with bench_lab("exec", say, profile=profile, size=Size(3, 3, 3), hosts=False, listening=True) as bench:
        sources = {pod.region: pod for pod in bench.pods}.values()
        targets = {pod: others(pod, bench.pods, PORTS) for pod in sources}
        for run in range(1, runs + 1):
            say(f"run {run} of {runs}")
            by_agent, seen = bench.probe(targets)
            by_exec, seen_by_exec = bench.probe_one_by_one(targets)
            if seen != seen_by_exec:
                raise BenchError("agents and execs were seen under different addresses")
            yield {"agent_vs_exec": by_exec / by_agent}


def mesh_experiment(key: str, size: Size, runs: int) -> Experiment:
    """Every pod to every other on four ports, in a lab of that size, and the stages of a run in it."""

    def hold(profile: str, runs: int, say: Say) -> Generator[Sample, None, None]:
        with bench_lab(key.replace("_", "-"), say, profile=profile, size=size, listening=True) as bench:
            stages = bench.stages(say)
            targets = {pod: others(pod, bench.pods, PORTS) for pod in bench.pods}
            for run in range(1, runs + 1):
                say(f"run {run} of {runs}")
                yield {key: bench.probe(targets)[0]} | stages

    return Experiment((key,), runs, hold, size)


def regions_experiment(regions: int) -> Experiment:
    """From nothing to verdicts in a lab of so many regions, without what only the measurement does."""
    key, size = f"regions_{regions}_s", Size(regions, 3, 3)

    def hold(profile: str, runs: int, say: Say) -> Generator[Sample, None, None]:
        for run in range(1, runs + 1):
            with bench_lab(f"regions-{regions}-{run}", say, profile=profile, size=size) as bench:
                stages = bench.stages(say)
            yield {key: sum(seconds for name, seconds in stages.items() if name.endswith("_s"))} | stages

    return Experiment((key,), 1, hold, size)


def measure_database(profile: str, runs: int, say: Say) -> Generator[Sample, None, None]:
    """Bring labs up with their database, and wait until every member of it is Ready."""
    for run in range(1, runs + 1):
        name = f"bench-{os.getpid()}-database"
        say(f"run {run} of {runs}")
        began = time.perf_counter()
        try:
            timed([sys.executable, "-m", "provision", "up", f"lab:{profile}", "--name", name, "--database"])
            status = subprocess.check_output([sys.executable, "-m", "provision", "status", name, "--json"], cwd=ROOT)
            lab = json.loads(status)
            kubectl = [str(Path(sys.executable).with_name("kubectl")), f"--kubeconfig={lab['kubeconfig']}"]
            for region in lab["regions"]:
                where = [f"--context={region}", f"--namespace={region}"]
                timed([*kubectl, *where, "wait", "--for=condition=Ready", "pod/cockroachdb-0", "--timeout=120s"])
            yield {"database_up_s": time.perf_counter() - began}
        finally:
            for lab in state.all_labs():
                if lab.state.name == name:
                    state.remove(lab)


def measure_policies(profile: str, runs: int, say: Say) -> Generator[Sample, None, None]:
    """The analysis of a world of the profile's policy engine, each time anew; no lab is needed."""
    for run in range(1, runs + 1):
        say(f"run {run} of {runs}")
        yield {"policies_s": bench_policy.measure(Engine.CALICO if profile == AWS_CALICO else Engine.CILIUM)}


def suite_experiment(key: str, workers: str, *, usual: bool, disruption: bool = False) -> Experiment:
    """The suites as anybody runs them, a lab of their own included."""

    def hold(profile: str, runs: int, say: Say) -> Generator[Sample, None, None]:
        for run in range(1, runs + 1):
            say(f"run {run} of {runs}")
            with tempfile.TemporaryDirectory(prefix="meshproof-bench-") as reports:
                argv = [sys.executable, "-m", "pytest", "suites/", "-n", workers]
                those = [] if disruption else ["-m", "not disruptive"]
                yield {key: timed([*argv, *those, "--env", f"lab:{profile}", "--reports", reports])}

    return Experiment((key,), 2, hold, usual=usual)


EXPERIMENTS = (
    Experiment(("lab_up_s", "lab_down_s"), 5, measure_lab_life),
    Experiment(("lab_memory_mb", "probes_per_s"), 3, measure_probing),
    Experiment(("agent_vs_exec",), 2, measure_agent_vs_exec, usual=False),
    mesh_experiment("mesh_27_s", Size(3, 3, 3), runs=3),
    mesh_experiment("mesh_90_s", Size(3, 10, 3), runs=2),
    mesh_experiment("mesh_270_s", Size(3, 10, 9), runs=1),
    *(regions_experiment(number) for number in REGIONS),
    suite_experiment("suite_n0_s", "0", usual=False),
    suite_experiment("suite_auto_s", "auto", usual=True),
    Experiment(("database_up_s",), 3, measure_database),
    Experiment(("policies_s",), 3, measure_policies),
    suite_experiment("survival_s", "auto", usual=True, disruption=True),
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


def as_data(taken: Mapping[str, Taken], host: dict[str, Any], default: str = AWS_CALICO) -> dict[str, Any]:
    """What `bench.json` holds.

    The medians of the default profile's figures stand at the top, those of others below `profiles`; `growth` has an
    entry for each profile and size with the medians of its stages.
    """
    figures = {profile: _medians(one.figures) for profile, one in taken.items()}
    growth = {profile: [_point(size, one.growth[size]) for size in one.growth] for profile, one in taken.items()}
    return {
        **figures.pop(default, {}),
        "profiles": figures,
        "growth": {profile: points for profile, points in growth.items() if points},
        "machine": host,
    }


def _medians(samples: Samples) -> dict[str, float]:
    return {key: _rounded(median(values)) for key, values in samples.items()}


def _point(size: Size, samples: Samples) -> dict[str, float]:
    where = {"regions": size.regions, "nodes": size.regions * size.nodes, "pods": size.pods}
    return where | _medians(samples)


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
    return _aligned(rows)


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))
    cells = ((cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


def as_growth_table(growth: Mapping[Size, Samples]) -> str:
    """The stages by size, as aligned Markdown."""
    points = [_point(size, samples) for size, samples in growth.items()]
    names = list(dict.fromkeys(name for point in points for name in point))
    return _aligned([tuple(names), *(tuple(f"{point.get(name, '-'):,}" for name in names) for point in points)])


def as_markdown(taken: Mapping[str, Taken], host: dict[str, Any]) -> str:
    """What `bench.md` holds."""
    where = ", ".join(f"{name} {value}" for name, value in host.items())
    note = "Whole processes, medians. Budgets are aims, not assertions. How each is measured: docs/performance.md."
    parts = [f"# Speed and memory\n\nMachine: {where}.\n\n{note}\n"]
    for profile, one in taken.items():
        parts.append(f"\n## {profile}\n\n{as_table(one.figures)}")
        if one.growth:
            parts.append(f"\nStages by size (seconds, megabytes, counts):\n\n{as_growth_table(one.growth)}")
    return "".join(parts)


def _rounded(value: float) -> float:
    return round(value, 2) if value < 100 else round(value)


def _text(value: float, unit: str) -> str:
    return f"{_rounded(value):,} {unit}"


def take(experiments: Sequence[Experiment], profile: str, runs: int | None, console: Console) -> tuple[Taken, bool]:
    """Hold the experiments one after the other; what was taken, and whether all succeeded."""
    taken, complete = Taken(), True
    for experiment in experiments:
        title = f"{profile}: {', '.join(experiment.keys)}"
        samples: Samples = {}
        try:
            with console.status(title) as status:
                _hold(experiment, profile, runs or experiment.runs, samples, partial(_show, status, title))
        except (BenchError, ProbeError, ProvisionError) as problem:
            complete = False
            console.print(f"{title}: not measured: {problem}", markup=False, highlight=False, soft_wrap=True)
            continue
        figures = {key: samples.pop(key) for key in experiment.keys}
        taken.figures |= figures
        if experiment.size:
            taken.growth[experiment.size] = samples
        medians = (f"{key} {_text(median(values), FIGURES[key].unit)}" for key, values in figures.items())
        console.print(f"{profile}: {', '.join(medians)}", markup=False, highlight=False)
    return taken, complete


def _hold(experiment: Experiment, profile: str, runs: int, samples: Samples, say: Say) -> None:
    # Closed whatever happens, and with it the lab that it holds.
    with closing(experiment.hold(profile, runs, say)) as held:
        for sample in held:
            for key, value in sample.items():
                samples.setdefault(key, []).append(value)


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
    parser.add_argument("--runs", type=_runs, metavar="N", help="measure everything N times (default: 1 to 5 times)")
    parser.add_argument("--only", nargs="+", type=_figure, metavar="FIGURE", help="only these; see --list")
    parser.add_argument(
        "--profile",
        nargs="+",
        choices=TOPOLOGIES,
        default=list(TOPOLOGIES),
        metavar="PROFILE",
        help=f"which labs: {', '.join(TOPOLOGIES)} (default: all, with fewer figures of all but the first)",
    )
    parser.add_argument("--list", action="store_true", help="list the figures and stop")
    options = parser.parse_args(arguments)
    if options.list:
        for figure in FIGURES.values():
            print(f"{figure.key:16} {figure.what}")
        return 0
    # Ended from outside, take down what runs as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    console = Console(stderr=True)
    taken: dict[str, Taken] = {}
    complete = True
    try:
        for place, profile in enumerate(options.profile):
            taken[profile], succeeded = take(chosen(options.only, first=not place), profile, options.runs, console)
            complete = complete and succeeded
    except KeyboardInterrupt:
        return 130
    host = machine()
    (ROOT / "reports" / "bench.json").write_text(json.dumps(as_data(taken, host), indent=2) + "\n")
    report = as_markdown(taken, host)
    (ROOT / "reports" / "bench.md").write_text(report)
    print(report, end="")
    return 0 if complete else 1


def chosen(only: Sequence[str] | None, *, first: bool) -> list[Experiment]:
    """The experiments that give these figures, or all of them that are usual in a profile that is not the first."""
    if only:
        return [experiment for experiment in EXPERIMENTS if set(experiment.keys) & set(only)]
    return [experiment for experiment in EXPERIMENTS if first or experiment.usual]


if __name__ == "__main__":
    sys.exit(main())
