"""When a node of a Cilium lab is as planned: its kernel has tunnels and routes, its agent other clusters and policy."""

from __future__ import annotations

import json
import socket
from typing import Any

from analysis.plan import DATABASE
from provision.lab.agents_config import host_tree
from provision.lab.cilium.datapath import tunnel_map
from provision.lab.kernel import KernelError
from provision.lab.readiness import NotReadyError, main_table
from provision.lab.topology import LabNode, LabTopology

_ANSWER_TIMEOUT_S = 0.5
_SYNCED = ("nodes", "endpoints", "identities", "services")


def check_node(topology: LabTopology, node: LabNode) -> None:
    """The node's kernel leads to every other node's pods, and its agent follows every other cluster's store.

    Raises:
        NotReadyError: something is missing.
    """
    check_routes(topology, node)
    check_tunnels(topology, node)
    check_remote_clusters(topology, node)
    check_policy(topology, node)


def check_routes(topology: LabTopology, node: LabNode) -> None:
    """The main table leads the node's own pod CIDR, and every other node's, to Cilium.

    Raises:
        NotReadyError: it does not.
    """
    held, wanted = main_table(node), [other.block for other in topology.nodes]
    missing = [block for block in wanted if block not in held]
    if missing:
        raise NotReadyError(f"{node.name} has no route to {missing[0]} and {len(missing) - 1} others of {len(wanted)}")


def check_tunnels(topology: LabTopology, node: LabNode) -> None:
    """The tunnel map sends every other node's pod CIDR to its node.

    Raises:
        NotReadyError: it does not.
    """
    wanted = {other.block: other.address for other in topology.nodes if other is not node}
    try:
        held = {entry.prefix: entry.endpoint for entry in tunnel_map(node.netns)}
    except KernelError as error:
        raise NotReadyError(str(error)) from None
    lost = [block for block, address in wanted.items() if held.get(block) != address]
    if lost:
        raise NotReadyError(f"{node.name} has no tunnel for {lost[0]} and {len(lost) - 1} others of {len(wanted)}")


def check_remote_clusters(topology: LabTopology, node: LabNode) -> None:
    """The node's agent is connected to the store of every other cluster, and has all that it holds.

    Raises:
        NotReadyError: it is not, or does not answer.
    """
    status = _told(node, "status")
    known = {cluster["name"]: cluster for cluster in status.get("cluster-mesh", {}).get("clusters", ())}
    for region in topology.regions:
        if region.name != node.region:
            name = str(region.plan.cluster_name)
            if not _is_followed(known.get(name, {})):
                message = known.get(name, {}).get("status", "it is not configured")
                raise NotReadyError(f"the agent of {node.name} is not in step with cluster {name}: {message}")


def check_policy(topology: LabTopology, node: LabNode) -> None:
    """The node's agent enforces policy on the database's pods there, in both directions.

    Raises:
        NotReadyError: it does not, or does not answer.
    """
    intent = topology.plan.policy
    if intent is None:
        return
    wanted = {f"k8s:{key}={value}" for key, value in intent.labels(DATABASE, node.region).items()}
    for endpoint in _told(node, "endpoint", "list"):
        status = endpoint["status"]
        if wanted <= set(status["identity"]["labels"]) and status["policy"]["realized"]["policy-enabled"] != "both":
            pod = status["external-identifiers"]["k8s-pod-name"]
            raise NotReadyError(f"the agent of {node.name} does not enforce policy on {pod}")


def _told(node: LabNode, *words: str) -> Any:
    """What `cilium-dbg` says about something. Raises NotReadyError when the agent does not answer."""
    try:
        return json.loads(ask_agent(node, "cilium-dbg", *words, "-o", "json"))
    except (OSError, ValueError) as error:
        raise NotReadyError(f"the agent of {node.name} does not answer: {error}") from None


def ask_agent(node: LabNode, *argv: str) -> str:
    """Put a command to the node's agent over its socket and return what the command prints.

    Raises:
        OSError: the agent is not there, or does not answer in time.
        ValueError: it gives no answer.
    """
    with socket.socket(socket.AF_UNIX) as end:
        end.settimeout(_ANSWER_TIMEOUT_S)
        end.connect(str(host_tree(node.name) / "var/run/cilium/cilium.sock"))
        end.sendall(json.dumps({"argv": argv}).encode() + b"\n")
        with end.makefile("rb") as stream:
            return str(json.loads(stream.readline())["out"])


def _is_followed(cluster: dict[str, Any]) -> bool:
    synced = cluster.get("synced") or {}
    return bool(cluster.get("ready")) and all(synced.get(each) for each in _SYNCED)
