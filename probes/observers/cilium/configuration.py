"""What the clusters were told about each other: their identity in the mesh, and where their DNS asks."""

from __future__ import annotations

from analysis.cilium import AgentStatus, parse_status
from analysis.facts import ClusterIdentity, Gap, MeshConfiguration
from probes.cilium import agents_of, ask_agent, config_map
from probes.cluster import Cluster
from probes.deploy import ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.observers.dns import observe_forwards
from probes.permissions import CILIUM_CONFIG

STATUS = {"status": '"$cilium" status -o json'}


def observe_configuration(mesh: Mesh, _probe_set: ProbeSet) -> MeshConfiguration:
    """Read cilium-config, ask an agent of each region whether it runs by it, and read where DNS asks."""
    identities: list[ClusterIdentity] = []
    gaps: list[Gap] = []
    for region, seen in mesh.each_region(_identities):
        if isinstance(seen, ProbeError):
            gaps.append(Gap(region, "identity in the mesh", str(seen)))
        else:
            identities += seen
    forwards, dns_gaps = observe_forwards(mesh)
    return MeshConfiguration(tuple(identities), dns_forwards=forwards, gaps=(*gaps, *dns_gaps))


def _identities(cluster: Cluster) -> list[ClusterIdentity]:
    configured = read_identity(cluster.region, config_map(cluster, CILIUM_CONFIG))
    agents = agents_of(cluster)
    if not agents:
        return [configured]
    told = ask_agent(cluster, agents[0], STATUS)["status"].read(parse_status)
    running = running_identity(configured, told)
    return [configured] if running == configured else [configured, running]


def read_identity(region: str, config: dict[str, str]) -> ClusterIdentity:
    """What cilium-config says; the defaults are id 0 and the name "default"."""
    return ClusterIdentity(
        region=region,
        cluster_id=int(config.get("cluster-id") or 0),
        cluster_name=config.get("cluster-name") or "default",
    )


def running_identity(configured: ClusterIdentity, told: AgentStatus) -> ClusterIdentity:
    """What an agent says, who reads its settings at its start only; what it does not say is as configured."""
    return ClusterIdentity(
        region=configured.region,
        cluster_id=configured.cluster_id if told.cluster_id is None else told.cluster_id,
        cluster_name=told.cluster or configured.cluster_name,
    )
