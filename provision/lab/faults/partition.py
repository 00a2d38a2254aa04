"""A partition: one region that no packet of the others reaches any more."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.rootcause import Layer
from provision.faults import Fault
from provision.lab.faults.cloud import SEVERED, LinkShut, router
from provision.lab.topology import LabTopology

CONTROL_PLANE_GONE = frozenset(
    {
        "NET-ROUTE-007",
        "NET-ROUTE-008",
        "NET-ROUTE-011",
        "NET-ROUTE-015",
        "NET-ROUTE-018",
        "NET-ROUTE-019",
        "NET-ROUTE-020",
        "NET-ROUTE-021",
        "MESH-CP-005",
        "MESH-CP-007",
        "MESH-CP-008",
        "MESH-CP-009",
        "MESH-CP-018",
    }
)
"""What a region does not know of the others, or cannot prove to them, once sessions with it have ended."""


def partition_faults(lab: LabTopology) -> Iterator[Fault]:
    """All peerings of the last region down: both others go on without it, and it without them."""
    lost, others = lab.regions[-1], lab.regions[:-1]
    yield Fault(
        name="region-cut-off",
        summary=f"every peering of {lost.name} is down",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-003",
        steps=tuple(LinkShut(lost, other.name) for other in others),
        confirm=lambda control: all(
            not control.run(router(lost), ["ip", "-br", "link", "show", other.name, "up"]).out.strip()
            for other in others
        ),
        follows=SEVERED | CONTROL_PLANE_GONE | {"NET-UNDR-004", "NET-MTU-005", "NET-DNS-015"},
    )
