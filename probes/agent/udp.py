"""Probes by UDP echo, whole or in fragments."""

from __future__ import annotations

import _socket as socket
from typing import Any

from probes.agent.batch import Loop
from probes.agent.datagrams import TOKEN, DatagramBatch
from probes.agent.dialogues import check_greeting
from probes.agent.linux import IP_MTU_DISCOVER, IP_PMTUDISC_DONT


class UdpBatch(DatagramBatch):
    """UDP echo: the listener's greeting, then our own bytes."""

    def build(self, index: int, attempt: int) -> bytes:
        """Nothing but the body."""
        return self.body(index, attempt)

    def understand(self, data: bytes, ancillary: Any) -> tuple[int, int, str, dict[str, Any]] | None:
        """Greeting, newline, the start of the body."""
        greeting, newline, body = data.partition(b"\n")
        if not newline or len(body) < TOKEN.size:
            return None
        nonce, index, attempt = TOKEN.unpack_from(body)
        if nonce != self.nonce or index >= len(self.targets):
            return None
        outcome, columns = check_greeting(greeting, self.targets[index][2])
        return index, attempt, outcome, columns

    def whose(self, quoted: bytes, address: Any) -> int | None:
        """By the token; a router may quote too little for that."""
        if len(quoted) >= TOKEN.size:
            nonce, index, _attempt = TOKEN.unpack_from(quoted)
            if nonce == self.nonce and index < len(self.targets):
                return int(index)
        return self.waiting_for(address)


FRAGMENTED = 4000  # bytes: more than any pod's packet holds


class UdpFragments(UdpBatch):
    """Datagrams that the kernel sends in fragments: only the first of them says for which port it is."""

    def open(self, loop: Loop) -> None:
        """Ask for fragments."""
        super().open(loop)
        self.sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)

    def build(self, index: int, attempt: int) -> bytes:
        """The token and a filling."""
        return self.body(index, attempt).ljust(FRAGMENTED, b".")
