"""What `cilium-dbg` asks of the agent that it talks to."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from provision.lab.cilium.state import AgentState


class Agent(Protocol):
    """A node's agent."""

    @property
    def namespace(self) -> str | None:
        """The network namespace that it connects from, None for the caller's own."""
        ...

    @property
    def version(self) -> str:
        """The version that it is of."""
        ...

    @property
    def settings_folder(self) -> Path:
        """The folder with a file for each remote cluster."""
        ...

    def resolve(self, host: str) -> tuple[IPv4Address, ...]:
        """What a name stands for in its pod; nothing for one that is not known."""
        ...

    async def probe(self) -> None:
        """Has a fresh round of health probes."""
        ...

    async def state(self, *, maps: bool = False) -> AgentState:
        """A picture of this moment, on demand with what the kernel's maps hold."""
        ...
