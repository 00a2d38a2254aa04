"""One cluster's objects that Cilium looks at, kept current by one identity's watches."""

from __future__ import annotations

import asyncio

from provision.lab.kube.client import (
    CONFIG_MAPS,
    ENDPOINT_SLICES,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICES,
    ApiClient,
    Reflector,
    synced,
)
from provision.lab.kube.objects import Resource

CILIUM_NODES = Resource("cilium.io", "v2", "ciliumnodes", "CiliumNode", namespaced=False)
CILIUM_ENDPOINTS = Resource("cilium.io", "v2", "ciliumendpoints", "CiliumEndpoint")
CILIUM_IDENTITIES = Resource("cilium.io", "v2", "ciliumidentities", "CiliumIdentity", namespaced=False)
CILIUM_POLICIES = Resource("cilium.io", "v2", "ciliumnetworkpolicies", "CiliumNetworkPolicy")
CILIUM_CLUSTER_POLICIES = Resource(
    "cilium.io", "v2", "ciliumclusterwidenetworkpolicies", "CiliumClusterwideNetworkPolicy", namespaced=False
)
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")

NAMESPACE = "kube-system"
"""Where Cilium is installed."""

CONFIG = "cilium-config"
"""The ConfigMap with its settings."""


class ClusterWatch:
    """One cluster's objects. The kubelets' and the operator's code may read the same reflectors."""

    def __init__(self, client: ApiClient) -> None:
        self.client = client
        self.nodes = Reflector(client, CILIUM_NODES)
        self.endpoints = Reflector(client, CILIUM_ENDPOINTS)
        self.identities = Reflector(client, CILIUM_IDENTITIES)
        self.pods = Reflector(client, PODS)
        self.namespaces = Reflector(client, NAMESPACES)
        self.services = Reflector(client, SERVICES)
        self.slices = Reflector(client, ENDPOINT_SLICES)
        self.config_maps = Reflector(client, CONFIG_MAPS, namespace=NAMESPACE)
        self.secrets = Reflector(client, SECRETS, namespace=NAMESPACE)
        self.policies = Reflector(client, CILIUM_POLICIES)
        self.cluster_policies = Reflector(client, CILIUM_CLUSTER_POLICIES)
        self.network_policies = Reflector(client, NETWORK_POLICIES)
        self._all = (
            self.nodes,
            self.endpoints,
            self.identities,
            self.pods,
            self.namespaces,
            self.services,
            self.slices,
            self.config_maps,
            self.secrets,
            self.policies,
            self.cluster_policies,
            self.network_policies,
        )

    @property
    def meant_by_policy(self) -> tuple[Reflector, ...]:
        """Policies, and what says which addresses they mean."""
        return (
            self.policies,
            self.cluster_policies,
            self.network_policies,
            self.endpoints,
            self.identities,
            self.nodes,
            self.pods,
        )

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._all:
                tasks.create_task(reflector.run())

    async def synced(self) -> None:
        """Wait for the first list of everything."""
        await synced(*self._all)
