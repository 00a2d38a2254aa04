"""What kubectl sends as protobuf is read like JSON."""

from __future__ import annotations

import pytest

from provision.lab.kube.apiserver.errors import ApiError
from provision.lab.kube.apiserver.protobuf import MAGIC, decode


def field(number: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


def envelope(kind: str, message: bytes) -> bytes:
    return MAGIC + field(1, field(1, "v1") + field(2, kind)) + field(2, message)


def test_access_review():
    attributes = field(1, "ns") + field(2, "get") + field(5, "pods") + field(6, "log")
    body = envelope("SelfSubjectAccessReview", field(1, b"") + field(2, field(1, attributes)))
    expected = {"namespace": "ns", "verb": "get", "resource": "pods", "subresource": "log"}
    assert decode(body)["spec"] == {"resourceAttributes": expected}


def test_other_kinds_are_refused():
    with pytest.raises(ApiError) as caught:
        decode(envelope("Deployment", b""))
    assert caught.value.code == 415
    assert "Deployment" in caught.value.message


@pytest.mark.parametrize("body", [MAGIC, MAGIC + b"\xff", MAGIC + b"\x0a\x05abc", MAGIC + b"\x0d1234"])
def test_damaged_messages_are_refused(body):
    with pytest.raises(ApiError) as caught:
        decode(body)
    assert caught.value.code == 400
