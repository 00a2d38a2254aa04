"""DB-FORM: does every region's StatefulSet tell its nodes whom to join?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.facts import Database, StatefulSet, Workloads
from analysis.members import database_of, is_stand_in, lacking, planned_members, untold
from analysis.nearest import did_you_mean
from analysis.plan import Plan
from analysis.shell import commands
from analysis.verdict import Finding, Verdict, conclude, not_applicable
from analysis.words import count, gap_findings, listed

PROGRAM = "cockroach"
STARTS = ("start", "start-single-node")
SUFFIXES = (".svc.cluster.local", ".svc")
"""What a name may have besides; the search list of pods adds it where it is missing."""


@dataclass(frozen=True)
class Start:
    """How a node is started.

    Attributes:
        verb: "start", which joins others, or "start-single-node".
        flags: with their values, "" for none; a flag may occur several times.
    """

    verb: str
    flags: tuple[tuple[str, str], ...]

    def values(self, flag: str) -> list[str]:
        """What is said for that flag."""
        return [value for name, value in self.flags if name == flag]


def read_start(words: Sequence[str]) -> Start | None:
    """How a container's command starts a node; None when it starts none.

    Raises:
        ValueError: its script cannot be read.
    """
    for command in commands(words):
        for place, word in enumerate(command[:-1]):
            if word.rpartition("/")[2] == PROGRAM and command[place + 1] in STARTS:
                return Start(command[place + 1], tuple(_flags(command[place + 2 :])))
        if command and command[0] in STARTS:  # the image's own entry point is the program
            return Start(command[0], tuple(_flags(command[1:])))
    return None


def _flags(words: Sequence[str]) -> list[tuple[str, str]]:
    flags: list[tuple[str, str]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            flags.append((name, value if equals else ""))
        elif flags and not flags[-1][1]:
            flags[-1] = (flags[-1][0], word)
    return flags


def judge_join_lists(plan: Plan, workloads: Workloads, database: Database) -> Verdict:
    """DB-FORM-007: the join list of every region holds the names of all planned nodes, and no other."""
    names = {member.name.removesuffix(SUFFIXES[0]): member for member in planned_members(plan)}
    expected = f"the join list names all {count(len(names), 'node')}, correctly, in every region"
    if is_stand_in(database):
        return not_applicable(expected, lacking("join list: its members find each other in etcd"))
    violations: list[Finding] = []
    gaps = gap_findings(workloads.gaps, "stateful_sets")
    for found in workloads.stateful_sets:
        subject = f"{found.region}: StatefulSet {found.name}"
        try:
            start = read_start(found.command)
        except ValueError as error:
            gaps.append(Finding(subject, "a command that can be read", str(error)))
            continue
        if start is None:
            gaps.append(Finding(subject, f"a command with `{PROGRAM} start`", _shortened(found)))
        else:
            violations += _findings(plan, subject, start, list(names))
    return conclude(
        expected=expected,
        examined=len(workloads.stateful_sets),
        what="StatefulSets",
        violations=violations,
        gaps=gaps or untold(plan, (found.region for found in workloads.stateful_sets), "its StatefulSet"),
        remedy=f"write --join {','.join(names)} in every region",
    )


def _findings(plan: Plan, subject: str, start: Start, names: Sequence[str]) -> list[Finding]:
    """What is wrong with one join list: names that it lacks, and names that are none."""
    if start.verb != "start":
        observed = f"`{PROGRAM} {start.verb}`, which joins nobody"
        return [Finding(subject, f"`{PROGRAM} start --join ...`", observed)]
    entries = [entry.strip() for value in start.values("--join") for entry in value.split(",") if entry.strip()]
    if not entries:
        return [Finding(subject, "a join list", "it has none", "each pod waits to be initialised on its own")]
    port = str(database_of(plan).sql_port)
    given: set[str] = set()
    wrong: list[str] = []
    for entry in entries:
        host, _, told_port = entry.partition(":")
        name = next((host.removesuffix(suffix) for suffix in SUFFIXES if host.endswith(suffix)), host)
        given.add(name)
        if name not in names:
            wrong.append(f"{entry} is no node of the plan{did_you_mean(name, names)}")
        elif told_port not in ("", port):
            wrong.append(f"{entry} has another port than {port}")
    missing = [name for name in names if name not in given]
    findings = (
        [Finding(subject, "names of planned nodes only", "; ".join(wrong), "a name is misspelt")] if wrong else []
    )
    if missing:
        cause = "those names are misspelt" if wrong else "the list was not extended with the regions"
        findings.append(Finding(subject, f"all {len(names)} nodes in --join", f"{listed(missing)} missing", cause))
    return findings


def _shortened(found: StatefulSet) -> str:
    text = " ".join(found.command) or f"none (image {found.image})"
    return text if len(text) < 80 else f"{text[:77]}..."
