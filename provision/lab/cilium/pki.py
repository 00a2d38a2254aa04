"""The mesh's keys and certificates: one authority for all clusters, and what each cluster's store and readers show.

`mesh_secrets` gives them the form that the Cilium chart gives them: Secrets in kube-system of each cluster.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.x509.oid import ExtendedKeyUsageOID

from provision.lab.cilium.names import (
    ADMIN_SECRET,
    CA_SECRET,
    CLUSTERMESH_SECRET,
    COMMON,
    REMOTE_SECRET,
    REMOTE_USER,
    SERVER_SECRET,
    admin_user,
    mesh_name,
)
from provision.lab.cilium.settings import FOLDER, EtcdSettings
from provision.lab.cilium.watch import NAMESPACE
from provision.lab.kube.objects import KubeObject
from provision.lab.kube.pki import LOOPBACK, Authority, KeyPair
from provision.lab.topology import MESH_DOMAIN


@dataclass(frozen=True, slots=True)
class ClusterCertificates:
    """One cluster's certificates.

    Attributes:
        server: the store's own.
        admin: of who fills the store.
        remote: of the cluster's agents, for the stores of the others.
        root: of the store's administrator, who may change users and roles: in no cluster, only in the lab's folder.
    """

    server: KeyPair
    admin: KeyPair
    remote: KeyPair
    root: KeyPair


@dataclass(frozen=True, slots=True)
class MeshPki:
    """The common authority, its key included (as the Secret cilium-ca holds it), and each cluster's certificates."""

    authority: KeyPair
    clusters: Mapping[str, ClusterCertificates]


def create_mesh_pki(folder: Path, clusters: Sequence[str]) -> MeshPki:
    """Make the authority and every cluster's certificates below `folder`, folders 0700, files 0600.

    Args:
        folder: the lab's pki folder.
        clusters: the clusters' names ("crdb-cilium-eastus").

    Raises:
        OSError: the folder cannot be written.
    """
    home = folder / "mesh"
    for each in (folder, home):
        each.mkdir(mode=0o700, exist_ok=True)
    authority = Authority("Cilium CA", home)
    return MeshPki(
        KeyPair(authority.certificate_file, authority.write_key()),
        {cluster: _issue(authority, home / cluster, cluster) for cluster in clusters},
    )


def _issue(authority: Authority, folder: Path, cluster: str) -> ClusterCertificates:
    folder.mkdir(mode=0o700, exist_ok=True)
    server = authority.issue(
        "clustermesh-apiserver.cilium.io",
        usages=[ExtendedKeyUsageOID.SERVER_AUTH],
        names=["clustermesh-apiserver.cilium.io", f"*.{MESH_DOMAIN}", f"clustermesh-apiserver.{NAMESPACE}.svc"],
        addresses=[LOOPBACK],
        folder=folder,
    )
    admin = authority.issue(admin_user(cluster), usages=[ExtendedKeyUsageOID.CLIENT_AUTH], folder=folder)
    remote = authority.issue(REMOTE_USER, usages=[ExtendedKeyUsageOID.CLIENT_AUTH], folder=folder)
    root = authority.issue("root", usages=[ExtendedKeyUsageOID.CLIENT_AUTH], folder=folder)
    return ClusterCertificates(server, admin, remote, root)


def mesh_secrets(pki: MeshPki, cluster: str, ports: Mapping[str, int]) -> list[KubeObject]:
    """The Secrets of one cluster.

    Args:
        pki: the mesh's certificates.
        cluster: whose Secrets.
        ports: the NodePort of each cluster's store, by the cluster's name; its own is left out of its settings.
    """
    own = pki.clusters[cluster]
    remotes = {
        name: EtcdSettings(
            endpoints=(f"https://{mesh_name(name)}:{port}",),
            ca=FOLDER / f"{COMMON}-ca.crt",
            certificate=FOLDER / f"{COMMON}.crt",
            key=FOLDER / f"{COMMON}.key",
        )
        .to_yaml()
        .encode()
        for name, port in ports.items()
        if name != cluster
    }
    authority = {"ca.crt": pki.authority.certificate.read_bytes(), "ca.key": pki.authority.key.read_bytes()}
    return [
        _secret(CA_SECRET, authority),
        _tls_secret(SERVER_SECRET, pki.authority.certificate, own.server),
        _tls_secret(ADMIN_SECRET, pki.authority.certificate, own.admin),
        _tls_secret(REMOTE_SECRET, pki.authority.certificate, own.remote),
        _secret(CLUSTERMESH_SECRET, remotes),
    ]


def _tls_secret(name: str, ca: Path, pair: KeyPair) -> KubeObject:
    data = {"ca.crt": ca.read_bytes(), "tls.crt": pair.certificate.read_bytes(), "tls.key": pair.key.read_bytes()}
    return _secret(name, data, kind="kubernetes.io/tls")


def _secret(name: str, data: Mapping[str, bytes], kind: str = "Opaque") -> KubeObject:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "type": kind,
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
