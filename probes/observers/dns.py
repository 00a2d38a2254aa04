"""Where a cluster's DNS sends the questions that it cannot answer itself."""

from __future__ import annotations

from analysis.coredns import zone_forwards
from analysis.corefile import parse
from analysis.facts import DnsForward, Gap
from probes.cluster import Cluster
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.permissions import COREDNS_CONFIG, DNS_NAMESPACE


def observe_forwards(mesh: Mesh) -> tuple[tuple[DnsForward, ...], tuple[Gap, ...]]:
    """Read the Corefile of every region."""
    forwards: list[DnsForward] = []
    gaps: list[Gap] = []
    for region, read in mesh.each_region(_read):
        if isinstance(read, ProbeError):
            gaps.append(Gap(region, "DNS configuration", str(read)))
        else:
            forwards += read
    return tuple(forwards), tuple(gaps)


def _read(cluster: Cluster) -> list[DnsForward]:
    found = cluster.get(f"/api/v1/namespaces/{DNS_NAMESPACE}/configmaps/{COREDNS_CONFIG}")
    corefile = parse([("coredns/Corefile", (found.get("data") or {}).get("Corefile") or "")])
    return [DnsForward(cluster.region, found.zone, found.forward.targets) for found in zone_forwards(corefile)]
