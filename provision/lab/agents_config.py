"""What the agents process is told at its start: the lab's shape, and how to reach each cluster's API server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.lab.kube.identities import Identity
from provision.lab.paths import INSIDE
from provision.lab.topology import LabTopology, topology_from_spec

FABRIC_READY = INSIDE / "fabric.ready"
"""The file whose appearance says that the nodes' namespaces and links are there."""

FIRST_KUBELET_PORT = 10250
"""The k-th node of the lab serves on 127.0.0.1, this port plus k."""


@dataclass(frozen=True)
class ClusterAccess:
    """How the agents reach one cluster.

    Attributes:
        region: which one.
        server: URL of the API server, "https://127.0.0.1:6443".
        ca: PEM file with the cluster's authority, for the server's certificate and for the server's own when it calls
            a kubelet.
        tokens: JSON file, a list of {"token", "user", "groups"}; each agent takes its own identity's.
        kubelet_certificate: PEM file that the cluster's kubelets serve with.
        kubelet_key: its key.
    """

    region: str
    server: str
    ca: Path
    tokens: Path
    kubelet_certificate: Path
    kubelet_key: Path

    def token(self, identity: Identity) -> str:
        """The bearer token of that identity. Raises KeyError when the file has none."""
        for entry in json.loads(self.tokens.read_text()):
            if entry["user"] == identity.user:
                return str(entry["token"])
        raise KeyError(f"{self.tokens}: no token for {identity.user}")


@dataclass(frozen=True)
class AgentsConfig:
    """The agents' configuration, written by the container as JSON (mode 0600).

    Attributes:
        topology: the lab, by the numbers that it is computed from.
        clusters: one for each region, in the topology's order.
    """

    topology: LabTopology
    clusters: tuple[ClusterAccess, ...]

    def cluster(self, region: str) -> ClusterAccess:
        """The access to that region's cluster. Raises KeyError when there is none."""
        for cluster in self.clusters:
            if cluster.region == region:
                return cluster
        raise KeyError(region)

    def kubelet_port(self, node: str) -> int:
        """The port of that node's kubelet."""
        return FIRST_KUBELET_PORT + [known.name for known in self.topology.nodes].index(node)

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON data."""
        return {
            "topology": self.topology.to_spec(),
            "clusters": [
                {
                    "region": cluster.region,
                    "server": cluster.server,
                    "ca": str(cluster.ca),
                    "tokens": str(cluster.tokens),
                    "kubelet_certificate": str(cluster.kubelet_certificate),
                    "kubelet_key": str(cluster.kubelet_key),
                }
                for cluster in self.clusters
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AgentsConfig:
        """Reads what `to_json` wrote."""
        return cls(
            topology=topology_from_spec(data["topology"]),
            clusters=tuple(
                ClusterAccess(
                    region=cluster["region"],
                    server=cluster["server"],
                    ca=Path(cluster["ca"]),
                    tokens=Path(cluster["tokens"]),
                    kubelet_certificate=Path(cluster["kubelet_certificate"]),
                    kubelet_key=Path(cluster["kubelet_key"]),
                )
                for cluster in data["clusters"]
            ),
        )


def host_tree(node: str) -> Path:
    """The folder that plays a node's file system for hostPath volumes: /var/run/calico of the node lies below it."""
    return INSIDE / "nodes" / node
