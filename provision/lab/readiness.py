"""When a lab is as its plan says it starts: seen in kernels, daemons and answers, not in what was asked for.

Runs in the container, as a part of its start and later as `python -m provision.lab.readiness FOLDER [SECONDS]`. Every
look is cheap (a file in /proc, a line from a control socket), because the lab's start is busy enough without it.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from analysis.plan import DatabasePlan
from provision.lab import netns
from provision.lab.agents_config import AgentsConfig
from provision.lab.kube.reader import AdminReader, UnreadableError
from provision.lab.paths import LabFolder
from provision.lab.profiles import profile_of
from provision.lab.topology import EGRESS, LabNode, LabRegion, LabTopology, topology_from_spec

START_DEADLINE = timedelta(seconds=120)
"""Ten times what a large lab takes on a busy machine; one that is not up by then will not come."""

API_DEADLINE = timedelta(seconds=150)
"""Ten times what three of Kubernetes' own API servers take. The lab's own take one second."""

_LOOK_EVERY = timedelta(milliseconds=25)
_ANSWER_TIMEOUT_S = 0.5
_REJECT = 0x0200
_PROBE_LABEL = "meshproof/run"


class NotReadyError(Exception):
    """What is still missing, in one sentence."""


class Deadline:
    """The end of the time that several waits have together."""

    def __init__(self, within: timedelta) -> None:
        self._end = time.monotonic() + within.total_seconds()

    def wait_for(self, check: Callable[..., Any], *arguments: Any) -> None:
        """Repeat a check until it no longer raises; on the deadline its last word stands."""
        retrying = Retrying(
            retry=retry_if_exception_type((NotReadyError, UnreadableError)),
            stop=stop_after_delay(max(0.0, self._end - time.monotonic())),
            wait=wait_fixed(_LOOK_EVERY),
            reraise=True,
        )
        retrying(check, *arguments)


def await_api(folder: LabFolder, topology: LabTopology, within: timedelta = API_DEADLINE) -> None:
    """Return once the API server of every region says that it is ready.

    Raises:
        UnreadableError: one does not in time.
    """
    deadline = Deadline(within)
    clusters = _clusters(folder)
    for region in topology.regions:
        deadline.wait_for(clusters[region.name].get, "/readyz")


def await_mesh(folder: LabFolder, topology: LabTopology, within: timedelta = START_DEADLINE) -> None:
    """Return once the mesh on every node, pods, DNS and the way out of every region are as planned.

    Raises:
        NotReadyError: something is still missing at the end of that time.
        UnreadableError: an API server no longer answers.
    """
    deadline = Deadline(within)
    clusters = _clusters(folder)
    mesh = profile_of(topology).readiness
    plan = topology.plan.database or DatabasePlan()
    for node in topology.nodes:
        deadline.wait_for(mesh.check_node, topology, node)
    for region in topology.regions:
        # Whoever needs the database waits for it: most of a lab's users can begin before.
        apart = plan.namespace(region.name) if topology.database else ""
        deadline.wait_for(check_pods, clusters[region.name], apart)
        deadline.wait_for(check_workloads, clusters[region.name], apart)
        deadline.wait_for(check_dns, region)
        deadline.wait_for(check_egress, region)


def main_table(node: LabNode) -> frozenset[IPv4Network]:
    """The prefixes of the node's main routing table that lead somewhere."""
    with netns.inside(node.netns), open("/proc/thread-self/net/route") as table:  # noqa: PTH123 - a file of the kernel
        return frozenset(parse_routes(table.read()))


def parse_routes(table: str) -> Iterator[IPv4Network]:
    """The prefixes of /proc/net/route that lead somewhere: numbers in it are hexadecimal, in host byte order."""
    for line in table.splitlines()[1:]:
        _, destination, _, flags, _, _, _, mask, *_ = line.split()
        if not int(flags, 16) & _REJECT:
            yield IPv4Network((_host_order(destination), str(_host_order(mask))))


