"""The database's place in a cluster: the pods and Services of its published manifests (environment.md 3.8).

The pods do nothing but have names and addresses: they are what DNS, routes and policy are checked with.
"""

from __future__ import annotations

from analysis.plan import DatabasePlan
from provision.lab.kube.objects import KubeObject
from provision.lab.manifests import TOLERATE_ALL, Workload, stateful_set
from provision.lab.topology import LabRegion

_PORTS = (("grpc", 26257), ("http", 8080))
_LABELS = {"app": "cockroachdb"}


def objects(region: LabRegion, plan: DatabasePlan, image: str) -> list[KubeObject]:
    """The StatefulSet with its pods, one for each worker as long as there are as many, and the two Services.

    Args:
        region: whose cluster.
        plan: how many pods, in which namespace, and what each of them asks for.
        image: what its containers run.
    """
    namespace = plan.namespace(region.name)
    workers = [node for node in region.nodes if not node.is_control_plane] or list(region.nodes)
    requests = {
        name: quantity
        for name, quantity in (
            ("cpu", f"{plan.cpu}m" if plan.cpu else None),
            ("memory", str(plan.memory) if plan.memory else None),
        )
        if quantity
    }
    container = {
        "name": "cockroachdb",
        "image": image,
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in _PORTS],
        "resources": {"requests": requests, "limits": requests} if requests else {},
    }
    spec = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "terminationGracePeriodSeconds": 1,
        "tolerations": TOLERATE_ALL,
    }
    workload = Workload(namespace, plan.service, spec, _LABELS)
    places = [workers[number % len(workers)] for number in range(plan.replicas)]
    public = str(region.plan.service_cidr[_PORTS[0][1]])
    return [
        _service(namespace, plan.service, {"clusterIP": "None", "publishNotReadyAddresses": True}),
        _service(namespace, plan.public_service, {"clusterIP": public, "clusterIPs": [public]}),
        *stateful_set(region, workload, plan.service, places),
    ]


def _service(namespace: str, name: str, address: KubeObject) -> KubeObject:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(_LABELS)},
        "spec": {
            **address,
            "ports": [{"name": name, "port": port, "protocol": "TCP", "targetPort": name} for name, port in _PORTS],
            "selector": dict(_LABELS),
            "type": "ClusterIP",
        },
    }
