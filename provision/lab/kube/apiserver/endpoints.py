"""The sockets at which clients reach a cluster's API: inherited ones, the loopback, and its control plane nodes."""

from __future__ import annotations

import asyncio
import socket

from provision.lab import netns
from provision.lab.agents_config import FABRIC_READY
from provision.lab.kube.apiserver.config import ClusterConfig

LOOPBACK = "127.0.0.1"
BACKLOG = 128
LOOK_EVERY_S = 0.02


def first_listeners(cluster: ClusterConfig) -> list[socket.socket]:
    """Those that can be had at once: the one that this process was given, and the loopback's."""
    inherited = [] if cluster.fd is None else [socket.socket(fileno=cluster.fd)]
    own = [] if cluster.port is None else [socket.create_server((LOOPBACK, cluster.port), backlog=BACKLOG)]
    return inherited + own


async def node_listeners(cluster: ClusterConfig) -> list[socket.socket]:
    """Those at the addresses of nodes. Waits for the nodes' networks, which another process builds."""
    if cluster.nodes:
        while not FABRIC_READY.exists():
            await asyncio.sleep(LOOK_EVERY_S)
    return [netns.listening_socket(node.netns, node.address, node.port) for node in cluster.nodes]
