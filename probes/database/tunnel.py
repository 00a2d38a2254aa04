"""Tunnels: doors on the runner's loopback that come out in a region's probe pod, one exec for each connection."""

from __future__ import annotations

from probes.deploy import ProbeSet
from probes.mesh import Mesh


class Tunnels:
    """The `Dialer` that goes through probe pods, or straight to the addresses that the environment names."""

    def __init__(self, mesh: Mesh, probe_set: ProbeSet) -> None:
        self._mesh = mesh
        self._probe_set = probe_set

    def door(self, region: str, host: str, port: int) -> tuple[str, int]:
        """See `Dialer.door`."""
        raise NotImplementedError

    def last_problem(self, region: str, host: str, port: int) -> str:
        """See `Dialer.last_problem`."""
        raise NotImplementedError

    def close(self) -> None:
        """See `Dialer.close`."""
