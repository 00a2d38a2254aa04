"""What a cluster of the lab holds from the start, as a list of objects in an order in which they can be created.

The lab's API server loads the list before it serves. A real API server is given the same list by POST, without the
objects that have an owner: their owners' controllers make those.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from provision.lab import roles
from provision.lab.agents_config import FIRST_KUBELET_PORT
from provision.lab.calico import seed as calico
from provision.lab.kube.objects import KubeObject
from provision.lab.topology import REFLECTOR_LABEL, LabNode, LabRegion, LabTopology

API_SERVER_PORT = 6443
COREDNS_IMAGE = "registry.k8s.io/coredns/coredns:v1.9.3"
CALICO_NODE_IMAGE = f"docker.io/calico/node:{calico.CALICO_VERSION}"
PAUSE_IMAGE = "registry.k8s.io/pause:3.8"

_DNS_REPLICAS = 2
_TOLERATE_ALL = [{"operator": "Exists"}]


def objects(topology: LabTopology, region: LabRegion) -> list[KubeObject]:
    """Everything that the region's cluster holds when the lab starts."""
    return [
        *(_namespace(name) for name in ("default", "kube-system", "calico-system", region.name)),
        *calico.kinds(),
        *(
            _service_account(namespace, name)
            for namespace, name in (("calico-system", "calico-node"), ("kube-system", "coredns"))
        ),
        *roles.component_roles(),
        *roles.verifier_roles(),
        *(_node(topology, region, node) for node in region.nodes),
        *calico.objects(topology, region),
        *_api_service(region),
        *_dns(topology, region),
        *_calico_node(region),
        *(_demo_pod(node, number) for node in region.nodes for number in range(1, topology.pods_per_node + 1)),
    ]


def _namespace(name: str) -> KubeObject:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
    }


def _service_account(namespace: str, name: str) -> KubeObject:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def _node(topology: LabTopology, region: LabRegion, node: LabNode) -> KubeObject:
    labels = {
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/region": region.name,
        "topology.kubernetes.io/zone": f"{region.name}a",
    }
    if node.is_reflector:
        labels |= {"node-role.kubernetes.io/control-plane": "", REFLECTOR_LABEL: "true"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels, "annotations": calico.node_annotations(region, node)},
        "spec": {"podCIDR": str(node.block), "podCIDRs": [str(node.block)]},
        "status": {
            # Kubelets listen on the loopback of the lab's management network, told apart by their ports.
            "addresses": [
                {"type": "InternalIP", "address": str(node.address)},
                {"type": "Hostname", "address": "127.0.0.1"},
            ],
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
    """CoreDNS as kubeadm leaves it, with a server block for each other region's zone (environment.md 3.6)."""
    labels = {"k8s-app": "kube-dns"}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "coredns", "namespace": "kube-system"},
            "data": {"Corefile": _corefile(topology, region)},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "kube-dns",
                "namespace": "kube-system",
                "labels": labels | {"kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
            },
            "spec": {
                "clusterIP": str(region.plan.dns_address),
                "clusterIPs": [str(region.plan.dns_address)],
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                ],
                "selector": labels,
                "type": "ClusterIP",
            },
        },
        *_coredns(region, labels),
    ]


