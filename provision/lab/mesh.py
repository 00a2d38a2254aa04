"""What the agents process asks of a profile's CNI: who it is, how it connects pods, and that it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from provision.lab.kube.client import ApiClient
from provision.lab.kube.identities import Identity
from provision.lab.kube.kubelet.network import PodNetwork
from provision.lab.topology import LabTopology

Clients = Mapping[tuple[str, Identity], ApiClient]
"""API clients by region and identity."""


class Mesh(Protocol):
    """The CNI of all clusters of a lab."""

    def network(self, region: str) -> PodNetwork:
        """What connects the pods of that region's cluster."""
        ...

    async def run(self) -> None:
        """Run until cancelled. No kernel is touched before the fabric is ready."""
        ...

    async def synced(self) -> None:
        """Wait until everything that the CNI looks at has been read once."""
        ...


class MeshModule(Protocol):
    """The module `mesh` of a profile's package."""

    @property
    def IDENTITIES(self) -> tuple[Identity, ...]:  # noqa: N802 - a module's constant
        """Whom a mesh talks to every cluster's API as."""
        ...

    def create(self, topology: LabTopology, clients: Clients, fabric_ready: asyncio.Event) -> Mesh:
        """A mesh with a client for each identity in each region; `fabric_ready` is set once namespaces are there."""
        ...
