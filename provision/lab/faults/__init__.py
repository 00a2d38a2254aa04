"""The faults of the lab, by profile: a list of what can go wrong in a mesh, each with the requirement it breaks."""

from __future__ import annotations

from collections.abc import Callable

from provision.faults import Fault


def aws_calico() -> tuple[Fault, ...]:
    """The faults of the `aws-calico` profile, lowest layer first."""
    from provision.lab.faults import calico

    return calico.FAULTS


CATALOGUES: dict[str, Callable[[], tuple[Fault, ...]]] = {"aws-calico": aws_calico}
