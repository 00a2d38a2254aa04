"""What a lab has reached on its way up: lines that the container appends and anybody may read."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path


class Stage(str, Enum):
    """The milestones of a lab's start, in order, and the one that ends it."""

    FABRIC = "fabric"
    """Namespaces, links and routes of the underlay are there."""

    API = "api"
    """Every API server answers."""

    READY = "ready"
    """Sessions are established, every node has every route, DNS answers, all pods run."""

    FAILED = "failed"
    """The container gave up; it ends itself then."""


@dataclass(frozen=True)
class Milestone:
    """A stage and when it was reached, in seconds after the lab was asked for; `error` says why it failed."""

    stage: Stage
    seconds: float
    error: str = ""


def record(file: Path, milestone: Milestone) -> None:
    """Append the milestone, in one write, so that two writers never mix their lines."""
    line = json.dumps(asdict(milestone)) + "\n"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def milestones(file: Path) -> tuple[Milestone, ...]:
    """Everything reached so far; nothing while the file is not there."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        return ()
    complete = text[: text.rfind("\n") + 1].splitlines()
    return tuple(Milestone(Stage(line["stage"]), line["seconds"], line["error"]) for line in map(json.loads, complete))
