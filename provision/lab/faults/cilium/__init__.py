"""The faults of the `azure-cilium` profile, lowest layer first."""

from __future__ import annotations

from provision.lab.faults.cilium import addressing, control, reachability, routing

FAULTS = (*addressing.FAULTS, *routing.FAULTS, *reachability.FAULTS, *control.FAULTS)
