"""The stand-in's store: one etcd member in every region, in which Patroni's members agree on who is the primary."""

from __future__ import annotations

from analysis.plan import DatabasePlan
from provision.lab.database.certificates import STORE, STORE_NODE_SECRET
from provision.lab.database.standin import STORE_IMAGE, UID
from provision.lab.kube.objects import KubeObject
from provision.lab.manifests import TOLERATE_ALL, Workload, stateful_set, volume_claim
from provision.lab.topology import LabNode, LabRegion, LabTopology

CLIENT_PORT, PEER_PORT = 2379, 2380

_LABELS = {"app": STORE}
_PORTS = (("client", CLIENT_PORT), ("peer", PEER_PORT))
_CERTIFICATES, _DATA = "/etc/database-store", "/var/lib/database-store"
_DATA_BYTES = 64 << 20
_HEARTBEAT_MS, _ELECTION_MS = 150, 1500
"""Half as patient again as etcd is by default: a lab's machine is busy, and a lost leader is to be replaced soon."""


def member_host(plan: DatabasePlan, region: str) -> str:
    """The name by which everybody reaches a region's member."""
    return f"{STORE}-0.{STORE}.{plan.namespace(region)}.svc.cluster.local"


def objects(topology: LabTopology, region: LabRegion, plan: DatabasePlan, place: LabNode) -> list[KubeObject]:
    """The headless Service, the StatefulSet and its pod, on that node."""
    namespace = plan.namespace(region.name)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": STORE, "namespace": namespace, "labels": dict(_LABELS)},
        "spec": {
            "clusterIP": "None",
            # Members look for each other before any of them is ready.
            "publishNotReadyAddresses": True,
            "ports": [{"name": name, "port": port, "protocol": "TCP", "targetPort": name} for name, port in _PORTS],
            "selector": dict(_LABELS),
            "type": "ClusterIP",
        },
    }
    container = {
        "name": "etcd",
        "image": STORE_IMAGE,
        "args": _arguments(topology, region, plan),
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in _PORTS],
        "readinessProbe": {"tcpSocket": {"port": CLIENT_PORT}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "certificates", "mountPath": _CERTIFICATES, "readOnly": True},
            {"name": "datadir", "mountPath": _DATA},
        ],
    }
    spec = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "securityContext": {"runAsUser": UID, "runAsGroup": UID, "fsGroup": UID},
        "terminationGracePeriodSeconds": 5,
        "tolerations": TOLERATE_ALL,
        "volumes": [
            {"name": "certificates", "secret": {"secretName": STORE_NODE_SECRET, "defaultMode": 0o400}},
        ],
    }
    workload = Workload(namespace, STORE, spec, _LABELS)
    return [service, *stateful_set(region, workload, STORE, [place], [volume_claim("datadir", _DATA_BYTES)])]


def _arguments(topology: LabTopology, region: LabRegion, plan: DatabasePlan) -> list[str]:
    def url(port: int, of: LabRegion = region) -> str:
        return f"https://{member_host(plan, of.name)}:{port}"

    members = ",".join(f"{other.name}={url(PEER_PORT, other)}" for other in topology.regions)
    tls = [
        argument
        for prefix in ("", "peer-")
        for argument in (
            f"--{prefix}cert-file={_CERTIFICATES}/node.crt",
            f"--{prefix}key-file={_CERTIFICATES}/node.key",
            f"--{prefix}trusted-ca-file={_CERTIFICATES}/ca.crt",
            f"--{prefix}client-cert-auth",
        )
    ]
    return [
        f"--name={region.name}",
        f"--data-dir={_DATA}/etcd",
        f"--listen-client-urls=https://0.0.0.0:{CLIENT_PORT}",
        f"--advertise-client-urls={url(CLIENT_PORT)}",
        f"--listen-peer-urls=https://0.0.0.0:{PEER_PORT}",
        f"--initial-advertise-peer-urls={url(PEER_PORT)}",
        f"--initial-cluster={members}",
        "--initial-cluster-state=new",
        f"--heartbeat-interval={_HEARTBEAT_MS}",
        f"--election-timeout={_ELECTION_MS}",
        "--pre-vote",
        # etcd looks for the name of whoever calls by the address it calls from, and pods' addresses have no names.
        "--experimental-peer-skip-client-san-verification",
        # At "warn" it tells of every look at whether its port is open.
        "--log-level=error",
        *tls,
    ]
