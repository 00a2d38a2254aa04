"""Prove that every check can fail: plant each fault of the catalogue in a lab, run the suites, and compare.

A fault counts as killed when its requirement is found violated. Every other requirement that turns, and does not
follow from the first, is a false alarm. The result goes to `reports/proof.json` and `reports/proof.md`.

    python tools/prove.py [--profile aws-calico] [--fault NAME ...] [--sample N] [--labs N]

Exit code: 0 when all faults were killed without a false alarm, 1 otherwise, 4 for a mistake in the arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from analysis.verdict import Outcome  # noqa: E402 - the path must be set first
from provision.faults import Fault, FaultError, Planted  # noqa: E402
from provision.lab import launcher, state  # noqa: E402
from provision.lab.control import LabControl, wait_for  # noqa: E402
from provision.lab.faults import CATALOGUES  # noqa: E402
from provision.lab.stages import Stage  # noqa: E402
from provision.lab.topology import aws_calico  # noqa: E402
from provision.provider import NoProgress  # noqa: E402

LAB_PREFIX = "prove-"
CONFIRM_WITHIN = timedelta(seconds=20)
HEAL_WITHIN = timedelta(seconds=30)
SUITE_TIMEOUT = timedelta(minutes=5)
HARMLESS = {Outcome.MET.value, Outcome.NOT_APPLICABLE.value, Outcome.NOT_COVERED.value}


@dataclass(frozen=True)
class Trial:
    """What came of one fault.

    Attributes:
        killed: its requirement was found violated.
        verdicts: every requirement that was neither met nor without a say, with its verdict.
        unexpected: those of them that the fault does not explain.
        layer_named: the layer that the report gave as root cause, None when it gave none.
        error: why the trial could not be held, "" when it was.
    """

    fault: Fault
    profile: str
    killed: bool = False
    verdicts: dict[str, str] = field(default_factory=dict)
    unexpected: tuple[str, ...] = ()
    layer_named: str | None = None
    seconds: float = 0.0
    error: str = ""

    @property
    def flawless(self) -> bool:
        """Killed, nothing else turned, and the trial itself went well."""
        return self.killed and not self.unexpected and not self.error


class TrialLab:
    """One lab that faults are tried in, one after the other."""

    def __init__(self, profile: str, number: int, scratch: Path) -> None:
        self.profile = profile
        self.name = f"{LAB_PREFIX}{os.getpid()}-{number}"
        self._reports = scratch / self.name
        self._control: LabControl | None = None
        self._lab: state.Lab | None = None

    def __enter__(self) -> TrialLab:
        # Launched here and not by the command line, so that the lab ends with this process, however that ends.
        folder = state.claim(self.name)
        self._lab = launcher.launch(aws_calico(self.name), folder, progress=NoProgress())
        launcher.await_stage(self._lab, Stage.READY, progress=NoProgress())
        self._control = LabControl(self.name)
        return self

    def __exit__(self, *exc: object) -> None:
        self._control = None
        if self._lab is not None:
            state.remove(self._lab)

    @property
    def control(self) -> LabControl:
        """Power over the lab that is up."""
        if self._control is None:
            raise FaultError(f"{self.name} is not up")
        return self._control

    def suites(self) -> dict[str, Any]:
        """Run every suite on the lab and return its compliance report.

        Raises:
            FaultError: the run ended without a report.
        """
        self._reports.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pytest", "suites/", "-q", "-p", "no:cacheprovider", "--tb=no", "-n", "0"]
        command += ["--env", str(self.control.folder.environment), "--reports", str(self._reports)]
        run = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=SUITE_TIMEOUT.total_seconds(),
            stdin=subprocess.DEVNULL,
            check=False,
        )
        report = self._reports / "latest" / "compliance.json"
        if not report.exists() or run.returncode not in (0, 1, 11):
            raise FaultError(f"the suites ended with {run.returncode}: {(run.stdout + run.stderr)[-2000:]}")
        loaded: dict[str, Any] = json.loads(report.read_text())
        (self._reports / "latest").unlink()
        return loaded

    def unharmed(self) -> set[str]:
        """The requirements that the suites check on the lab as it is.

        Raises:
            FaultError: they found something wrong with it.
        """
        report = self.suites()
        if turned := _turned(report):
            raise FaultError(f"the unharmed lab is not fully met: {turned}")
        return {row["id"] for row in report["requirements"] if row["tests"] and row["verdict"] == Outcome.MET.value}

    def try_out(self, fault: Fault) -> Trial:
        """Plant the fault, run the suites, heal, and wait until the lab is as before."""
        began = time.monotonic()
        planted = Planted(fault, self.control)
        error, report = "", {}
        try:
            planted.apply()
            wait_for(lambda: fault.confirm(self.control), CONFIRM_WITHIN, f"{fault.name} to take effect")
            report = self.suites()
        except (FaultError, subprocess.TimeoutExpired) as problem:
            error = str(problem)
        try:
            planted.heal()
            self.control.wait_healthy(HEAL_WITHIN)
        except FaultError as problem:
            error = f"{error}; {problem}" if error else str(problem)
        turned = _turned(report)
        expected = {fault.requirement} | fault.follows
        return Trial(
            fault,
            self.profile,
            killed=turned.get(fault.requirement) == Outcome.VIOLATED.value,
            verdicts=turned,
            unexpected=tuple(sorted(set(turned) - expected)),
            layer_named=(report.get("root_cause") or {}).get("layer"),
            seconds=time.monotonic() - began,
            error=error,
        )


def prove(profile: str, faults: Sequence[Fault], labs: int) -> tuple[list[Trial], set[str]]:
    """Try every fault, in `labs` labs side by side. A lab that could not be healed is replaced by a fresh one.

    Returns:
        what came of each fault, and the requirements that are checked on an unharmed lab.
    """
    waiting: queue.SimpleQueue[Fault] = queue.SimpleQueue()
    for fault in faults:
        waiting.put(fault)
    trials: list[Trial] = []
    checked: set[str] = set()
    troubles: list[str] = []
    for leftover in state.all_labs():  # of a proof that was killed: they ended with it, their folders did not
        if leftover.state.name.startswith(LAB_PREFIX) and not leftover.state.process.alive:
            state.remove(leftover)
    with tempfile.TemporaryDirectory(prefix="meshproof-prove-") as scratch:

        def work(number: int) -> None:
            while not waiting.empty():
                try:
                    with TrialLab(profile, number, Path(scratch)) as lab:
                        checked.update(lab.unharmed())
                        while trial := _next(waiting, lab):
                            trials.append(trial)
                            _announce(trial, len(trials), len(faults))
                            if trial.error:
                                break
                except Exception as problem:  # whatever it is, the other labs go on and the proof says so
                    troubles.append(f"{type(problem).__name__}: {problem}")
                    return

        threads = [threading.Thread(target=work, args=(number,)) for number in range(labs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for trouble in troubles:
        print(trouble, file=sys.stderr)
    tried = {trial.fault.name for trial in trials}
    trials += [Trial(fault, profile, error="not tried: no lab was left") for fault in faults if fault.name not in tried]
    order = {fault.name: place for place, fault in enumerate(faults)}
    return sorted(trials, key=lambda trial: order[trial.fault.name]), checked


def _next(waiting: queue.SimpleQueue[Fault], lab: TrialLab) -> Trial | None:
    try:
        return lab.try_out(waiting.get_nowait())
    except queue.Empty:
        return None


def _turned(report: dict[str, Any]) -> dict[str, str]:
    rows = report.get("requirements", ())
    return {row["id"]: row["verdict"] for row in rows if row["verdict"] not in HARMLESS}


def _announce(trial: Trial, count: int, total: int) -> None:
    state = "killed" if trial.killed else "SURVIVED"
    notes = [f"false alarms: {', '.join(trial.unexpected)}"] if trial.unexpected else []
    notes += [trial.error] if trial.error else []
    print(f"[{count}/{total}] {trial.fault.name}: {state} in {trial.seconds:.1f} s {'; '.join(notes)}", flush=True)


def as_data(trials: Sequence[Trial], checked: Iterable[str], seconds: float) -> dict[str, Any]:
    """The proof as `proof.json` holds it; `uncovered` are the checked requirements that no fault turned red."""
    killed = {trial.fault.requirement for trial in trials if trial.killed}
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
                "error": trial.error,
            }
            for trial in trials
        ],
        "kill_rate": sum(trial.killed for trial in trials) / len(trials) if trials else 0.0,
        "false_alarms": sum(len(trial.unexpected) for trial in trials),
        "uncovered": sorted(set(checked) - killed),
        "seconds": round(seconds, 1),
    }


def as_markdown(trials: Sequence[Trial], data: dict[str, Any]) -> str:
    """The proof for people: the figures, the faults, and the table of faults by requirements."""
    turned = sorted({requirement for trial in trials for requirement in trial.verdicts})
    lines = [
        "# Proof that the checks can fail",
        "",
        f"{len(trials)} faults were planted, {sum(t.killed for t in trials)} killed "
        f"(kill rate {data['kill_rate']:.0%}), {data['false_alarms']} false alarms, in {data['seconds']} s.",
        "",
        "A fault is killed when the requirement it breaks is found violated. Requirements that follow from it may turn",
        "as well; any other that turns is a false alarm.",
        "",
        "| fault | what is broken | requirement | killed | follows | false alarms | s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for trial in trials:
        follows = ", ".join(r for r in trial.verdicts if r != trial.fault.requirement and r not in trial.unexpected)
        alarms = ", ".join(trial.unexpected) or "none"
        lines.append(
            f"| {trial.fault.name} | {trial.fault.summary} | {trial.fault.requirement} | "
            f"{'yes' if trial.killed else 'NO'} | {follows or '-'} | {alarms} | {trial.seconds:.1f} |"
        )
    lines += ["", "## Faults by requirements", "", "V violated, i inconclusive, blank as planned.", ""]
    lines.append("| fault | " + " | ".join(turned) + " |")
    lines.append("| --- |" + " --- |" * len(turned))
    letters = {Outcome.VIOLATED.value: "V", Outcome.INCONCLUSIVE.value: "i"}
    for trial in trials:
        cells = (letters.get(trial.verdicts.get(requirement, ""), " ") for requirement in turned)
        lines.append(f"| {trial.fault.name} | " + " | ".join(cells) + " |")
    if data["uncovered"]:
        lines += ["", "## Checked, and not yet turned red by any fault", "", ", ".join(data["uncovered"])]
    problems = [f"- {trial.fault.name}: {trial.error}" for trial in trials if trial.error]
    if problems:
        lines += ["", "## Trials that could not be held", "", *problems]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, hold the trials, write the proof."""
    parser = argparse.ArgumentParser(prog="prove", description="Plant every fault in a lab and see it found.")
    parser.add_argument("--profile", default="aws-calico", choices=sorted(CATALOGUES))
    parser.add_argument("--fault", action="append", metavar="NAME", help="only this one; repeatable")
    parser.add_argument("--sample", type=int, metavar="N", help="only N faults, spread over the catalogue")
    parser.add_argument("--labs", type=int, default=3, metavar="N", help="labs side by side (default 3)")
    parser.add_argument("--list", action="store_true", help="list the faults and stop")
    options = parser.parse_args(arguments)
    faults = CATALOGUES[options.profile]()
    if options.list:
        for fault in faults:
            print(f"{fault.name:32} {fault.requirement:15} {fault.summary}")
        return 0
    if options.fault:
        known = {fault.name: fault for fault in faults}
        if unknown := [name for name in options.fault if name not in known]:
            print(f"no fault {', '.join(unknown)}; `--list` shows those there are", file=sys.stderr)
            return 4
        faults = tuple(known[name] for name in options.fault)
    if options.sample and options.sample < len(faults):
        faults = tuple(faults[i * len(faults) // options.sample] for i in range(options.sample))
    began = time.monotonic()
    trials, checked = prove(options.profile, faults, max(1, min(options.labs, len(faults))))
    data = as_data(trials, checked, time.monotonic() - began)
    reports = ROOT / "reports"
    (reports / "proof.json").write_text(json.dumps(data, indent=2) + "\n")
    (reports / "proof.md").write_text(as_markdown(trials, data))
    flawless = all(trial.flawless for trial in trials)
    print(
        f"{len(trials)} faults, kill rate {data['kill_rate']:.0%}, {data['false_alarms']} false alarms, "
        f"{data['seconds']} s: reports/proof.md"
    )
    return 0 if flawless else 1


if __name__ == "__main__":
    sys.exit(main())
