"""Who may do what in a cluster of the lab: the roles of the lab's components, and docs/rbac.yaml for the verifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from analysis.plan import Cni
from provision.lab.kube.identities import CONTROLLER_MANAGER, KUBE_PROXY, NODE_AGENT
from provision.lab.kube.objects import KubeObject

VERIFIER_MANIFEST = Path(__file__).resolve().parents[2] / "docs" / "rbac.yaml"
DATABASE_MANIFEST = VERIFIER_MANIFEST.with_name("rbac-database.yaml")
POLICY_MANIFEST = VERIFIER_MANIFEST.with_name("rbac-policy.yaml")

_LABELS = {Cni.CALICO_BGP: "calico", Cni.CILIUM_CLUSTERMESH: "cilium"}
"""How docs/rbac.yaml labels what only one of them needs."""

_RBAC = "rbac.authorization.k8s.io"
_READ = ("get", "list", "watch")
_WRITE = ("create", "delete", "patch", "update")
_CALICO = "crd.projectcalico.org"
_CILIUM = "cilium.io"

_Rule = tuple[str, Sequence[str], Sequence[str]]

# Not by the names of Kubernetes' own roles, which a real API server has from the start.
_ROLES: dict[str, tuple[_Rule, ...]] = {
    "meshproof:node-agents": (
        ("", ("nodes", "pods"), (*_READ, "create", "delete", "patch", "update")),
        ("", ("nodes/status", "pods/status"), ("patch", "update")),
        ("", ("configmaps", "secrets", "services", "serviceaccounts", "namespaces"), _READ),
        ("", ("serviceaccounts/token",), ("create",)),
        ("", ("persistentvolumes", "persistentvolumeclaims"), _READ),
        ("", ("events",), ("create", "patch", "update")),
        ("coordination.k8s.io", ("leases",), ("get", "create", "patch", "update")),
    ),
    "meshproof:controllers": (
        ("", ("pods", "services", "nodes", "configmaps", "secrets"), _READ),
        ("", ("pods", "endpoints", "persistentvolumeclaims", "persistentvolumes", "serviceaccounts"), _WRITE),
        ("", ("services",), ("delete",)),
        ("", ("endpoints", "namespaces", "persistentvolumeclaims", "persistentvolumes", "serviceaccounts"), _READ),
        ("", ("pods/binding", "pods/eviction"), ("create",)),
        (
            "",
            ("nodes", "nodes/status", "pods/status", "namespaces", "namespaces/status"),
            ("patch", "update", "delete"),
        ),
        ("", ("namespaces/finalize",), ("update",)),
        ("", ("persistentvolumes/status", "persistentvolumeclaims/status", "services/status"), ("patch", "update")),
        ("", ("events",), ("create", "patch", "update")),
        ("apps", ("*",), (*_READ, *_WRITE)),
        ("batch", ("*",), (*_READ, *_WRITE)),
        ("policy", ("poddisruptionbudgets",), _READ),
        ("policy", ("poddisruptionbudgets/status",), ("patch", "update")),
        ("storage.k8s.io", ("storageclasses",), _READ),
        ("discovery.k8s.io", ("endpointslices",), (*_READ, *_WRITE)),
        ("coordination.k8s.io", ("leases",), (*_READ, *_WRITE)),
    ),
    "meshproof:kube-proxy": (
        ("", ("services", "nodes", "configmaps", "pods"), _READ),
        ("discovery.k8s.io", ("endpointslices",), _READ),
        ("", ("events",), ("create", "patch", "update")),
    ),
    "meshproof:coredns": (
        ("", ("endpoints", "services", "pods", "namespaces"), ("list", "watch")),
        ("discovery.k8s.io", ("endpointslices",), ("list", "watch")),
    ),
}

_MESH_ROLES: dict[Cni, dict[str, tuple[_Rule, ...]]] = {
    Cni.CALICO_BGP: {
        "calico-node": (
            ("", ("nodes", "pods", "namespaces", "services", "serviceaccounts"), _READ),
            ("", ("pods/status", "nodes/status"), ("patch",)),
            ("networking.k8s.io", ("networkpolicies",), _READ),
            (_CALICO, ("*",), (*_READ, *_WRITE)),
        ),
    },
    Cni.CILIUM_CLUSTERMESH: {
        # One process plays the agents and the clustermesh API server, so one identity has the rights of both.
        "cilium": (
            ("", ("nodes", "pods", "namespaces", "services", "configmaps", "secrets"), _READ),
            ("", ("nodes/status",), ("patch",)),
            ("discovery.k8s.io", ("endpointslices",), _READ),
            ("networking.k8s.io", ("networkpolicies",), _READ),
            (_CILIUM, ("*",), (*_READ, *_WRITE)),
        ),
        "cilium-operator": (
            ("", ("nodes", "configmaps"), _READ),
            (_CILIUM, ("ciliumnodes", "ciliumnodes/status"), (*_READ, *_WRITE)),
        ),
    },
}

_SUBJECTS: dict[str, KubeObject] = {
    "meshproof:node-agents": {"apiGroup": _RBAC, "kind": "User", "name": NODE_AGENT.user},
    "meshproof:controllers": {"apiGroup": _RBAC, "kind": "User", "name": CONTROLLER_MANAGER.user},
    "calico-node": {"kind": "ServiceAccount", "name": "calico-node", "namespace": "calico-system"},
    "cilium": {"kind": "ServiceAccount", "name": "cilium", "namespace": "kube-system"},
    "cilium-operator": {"kind": "ServiceAccount", "name": "cilium-operator", "namespace": "kube-system"},
    "meshproof:kube-proxy": {"apiGroup": _RBAC, "kind": "User", "name": KUBE_PROXY.user},
    "meshproof:coredns": {"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"},
}


def component_roles(cni: Cni) -> list[KubeObject]:
    """A ClusterRole and its binding for each of the components of a lab with that CNI."""
    objects = []
    for name, rules in {**_ROLES, **_MESH_ROLES[cni]}.items():
        objects += [_cluster_role(name, rules), _binding(name)]
    return objects


def verifier_roles(cni: Cni | None = None) -> list[KubeObject]:
    """The objects of docs/rbac.yaml and docs/rbac-policy.yaml, just as a user would apply them.

    Args:
        cni: the cluster's; what only another one needs is labelled so, and left out. None for all objects.
    """
    found: list[KubeObject] = []
    for file in (VERIFIER_MANIFEST, POLICY_MANIFEST):
        with file.open() as manifest:
            found += [obj for obj in yaml.load_all(manifest, Loader=yaml.CSafeLoader) if obj]
    wanted = (None, *(name for meant, name in _LABELS.items() if cni in (None, meant)))
    return [obj for obj in found if (obj["metadata"].get("labels") or {}).get("meshproof/cni") in wanted]


def verifier_database_roles(namespace: str) -> list[KubeObject]:
    """The objects of docs/rbac-database.yaml, as `kubectl -n NAMESPACE apply` makes them."""
    with DATABASE_MANIFEST.open() as manifest:
        found = [obj for obj in yaml.load_all(manifest, Loader=yaml.CSafeLoader) if obj]
    return [obj | {"metadata": obj["metadata"] | {"namespace": namespace}} for obj in found]


def _cluster_role(name: str, rules: Sequence[_Rule]) -> KubeObject:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [
            {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}
            for group, resources, verbs in rules
        ],
    }


def _binding(name: str) -> KubeObject:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name},
        "subjects": [_SUBJECTS[name]],
    }
