"""The rules that objects must keep: names, labels, pods, selectors, and what may not change.

They are those whose breach would let a mistake of ours pass unnoticed here and fail on a real cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

from provision.lab.kube.apiserver.defaults import containers
from provision.lab.kube.apiserver.errors import ApiError, bad_request, invalid
from provision.lab.kube.apiserver.resources import Resource

KubeObject: TypeAlias = Mapping[str, Any]
Causes: TypeAlias = list[tuple[str, str]]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SERVICE_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_PATH_SEGMENT = re.compile(r"(?!\.{1,2}$)[^/%]+")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_SUBDOMAIN_MAX = 253

_TYPE_WORDS: Mapping[type, str] = {dict: "an object", list: "a list", str: "a string"}
_METADATA_TYPES: Mapping[str, type] = {
    "metadata": dict,
    "metadata.name": str,
    "metadata.generateName": str,
    "metadata.namespace": str,
    "metadata.labels": dict,
    "metadata.annotations": dict,
    "metadata.finalizers": list,
    "metadata.ownerReferences": list,
}
_MEMBER_TYPES: Mapping[str, type] = {
    **_METADATA_TYPES,
    "spec": dict,
    "status": dict,
    "data": dict,
    "stringData": dict,
    "roleRef": dict,
    "subjects": list,
    "rules": list,
}
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character"
)
_SERVICE_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character"
)
_NAME_RULES: Mapping[str, tuple[re.Pattern[str], str]] = {
    "Namespace": (_LABEL, _LABEL_RULE),
    "Service": (_SERVICE_LABEL, _SERVICE_RULE),
} | dict.fromkeys(
    ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"), (_PATH_SEGMENT, "may not contain '/' or '%'")
)


def check_shape(resource: Resource, obj: object) -> None:
    """Check that an object and its outermost members are of the types that everybody takes for granted.

    Raises:
        ApiError: 400.
    """
    if not isinstance(obj, dict):
        raise malformed(resource, f"it must be an object, not {obj!r}")
    for path, wanted in (_METADATA_TYPES if resource.custom else _MEMBER_TYPES).items():
        holder: Any = obj
        *parents, name = path.split(".")
        for parent in parents:
            holder = holder.get(parent) or {}
        value = holder.get(name)
        if value is not None and not isinstance(value, wanted):
            raise malformed(resource, f"{path} must be {_TYPE_WORDS[wanted]}, not {value!r}")
    for field in ("labels", "annotations"):
        for key, value in ((obj.get("metadata") or {}).get(field) or {}).items():
            if not isinstance(value, str):
                raise malformed(resource, f"metadata.{field}.{key} must be a string, not {value!r}")


def malformed(resource: Resource, problem: str) -> ApiError:
    """What is sent is not an object of its kind at all: 400."""
    kind = resource.kind
    return bad_request(f'{kind} in version "{resource.version}" cannot be handled as a {kind}: {problem}')


def check_metadata(resource: Resource, obj: KubeObject) -> None:
    """Check name and labels.

    Raises:
        ApiError: 422, with every breach.
    """
    metadata = obj["metadata"]
    name = metadata.get("name")
    if not name:
        raise _invalid(resource, obj, [("metadata.name", "Required value: name or generateName is required")])
    pattern, rule = _NAME_RULES.get(resource.kind, (_SUBDOMAIN, _SUBDOMAIN_RULE))
    causes: Causes = []
    if not pattern.fullmatch(name):
        causes.append(("metadata.name", f'Invalid value: "{name}": {rule}'))
    elif len(name) > _SUBDOMAIN_MAX:
        causes.append(("metadata.name", f'Invalid value: "{name}": must be no more than {_SUBDOMAIN_MAX} characters'))
    causes += _label_causes("metadata.labels", metadata.get("labels") or {})
    if causes:
        raise _invalid(resource, obj, causes)


def check_object(resource: Resource, obj: KubeObject) -> None:
    """Check the rules of a built-in kind.

    Raises:
        ApiError: 422, with every breach.
    """
    rules = _RULES.get(resource.kind)
    if rules is None or resource.custom:
        return
    causes = rules(obj)
    if causes:
        raise _invalid(resource, obj, causes)


def check_change(resource: Resource, old: KubeObject, new: KubeObject) -> None:
    """Check that nothing changed that may not.

    Raises:
        ApiError: 422.
    """
    if resource.custom:
        return
    causes: Causes = []
    if resource.kind == "Pod" and _frozen(old["spec"]) != _frozen(new["spec"]):
        fields = "`spec.containers[*].image`, `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, "
        causes.append(
            (
                "spec",
                f"Forbidden: pod updates may not change fields other than {fields}`spec.tolerations` (only additions "
                "to existing tolerations), `spec.terminationGracePeriodSeconds`",
            )
        )
    if resource.group == "apps" and resource.kind != "ControllerRevision":
        before, after = old["spec"].get("selector"), new["spec"].get("selector")
        if before != after:
            causes.append(("spec.selector", f"Invalid value: {after}: field is immutable"))
    if resource.kind in ("RoleBinding", "ClusterRoleBinding") and old["roleRef"] != new["roleRef"]:
        causes.append(("roleRef", f"Invalid value: {new['roleRef']}: cannot change roleRef"))
    if causes:
        raise _invalid(resource, new, causes)


def _invalid(resource: Resource, obj: KubeObject, causes: Causes) -> Exception:
    return invalid(resource.kind, resource.group, obj["metadata"].get("name") or "", causes)


def _frozen(pod_spec: KubeObject) -> KubeObject:
    """A pod's spec without what may change after its creation."""
    free = {"activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"}
    frozen = {key: value for key, value in pod_spec.items() if key not in free}
    for field in ("containers", "initContainers"):
        if field in frozen:
            frozen[field] = [
                {key: value for key, value in container.items() if key != "image"} for container in frozen[field]
            ]
    return frozen


