"""Who may do what of Calico's components, beyond what calico-node has in every cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from provision.lab.calico.authentication import BGP_SECRET, BGP_SECRET_NAMESPACE
from provision.lab.kube.objects import KubeObject

_RBAC = "rbac.authorization.k8s.io"
READ = ("get", "list", "watch")


def rule(group: str, resources: Sequence[str], verbs: Sequence[str], names: Sequence[str] = ()) -> dict[str, Any]:
    """A PolicyRule; with `names`, only for the objects of these names."""
    found: dict[str, Any] = {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}
    return found | ({"resourceNames": list(names)} if names else {})


def granted(
    name: str, account: tuple[str, str], rules: Sequence[dict[str, Any]], *, namespace: str | None = None
) -> list[KubeObject]:
    """A Role and its binding in a namespace, or, without one, a ClusterRole and its binding.

    Args:
        name: of both objects.
        account: namespace and name of the ServiceAccount that is granted the rules.
        rules: as `rule` makes them.
        namespace: where they apply; None for the whole cluster.
    """
    prefix = "" if namespace else "Cluster"
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    home, who = account
    return [
        {"apiVersion": f"{_RBAC}/v1", "kind": f"{prefix}Role", "metadata": metadata, "rules": list(rules)},
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": f"{prefix}RoleBinding",
            "metadata": dict(metadata),
            "roleRef": {"apiGroup": _RBAC, "kind": f"{prefix}Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": who, "namespace": home}],
        },
    ]


def bgp_password_rights() -> list[KubeObject]:
    """What calico-node needs to sign its sessions."""
    rules = [rule("", ["secrets"], READ, [BGP_SECRET])]
    return granted("bgp-passwords", ("calico-system", "calico-node"), rules, namespace=BGP_SECRET_NAMESPACE)
