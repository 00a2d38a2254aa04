"""What the API server process is told at its start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class NodeEndpoint:
    """An address at which a control plane node serves the API: there from the moment that the node's network is."""

    netns: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """One cluster to serve.

    Attributes:
        fd: a listening socket that this process inherits, None for none. It may belong to another network namespace.
        port: on 127.0.0.1 of this process' own network namespace, None for none; 0 for any free one.
        nodes: where on the cluster's nodes it is served too.
        tokens: JSON list of {"token", "user", "groups"}.
        kubelet_client_certificate: with which this server shows itself to kubelets.
        seed: JSON list of objects that the cluster holds from the start, None for none.
        service_cidr: where Services that name no cluster IP get theirs from, None for nowhere.
    """

    region: str
    fd: int | None
    port: int | None
    certificate: Path
    key: Path
    ca: Path
    tokens: Path
    kubelet_client_certificate: Path
    kubelet_client_key: Path
    seed: Path | None
    service_cidr: IPv4Network | None
    nodes: tuple[NodeEndpoint, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ClusterConfig:
        """Read one element of the file's `clusters`. Raises KeyError for a missing member."""
        seed, service_cidr = values.get("seed"), values.get("service_cidr")
        return cls(
            region=values["region"],
            fd=values.get("fd"),
            port=values.get("port"),
            certificate=Path(values["certificate"]),
            key=Path(values["key"]),
            ca=Path(values["ca"]),
            tokens=Path(values["tokens"]),
            kubelet_client_certificate=Path(values["kubelet_client_certificate"]),
            kubelet_client_key=Path(values["kubelet_client_key"]),
            seed=Path(seed) if seed else None,
            service_cidr=IPv4Network(service_cidr) if service_cidr else None,
            nodes=tuple(NodeEndpoint(**endpoint) for endpoint in values.get("nodes", ())),
        )


def read_config(path: Path) -> list[ClusterConfig]:
    """The clusters to serve. Raises OSError, ValueError or KeyError when the file is not what it should be."""
    return [ClusterConfig.of(values) for values in json.loads(path.read_text())["clusters"]]
