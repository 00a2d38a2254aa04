"""What the clusters of a mesh are given to trust each other by: the BGP password, and federation's kubeconfigs.

Made once for a lab, because every cluster's objects hold something of the others'.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provision.lab.calico.authentication import BGP_PASSWORD_KEY, BGP_SECRET, BGP_SECRET_NAMESPACE
from provision.lab.calico.control_plane import (
    FEDERATION_ACCOUNT,
    FEDERATION_NAMESPACE,
    NAMESPACE,
    remote_cluster_name,
)
from provision.lab.calico.resources import GROUP
from provision.lab.kube.identities import TIGERA_FEDERATION
from provision.lab.kube.objects import KubeObject
from provision.lab.kube.pki import ClusterPki
from provision.lab.topology import API_SERVER_PORT, LabTopology, PolicyPeers

_PASSWORD_BYTES = 18


@dataclass(frozen=True)
class FederationAccess:
    """How other clusters reach a cluster: URL of its API server, PEM text of its authority, the account's token."""

    server: str
    ca: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class MeshCredentials:
    """The secrets of a mesh: what signs its BGP sessions, and the access to every cluster, by region."""

    clusters: Mapping[str, FederationAccess]
    bgp_password: str = field(default_factory=lambda: secrets.token_urlsafe(_PASSWORD_BYTES), repr=False)

    @classmethod
    def of(cls, topology: LabTopology, pki: Mapping[str, ClusterPki]) -> MeshCredentials:
        """Those of a new lab, whose API servers are reached at their control plane nodes."""
        return cls(
            {
                region.name: FederationAccess(
                    server=f"https://{region.nodes[0].address}:{API_SERVER_PORT}",
                    ca=pki[region.name].ca.read_text(),
                    token=pki[region.name].token(TIGERA_FEDERATION),
                )
                for region in topology.regions
            }
        )


def create(_folder: Path, topology: LabTopology, pki: Mapping[str, ClusterPki]) -> dict[str, list[KubeObject]]:
    """Draw them anew; the objects that they come to, by region. See `provision.lab.profiles.MeshCredentials`."""
    drawn, federated = MeshCredentials.of(topology, pki), topology.policy_peers is PolicyPeers.FEDERATION
    return {region.name: objects(region.name, drawn, federated=federated) for region in topology.regions}


def objects(region: str, credentials: MeshCredentials, *, federated: bool = True) -> list[KubeObject]:
    """What the region's cluster holds of them: its own account's token, the password, and one kubeconfig per remote."""
    remotes = {name: access for name, access in credentials.clusters.items() if federated and name != region}
    return [
        _secret(BGP_SECRET_NAMESPACE, BGP_SECRET, {BGP_PASSWORD_KEY: credentials.bgp_password}),
        _account_token(credentials.clusters[region]),
        *(_access_secret(name, access) for name, access in remotes.items()),
        *(_remote_cluster(name) for name in remotes),
    ]


def _account_token(own: FederationAccess) -> KubeObject:
    """By hand, as has to be done from Kubernetes 1.24 on."""
    data = {"ca.crt": own.ca, "namespace": FEDERATION_NAMESPACE, "token": own.token}
    secret = _secret(FEDERATION_NAMESPACE, FEDERATION_ACCOUNT, data, kind="kubernetes.io/service-account-token")
    secret["metadata"]["annotations"] = {"kubernetes.io/service-account.name": FEDERATION_ACCOUNT}
    return secret


def _access_secret(region: str, access: FederationAccess) -> KubeObject:
    data = {"datastoreType": "kubernetes", "kubeconfig": _kubeconfig(access)}
    return _secret(NAMESPACE, _access_secret_name(region), data)


def _access_secret_name(region: str) -> str:
    return f"remote-cluster-secret-cluster-{region}"


def _kubeconfig(access: FederationAccess) -> str:
    authority = b64encode(access.ca.encode()).decode()
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "remote", "cluster": {"server": access.server, "certificate-authority-data": authority}}
            ],
            "users": [{"name": FEDERATION_ACCOUNT, "user": {"token": access.token}}],
            "contexts": [{"name": "remote", "context": {"cluster": "remote", "user": FEDERATION_ACCOUNT}}],
            "current-context": "remote",
        }
    )


def _remote_cluster(region: str) -> KubeObject:
    reference = {"kind": "Secret", "name": _access_secret_name(region), "namespace": NAMESPACE}
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "RemoteClusterConfiguration",
        "metadata": {"name": remote_cluster_name(region)},
        "spec": {"clusterAccessSecret": reference},
    }


def _secret(namespace: str, name: str, values: Mapping[str, str], *, kind: str = "Opaque") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": kind,
        "data": {key: b64encode(value.encode()).decode() for key, value in values.items()},
    }
