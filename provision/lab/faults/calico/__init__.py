"""The faults of the `aws-calico` profile, lowest layer first."""

from __future__ import annotations

from provision.lab.faults.calico import addressing, control, mtu, reachability, routing

FAULTS = (*addressing.FAULTS, *routing.FAULTS, *mtu.FAULTS, *reachability.FAULTS, *control.FAULTS)
