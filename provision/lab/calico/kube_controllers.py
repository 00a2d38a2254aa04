"""calico-kube-controllers of one cluster, as far as the lab plays it: blocks of nodes that have left are given back.

It works while a pod of its Deployment runs; what has to be done meanwhile is done when one runs again.
"""

from __future__ import annotations

import asyncio
import logging

from provision.lab.calico.control_plane import KUBE_CONTROLLERS, NAMESPACE
from provision.lab.calico.resources import BLOCK_AFFINITIES, IPAM_BLOCKS
from provision.lab.kube.client import PODS, ApiClient, ApiError, Change, ChangeKind, Reflector, synced

log = logging.getLogger(__name__)

RETRY_S = 1.0


class KubeControllers:
    """Follows the nodes of a cluster.

    Args:
        client: talks to the cluster.
        nodes: its Node objects.
        affinities: its BlockAffinity objects.
        blocks: its IPAMBlock objects.
    """

    def __init__(self, client: ApiClient, *, nodes: Reflector, affinities: Reflector, blocks: Reflector) -> None:
        self._client = client
        self._nodes = nodes
        self._affinities = affinities
        self._blocks = blocks
        self._pods = Reflector(client, PODS, namespace=NAMESPACE, label_selector=f"k8s-app={KUBE_CONTROLLERS}")
        self._gone: set[str] = set()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled."""
        self._nodes.add_handler(self._on_node)
        self._pods.add_handler(lambda _change: self._changed.set())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pods.run())
            await synced(self._pods, self._nodes, self._affinities, self._blocks)
            while True:
                await self._changed.wait()
                self._changed.clear()
                for node in sorted(self._gone) if self._runs else ():
                    await self._release(node)

    @property
    def _runs(self) -> bool:
        return any(
            container.get("ready")
            for pod in self._pods
            for container in pod.get("status", {}).get("containerStatuses") or ()
        )

    def _on_node(self, change: Change) -> None:
        name = change.object["metadata"]["name"]
        if change.kind is ChangeKind.DELETED:
            self._gone.add(name)
            self._changed.set()
        else:
            self._gone.discard(name)

    async def _release(self, node: str) -> None:
        claims = [claim for claim in self._affinities if claim["spec"].get("node") == node]
        blocks = [block for block in self._blocks if block["spec"].get("affinity") == f"host:{node}"]
        try:
            for claim in claims:
                await self._client.delete(BLOCK_AFFINITIES, claim["metadata"]["name"])
            for block in blocks:
                await self._client.delete(IPAM_BLOCKS, block["metadata"]["name"])
        except ApiError as error:
            log.warning("blocks of %s, which is gone, are not all given back: %s", node, error)
            asyncio.get_running_loop().call_later(RETRY_S, self._changed.set)
        else:
            self._gone.discard(node)
