"""Doors: listeners that a probe pod opens for a while on any ports, and that remember who came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from probes.client import Operation, run_agent
from probes.cluster import Cluster
from probes.deploy import ProbePod
from probes.errors import ProbeError


def open_doors(
    cluster: Cluster,
    pod: ProbePod,
    name: str,
    ports: Mapping[str, Sequence[int]],
    *,
    life: timedelta,
    within: timedelta,
) -> tuple[tuple[str, int], ...]:
    """Open doors; those that are open, by protocol ("TCP") and port.

    Args:
        cluster: the pod's.
        pod: whose doors they are; they answer with its identity.
        name: what they are asked by for what they have seen.
        ports: to open, by protocol as the agent calls it ("tcp", "udp", "sctp").
        life: after so long they close by themselves.
        within: how long opening them may take.

    Raises:
        ProbeError: the agent could not be asked, or there is no listener for TCP although some were asked for.
    """
    operation: Operation = {
        "op": "doors",
        "name": f"{pod.name}-{name}",
        "identity": pod.identity,
        "address": str(pod.address),
        **{protocol: list(numbers) for protocol, numbers in ports.items()},
        "life": life.total_seconds(),
    }
    answer = run_agent(cluster, pod.namespace, pod.name, [operation], within=within).operations[0]
    if "error" in answer:
        raise ProbeError(f"{pod.identity}: {answer['error']}")
    if ports.get("tcp") and not answer["ports"]["tcp"]:
        raise ProbeError(f"{pod.identity}: no listener could be started: {next(iter(answer['failed'].values()), '')}")
    return tuple((protocol.upper(), port) for protocol in ports for port in answer["ports"][protocol])
