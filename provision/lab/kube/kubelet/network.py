"""What the node agent asks of the network plugin."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Protocol

from provision.lab.kube.client import KubeObject


class PodNetwork(Protocol):
    """Gives a pod its address. The node agent makes and removes the network namespace itself."""

    async def attach(self, pod: KubeObject, netns: str) -> IPv4Address:
        """Connects the pod's network namespace to its node and returns the pod's address.

        Any exception means that the pod has no network; the node agent reports it and tries again.
        """
        ...

    async def detach(self, pod: KubeObject, netns: str) -> None:
        """Gives the pod's address and devices back. Called once for every pod whose `attach` was called."""
        ...
