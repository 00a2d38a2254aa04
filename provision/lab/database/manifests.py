"""The database's place in a cluster: the pods and Services of its published manifests.

They are in cockroachdb/cockroach, `cloud/kubernetes/multiregion`.

Where nobody has asked for the database, its pods do nothing but have names and addresses: they are what DNS, routes and
policy are checked with.
"""

from __future__ import annotations

from typing import Any

import yaml

from analysis.facts import COCKROACHDB
from analysis.plan import DatabasePlan
from provision.lab.database import cockroach, standin, store, surroundings
from provision.lab.database.certificates import STORE_CLIENT_SECRET
from provision.lab.database.patroni import configuration
from provision.lab.database.standin import UID
from provision.lab.kube.objects import KubeObject
from provision.lab.manifests import TOLERATE_ALL, Workload, config_map, stateful_set, volume_claim
from provision.lab.topology import LabNode, LabRegion, LabTopology

DATA_FOLDER = "/cockroach/cockroach-data"

_LABELS = {"app": "cockroachdb"}
_CERTIFICATES = "certs"
_GRACE_S = 60
_DATA_BYTES = 1 << 30
_PATIENCE = {"options": [{"name": "timeout", "value": "1"}, {"name": "attempts", "value": "2"}]}
"""How long a member asks for a name. A region that is gone does not answer for its names either, and the members that
are left ask for the lost one's before they choose among themselves."""


def objects(topology: LabTopology, region: LabRegion, plan: DatabasePlan, pause: str) -> list[KubeObject]:
    """The StatefulSet with its pods, one for each worker as long as there are as many, and the two Services.

    Where the database is to run, what its engine needs beside it comes along.

    Args:
        topology: says whether the database is to run, and which.
        region: whose cluster.
        plan: how many pods, in which namespace, and what each of them asks for.
        pause: the image that does nothing.
    """
    namespace = plan.namespace(region.name)
    workers = [node for node in region.nodes if not node.is_control_plane] or list(region.nodes)
    places = [workers[number % len(workers)] for number in range(plan.replicas)]
    spec, others = _pod_spec(topology, region, plan, pause), _others(topology, region, plan, workers)
    claims = [volume_claim("datadir", plan.storage or _DATA_BYTES)] if topology.database else []
    public = str(region.plan.service_cidr[plan.sql_port])
    policy = topology.plan.policy
    # Policy tells the regions' pods apart by it; nothing else selects by it.
    place = {policy.region_label: region.name} if policy and policy.region_label else {}
    workload = Workload(namespace, plan.service, spec, _LABELS, place)
    return [
        _service(plan, namespace, plan.service, {"clusterIP": "None", "publishNotReadyAddresses": True}),
        _service(plan, namespace, plan.public_service, {"clusterIP": public, "clusterIPs": [public]}),
        *others,
        *stateful_set(region, workload, plan.service, places, claims),
    ]


def _pod_spec(topology: LabTopology, region: LabRegion, plan: DatabasePlan, pause: str) -> dict[str, Any]:
    container = {"name": "cockroachdb", "image": pause, "ports": _container_ports(plan), "resources": _resources(plan)}
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "terminationGracePeriodSeconds": 1,
        "tolerations": TOLERATE_ALL,
    }
    if not topology.database:
        return spec
    container["volumeMounts"] = [
        {"name": _CERTIFICATES, "mountPath": plan.certificate_folder},
        {"name": "datadir", "mountPath": DATA_FOLDER},
    ]
    spec |= {
        "serviceAccountName": plan.service_account,
        "dnsConfig": _PATIENCE,
        "securityContext": {"runAsUser": UID, "runAsGroup": UID, "fsGroup": UID},
        "terminationGracePeriodSeconds": _GRACE_S,
        "volumes": [
            {"name": _CERTIFICATES, "secret": {"secretName": plan.node_secret, "defaultMode": 0o400}},
        ],
    }
    if topology.engine == COCKROACHDB:
        names = [other.name for other in topology.regions]
        container |= {
            "image": cockroach.IMAGE,
            "command": cockroach.command(plan, region.name, f"{region.name}a", names, DATA_FOLDER),
            "readinessProbe": _readiness("/health?ready=1"),
        }
    else:
        _run_stand_in(spec, container, plan)
    return spec


def _run_stand_in(spec: dict[str, Any], container: dict[str, Any], plan: DatabasePlan) -> None:
    container |= {
        "image": standin.member_image(),
        "env": [{"name": standin.CERTIFICATES_VARIABLE, "value": plan.certificate_folder}],
        "readinessProbe": _readiness("/readiness"),
    }
    container["volumeMounts"] += [
        {"name": "patroni", "mountPath": str(standin.CONFIGURATION.parent), "readOnly": True},
        {"name": "store-certs", "mountPath": str(standin.STORE_CERTIFICATES), "readOnly": True},
        {"name": "run", "mountPath": str(standin.RUN)},
    ]
    spec["securityContext"]["sysctls"] = [{"name": name, "value": value} for name, value in standin.SYSCTLS.items()]
    spec["volumes"] += [
        {"name": "patroni", "configMap": {"name": plan.service}},
        {"name": "store-certs", "secret": {"secretName": STORE_CLIENT_SECRET, "defaultMode": 0o400}},
        {"name": "run", "emptyDir": {"medium": "Memory"}},
    ]


def _others(topology: LabTopology, region: LabRegion, plan: DatabasePlan, workers: list[LabNode]) -> list[KubeObject]:
    """What an engine has beside the pods of the database."""
    if not topology.database:
        return []
    published = surroundings.objects(plan, region.name)
    if topology.engine == COCKROACHDB:
        first = region is topology.regions[0]
        return [*published, *([cockroach.initialisation(plan, region.name)] if first else [])]
    namespace = plan.namespace(region.name)
    member = configuration(
        plan,
        region.name,
        host=f"{plan.service}-0.{plan.service}.{namespace}.svc.cluster.local",
        store=f"{store.member_host(plan, region.name)}:{store.CLIENT_PORT}",
        folders=standin.folders(DATA_FOLDER),
        timers=topology.database_timers,
    )
    return [
        *published,
        config_map(namespace, plan.service, {standin.CONFIGURATION.name: yaml.safe_dump(member, sort_keys=False)}),
        *store.objects(topology, region, plan, workers[-1]),
    ]


def _readiness(path: str) -> dict[str, Any]:
    """As in the manifests, but asked at once and every second: nobody should wait for a lab."""
    return {"httpGet": {"path": path, "port": "http", "scheme": "HTTPS"}, "periodSeconds": 1, "failureThreshold": 2}


def _container_ports(plan: DatabasePlan) -> list[dict[str, Any]]:
    return [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in _ports(plan)]


def _ports(plan: DatabasePlan) -> tuple[tuple[str, int], ...]:
    return (("grpc", plan.sql_port), ("http", plan.console_port))


def _resources(plan: DatabasePlan) -> dict[str, Any]:
    requests = {
        name: quantity
        for name, quantity in (
            ("cpu", f"{plan.cpu}m" if plan.cpu else None),
            ("memory", str(plan.memory) if plan.memory else None),
        )
        if quantity
    }
    return {"requests": requests, "limits": requests} if requests else {}


def _service(plan: DatabasePlan, namespace: str, name: str, address: KubeObject) -> KubeObject:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(_LABELS)},
        "spec": {
            **address,
            "ports": [
                {"name": name, "port": port, "protocol": "TCP", "targetPort": name} for name, port in _ports(plan)
            ],
            "selector": dict(_LABELS),
            "type": "ClusterIP",
        },
    }
