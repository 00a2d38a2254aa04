"""Prove that every check can fail: plant each fault of the catalogue in a lab, run the suites, and compare.

A fault counts as killed when its requirement is found violated. Every other requirement that turns, and does not
follow from the first, is a false alarm. The result goes to `reports/proof.json` and `reports/proof.md`; what was seen
of a trial that surprised is kept in `reports/proof/PROFILE/FAULT/`.

    python tools/prove.py [--profile NAME ...] [--fault NAME ...] [--sample N] [--labs N] [--narrow] [--reports DIR]

The first line of the diagnosis should name the layer that the fault sits in; the table says where it does not.

Exit code: 0 when all faults were killed without a false alarm, and the diagnosis named the right layer of at least 95 %
of them; 1 otherwise, 4 for a mistake in the arguments, 130 when it was broken off.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from analysis.verdict import Outcome  # noqa: E402 - the path must be set first
from provision.faults import Fault, FaultError, Planted  # noqa: E402
from provision.lab import launcher, state  # noqa: E402
from provision.lab.control import LabControl, wait_for  # noqa: E402
from provision.lab.database.condition import missing_of_database  # noqa: E402
from provision.lab.faults import CATALOGUES  # noqa: E402
from provision.lab.stages import Stage  # noqa: E402
from provision.lab.topology import TOPOLOGIES  # noqa: E402
from provision.provider import NoProgress  # noqa: E402
from tools.suite_server import SuiteServer, SuitesTimeoutError  # noqa: E402

LAB_PREFIX = "prove-"
LABS = 3
CONFIRM_WITHIN = timedelta(seconds=20)
HEAL_WITHIN = timedelta(seconds=30)
DATABASE_WITHIN = timedelta(seconds=120)
"""How long the database may take until it is whole: at the lab's start, and after a fault."""
REPORTS = ROOT / "reports"
EVIDENCE = "proof"
"""Folder for what is kept of runs that did not go as foreseen: a folder for each."""

LAYERS_RIGHT = 0.95
"""The share of faults whose layer the diagnosis has to name."""

OUTAGES = "DB-SURV"
"""The area whose requirements are seen in outages."""

SUITE_TIMEOUT = timedelta(minutes=5)
HARMLESS = {Outcome.MET.value, Outcome.NOT_APPLICABLE.value, Outcome.NOT_COVERED.value}


Kind: TypeAlias = tuple[str, bool]
"""Of a lab: its profile, and whether its database runs."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Trial:
    """What came of one fault.

    Attributes:
        killed: its requirement was found violated.
        verdicts: every requirement that was neither met nor without a say, with its verdict.
        unexpected: those of them that the fault does not explain.
        layer_named: the layer that the report gave as root cause, None when it gave none.
        cpu: processor time of the run of the suites, in seconds; what the lab took for it is not in it.
        error: why the trial could not be held, "" when it was.
    """

    fault: Fault
    profile: str
    killed: bool = False
    verdicts: dict[str, str] = field(default_factory=dict)
    unexpected: tuple[str, ...] = ()
    layer_named: str | None = None
    seconds: float = 0.0
    cpu: float = 0.0
    error: str = ""

    @property
    def flawless(self) -> bool:
        """Killed, nothing else turned, and the trial itself went well."""
        return self.killed and not self.unexpected and not self.error

    @property
    def layer_right(self) -> bool:
        """The diagnosis named the layer that the fault sits in."""
        return self.layer_named == self.fault.layer.value


@dataclass(frozen=True)
class SuiteRun:
    """One run of the suites: its folder and its compliance report."""

    folder: Path
    report: dict[str, Any]
    cpu: float = 0.0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What it says of each requirement."""
        rows: list[dict[str, Any]] = self.report["requirements"]
        return rows

    @property
    def turned(self) -> dict[str, str]:
        """The requirements that are neither met nor without a say, with their verdicts."""
        return {row["id"]: row["verdict"] for row in self.rows if row["verdict"] not in HARMLESS}

    def told(self, requirements: Iterable[str]) -> str:
        """The verdicts on these requirements, in the words of the run."""
        wanted = set(requirements)
        return "\n".join(f"{row['id']} {row['verdict']}\n{row['reason']}\n" for row in self.rows if row["id"] in wanted)


