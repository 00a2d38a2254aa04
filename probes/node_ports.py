"""Ports of nodes that lead to a pod of ours: the way around policy that a Service of type NodePort opens.

Each such Service is for one pod and is owned by it, so that the cluster's garbage collector removes it with the pod,
after a crash as well: to create it is the only right that this takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from probes.cluster import Cluster, KubeObject
from probes.deploy import EXPIRES, OWNED, RUN, ProbePod

SELECTED = "meshproof/pod"
"""The label by which the Service knows its pod: nobody else wears it with that value."""

NodePorts = tuple[tuple[int, int], ...]
"""Ports of the pod, each with the port of every node that leads there."""


def open_node_ports(cluster: Cluster, pod: ProbePod, created: KubeObject, ports: Sequence[int]) -> NodePorts:
    """Have every node of the cluster send what comes to some port of its own on to that pod.

    Args:
        cluster: where the pod is.
        pod: wears the label `SELECTED`.
        created: the pod, as the API has it.
        ports: TCP ports of the pod.

    Raises:
        ApiError: the cluster does not let us.
    """
    metadata = created["metadata"]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "labels": {label: metadata["labels"][label] for label in (OWNED, RUN)},
            "annotations": {EXPIRES: metadata["annotations"][EXPIRES]},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": metadata["uid"]}],
        },
        "spec": {
            "type": "NodePort",
            "selector": {SELECTED: pod.name},
            "ports": [{"name": f"tcp-{port}", "protocol": "TCP", "port": port, "targetPort": port} for port in ports],
        },
    }
    opened = cluster.create(f"/api/v1/namespaces/{pod.namespace}/services", service)
    return tuple((int(port["port"]), int(port["nodePort"])) for port in opened["spec"]["ports"])
