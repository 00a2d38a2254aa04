"""Calico's side of a new cluster: the kinds it registers, and the objects of the published environment.

Names and fields are those of tigera-solutions/calico-cockroachdb-service-federation, with VXLAN in the place of IPIP.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from string import ascii_lowercase
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from provision.lab.calico import control_plane
from provision.lab.calico.authentication import BGP_PASSWORD_KEY, BGP_SECRET
from provision.lab.calico.control_plane import OPERATOR_GROUP
from provision.lab.calico.policy import seed as policy
from provision.lab.calico.policy.schemas import schema_of
from provision.lab.calico.resources import (
    ADDRESS_ANNOTATION,
    GROUP,
    REFLECTOR_ANNOTATION,
    TUNNEL_ADDRESS_ANNOTATION,
    TUNNEL_MAC_ANNOTATION,
    block_name,
)
from provision.lab.calico.rights import bgp_password_rights
from provision.lab.kube.objects import KubeObject
from provision.lab.manifests import TOLERATE_ALL, Workload, custom_kind, daemon_set, host_path
from provision.lab.topology import REFLECTOR_LABEL, LabNode, LabRegion, LabTopology

CALICO_VERSION = "v3.24.5"
CALICO_NODE_IMAGE = f"docker.io/calico/node:{CALICO_VERSION}"
NAMESPACE = "calico-system"

_NAMESPACED_KINDS = {"networkpolicies": "NetworkPolicy", "networksets": "NetworkSet"}
_CLUSTER_KINDS = {
    "bgpconfigurations": "BGPConfiguration",
    "bgppeers": "BGPPeer",
    "blockaffinities": "BlockAffinity",
    "clusterinformations": "ClusterInformation",
    "felixconfigurations": "FelixConfiguration",
    "globalnetworkpolicies": "GlobalNetworkPolicy",
    "globalnetworksets": "GlobalNetworkSet",
    "hostendpoints": "HostEndpoint",
    "ipamblocks": "IPAMBlock",
    "ipamconfigs": "IPAMConfig",
    "ipamhandles": "IPAMHandle",
    "ippools": "IPPool",
    "ipreservations": "IPReservation",
    "remoteclusterconfigurations": "RemoteClusterConfiguration",
    "tiers": "Tier",
}


def kinds() -> list[KubeObject]:
    """The CustomResourceDefinitions of `crd.projectcalico.org` and of the operator."""
    return [
        *(
            custom_kind(GROUP, "v1", plural, kind, namespaced=kinds is _NAMESPACED_KINDS, schema=schema_of(kind))
            for kinds in (_CLUSTER_KINDS, _NAMESPACED_KINDS)
            for plural, kind in kinds.items()
        ),
        custom_kind(OPERATOR_GROUP, "v1", "installations", "Installation"),
        custom_kind(OPERATOR_GROUP, "v1", "tigerastatuses", "TigeraStatus", status=True),
    ]


def namespaces() -> tuple[str, ...]:
    """The namespaces that Calico lives in."""
    return (NAMESPACE, control_plane.OPERATOR_NAMESPACE)


def service_accounts() -> tuple[tuple[str, str], ...]:
    """Namespace and name of the accounts that calico-node and the control plane use."""
    return ((NAMESPACE, "calico-node"), *control_plane.service_accounts())


def node_labels(node: LabNode) -> dict[str, str]:
    """What kubeadm and the administrator note on the Node object of the control plane, which is the reflector too."""
    return {"node-role.kubernetes.io/control-plane": "", REFLECTOR_LABEL: "true"} if node.is_reflector else {}


def node_conditions(_node: LabNode) -> list[KubeObject]:
    """None but the kubelet's own."""
    return []


def node_annotations(region: LabRegion, node: LabNode) -> dict[str, str]:
    """What calico-node notes on its Node object."""
    notes = {
        ADDRESS_ANNOTATION: f"{node.address}/{region.plan.node_cidr.prefixlen}",
        TUNNEL_ADDRESS_ANNOTATION: str(node.tunnel_address),
        TUNNEL_MAC_ANNOTATION: node.tunnel_mac,
    }
    if node.is_reflector:
        notes[REFLECTOR_ANNOTATION] = str(region.plan.cluster_id)
    return notes


def objects(topology: LabTopology, region: LabRegion) -> list[KubeObject]:
    """Calico's objects of one cluster: pools, BGP, Felix, blocks and their owners, policy."""
    others = [other for other in topology.regions if other is not region]
    return [
        *bgp_password_rights(),
        *control_plane.objects(region, CALICO_VERSION),
        _cluster_information(topology, region),
        _bgp_configuration(region),
        _reflector_peering(),
        *(_remote_peering(other) for other in others),
        _felix_configuration(others),
        _pool("default-ipv4-ippool", region.plan.pod_cidr, blockSize=region.plan.block_size, natOutgoing=True),
        *(pool for other in others for pool in _remote_pools(other)),
        *(claim for node in region.nodes for claim in (block_affinity(node.name, node.block), _first_block(node))),
        *policy.objects(topology, region),
    ]


