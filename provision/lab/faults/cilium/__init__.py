"""The faults of the `azure-cilium` profile, lowest layer first."""

from __future__ import annotations

from provision.lab.cilium.policy.enforcer import TABLE
from provision.lab.faults.cilium import addressing, control, mtu, policy, reachability, routing, wire
from provision.lab.faults.cilium.place import LAB
from provision.lab.faults.cloud import cloud_faults
from provision.lab.faults.database import database_faults
from provision.lab.faults.database_answers import answer_faults
from provision.lab.faults.dns import dns_faults
from provision.lab.faults.formation import formation_faults
from provision.lab.faults.partition import partition_faults
from provision.lab.faults.policy import policy_faults
from provision.lab.faults.rules import rules_faults
from provision.lab.faults.survival import survival_faults
from provision.lab.faults.tls import tls_faults
from provision.lab.faults.underlay import underlay_faults

FAULTS = (
    *addressing.FAULTS,
    *cloud_faults(LAB),
    *partition_faults(LAB),
    *rules_faults(LAB),
    *underlay_faults(LAB),
    *routing.FAULTS,
    *mtu.FAULTS,
    *wire.FAULTS,
    *reachability.FAULTS,
    *control.FAULTS,
    *policy.FAULTS,
    *policy_faults(LAB, TABLE, "lxc"),
    *dns_faults(LAB),
    *tls_faults(LAB),
    *database_faults(LAB),
    *answer_faults(),
    *survival_faults(LAB),
    *formation_faults(LAB),
)
