"""The proof as it is written down: what came of each trial, at which code, and in how many tries.

It is written anew after each trial, so that a proof that is broken off has lost nothing, and read by one that goes on.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from analysis.verdict import Outcome
from fixtures.run import write_json, write_text
from provision.faults import Fault

ROOT = Path(__file__).resolve().parent.parent

CODE = ("analysis", "fixtures", "probes", "provision", "suites", "tools", "conftest.py", "pyproject.toml")
"""What a trial's outcome depends on, below the project's folder."""

Kind: TypeAlias = tuple[str, bool]
"""Of a lab: its profile, and whether its database runs."""

Catalogues: TypeAlias = Mapping[str, Sequence[Fault]]
"""Faults by profile."""

NOT_TRIED = "not tried"
"""How the error of a fault without a trial begins."""


@dataclass(frozen=True)
class Revision:
    """The code that a trial was made with.

    Attributes:
        commit: the commit that was checked out, "" outside a git checkout.
        code: digest of the code itself, changes that are in no commit included.
    """

    commit: str = ""
    code: str = ""


def revision_of(root: Path = ROOT) -> Revision:
    """The code that is there now."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    digest = hashlib.sha256()
    for name in CODE:
        for path in sorted((root / name).rglob("*")) if (root / name).is_dir() else [root / name]:
            if path.suffix in (".py", ".yaml", ".toml", ".html", ".j2") and path.is_file():
                digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return Revision(git.stdout.strip() if git.returncode == 0 else "", digest.hexdigest()[:16])


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
        narrow: only the requirement that the fault breaks was looked at.
        unlooked: requirements that the run had no verdict on, or left some checks of out.
        revision: the code it was made with.
        earlier: how it went before with that code, in the order of the tries.
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
    narrow: bool = False
    unlooked: tuple[str, ...] = ()
    revision: Revision = Revision()
    earlier: tuple[str, ...] = ()

    @property
    def flawless(self) -> bool:
        """Killed, nothing else turned, and the trial itself went well."""
        return self.killed and not self.unexpected and not self.error

    @property
    def layer_right(self) -> bool:
        """The diagnosis named the layer that the fault sits in."""
        return self.layer_named == self.fault.layer.value

    @property
    def held(self) -> bool:
        """It was tried at all."""
        return not self.error.startswith(NOT_TRIED)

    @property
    def told(self) -> str:
        """How it went, in a few words."""
        alarms = f", false alarms: {', '.join(self.unexpected)}" if self.unexpected else ""
        trouble = f", {self.error.splitlines()[0]}" if self.error else ""
        return f"{'killed' if self.killed else 'survived'}{alarms}{trouble}"

    @property
    def tries(self) -> tuple[str, ...]:
        """How it went each time that it was held, this one included."""
        return (*self.earlier, self.told) if self.held else ()


def as_data(
    trials: Sequence[Trial], unharmed: Mapping[Kind, Iterable[str]], seconds: float, code: str = ""
) -> dict[str, Any]:
    """The proof as `proof.json` holds it.

    Args:
        trials: in the order of the catalogues.
        unharmed: the requirements that the suites check on unharmed labs, by kind of lab; those that no fault kills are
            listed as `uncovered`.
        seconds: that the whole took.
        code: the digest of the code that the unharmed labs were looked at with.
    """
    profiles = {}
    for profile in dict.fromkeys([*(kind[0] for kind in unharmed), *(trial.profile for trial in trials)]):
        held = [trial for trial in trials if trial.profile == profile]
        killed = {trial.fault.requirement for trial in held if trial.killed}
        checked = {requirement for kind, known in unharmed.items() if kind[0] == profile for requirement in known}
        profiles[profile] = {**_figures(held), "uncovered": sorted(checked - killed)}
    return {
        "faults": [_entry(trial) for trial in trials],
        **_figures(trials),
        "uncovered": sorted({requirement for each in profiles.values() for requirement in each["uncovered"]}),
        "profiles": profiles,
        "unharmed": [
            {"profile": profile, "database": database, "code": code, "checked": sorted(checked)}
            for (profile, database), checked in unharmed.items()
        ],
        "seconds": round(seconds, 1),
    }