class TrialLab:
    """One lab that faults are tried in, one after the other."""

    def __init__(self, kind: Kind, number: int, scratch: Path, evidence: Path, *, narrow: bool = False) -> None:
        self.profile, self._database = kind
        self.name = f"{LAB_PREFIX}{os.getpid()}-{number}"
        self._reports = scratch / self.name
        self._evidence = evidence
        self._narrow = narrow
        self._server: SuiteServer | None = None
        self._control: LabControl | None = None
        self._lab: state.Lab | None = None

    def __enter__(self) -> TrialLab:
        # Launched here and not by the command line, so that the lab ends with this process, however that ends.
        self._reports.mkdir(parents=True, exist_ok=True)
        self._server = SuiteServer(self._reports)
        folder = state.claim(self.name)
        topology = TOPOLOGIES[self.profile](self.name, database=self._database)
        self._lab = launcher.launch(topology, folder, progress=NoProgress())
        launcher.await_stage(self._lab, Stage.READY, progress=NoProgress())
        self._control = LabControl(self.name)
        self._await_database()
        return self

    def __exit__(self, *exc: object) -> None:
        self._control = None
        if self._server is not None:
            self._server.close()
        if self._lab is not None:
            state.remove(self._lab)

    @property
    def control(self) -> LabControl:
        """Power over the lab that is up."""
        if self._control is None:
            raise FaultError(f"{self.name} is not up")
        return self._control

    def _await_database(self) -> None:
        """Return once the database is whole, where there is one. Raises FaultError when it is not in time."""
        if self._database:
            wait_for(lambda: not missing_of_database(self.control), DATABASE_WITHIN, "the database to be whole")

    def suites(self, *selection: str) -> SuiteRun:
        """Run every suite on the lab, or those checks that pytest's further arguments select.

        Raises:
            FaultError: the run ended without a report.
        """
        assert self._server is not None
        arguments = ["suites/", "-q", "-p", "no:cacheprovider", "--tb=no", "-n", "0"]
        arguments += ["--env", str(self.control.folder.environment), "--reports", str(self._reports), *selection]
        try:
            run = self._server.pytest(arguments, SUITE_TIMEOUT)
        except SuitesTimeoutError as error:
            raise FaultError(f"{error} within {SUITE_TIMEOUT}") from error
        latest = self._reports / "latest"
        if not (latest / "compliance.json").exists() or run.code not in (0, 1, 11):
            raise FaultError(f"the suites ended with {run.code}: {run.output[-2000:]}")
        folder = latest.resolve()
        latest.unlink()
        return SuiteRun(folder, json.loads((folder / "compliance.json").read_text()), run.cpu)

    def unharmed(self) -> set[str]:
        """The requirements that the suites check on the lab as it is.

        Raises:
            FaultError: they found something wrong with it.
        """
        run = self.suites()
        if run.turned:
            kept = self._keep(run, "unharmed", run.turned)
            raise FaultError(f"the unharmed lab {self.profile} is not fully met: {run.turned}; see {kept}")
        return {row["id"] for row in run.rows if row["tests"] and row["verdict"] == Outcome.MET.value}

    def try_out(self, fault: Fault) -> Trial:
        """Plant the fault, run the suites, heal, and wait until the lab is as before."""
        began = time.monotonic()
        planted = Planted(fault, self.control)
        error, run = "", None
        try:
            planted.apply()
            wait_for(lambda: fault.confirm(self.control), CONFIRM_WITHIN, f"{fault.name} to take effect")
            run = self.suites(*self._selection(fault))
        except FaultError as problem:
            error = str(problem)
        try:
            planted.heal()
            self.control.wait_healthy(HEAL_WITHIN)
            self._await_database()
        except FaultError as problem:
            error = f"{error}; {problem}" if error else str(problem)
        turned = run.turned if run else {}
        trial = Trial(
            fault,
            self.profile,
            killed=turned.get(fault.requirement) == Outcome.VIOLATED.value,
            verdicts=turned,
            unexpected=tuple(sorted(set(turned) - {fault.requirement} - fault.follows)),
            layer_named=(run.report["root_cause"] or {}).get("layer") if run else None,
            seconds=time.monotonic() - began,
            cpu=run.cpu if run else 0.0,
            error=error,
        )
        if run and not (trial.flawless and trial.layer_right):
            self._keep(run, fault.name, trial.unexpected or [fault.requirement])
        return trial

    def _selection(self, fault: Fault) -> tuple[str, ...]:
        """Which checks a fault is tried against; by default all.

        A round of outages takes longer than all else: it is made for faults that nothing but an outage shows, and then
        only those outages that show it.
        """
        if self._narrow or (fault.database and fault.requirement.startswith(OUTAGES)):
            return ("--requirement", fault.requirement)
        return ("-m", "not disruptive") if fault.database else ()

    def _keep(self, run: SuiteRun, name: str, requirements: Iterable[str]) -> Path:
        """Keep what a run that surprised us has seen, and the lab's logs: it may never come again."""
        kept = self._evidence / self.profile / name
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(run.folder, kept, ignore=shutil.ignore_patterns("fleet.json", "environment", ".*"))
        shutil.copytree(self.control.folder.logs, kept / "lab-logs")
        (kept / "surprises.txt").write_text(run.told(requirements))
        return kept


