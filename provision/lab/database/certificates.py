"""The database's certificates, and the Secrets by which its pods have them.

All regions trust one authority, whose key stays in the lab's own folder and is in no cluster. The stand-in's store has
an authority of its own: who holds a certificate of the database cannot write there.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

from cryptography.x509.oid import ExtendedKeyUsageOID

from analysis.facts import POSTGRESQL
from analysis.fleet import DatabaseAccess
from analysis.plan import DatabasePlan
from provision.lab.kube.objects import KubeObject
from provision.lab.kube.pki import LOOPBACK, Authority, KeyPair
from provision.lab.topology import LabTopology

SUPERUSER = "root"
STORE = "database-store"
"""Name of the store's headless Service, and of its StatefulSet."""

STORE_NODE_SECRET, STORE_CLIENT_SECRET = f"{STORE}.node", f"{STORE}.client"

_FOLDER, _STORE_FOLDER = "database", "database-store"
_NODE = "node"
"""The common name by which database nodes know each other."""

_STORE_CLIENT = "cockroachdb"
_CLUSTER_DOMAIN = "svc.cluster.local"
_BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
_CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)


def create(folder: Path, topology: LabTopology) -> dict[str, list[KubeObject]]:
    """Draw them anew, files below that folder with mode 0600; the Secrets that they come to, by region.

    Args:
        folder: the lab's pki folder.
        topology: a lab with a database.
    """
    plan = topology.plan.database or DatabasePlan()
    secrets = _database(folder / _FOLDER, topology, plan)
    if topology.engine == POSTGRESQL:
        for region, those in _store(folder / _STORE_FOLDER, topology, plan).items():
            secrets[region] += those
    return secrets


def database_access(folder: Path) -> DatabaseAccess:
    """How root logs in, with what `create` left in the lab's pki folder."""
    home = folder / _FOLDER
    return DatabaseAccess(
        user=SUPERUSER,
        authority=str(home / "ca.pem"),
        certificate=str(home / f"{SUPERUSER}.pem"),
        key=str(home / f"{SUPERUSER}-key.pem"),
    )


def node_names(plan: DatabasePlan, region: str) -> tuple[str, ...]:
    """The DNS names of a region's node certificate; with 127.0.0.1 they are the eight that guides give it."""
    namespace = plan.namespace(region)
    return (
        "localhost",
        plan.public_service,
        f"{plan.public_service}.{namespace}",
        f"{plan.public_service}.{namespace}.{_CLUSTER_DOMAIN}",
        *_pods_of(plan.service, namespace),
    )


def _database(home: Path, topology: LabTopology, plan: DatabasePlan) -> dict[str, list[KubeObject]]:
    authority = _authority("meshproof-lab-database", home)
    # Off the clusters, as guides have it ("my-safe-directory"): faults sign certificates with it.
    authority.write_key()
    root = authority.issue(SUPERUSER, usages=_CLIENT)
    secrets = {}
    for region in topology.regions:
        names = node_names(plan, region.name)
        node = authority.issue(
            _NODE, usages=_BOTH, names=names, addresses=[LOOPBACK], folder=_folder(home / region.name)
        )
        namespace = plan.namespace(region.name)
        secrets[region.name] = [
            _secret(namespace, plan.node_secret, authority, "node", node),
            _secret(namespace, plan.client_secret, authority, f"client.{SUPERUSER}", root),
        ]
    return secrets


def _store(home: Path, topology: LabTopology, plan: DatabasePlan) -> dict[str, list[KubeObject]]:
    authority = _authority("meshproof-lab-database-store", home)
    client = authority.issue(_STORE_CLIENT, usages=_CLIENT)
    secrets = {}
    for region in topology.regions:
        namespace = plan.namespace(region.name)
        names = ("localhost", STORE, *_pods_of(STORE, namespace))
        node = authority.issue(
            STORE, usages=_BOTH, names=names, addresses=[LOOPBACK], folder=_folder(home / region.name)
        )
        secrets[region.name] = [
            _secret(namespace, STORE_NODE_SECRET, authority, "node", node),
            _secret(namespace, STORE_CLIENT_SECRET, authority, "client", client),
        ]
    return secrets


def _pods_of(service: str, namespace: str) -> tuple[str, ...]:
    return tuple(f"*.{service}{rest}" for rest in ("", f".{namespace}", f".{namespace}.{_CLUSTER_DOMAIN}"))


def _authority(name: str, home: Path) -> Authority:
    return Authority(name, _folder(home))


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _secret(namespace: str, name: str, authority: Authority, entry: str, pair: KeyPair) -> KubeObject:
    """A Secret with the authority's certificate, and a certificate and its key, as files that the database expects."""
    files: Mapping[str, Path] = {
        "ca.crt": authority.certificate_file,
        f"{entry}.crt": pair.certificate,
        f"{entry}.key": pair.key,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "cockroachdb"}},
        "type": "Opaque",
        "data": {file: b64encode(path.read_bytes()).decode() for file, path in files.items()},
    }
