"""When a node of a Calico lab is as planned: its kernel has every route, and its BIRD every session."""

from __future__ import annotations

import socket

from provision.lab.agents_config import host_tree
from provision.lab.readiness import NotReadyError, main_table
from provision.lab.topology import LabNode, LabTopology

_ANSWER_TIMEOUT_S = 0.5


def check_node(topology: LabTopology, node: LabNode) -> None:
    """The node's routes and its BGP sessions are there.

    Raises:
        NotReadyError: one is missing.
    """
    check_routes(topology, node)
    check_sessions(topology, node)


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
        sessions = [line for line in ask_bird(node, "show protocols") if " BGP " in line]
    except OSError as error:
        raise NotReadyError(f"BIRD on {node.name} does not answer: {error.strerror or error}") from None
    established = sum("Established" in line for line in sessions)
    if established != wanted:
        raise NotReadyError(f"{node.name} has {established} of {wanted} BGP sessions established")


def ask_bird(node: LabNode, command: str) -> list[str]:
    """Put a command to the node's BIRD over its control socket and return the lines of the answer.

    Raises:
        OSError: BIRD is not there, or does not answer in time.
    """
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(_ANSWER_TIMEOUT_S)
        control.connect(str(host_tree(node.name) / "var/run/calico/bird.ctl"))
        with control.makefile("rw") as stream:
            stream.readline()  # the greeting
            stream.write(f"{command}\n")
            stream.flush()
            lines = []
            # Lines start with a four-digit code; the last one of an answer has 0xxx, 8xxx or 9xxx and a space after it.
            for line in stream:
                if line[:1] in "089" and line[4:5] == " ":
                    break
                lines.append(line.rstrip("\n"))
            return lines
