"""The faults of the `aws-calico` profile, lowest layer first."""

from __future__ import annotations

from provision.lab.faults.calico import addressing, control, reachability, routing

FAULTS = (*addressing.FAULTS, *routing.FAULTS, *reachability.FAULTS, *control.FAULTS)
