"""The little protobuf that typed kubectl clients insist on: reading a review that they ask (`kubectl auth can-i`).

The wire format is a row of (field number, wire type, value); Kubernetes wraps a message in an envelope that begins
with a magic number. Field numbers are those of the public API definitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from provision.lab.kube.apiserver.errors import bad_request, unsupported_media_type

Shape: TypeAlias = Mapping[int, "tuple[str, Shape | None]"]
"""Field number -> JSON name, and the shape of the nested message or None for a string."""

MAGIC = b"k8s\x00"
OPENAPI_V2_NOTHING = b"\n\x032.0"
"""An OpenAPI document (field 1, "2.0") that describes no type: kubectl asks for protobuf and then checks nothing."""

_VARINT, _BYTES = 0, 2

_TYPE_META: Shape = {1: ("apiVersion", None), 2: ("kind", None)}
_RESOURCE_ATTRIBUTES: Shape = {
    1: ("namespace", None),
    2: ("verb", None),
    3: ("group", None),
    4: ("version", None),
    5: ("resource", None),
    6: ("subresource", None),
    7: ("name", None),
}
_PATH_ATTRIBUTES: Shape = {1: ("path", None), 2: ("verb", None)}
_ACCESS_SPEC: Shape = {
    1: ("resourceAttributes", _RESOURCE_ATTRIBUTES),
    2: ("nonResourceAttributes", _PATH_ATTRIBUTES),
}
_REVIEWS: Mapping[str, Shape] = {
    "SelfSubjectAccessReview": {2: ("spec", _ACCESS_SPEC)},
    "SelfSubjectRulesReview": {2: ("spec", {1: ("namespace", None)})},
    "SelfSubjectReview": {},
}


def decode_review(body: bytes) -> dict[str, Any]:
    """Read a review.

    Raises:
        ApiError: 415 when it is another kind of object, 400 when it cannot be read at all.
    """
    try:
        envelope = dict(_fields(body.removeprefix(MAGIC)))
        meta = _message(envelope[1], _TYPE_META)
        shape = _REVIEWS.get(meta["kind"])
        if shape is None:
            raise unsupported_media_type(f"this server reads {meta['kind']} as JSON only, not as protobuf")
        return meta | _message(envelope.get(2, b""), shape)
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise bad_request(f"the body is not a protobuf message of Kubernetes: {error!r}") from error


def _message(data: bytes, shape: Shape) -> dict[str, Any]:
    message: dict[str, Any] = {}
    for number, value in _fields(data):
        if number in shape:
            name, nested = shape[number]
            message[name] = value.decode() if nested is None else _message(value, nested)
    return message


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
