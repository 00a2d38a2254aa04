"""What every node does with a packet: its kernel's routes, and the tunnel map behind `cilium_host`.

The kernel has a route for every other node's block, and all lead to `cilium_host`; where packets really go is decided
by Cilium's maps. The facts say the latter: a block is forwarded to a node, by the tunnel device, if the maps say so,
and not at all if they do not, whatever the kernel's table says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from analysis.cilium import IpcacheEntry, ListedNode, parse_ipcache, parse_nodes, parse_tunnels
from analysis.facts import FibRoute, Forwarding, Gap
from analysis.plan import Encapsulation, Plan
from analysis.prefixes import PrefixTable
from probes.cilium import AgentPod, Answer, agent_on, all_agents, ask_agent, ask_agents
from probes.cluster import Cluster
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.observers.kernel import MAIN_TABLE, observe_kernels

PROTOCOL = "cilium"
HOST_DEVICE = "cilium_host"
TUNNEL_DEVICES = {Encapsulation.VXLAN: "cilium_vxlan", Encapsulation.GENEVE: "cilium_geneve"}
MAPS = {
    "nodes": '"$cilium" node list -o json',
    "tunnels": '"$cilium" bpf tunnel list -o json',
    "ipcache": '"$cilium" bpf ipcache list -o json',
}


def observe_forwarding(mesh: Mesh, probe_set: ProbeSet) -> Forwarding:
    """Read the main tables of the kernels through the probes on the hosts, and the maps in the cilium pods."""
    kernels = observe_kernels(mesh, probe_set, table=MAIN_TABLE)
    agents, gaps = all_agents(mesh, "tunnel maps")
    own: dict[tuple[str, str], list[FibRoute]] = {}
    for route in kernels.routes:
        own.setdefault((route.region, route.node), []).append(route)
    routes: list[FibRoute] = []
    for agent, told in ask_agents(mesh, agents, MAPS):
        try:
            if isinstance(told, ProbeError):
                raise told
            tunnels = read_tunnels(mesh.fleet.plan, told)
        except ProbeError as error:
            gaps.append(Gap(agent.region, f"node {agent.node}: tunnel map", str(error)))
        else:
            routes += forwarded(mesh.fleet.plan, agent, own.get((agent.region, agent.node), ()), tunnels)
    return replace(kernels, routes=tuple(routes), gaps=(*kernels.gaps, *gaps))


def tunnelled_prefixes(cluster: Cluster, observer: ProbePod, plan: Plan) -> set[IPv4Network]:
    """The prefixes that a probe's node sends on into tunnels. Raises ProbeError."""
    return set(read_tunnels(plan, ask_agent(cluster, agent_on(cluster, observer.node), MAPS)))


def read_tunnels(plan: Plan, told: Mapping[str, Answer]) -> dict[IPv4Network, IPv4Address]:
    """Where packets are sent to, encapsulated, by prefix.

    Up to 1.17 the tunnel map says that for blocks, later the ipcache does. What the ipcache says of single addresses
    goes first in the data path; it is kept where it differs from what is said of the block around.

    Raises:
        ExecFailed: an answer is not understood.
    """
    ipcache = [entry for entry in told["ipcache"].read(parse_ipcache) if entry.tunnel and not entry.cluster_id]
    found = {entry.prefix: entry.tunnel for entry in ipcache if entry.prefix.prefixlen < 32 and entry.tunnel}
    # From 1.18 on there is no such map and no such command.
    if not (told["tunnels"].exit_code and found):
        lengths = known_lengths(told["nodes"].read(parse_nodes))
        for first, endpoint in told["tunnels"].read(parse_tunnels).items():
            found[IPv4Network((first, lengths.get(first) or planned_length(plan, first)))] = endpoint
    return found | dict(deviating(ipcache, found))


def known_lengths(nodes: Iterable[ListedNode]) -> dict[IPv4Address, int]:
    """Prefix lengths of the nodes' blocks, by first address."""
    return {cidr.network_address: cidr.prefixlen for node in nodes for cidr in node.pod_cidrs}


def planned_length(plan: Plan, address: IPv4Address) -> int:
    """The length of a block that no node owns any more: that of its cluster's."""
    return next((region.block_size for region in plan.regions if address in region.pod_cidr), 32)


def deviating(
    ipcache: Iterable[IpcacheEntry], blocks: Mapping[IPv4Network, IPv4Address]
) -> Iterable[tuple[IPv4Network, IPv4Address]]:
    """Single addresses that are sent elsewhere than the block around them."""
    around = PrefixTable(blocks.items())
    for entry in ipcache:
        if entry.prefix.prefixlen == 32 and entry.tunnel:
            block = around.longest(entry.prefix)
            if block and entry.tunnel not in block:
                yield entry.prefix, entry.tunnel


def forwarded(
    plan: Plan, agent: AgentPod, kernel: Iterable[FibRoute], tunnels: Mapping[IPv4Network, IPv4Address]
) -> Iterable[FibRoute]:
    """The routes of a node as packets meet them: the maps' first, then the kernel's own.

    A kernel route that hands a foreign block to Cilium is not one of its own: the maps decide what becomes of it.
    """
    device = TUNNEL_DEVICES.get(plan.encapsulation, "cilium_vxlan")
    for prefix, endpoint in tunnels.items():
        yield FibRoute(
            region=agent.region,
            node=agent.node,
            prefix=prefix,
            kind="unicast",
            protocol=PROTOCOL,
            gateways=((endpoint, device),),
            tunnel_endpoints=(endpoint,),
        )
    yield from (route for route in kernel if not handed_over(route))


def handed_over(route: FibRoute) -> bool:
    """Whether the kernel gives this prefix to Cilium, and it is not the node's own block: that holds the router."""
    return any(
        device == HOST_DEVICE and gateway is not None and gateway not in route.prefix
        for gateway, device in route.gateways
    )
