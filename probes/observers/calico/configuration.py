"""What the clusters were told about each other: Calico's BGP objects, node annotations and Felix's parameters."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from analysis.facts import ClusterIdentity, Gap, MeshConfiguration, NodeOverride, Peering
from probes.calico import calico_group, calico_node_pods, calico_objects
from probes.cluster import Cluster, KubeObject
from probes.deploy import ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.observers.dns import observe_forwards

DEFAULT_AS = 64512
AS_ANNOTATION = "projectcalico.org/ASNumber"
REFLECTOR_ANNOTATION = "projectcalico.org/RouteReflectorClusterID"
TUNNEL_SOURCES_VARIABLE = "FELIX_EXTERNALNODESCIDRLIST"


def observe_configuration(mesh: Mesh, _probe_set: ProbeSet) -> MeshConfiguration:
    """Read the identity, the node overrides, the peerings and the forwards of DNS of every region."""
    identities: list[ClusterIdentity] = []
    overrides: list[NodeOverride] = []
    peerings: list[Peering] = []
    gaps: list[Gap] = []
    for region, seen in mesh.each_region(_observe):
        if isinstance(seen, ProbeError):
            gaps.append(Gap(region, "mesh configuration", str(seen)))
            continue
        identities += seen.identities
        overrides += seen.node_overrides
        peerings += seen.peerings
    forwards, dns_gaps = observe_forwards(mesh)
    return MeshConfiguration(tuple(identities), tuple(overrides), tuple(peerings), forwards, (*gaps, *dns_gaps))


def _observe(cluster: Cluster) -> MeshConfiguration:
    group = calico_group(cluster)
    nodes = cluster.items("/api/v1/nodes")
    identity = read_identity(
        cluster.region,
        _named_default(calico_objects(cluster, group, "bgpconfigurations")),
        _named_default(calico_objects(cluster, group, "felixconfigurations")),
        felix_environment(calico_node_pods(cluster)),
    )
    overrides = (override for node in nodes if (override := read_override(cluster.region, node)))
    peerings = (read_peering(cluster.region, item) for item in calico_objects(cluster, group, "bgppeers"))
    return MeshConfiguration((identity,), tuple(overrides), tuple(peerings))


def read_identity(region: str, bgp: KubeObject, felix: KubeObject, environment: dict[str, str]) -> ClusterIdentity:
    """The cluster's identity.

    Args:
        region: the cluster's.
        bgp: the `spec` of BGPConfiguration/default, {} when there is none.
        felix: the `spec` of FelixConfiguration/default, {} when there is none.
        environment: calico-node's FELIX_ variables, which win over the object.
    """
    listed = environment.get(TUNNEL_SOURCES_VARIABLE)
    sources = listed.split(",") if listed else felix.get("externalNodesList") or []
    services = [entry["cidr"] for entry in bgp.get("serviceClusterIPs") or ()]
    return ClusterIdentity(
        region=region,
        as_number=as_number(bgp.get("asNumber")) or DEFAULT_AS,
        full_node_mesh=bgp.get("nodeToNodeMeshEnabled", True),
        advertised_service_cidrs=_networks(services),
        accepted_tunnel_sources=_networks(sources),
    )


def read_override(region: str, node: KubeObject) -> NodeOverride | None:
    """What the node's annotations say differently from its cluster; None when nothing."""
    annotations = node["metadata"].get("annotations") or {}
    own_as, cluster_id = as_number(annotations.get(AS_ANNOTATION)), annotations.get(REFLECTOR_ANNOTATION)
    if own_as is None and not cluster_id:
        return None
    return NodeOverride(region, node["metadata"]["name"], own_as, cluster_id)


def read_peering(region: str, item: KubeObject) -> Peering:
    """A BGPPeer object. A port behind the peer's address is left out."""
    spec = item["spec"]
    peer = (spec.get("peerIP") or "").strip()
    address = peer.rsplit(":", 1)[0] if peer.count(":") == 1 else peer
    return Peering(
        region=region,
        name=item["metadata"]["name"],
        node=spec.get("node") or None,
        node_selector=spec.get("nodeSelector") or None,
        peer_ip=IPv4Address(address) if address and ":" not in address else None,
        peer_selector=spec.get("peerSelector") or None,
        as_number=as_number(spec.get("asNumber")),
        keep_next_hop=bool(spec.get("keepOriginalNextHop")) or spec.get("nextHopMode") == "Keep",
        authenticated=bool((spec.get("password") or {}).get("secretKeyRef")),
    )


def as_number(value: object) -> int | None:
    """An AS number as Calico writes it: a number, its text, or the dotted form of RFC 5396; 0 and nothing are None."""
    text = str(value or "").strip()
    if "." in text:
        high, low = text.split(".")
        return int(high) * 65536 + int(low)
    return int(text) or None if text else None


def felix_environment(pods: list[KubeObject]) -> dict[str, str]:
    """The FELIX_ variables of calico-node, upper case; all its pods are made from one template."""
    found: dict[str, str] = {}
    for pod in pods[:1]:
        for container in pod["spec"]["containers"]:
            for variable in container.get("env") or ():
                if variable["name"].upper().startswith("FELIX_") and "value" in variable:
                    found[variable["name"].upper()] = variable["value"]
    return found


def _named_default(items: list[KubeObject]) -> KubeObject:
    for item in items:
        if item["metadata"]["name"] == "default":
            spec: KubeObject = item.get("spec") or {}
            return spec
    return {}


def _networks(texts: list[str]) -> tuple[IPv4Network, ...]:
    return tuple(IPv4Network(text.strip(), strict=False) for text in texts if text.strip() and ":" not in text)