def workloads(_topology: LabTopology, region: LabRegion) -> list[KubeObject]:
    """calico-node, Typha and kube-controllers, with their pods, so that nothing need wait for a controller."""
    spec = {
        "containers": [
            {
                "name": "calico-node",
                "image": CALICO_NODE_IMAGE,
                "env": [{"name": "CALICO_NETWORKING_BACKEND", "value": "bird"}],
                "readinessProbe": {"httpGet": control_plane.FELIX_READINESS},
                "securityContext": {"privileged": True},
                "volumeMounts": [{"name": "var-run-calico", "mountPath": "/var/run/calico"}],
            }
        ],
        "hostNetwork": True,
        "priorityClassName": "system-node-critical",
        "serviceAccountName": "calico-node",
        "terminationGracePeriodSeconds": 1,
        "tolerations": TOLERATE_ALL,
        "volumes": [host_path("var-run-calico", "/var/run/calico")],
    }
    calico_node = Workload(NAMESPACE, "calico-node", spec, {"k8s-app": "calico-node"})
    return [*daemon_set(region, calico_node), *control_plane.workloads(region, CALICO_VERSION)]


def block_affinity(node: str, cidr: IPv4Network) -> KubeObject:
    """The confirmed claim of a node on a block."""
    spec = {"cidr": str(cidr), "deleted": "false", "node": node, "state": "confirmed", "type": "host"}
    return _object("BlockAffinity", f"{node}-{block_name(cidr)}", spec)


def empty_block(node: str, cidr: IPv4Network) -> KubeObject:
    """A block of which no address is given out."""
    spec = {
        "affinity": f"host:{node}",
        "allocations": [None] * cidr.num_addresses,
        "attributes": [],
        "cidr": str(cidr),
        "deleted": False,
        "sequenceNumber": 0,
        "sequenceNumberForAllocation": {},
        "strictAffinity": False,
        "unallocated": list(range(cidr.num_addresses)),
    }
    return _object("IPAMBlock", block_name(cidr), spec)


def _first_block(node: LabNode) -> KubeObject:
    """The node's first block, whose first address is that of its tunnel device."""
    block = empty_block(node.name, node.block)
    block["spec"]["allocations"][0] = 0
    block["spec"]["unallocated"].remove(0)
    block["spec"]["attributes"] = [
        {
            "handle_id": f"vxlan-tunnel-addr-{node.name}",
            "secondary": {"node": node.name, "type": "vxlanTunnelAddress"},
        }
    ]
    return block


def _cluster_letter(region: LabRegion) -> str:
    """The letter that the published environment calls a cluster by: A, B, C."""
    return ascii_lowercase[region.index]


def _object(kind: str, name: str, spec: dict[str, Any]) -> KubeObject:
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _pool(name: str, cidr: IPv4Network, **fields: Any) -> KubeObject:
    spec = {"cidr": str(cidr), "ipipMode": "Never", "vxlanMode": "Always", "nodeSelector": "all()", **fields}
    return _object("IPPool", name, spec)


def _remote_pools(other: LabRegion) -> tuple[KubeObject, KubeObject]:
    """The other cluster's ranges as disabled pools: no address comes from them, no masquerade goes towards them."""
    letter = _cluster_letter(other)
    return (
        _pool(f"fed-ipv4-cluster{letter}", other.plan.pod_cidr, natOutgoing=False, disabled=True),
        _pool(f"fed-serviceips-cluster{letter}", other.plan.service_cidr, natOutgoing=False, disabled=True),
    )


def _bgp_configuration(region: LabRegion) -> KubeObject:
    spec = {
        "asNumber": region.plan.as_number,
        "logSeverityScreen": "Info",
        "nodeToNodeMeshEnabled": False,
        "serviceClusterIPs": [{"cidr": str(region.plan.service_cidr)}],
    }
    return _object("BGPConfiguration", "default", spec)


def _reflector_peering() -> KubeObject:
    spec = {"nodeSelector": "all()", "peerSelector": f"{REFLECTOR_LABEL} == 'true'", "password": _bgp_password()}
    return _object("BGPPeer", "peer-with-route-reflectors", spec)


def _bgp_password() -> dict[str, Any]:
    return {"secretKeyRef": {"name": BGP_SECRET, "key": BGP_PASSWORD_KEY}}


def _remote_peering(other: LabRegion) -> KubeObject:
    spec = {
        "asNumber": other.plan.as_number,
        "keepOriginalNextHop": True,
        "nodeSelector": f"{REFLECTOR_LABEL} == 'true'",
        "password": _bgp_password(),
        "peerIP": str(other.nodes[0].address),
    }
    return _object("BGPPeer", f"remote-rr-{other.name}", spec)


def _felix_configuration(others: list[LabRegion]) -> KubeObject:
    spec = {
        # As the operator has it; Felix itself would drop what pods send to their own node.
        "defaultEndpointToHostAction": "Accept",
        "externalNodesList": [str(other.plan.node_cidr) for other in others],
        "logSeverityScreen": "Info",
    }
    return _object("FelixConfiguration", "default", spec)


def _cluster_information(topology: LabTopology, region: LabRegion) -> KubeObject:
    spec = {
        "calicoVersion": CALICO_VERSION,
        "clusterGUID": uuid5(NAMESPACE_DNS, f"{topology.name}.{region.name}").hex,
        "clusterType": "typha,kdd,k8s,operator,bgp,kubeadm",
        "datastoreReady": True,
        "variant": "Calico",
    }
    return _object("ClusterInformation", "default", spec)
