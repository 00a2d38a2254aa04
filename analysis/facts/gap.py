"""What could not be observed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gap:
    """Something that should have been observed and was not.

    Attributes:
        region: whose fact is missing.
        subject: what was to be observed ("node us-east-1-node-2: BGP sessions").
        error: why it could not be had, in the words of the instrument.
        parts: the fields of the family that it leaves incomplete; any of them, where none is named.
    """

    region: str
    subject: str
    error: str
    parts: tuple[str, ...] = ()
