"""The little protobuf that some kubectl commands insist on: `auth can-i`, `create namespace` and their like.

The wire format is a row of (field number, wire type, value); Kubernetes wraps a message in an envelope that begins
with a magic number. Field numbers are those of the public API definitions. Everything else is read as JSON only.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from provision.lab.kube.apiserver.errors import bad_request, unsupported_media_type


class Scalar(Enum):
    """How a field's bytes are to be read when they are not a message."""

    TEXT = "text"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message.

    Attributes:
        name: what JSON calls it.
        type: a scalar, or the shape of a nested message.
        repeated: it is a list.
        keyed: it is a map from text to `type`.
    """

    name: str
    type: Scalar | Shape = Scalar.TEXT
    repeated: bool = False
    keyed: bool = False


Shape: TypeAlias = Mapping[int, Field]
"""The fields of a message by their numbers; others are passed over."""

MAGIC = b"k8s\x00"
OPENAPI_V2_NOTHING = b"\n\x032.0"
"""An OpenAPI document (field 1, "2.0") that describes no type: kubectl asks for protobuf and then checks nothing."""

_VARINT, _BYTES = 0, 2


def _texts(*names: str) -> dict[int, Field]:
    return {number: Field(name) for number, name in enumerate(names, start=1)}


_META = Field(
    "metadata",
    _texts("name", "generateName", "namespace")
    | {11: Field("labels", keyed=True), 12: Field("annotations", keyed=True)},
)
_RULE = {
    number: Field(name, repeated=True)
    for number, name in enumerate(("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"), start=1)
}
_ROLE: Shape = {1: _META, 2: Field("rules", _RULE, repeated=True)}
_BINDING: Shape = {
    1: _META,
    2: Field("subjects", _texts("kind", "apiGroup", "name", "namespace"), repeated=True),
    3: Field("roleRef", _texts("apiGroup", "kind", "name")),
}
_ASKED_ACCESS: Shape = {
    1: Field(
        "resourceAttributes",
        _texts("namespace", "verb", "group", "version", "resource", "subresource", "name"),
    ),
    2: Field("nonResourceAttributes", _texts("path", "verb")),
}
_KINDS: Mapping[str, Shape] = {
    "ClusterRole": _ROLE,
    "ClusterRoleBinding": _BINDING,
    "ConfigMap": {1: _META, 2: Field("data", keyed=True), 3: Field("binaryData", Scalar.DATA, keyed=True)},
    "Namespace": {1: _META},
    "Role": _ROLE,
    "RoleBinding": _BINDING,
    "Secret": {1: _META, 2: Field("data", Scalar.DATA, keyed=True), 3: Field("type")},
    "SelfSubjectAccessReview": {2: Field("spec", _ASKED_ACCESS)},
    "SelfSubjectReview": {},
    "SelfSubjectRulesReview": {2: Field("spec", _texts("namespace"))},
    "ServiceAccount": {1: _META},
    "TokenRequest": {},
}


def decode(body: bytes) -> dict[str, Any]:
    """Read an object of one of the kinds above.

    Raises:
        ApiError: 415 when it is another kind of object, 400 when it cannot be read at all.
    """
    try:
        envelope = dict(_fields(body.removeprefix(MAGIC)))
        meta = _message(envelope[1], _texts("apiVersion", "kind"))
        shape = _KINDS.get(meta["kind"])
        if shape is None:
            raise unsupported_media_type(
                f"this server reads a {meta['kind']} as JSON only, not as protobuf (kubectl apply, create -f, run and "
                "patch send JSON)"
            )
        return meta | _message(envelope.get(2, b""), shape)
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise bad_request(f"the body is not a protobuf message of Kubernetes: {error!r}") from error


def _message(data: bytes, shape: Shape) -> dict[str, Any]:
    message: dict[str, Any] = {}
    for number, value in _fields(data):
        field = shape.get(number)
        if field is None:
            continue
        if field.keyed:
            entry = _message(value, {1: Field("key"), 2: Field("value", field.type)})
            message.setdefault(field.name, {})[entry.get("key", "")] = entry.get("value", "")
        elif field.repeated:
            message.setdefault(field.name, []).append(_value(value, field.type))
        else:
            message[field.name] = _value(value, field.type)
    return {name: value for name, value in message.items() if value != ""}  # an unset text is sent as an empty one


def _value(data: bytes, kind: Scalar | Shape) -> Any:
    if kind is Scalar.TEXT:
        return data.decode()
    if kind is Scalar.DATA:
        return base64.b64encode(data).decode()
    assert isinstance(kind, Mapping)
    return _message(data, kind)


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a message: strings and nested messages. Numbers are passed over."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        value, position = _varint(data, position)
        if wire_type == _BYTES:
            yield number, data[position : position + value]
            position += value
        elif wire_type != _VARINT:
            raise IndexError(f"wire type {wire_type} at byte {position}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, position
