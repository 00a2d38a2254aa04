"""Sockets without Python's socket module, and the two limits that everything over them shares."""

from __future__ import annotations

# Importing socket, json, signal, collections and typing takes longer than most plans. What is needed of them is in the
# C modules behind them, which CPython has had since long before 3.8; the bundle leaves typing out.
import _socket as socket
from typing import Any

CONTROL_TIMEOUT = 2.0
BUFFER = 1 << 16


class Socket(socket.socket):
    """A socket that closes at the end of a `with`, and accepts its like."""

    __slots__ = ()

    def __enter__(self) -> Socket:
        """Itself."""
        return self

    def __exit__(self, *_error: Any) -> None:
        """Close."""
        self.close()

    def accept(self) -> tuple[Socket, Any]:
        """A connection and its other end."""
        fd, peer = self._accept()  # type: ignore[attr-defined]
        return Socket(socket.AF_INET, socket.SOCK_STREAM, 0, fd), peer


def connect(address: str, port: int, timeout: float) -> Socket:
    """A TCP connection whose timeout stays. Raises OSError."""
    sock = Socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock
