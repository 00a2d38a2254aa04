"""The lab that the faults of the `aws-calico` profile are planted in, and how its regions are called here."""

from __future__ import annotations

from provision.lab.topology import LabTopology, aws_calico

LAB: LabTopology = aws_calico("faults")
"""The default size. Faults name places and addresses of it, so they are tried on labs of that size."""

EAST, OHIO, WEST = LAB.regions
CALICO = "/apis/crd.projectcalico.org/v1"
