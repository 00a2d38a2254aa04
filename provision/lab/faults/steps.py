"""What the lab's faults are made of, beyond the general steps: a node's BIRD, and looks at the kernel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from provision.faults import PLANTED_TABLE, Confirm, Control, FaultError
from provision.lab.images import BIRD_CONFIG, BIRD_SOCKET
from provision.lab.topology import LabNode, LabTopology, aws_calico

LAB: LabTopology = aws_calico("faults")
"""The default size. Faults name places and addresses of it, so they are tried on labs of that size."""

EAST, OHIO, WEST = LAB.regions
CALICO = "/apis/crd.projectcalico.org/v1"


def place(node: LabNode) -> str:
    """A node as `Control.run` names it."""
    return f"{node.region}/{node.alias}"


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


def kernel_routes(control: Control, where: str, prefix: str | None = None) -> list[dict[str, Any]]:
    """The main table of a node, or the routes of exactly one prefix of it, as `ip -j route` tells them."""
    argv = ["ip", "-j", "-d", "route", "show", "table", "main"] + (["exact", prefix] if prefix else [])
    found: list[dict[str, Any]] = json.loads(control.run(where, argv).out or "[]")
    return found


def route_is_gone(node: LabNode, prefix: object) -> Confirm:
    """The node's kernel has no usable route of that prefix."""
    return lambda control: all(
        route.get("type", "unicast") != "unicast" for route in kernel_routes(control, place(node), str(prefix))
    )


def route_is_there(node: LabNode, prefix: object) -> Confirm:
    """The node's kernel has a route of that prefix, of whatever kind."""
    return lambda control: bool(kernel_routes(control, place(node), str(prefix)))


def session_is(node: LabNode, name: str, *, up: bool) -> Confirm:
    """The session of that name is, or is not, Established, by BIRD's own word."""

    def confirm(control: Control) -> bool:
        rows = [line for line in birdcl(control, node, "show", "protocols").splitlines() if line.startswith(f"{name} ")]
        return bool(rows) and all(("Established" in row) == up for row in rows)

    return confirm


def session_is_absent(node: LabNode, name: str) -> Confirm:
    """BIRD has no protocol of that name."""
    return lambda control: f"{name} " not in birdcl(control, node, "show", "protocols")


def object_says(region: str, path: str, keys: Sequence[str], value: object) -> Confirm:
    """The API shows that value in the object, at the end of that chain of keys."""

    def confirm(control: Control) -> bool:
        found: Any = control.get(region, path)
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return bool(found == value)

    return confirm


def object_is_there(region: str, path: str) -> Confirm:
    """The API has the object."""
    return lambda control: control.get(region, path) is not None


def object_is_gone(region: str, path: str) -> Confirm:
    """The API has no such object."""
    return lambda control: control.get(region, path) is None


def table_is_loaded(where: str) -> Confirm:
    """The planted packet filter is in the kernel."""
    return lambda control: control.run(where, ["nft", "list", "table", *PLANTED_TABLE], check=False).code == 0
