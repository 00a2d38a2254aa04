"""Runs in a probe pod: carries TCP connections over its standard input and output, `relay.py PATIENCE IDLE`.

Both ways go frames: the connection's number, a kind, a size, and so many bytes. OPEN brings "PORT HOST", DATA what one
side says, END the end of a connection; from here with the reason, if there was one. A connection that does not come
about within PATIENCE seconds ends. All ends with standard input, or after IDLE seconds without a frame on it. Standard
library only, Python 3.8 or newer.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import struct
import sys
import threading
from contextlib import suppress

FRAME = struct.Struct("!IBI")
OPEN, DATA, END = 0, 1, 2
CHUNK = 1 << 16
STALL = struct.pack("ll", 5, 0)
"""Longest time that a far end may refuse to take anything."""

saying = threading.Lock()


def say(number: int, kind: int, data: bytes) -> None:
    """Write a frame to standard output, whole."""
    frame = FRAME.pack(number, kind, len(data)) + data
    with saying:
        while frame:
            frame = frame[os.write(1, frame) :]


class Connection(threading.Thread):
    """One connection, from its opening to its end. What it says waits in a row of its own, and keeps no other up."""

    def __init__(self, number: int, host: str, port: int, patience: float) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.place = (host, port)
        self.patience = patience
        self.waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.ended = False

    def run(self) -> None:
        """Connect, then pass on what the far end says."""
        reason = ""
        try:
            with socket.create_connection(self.place, self.patience) as far:
                far.settimeout(None)
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, STALL)
                threading.Thread(target=self.speak, args=(far,), daemon=True).start()
                heard = far.recv(CHUNK)
                while heard:
                    say(self.number, DATA, heard)
                    heard = far.recv(CHUNK)
        except OSError as error:
            reason = error.strerror or str(error)
        self.waiting.put(None)
        say(self.number, END, b"" if self.ended else reason.encode())

    def speak(self, far: socket.socket) -> None:
        """Pass on what the near end says, until it is gone or the far end takes nothing; wake whoever listens then."""
        with suppress(OSError):
            while True:
                data = self.waiting.get()
                if data is None:
                    break
                far.sendall(data)
        with suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)

    def send(self, data: bytes) -> None:
        """Say something to the far end, now or when it is there."""
        self.waiting.put(data)

    def end(self) -> None:
        """The near end is gone, once it has said what it had to."""
        self.ended = True
        self.waiting.put(None)


def main() -> None:
    """Do what the frames on standard input say, until it ends."""
    patience, idle = float(sys.argv[1]), int(sys.argv[2])
    connections: dict[int, Connection] = {}
    heard = sys.stdin.buffer
    while True:
        signal.alarm(idle)  # whose default is to end the process
        head = heard.read(FRAME.size)
        if len(head) < FRAME.size:
            return
        number, kind, size = FRAME.unpack(head)
        data = heard.read(size)
        if kind == OPEN:
            port, _, host = data.decode().partition(" ")
            connections[number] = Connection(number, host, int(port), patience)
            connections[number].start()
        elif number in connections:
            if kind == DATA:
                connections[number].send(data)
            else:
                connections.pop(number).end()


if __name__ == "__main__":
    main()
