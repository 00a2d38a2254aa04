"""The patch types of the Kubernetes API: JSON patch (RFC 6902), merge patch (RFC 7386) and strategic merge patch.

None of these functions changes its arguments; the result may share unchanged parts with the object it came from.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from provision.lab.kube.apiserver.errors import bad_request, unprocessable

Json = Any

# Lists of objects that a strategic merge joins element by element: by which member, found under which parent.
# Any other list is replaced as a whole. These are the patchMergeKey tags of the API types that the lab serves.
_MERGE_KEYS: dict[tuple[str, str], str] = {
    ("containers", "ports"): "containerPort",
    ("initContainers", "ports"): "containerPort",
    ("ephemeralContainers", "ports"): "containerPort",
    ("spec", "ports"): "port",
    ("spec", "taints"): "key",
    ("spec", "topologySpreadConstraints"): "topologyKey",
    ("status", "addresses"): "type",
    ("status", "conditions"): "type",
    ("status", "podIPs"): "ip",
}
_MERGE_KEYS_ANYWHERE: dict[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "ownerReferences": "uid",
    "secrets": "name",
}
_MERGED_SETS = frozenset({"finalizers", "podCIDRs"})
_ORDER = "$setElementOrder/"
_DELETE_VALUES = "$deleteFromPrimitiveList/"


def merge_patch(current: Json, patch: Json) -> Json:
    """Apply a merge patch: members replace members, null removes, anything but an object replaces all."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def strategic_merge_patch(current: Json, patch: Json, *, parent: str = "") -> Json:
    """Apply a strategic merge patch: like a merge patch, but certain lists are joined by their elements' key.

    Args:
        current: the value to patch.
        patch: the patch; it may hold the directives `$patch`, `$retainKeys`, `$setElementOrder/FIELD` and
            `$deleteFromPrimitiveList/FIELD`.
        parent: the member that holds `current`, which decides how lists in it are merged.

    Raises:
        ApiError: 400, a directive is unknown.
    """
    if not isinstance(patch, dict):
        return patch
    directive = patch.get("$patch", "merge")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive != "merge":
        raise bad_request(f"unknown $patch directive: {directive}")
    merged = dict(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if key.startswith(_DELETE_VALUES):
            field = key.removeprefix(_DELETE_VALUES)
            merged[field] = [item for item in merged.get(field) or [] if item not in value]
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, list):
            merged[key] = _merge_list(merged.get(key) or [], value, parent, key, patch.get(_ORDER + key))
        else:
            merged[key] = strategic_merge_patch(merged.get(key), value, parent=key)
    if "$retainKeys" in patch:
        merged = {key: value for key, value in merged.items() if key in patch["$retainKeys"]}
    return merged


def _merge_list(
    current: list[Json], patch: list[Json], parent: str, field: str, order: list[Json] | None
) -> list[Json]:
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if item.get("$patch") != "replace"]
    if field in _MERGED_SETS:
        return current + [item for item in patch if item not in current]
    key = _MERGE_KEYS.get((parent, field)) or _MERGE_KEYS_ANYWHERE.get(field)
    if key is None:
        return patch
    merged = {item.get(key): item for item in current}
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        if item.get("$patch") == "delete":
            merged.pop(item[key], None)
        else:
            merged[item[key]] = strategic_merge_patch(merged.get(item[key]), item, parent=field)
    if order:
        wanted = [item.get(key) if isinstance(item, dict) else item for item in order]
        first = [name for name in wanted if name in merged]
        merged = {name: merged[name] for name in first + [name for name in merged if name not in first]}
    return list(merged.values())


def json_patch(current: Json, operations: Json) -> Json:
    """Apply a JSON patch, all of it or, by raising, nothing.

    Raises:
        ApiError: 400 when it is not a JSON patch; 422 when it cannot be applied, which includes a failed "test".
    """
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise bad_request("a JSON patch is a list of operations")
    document = {"": copy.deepcopy(current)}  # so that the whole object has a parent too
    for operation in operations:
        try:
            _apply(document, operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise unprocessable(
                f"the server rejected our request due to an error in our request: "
                f"JSON patch operation {operation} does not apply: {error!r}"
            ) from error
    return document[""]


def _apply(document: Json, operation: dict[str, Json]) -> None:
    path = _pointer(operation["path"])
    match operation["op"]:
        case "add":
            _add(document, path, operation["value"])
        case "remove":
            _take(document, path)
        case "replace":
            _take(document, path)
            _add(document, path, operation["value"])
        case "move":
            _add(document, path, _take(document, _pointer(operation["from"])))
        case "copy":
            _add(document, path, copy.deepcopy(_resolve(document, _pointer(operation["from"]))))
        case "test":
            if _resolve(document, path) != operation["value"]:
                raise unprocessable(f"testing value {operation['path']} failed")
        case unknown:
            raise bad_request(f"unknown JSON patch operation {unknown!r}")


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
        raise ValueError(f"{text!r} is not a JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")]


def _resolve(value: Json, path: Sequence[str]) -> Json:
    for part in path:
        value = value[_index(part)] if isinstance(value, list) else value[part]
    return value


def _index(part: str) -> int:
    if not part.isdigit():  # int() would take "-1", which here means no element
        raise ValueError(f"{part!r} is not a list index")
    return int(part)


def _take(document: Json, path: Sequence[str]) -> Json:
    holder = _resolve(document, path[:-1])
    return holder.pop(_index(path[-1]) if isinstance(holder, list) else path[-1])


def _add(document: Json, path: Sequence[str], value: Json) -> None:
    holder, last = _resolve(document, path[:-1]), path[-1]
    if not isinstance(holder, list):
        holder[last] = value
        return
    index = len(holder) if last == "-" else _index(last)
    if index > len(holder):
        raise IndexError(f"index {index} is outside a list of {len(holder)}")
    holder.insert(index, value)
