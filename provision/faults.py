"""Faults: ways to break an environment on purpose, each with its proof and its cure.

A fault is apply, confirm, heal. It names the requirement that it must turn violated and those that may turn with it
because they follow from the first; any other requirement that turns is a false alarm of the suite. Faults are data
made of a few kinds of steps, so that a catalogue of them reads as a list of what can go wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from analysis.plan import Plan
from analysis.rootcause import Layer


class FaultError(Exception):
    """A fault could not be planted, confirmed or healed; the environment's state is then not to be trusted."""


PLANTED_TABLE = ("inet", "planted")
"""Family and name of the nftables table that filters are planted in."""


@dataclass(frozen=True)
class Finished:
    """A command that ended: its exit code and both streams as text."""

    code: int
    out: str
    err: str


class Control(Protocol):
    """Full power over an environment: commands on its nodes, and its API with all rights.

    A place is "REGION/NAME" as in `python -m provision exec`: a node, a pod, or "REGION/vpc" for the region's router.
    Object paths are API paths ("/apis/crd.projectcalico.org/v1/ippools/default-ipv4-ippool").
    """

    @property
    def plan(self) -> Plan:
        """What the environment was designed to be."""
        ...

    @property
    def pki(self) -> Path:
        """The folder with the keys and certificates that the environment was built with."""
        ...

    def run(self, place: str, argv: Sequence[str], *, text: str | None = None, check: bool = True) -> Finished:
        """Run a command there. With `check`, a non-zero exit raises FaultError with both streams."""
        ...

    def get(self, region: str, path: str) -> dict[str, Any] | None:
        """The object at that path, or None when there is none."""
        ...

    def create(self, region: str, path: str, manifest: dict[str, Any]) -> None:
        """Create an object in the collection at that path."""
        ...

    def replace(self, region: str, path: str, manifest: dict[str, Any]) -> None:
        """Put an object's content, whatever its resource version."""
        ...

    def patch(self, region: str, path: str, patch: dict[str, Any]) -> None:
        """Apply a JSON merge patch (RFC 7386); status fields go to the path's status subresource by its path."""
        ...

    def delete(self, region: str, path: str) -> None:
        """Delete an object; gone already is fine."""
        ...


class Step(Protocol):
    """One reversible change. `apply` returns what `heal` needs to put everything back."""

    def apply(self, control: Control) -> Any:
        """Make the change."""
        ...

    def heal(self, control: Control, memory: Any) -> None:
        """Undo what `apply` did, after it came to its end."""
        ...


@dataclass(frozen=True)
class Patch:
    """Merge-patch an API object; healing puts the old content back."""

    region: str
    path: str
    patch: dict[str, Any]

    def apply(self, control: Control) -> dict[str, Any]:
        """Patch it and remember what it was."""
        before = control.get(self.region, self.path)
        if before is None:
            raise FaultError(f"{self.region}: there is no object {self.path} to patch")
        control.patch(self.region, self.path, self.patch)
        return before

    def heal(self, control: Control, memory: dict[str, Any]) -> None:
        """Replace it with what it was."""
        control.replace(self.region, self.path, memory)


@dataclass(frozen=True)
class Create:
    """Create an API object that should not be there."""

    region: str
    collection: str
    manifest: dict[str, Any]

    def apply(self, control: Control) -> None:
        """Create it."""
        control.create(self.region, self.collection, self.manifest)

    def heal(self, control: Control, memory: None) -> None:
        """Delete it."""
        control.delete(self.region, f"{self.collection}/{self.manifest['metadata']['name']}")


@dataclass(frozen=True)
class Delete:
    """Delete an API object that should be there."""

    region: str
    path: str

    def apply(self, control: Control) -> dict[str, Any]:
        """Delete it and remember it."""
        before = control.get(self.region, self.path)
        if before is None:
            raise FaultError(f"{self.region}: there is no object {self.path} to delete")
        control.delete(self.region, self.path)
        return before

    def heal(self, control: Control, memory: dict[str, Any]) -> None:
        """Create it again, as a new object."""
        manifest = {key: value for key, value in memory.items() if key != "status"}
        manifest["metadata"] = {
            key: value
            for key, value in memory["metadata"].items()
            if key in ("name", "namespace", "labels", "annotations")
        }
        control.create(self.region, self.path.rpartition("/")[0], manifest)


@dataclass(frozen=True)
class Filter:
    """Load the planted nftables table on a node or router. `body` is what stands inside the table's braces."""

    place: str
    body: str

    def apply(self, control: Control) -> None:
        """Load it."""
        ruleset = f"table {' '.join(PLANTED_TABLE)} {{\n{self.body}\n}}\n"
        control.run(self.place, ["nft", "-f", "-"], text=ruleset)

    def heal(self, control: Control, memory: None) -> None:
        """Delete the table; absent already is fine."""
        control.run(self.place, ["nft", "delete", "table", *PLANTED_TABLE], check=False)


@dataclass(frozen=True)
class Command:
    """Run one command to break and another to mend."""

    place: str
    breaking: tuple[str, ...]
    mending: tuple[str, ...]

    def apply(self, control: Control) -> None:
        """Run the breaking command."""
        control.run(self.place, self.breaking)

    def heal(self, control: Control, memory: None) -> None:
        """Run the mending command; it may have nothing to do."""
        control.run(self.place, self.mending, check=False)


Confirm = Callable[[Control], bool]
"""True once the fault has the effect that makes it a fault, seen without the suite's own instruments."""


@dataclass(frozen=True)
class Fault:
    """One way to break an environment.

    Attributes:
        name: in kebab case, unique.
        summary: one sentence, in the words of a post-mortem.
        layer: where it sits.
        requirement: the one that must be found violated.
        follows: requirements that may turn (violated or inconclusive) because they follow from the first.
        steps: applied in order, healed in reverse.
        confirm: tells when the fault has taken effect.
        database: it can only be planted where the database runs.
    """

    name: str
    summary: str
    layer: Layer
    requirement: str
    steps: tuple[Step, ...]
    confirm: Confirm
    follows: frozenset[str] = field(default_factory=frozenset)
    database: bool = False


class Planted:
    """A fault that is being applied: remembers what each step needs to be undone, even when a later step fails."""

    def __init__(self, fault: Fault, control: Control) -> None:
        self.fault = fault
        self._control = control
        self._done: list[tuple[Step, Any]] = []

    def apply(self) -> None:
        """Apply every step in order. A step that fails leaves the earlier ones to `heal`, and itself half done.

        Raises:
            FaultError: a step failed.
        """
        for step in self.fault.steps:
            self._done.append((step, step.apply(self._control)))

    def heal(self) -> None:
        """Undo every applied step, last first; one that fails does not keep the others from being undone."""
        errors = []
        while self._done:
            step, memory = self._done.pop()
            try:
                step.heal(self._control, memory)
            except FaultError as error:
                errors.append(str(error))
        if errors:
            raise FaultError(f"{self.fault.name} could not be healed: {'; '.join(errors)}")
