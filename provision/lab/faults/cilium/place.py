"""The lab that the faults of the `azure-cilium` profile are planted in, and where Cilium's objects are in its API."""

from __future__ import annotations

from provision.lab.topology import LabNode, LabTopology, azure_cilium

LAB: LabTopology = azure_cilium("faults")
"""The default size. Faults name places and addresses of it, so they are tried on labs of that size."""

EASTUS, WESTUS, EUROPE = LAB.regions
SYSTEM = "/api/v1/namespaces/kube-system"
CONFIG = f"{SYSTEM}/configmaps/cilium-config"
DEPLOYMENTS = "/apis/apps/v1/namespaces/kube-system/deployments"
CILIUM = "/apis/cilium.io/v2"
IDENTITIES = f"{CILIUM}/ciliumidentities"


def cilium_node(node: LabNode) -> str:
    """The path of the node's CiliumNode."""
    return f"{CILIUM}/ciliumnodes/{node.name}"
