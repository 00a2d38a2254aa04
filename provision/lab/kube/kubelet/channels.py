"""Kubernetes' stream protocol over WebSocket: each binary message is a channel's number and a piece of its bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"
PROTOCOLS = (V5, V4)
"""Preferred first. Only version 5 can say that a stream has ended."""

STDIN, STDOUT, STDERR, STATUS, RESIZE = range(5)
_CLOSE = 255


@dataclass(frozen=True)
class Input:
    """More for the process's standard input."""

    data: bytes


@dataclass(frozen=True)
class InputEnd:
    """The client has closed standard input."""


@dataclass(frozen=True)
class Resize:
    """The client's terminal has a new size."""

    rows: int
    columns: int


def parse(message: bytes, protocol: str) -> Input | InputEnd | Resize | None:
    """What a client's message says; None for what means nothing in this protocol, which is passed over."""
    if not message:
        return None
    channel, data = message[0], message[1:]
    if channel == STDIN and data:
        return Input(data)
    if channel == _CLOSE and protocol == V5 and data[:1] == bytes([STDIN]):
        return InputEnd()
    if channel == RESIZE:
        try:
            size = json.loads(data)
            return Resize(int(size["Height"]), int(size["Width"]))
        except (ValueError, KeyError, TypeError):
            return None
    return None


def frame(channel: int, data: bytes) -> bytes:
    """A message with a piece of a channel's bytes."""
    return bytes([channel]) + data


def exit_status(code: int) -> bytes:
    """The message that says how a command ended."""
    if code == 0:
        return _status({"metadata": {}, "status": "Success"})
    return _status(
        {
            "metadata": {},
            "status": "Failure",
            "message": f"command terminated with non-zero exit code: exit status {code}",
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    )


def failure_status(message: str) -> bytes:
    """The message that says that a command could not be run at all."""
    return _status(
        {
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": "InternalError",
            "details": {"causes": [{"message": message}]},
            "code": 500,
        }
    )


def _status(body: dict[str, Any]) -> bytes:
    return frame(STATUS, json.dumps(body).encode())
