"""Cilium's side of a new cluster: the kinds it registers, its settings, its nodes, and what runs of it.

Names and fields are those that the chart of Cilium 1.16 writes for clusters in a mesh. The
Secrets are made with the mesh's certificates, in `provision.lab.cilium.pki`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from provision.lab.cilium.isolation import isolation_policy
from provision.lab.cilium.policy.schema import policy_schema
from provision.lab.cilium.settings import FOLDER
from provision.lab.cilium.store import ETCD_COMMAND
from provision.lab.kube.objects import KubeObject
from provision.lab.manifests import (
    TOLERATE_ALL,
    Workload,
    config_map,
    custom_kind,
    daemon_set,
    deployment,
    host_path,
)
from provision.lab.topology import LabNode, LabRegion, LabTopology

CILIUM_VERSION = "v1.16.5"
AGENT_IMAGE = f"quay.io/cilium/cilium:{CILIUM_VERSION}"
OPERATOR_IMAGE = f"quay.io/cilium/operator-generic:{CILIUM_VERSION}"
CLUSTERMESH_IMAGE = f"quay.io/cilium/clustermesh-apiserver:{CILIUM_VERSION}"
ETCD_IMAGE = f"{CLUSTERMESH_IMAGE.rpartition('/')[0]}/etcd:v3.5.1"

GROUP = "cilium.io"
NAMESPACE = "kube-system"
STORE = "clustermesh-apiserver"
STORE_PORT = 2379

_CLUSTER_KINDS = {
    "ciliumbgppeeringpolicies": ("v2alpha1", "CiliumBGPPeeringPolicy"),
    "ciliumcidrgroups": ("v2alpha1", "CiliumCIDRGroup"),
    "ciliumclusterwideenvoyconfigs": ("v2", "CiliumClusterwideEnvoyConfig"),
    "ciliumclusterwidenetworkpolicies": ("v2", "CiliumClusterwideNetworkPolicy"),
    "ciliumegressgatewaypolicies": ("v2", "CiliumEgressGatewayPolicy"),
    "ciliumendpointslices": ("v2alpha1", "CiliumEndpointSlice"),
    "ciliumexternalworkloads": ("v2", "CiliumExternalWorkload"),
    "ciliumidentities": ("v2", "CiliumIdentity"),
    "ciliuml2announcementpolicies": ("v2alpha1", "CiliumL2AnnouncementPolicy"),
    "ciliumloadbalancerippools": ("v2alpha1", "CiliumLoadBalancerIPPool"),
    "ciliumnodes": ("v2", "CiliumNode"),
    "ciliumpodippools": ("v2alpha1", "CiliumPodIPPool"),
}
_NAMESPACED_KINDS = {
    "ciliumendpoints": ("v2", "CiliumEndpoint"),
    "ciliumenvoyconfigs": ("v2", "CiliumEnvoyConfig"),
    "ciliumlocalredirectpolicies": ("v2", "CiliumLocalRedirectPolicy"),
    "ciliumnetworkpolicies": ("v2", "CiliumNetworkPolicy"),
    "ciliumnodeconfigs": ("v2", "CiliumNodeConfig"),
}
_POLICIES = {"CiliumClusterwideNetworkPolicy": ("ccnp",), "CiliumNetworkPolicy": ("cnp", "ciliumnp")}
"""The kinds of policies, with their short names."""

_WITH_STATUS = frozenset({*_POLICIES, "CiliumNode"})

_K3S_ARGUMENTS = ("server", "--flannel-backend", "none", "--disable-network-policy")


def kinds() -> list[KubeObject]:
    """The CustomResourceDefinitions of `cilium.io`."""
    return [
        custom_kind(
            GROUP,
            version,
            plural,
            kind,
            namespaced=namespaced,
            status=kind in _WITH_STATUS,
            schema=policy_schema(clusterwide=not namespaced) if kind in _POLICIES else None,
            short_names=_POLICIES.get(kind, ()),
        )
        for namespaced, group in ((False, _CLUSTER_KINDS), (True, _NAMESPACED_KINDS))
        for plural, (version, kind) in group.items()
    ]


def namespaces() -> tuple[str, ...]:
    """Cilium lives in kube-system, which is there."""
    return ()


def node_labels(_node: LabNode) -> dict[str, str]:
    """What k3s notes on the Node object of a server."""
    roles = {f"node-role.kubernetes.io/{role}": "true" for role in ("control-plane", "etcd", "master")}
    return roles | {"node.kubernetes.io/instance-type": "k3s"}


def node_annotations(_region: LabRegion, node: LabNode) -> dict[str, str]:
    """What k3s and its embedded etcd note on the Node object of a server."""
    return {
        "etcd.k3s.cattle.io/local-snapshots-timestamp": "",
        "etcd.k3s.cattle.io/node-address": str(node.address),
        "etcd.k3s.cattle.io/node-name": node.name,
        "k3s.io/hostname": node.name,
        "k3s.io/internal-ip": str(node.address),
        "k3s.io/node-args": json.dumps(_K3S_ARGUMENTS),
    }


def node_conditions(_node: LabNode) -> list[KubeObject]:
    """The condition in which k3s says that the node's embedded etcd has a vote."""
    message = "Node is a voting member of the etcd cluster"
    return [{"type": "EtcdIsVoter", "status": "True", "reason": "MemberNotLearner", "message": message}]


