"""Objects as the tables that `kubectl get` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from provision.lab.kube.apiserver.resources import Resource
from provision.lab.kube.objects import DEFAULT_CLASS

KubeObject: TypeAlias = Mapping[str, Any]

NONE = "<none>"
UNKNOWN = "<unknown>"
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True, slots=True)
class Column:
    """One column. A `wide` one is shown by `kubectl get -o wide` only."""

    title: str
    cell: Callable[[KubeObject], object]
    wide: bool = False


def table(
    resource: Resource, objects: Iterable[KubeObject], *, revision: str, include: str = "Metadata"
) -> dict[str, Any]:
    """The Table of some objects.

    Args:
        resource: their kind.
        objects: the rows.
        revision: resourceVersion of the list.
        include: what each row carries of its object: "None", "Metadata" or "Object".
    """
    columns = _COLUMNS.get(resource.kind, _PLAIN) if not resource.custom else _PLAIN
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": revision},
        "columnDefinitions": [
            {
                "name": column.title,
                "type": "string",
                "format": "name" if column.title == "Name" else "",
                "description": "",
                "priority": int(column.wide),
            }
            for column in columns
        ],
        "rows": [{"cells": [column.cell(obj) for column in columns]} | _carried(obj, include) for obj in objects],
    }


def _carried(obj: KubeObject, include: str) -> dict[str, Any]:
    if include == "None":
        return {}
    if include == "Object":
        return {"object": obj}
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
    return {"object": partial}


def age(since: str | None, now: datetime | None = None) -> str:
    """How long ago a timestamp was, as kubectl writes it: "12s", "5m3s", "7h", "3d"."""
    if not since:
        return UNKNOWN
    span = (now or datetime.now(UTC)) - datetime.fromisoformat(since)
    seconds = max(int(span.total_seconds()), 0)
    if seconds < 2 * _MINUTE:
        return f"{seconds}s"
    if seconds < 10 * _MINUTE:
        rest = seconds % _MINUTE
        return f"{seconds // _MINUTE}m{rest}s" if rest else f"{seconds // _MINUTE}m"
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR}h"
    return f"{seconds // _DAY}d"


def _at(*path: str, default: object = NONE) -> Callable[[KubeObject], object]:
    def cell(obj: KubeObject) -> object:
        value: Any = obj
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return default if value is None or value == "" else value

    return cell


def _count(*path: str) -> Callable[[KubeObject], object]:
    return _at(*path, default=0)


def _size(field: str) -> Callable[[KubeObject], object]:
    return lambda obj: len(obj.get(field) or ())


def _age_cell(obj: KubeObject) -> str:
    return age(obj["metadata"].get("creationTimestamp"))


def _statuses(pod: KubeObject) -> Sequence[KubeObject]:
    return pod.get("status", {}).get("containerStatuses") or ()


def _pod_ready(pod: KubeObject) -> str:
    return f"{sum(bool(status.get('ready')) for status in _statuses(pod))}/{len(pod['spec']['containers'])}"


def _pod_status(pod: KubeObject) -> object:
    """One word: why a container waits or ended badly if one did, else the phase."""
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    for status in _statuses(pod):
        state = status.get("state") or {}
        for kind in ("waiting", "terminated"):
            reason = (state.get(kind) or {}).get("reason")
            if reason:
                return reason
    return pod.get("status", {}).get("phase", UNKNOWN)


def _pod_restarts(pod: KubeObject) -> str:
    return str(sum(status.get("restartCount", 0) for status in _statuses(pod)))


def _node_status(node: KubeObject) -> str:
    conditions = {each["type"]: each["status"] for each in node.get("status", {}).get("conditions") or ()}
    words = ["Ready" if conditions.get("Ready") == "True" else "NotReady"]
    if node.get("spec", {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _node_roles(node: KubeObject) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels") or {}
    return ",".join(sorted(label.removeprefix(prefix) for label in labels if label.startswith(prefix))) or NONE


def _node_address(kind: str) -> Callable[[KubeObject], str]:
    def cell(node: KubeObject) -> str:
        addresses = node.get("status", {}).get("addresses") or ()
        return next((each["address"] for each in addresses if each["type"] == kind), NONE)

    return cell


def _service_ports(service: KubeObject) -> str:
    def text(port: KubeObject) -> str:
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        return f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}"

    return ",".join(text(port) for port in service["spec"].get("ports") or ()) or NONE


def _selector(*path: str) -> Callable[[KubeObject], str]:
    find = _at(*path, default={})

    def cell(obj: KubeObject) -> str:
        labels = find(obj)
        assert isinstance(labels, Mapping)
        return ",".join(f"{key}={value}" for key, value in labels.items()) or NONE

    return cell


def _images(obj: KubeObject) -> str:
    return ",".join(container.get("image", "") for container in obj["spec"]["template"]["spec"]["containers"])


def _deployment_ready(obj: KubeObject) -> str:
    return f"{obj.get('status', {}).get('readyReplicas', 0)}/{obj['spec'].get('replicas', 1)}"


def _slice_ports(endpoint_slice: KubeObject) -> str:
    return ",".join(str(port.get("port")) for port in endpoint_slice.get("ports") or ()) or "<unset>"


def _slice_endpoints(endpoint_slice: KubeObject) -> str:
    addresses = [text for each in endpoint_slice.get("endpoints") or () for text in each.get("addresses") or ()]
    return ",".join(addresses) or "<unset>"


def _involved_object(event: KubeObject) -> str:
    about = event.get("involvedObject") or {}
    return f"{about.get('kind', '')}/{about.get('name', '')}".lower()


_MODE_LETTERS = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _access_modes(member: str) -> Callable[[KubeObject], str]:
    return lambda obj: ",".join(_MODE_LETTERS.get(mode, mode) for mode in obj.get(member, {}).get("accessModes") or ())


def _claim(volume: KubeObject) -> str:
    reference = volume["spec"].get("claimRef")
    return f"{reference['namespace']}/{reference['name']}" if reference else ""


def _class_name(storage_class: KubeObject) -> str:
    meta = storage_class["metadata"]
    default = (meta.get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    return f"{meta['name']} (default)" if default else str(meta["name"])


_NAME = Column("Name", _at("metadata", "name"))
_AGE = Column("Age", _age_cell)
_PLAIN = (_NAME, _AGE)
_COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "Pod": (
        _NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        Column("Restarts", _pod_restarts),
        _AGE,
        Column("IP", _at("status", "podIP"), wide=True),
        Column("Node", _at("spec", "nodeName"), wide=True),
    ),
    "Node": (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", _node_roles),
        _AGE,
        Column("Version", _at("status", "nodeInfo", "kubeletVersion")),
        Column("Internal-IP", _node_address("InternalIP"), wide=True),
        Column("OS-Image", _at("status", "nodeInfo", "osImage", default=UNKNOWN), wide=True),
        Column("Kernel-Version", _at("status", "nodeInfo", "kernelVersion", default=UNKNOWN), wide=True),
        Column("Container-Runtime", _at("status", "nodeInfo", "containerRuntimeVersion", default=UNKNOWN), wide=True),
    ),
    "Namespace": (_NAME, Column("Status", _at("status", "phase")), _AGE),
    "Service": (
        _NAME,
        Column("Type", _at("spec", "type")),
        Column("Cluster-IP", _at("spec", "clusterIP")),
        Column("External-IP", _at("spec", "externalName")),
        Column("Port(s)", _service_ports),
        _AGE,
        Column("Selector", _selector("spec", "selector"), wide=True),
    ),
    "Deployment": (
        _NAME,
        Column("Ready", _deployment_ready),
        Column("Up-to-date", _count("status", "updatedReplicas")),
        Column("Available", _count("status", "availableReplicas")),
        _AGE,
        Column("Images", _images, wide=True),
    ),
    "ReplicaSet": (
        _NAME,
        Column("Desired", _count("spec", "replicas")),
        Column("Current", _count("status", "replicas")),
        Column("Ready", _count("status", "readyReplicas")),
        _AGE,
    ),
    "StatefulSet": (_NAME, Column("Ready", _deployment_ready), _AGE, Column("Images", _images, wide=True)),
    "DaemonSet": (
        _NAME,
        Column("Desired", _count("status", "desiredNumberScheduled")),
        Column("Current", _count("status", "currentNumberScheduled")),
        Column("Ready", _count("status", "numberReady")),
        Column("Up-to-date", _count("status", "updatedNumberScheduled")),
        Column("Available", _count("status", "numberAvailable")),
        Column("Node Selector", _selector("spec", "template", "spec", "nodeSelector")),
        _AGE,
        Column("Images", _images, wide=True),
    ),
    "ConfigMap": (_NAME, Column("Data", _size("data")), _AGE),
    "Secret": (_NAME, Column("Type", _at("type")), Column("Data", _size("data")), _AGE),
    "EndpointSlice": (
        _NAME,
        Column("AddressType", _at("addressType")),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_endpoints),
        _AGE,
    ),
    "Event": (
        Column("Last Seen", lambda event: age(event.get("lastTimestamp") or event.get("eventTime"))),
        Column("Type", _at("type")),
        Column("Reason", _at("reason")),
        Column("Object", _involved_object),
        Column("Message", _at("message")),
        Column("Name", _at("metadata", "name"), wide=True),
    ),
    "PersistentVolumeClaim": (
        _NAME,
        Column("Status", _at("status", "phase")),
        Column("Volume", _at("spec", "volumeName", default="")),
        Column("Capacity", _at("status", "capacity", "storage", default="")),
        Column("Access Modes", _access_modes("status")),
        Column("StorageClass", _at("spec", "storageClassName", default="")),
        _AGE,
    ),
    "PersistentVolume": (
        _NAME,
        Column("Capacity", _at("spec", "capacity", "storage")),
        Column("Access Modes", _access_modes("spec")),
        Column("Reclaim Policy", _at("spec", "persistentVolumeReclaimPolicy")),
        Column("Status", _at("status", "phase")),
        Column("Claim", _claim),
        Column("StorageClass", _at("spec", "storageClassName", default="")),
        _AGE,
    ),
    "StorageClass": (
        Column("Name", _class_name),
        Column("Provisioner", _at("provisioner")),
        Column("ReclaimPolicy", _at("reclaimPolicy")),
        Column("VolumeBindingMode", _at("volumeBindingMode")),
        Column("AllowVolumeExpansion", _at("allowVolumeExpansion", default=False)),
        _AGE,
    ),
    "PodDisruptionBudget": (
        _NAME,
        Column("Min Available", _at("spec", "minAvailable", default="N/A")),
        Column("Max Unavailable", _at("spec", "maxUnavailable", default="N/A")),
        Column("Allowed Disruptions", _count("status", "disruptionsAllowed")),
        _AGE,
    ),
    "NetworkPolicy": (_NAME, Column("Pod-Selector", _selector("spec", "podSelector", "matchLabels")), _AGE),
    "CustomResourceDefinition": (_NAME, Column("Created At", _at("metadata", "creationTimestamp"))),
}
