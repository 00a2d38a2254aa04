"""Prove that every check can fail: plant each fault of the catalogue in a lab, run the suites, and compare.

A fault counts as killed when its requirement is found violated. Every other requirement that turns, and does not
follow from the first, is a false alarm. The result goes to `reports/proof.json` and `reports/proof.md`; what was seen
of a trial that surprised is kept in `reports/proof/PROFILE/FAULT/`.

    python tools/prove.py [--profile NAME ...] [--fault NAME ...] [--sample N] [--labs N] [--narrow] [--reports DIR]
                          [--resume [--any-code]]

Both files are written after each trial. `--resume` goes on with a proof that was broken off: it tries what has no clean
result with the code that is there now. Nothing is tried again otherwise, and whatever is says how it went before.

The first line of the diagnosis should name the layer that the fault sits in; the table says where it does not.

Exit code: 0 when all faults were killed without a false alarm, and the diagnosis named the right layer of at least 95 %
of them; 1 otherwise, 4 for a mistake in the arguments, 130 when it was broken off.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar
from zlib import crc32

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
from tools.calm import left_out  # noqa: E402
from tools.proof import Catalogues, Kind, Past, Record, Trial, read, revision_of  # noqa: E402
from tools.suite_server import SuiteServer, SuitesTimeoutError  # noqa: E402

LAB_PREFIX = "prove-"
LABS = 3
CONFIRM_WITHIN = timedelta(seconds=20)
HEAL_WITHIN = timedelta(seconds=60)
DATABASE_WITHIN = timedelta(seconds=120)
"""How long the database may take until it is whole: at the lab's start, and after a fault."""
REPORTS = ROOT / "reports"
EVIDENCE = "proof"
"""Folder for what is kept of runs that did not go as foreseen: a folder for each."""

LAYERS_RIGHT = 0.95
"""The share of faults whose layer the diagnosis has to name."""

OUTAGES = "DB-SURV"
"""The area whose requirements are seen in outages."""

POLICY = "NET-POL"
"""The area whose checks cost as much as all others: pods that wear roles' labels come and go for them."""

EVERY = 5
"""One in so many faults of other areas is tried against the checks of policy, too."""

UNREAD = ("--alluredir=", "--junitxml=")
"""Switches off the reports that nobody reads of a trial."""

SUITE_TIMEOUT = timedelta(minutes=5)
NO_SAY = {Outcome.NOT_APPLICABLE.value, Outcome.NOT_COVERED.value}
HARMLESS = NO_SAY | {Outcome.MET.value}

K = TypeVar("K", bound=Hashable)


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

    @property
    def unlooked(self) -> tuple[str, ...]:
        """The requirements that the run had no verdict on, or left some checks of out."""
        silent = {row["id"] for row in self.rows if row["verdict"] in NO_SAY}
        return tuple(sorted(silent | left_out(self.folder) - set(self.turned)))

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
        arguments = ["suites/", "-q", "-p", "no:cacheprovider", "--tb=no", "-n", "0", *UNREAD]
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
            narrow=self._narrow,
            unlooked=run.unlooked if run else (),
        )
        if run and not (trial.flawless and trial.layer_right):
            self._keep(run, fault.name, trial.unexpected or [fault.requirement])
        return trial

    def _selection(self, fault: Fault) -> tuple[str, ...]:
        """Which checks a fault is tried against: all that disturb nothing, and those of what it breaks.

        A round of outages takes longer than all else: it is made for faults that nothing but an outage shows, and then
        only those outages that show it. Ports are tried by chance where policy is what is broken; elsewhere policy is
        looked at in a sample of the trials, the same in every proof.
        """
        of_policy = fault.requirement.startswith(POLICY)
        ports = () if of_policy else ("--policy-sweep", "none")
        if self._narrow or fault.requirement.startswith(OUTAGES):
            return ("--requirement", fault.requirement, *ports)
        looks = of_policy or crc32(fault.name.encode()) % EVERY == 0
        without = () if looks else ("--without", POLICY)
        return ("-p", "tools.calm", "--disruptive-of", fault.requirement, *ports, *without)

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