def _entry(trial: Trial) -> dict[str, Any]:
    return {
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
        "narrow": trial.narrow,
        "not_looked_at": list(trial.unlooked),
        "commit": trial.revision.commit,
        "code": trial.revision.code,
        "tries": len(trial.tries),
        "earlier": list(trial.earlier),
    }


def _figures(trials: Sequence[Trial]) -> dict[str, Any]:
    return {
        "tried": sum(trial.held for trial in trials),
        "kill_rate": sum(trial.killed for trial in trials) / len(trials) if trials else 0.0,
        "false_alarms": sum(len(trial.unexpected) for trial in trials),
        "layers_right": sum(trial.layer_right for trial in trials) / len(trials) if trials else 0.0,
    }


@dataclass(frozen=True)
class Past:
    """An earlier proof.

    Attributes:
        trials: by profile and name of the fault.
        unharmed: what it found checked on unharmed labs, by kind of lab.
        seconds: that it took.
    """

    trials: Mapping[tuple[str, str], Trial] = field(default_factory=dict)
    unharmed: Mapping[Kind, frozenset[str]] = field(default_factory=dict)
    seconds: float = 0.0


def read(folder: Path, catalogues: Catalogues, code: str | None, *, narrow: bool) -> Past:
    """What an earlier proof found of these faults: with this code (any, when None) and looking as far.

    Raises:
        ValueError: what is there is no proof.
    """
    path = folder / "proof.json"
    if not path.exists():
        return Past()
    faults = {(profile, fault.name): fault for profile, held in catalogues.items() for fault in held}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        trials = {}
        for entry in data["faults"]:
            fault = faults.get((entry["profile"], entry["name"]))
            if fault and entry["tries"] and entry["narrow"] == narrow and code in (None, entry["code"]):
                trials[entry["profile"], fault.name] = _trial(entry, fault)
        unharmed = {
            (each["profile"], each["database"]): frozenset(each["checked"])
            for each in data["unharmed"]
            if code in (None, each["code"])
        }
        return Past(trials, unharmed, float(data["seconds"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no proof that can be gone on with ({type(error).__name__}: {error})") from error


class Record:
    """A proof that is being made. Every addition is on the disk before `add` returns; threads may share it."""

    def __init__(self, folder: Path, catalogues: Catalogues, revision: Revision, past: Past | None = None) -> None:
        self._folder = folder
        self._catalogues = catalogues
        self._revision = revision
        past = past or Past()
        self._trials = dict(past.trials)
        self._unharmed: dict[Kind, frozenset[str]] = dict(past.unharmed)
        self._began = time.monotonic() - past.seconds
        self._lock = threading.Lock()

    def clean(self, profile: str, fault: Fault) -> bool:
        """A flawless trial of that fault is known."""
        trial = self._trials.get((profile, fault.name))
        return trial is not None and trial.flawless

    def knows_unharmed(self, kind: Kind) -> bool:
        """A lab of that kind has been looked at before anything was planted in it."""
        return kind in self._unharmed

    def add(self, trial: Trial) -> None:
        """One more trial, which takes the place of an earlier one of the same fault, and tells of it."""
        with self._lock:
            key = (trial.profile, trial.fault.name)
            earlier = self._trials[key].tries if key in self._trials else ()
            self._trials[key] = replace(trial, revision=self._revision, earlier=earlier)
            self._write()

    def add_unharmed(self, kind: Kind, checked: Iterable[str]) -> None:
        """What the suites check on an unharmed lab of that kind."""
        with self._lock:
            self._unharmed[kind] = frozenset(checked)
            self._write()

    def write(self) -> None:
        """Write `proof.json` and `proof.md`, each whole or not at all."""
        with self._lock:
            self._write()

    @property
    def trials(self) -> list[Trial]:
        """What came of each fault, in the order of the catalogues."""
        missing = f"{NOT_TRIED}: broken off before, or its lab did not stand or found itself in disorder"
        return [
            self._trials.get((profile, fault.name), Trial(fault, profile, error=missing))
            for profile, faults in self._catalogues.items()
            for fault in faults
        ]

    @property
    def data(self) -> dict[str, Any]:
        """The proof as `proof.json` holds it."""
        return as_data(self.trials, self._unharmed, time.monotonic() - self._began, self._revision.code)

    def _write(self) -> None:
        data = self.data
        write_json(self._folder / "proof.json", data)
        write_text(self._folder / "proof.md", as_markdown(self.trials, data))


def _trial(entry: dict[str, Any], fault: Fault) -> Trial:
    # Judged anew by what the fault says now: its catalogue may have been mended since.
    return Trial(
        fault,
        entry["profile"],
        killed=entry["turned"].get(fault.requirement) == Outcome.VIOLATED.value,
        verdicts=entry["turned"],
        unexpected=tuple(sorted(set(entry["turned"]) - {fault.requirement} - fault.follows)),
        layer_named=entry["layer_named"],
        seconds=entry["seconds"],
        cpu=entry["cpu_seconds"],
        error=entry["error"],
        narrow=entry["narrow"],
        unlooked=tuple(entry["not_looked_at"]),
        revision=Revision(entry["commit"], entry["code"]),
        earlier=tuple(entry["earlier"]),
    )


def as_markdown(trials: Sequence[Trial], data: dict[str, Any]) -> str:
    """The proof for people: the figures, and for each profile the faults and the table of faults by requirements."""
    lines = [
        "# Proof that the checks can fail",
        "",
        f"{data['tried']} of {len(trials)} faults were planted, {sum(t.killed for t in trials)} killed "
        f"(kill rate {data['kill_rate']:.0%}), {data['false_alarms']} false alarms, in {data['seconds']} s.",
        "",
        f"The diagnosis names the layer of {sum(t.layer_right for t in trials)} of {len(trials)} faults "
        f"({data['layers_right']:.0%}).",
        "",
        "A fault is killed when the requirement it breaks is found violated. Requirements that follow from it may turn",
        "as well; any other that turns is a false alarm. That nothing else turned is said of what a trial looked at:",
        "`not_looked_at` in `proof.json` names the rest.",
    ]
    commits = sorted({trial.revision.commit[:12] for trial in trials if trial.held and trial.revision.commit})
    if commits:
        lines += ["", f"Tried at commit {', '.join(commits)}."]
    if again := [trial for trial in trials if len(trial.tries) > 1]:
        lines += ["", "Tried more than once:", ""]
        lines += [f"- {trial.fault.name} ({trial.profile}): {'; then '.join(trial.tries)}" for trial in again]
    for profile, figures in data["profiles"].items():
        lines += ["", f"## {profile}", "", *_profile([t for t in trials if t.profile == profile], figures)]
    return "\n".join(lines) + "\n"


def _profile(trials: Sequence[Trial], figures: dict[str, Any]) -> Iterator[str]:
    yield "| fault | what is broken | requirement | killed | layer | named | follows | false alarms | tries | s |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for trial in trials:
        follows = ", ".join(r for r in trial.verdicts if r != trial.fault.requirement and r not in trial.unexpected)
        alarms = ", ".join(trial.unexpected) or "none"
        yield (
            f"| {trial.fault.name} | {trial.fault.summary} | {trial.fault.requirement} | "
            f"{'yes' if trial.killed else 'NO'} | {trial.fault.layer.value} | "
            f"{'the same' if trial.layer_right else (trial.layer_named or 'none').upper()} | "
            f"{follows or '-'} | {alarms} | {len(trial.tries)} | {trial.seconds:.1f} |"
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
