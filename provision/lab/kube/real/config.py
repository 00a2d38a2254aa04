"""What the process that runs the real API servers is told at its start."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from provision.lab.kube.apiserver.config import ClusterConfig


@dataclass(frozen=True, slots=True)
class RealConfig:
    """The clusters to serve, and with what.

    Attributes:
        assets: the folder with the programs.
        folder: a new folder for stores, sockets and token files, which go with it; its path must be short enough
            for a unix socket.
        logs: an existing folder for what the programs print.
        clusters: as the lab's own API server is told.
    """

    assets: Path
    folder: Path
    logs: Path
    clusters: tuple[ClusterConfig, ...]


def read_config(path: Path) -> RealConfig:
    """The configuration. Raises OSError, ValueError or KeyError when the file is not what it should be."""
    data = json.loads(path.read_text())
    return RealConfig(
        assets=Path(data["assets"]),
        folder=Path(data["folder"]),
        logs=Path(data["logs"]),
        clusters=tuple(ClusterConfig.of(values) for values in data["clusters"]),
    )
