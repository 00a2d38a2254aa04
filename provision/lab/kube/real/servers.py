"""One cluster's etcd and kube-apiserver: their files, their command lines, and what becomes of them."""

from __future__ import annotations

import asyncio
import csv
import json
import socket
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from provision.lab.kube.apiserver.config import ClusterConfig
from provision.lab.kube.apiserver.endpoints import LOOPBACK
from provision.lab.kube.pki import write_secret
from provision.lab.kube.real.assets import API_SERVER, ETCD

ISSUER = "https://kubernetes.default.svc.cluster.local"

# Each is one half of something: a controller that the lab has not would take away again what it puts on new nodes (a
# taint) and on new claims (a finalizer).
_PLUGINS_OFF = ("TaintNodesByCondition", "StorageObjectInUseProtection")
_STORE, _PEERS = "store:1", "peers:1"
"""Sockets in the folder that etcd runs in: it takes no path, and wants something like a port."""

_LOG_TAIL = 3
"""Few enough that the sentence before them is not lost when the last lines of a log are shown."""


class ServerError(Exception):
    """A server has ended, or cannot be started; the text says all that there is to know."""


@dataclass(frozen=True)
class ServerFiles:
    """The files of one cluster below a folder of its own, mode 0700, which its programs run in."""

    folder: Path

    @property
    def store(self) -> Path:
        """The store's socket for its only client."""
        return self.folder / _STORE

    @property
    def tokens(self) -> Path:
        """The token file in the API server's format, mode 0600."""
        return self.folder / "tokens.csv"


def etcd_command(assets: Path) -> list[str]:
    """A store of one member that listens in its folder only. It goes with the lab, so nothing is synced to a disk."""
    client, peer = f"unix://{_STORE}", f"unix://{_PEERS}"
    return [
        str(assets / ETCD),
        "--name=lab",
        "--data-dir=etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=lab={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server_command(assets: Path, cluster: ClusterConfig, files: ServerFiles, port: int) -> list[str]:
    """An API server with the cluster's certificates, tokens and Kubernetes' own access rules.

    The Endpoints of the Service `kubernetes` are left to the seed: the server knows no address that pods could use.
    """
    network = [f"--service-cluster-ip-range={cluster.service_cidr}"] if cluster.service_cidr else []
    return [
        str(assets / API_SERVER),
        f"--etcd-servers=unix://{files.store}",
        f"--bind-address={LOOPBACK}",
        f"--advertise-address={LOOPBACK}",
        f"--secure-port={port}",
        f"--cert-dir={files.folder}",
        f"--tls-cert-file={cluster.certificate}",
        f"--tls-private-key-file={cluster.key}",
        f"--client-ca-file={cluster.ca}",
        f"--token-auth-file={files.tokens}",
        "--authorization-mode=RBAC",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={cluster.certificate}",
        f"--service-account-signing-key-file={cluster.key}",
        f"--kubelet-certificate-authority={cluster.ca}",
        f"--kubelet-client-certificate={cluster.kubelet_client_certificate}",
        f"--kubelet-client-key={cluster.kubelet_client_key}",
        "--kubelet-preferred-address-types=Hostname,InternalIP",
        "--endpoint-reconciler-type=none",
        "--allow-privileged=true",
        f"--disable-admission-plugins={','.join(_PLUGINS_OFF)}",
        "--profiling=false",
        *network,
    ]


def write_token_file(tokens: Path, files: ServerFiles) -> None:
    """Translate our token file into the API server's: token, user, uid, "group,group"."""
    table = StringIO()
    rows = csv.writer(table, lineterminator="\n")
    for entry in json.loads(tokens.read_text()):
        rows.writerow([entry["token"], entry["user"], entry["user"], ",".join(entry["groups"])])
    write_secret(files.tokens, table.getvalue().encode())


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A running program. It is killed when this process ends, however that happens."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, name: str, command: list[str], folder: Path, log: Path) -> Server:
        """Start it in that folder; what it prints is appended to its log."""
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL", "--", *command),
                cwd=folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return cls(name, process, log)

    async def run(self) -> None:
        """Wait for its end, which is always an error. When cancelled, kill it: nothing that it holds is wanted then.

        Raises:
            ServerError: it has ended; the text has its last words.
        """
        try:
            code = await self._process.wait()
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-_LOG_TAIL:])
        raise ServerError(f"{self.name} ended with exit code {code}:\n{tail}")
