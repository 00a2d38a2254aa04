"""A double of an environment, for tests of the plugins: it writes down what is done to it."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from analysis.facts import Inventory, Node
from analysis.fleet import Capability, ClusterHandle, Fleet
from provision.errors import ProvisionError
from provision.lab.topology import aws_calico

if TYPE_CHECKING:
    from fixtures.run import Run
    from provision.provider import Progress

ALL = frozenset(Capability)


def fleet_of(name: str = "double", capabilities: frozenset[Capability] = ALL) -> Fleet:
    plan = replace(aws_calico(name).plan, name=name)
    clusters = tuple(ClusterHandle(region.name, "/nowhere/kubeconfig", region.name) for region in plan.regions)
    return Fleet(plan, "double", clusters, capabilities, (("encapsulation", "VXLAN for IPIP"),))


class DoubleSource:
    """Up, down and observe, each a line in `log`, so that a test can count them across processes."""

    environment = "double"
    title = "double (nothing real)"
    live = True

    def __init__(
        self, log: Path, *, capabilities: frozenset[Capability] = ALL, broken: str = "", slow: float = 0.0
    ) -> None:
        self._log = log
        self._capabilities = capabilities
        self._broken = broken
        self._slow = slow

    def open(self, run: Run, progress: Progress) -> Fleet:
        self._say("up")
        progress.stage("nothing")
        if self._broken == "up":
            raise ProvisionError("the double was told to fail", remedy="tell it something else")
        if self._broken == "ctrl-c":
            raise KeyboardInterrupt
        return fleet_of(self.environment, self._capabilities)

    def close(self, run: Run) -> None:
        if "PYTEST_XDIST_WORKER" not in os.environ:
            self._say("down")
        if self._broken == "down":
            raise ProvisionError("the double would not go")

    def observe(self, family: str, run: Run, fleet: Fleet) -> object:
        self._say(f"observe {family}")
        Event().wait(self._slow)
        if family != "inventory":
            raise OSError("the double sees only the inventory")
        nodes = tuple(
            Node(region.name, f"{region.name}-node-1", IPv4Address("10.0.1.10"), ready=True)
            for region in fleet.plan.regions
        )
        return Inventory(nodes, (), ())

    def _say(self, what: str) -> None:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{what}\n")
