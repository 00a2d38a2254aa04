"""What is said over a connection, and what is made of the answer."""

from __future__ import annotations

from typing import Any

from probes.agent.outcomes import DROPPED, INCONCLUSIVE, OPEN


class Dialogue:
    """What is said over a connection. Whether we begin, and whether we reset it when all is said."""

    speaks_first = False
    resets = False

    def request(self, index: int, target: Any) -> bytes:
        """What to say first, for those that speak first; nothing when being connected is all that was to be known."""
        raise NotImplementedError

    def understand(self, index: int, target: Any, heard: bytes) -> tuple[str, dict[str, Any]] | None:
        """The outcome and its columns, or None as long as more must be heard."""
        raise NotImplementedError


class Greeting(Dialogue):
    """Our own listener says who it is and whom it sees, and has closed its side then.

    A reset ends our side: a packet less than FIN and ACK, a tenth of what a probe costs, and no connection tracker on
    the way remembers the connection for minutes.
    """

    resets = True

    def understand(self, index: int, target: Any, heard: bytes) -> tuple[str, dict[str, Any]] | None:
        """One line, from the right one."""
        return check_greeting(heard, target[2]) if heard.endswith(b"\n") else None


class Line(Dialogue):
    """A host outside says one line: the address it sees."""

    def understand(self, index: int, target: Any, heard: bytes) -> tuple[str, dict[str, Any]] | None:
        """Any line will do."""
        if b"\n" not in heard:
            return None
        return OPEN, {"answer": heard.split(b"\n")[0].decode("ascii", "replace").strip()}


class Knock(Dialogue):
    """Somebody else's listener: being connected is all that is wanted of it."""

    speaks_first = True

    def request(self, index: int, target: Any) -> bytes:
        """Nothing."""
        return b""


def check_greeting(line: bytes, expected: str) -> tuple[str, dict[str, Any]]:
    """Open when the right listener answered. Another one's answer means that ours never got the probe."""
    words = line.decode("ascii", "replace").split()
    if len(words) != 3:
        return INCONCLUSIVE, {"detail": "connected to something that is no listener of ours"}
    if words[0] != expected:
        return DROPPED, {"answer": words[0], "detail": "%s answered instead" % words[0]}
    return OPEN, {"seen": words[1]}