def objects(topology: LabTopology, region: LabRegion) -> list[KubeObject]:
    """Cilium's settings, a CiliumNode for each node, with the pod CIDR that the operator would give it, and policy."""
    policy = isolation_policy(topology, region)
    return [
        config_map(NAMESPACE, "cilium-config", settings(region)),
        *(cilium_node(node.name, node.address, node.block, node.tunnel_address) for node in region.nodes),
        *([policy] if policy is not None else []),
    ]


def settings(region: LabRegion) -> dict[str, str]:
    """The content of cilium-config."""
    return {
        "agent-health-port": "9879",
        "agent-not-ready-taint-key": "node.cilium.io/agent-not-ready",
        "auto-direct-node-routes": "false",
        "cluster-id": str(region.plan.cluster_id),
        "cluster-name": str(region.plan.cluster_name),
        "cluster-pool-ipv4-cidr": str(region.plan.pod_cidr),
        "cluster-pool-ipv4-mask-size": str(region.plan.block_size),
        "clustermesh-enable-endpoint-sync": "false",
        "clustermesh-enable-mcs-api": "false",
        "cni-exclusive": "true",
        "datapath-mode": "veth",
        "debug": "false",
        "enable-bpf-masquerade": "false",
        "enable-endpoint-health-checking": "true",
        "enable-health-checking": "true",
        "enable-ipv4": "true",
        "enable-ipv4-masquerade": "true",
        "enable-ipv6": "false",
        "enable-l7-proxy": "true",
        "enable-policy": "default",
        "identity-allocation-mode": "crd",
        "ipam": "cluster-pool",
        "kube-proxy-replacement": "false",
        "max-connected-clusters": "255",
        "monitor-aggregation": "medium",
        "policy-audit-mode": "false",
        "routing-mode": "tunnel",
        "tunnel-protocol": "vxlan",
    }


def cilium_node(
    name: str, address: IPv4Address, pod_cidr: IPv4Network | None = None, router: IPv4Address | None = None
) -> KubeObject:
    """The CiliumNode of a node, with its pod CIDR and its own address in it once it has them."""
    addresses = [{"type": "InternalIP", "ip": str(address)}]
    if router is not None:
        addresses.append({"type": "CiliumInternalIP", "ip": str(router)})
    return {
        "apiVersion": f"{GROUP}/v2",
        "kind": "CiliumNode",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {
            "addresses": addresses,
            "encryption": {},
            "health": {},
            "ingress": {},
            "ipam": {"podCIDRs": [str(pod_cidr)] if pod_cidr is not None else []},
        },
        "status": {"ipam": {"operator-status": {}}},
    }