def prove(catalogues: Catalogues, labs: int, reports: Path, record: Record, *, narrow: bool = False) -> None:
    """Try every fault without a flawless trial on record, in `labs` labs side by side.

    A lab that could not be healed is replaced by a fresh one. With `narrow`, only the checks of the requirement that a
    fault breaks are run: it is seen to be killed, and nothing is learnt of false alarms, of unharmed labs and of what
    no fault breaks.
    """
    by_kind: dict[Kind, list[Fault]] = {}
    for profile, faults in catalogues.items():
        for fault in faults:
            if not record.clean(profile, fault):
                by_kind.setdefault((profile, fault.database), []).append(fault)
    backlog = Backlog(by_kind)
    total = sum(map(len, by_kind.values()))
    count = itertools.count(1)
    for leftover in state.all_labs():  # of a proof that was killed: they ended with it, their folders did not
        if leftover.state.name.startswith(LAB_PREFIX) and not leftover.state.process.alive:
            state.remove(leftover)
    evidence = reports / EVIDENCE
    with tempfile.TemporaryDirectory(prefix="meshproof-prove-", ignore_cleanup_errors=True) as scratch:

        def work(number: int) -> None:
            while task := backlog.join():
                kind, first = task
                try:
                    with TrialLab(kind, number, Path(scratch), evidence, narrow=narrow) as lab:
                        if first and not narrow and not record.knows_unharmed(kind):
                            record.add_unharmed(kind, lab.unharmed())
                        while fault := backlog.take(kind):
                            trial = lab.try_out(fault)
                            record.add(trial)
                            _announce(trial, next(count), total)
                            if trial.error:
                                break
                except Exception as problem:  # whatever it is, the other labs go on and the proof says so
                    print(f"{kind[0]}: {type(problem).__name__}: {problem}", file=sys.stderr, flush=True)
                    backlog.give_up(kind)

        # Daemons, so that nobody who breaks the proof off waits for a trial to end.
        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(min(labs, total))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _announce(trial: Trial, count: int, total: int) -> None:
    state = "killed" if trial.killed else "SURVIVED"
    notes = [f"false alarms: {', '.join(trial.unexpected)}"] if trial.unexpected else []
    if trial.killed and not trial.layer_right:
        notes.append(f"the diagnosis names {trial.layer_named or 'no layer'}, not {trial.fault.layer.value}")
    notes += [trial.error] if trial.error else []
    print(f"[{count}/{total}] {trial.fault.name}: {state} in {trial.seconds:.1f} s {'; '.join(notes)}", flush=True)


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
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the proof in --reports: try what has no clean result with the code that is there now",
    )
    parser.add_argument("--any-code", action="store_true", help="with --resume: results of other code count as well")
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
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # labs end in good order, also when run in the background
    options.reports.mkdir(parents=True, exist_ok=True)
    try:
        record = _record(catalogues, options)
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 4
    try:
        prove(catalogues, max(1, options.labs), options.reports, record, narrow=options.narrow)
    except KeyboardInterrupt:
        print(
            f"broken off; the labs end with this process. {options.reports / 'proof.md'} has the trials so far, and "
            "--resume goes on with the others",
            file=sys.stderr,
        )
        return 130
    record.write()
    trials, data = record.trials, record.data
    flawless = all(trial.flawless for trial in trials)
    print(
        f"{len(trials)} faults, kill rate {data['kill_rate']:.0%}, {data['false_alarms']} false alarms, "
        f"the right layer named for {data['layers_right']:.0%}, {data['seconds']} s: {options.reports / 'proof.md'}"
    )
    # A single violation says little of where the trouble sits.
    diagnosed = options.narrow or data["layers_right"] >= LAYERS_RIGHT
    return 0 if flawless and diagnosed else 1


def _record(catalogues: Catalogues, options: argparse.Namespace) -> Record:
    """An empty record, or that of the proof which is gone on with. Raises ValueError when there is none to be read."""
    revision, past = revision_of(), Past()
    if options.resume:
        everything = {profile: catalogue() for profile, catalogue in CATALOGUES.items()}
        past = read(options.reports, everything, None if options.any_code else revision.code, narrow=options.narrow)
        chosen = {(profile, fault.name) for profile, faults in catalogues.items() for fault in faults}
        known = chosen | past.trials.keys()  # what is not asked for now stays in the proof
        catalogues = {
            profile: [fault for fault in faults if (profile, fault.name) in known]
            for profile, faults in everything.items()
        }
    else:
        shutil.rmtree(options.reports / EVIDENCE, ignore_errors=True)
    record = Record(options.reports, catalogues, revision, past)
    record.write()
    return record


if __name__ == "__main__":
    sys.exit(main())