class Backlog(Generic[K]):
    """The faults that wait for a lab, by its kind. Labs go where the most are waiting for each of them."""

    def __init__(self, catalogues: Mapping[K, Sequence[Fault]]) -> None:
        self._waiting = {kind: deque(faults) for kind, faults in catalogues.items()}
        self._labs = dict.fromkeys(catalogues, 0)
        self._lock = threading.Lock()

    def join(self) -> tuple[K, bool] | None:
        """A kind that needs one more lab, and whether it is the first that it gets; None when nothing waits."""
        with self._lock:
            waiting = [kind for kind, faults in self._waiting.items() if faults]
            if not waiting:
                return None
            kind = max(waiting, key=lambda name: len(self._waiting[name]) / (1 + self._labs[name]))
            self._labs[kind] += 1
            return kind, self._labs[kind] == 1

    def take(self, kind: K) -> Fault | None:
        """The next fault of that kind, None when there is none left."""
        with self._lock:
            return self._waiting[kind].popleft() if self._waiting[kind] else None

    def give_up(self, kind: K) -> None:
        """Try nothing more on that kind."""
        with self._lock:
            self._waiting[kind].clear()


def prove(
    catalogues: Mapping[str, Sequence[Fault]], labs: int, reports: Path = REPORTS, *, narrow: bool = False
) -> tuple[list[Trial], dict[str, set[str]]]:
    """Try every fault, in `labs` labs side by side. A lab that could not be healed is replaced by a fresh one.

    With `narrow`, only the checks of the requirement that a fault breaks are run: it is seen to be killed, and nothing
    is learnt of false alarms, of unharmed labs and of what no fault breaks.

    Returns:
        what came of each fault, and by profile the requirements that are checked on an unharmed lab.
    """
    by_kind: dict[Kind, list[Fault]] = {}
    for profile, faults in catalogues.items():
        for fault in faults:
            by_kind.setdefault((profile, fault.database), []).append(fault)
    backlog = Backlog(by_kind)
    total = sum(map(len, catalogues.values()))
    trials: list[Trial] = []
    checked: dict[str, set[str]] = {profile: set() for profile in catalogues}
    for leftover in state.all_labs():  # of a proof that was killed: they ended with it, their folders did not
        if leftover.state.name.startswith(LAB_PREFIX) and not leftover.state.process.alive:
            state.remove(leftover)
    evidence = reports / EVIDENCE
    shutil.rmtree(evidence, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="meshproof-prove-", ignore_cleanup_errors=True) as scratch:

        def work(number: int) -> None:
            while task := backlog.join():
                kind, first = task
                profile = kind[0]
                try:
                    with TrialLab(kind, number, Path(scratch), evidence, narrow=narrow) as lab:
                        if first and not narrow:
                            checked[profile] |= lab.unharmed()
                        while fault := backlog.take(kind):
                            trial = lab.try_out(fault)
                            trials.append(trial)
                            _announce(trial, len(trials), total)
                            if trial.error:
                                break
                except Exception as problem:  # whatever it is, the other labs go on and the proof says so
                    print(f"{profile}: {type(problem).__name__}: {problem}", file=sys.stderr, flush=True)
                    backlog.give_up(kind)

        # Daemons, so that nobody who breaks the proof off waits for a trial to end.
        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(min(labs, total))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    done = {(trial.profile, trial.fault.name): trial for trial in trials}
    missing = "not tried: its lab did not stand, or found itself in disorder"
    return [
        done.get((profile, fault.name), Trial(fault, profile, error=missing))
        for profile, faults in catalogues.items()
        for fault in faults
    ], checked


