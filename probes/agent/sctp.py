"""Probes that are associations of SCTP."""

from __future__ import annotations

import time
from typing import Any

from probes.agent.linux import SCTP
from probes.agent.tcp import TcpBatch


class SctpBatch(TcpBatch):
    """Associations of SCTP that behave like connections."""

    protocol = SCTP

    def succeed(self, fd: int, outcome: str, columns: dict[str, Any]) -> None:
        """Note the outcome; only of TCP the kernel tells how long connecting took."""
        self.end(fd, outcome, rtt=time.monotonic() - self.live[fd][2], sends=1, **columns)
