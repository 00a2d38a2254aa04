"""Shapes of Kubernetes objects that clusters of every profile start with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from provision.lab.kube.objects import (
    DEFAULT_CLASS,
    POD_INDEX_LABEL,
    POD_NAME_LABEL,
    PROVISIONER,
    SELECTED_NODE,
    KubeObject,
)
from provision.lab.topology import LabNode, LabRegion

TOLERATE_ALL = [{"operator": "Exists"}]
STORAGE_CLASS = "local-path"
"""The lab's only one, and so the default."""


@dataclass(frozen=True)
class Workload:
    """A Deployment or DaemonSet.

    Attributes:
        spec: of its pods.
        match: labels that its pods are selected by.
        labels: further labels of its pods and of itself.
    """

    namespace: str
    name: str
    spec: Mapping[str, Any]
    match: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_labels(self) -> dict[str, str]:
        """What its pods are labelled with."""
        return {**self.match, **self.labels}


def namespace(name: str) -> KubeObject:
    """A Namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
    }


def service_account(namespace: str, name: str) -> KubeObject:
    """A ServiceAccount."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def config_map(namespace: str, name: str, data: Mapping[str, str]) -> KubeObject:
    """A ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": dict(data),
    }


def storage_class() -> KubeObject:
    """The default StorageClass: volumes on the disk of the node that the first pod with the claim gets."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {DEFAULT_CLASS: "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def custom_kind(
    group: str,
    version: str,
    plural: str,
    kind: str,
    *,
    namespaced: bool = False,
    status: bool = False,
    schema: Mapping[str, Any] | None = None,
    short_names: Sequence[str] = (),
) -> KubeObject:
    """A CustomResourceDefinition, of any fields unless there is a schema; with `status` it is written apart."""
    known = schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served: dict[str, Any] = {"name": version, "schema": {"openAPIV3Schema": known}, "served": True, "storage": True}
    if status:
        served["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": list(short_names),
            },
            "scope": "Namespaced" if namespaced else "Cluster",
            "versions": [served],
        },
    }


def pod(
    namespace: str,
    name: str,
    labels: Mapping[str, str],
    spec: Mapping[str, Any],
    owner: Mapping[str, Any] | None = None,
) -> KubeObject:
    """A Pod that is yet to be started."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": dict(labels)}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}


def daemon_set(region: LabRegion, workload: Workload) -> list[KubeObject]:
    """A DaemonSet, and a pod on every node, so that nothing has to be waited for."""
    owner = _owner("DaemonSet", workload.name, _uid(region, workload.name))
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": _metadata(region, workload),
            "spec": {
                "selector": {"matchLabels": dict(workload.match)},
                "template": {"metadata": {"labels": workload.all_labels}, "spec": workload.spec},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            },
        },
        *(
            pod(
                workload.namespace,
                f"{workload.name}-{suffix(node.name)}",
                workload.all_labels,
                _placed(workload, node),
                owner,
            )
            for node in region.nodes
        ),
    ]


def deployment(region: LabRegion, workload: Workload, places: Sequence[LabNode]) -> list[KubeObject]:
    """A Deployment with what it comes to, a ReplicaSet and its pods, one at each of the places."""
    pod_hash = sha256(workload.name.encode()).hexdigest()[:10]
    set_name = f"{workload.name}-{pod_hash}"
    hashed = {**workload.all_labels, "pod-template-hash": pod_hash}
    revision = {"deployment.kubernetes.io/revision": "1"}
    owner = _owner("ReplicaSet", set_name, _uid(region, set_name))
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _metadata(region, workload) | {"annotations": revision},
            "spec": {
                "replicas": len(places),
                "selector": {"matchLabels": dict(workload.match)},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
                "template": {"metadata": {"labels": workload.all_labels}, "spec": workload.spec},
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": set_name,
                "namespace": workload.namespace,
                "labels": hashed,
                "annotations": revision,
                "ownerReferences": [_owner("Deployment", workload.name, _uid(region, workload.name))],
                "uid": _uid(region, set_name),
            },
            "spec": {
                "replicas": len(places),
                "selector": {"matchLabels": {**workload.match, "pod-template-hash": pod_hash}},
                "template": {"metadata": {"labels": hashed}, "spec": workload.spec},
            },
        },
        *(
            pod(
                workload.namespace,
                f"{set_name}-{suffix(f'{node.name}/{number}')}",
                hashed,
                _placed(workload, node),
                owner,
            )
            for number, node in enumerate(places)
        ),
    ]


def stateful_set(
    region: LabRegion, workload: Workload, service: str, places: Sequence[LabNode], claims: Sequence[KubeObject] = ()
) -> list[KubeObject]:
    """A StatefulSet, all of whose pods may start at once, and its pods, one at each of the places.

    Where pods have volumes, there are their claims in place of the pods: who has to wait for a volume cannot be there
    from the start.

    Args:
        region: whose cluster.
        workload: what runs.
        service: name of the headless Service that gives the pods their names.
        places: the nodes of the pods 0, 1, 2 ...
        claims: templates of the pods' claims, as from `volume_claim`.
    """
    owner = _owner("StatefulSet", workload.name, _uid(region, workload.name))
    names = [f"{workload.name}-{number}" for number in range(len(places))]
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": _metadata(region, workload),
            "spec": {
                "podManagementPolicy": "Parallel",
                "replicas": len(places),
                "selector": {"matchLabels": dict(workload.match)},
                "serviceName": service,
                "template": {"metadata": {"labels": workload.all_labels}, "spec": workload.spec},
                "updateStrategy": {"type": "RollingUpdate"},
                **({"volumeClaimTemplates": list(claims)} if claims else {}),
            },
        },
        *(
            _claim(workload, f"{template['metadata']['name']}-{name}", template, node)
            for template in claims
            for name, node in zip(names, places, strict=True)
        ),
        *(
            pod(
                workload.namespace,
                name,
                {**workload.all_labels, POD_NAME_LABEL: name, POD_INDEX_LABEL: str(number)},
                {**_placed(workload, node), "hostname": name, "subdomain": service},
                owner,
            )
            for number, (name, node) in enumerate(zip(names, places, strict=True))
            if not claims
        ),
    ]


def volume_claim(name: str, size: int) -> KubeObject:
    """A template for the claims of a StatefulSet's pods: of the default class, for one node at a time.

    Args:
        name: of the volume in the pods.
        size: in bytes, whole mebibytes of which count.
    """
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": f"{size >> 20}Mi"}}},
    }


def suffix(text: str) -> str:
    """Five characters that tell pods of one owner apart, the same at every start."""
    return sha256(text.encode()).hexdigest()[:5]


def host_path(name: str, path: str) -> dict[str, Any]:
    """A volume: a folder of the node."""
    return {"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}}


def _metadata(region: LabRegion, workload: Workload) -> dict[str, Any]:
    return {
        "name": workload.name,
        "namespace": workload.namespace,
        "labels": workload.all_labels,
        "uid": _uid(region, workload.name),
    }


def _claim(workload: Workload, name: str, template: KubeObject, node: LabNode) -> KubeObject:
    """A pod's claim as the StatefulSet's controller would make it, for a volume on that node.

    It names its class: a new API server may not know yet which one is the default.
    """
    return {
        **template,
        "metadata": {
            "name": name,
            "namespace": workload.namespace,
            "labels": dict(workload.match),
            "annotations": {SELECTED_NODE: node.name},
        },
        "spec": {**template["spec"], "storageClassName": STORAGE_CLASS},
    }


def _placed(workload: Workload, node: LabNode) -> dict[str, Any]:
    return {**workload.spec, "nodeName": node.name, "restartPolicy": "Always"}


def _owner(kind: str, name: str, uid: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "blockOwnerDeletion": True,
        "controller": True,
        "kind": kind,
        "name": name,
        "uid": uid,
    }


def _uid(region: LabRegion, name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"{region.name}/{name}"))
