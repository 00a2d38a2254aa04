"""The Cilium agent of every node of the lab.

To whoever wires this in:

    watches = {region: ClusterWatch(client with Cilium's identity) ...}    # run by the controller
    datapaths = {node.name: Datapath(node.netns, node.address) ...}
    tasks.create_task(CiliumController(topology, watches, datapaths).run(fabric_ready))

- An agent lives as long as the container "cilium-agent" of the pod `k8s-app=cilium` of its node runs: its version is
  that of the image's tag, the names it can resolve are the pod's hostAliases. It reads ConfigMap
  kube-system/cilium-config once, at its start.
- Its files are below `host_tree(node)`: /var/lib/cilium/clustermesh (one file per remote cluster, and
  common-etcd-client{-ca.crt,.crt,.key}) and /var/run/cilium/cilium.sock; the pod mounts both folders by hostPath. The
  first is written from the Secrets cilium-clustermesh and clustermesh-apiserver-remote-cert whenever these change.
- It needs: list and watch of ciliumnodes, pods, namespaces, services, endpointslices, configmaps and secrets of
  kube-system; all on ciliumendpoints and ciliumidentities.
- CiliumNode objects are the operator's. `spec.addresses` has InternalIP and CiliumInternalIP, `spec.ipam.podCIDRs` one
  CIDR, `spec.health.ipv4` (optional) an address of the node that answers TCP 4240 in the node's namespace.
- The store of a cluster is filled while its pod `k8s-app=clustermesh-apiserver` is running: container "etcd" runs
  `store.ETCD_COMMAND`, with the Secret clustermesh-apiserver-server-cert at /var/lib/etcd-secrets and an emptyDir at
  /var/run/etcd; container "apiserver" only needs to exist. Seed the Secrets from `pki.mesh_secrets`.
- `cilium-dbg`, `cilium` and `cilium-health` are one program, `dbg/program.py`, which needs no more than a Python and
  the socket; it goes by the name that it is called by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from provision.lab.cilium.state import TunnelEntry
from provision.lab.cilium.watch import ClusterWatch
from provision.lab.topology import LabTopology


class NodeDatapath(Protocol):
    """What an agent asks of its node's kernel. The methods block: they are called in a thread, one at a time."""

    def set_up(self, router: IPv4Address, pod_cidr: IPv4Network, settings: Mapping[str, str]) -> None:
        """Make the node's own devices and routes, unless they are there; `settings` is cilium-config."""
        ...

    def sync(self, entries: Collection[TunnelEntry]) -> None:
        """Bring the tunnel map, and the routes of other nodes' blocks, to these entries."""
        ...

    def tunnel_map(self) -> tuple[TunnelEntry, ...]:
        """The tunnel map as the kernel has it now."""
        ...


class CiliumController:
    """The agents of all nodes and the stores of all clusters.

    Args:
        topology: the lab.
        watches: by region.
        datapaths: by the node's name.
    """

    def __init__(
        self, topology: LabTopology, watches: Mapping[str, ClusterWatch], datapaths: Mapping[str, NodeDatapath]
    ) -> None:
        self._topology = topology
        self._watches = watches
        self._datapaths = datapaths

    async def run(self, fabric_ready: asyncio.Event) -> None:
        """Run until cancelled. The kernel is not touched before `fabric_ready`."""
        async with asyncio.TaskGroup() as tasks:
            for watch in self._watches.values():
                tasks.create_task(watch.run())
            await fabric_ready.wait()
