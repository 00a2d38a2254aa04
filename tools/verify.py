"""Verify a lab of every profile, side by side: `make verify` without ENV.

Most of a run is waiting, for routes to come and go and for agents to return, so two labs take less time together than
one after the other. Each run has its own report; the worse exit code stands, and `reports/latest` is the worse run.

    tools/verify.py [ARGUMENTS FOR PYTEST]
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.markup import escape

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from fixtures.ledger import EXIT_MET, EXIT_UNDECIDED, EXIT_VIOLATED  # noqa: E402
from fixtures.run import point_latest_at  # noqa: E402
from provision.provider import LAB, LAB_PROFILES  # noqa: E402

_SEVERITY = {EXIT_MET: 0, EXIT_UNDECIDED: 1, EXIT_VIOLATED: 2}
_BROKEN_OFF = 3
_LOOK_EVERY_S = 0.25
_TAIL = 2000
_SHOWN = 100
_REPORT = re.compile(r"^report: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """The suites on a lab of one profile. What it prints is in a file, so that two runs do not mix their lines."""

    profile: str
    process: subprocess.Popen[bytes]
    output: IO[str]

    def finish(self) -> int:
        """Wait for its end, show what it said, and return its exit code."""
        code = self.process.wait()
        print(f"== {LAB}:{self.profile}", flush=True)
        self.output.seek(0)
        shutil.copyfileobj(self.output, sys.stdout)
        return code

    def progress(self) -> str:
        """The last line that it has printed so far."""
        said = os.pread(self.output.fileno(), _TAIL, max(0, os.fstat(self.output.fileno()).st_size - _TAIL))
        lines = said.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "starting")

    def report(self) -> Path | None:
        """The report that it says it has written."""
        self.output.seek(0)
        said = _REPORT.findall(self.output.read())
        return PROJECT / said[-1] if said else None


def start(profile: str, arguments: list[str]) -> Run:
    """Start the suites on a lab of that profile."""
    output = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - as long as the run
    command = [sys.executable, "-m", "pytest", "suites/", "-n", "auto", "--env", f"{LAB}:{profile}", *arguments]
    return Run(profile, subprocess.Popen(command, cwd=PROJECT, stdout=output, stderr=subprocess.STDOUT), output)


def watch(runs: list[Run]) -> None:
    """Show on a terminal how far each run has come, until all have ended; elsewhere just return."""
    if not sys.stdout.isatty():
        return
    with Console().status("") as line:
        while running := [run for run in runs if run.process.poll() is None]:
            line.update("\n".join(f"{LAB}:{run.profile}: {escape(run.progress())[-_SHOWN:]}" for run in runs))
            with suppress(subprocess.TimeoutExpired):
                running[0].process.wait(_LOOK_EVERY_S)


def main() -> int:
    """Run all profiles and return the worst exit code."""
    if any(word.partition("=")[0] in ("--record", "--replay", "--env") for word in sys.argv[1:]):
        print(
            "--record, --replay and --env mean one environment, and these are two runs.\n"
            f"Name it: make verify ENV={LAB}:{LAB_PROFILES[0]} ARGS=..., or run pytest suites/ yourself.",
            file=sys.stderr,
        )
        return 4
    print(f"verifying {' and '.join(f'{LAB}:{name}' for name in LAB_PROFILES)}, side by side …", flush=True)
    runs = [start(profile, sys.argv[1:]) for profile in LAB_PROFILES]
    try:
        watch(runs)
        codes = [run.finish() for run in runs]
    except KeyboardInterrupt:  # the runs have got it too: they take their labs down
        for run in runs:
            run.process.wait()
        return 130
    print()
    for run, code in zip(runs, codes, strict=True):
        print(f"{LAB}:{run.profile}: exit code {code}, {run.report() or 'no report'}")
    worst, code = max(zip(runs, codes, strict=True), key=lambda ended: _SEVERITY.get(ended[1], _BROKEN_OFF))
    if report := worst.report():
        point_latest_at(report.parent)
    return code


if __name__ == "__main__":
    sys.exit(main())
