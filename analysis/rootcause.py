"""From many violations to the one to mend first: the lowest broken layer explains those above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Layer(str, Enum):
    """The layers that a packet between two pods stands on, lowest first; hygiene stands beside them."""

    ADDRESSING = "addressing"
    UNDERLAY = "underlay"
    SESSION = "session"
    RIB = "rib"
    FIB = "fib"
    ENCAPSULATION = "encapsulation"
    POLICY = "policy"
    SERVICE = "service"
    HYGIENE = "hygiene"


_OF_AREA = {
    "NET-ADDR": Layer.ADDRESSING,
    "NET-UNDR": Layer.UNDERLAY,
    "NET-ROUTE": Layer.SESSION,
    "NET-MTU": Layer.ENCAPSULATION,
    "NET-POD": Layer.POLICY,
    "NET-POL": Layer.POLICY,
}
"""Areas that are not named here are services on top of the network."""

_OF_REQUIREMENT = {
    "NET-ROUTE-008": Layer.FIB,
    "NET-ROUTE-009": Layer.FIB,
    "NET-ROUTE-010": Layer.FIB,
    "NET-ROUTE-011": Layer.FIB,
    "NET-ROUTE-012": Layer.FIB,
    "NET-ROUTE-013": Layer.RIB,
    "NET-ROUTE-014": Layer.ENCAPSULATION,
    "NET-ROUTE-015": Layer.ENCAPSULATION,
    "NET-ROUTE-016": Layer.RIB,
    "NET-ROUTE-018": Layer.RIB,
    "NET-POD-008": Layer.SERVICE,
    "NET-POD-012": Layer.SERVICE,
    "NET-POD-013": Layer.SERVICE,
    "NET-POD-014": Layer.HYGIENE,
}
"""Requirements whose layer is not that of their area."""


@dataclass(frozen=True)
class RootCause:
    """What to mend first: the first violated requirement of the lowest broken layer."""

    layer: Layer
    requirement: str


def layer_of(requirement: str) -> Layer:
    """The layer that a requirement speaks about, by its id."""
    return _OF_REQUIREMENT.get(requirement) or _OF_AREA.get(requirement.rpartition("-")[0], Layer.SERVICE)


def root_cause(violated: Sequence[str]) -> RootCause | None:
    """The violation that most likely explains the others; None when nothing is violated.

    Args:
        violated: ids of the violated requirements, in catalogue order.
    """
    if not violated:
        return None
    first = min(violated, key=lambda requirement: _height(layer_of(requirement)))
    return RootCause(layer_of(first), first)


def follows_from(requirement: str, violated: Sequence[str]) -> tuple[str, ...]:
    """The violated requirements of lower layers, which may be why this one is violated too."""
    if layer_of(requirement) is Layer.HYGIENE:
        return ()
    height = _height(layer_of(requirement))
    return tuple(other for other in violated if _height(layer_of(other)) < height)


def _height(layer: Layer) -> int:
    return list(Layer).index(layer)