def _label_causes(path: str, labels: Mapping[str, str]) -> Causes:
    return [
        (path, f'Invalid value: "{text}": not a valid label {part}')
        for key, value in labels.items()
        for part, text, pattern in (("key", key, _LABEL_KEY), ("value", value, _LABEL_VALUE))
        if not pattern.fullmatch(text)
    ]


def _pod(pod: KubeObject) -> Causes:
    return _pod_spec(pod["spec"], "")


def _pod_spec(spec: KubeObject, prefix: str, claims: AbstractSet[str | None] = frozenset()) -> Causes:
    causes: Causes = []
    if not spec.get("containers"):
        causes.append((f"{prefix}spec.containers", "Required value"))
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()} | claims
    seen: set[str] = set()
    for field, container in containers(spec):
        path = prefix + field
        name = container.get("name") or ""
        if not name:
            causes.append((f"{path}.name", "Required value"))
        elif not _LABEL.fullmatch(name):
            causes.append((f"{path}.name", f'Invalid value: "{name}": {_LABEL_RULE}'))
        elif name in seen:
            causes.append((f"{path}.name", f'Duplicate value: "{name}"'))
        seen.add(name)
        if not container.get("image"):
            causes.append((f"{path}.image", "Required value"))
        for index, mount in enumerate(container.get("volumeMounts") or ()):
            if mount.get("name") not in volumes:
                causes.append((f"{path}.volumeMounts[{index}].name", f'Not found: "{mount.get("name")}"'))
    return causes


def _workload(workload: KubeObject) -> Causes:
    spec = workload["spec"]
    template = spec.get("template") or {}
    claims = {(claim.get("metadata") or {}).get("name") for claim in spec.get("volumeClaimTemplates") or ()}
    causes = _pod_spec(template.get("spec") or {}, "spec.template.", claims)
    selector = spec.get("selector") or {}
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        causes.append(("spec.selector", "Required value"))
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        causes.append(
            ("spec.template.metadata.labels", f"Invalid value: {labels}: `selector` does not match template `labels`")
        )
    return causes


def _service(service: KubeObject) -> Causes:
    spec = service["spec"]
    causes: Causes = []
    for field, wanted in (("clusterIP", str), ("selector", dict)):
        if not isinstance(spec.get(field), wanted | None):
            causes.append((f"spec.{field}", f"Invalid value: {spec[field]!r}: must be {_TYPE_WORDS[wanted]}"))
    for index, port in enumerate(spec.get("ports") or ()):
        if not isinstance(port.get("port"), int):
            causes.append((f"spec.ports[{index}].port", "Required value"))
    if spec.get("ports") or spec.get("type") == "ExternalName" or spec.get("clusterIP") == "None":
        return causes
    return [*causes, ("spec.ports", "Required value")]


def _config_map(config_map: KubeObject) -> Causes:
    return [
        (f"data[{key}]", f"Invalid value: {value!r}: must be a string")
        for key, value in (config_map.get("data") or {}).items()
        if not isinstance(value, str)
    ]


def _role_binding(binding: KubeObject) -> Causes:
    reference = binding["roleRef"]
    causes: Causes = []
    if reference.get("kind") not in ("Role", "ClusterRole"):
        causes.append(("roleRef.kind", f'Unsupported value: "{reference.get("kind")}"'))
    if not reference.get("name"):
        causes.append(("roleRef.name", "Required value"))
    for index, subject in enumerate(binding.get("subjects") or ()):
        if subject.get("kind") == "ServiceAccount" and not subject.get("namespace"):
            causes.append((f"subjects[{index}].namespace", "Required value"))
    return causes


def _definition(definition: KubeObject) -> Causes:
    spec = definition["spec"]
    causes: Causes = []
    expected = f"{spec['names']['plural']}.{spec['group']}"
    if definition["metadata"]["name"] != expected:
        causes.append(("metadata.name", f'Invalid value: "{definition["metadata"]["name"]}": must be "{expected}"'))
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        causes.append(("spec.scope", f'Unsupported value: "{spec.get("scope")}"'))
    if sum(bool(version.get("storage")) for version in spec.get("versions") or ()) != 1:
        causes.append(("spec.versions", "Invalid value: must have exactly one version marked as storage version"))
    for index, version in enumerate(spec.get("versions") or ()):
        if "openAPIV3Schema" not in (version.get("schema") or {}):
            causes.append((f"spec.versions[{index}].schema.openAPIV3Schema", "Required value: schemas are required"))
    return causes


_RULES: Mapping[str, Callable[[KubeObject], Causes]] = {
    "ClusterRoleBinding": _role_binding,
    "ConfigMap": _config_map,
    "CustomResourceDefinition": _definition,
    "DaemonSet": _workload,
    "Deployment": _workload,
    "Pod": _pod,
    "ReplicaSet": _workload,
    "RoleBinding": _role_binding,
    "Service": _service,
    "StatefulSet": _workload,
}
