"""The database's pods, as those who knock at them or look into them need to know them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from analysis.plan import DatabasePlan
from probes.cluster import Cluster, KubeObject
from probes.deploy import ipv4_of


@dataclass(frozen=True)
class Member:
    """A database pod that is there.

    Attributes:
        name: the pod's.
        full_name: the one that it is to advertise.
        address: None as long as it has none.
        folders: where its containers see volumes other than claimed ones: that is where keys come from.
    """

    region: str
    namespace: str
    name: str
    full_name: str
    address: IPv4Address | None
    folders: tuple[str, ...]


def list_members(cluster: Cluster, plan: DatabasePlan) -> list[Member]:
    """The pods of the database's StatefulSet in a cluster, those left out that are ending. Raises ApiError."""
    namespace = plan.namespace(cluster.region)
    return [
        Member(
            cluster.region,
            namespace,
            pod["metadata"]["name"],
            plan.pod_name(cluster.region, pod["metadata"]["name"]),
            ipv4_of(pod),
            mounted_folders(pod, plan),
        )
        for pod in cluster.items(f"/api/v1/namespaces/{namespace}/pods")
        if is_member(pod, plan, cluster.region) and not pod["metadata"].get("deletionTimestamp")
    ]


def is_member(pod: KubeObject, database: DatabasePlan, region: str) -> bool:
    """Whether that is a pod of the database's StatefulSet."""
    metadata = pod["metadata"]
    ordinal = metadata["name"].removeprefix(f"{database.service}-")
    return bool(metadata["namespace"] == database.namespace(region) and ordinal.isdigit())


def mounted_folders(pod: KubeObject, plan: DatabasePlan) -> tuple[str, ...]:
    """Where keys can be in a pod: the planned folder, and whatever is mounted but the database's own volume."""
    claimed = {volume["name"] for volume in pod["spec"].get("volumes") or [] if "persistentVolumeClaim" in volume}
    mounts = (mount for container in pod["spec"]["containers"] for mount in container.get("volumeMounts") or [])
    folders = [plan.certificate_folder, *(mount["mountPath"] for mount in mounts if mount["name"] not in claimed)]
    return tuple(dict.fromkeys(folder.rstrip("/") for folder in folders))