def workloads(topology: LabTopology, region: LabRegion) -> list[KubeObject]:
    """Agents, operator and clustermesh API server, with their pods, and the Service of the latter."""
    return [
        *daemon_set(region, _agent(topology, region)),
        *deployment(region, _operator(), region.nodes[:1]),
        _store_service(region),
        *deployment(region, _store(), region.nodes[-1:]),
    ]


def service_accounts() -> tuple[tuple[str, str], ...]:
    """Namespace and name of the accounts that Cilium's pods use."""
    return tuple((NAMESPACE, name) for name in ("cilium", "cilium-operator", STORE))


def _agent(topology: LabTopology, region: LabRegion) -> Workload:
    spec = {
        "containers": [
            {
                "name": "cilium-agent",
                "image": AGENT_IMAGE,
                "securityContext": {"privileged": True},
                "volumeMounts": [
                    {"name": "cilium-run", "mountPath": "/var/run/cilium"},
                    {"name": "clustermesh-secrets", "mountPath": str(FOLDER), "readOnly": True},
                ],
            }
        ],
        "hostAliases": [
            {"ip": str(node.address), "hostnames": [other.store_host]}
            for other in topology.regions
            if other is not region
            for node in other.nodes
        ],
        "hostNetwork": True,
        "priorityClassName": "system-node-critical",
        "serviceAccountName": "cilium",
        "terminationGracePeriodSeconds": 1,
        "tolerations": TOLERATE_ALL,
        "volumes": [host_path("cilium-run", "/var/run/cilium"), host_path("clustermesh-secrets", str(FOLDER))],
    }
    return Workload(NAMESPACE, "cilium", spec, {"k8s-app": "cilium"}, _labels("cilium-agent"))


def _operator() -> Workload:
    spec = {
        "containers": [{"name": "cilium-operator", "image": OPERATOR_IMAGE}],
        "hostNetwork": True,
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": "cilium-operator",
        "terminationGracePeriodSeconds": 1,
        "tolerations": TOLERATE_ALL,
    }
    match = {"io.cilium/app": "operator", "name": "cilium-operator"}
    return Workload(NAMESPACE, "cilium-operator", spec, match, _labels("cilium-operator"))


def _store() -> Workload:
    spec = {
        "containers": [
            {
                "name": "etcd",
                "image": ETCD_IMAGE,
                "command": list(ETCD_COMMAND),
                "ports": [{"name": "etcd", "containerPort": STORE_PORT, "protocol": "TCP"}],
                "volumeMounts": [
                    {"name": "etcd-server-secrets", "mountPath": "/var/lib/etcd-secrets", "readOnly": True},
                    {"name": "etcd-data-dir", "mountPath": "/var/run/etcd"},
                ],
            },
            {"name": "apiserver", "image": CLUSTERMESH_IMAGE},
        ],
        "serviceAccountName": STORE,
        "terminationGracePeriodSeconds": 1,
        "tolerations": TOLERATE_ALL,
        "volumes": [
            {"name": "etcd-server-secrets", "secret": {"secretName": f"{STORE}-server-cert", "defaultMode": 0o400}},
            {"name": "etcd-data-dir", "emptyDir": {}},
        ],
    }
    return Workload(NAMESPACE, STORE, spec, {"k8s-app": STORE}, _labels(STORE))


def _store_service(region: LabRegion) -> KubeObject:
    port: Mapping[str, Any] = {"port": STORE_PORT, "protocol": "TCP", "targetPort": STORE_PORT}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": STORE, "namespace": NAMESPACE, "labels": {"k8s-app": STORE} | _labels(STORE)},
        "spec": {
            "clusterIP": str(region.plan.service_cidr[STORE_PORT]),
            "clusterIPs": [str(region.plan.service_cidr[STORE_PORT])],
            "ports": [{**port, "nodePort": region.store_port}],
            "selector": {"k8s-app": STORE},
            "type": "NodePort",
        },
    }


def _labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "cilium"}
