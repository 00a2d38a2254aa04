"""CockroachDB itself, where its program is given: the container of its published manifests.

Its image brings nothing but the program, at the place where the vendor's has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from analysis.plan import DatabasePlan
from provision.lab.host import cockroach_program
from provision.lab.kube.objects import KubeObject
from provision.lab.manifests import TOLERATE_ALL, pod

IMAGE_NAME = "cockroachdb/cockroach"
IMAGE = f"{IMAGE_NAME}:lab"

_PROGRAM = PurePosixPath("/cockroach/cockroach")
_CACHE, _SQL_MEMORY = "64MiB", "64MiB"
_CLIENT_CERTIFICATES = "/cockroach-certs"
_INITIALISED = "already been initialized"


def files() -> dict[str, Path]:
    """What the image has: the program."""
    program = cockroach_program()
    return {str(_PROGRAM): program} if program else {}


def command(plan: DatabasePlan, region: str, zone: str, regions: Sequence[str], data: str) -> list[str]:
    """What a node runs: joined with all nodes of all regions, and known by its stable name.

    Args:
        plan: the database's names, ports and size.
        region: the first tier of its locality.
        zone: the second one.
        regions: all of them.
        data: where its volume is mounted.
    """
    joined = ",".join(
        f"{plan.service}-{number}.{plan.service}.{plan.namespace(other)}.svc.cluster.local:{plan.sql_port}"
        for other in regions
        for number in range(plan.replicas)
    )
    start = (
        f"exec {_PROGRAM} start --logtostderr=WARNING --certs-dir={plan.certificate_folder} "
        f"--advertise-host=$(hostname -f) --listen-addr=:{plan.sql_port} --http-addr=0.0.0.0:{plan.console_port} "
        f"--join={joined} --locality=region={region},zone={zone} "
        f"--cache={_CACHE} --max-sql-memory={_SQL_MEMORY} --store=path={data}"
    )
    return ["/bin/bash", "-ec", start]


def initialisation(plan: DatabasePlan, region: str) -> KubeObject:
    """The pod that makes one cluster of the nodes, once, and completes. It asks again while nobody answers.

    Args:
        plan: the database's names.
        region: whose first node is asked.
    """
    namespace = plan.namespace(region)
    host = f"{plan.service}-0.{plan.service}.{namespace}.svc.cluster.local:{plan.sql_port}"
    script = f"""\
until said=$({_PROGRAM} init --certs-dir={_CLIENT_CERTIFICATES} --host={host} 2>&1); do
    case $said in *"{_INITIALISED}"*) exit 0 ;; esac
    sleep 0.5
done
"""
    container: dict[str, Any] = {
        "name": "cluster-init",
        "image": IMAGE,
        "command": ["/bin/bash", "-c", script],
        "volumeMounts": [{"name": "client-certs", "mountPath": _CLIENT_CERTIFICATES, "readOnly": True}],
    }
    spec = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "restartPolicy": "OnFailure",
        "tolerations": TOLERATE_ALL,
        "volumes": [{"name": "client-certs", "secret": {"secretName": plan.client_secret, "defaultMode": 0o400}}],
    }
    # To policy it is a client like any other.
    return pod(namespace, "cluster-init", {"app": "cockroachdb-client", "job": "cluster-init"}, spec)
