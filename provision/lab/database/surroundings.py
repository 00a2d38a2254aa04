"""What the database's manifests bring besides its pods and Services: an account, its rights, a disruption budget.

As published in cockroachdb/cockroach, `cloud/kubernetes/multiregion`, but that bindings name the namespace that the
account is in, and that the budget is of `policy/v1`.
"""

from __future__ import annotations

from analysis.plan import DatabasePlan
from provision.lab.kube.objects import KubeObject
from provision.lab.manifests import service_account

LABELS = {"app": "cockroachdb"}

_RBAC = "rbac.authorization.k8s.io"
_SECRET_RULE = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "get"]}
_SIGNING_RULE = {
    "apiGroups": ["certificates.k8s.io"],
    "resources": ["certificatesigningrequests"],
    "verbs": ["create", "get", "watch"],
}


def objects(plan: DatabasePlan, region: str) -> list[KubeObject]:
    """All of it, in the database's namespace of that region."""
    namespace, name = plan.namespace(region), plan.service_account
    return [
        service_account(namespace, name),
        _role("Role", name, _SECRET_RULE, namespace),
        _role("ClusterRole", name, _SIGNING_RULE),
        _binding("RoleBinding", name, namespace, namespace),
        _binding("ClusterRoleBinding", name, namespace),
        _budget(plan, namespace),
    ]


def _role(kind: str, name: str, rule: KubeObject, namespace: str = "") -> KubeObject:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": kind,
        "metadata": _metadata(name, namespace),
        "rules": [rule],
    }


def _binding(kind: str, name: str, account_namespace: str, namespace: str = "") -> KubeObject:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": kind,
        "metadata": _metadata(name, namespace),
        "roleRef": {"apiGroup": _RBAC, "kind": kind.removesuffix("Binding"), "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": account_namespace}],
    }


def _budget(plan: DatabasePlan, namespace: str) -> KubeObject:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(f"{plan.service}-budget", namespace),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": dict(LABELS)}},
    }


def _metadata(name: str, namespace: str) -> KubeObject:
    place = {"namespace": namespace} if namespace else {}
    return {"name": name, **place, "labels": dict(LABELS)}
