"""What the API server fills in where a manifest is silent, for the kinds whose readers rely on it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from provision.lab.kube.apiserver.resources import Resource
from provision.lab.kube.objects import KubeObject

_POD_SPEC: KubeObject = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
}
_CONTAINER: KubeObject = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
_PROBE: KubeObject = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_EMPTY_STATUS: Mapping[str, KubeObject] = {
    "DaemonSet": dict.fromkeys(
        ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"), 0
    ),
    "PersistentVolume": {"phase": "Pending"},
    "PersistentVolumeClaim": {"phase": "Pending"},
    "PodDisruptionBudget": dict.fromkeys(("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"), 0),
    "ReplicaSet": {"replicas": 0},
    "Service": {"loadBalancer": {}},
    "StatefulSet": {"replicas": 0},
}
_FILE_MODE = 0o644
_LATEST = ":latest"


def fill_in(resource: Resource, obj: KubeObject) -> None:
    """Complete a new or changed object in place."""
    defaults = _DEFAULTS.get(resource.kind)
    if defaults is not None and not resource.custom:
        defaults(obj)


def empty_status(resource: Resource) -> KubeObject:
    """The status of an object that nobody has reported on: the fields that its kind never leaves out."""
    return dict(_EMPTY_STATUS.get(resource.kind, {}))


def containers(pod_spec: Mapping[str, Any]) -> Iterator[tuple[str, KubeObject]]:
    """All containers of a pod, each with the path of its field."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(pod_spec.get(field) or ()):
            yield f"spec.{field}[{index}]", container


def _merge_defaults(target: KubeObject, defaults: KubeObject) -> None:
    for key, value in defaults.items():
        target.setdefault(key, value)


def _pod_spec(spec: KubeObject) -> None:
    _merge_defaults(spec, _POD_SPEC)
    spec.setdefault("securityContext", {})  # kubectl debug reads it without asking whether it is there
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    for _, container in containers(spec):
        _container(container)
    for volume in spec.get("volumes") or ():
        for source in ("configMap", "secret", "projected", "downwardAPI"):
            if source in volume:
                volume[source].setdefault("defaultMode", _FILE_MODE)
        if "hostPath" in volume:
            volume["hostPath"].setdefault("type", "")


def _container(container: KubeObject) -> None:
    _merge_defaults(container, _CONTAINER)
    container.setdefault("resources", {})
    image = container.get("image", "")
    tagged = ":" in image.rpartition("/")[2] or "@" in image
    container.setdefault("imagePullPolicy", "Always" if image.endswith(_LATEST) or not tagged else "IfNotPresent")
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(probe):
            _merge_defaults(container[probe], _PROBE)
            if "httpGet" in container[probe]:
                container[probe]["httpGet"].setdefault("scheme", "HTTP")
    for variable in container.get("env") or ():
        if "fieldRef" in (variable.get("valueFrom") or {}):
            variable["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")


def _pod(pod: KubeObject) -> None:
    spec = pod["spec"]
    spec.setdefault("serviceAccountName", "default")
    spec.setdefault("enableServiceLinks", True)
    _pod_spec(spec)
    status = pod.setdefault("status", {})
    status.setdefault("phase", "Pending")
    status.setdefault("qosClass", _quality_of_service(spec))


