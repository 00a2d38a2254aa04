"""The faults of the lab, by profile: a list of what can go wrong in a mesh, each with the requirement it breaks."""

from __future__ import annotations

from collections.abc import Callable

from provision.faults import Fault
from provision.lab.faults import addressing, reachability, routing


def aws_calico() -> tuple[Fault, ...]:
    """The faults of the `aws-calico` profile, lowest layer first."""
    return (*addressing.FAULTS, *routing.FAULTS, *reachability.FAULTS)


CATALOGUES: dict[str, Callable[[], tuple[Fault, ...]]] = {"aws-calico": aws_calico}
