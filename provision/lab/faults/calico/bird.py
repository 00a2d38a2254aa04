"""A node's BIRD, as faults change it and look at it."""

from __future__ import annotations

from dataclasses import dataclass

from provision.faults import Confirm, Control, FaultError
from provision.lab.faults.steps import place
from provision.lab.images import BIRD_CONFIG, BIRD_SOCKET
from provision.lab.topology import LabNode


def birdcl(control: Control, node: LabNode, *words: str, check: bool = True) -> str:
    """What the node's BIRD answers to a command."""
    return control.run(place(node), ["birdcl", "-s", BIRD_SOCKET, *words], check=check).out


def protocol(peer: LabNode) -> str:
    """The name that Calico gives the session to that node."""
    return f"Node_{str(peer.address).replace('.', '_')}"


@dataclass(frozen=True)
class Birdcl:
    """Give a node's BIRD one command to break and another to mend."""

    node: LabNode
    breaking: tuple[str, ...]
    mending: tuple[str, ...]

    def apply(self, control: Control) -> None:
        """Give the breaking command."""
        birdcl(control, self.node, *self.breaking)

    def heal(self, control: Control, memory: None) -> None:
        """Give the mending one."""
        birdcl(control, self.node, *self.mending, check=False)


@dataclass(frozen=True)
class BirdConfig:
    """Change a node's bird.cfg by hand, as a colleague in a hurry would.

    Attributes:
        node: whose.
        append: lines added at the end.
        replace: (old, new) texts; every occurrence of each old one is replaced, and there must be one.
    """

    node: LabNode
    append: str = ""
    replace: tuple[tuple[str, str], ...] = ()

    def apply(self, control: Control) -> str:
        """Write the changed file and load it."""
        before = control.run(place(self.node), ["cat", BIRD_CONFIG]).out
        text = before
        for old, new in self.replace:
            if old not in text:
                raise FaultError(f"{place(self.node)}: {BIRD_CONFIG} has no {old!r} to replace")
            text = text.replace(old, new)
        self._load(control, f"{text}\n{self.append}\n")
        return before

    def heal(self, control: Control, memory: str) -> None:
        """Put the old file back and load it."""
        self._load(control, memory)

    def _load(self, control: Control, text: str) -> None:
        control.run(place(self.node), ["tee", BIRD_CONFIG], text=text)
        answer = birdcl(control, self.node, "configure")
        if "Reconfigur" not in answer:
            raise FaultError(f"{place(self.node)}: BIRD did not take the changed configuration: {answer}")


@dataclass(frozen=True)
class Signal:
    """Stop a node's BIRD in its tracks and let it go on: it lives and says nothing."""

    node: LabNode

    def apply(self, control: Control) -> None:
        """SIGSTOP."""
        self._send(control, "STOP")

    def heal(self, control: Control, memory: None) -> None:
        """SIGCONT."""
        self._send(control, "CONT")

    def _send(self, control: Control, name: str) -> None:
        # The daemon's pid is not known from outside: the processes in the node's namespace called bird are it.
        script = f'for pid in $(ip netns pids {self.node.netns}); do [ "$(cat /proc/$pid/comm)" = bird ] && '
        control.run(place(self.node), ["sh", "-c", script + f"kill -{name} $pid; done; true"])


def session_is(node: LabNode, name: str, *, up: bool) -> Confirm:
    """The session of that name is, or is not, Established, by BIRD's own word."""

    def confirm(control: Control) -> bool:
        rows = [line for line in birdcl(control, node, "show", "protocols").splitlines() if line.startswith(f"{name} ")]
        return bool(rows) and all(("Established" in row) == up for row in rows)

    return confirm


def session_is_absent(node: LabNode, name: str) -> Confirm:
    """BIRD has no protocol of that name."""
    return lambda control: f"{name} " not in birdcl(control, node, "show", "protocols")
