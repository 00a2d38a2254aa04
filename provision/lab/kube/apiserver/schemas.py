"""What a kind's schema makes of an object: fields that it does not know go, values that it forbids are refused.

Of OpenAPI's words, those are understood that structural schemas of network policies use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from provision.lab.kube.objects import KubeObject

Schema = Mapping[str, Any]

_PRESERVES = "x-kubernetes-preserve-unknown-fields"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_EVERYWHERE = frozenset({"apiVersion", "kind", "metadata"})
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def prune(schema: Schema, obj: KubeObject) -> list[str]:
    """Take out of an object what its schema does not know.

    Returns:
        The paths of what was taken out ("spec.ingress[0].fromEndpoint").
    """
    inner = {key: value for key, value in obj.items() if key not in _EVERYWHERE}
    gone = list(_prune(schema, inner, ""))
    for key in obj.keys() - inner.keys() - _EVERYWHERE:
        del obj[key]
    return gone


def check(schema: Schema, obj: KubeObject) -> list[tuple[str, str]]:
    """What in an object its schema forbids: paths, and what is wrong there."""
    return list(_check(schema, {key: value for key, value in obj.items() if key not in _EVERYWHERE}, ""))


def _prune(schema: Schema, value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _prune(schema.get("items") or {_PRESERVES: True}, each, f"{path}[{index}]")
    elif isinstance(value, dict):
        properties, others = schema.get("properties") or {}, schema.get("additionalProperties")
        for key in list(value):
            place = f"{path}.{key}" if path else key
            if key in properties:
                yield from _prune(properties[key], value[key], place)
            elif isinstance(others, Mapping):
                yield from _prune(others, value[key], place)
            elif not others and not schema.get(_PRESERVES):
                del value[key]
                yield place


def _check(schema: Schema, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if not _is_of_type(schema, value):
        wanted = "integer,string" if schema.get(_INT_OR_STRING) else schema["type"]
        yield path, f"Invalid value: {value!r}: must be of type {wanted}"
        return
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(f'"{each}"' for each in schema["enum"])
        yield path, f'Unsupported value: "{value}": supported values: {supported}'
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield path, f"Invalid value: \"{value}\": should match '{schema['pattern']}'"
    elif isinstance(value, int):
        yield from _check_bounds(schema, value, path)
    elif isinstance(value, list):
        yield from _check_count(schema, value, path)
        for index, each in enumerate(value):
            yield from _check(schema.get("items") or {}, each, f"{path}[{index}]")
    elif isinstance(value, dict):
        yield from _check_object(schema, value, path)


def _check_object(schema: Schema, value: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for key in schema.get("required") or ():
        if key not in value:
            yield (f"{path}.{key}" if path else key), "Required value"
    choices = schema.get("oneOf") or ()
    if choices and sum(not list(_check(choice, value, path)) for choice in choices) != 1:
        yield path, "Invalid value: must validate one and only one schema (oneOf)"
    properties, others = schema.get("properties") or {}, schema.get("additionalProperties")
    for key, each in value.items():
        known = properties.get(key, others if isinstance(others, Mapping) else {})
        yield from _check(known, each, f"{path}.{key}" if path else key)


def _check_bounds(schema: Schema, value: int, path: str) -> Iterator[tuple[str, str]]:
    if value < schema.get("minimum", value):
        yield path, f"Invalid value: {value}: should be greater than or equal to {schema['minimum']}"
    if value > schema.get("maximum", value):
        yield path, f"Invalid value: {value}: should be less than or equal to {schema['maximum']}"


def _check_count(schema: Schema, value: list[Any], path: str) -> Iterator[tuple[str, str]]:
    if len(value) > schema.get("maxItems", len(value)):
        yield path, f"Too many: {len(value)}: must have at most {schema['maxItems']} items"
    if len(value) < schema.get("minItems", 0):
        yield path, f"Invalid value: {len(value)}: should have at least {schema['minItems']} items"


def _is_of_type(schema: Schema, value: Any) -> bool:
    if schema.get(_INT_OR_STRING):
        return isinstance(value, (int, str)) and not isinstance(value, bool)
    types = _TYPES.get(schema.get("type", ""))
    if types is None:
        return True
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))
