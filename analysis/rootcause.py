"""From many violations to the one to mend first.

The layers that a packet between two pods stands on are ordered, and a broken one explains what is broken above it.
Three things refine that, because the order of layers alone would often name a symptom:

1. *Where a violation sits* is mostly a matter of its requirement, but a judge that can see deeper says so in its
   findings: a route that the routing daemon does not have either is missing in the RIB, and not only in the kernel.
2. *Some causes show in a higher layer than their effects* (`EXPLAINS`), as when BGP passes a route on that somebody
   put into a kernel by hand.
3. *A cause must be where its effect is*: what is broken in one region only does not explain what is broken in another.

The root cause is the violation that nothing else explains and that itself explains most others; of several alike it is
the one of the lowest layer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Layer(str, Enum):
    """The layers that a packet between two pods stands on, lowest first; hygiene stands beside them.

    The control plane is what must be right before clusters can be in session at all: identities, settings,
    certificates, components and rights. What they then tell each other is the RIB, whether BGP carries it or agents
    read it in each other's stores; what nodes forward by is the FIB.
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


_HEIGHT = {layer: height for height, layer in enumerate(Layer)}

_OF_AREA = {
    "NET-ADDR": Layer.ADDRESSING,
    "NET-UNDR": Layer.UNDERLAY,
    "NET-ROUTE": Layer.SESSION,
    "NET-MTU": Layer.MTU,
    "NET-DNS": Layer.DNS,
    "NET-POD": Layer.POLICY,
    "NET-POL": Layer.POLICY,
    "SEC-TLS": Layer.TLS,
    "DB-FORM": Layer.SQL,
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
    "NET-ROUTE-001": Layer.CONTROL,
    "NET-ROUTE-002": Layer.CONTROL,
    "NET-ROUTE-003": Layer.CONTROL,
    "NET-ROUTE-004": Layer.CONTROL,
    "NET-ROUTE-007": Layer.CONTROL,
    "NET-ROUTE-008": Layer.FIB,
    "NET-ROUTE-009": Layer.FIB,
    "NET-ROUTE-010": Layer.ENCAPSULATION,  # a route that leads past the tunnel
    "NET-ROUTE-011": Layer.FIB,
    "NET-ROUTE-012": Layer.FIB,
    "NET-ROUTE-013": Layer.RIB,
    "NET-ROUTE-014": Layer.POLICY,  # the packet filter rewrites what it should let through
    "NET-ROUTE-015": Layer.ENCAPSULATION,
    "NET-ROUTE-016": Layer.RIB,
    "NET-ROUTE-017": Layer.RIB,
    "NET-ROUTE-018": Layer.RIB,
    "NET-ROUTE-019": Layer.RIB,
    "NET-ROUTE-020": Layer.RIB,
    "NET-POD-007": Layer.FIB,  # a hop too many
    "NET-POD-008": Layer.SERVICE,
    "NET-POD-010": Layer.FIB,  # the standing pods are reached, so the data path was not told of the new one
    "NET-POD-011": Layer.FIB,
    "NET-POD-012": Layer.ENCAPSULATION,  # measured against the nodes' own network
    "NET-POD-013": Layer.ENCAPSULATION,
    "NET-POD-014": Layer.HYGIENE,
    "MESH-CP-002": Layer.SESSION,
    "MESH-CP-003": Layer.RIB,
    "MESH-CP-010": Layer.SERVICE,
    "MESH-CP-011": Layer.SERVICE,
    "MESH-CP-014": Layer.ENCAPSULATION,
    "MESH-CP-015": Layer.POLICY,  # what nodes see of each other, as pods do in NET-POD
    "MESH-CP-016": Layer.SESSION,
    "MESH-CP-018": Layer.SERVICE,
    "DB-FORM-015": Layer.HYGIENE,  # it matters when a node is lost, and not before
    "DB-FORM-020": Layer.HYGIENE,
    "DB-FORM-023": Layer.HYGIENE,
    "DB-SURV-012": Layer.SQL,  # where the data lies
    "NET-POL-010": Layer.SERVICE,  # what becomes of the database under the policy
    "NET-POL-018": Layer.HYGIENE,  # a test of the analysis itself
    "NET-POL-021": Layer.SERVICE,
    "SEC-TLS-008": Layer.HYGIENE,  # keys that lie where they should not, which nobody is kept from working by
    "SEC-TLS-010": Layer.HYGIENE,
    "SEC-TLS-011": Layer.HYGIENE,
    "SEC-TLS-014": Layer.HYGIENE,
}
"""Requirements whose layer is not that of their area."""

