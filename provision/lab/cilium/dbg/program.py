#!/usr/bin/env -S python3 -I -S
"""`cilium-dbg`, `cilium` and `cilium-health`: asks the node's agent and prints what it says.

Stands alone, with nothing but the standard library: it runs in the agent's pod.
"""

import json
import os
import socket
import sys

SOCKET = "/var/run/cilium/cilium.sock"


def main() -> int:
    """Ask, print, and return the exit code."""
    program = sys.argv[0].rpartition("/")[2]
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(SOCKET)
            end.sendall(json.dumps({"argv": [program, *sys.argv[1:]]}).encode() + b"\n")
            with end.makefile("rb") as answer:
                reply = json.loads(answer.readline())
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else "no answer"
        sys.stderr.write(
            f"Error: Cannot reach the agent: dial unix {SOCKET}: connect: {reason}\nIs the agent running?\n"
        )
        return 1
    sys.stdout.write(reply["out"])
    sys.stderr.write(reply["err"])
    return int(reply["code"])


if __name__ == "__main__":
    sys.exit(main())
