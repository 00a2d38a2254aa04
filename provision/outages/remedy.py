"""Remedies: how an outage is undone, as data, so that a later process can do it.

Each kind is a frozen dataclass whose fields are JSON data: paths, names and commands, never a secret.
"""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from typing import Any, ClassVar, Protocol, cast

KINDS = {
    "lab": "provision.lab.outages:LabRemedy",
    "replicas": "provision.outages.kubernetes:Replicas",
    "policy": "provision.outages.policies:Policy",
}
"""Kind of remedy -> "module:class". Imported only when a journal holds one."""


class Remedy(Protocol):
    """Undoes one part of an outage.

    Attributes:
        region: the region that it gives back, with others of the same; "" for none.
    """

    kind: ClassVar[str]

    @property
    def region(self) -> str:
        """See above."""

    def apply(self) -> str:
        """Undo it and see that it is undone; done already is fine. Returns what was done, in words.

        Raises:
            OutageError: it could not be undone.
        """


def to_json(remedy: Remedy) -> dict[str, Any]:
    """The remedy as JSON data."""
    return {"kind": remedy.kind, **asdict(cast(Any, remedy))}


def from_json(data: dict[str, Any]) -> Remedy:
    """Reads what `to_json` made.

    Raises:
        KeyError: there is no such kind.
        TypeError: it has other fields.
    """
    fields = dict(data)
    module, _, name = KINDS[fields.pop("kind")].partition(":")
    return cast(Remedy, getattr(import_module(module), name)(**fields))