def _quality_of_service(spec: KubeObject) -> str:
    resources = [container["resources"] for _, container in containers(spec)]
    if not any(each.get("requests") or each.get("limits") for each in resources):
        return "BestEffort"
    guaranteed = all(
        {"cpu", "memory"} <= set(each.get("limits") or ())
        and (each.get("requests") or each["limits"]) == each["limits"]
        for each in resources
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _deployment(deployment: KubeObject) -> None:
    spec = deployment["spec"]
    _merge_defaults(spec, {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
    strategy = spec.setdefault("strategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        _merge_defaults(rolling, {"maxSurge": "25%", "maxUnavailable": "25%"})
    _pod_spec(spec["template"]["spec"])


def _replica_set(replica_set: KubeObject) -> None:
    replica_set["spec"].setdefault("replicas", 1)
    _pod_spec(replica_set["spec"]["template"]["spec"])


def _daemon_set(daemon_set: KubeObject) -> None:
    spec = daemon_set["spec"]
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec.setdefault("updateStrategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _merge_defaults(strategy.setdefault("rollingUpdate", {}), {"maxSurge": 0, "maxUnavailable": 1})
    _pod_spec(spec["template"]["spec"])


def _stateful_set(stateful_set: KubeObject) -> None:
    spec = stateful_set["spec"]
    _merge_defaults(spec, {"replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady"})
    strategy = spec.setdefault("updateStrategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    _pod_spec(spec["template"]["spec"])


def _job(job: KubeObject) -> None:
    _merge_defaults(job["spec"], {"completions": 1, "parallelism": 1, "backoffLimit": 6})
    _pod_spec(job["spec"]["template"]["spec"])


def _service(service: KubeObject) -> None:
    spec = service["spec"]
    service.setdefault("status", {}).setdefault("loadBalancer", {})
    _merge_defaults(spec, {"type": "ClusterIP", "sessionAffinity": "None"})
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
    if spec["type"] == "ExternalName":
        return
    _merge_defaults(spec, {"internalTrafficPolicy": "Cluster", "ipFamilyPolicy": "SingleStack"})
    spec.setdefault("ipFamilies", ["IPv4"])
    if spec.get("clusterIP"):
        spec["clusterIPs"] = [spec["clusterIP"]]


def _namespace(namespace: KubeObject) -> None:
    metadata = namespace["metadata"]
    metadata["labels"] = (metadata.get("labels") or {}) | {"kubernetes.io/metadata.name": metadata["name"]}
    namespace.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    namespace.setdefault("status", {}).setdefault("phase", "Active")


def _node(node: KubeObject) -> None:
    node.setdefault("spec", {})
    node.setdefault("status", {})


def _storage_class(storage_class: KubeObject) -> None:
    _merge_defaults(storage_class, {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})


def _volume(volume: KubeObject) -> None:
    _merge_defaults(volume["spec"], {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"})


def _claim(claim: KubeObject) -> None:
    claim["spec"].setdefault("volumeMode", "Filesystem")


def _secret(secret: KubeObject) -> None:
    secret.setdefault("type", "Opaque")
    plain = secret.pop("stringData", None) or {}
    if plain:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
        secret["data"] = (secret.get("data") or {}) | encoded


def _binding(binding: KubeObject) -> None:
    binding["roleRef"].setdefault("apiGroup", "rbac.authorization.k8s.io")
    for subject in binding.get("subjects") or ():
        group = "" if subject["kind"] == "ServiceAccount" else "rbac.authorization.k8s.io"
        if group:
            subject.setdefault("apiGroup", group)


def _custom_resource_definition(definition: KubeObject) -> None:
    spec = definition["spec"]
    names = spec["names"]
    _merge_defaults(names, {"singular": names["kind"].lower(), "listKind": f"{names['kind']}List"})
    spec.setdefault("conversion", {"strategy": "None"})


_DEFAULTS: Mapping[str, Callable[[KubeObject], None]] = {
    "ClusterRoleBinding": _binding,
    "CustomResourceDefinition": _custom_resource_definition,
    "DaemonSet": _daemon_set,
    "Deployment": _deployment,
    "Job": _job,
    "Namespace": _namespace,
    "Node": _node,
    "PersistentVolume": _volume,
    "PersistentVolumeClaim": _claim,
    "Pod": _pod,
    "ReplicaSet": _replica_set,
    "RoleBinding": _binding,
    "Secret": _secret,
    "Service": _service,
    "StatefulSet": _stateful_set,
    "StorageClass": _storage_class,
}
