"""The host outside every region: answers each TCP connection with the source address that it sees, on one line."""

from __future__ import annotations

import socket
import socketserver

from provision.lab import netns
from provision.lab.topology import EGRESS, INTERNET

_DRAIN_TIMEOUT_S = 2.0


class WhatIsMyAddress(socketserver.BaseRequestHandler):
    """Says who has called, and hangs up."""

    request: socket.socket

    def handle(self) -> None:
        """Answer at once: the question does not matter."""
        self.request.sendall(f"{self.client_address[0]}\n".encode())
        self.request.shutdown(socket.SHUT_WR)
        # A close with unread data would send a reset, and that may overtake the answer.
        self.request.settimeout(_DRAIN_TIMEOUT_S)
        while self.request.recv(4096):
            pass


class Server(socketserver.ThreadingTCPServer):
    """A thread for each caller."""

    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that went away is no news."""


def serve() -> None:
    """Answer in the `internet` namespace until the end of the lab."""
    with netns.inside(INTERNET):
        server = Server((str(EGRESS.address), EGRESS.port), WhatIsMyAddress)
    server.serve_forever()


if __name__ == "__main__":
    serve()
