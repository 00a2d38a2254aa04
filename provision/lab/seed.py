"""What a cluster of the lab holds from the start, as a list of objects in an order in which they can be created.

What clusters of every profile hold is here; what comes with the CNI is in the module `seed` of the profile's package.
The lab's API server loads the list before it serves. A real API server is given the same list by POST, without the
objects that have an owner: their owners' controllers make those.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from analysis.plan import DatabasePlan
from provision.lab import database, roles
from provision.lab.agents_config import FIRST_KUBELET_PORT
from provision.lab.kube.objects import KubeObject
from provision.lab.manifests import (
    TOLERATE_ALL,
    Workload,
    config_map,
    deployment,
    host_path,
    namespace,
    pod,
    service_account,
    storage_class,
)
from provision.lab.profiles import MeshSeed, profile_of
from provision.lab.topology import API_SERVER_PORT, LabNode, LabRegion, LabTopology

COREDNS_IMAGE = "registry.k8s.io/coredns/coredns:v1.9.3"
PAUSE_IMAGE = "registry.k8s.io/pause:3.8"

_DNS_REPLICAS = 2
_DNS_LABELS = {"k8s-app": "kube-dns"}
_CACHE_S = 2
"""For how long answers are kept. The guides say 10 s, and kubeadm gives records 30 s; nobody should wait for a lab."""

_MOST_UPSTREAMS = 15
"""More than these `forward` does not take."""


def objects(topology: LabTopology, region: LabRegion, credentials: Iterable[KubeObject] = ()) -> list[KubeObject]:
    """Everything that the region's cluster holds when the lab starts.

    Args:
        topology: the lab.
        region: whose cluster.
        credentials: what the mesh's credentials come to in that cluster.
    """
    mesh = profile_of(topology).seed
    namespaces = ("default", "kube-system", *mesh.namespaces(), region.name)
    return [
        *map(namespace, namespaces),
        *mesh.kinds(),
        *(service_account(*account) for account in (("kube-system", "coredns"), *mesh.service_accounts())),
        *roles.component_roles(topology.cni),
        *roles.verifier_roles(topology.cni),
        *roles.verifier_database_roles((topology.plan.database or DatabasePlan()).namespace(region.name)),
        storage_class(),
        *(_node(topology, region, node, mesh) for node in region.nodes),
        *mesh.objects(topology, region),
        *_api_service(region),
        *_dns(topology, region),
        *mesh.workloads(topology, region),
        *database.objects(topology, region, topology.plan.database or DatabasePlan(), PAUSE_IMAGE),
        *(_demo_pod(node, number) for node in region.nodes for number in range(1, topology.pods_per_node + 1)),
        *credentials,
    ]


def _node(topology: LabTopology, region: LabRegion, node: LabNode, mesh: MeshSeed) -> KubeObject:
    labels = {
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/region": region.name,
        "topology.kubernetes.io/zone": f"{region.name}a",
        **mesh.node_labels(node),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels, "annotations": mesh.node_annotations(region, node)},
        "spec": {"podCIDR": str(node.block), "podCIDRs": [str(node.block)]},
        "status": {
            # Kubelets listen on the loopback of the lab's management network, told apart by their ports.
            "addresses": [
                {"type": "InternalIP", "address": str(node.address)},
                {"type": "Hostname", "address": "127.0.0.1"},
            ],
            "conditions": mesh.node_conditions(node),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": FIRST_KUBELET_PORT + topology.nodes.index(node)}},
        },
    }


def _api_service(region: LabRegion) -> list[KubeObject]:
    """The Service `kubernetes` and its one endpoint, the control plane."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "clusterIP": str(region.plan.service_cidr[1]),
                "clusterIPs": [str(region.plan.service_cidr[1])],
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": API_SERVER_PORT}],
                "type": "ClusterIP",
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [str(region.nodes[0].address)], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "port": API_SERVER_PORT, "protocol": "TCP"}],
        },
    ]


