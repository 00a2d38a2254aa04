"""The family "tls": certificates in secrets, in pods and on the wire, and who is let in."""

from __future__ import annotations

from datetime import UTC, datetime

from analysis.facts import Gap, Tls
from probes.deploy import ProbeSet
from probes.mesh import Mesh


def observe_tls(mesh: Mesh, probe_set: ProbeSet) -> Tls:
    """Look at them in every region."""
    return Tls(datetime.now(UTC), gaps=tuple(Gap(region, "certificates", "not asked yet") for region in mesh.regions))
