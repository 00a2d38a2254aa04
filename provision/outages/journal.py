"""The journal: what is broken on purpose, who broke it, and how it is put back; written before anything is broken.

One file for each environment, readable by its owner only. That of a lab is in the lab's folder and goes with it; those
of other environments are beside the labs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.fleet import Fleet
from provision.lab.paths import labs_root
from provision.lab.state import Process, all_labs
from provision.outages import OutageError, OutageOrder, remedy
from provision.outages.remedy import Remedy

LAB_JOURNAL = "outage.json"
"""The journal's name in a lab's folder."""


@dataclass(frozen=True)
class Entry:
    """An outage that is under way, or was left behind.

    Attributes:
        environment: its name.
        outage: what was ordered, in words.
        owner: the process that made it.
        begun: when, in RFC 3339 form.
        remedies: what is to be done, in this order.
    """

    environment: str
    outage: str
    owner: Process
    begun: str
    remedies: tuple[Remedy, ...]

    @property
    def is_anothers(self) -> bool:
        """Whether another process made it, which is still alive and will heal it."""
        return self.owner.alive and self.owner != Process.of(os.getpid())

    def __str__(self) -> str:
        """In words, for people: what, since when, and by whom."""
        state = "which is alive" if self.owner.alive else "which is dead"
        return f"{self.outage}, since {self.begun}, made by process {self.owner.pid}, {state}"


@dataclass(frozen=True)
class Journal:
    """The journal of one environment."""

    path: Path

    def write(self, environment: str, order: OutageOrder | str, remedies: tuple[Remedy, ...]) -> None:
        """Write an outage down; when this returns, it is on the disk.

        Raises:
            OutageError: it cannot be written.
        """
        begun = datetime.now(UTC).isoformat(timespec="seconds")
        self._store(Entry(environment, str(order), Process.of(os.getpid()), begun, remedies))

    def read(self) -> Entry | None:
        """What is written there; None when nothing is.

        Raises:
            OutageError: it cannot be understood.
        """
        try:
            data = json.loads(self.path.read_bytes())
            return Entry(
                **{
                    **data,
                    "owner": Process(**data["owner"]),
                    "remedies": tuple(map(remedy.from_json, data["remedies"])),
                }
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise OutageError(
                "the journal of an outage cannot be read, so nobody knows what is still broken",
                where=str(self.path),
                observed=f"{type(error).__name__}: {error}",
                cause="it was edited, or written by another version of this project",
                remedy="put the environment right by hand (docs/outages.md says what each outage does), then delete "
                "the file; a lab is best taken down",
            ) from None

    @property
    def summary(self) -> str:
        """What is written there, in a line for people; "" when nothing is."""
        try:
            entry = self.read()
        except OutageError as error:
            return error.what
        return str(entry) if entry else ""

    def heal(self, region: str = "") -> tuple[str, ...]:
        """Apply every remedy that the journal holds, then remove it. One that fails does not keep the others from it.

        Args:
            region: apply only what gives that region back; the rest stays in the journal.

        Returns:
            what was done, in words.

        Raises:
            OutageError: a remedy failed, and what failed stays in the journal; or its owner is alive and not us.
        """
        entry = self.read()
        if entry is None:
            return ()
        if entry.is_anothers:
            raise OutageError(
                "an outage is under way in this environment, made by another process that is still alive",
                where=entry.environment,
                observed=str(entry),
                remedy=f"wait until process {entry.owner.pid} has ended, or end it: it heals then, or you may",
            )
        healed, failed, errors = [], [], []
        left = [each for each in entry.remedies if region not in ("", each.region)]
        for each in entry.remedies:
            if each in left:
                continue
            try:
                healed.append(each.apply())
            except OutageError as error:
                failed.append(each)
                errors.append(str(error))
        if failed or left:
            self._store(replace(entry, remedies=(*failed, *left)))
        if failed:
            raise OutageError(
                f"{entry.outage} could not be healed",
                where=entry.environment,
                observed="; ".join(errors),
                remedy=f"python -m provision heal {entry.environment} tries again what is left",
            )
        if left:
            return tuple(healed)
        self.path.unlink(missing_ok=True)
        _sync_folder(self.path.parent)
        return (f"{entry.outage}: over", *healed)

    def heal_abandoned(self) -> tuple[str, ...]:
        """As `heal`, and nothing where the outage is that of another process that is alive. Raises OutageError."""
        entry = self.read()
        return () if entry is None or entry.is_anothers else self.heal()

    def _store(self, entry: Entry) -> None:
        data: dict[str, Any] = {
            **asdict(replace(entry, remedies=())),
            "remedies": list(map(remedy.to_json, entry.remedies)),
        }
        draft = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(data, file, indent=2)
                file.flush()
                os.fsync(descriptor)
            draft.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise OutageError(
                "the journal of the outage cannot be written, and without it nothing is broken",
                where=str(self.path),
                observed=str(error),
                remedy="make room or give leave there, or name another folder by MESHPROOF_HOME",
            ) from None


def journal_of(fleet: Fleet) -> Journal:
    """The journal of that environment."""
    if fleet.state_dir is not None:
        return Journal(Path(fleet.state_dir) / LAB_JOURNAL)
    apis = "\n".join(f"{handle.kubeconfig} {handle.context}" for handle in fleet.clusters)
    return Journal(_root() / f"{_readable(fleet.plan.name)}-{hashlib.sha256(apis.encode()).hexdigest()[:12]}.json")


def journals_of(environment: str) -> tuple[Journal, ...]:
    """The journals of environments of that name: a lab and another one may have the same."""
    return tuple(journal for name, journal in journals() if name == _readable(environment))


def journals() -> Iterator[tuple[str, Journal]]:
    """Every journal of this user that holds something, and its environment's name: of labs, then of others."""
    for lab in all_labs():
        if (path := lab.folder.path / LAB_JOURNAL).exists():
            yield lab.state.name, Journal(path)
    root = _root()
    for path in sorted(root.glob("*.json")) if root.is_dir() else ():
        yield path.stem.rpartition("-")[0], Journal(path)


def _root() -> Path:
    return labs_root().parent / "outages"


def _readable(environment: str) -> str:
    """The environment's name as far as a file can have it."""
    return re.sub(r"[^\w.-]+", "_", environment)


def _sync_folder(folder: Path) -> None:
    """A file's name is part of its folder, and is on the disk only once the folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
