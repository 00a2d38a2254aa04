"""The faults of the lab, by profile: a list of what can go wrong in a mesh, each with the requirement it breaks."""

from __future__ import annotations

from collections.abc import Callable

from provision.faults import Fault
from provision.lab.topology import AWS_CALICO, AZURE_CILIUM


def aws_calico() -> tuple[Fault, ...]:
    """The faults of the `aws-calico` profile, lowest layer first."""
    from provision.lab.faults import calico

    return calico.FAULTS


def azure_cilium() -> tuple[Fault, ...]:
    """The faults of the `azure-cilium` profile, lowest layer first."""
    from provision.lab.faults import cilium

    return cilium.FAULTS


CATALOGUES: dict[str, Callable[[], tuple[Fault, ...]]] = {AWS_CALICO: aws_calico, AZURE_CILIUM: azure_cilium}