def _coredns(region: LabRegion, labels: dict[str, str]) -> list[KubeObject]:
    """The Deployment with what it comes to: a ReplicaSet and two pods, placed, so that nothing has to be waited for."""
    name, namespace, pod_hash = "coredns", "kube-system", "565d847f94"
    spec = {
        "containers": [_coredns_container()],
        "dnsPolicy": "Default",
        "serviceAccountName": name,
        "terminationGracePeriodSeconds": 1,
        "tolerations": _TOLERATE_ALL,
        "volumes": [_host_path("dns", "/var/run/coredns")],
    }
    hashed = labels | {"pod-template-hash": pod_hash}
    meta = {"name": name, "namespace": namespace, "labels": labels, "uid": _uid(region, name)}
    set_meta = {
        "name": f"{name}-{pod_hash}",
        "namespace": namespace,
        "labels": hashed,
        "annotations": {"deployment.kubernetes.io/revision": "1"},
        "ownerReferences": [_owner("Deployment", name, _uid(region, name))],
        "uid": _uid(region, f"{name}-{pod_hash}"),
    }
    owner = _owner("ReplicaSet", f"{name}-{pod_hash}", _uid(region, f"{name}-{pod_hash}"))
    places = (region.nodes * 2)[:_DNS_REPLICAS]
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta | {"annotations": {"deployment.kubernetes.io/revision": "1"}},
            "spec": {
                "replicas": _DNS_REPLICAS,
                "selector": {"matchLabels": labels},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": set_meta,
            "spec": {
                "replicas": _DNS_REPLICAS,
                "selector": {"matchLabels": hashed},
                "template": {"metadata": {"labels": hashed}, "spec": spec},
            },
        },
        *(
            _pod(
                namespace,
                f"{name}-{pod_hash}-{_suffix(f'{node.name}/{number}')}",
                hashed,
                spec | {"nodeName": node.name, "restartPolicy": "Always"},
                owner,
            )
            for number, node in enumerate(places)
        ),
    ]


def _coredns_container() -> dict[str, Any]:
    return {
        "name": "coredns",
        "image": COREDNS_IMAGE,
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
    cache 10
    forward . {other.plan.dns_address}
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
        ttl 30
    }}
    forward . /etc/resolv.conf {{
        max_concurrent 1000
    }}
    cache 30
    loop
    reload
    loadbalance
}}
{forwards}"""


def _calico_node(region: LabRegion) -> list[KubeObject]:
    """The DaemonSet, and its pods, so that routing need not wait for a controller."""
    name, namespace, labels = "calico-node", "calico-system", {"k8s-app": "calico-node"}
    spec = {
        "containers": [
            {
                "name": "calico-node",
                "image": CALICO_NODE_IMAGE,
                "env": [{"name": "CALICO_NETWORKING_BACKEND", "value": "bird"}],
                "securityContext": {"privileged": True},
                "volumeMounts": [{"name": "var-run-calico", "mountPath": "/var/run/calico"}],
            }
        ],
        "hostNetwork": True,
        "priorityClassName": "system-node-critical",
        "serviceAccountName": name,
        "terminationGracePeriodSeconds": 1,
        "tolerations": _TOLERATE_ALL,
        "volumes": [_host_path("var-run-calico", "/var/run/calico")],
    }
    daemon_set = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "uid": _uid(region, name)},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        },
    }
    owner = _owner("DaemonSet", name, _uid(region, name))
    pods = [
        _pod(
            namespace,
            f"{name}-{_suffix(node.name)}",
            labels,
            spec | {"nodeName": node.name, "restartPolicy": "Always"},
            owner,
        )
        for node in region.nodes
    ]
    return [daemon_set, *pods]


def _demo_pod(node: LabNode, number: int) -> KubeObject:
    """A workload that does nothing but have an address."""
    spec = {
        "automountServiceAccountToken": False,
        "containers": [{"name": "pause", "image": PAUSE_IMAGE}],
        "nodeName": node.name,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 1,
        "tolerations": _TOLERATE_ALL,
    }
    return _pod("default", f"demo-{node.number}-{number}", {"app": "demo"}, spec)


def _pod(
    namespace: str, name: str, labels: dict[str, str], spec: dict[str, Any], owner: dict[str, Any] | None = None
) -> KubeObject:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": labels}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}


def _owner(kind: str, name: str, uid: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "blockOwnerDeletion": True,
        "controller": True,
        "kind": kind,
        "name": name,
        "uid": uid,
    }


def _suffix(text: str) -> str:
    """Five characters that tell pods of one owner apart, the same at every start."""
    return sha256(text.encode()).hexdigest()[:5]


def _host_path(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}}


def _uid(region: LabRegion, name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"{region.name}/{name}"))