def _dns(topology: LabTopology, region: LabRegion) -> list[KubeObject]:
    """CoreDNS as kubeadm and k3s leave it, with a server block for each other region's zone.

    Where ClusterIPs mean something in their own cluster only, the other clusters come in by a port of every node.
    """
    service = _dns_service("kube-dns", ("UDP", "TCP"))
    service["metadata"]["labels"] |= {"kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
    service["spec"] |= {"clusterIP": str(region.plan.dns_address), "clusterIPs": [str(region.plan.dns_address)]}
    services = [service]
    if not topology.plan.services_routed:
        entrance, address = _dns_service("kube-dns-lb", ("UDP", "TCP")), str(region.plan.service_cidr[53])
        entrance["spec"] |= {"clusterIP": address, "clusterIPs": [address], "type": "NodePort"}
        for port in entrance["spec"]["ports"]:
            port["nodePort"] = region.dns_port
        services.append(entrance)
    spec = {
        "containers": [_coredns_container(region)],
        "dnsPolicy": "Default",
        "serviceAccountName": "coredns",
        "terminationGracePeriodSeconds": 1,
        "tolerations": TOLERATE_ALL,
        "volumes": [host_path("dns", "/var/run/coredns")],
    }
    return [
        config_map("kube-system", "coredns", {"Corefile": _corefile(topology, region)}),
        *services,
        *deployment(region, Workload("kube-system", "coredns", spec, _DNS_LABELS), (region.nodes * 2)[:_DNS_REPLICAS]),
    ]


def _dns_service(name: str, protocols: tuple[str, ...]) -> KubeObject:
    names = {"UDP": "dns", "TCP": "dns-tcp"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "kube-system", "labels": dict(_DNS_LABELS)},
        "spec": {
            "ports": [
                {"name": names[protocol], "port": 53, "protocol": protocol, "targetPort": 53} for protocol in protocols
            ],
            "selector": dict(_DNS_LABELS),
            "type": "ClusterIP",
        },
    }


def _coredns_container(region: LabRegion) -> dict[str, Any]:
    return {
        "name": "coredns",
        "image": COREDNS_IMAGE,
        # What CoreDNS finds the API server by. Kubelets tell all containers; the lab's tell the one that asks.
        "env": [
            {"name": "KUBERNETES_SERVICE_HOST", "value": str(region.plan.service_cidr[1])},
            {"name": "KUBERNETES_SERVICE_PORT", "value": "443"},
        ],
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
        ],
        "volumeMounts": [{"name": "dns", "mountPath": "/var/run/coredns"}],
    }


def _corefile(topology: LabTopology, region: LabRegion) -> str:
    forwards = "".join(
        f"""\
{other.name}.svc.cluster.local:53 {{
    log
    errors
    ready
    cache {_CACHE_S}
    forward . {" ".join(_upstreams(topology, other))}
}}
"""
        for other in topology.regions
        if other is not region
    )
    return f"""\
.:53 {{
    errors
    health {{
        lameduck 5s
    }}
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl {_CACHE_S}
    }}
    forward . /etc/resolv.conf {{
        max_concurrent 1000
    }}
    cache 30 {{
        disable success cluster.local
        disable denial cluster.local
    }}
    loop
    reload 2s 1s
    loadbalance
}}
{forwards}"""


def _upstreams(topology: LabTopology, other: LabRegion) -> list[str]:
    if topology.plan.services_routed:
        return [str(other.plan.dns_address)]
    return [f"{node.address}:{other.dns_port}" for node in other.nodes[:_MOST_UPSTREAMS]]


def _demo_pod(node: LabNode, number: int) -> KubeObject:
    """A workload that does nothing but have an address."""
    spec = {
        "automountServiceAccountToken": False,
        "containers": [{"name": "pause", "image": PAUSE_IMAGE}],
        "nodeName": node.name,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 1,
        "tolerations": TOLERATE_ALL,
    }
    return pod("default", f"demo-{node.number}-{number}", {"app": "demo"}, spec)