def check_pods(cluster: AdminReader, apart: str) -> None:
    """Every pod that the cluster was seeded with is ready. Probe pods are somebody else's to wait for.

    Args:
        cluster: whose pods.
        apart: a namespace whose pods are somebody else's to wait for; "" for none.

    Raises:
        NotReadyError: one is not.
    """
    for pod in cluster.items(f"/api/v1/pods?labelSelector=!{_PROBE_LABEL}"):
        if pod["metadata"]["namespace"] == apart:
            continue
        status = pod.get("status", {})
        conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
        if conditions.get("Ready") != "True":
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            raise NotReadyError(f"{cluster.region}: pod {name} is {status.get('phase', 'unknown')}, not ready")


def check_workloads(cluster: AdminReader, apart: str) -> None:
    """The cluster's own account of its workloads is up to date: whoever asks it sees all replicas ready.

    Args:
        cluster: whose workloads.
        apart: as in `check_pods`.

    Raises:
        NotReadyError: one has fewer ready than it should have.
    """
    for item in cluster.items("/apis/apps/v1/daemonsets"):
        status = item.get("status", {})
        _compare(cluster, item, status.get("desiredNumberScheduled", 0), status.get("numberReady", 0))
    for kind in ("deployments", "statefulsets"):
        for item in cluster.items(f"/apis/apps/v1/{kind}"):
            if item["metadata"]["namespace"] != apart:
                _compare(cluster, item, item["spec"]["replicas"], item.get("status", {}).get("readyReplicas", 0))


def _compare(cluster: AdminReader, workload: dict[str, Any], wanted: int, ready: int) -> None:
    if not 0 < wanted <= ready:
        name = f"{workload['metadata']['namespace']}/{workload['metadata']['name']}"
        raise NotReadyError(f"{cluster.region}: {name} has {ready} of {wanted} replicas ready")


def check_dns(region: LabRegion) -> None:
    """The cluster's DNS answers at its service address, asked from a node.

    Raises:
        NotReadyError: it does not answer, or not with success.
    """
    name = "kubernetes.default.svc.cluster.local"
    address = region.plan.dns_address
    with netns.open_socket(region.nodes[-1].netns, socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(_ANSWER_TIMEOUT_S)
        try:
            asker.connect((str(address), 53))
            asker.send(_dns_query(name))
            answer = asker.recv(512)
        except OSError as error:
            raise NotReadyError(f"{region.name}: DNS at {address} does not answer: {error}") from None
    code = answer[3] & 0x0F
    if code:
        raise NotReadyError(f"{region.name}: DNS at {address} answers {name} with code {code}")


def check_egress(region: LabRegion) -> None:
    """The host on the internet answers a node, and sees the node's public address.

    Raises:
        NotReadyError: it does not answer, or sees another.
    """
    node = region.nodes[-1]
    with netns.open_socket(node.netns, socket.AF_INET, socket.SOCK_STREAM) as asker:
        asker.settimeout(_ANSWER_TIMEOUT_S)
        try:
            asker.connect((str(EGRESS.address), EGRESS.port))
            seen = asker.recv(64).decode().strip()
        except OSError as error:
            raise NotReadyError(f"{EGRESS.address} does not answer {node.name}: {error}") from None
    if seen != str(node.public_address):
        raise NotReadyError(f"{EGRESS.address} sees {node.name} as {seen}, not {node.public_address}")


def _clusters(folder: LabFolder) -> dict[str, AdminReader]:
    config = AgentsConfig.from_json(json.loads(folder.agents.read_text()))
    return {access.region: AdminReader(access) for access in config.clusters}


def _host_order(digits: str) -> IPv4Address:
    return IPv4Address(struct.pack("=I", int(digits, 16)))


def _dns_query(name: str) -> bytes:
    """A question for the A records of a name (RFC 1035, 4.1)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, 1, 1)


def main(folder: LabFolder, within: timedelta = START_DEADLINE) -> int:
    """Wait until the lab in that folder is as at its start; on standard error what is missing when it is not."""
    try:
        await_mesh(folder, topology_from_spec(json.loads(folder.spec.read_text())), within)
    except (NotReadyError, UnreadableError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    # As a program this module is there twice, and the profiles raise the errors of the one that they import.
    from provision.lab import readiness

    sys.exit(readiness.main(LabFolder(Path(sys.argv[1])), *(timedelta(seconds=float(each)) for each in sys.argv[2:])))