OPEN_DOORS = frozenset({"NET-POL-007", "NET-POL-011", "NET-POL-013", "NET-POL-014", "NET-POL-015"})
"""What lets too much through, which nobody is kept from working by: these explain nothing but what is said here."""

_LET_IN = frozenset({"NET-POL-005", "NET-POL-006", "NET-POL-008", "NET-POL-009", "NET-POL-012"})
_KEPT_OUT = frozenset({"NET-POL-007", "NET-POL-011", "NET-POL-013", "NET-POL-015", "NET-POL-017"})
_BETWEEN_REGIONS = frozenset({"NET-POL-005", "NET-POL-006", "NET-POL-012"})

_NAMES_OF_PODS = frozenset({"NET-DNS-006", "NET-DNS-007", "NET-DNS-008", "NET-DNS-009", "NET-DNS-019"})
_DOORS_OF_NODES = frozenset({"SEC-TLS-001", "SEC-TLS-002", "SEC-TLS-005", "SEC-TLS-013", "SEC-TLS-015"})
_PART_OF_DATABASE = frozenset(
    {"DB-FORM-003", "DB-FORM-004", *(f"DB-FORM-{number:03}" for number in (10, 11, 12, 13, 14, 18, 19))}
)
"""What a node shows that does not take part: the others miss it, its clients are not served, its data lacks a copy."""

_NODE_APART = _PART_OF_DATABASE | _DOORS_OF_NODES | {"DB-FORM-001"}

