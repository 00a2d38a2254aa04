"""What every cluster holds before anything else: the system namespaces, and the roles that any client counts on."""

from __future__ import annotations

import json
from collections.abc import Iterable

from provision.lab.kube.apiserver import errors
from provision.lab.kube.apiserver.authentication import AUTHENTICATED, MASTERS, UNAUTHENTICATED
from provision.lab.kube.apiserver.operations import Operations
from provision.lab.kube.apiserver.patches import merge_patch
from provision.lab.kube.apiserver.resources import Resources
from provision.lab.kube.objects import KubeObject

_RBAC = "rbac.authorization.k8s.io/v1"
_GROUP = "rbac.authorization.k8s.io"
_HEALTH = ["/healthz", "/livez", "/readyz", "/version", "/version/"]
_DISCOVERY = [*_HEALTH, "/", "/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"]
_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


def _role(name: str, *rules: KubeObject) -> KubeObject:
    return {"apiVersion": _RBAC, "kind": "ClusterRole", "metadata": {"name": name}, "rules": list(rules)}


def _binding(role: str, *groups: str) -> KubeObject:
    return {
        "apiVersion": _RBAC,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": role},
        "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _GROUP, "kind": "Group", "name": group} for group in groups],
    }


def _self_reviews() -> tuple[KubeObject, ...]:
    rights = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
    return (
        {"apiGroups": ["authorization.k8s.io"], "resources": rights, "verbs": ["create"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]},
    )


def _objects() -> list[KubeObject]:
    everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    return [
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in _NAMESPACES),
        _role("cluster-admin", everything, {"nonResourceURLs": ["*"], "verbs": ["*"]}),
        _binding("cluster-admin", MASTERS),
        _role("system:basic-user", *_self_reviews()),
        _binding("system:basic-user", AUTHENTICATED),
        _role("system:discovery", {"nonResourceURLs": _DISCOVERY, "verbs": ["get"]}),
        _binding("system:discovery", AUTHENTICATED),
        _role("system:public-info-viewer", {"nonResourceURLs": _HEALTH, "verbs": ["get"]}),
        _binding("system:public-info-viewer", AUTHENTICATED, UNAUTHENTICATED),
    ]


def fill(operations: Operations, resources: Resources, objects: Iterable[KubeObject]) -> None:
    """Create the objects of a list, in its order, after those of every cluster; one that is there already is merged.

    Raises:
        ApiError: an object is refused; the message names it.
    """
    for obj in [*_objects(), *objects]:
        metadata = obj["metadata"]
        try:
            resource = resources.of_kind(obj["apiVersion"], obj["kind"])
            namespace = metadata.get("namespace", "") if resource.namespaced else ""
            try:
                operations.create(resource, namespace, obj, loading=True)
            except errors.ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
                current = operations.get(resource, namespace, metadata["name"])
                operations.update(resource, current, merge_patch(current.copy(), json.loads(json.dumps(obj))))
        except errors.ApiError as error:
            name = f"{obj['kind']} {metadata.get('namespace', '')}/{metadata.get('name', '')}"
            raise errors.ApiError(error.code, error.reason, f"{name}: {error.message}") from error