def _announce(trial: Trial, count: int, total: int) -> None:
    state = "killed" if trial.killed else "SURVIVED"
    notes = [f"false alarms: {', '.join(trial.unexpected)}"] if trial.unexpected else []
    if trial.killed and not trial.layer_right:
        notes.append(f"the diagnosis names {trial.layer_named or 'no layer'}, not {trial.fault.layer.value}")
    notes += [trial.error] if trial.error else []
    print(f"[{count}/{total}] {trial.fault.name}: {state} in {trial.seconds:.1f} s {'; '.join(notes)}", flush=True)


def as_data(trials: Sequence[Trial], checked: Mapping[str, Iterable[str]], seconds: float) -> dict[str, Any]:
    """The proof as `proof.json` holds it.

    `uncovered` are the requirements that a profile checks and that no fault turned red there.
    """
    profiles = {}
    for profile, requirements in checked.items():
        held = [trial for trial in trials if trial.profile == profile]
        killed = {trial.fault.requirement for trial in held if trial.killed}
        profiles[profile] = {**_figures(held), "uncovered": sorted(set(requirements) - killed)}
    return {
        "faults": [
            {
                "name": trial.fault.name,
                "profile": trial.profile,
                "requirement": trial.fault.requirement,
                "killed": trial.killed,
                "expected": sorted({trial.fault.requirement} | trial.fault.follows),
                "turned": trial.verdicts,
                "unexpected": list(trial.unexpected),
                "layer": trial.fault.layer.value,
                "layer_named": trial.layer_named,
                "seconds": round(trial.seconds, 2),
                "cpu_seconds": round(trial.cpu, 2),
                "error": trial.error,
            }
            for trial in trials
        ],
        **_figures(trials),
        "uncovered": sorted({requirement for each in profiles.values() for requirement in each["uncovered"]}),
        "profiles": profiles,
        "seconds": round(seconds, 1),
    }


def _figures(trials: Sequence[Trial]) -> dict[str, Any]:
    return {
        "kill_rate": sum(trial.killed for trial in trials) / len(trials) if trials else 0.0,
        "false_alarms": sum(len(trial.unexpected) for trial in trials),
        "layers_right": sum(trial.layer_right for trial in trials) / len(trials) if trials else 0.0,
    }


def as_markdown(trials: Sequence[Trial], data: dict[str, Any]) -> str:
    """The proof for people: the figures, and for each profile the faults and the table of faults by requirements."""
    lines = [
        "# Proof that the checks can fail",
        "",
        f"{len(trials)} faults were planted, {sum(t.killed for t in trials)} killed "
        f"(kill rate {data['kill_rate']:.0%}), {data['false_alarms']} false alarms, in {data['seconds']} s.",
        "",
        f"The diagnosis names the layer of {sum(t.layer_right for t in trials)} of {len(trials)} faults "
        f"({data['layers_right']:.0%}).",
        "",
        "A fault is killed when the requirement it breaks is found violated. Requirements that follow from it may turn",
        "as well; any other that turns is a false alarm.",
    ]
    for profile, figures in data["profiles"].items():
        lines += ["", f"## {profile}", "", *_profile([t for t in trials if t.profile == profile], figures)]
    return "\n".join(lines) + "\n"


