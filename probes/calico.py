"""Where Calico keeps its things in a cluster: the API group that is served, and the calico-node pods."""

from __future__ import annotations

from probes.cluster import Cluster, KubeObject
from probes.errors import ApiError
from probes.permissions import CALICO_GROUPS, CALICO_NAMESPACES

STORED_GROUP, SERVED_GROUP = CALICO_GROUPS
VERSIONS = {STORED_GROUP: "v1", SERVED_GROUP: "v3"}
CALICO_NODE_SELECTOR = "k8s-app=calico-node"
CONTAINER = "calico-node"


def calico_group(cluster: Cluster) -> str:
    """The API group to read: `projectcalico.org` where it is served, else the one that objects are stored in."""
    served = {group["name"] for group in cluster.get("/apis").get("groups") or []}
    return SERVED_GROUP if SERVED_GROUP in served else STORED_GROUP


def calico_objects(cluster: Cluster, group: str, plural: str) -> list[KubeObject]:
    """All objects of a kind; from the stored ones where the server of the other group is registered but down.

    Raises:
        ApiError: neither can be listed.
    """
    try:
        return cluster.items(f"/apis/{group}/{VERSIONS[group]}/{plural}")
    except ApiError as error:
        if group == SERVED_GROUP and (error.status == 404 or error.status >= 500):
            return cluster.items(f"/apis/{STORED_GROUP}/{VERSIONS[STORED_GROUP]}/{plural}")
        raise


def calico_node_pods(cluster: Cluster) -> list[KubeObject]:
    """The calico-node pods that run. Raises ApiError."""
    pods = cluster.items("/api/v1/pods", labelSelector=CALICO_NODE_SELECTOR)
    return [
        pod
        for pod in pods
        if pod["metadata"]["namespace"] in CALICO_NAMESPACES
        and pod.get("status", {}).get("phase") == "Running"
        and not pod["metadata"].get("deletionTimestamp")
    ]


def calico_namespace(cluster: Cluster) -> str | None:
    """The namespace that calico-node runs in; None when it does not run. Raises ApiError."""
    namespaces = {pod["metadata"]["namespace"] for pod in calico_node_pods(cluster)}
    return next((namespace for namespace in CALICO_NAMESPACES if namespace in namespaces), None)
