"""From many violations to the one to mend first: the lowest broken layer explains those above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Layer(str, Enum):
    """The layers that a packet between two pods stands on, lowest first; hygiene stands beside them.

    The control plane is what must be right before clusters can be in session at all: settings, certificates, ports and
    rights. What they then tell each other is the RIB, whether BGP carries it or agents read it in each other's stores.
    """

    ADDRESSING = "addressing"
    UNDERLAY = "underlay"
    CONTROL = "control"
    SESSION = "session"
    RIB = "rib"
    FIB = "fib"
    ENCAPSULATION = "encapsulation"
    MTU = "mtu"
    POLICY = "policy"
    DNS = "dns"
    TLS = "tls"
    SQL = "sql"
    SERVICE = "service"
    HYGIENE = "hygiene"


_OF_AREA = {
    "NET-ADDR": Layer.ADDRESSING,
    "NET-UNDR": Layer.UNDERLAY,
    "NET-ROUTE": Layer.SESSION,
    "NET-MTU": Layer.MTU,
    "NET-DNS": Layer.DNS,
    "NET-POD": Layer.POLICY,
    "NET-POL": Layer.POLICY,
    "MESH-CP": Layer.CONTROL,
}
"""Areas that are not named here are services on top of the network."""

_OF_REQUIREMENT = {
    "NET-MTU-004": Layer.ENCAPSULATION,
    "NET-MTU-005": Layer.ENCAPSULATION,
    "NET-MTU-006": Layer.ENCAPSULATION,
    "NET-MTU-007": Layer.ENCAPSULATION,
    "NET-MTU-009": Layer.ENCAPSULATION,
    "NET-MTU-011": Layer.ENCAPSULATION,
    "NET-ROUTE-007": Layer.CONTROL,
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
    "NET-ROUTE-019": Layer.RIB,
    "NET-ROUTE-020": Layer.RIB,
    "NET-POD-008": Layer.SERVICE,
    "NET-POD-012": Layer.SERVICE,
    "NET-POD-013": Layer.SERVICE,
    "NET-POD-014": Layer.HYGIENE,
    "MESH-CP-001": Layer.SESSION,  # a routing agent without sessions, or a store without pod, is not Ready
    "MESH-CP-002": Layer.SESSION,
    "MESH-CP-003": Layer.RIB,
    "MESH-CP-010": Layer.SERVICE,
    "MESH-CP-011": Layer.SERVICE,
    "MESH-CP-014": Layer.ENCAPSULATION,
    "MESH-CP-015": Layer.POLICY,  # what nodes see of each other, as pods do in NET-POD
    "MESH-CP-016": Layer.SESSION,
    "MESH-CP-017": Layer.ENCAPSULATION,
    "MESH-CP-018": Layer.SERVICE,
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
