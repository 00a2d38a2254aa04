"""What the clusters of a mesh are given to trust each other by: certificates of one authority, as Secrets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from provision.lab.cilium.pki import create_mesh_pki, mesh_secrets
from provision.lab.kube.objects import KubeObject
from provision.lab.kube.pki import ClusterPki
from provision.lab.topology import LabTopology


def create(folder: Path, topology: LabTopology, _pki: Mapping[str, ClusterPki]) -> dict[str, list[KubeObject]]:
    """Draw them anew, files below that folder with mode 0600; the Secrets that they come to, by region."""
    ports = {str(region.plan.cluster_name): region.store_port for region in topology.regions}
    drawn = create_mesh_pki(folder, list(ports))
    return {region.name: mesh_secrets(drawn, str(region.plan.cluster_name), ports) for region in topology.regions}
