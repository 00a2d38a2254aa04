"""Calico's control plane in a new cluster: the operator's objects, Typha and kube-controllers, and their rights.

Names are those that the Tigera operator gives. What is not here does not run in the lab: the
operator, kube-controllers' other controllers and the aggregated API server; there is no APIServer object either.
"""

from __future__ import annotations

from typing import Any

from provision.lab.calico.rights import READ, granted, rule
from provision.lab.kube.objects import KubeObject, Resource
from provision.lab.manifests import TOLERATE_ALL, Workload, deployment, host_path
from provision.lab.topology import LabRegion

NAMESPACE = "calico-system"
OPERATOR_NAMESPACE = "tigera-operator"
OPERATOR_GROUP = "operator.tigera.io"
TIGERA_STATUSES = Resource(OPERATOR_GROUP, "v1", "tigerastatuses", "TigeraStatus", namespaced=False)
CALICO_NODE = "calico-node"
TYPHA = "calico-typha"
KUBE_CONTROLLERS = "calico-kube-controllers"
FELIX_HEALTH_PORT = 9099
TYPHA_HEALTH_PORT = 9098
LOOPBACK = "127.0.0.1"
FELIX_READINESS = {"host": LOOPBACK, "path": "/readiness", "port": FELIX_HEALTH_PORT}
"""Felix listens on the node's loopback alone. The agents answer for it, and for confd and BIRD."""

TYPHA_LOGS = "var/log/calico/typha"
"""Below a node's host tree: a file for each Typha pod that has run there, which the pod's container prints."""

FEDERATION_NAMESPACE = "kube-system"
FEDERATION_ACCOUNT = "tigera-federation-remote-cluster"

_CALICO_GROUP = "crd.projectcalico.org"
_CALICO_KINDS = (
    "bgpconfigurations",
    "bgppeers",
    "clusterinformations",
    "felixconfigurations",
    "globalnetworkpolicies",
    "globalnetworksets",
    "hostendpoints",
    "ippools",
    "ipreservations",
    "networkpolicies",
    "networksets",
    "remoteclusterconfigurations",
)


def remote_cluster_name(region: str) -> str:
    """The name of a RemoteClusterConfiguration for that region's cluster."""
    return f"calico-cluster-{region}"


def remote_name(name: str) -> str:
    """A RemoteClusterConfiguration as Typha's log calls it."""
    return f"RemoteClusterConfiguration({name})"


def service_accounts() -> tuple[tuple[str, str], ...]:
    """Namespace and name of the accounts that the control plane uses, and of the one that other clusters do."""
    return (
        (NAMESPACE, TYPHA),
        (NAMESPACE, KUBE_CONTROLLERS),
        (OPERATOR_NAMESPACE, "tigera-operator"),
        (FEDERATION_NAMESPACE, FEDERATION_ACCOUNT),
    )


def objects(region: LabRegion, version: str) -> list[KubeObject]:
    """Rights and configuration in one cluster; `version` is Calico's, as image tags have it."""
    return [*_rights(), _installation(region, version)]


def workloads(region: LabRegion, version: str) -> list[KubeObject]:
    """What runs besides calico-node."""
    return [*_typha(region, version), *_kube_controllers(region, version)]


def _rights() -> list[KubeObject]:
    """The federation account may read what another cluster's Typha follows, and nothing else."""
    typha, controllers = (NAMESPACE, TYPHA), (NAMESPACE, KUBE_CONTROLLERS)
    followed = [
        rule("", ["nodes", "pods", "namespaces", "serviceaccounts", "services", "endpoints"], READ),
        rule("discovery.k8s.io", ["endpointslices"], READ),
        rule("networking.k8s.io", ["networkpolicies"], READ),
        rule(_CALICO_GROUP, _CALICO_KINDS, READ),
    ]
    operator = [
        rule("apps", ["daemonsets", "deployments"], READ),
        rule(OPERATOR_GROUP, ["tigerastatuses", "tigerastatuses/status"], (*READ, "create", "update", "patch")),
    ]
    return [
        *granted(TYPHA, typha, followed),
        *granted("remote-cluster-secret-access", typha, [rule("", ["secrets"], READ)], namespace=NAMESPACE),
        *granted(KUBE_CONTROLLERS, controllers, [rule("", ["nodes", "pods"], READ)]),
        *granted("tigera-operator", (OPERATOR_NAMESPACE, "tigera-operator"), operator),
        *granted(FEDERATION_ACCOUNT, (FEDERATION_NAMESPACE, FEDERATION_ACCOUNT), followed),
    ]


def _installation(region: LabRegion, version: str) -> KubeObject:
    """What a user asked the operator for: VXLAN where the published environment has IPIP, as everywhere in the lab."""
    pool = {
        "name": "default-ipv4-ippool",
        "cidr": str(region.plan.pod_cidr),
        "blockSize": region.plan.block_size,
        "encapsulation": "VXLAN",
        "natOutgoing": "Enabled",
        "nodeSelector": "all()",
    }
    return {
        "apiVersion": f"{OPERATOR_GROUP}/v1",
        "kind": "Installation",
        "metadata": {"name": "default"},
        "spec": {
            "variant": "Calico",
            "cni": {"type": "Calico", "ipam": {"type": "Calico"}},
            "calicoNetwork": {"bgp": "Enabled", "linuxDataplane": "Nftables", "ipPools": [pool]},
        },
        "status": {"variant": "Calico", "calicoVersion": version},
    }


def _typha(region: LabRegion, version: str) -> list[KubeObject]:
    """Typha, in the network of a node."""
    own_name = {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    container = {
        "name": TYPHA,
        "image": f"docker.io/calico/typha:{version}",
        "env": [own_name],
        "readinessProbe": {"httpGet": {"path": "/readiness", "port": TYPHA_HEALTH_PORT}},
        "volumeMounts": [{"name": "logs", "mountPath": f"/{TYPHA_LOGS}"}],
    }
    spec = {"hostNetwork": True, "containers": [container], "volumes": [host_path("logs", f"/{TYPHA_LOGS}")]}
    return _deployment(region, TYPHA, spec)


def _kube_controllers(region: LabRegion, version: str) -> list[KubeObject]:
    image = f"docker.io/calico/kube-controllers:{version}"
    return _deployment(region, KUBE_CONTROLLERS, {"containers": [{"name": KUBE_CONTROLLERS, "image": image}]})


def _deployment(region: LabRegion, name: str, spec: dict[str, Any]) -> list[KubeObject]:
    """One pod, on the last node: one that is no reflector, unless there is no other."""
    common = {"serviceAccountName": name, "terminationGracePeriodSeconds": 1, "tolerations": TOLERATE_ALL}
    return deployment(region, Workload(NAMESPACE, name, common | spec, {"k8s-app": name}), region.nodes[-1:])
