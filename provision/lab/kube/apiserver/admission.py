"""What new objects are given whoever makes them, as by Kubernetes' admission plug-ins.

A pod gets its priority, tolerations and a token, a claim of storage its class. Every function changes the object's
spec in place.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from provision.lab.kube.apiserver.errors import forbidden
from provision.lab.kube.objects import DEFAULT_CLASS, NAME_ALPHABET, KubeObject

AUTHORITY = "kube-root-ca.crt"
"""The ConfigMap of every namespace with the authority that pods verify the API server by."""

TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a place, no secret

_PRIORITIES = {"": 0, "system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_FAILING_NODE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_PATIENCE_S = 300
_TOKEN_LIFETIME_S = 3607
_FILE_MODE = 0o644
_SUFFIX_LENGTH = 5


def prioritise(pod: KubeObject) -> None:
    """The number behind the pod's priority class.

    Raises:
        ApiError: 403, there is no such class.
    """
    spec, name = pod["spec"], pod["metadata"]["name"]
    wanted = spec.get("priorityClassName") or ""
    if wanted not in _PRIORITIES:
        raise forbidden(f'pods "{name}" is forbidden: no PriorityClass with name {wanted} was found', name=name)
    spec["priority"] = _PRIORITIES[wanted]
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")


def tolerate_failing_nodes(pod: KubeObject) -> None:
    """Five minutes on a node that does not answer, where the pod says nothing else."""
    tolerations = list(pod["spec"].get("tolerations") or ())
    for taint in _FAILING_NODE:
        if not any(_tolerates(toleration, taint) for toleration in tolerations):
            tolerations.append(
                {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _PATIENCE_S}
            )
    pod["spec"]["tolerations"] = tolerations


def mount_token(pod: KubeObject, account: Mapping[str, Any]) -> None:
    """A token of the pod's ServiceAccount, with which its containers can talk to the API, unless nobody wants that."""
    spec = pod["spec"]
    wanted = spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
    containers = [
        container
        for field in ("initContainers", "containers")
        for container in spec.get(field) or ()
        if all(mount["mountPath"] != TOKEN_FOLDER for mount in container.get("volumeMounts") or ())
    ]
    if not wanted or not containers:
        return
    volume = "kube-api-access-" + "".join(secrets.choice(NAME_ALPHABET) for _ in range(_SUFFIX_LENGTH))
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": _TOKEN_LIFETIME_S, "path": "token"}},
        {"configMap": {"name": AUTHORITY, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    projected = {"sources": sources, "defaultMode": _FILE_MODE}
    spec["volumes"] = [*(spec.get("volumes") or ()), {"name": volume, "projected": projected}]
    for container in containers:
        mount = {"name": volume, "readOnly": True, "mountPath": TOKEN_FOLDER}
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]


def choose_class(claim: KubeObject, classes: Iterable[Mapping[str, Any]]) -> None:
    """The default StorageClass for a claim that names none: of several the newest."""
    if claim["spec"].get("storageClassName") is not None:
        return
    default = [
        each["metadata"] for each in classes if (each["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    ]
    if default:
        newest = max(default, key=lambda meta: (meta["creationTimestamp"], meta["name"]))
        claim["spec"]["storageClassName"] = newest["name"]


def _tolerates(toleration: Mapping[str, Any], taint: str) -> bool:
    """Whether a toleration says anything of that taint's effect NoExecute; without a key it speaks of all taints."""
    said = toleration.get("key", taint), toleration.get("effect", "NoExecute")
    return said == (taint, "NoExecute")
