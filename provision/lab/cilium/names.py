"""What the mesh's Secrets, certificates and users are called.

Apart from what makes them, whose cryptography takes 0.1 s to import: who only names them need not wait for it.
"""

from __future__ import annotations

from provision.lab.topology import MESH_DOMAIN

CA_SECRET = "cilium-ca"  # noqa: S105 - names of Secrets, not their contents
SERVER_SECRET = "clustermesh-apiserver-server-cert"  # noqa: S105
ADMIN_SECRET = "clustermesh-apiserver-admin-cert"  # noqa: S105
REMOTE_SECRET = "clustermesh-apiserver-remote-cert"  # noqa: S105
CLUSTERMESH_SECRET = "cilium-clustermesh"  # noqa: S105

REMOTE_USER = "remote"
COMMON = "common-etcd-client"


def admin_user(cluster: str) -> str:
    """The etcd user, and the common name, of whoever fills that cluster's store."""
    return f"admin-{cluster}"


def mesh_name(cluster: str) -> str:
    """The host name that other clusters know that cluster's store under."""
    return f"{cluster}.{MESH_DOMAIN}"