EXPLAINS: dict[str, frozenset[str]] = {
    # A route that sends packets bare leads to no node of the mesh, and BGP learns it and passes it on.
    "NET-ROUTE-010": frozenset({"NET-MTU-004", "NET-MTU-005", "NET-ROUTE-009", "NET-ROUTE-016", "NET-ROUTE-018"}),
    # What travels bare is routed by gateways: another next hop, and more of them.
    "NET-MTU-005": frozenset({"NET-ROUTE-009", "NET-POD-007"}),
    # A node's port may be served by a pod on another node, which packets do not reach when tunnels lead elsewhere.
    "NET-ROUTE-009": frozenset({"MESH-CP-012", "NET-UNDR-011"}),
    # Nodes that were set up in different ways show it in every packet.
    "MESH-CP-014": frozenset({"NET-MTU-004"}),
    # What is fragmented or lost for its size is slow.
    **dict.fromkeys(("NET-MTU-001", "NET-MTU-002", "NET-MTU-003"), frozenset({"NET-POD-012", "NET-POD-013"})),
    # The DNS of another cluster is a Service of it.
    "NET-POD-008": frozenset(
        {"NET-DNS-005", "NET-DNS-006", "NET-DNS-007", "NET-DNS-008", "NET-DNS-010", "NET-DNS-013", "NET-DNS-018"}
    ),
    # Pods that leave under their own addresses are seen with them, and hear nothing from name servers outside.
    "NET-POD-009": frozenset({"NET-MTU-005", "NET-DNS-012"}),
    # Pods that cannot be placed, or lack their volume, their namespace or their keys, are not there under any name.
    **dict.fromkeys(("DB-FORM-016", "DB-FORM-017", "DB-FORM-021", "SEC-TLS-009"), _NODE_APART | _NAMES_OF_PODS),
    # An image that does not exist does not start; who is not told whom to join, or is not found, joins nobody.
    "DB-FORM-009": _NODE_APART,
    "DB-FORM-007": _NODE_APART | {"DB-FORM-002"},
    "DB-FORM-008": _NODE_APART,
    # A node whose clock is off stops itself.
    "DB-FORM-022": _NODE_APART,
    "DB-FORM-001": _PART_OF_DATABASE | _DOORS_OF_NODES,
    # Two databases: each misses the nodes of the other one.
    "DB-FORM-002": frozenset({"DB-FORM-001"}) | _PART_OF_DATABASE,
    # Data is spread by what nodes say of themselves.
    "DB-FORM-003": frozenset({"DB-FORM-014"}),
    "DB-FORM-004": frozenset({"DB-FORM-011", "DB-FORM-012", "DB-FORM-018", "DB-FORM-019"}),
    "DB-FORM-010": frozenset({"DB-FORM-011", "DB-FORM-012", "DB-FORM-013", "DB-FORM-014"}),
    "DB-FORM-013": frozenset({"DB-FORM-011", "DB-FORM-012"}),
    "DB-FORM-018": frozenset({"DB-FORM-011", "DB-FORM-012"}),
    "DB-FORM-012": frozenset({"DB-FORM-011"}),
    # A certificate that is not believed, or not for that name, is shown in every handshake.
    **dict.fromkeys(("SEC-TLS-003", "SEC-TLS-012"), frozenset({"SEC-TLS-002", "SEC-TLS-005"})),
    "SEC-TLS-004": frozenset({"SEC-TLS-005"}),
    # What a policy does follows from what it says, to whom, and whom it knows by which label.
    "NET-POL-022": _LET_IN | _KEPT_OUT | {"NET-POL-003", "NET-POL-004", "NET-POL-014"},
    "NET-POL-002": _LET_IN | _KEPT_OUT | {"NET-POL-004", "NET-POL-016"},
    "NET-POL-003": _LET_IN | _KEPT_OUT | {"NET-POL-004", "NET-POL-014"},
    "NET-POL-014": _KEPT_OUT | {"NET-POL-004"},
    "NET-POL-016": _BETWEEN_REGIONS | {"NET-POL-004", "NET-POL-011", "NET-POL-015"},
    "NET-POL-019": _BETWEEN_REGIONS | {"NET-POL-004", "NET-POL-009", "NET-POL-011", "NET-POL-015"},
    "NET-POL-020": _BETWEEN_REGIONS | {"NET-POL-004", "NET-POL-011", "NET-POL-015"},
    "NET-POL-004": _LET_IN | _KEPT_OUT,
    # Where strangers do not reach each other, it is not the database's policy that stops its pods.
    "NET-POL-001": _LET_IN | {"NET-POL-017"},
    **dict.fromkeys(
        ("NET-POD-001", "NET-POD-002", "NET-POD-003"), _BETWEEN_REGIONS | {"NET-POL-001", "NET-POL-015", "NET-POL-017"}
    ),
    "NET-POD-006": frozenset({"NET-POL-008", "NET-POL-009", "NET-POL-012", "NET-POL-015"}),
    # A sender whose address is rewritten is known by no label.
    **dict.fromkeys(("NET-POD-004", "NET-ROUTE-014"), _LET_IN | {"NET-POL-011", "NET-POL-015"}),
    # Who lets in without TLS asks for no certificate either.
    "SEC-TLS-001": frozenset({"SEC-TLS-013", "SEC-TLS-015"}),
}
"""Requirements that explain violations of a lower layer, or of their own, against the order of layers.

A violation that is explained in this way is a symptom: it explains nothing itself.
"""


