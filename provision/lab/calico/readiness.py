"""When a node of a Calico lab is as planned: kernel routes, BIRD sessions, and Typha that follows every cluster."""

from __future__ import annotations

from datetime import timedelta

from provision.lab.agents_config import host_tree
from provision.lab.calico import bird
from provision.lab.calico.control_plane import TYPHA_LOGS, remote_cluster_name, remote_name
from provision.lab.readiness import NotReadyError, main_table
from provision.lab.topology import LabNode, LabRegion, LabTopology, PolicyPeers

BIRD_SOCKET = "var/run/calico/bird.ctl"
_PATIENCE = timedelta(seconds=0.5)
_IN_SYNC = "in-sync"


def check_node(topology: LabTopology, node: LabNode) -> None:
    """The node's routes and its BGP sessions are there; of a control plane node, its cluster follows the others too.

    Raises:
        NotReadyError: one is missing.
    """
    check_routes(topology, node)
    check_sessions(topology, node)
    if node.is_control_plane and topology.policy_peers is PolicyPeers.FEDERATION:
        check_federation(topology, topology.region(node.region))


def check_routes(topology: LabTopology, node: LabNode) -> None:
    """The node's kernel forwards to every other node's block and to every other region's service range.

    Raises:
        NotReadyError: it lacks a route, or holds one that rejects.
    """
    held = main_table(node)
    wanted = [other.block for other in topology.nodes if other is not node]
    wanted += [region.plan.service_cidr for region in topology.regions if region.name != node.region]
    missing = [network for network in wanted if network not in held]
    if missing:
        raise NotReadyError(f"{node.name} has no route to {missing[0]} and {len(missing) - 1} others of {len(wanted)}")


def check_sessions(topology: LabTopology, node: LabNode) -> None:
    """Every BGP session that the node should have is established: clients to reflector, reflectors to each other.

    Raises:
        NotReadyError: one is not, or BIRD does not answer.
    """
    others = len(topology.region(node.region).nodes) - 1
    wanted = others + len(topology.regions) - 1 if node.is_reflector else 1
    try:
        reply = bird.query(host_tree(node.name) / BIRD_SOCKET, "show protocols", _PATIENCE)
    except bird.BirdError as error:
        raise NotReadyError(f"BIRD on {node.name} does not answer: {error}") from None
    sessions = [line for line in reply.lines if " BGP " in line]
    established = sum("Established" in line for line in sessions)
    if established != wanted:
        raise NotReadyError(f"{node.name} has {established} of {wanted} BGP sessions established")


def check_federation(topology: LabTopology, region: LabRegion) -> None:
    """Typha, wherever in the region it runs, follows the cluster of every other region.

    Raises:
        NotReadyError: it does not, or none has run yet.
    """
    logs = [log for node in region.nodes for log in (host_tree(node.name) / TYPHA_LOGS).glob("*.log")]
    words = max(logs, key=lambda log: log.stat().st_mtime).read_text() if logs else ""
    for other in topology.regions:
        name = remote_name(remote_cluster_name(other.name))
        told = [line for line in words.splitlines() if name in line]
        if other is not region and not (told and _IN_SYNC in told[-1]):
            raise NotReadyError(
                f"Typha of {region.name} does not follow {other.name}: {told[-1] if told else 'no word'}"
            )