def _profile(trials: Sequence[Trial], figures: dict[str, Any]) -> Iterator[str]:
    yield "| fault | what is broken | requirement | killed | layer | named | follows | false alarms | s |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for trial in trials:
        follows = ", ".join(r for r in trial.verdicts if r != trial.fault.requirement and r not in trial.unexpected)
        alarms = ", ".join(trial.unexpected) or "none"
        yield (
            f"| {trial.fault.name} | {trial.fault.summary} | {trial.fault.requirement} | "
            f"{'yes' if trial.killed else 'NO'} | {trial.fault.layer.value} | "
            f"{'the same' if trial.layer_right else (trial.layer_named or 'none').upper()} | "
            f"{follows or '-'} | {alarms} | {trial.seconds:.1f} |"
        )
    turned = sorted({requirement for trial in trials for requirement in trial.verdicts})
    yield from ("", "Faults by requirements: V violated, i inconclusive, blank as planned.", "")
    yield "| fault | " + " | ".join(turned) + " |"
    yield "| --- |" + " --- |" * len(turned)
    letters = {Outcome.VIOLATED.value: "V", Outcome.INCONCLUSIVE.value: "i"}
    for trial in trials:
        cells = (letters.get(trial.verdicts.get(requirement, ""), " ") for requirement in turned)
        yield f"| {trial.fault.name} | " + " | ".join(cells) + " |"
    if figures["uncovered"]:
        yield from ("", "Checked, and not turned red by any fault: " + ", ".join(figures["uncovered"]))
    problems = [f"- {trial.fault.name}: {trial.error}" for trial in trials if trial.error]
    if problems:
        yield from ("", "Trials that could not be held:", "", *problems)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, hold the trials, write the proof."""
    parser = argparse.ArgumentParser(prog="prove", description="Plant every fault in a lab and see it found.")
    parser.add_argument(
        "--profile", action="append", choices=sorted(CATALOGUES), help="only this one; repeatable (default: all)"
    )
    parser.add_argument("--fault", action="append", metavar="NAME", help="only this one; repeatable")
    parser.add_argument("--sample", type=int, metavar="N", help="only N faults, spread over the catalogues")
    parser.add_argument(
        "--narrow", action="store_true", help="run only the checks of what each fault breaks: a quick look"
    )
    parser.add_argument("--labs", type=int, default=LABS, metavar="N", help=f"labs side by side (default {LABS})")
    parser.add_argument(
        "--reports", type=Path, default=REPORTS, metavar="DIR", help="where to write (default reports/)"
    )
    parser.add_argument("--list", action="store_true", help="list the faults and stop")
    options = parser.parse_args(arguments)
    chosen = [(profile, fault) for profile in options.profile or CATALOGUES for fault in CATALOGUES[profile]()]
    if options.fault:
        if unknown := sorted(set(options.fault) - {fault.name for _, fault in chosen}):
            print(f"no fault {', '.join(unknown)}; `--list` shows those there are", file=sys.stderr)
            return 4
        chosen = [(profile, fault) for profile, fault in chosen if fault.name in options.fault]
    if options.sample and options.sample < len(chosen):
        chosen = [chosen[i * len(chosen) // options.sample] for i in range(options.sample)]
    if options.list:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads may have read enough
        for profile, fault in chosen:
            print(f"{profile:13} {fault.name:32} {fault.requirement:15} {fault.summary}")
        return 0
    catalogues: dict[str, list[Fault]] = {}
    for profile, fault in chosen:
        catalogues.setdefault(profile, []).append(fault)
    began = time.monotonic()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # labs end in good order, also when run in the background
    try:
        options.reports.mkdir(parents=True, exist_ok=True)
        trials, checked = prove(catalogues, max(1, options.labs), options.reports, narrow=options.narrow)
    except KeyboardInterrupt:
        print("broken off; the labs end with this process, and nothing was written", file=sys.stderr)
        return 130
    data = as_data(trials, checked, time.monotonic() - began)
    (options.reports / "proof.json").write_text(json.dumps(data, indent=2) + "\n")
    (options.reports / "proof.md").write_text(as_markdown(trials, data))
    flawless = all(trial.flawless for trial in trials)
    print(
        f"{len(trials)} faults, kill rate {data['kill_rate']:.0%}, {data['false_alarms']} false alarms, "
        f"the right layer named for {data['layers_right']:.0%}, {data['seconds']} s: {options.reports / 'proof.md'}"
    )
    # A single violation says little of where the trouble sits.
    diagnosed = options.narrow or data["layers_right"] >= LAYERS_RIGHT
    return 0 if flawless and diagnosed else 1


if __name__ == "__main__":
    sys.exit(main())
