"""How an agent is told to reach another cluster's store: a file for each remote cluster, named like the cluster.

The file is an etcd client's configuration in YAML. The lab writes and reads the few keys that Cilium uses, as JSON-like
scalars, without a YAML library: `cilium-dbg` reads the same files and has only the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

FOLDER = PurePosixPath("/var/lib/cilium/clustermesh")
"""Where the files are, on a node and in the agent's pod."""


class SettingsError(Exception):
    """The file does not say how to reach a store; the text says what is missing or wrong."""


@dataclass(frozen=True)
class EtcdSettings:
    """How to reach a store.

    Attributes:
        endpoints: URLs, "https://crdb-cilium-westus.mesh.cilium.io:32380".
        ca: file with the authorities that the store's certificate must lead to.
        certificate: file with the client's certificate, None to show none.
        key: file with its key.
    """

    endpoints: tuple[str, ...]
    ca: PurePosixPath | None = None
    certificate: PurePosixPath | None = None
    key: PurePosixPath | None = None

    def to_yaml(self) -> str:
        """The text of the file."""
        files = {"trusted-ca-file": self.ca, "key-file": self.key, "cert-file": self.certificate}
        return "\n".join(
            [
                "endpoints:",
                *(f"- {endpoint}" for endpoint in self.endpoints),
                *(f"{name}: '{path}'" for name, path in files.items() if path is not None),
                "",
            ]
        )


def read_settings(text: str) -> EtcdSettings:
    """Read what `EtcdSettings.to_yaml` writes, or the Cilium chart.

    Raises:
        SettingsError: no endpoint is named, or one is no URL with a host and a port.
    """
    endpoints: list[str] = []
    scalars: dict[str, PurePosixPath] = {}
    for line in text.splitlines():
        if item := re.match(r"\s*-\s+(\S+)\s*$", line):
            endpoints.append(_unquoted(item[1]))
        elif (pair := re.match(r"([a-z-]+):\s*(\S+)\s*$", line)) and pair[2] != "[]":
            scalars[pair[1]] = PurePosixPath(_unquoted(pair[2]))
    if not endpoints:
        raise SettingsError("no endpoints are named")
    for endpoint in endpoints:
        split_endpoint(endpoint)
    return EtcdSettings(
        tuple(endpoints), scalars.get("trusted-ca-file"), scalars.get("cert-file"), scalars.get("key-file")
    )


def split_endpoint(endpoint: str) -> tuple[str, str, int]:
    """Scheme, host and port of an endpoint.

    Raises:
        SettingsError: it is no such URL.
    """
    url = urlsplit(endpoint)
    try:
        port = url.port
    except ValueError:
        port = None
    if url.scheme not in ("http", "https") or not url.hostname or not port:
        raise SettingsError(f"the endpoint {endpoint!r} is no URL like https://NAME:PORT")
    return url.scheme, url.hostname, port


def configured_clusters(folder: Path) -> Mapping[str, str]:
    """The remote clusters that a folder names: the text of each file that names endpoints, by the file's name."""
    found = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.is_file() and b"endpoints:" in (content := path.read_bytes()):
                found[path.name] = content.decode(errors="replace")
    return found


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
