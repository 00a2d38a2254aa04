"""When a node of a Cilium lab is as planned: its kernel has every tunnel and every route."""

from __future__ import annotations

from provision.lab.cilium.datapath import tunnel_map
from provision.lab.kernel import KernelError
from provision.lab.readiness import NotReadyError, main_table
from provision.lab.topology import LabNode, LabTopology


def check_node(topology: LabTopology, node: LabNode) -> None:
    """The node's kernel leads to every other node's pods.

    Raises:
        NotReadyError: it lacks a tunnel or a route.
    """
    others = {other.block: other.address for other in topology.nodes if other is not node}
    routes = main_table(node)
    missing = [block for block in (*others, node.block) if block not in routes]
    if missing:
        raise NotReadyError(f"{node.name} has no route to {missing[0]} and {len(missing) - 1} others of {len(others)}")
    try:
        tunnels = {entry.prefix: entry.endpoint for entry in tunnel_map(node.netns)}
    except KernelError as error:
        raise NotReadyError(str(error)) from None
    lost = [block for block, address in others.items() if tunnels.get(block) != address]
    if lost:
        raise NotReadyError(f"{node.name} has no tunnel for {lost[0]} and {len(lost) - 1} others of {len(others)}")