@dataclass(frozen=True)
class Violation:
    """A requirement that was found violated (or could not be decided), as far as the diagnosis needs it.

    Attributes:
        requirement: its id.
        layer: where its judge sees the trouble; None when the requirement alone says it.
        regions: those that the findings speak of; empty when they speak of all, or of none by name.
    """

    requirement: str
    layer: Layer | None = None
    regions: frozenset[str] = frozenset()

    @property
    def height(self) -> int:
        """The position of its layer among the layers, lowest first."""
        return _HEIGHT[self.layer or layer_of(self.requirement)]


@dataclass(frozen=True)
class RootCause:
    """What to mend first.

    Attributes:
        explains: the other violations that it accounts for, directly or by what it breaks, in the order given.
    """

    layer: Layer
    requirement: str
    explains: tuple[str, ...] = field(default=())


def layer_of(requirement: str) -> Layer:
    """The layer that a requirement speaks about, by its id."""
    return _OF_REQUIREMENT.get(requirement) or _OF_AREA.get(requirement.rpartition("-")[0], Layer.SERVICE)


def root_cause(violated: Sequence[Violation]) -> RootCause | None:
    """The violation that nothing else explains and that explains most others; None when nothing is violated.

    Args:
        violated: in the order of the catalogue, which decides between those that are alike.
    """
    if not violated:
        return None
    # Explaining has no circles but by `EXPLAINS`; should there be one, everything in it is a candidate.
    unexplained = [one for one in violated if not _causes(one, violated)] or violated
    reach = {one.requirement: _reach(one, violated) for one in unexplained}
    first = min(unexplained, key=lambda one: (-len(reach[one.requirement]), one.height))
    explained = reach[first.requirement]
    return RootCause(
        tuple(Layer)[first.height],
        first.requirement,
        tuple(one.requirement for one in violated if one.requirement in explained),
    )


def follows_from(one: Violation, violated: Sequence[Violation]) -> tuple[str, ...]:
    """The violations that may be why this requirement is violated, or cannot be decided; lowest layer first."""
    return tuple(other.requirement for other in sorted(_causes(one, violated), key=lambda other: other.height))


def regions_named(subjects: Iterable[str], regions: Collection[str]) -> frozenset[str]:
    """The regions that the subjects of findings speak of; none when one of them names no region.

    Args:
        subjects: as `Finding.subject` has them ("us-east-1/node-2 -> 192.168.70.0/26").
        regions: the names of all regions.
    """
    named: set[str] = set()
    for subject in subjects:
        found = {name for name in regions if re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", subject)}
        if not found:
            return frozenset()
        named |= found
    return frozenset(named)


def _causes(one: Violation, violated: Sequence[Violation]) -> list[Violation]:
    """The violations that may be why this one is there too."""
    return [
        other
        for other in violated
        if _explains(other, one) and (_by_table(other, one) or not _symptom(other, violated))
    ]


def _symptom(one: Violation, violated: Sequence[Violation]) -> bool:
    return any(_by_table(other, one) and _explains(other, one) for other in violated)


def _by_table(cause: Violation, effect: Violation) -> bool:
    return effect.requirement in EXPLAINS.get(cause.requirement, ())


def _explains(cause: Violation, effect: Violation) -> bool:
    """Whether one violation may be why the other one is there too."""
    if cause.requirement == effect.requirement or Layer.HYGIENE in (
        layer_of(cause.requirement),
        layer_of(effect.requirement),
    ):
        return False
    if cause.regions and effect.regions and not cause.regions & effect.regions:
        return False
    if _by_table(cause, effect):
        return True
    if _by_table(effect, cause) or cause.requirement in OPEN_DOORS:
        return False
    return cause.height < effect.height


def _reach(cause: Violation, violated: Sequence[Violation]) -> set[str]:
    """The other violations that it explains, and those that these explain in turn."""
    reached: dict[str, Violation] = {}
    ahead = [cause]
    while ahead:
        here = ahead.pop()
        for other in violated:
            if other is not cause and other.requirement not in reached and here in _causes(other, violated):
                reached[other.requirement] = other
                ahead.append(other)
    return set(reached)
