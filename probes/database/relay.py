"""Runs in a probe pod: joins its standard input and output to a TCP connection, `relay.py HOST PORT PATIENCE IDLE`.

It ends when either side does, when nothing has passed for IDLE seconds, or when no connection comes about within
PATIENCE seconds; the reason is on its standard error. Standard library only, Python 3.8 or newer.
"""

import os
import select
import signal
import socket
import sys

CHUNK = 1 << 16


def main() -> int:
    """Connect, then copy both ways. The exit code is 1 when the connection failed or broke."""
    host, port, patience, idle = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    signal.alarm(idle)  # whose default is to end the process
    try:
        with socket.create_connection((host, port), patience) as far:
            far.settimeout(None)
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                ready = select.select([0, far.fileno()], [], [])[0]
                signal.alarm(idle)
                if 0 in ready:
                    said = os.read(0, CHUNK)
                    if not said:
                        return 0
                    far.sendall(said)
                if far.fileno() in ready:
                    heard = far.recv(CHUNK)
                    if not heard:
                        return 0
                    while heard:
                        heard = heard[os.write(1, heard) :]
    except OSError as error:
        sys.stderr.write(error.strerror or str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
