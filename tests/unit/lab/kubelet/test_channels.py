"""The stream protocol of exec."""

from __future__ import annotations

import json

import pytest

from provision.lab.kube.kubelet import channels
from provision.lab.kube.kubelet.channels import V4, V5, Input, InputEnd, Resize


@pytest.mark.parametrize(
    ("message", "protocol", "meaning"),
    [
        (b"\x00hello", V5, Input(b"hello")),
        (b"\x00hello", V4, Input(b"hello")),
        (b"\x00", V5, None),
        (b"", V5, None),
        (b"\xff\x00", V5, InputEnd()),
        (b"\xff\x00", V4, None),
        (b"\xff\x01", V5, None),
        (b'\x04{"Width":80,"Height":24}', V5, Resize(24, 80)),
        (b"\x04not json", V5, None),
        (b"\x04[]", V5, None),
        (b"\x01out of turn", V5, None),
    ],
)
def test_messages_of_clients(message, protocol, meaning):
    assert channels.parse(message, protocol) == meaning


def test_success_and_failure_are_told_as_kubernetes_tells_them():
    assert json.loads(channels.exit_status(0)[1:]) == {"metadata": {}, "status": "Success"}
    failure = json.loads(channels.exit_status(3)[1:])
    assert failure["reason"] == "NonZeroExitCode"
    assert failure["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert channels.exit_status(3)[0] == channels.STATUS


def test_a_command_that_never_ran_is_no_exit_code():
    failure = json.loads(channels.failure_status("no such program")[1:])
    assert failure["reason"] == "InternalError"
    assert failure["message"] == "no such program"
