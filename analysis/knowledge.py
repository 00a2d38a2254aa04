"""NET-ROUTE and MESH-CP, what agents know: nodes and identities of all clusters, and which nodes they reach."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from ipaddress import IPv4Network

from analysis.expectation import mesh_name, planned_nodes, regions_by_mesh_name
from analysis.facts import Addressing, Federation, Inventory, KnownNode, Node
from analysis.nearest import did_you_mean
from analysis.plan import Plan, RegionPlan
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import NodeKey, gap_findings, listed, name_nodes, node_gap, qualified, together

_MISNAMED = "a cluster bears another name than the plan gives it, or another cluster's"
_LEFT = "the node was removed, and the agent was not told"
_UNREAD = "the agent has not read it from its cluster's store, or the store does not have it"


def judge_known_nodes(plan: Plan, inventory: Inventory, addressing: Addressing, federation: Federation) -> Verdict:
    """NET-ROUTE-019: every agent knows every node of the other clusters: its name, cluster, address and blocks."""
    regions = regions_by_mesh_name(plan)
    present = {(node.region, node.name): node for node in inventory.nodes}
    blocks: defaultdict[NodeKey, set[IPv4Network]] = defaultdict(set)
    for block in addressing.blocks:
        if block.node is not None:
            blocks[block.region, block.node].add(block.cidr)
    lists = _lists(federation)
    deviations: list[tuple[NodeKey, tuple[str, str, str, str | None]]] = []
    examined = 0
    nodes = planned_nodes(plan, inventory)
    for agent in nodes:
        key = (agent.region, agent.name)
        entries = {
            (regions[entry.cluster].name, entry.name): entry for entry in lists.get(key, ()) if entry.cluster in regions
        }
        if key not in lists:
            continue
        for node in nodes:
            if node.region == agent.region:
                continue
            examined += 1
            where = qualified((node.region, node.name))
            entry = entries.get((node.region, node.name))
            if entry is None:
                deviations.append((key, (where, "to be known", "it is not in the agent's list", _UNREAD)))
                continue
            deviations += [(key, (where, *wrong)) for wrong in _wrong(entry, node, blocks[node.region, node.name])]
        for entry in lists[key]:
            name = f"{entry.cluster}/{entry.name}"
            if entry.cluster not in regions:
                hint = did_you_mean(entry.cluster, regions)
                deviations.append(
                    (key, (name, "nodes of the plan's clusters only", f"there is no such cluster{hint}", _MISNAMED))
                )
            elif (regions[entry.cluster].name, entry.name) not in present and not inventory.gaps:
                deviations.append(
                    (
                        key,
                        (
                            name,
                            "not to be known any more",
                            "it is in the list, and the cluster has no such node",
                            _LEFT,
                        ),
                    )
                )
    return conclude(
        expected="every agent knows every node of the other clusters, under its cluster's name, at its present address",
        examined=examined,
        what="entries for remote nodes",
        violations=[
            Finding(f"agents on {name_nodes(agents, inventory)}: node {where}", expected, observed, cause)
            for agents, things in together(deviations)
            for where, expected, observed, cause in things
        ],
        gaps=[
            *gap_findings([*inventory.gaps, *addressing.gaps]),
            *_silent_agents(nodes, set(lists), "the nodes that the agent knows", federation),
        ],
        remedy="compare `cilium-dbg node list` on that node with the CiliumNode objects of the other cluster",
    )


def judge_tunnel_peers(plan: Plan, inventory: Inventory, federation: Federation) -> Verdict:
    """NET-ROUTE-015: the nodes that agents tunnel to and from lie in the other regions' node subnets, all of these."""
    regions = regions_by_mesh_name(plan)
    lists = _lists(federation)
    deviations: list[tuple[NodeKey, tuple[str, str, str]]] = []
    nodes = planned_nodes(plan, inventory)
    subnets = [region.node_cidr for region in plan.regions]
    examined = 0
    for agent in nodes:
        key = (agent.region, agent.name)
        if key not in lists:
            continue
        remote = [entry for entry in lists[key] if entry.address is not None and not _is_own(entry, agent, regions)]
        examined += len(remote)
        for other in plan.others(agent.region):
            if not any(entry.address in other.node_cidr for entry in remote):
                deviations.append(
                    (
                        key,
                        (
                            f"no node in {other.node_cidr}, the nodes of {other.name}",
                            "peers in the node subnets of all other regions",
                            "packets from that region are not taken for packets of its pods",
                        ),
                    )
                )
        deviations += [
            (
                key,
                (
                    f"{entry.address} ({entry.cluster}/{entry.name})",
                    "peers in the node subnets of the plan only",
                    "a host outside the mesh is taken for a part of it",
                ),
            )
            for entry in remote
            if not any(entry.address in subnet for subnet in subnets)
        ]
    return conclude(
        expected="agents tunnel to nodes in the node subnets of the other regions, in all of them and in no other",
        examined=examined,
        what="remote tunnel peers of agents",
        violations=[
            Finding(f"agents on {name_nodes(agents, inventory)}", expected, observed, cause)
            for agents, things in together(deviations)
            for observed, expected, cause in things
        ],
        gaps=[
            *gap_findings(inventory.gaps),
            *_silent_agents(nodes, set(lists), "the nodes that the agent knows", federation),
        ],
    )


def judge_known_identities(plan: Plan, inventory: Inventory, federation: Federation) -> Verdict:
    """NET-ROUTE-020: identities of every cluster are known under its name, with numbers of its own range."""
    names = regions_by_mesh_name(plan)
    known: defaultdict[NodeKey, dict[str, int]] = defaultdict(dict)
    deviations: list[tuple[NodeKey, tuple[str, str, str, str | None]]] = []
    for item in federation.identities:
        key = (item.region, item.node)
        known[key][item.cluster] = item.identities
        if item.cluster not in names:
            hint = did_you_mean(item.cluster, names)
            deviations.append(
                (key, (item.cluster, "no such cluster", f"{item.identities} identities{hint}", _MISNAMED))
            )
        elif item.foreign_numbers:
            deviations.append(
                (
                    key,
                    (
                        item.cluster,
                        "numbers of the range that belongs to its cluster id",
                        f"{item.foreign_numbers} of {item.identities} lie outside",
                        "the cluster's id was changed, or another cluster uses its name",
                    ),
                )
            )
    nodes = planned_nodes(plan, inventory)
    examined = 0
    for node in nodes:
        key = (node.region, node.name)
        if key not in known:
            continue
        for name in names:
            examined += 1
            if not known[key].get(name):
                wrong = (name, "identities of its pods", "none is known", "its store was not read, or holds none")
                deviations.append((key, wrong))
    return conclude(
        expected=f"every agent knows identities of the clusters {listed(names, limit=8)}",
        examined=examined,
        what="clusters known to agents by their identities",
        violations=[
            Finding(f"agents on {name_nodes(agents, inventory)}: {cluster}", expected, observed, cause)
            for agents, things in together(deviations)
            for cluster, expected, observed, cause in things
        ],
        gaps=[
            *gap_findings(inventory.gaps),
            *_silent_agents(nodes, set(known), "the identities that the agent knows", federation),
        ],
    )


def judge_node_health(plan: Plan, inventory: Inventory, federation: Federation) -> Verdict:
    """MESH-CP-015: every agent's own health probe reaches every node of the mesh."""
    told: defaultdict[NodeKey, dict[tuple[str, str], tuple[bool, str]]] = defaultdict(dict)
    for item in federation.health:
        told[item.region, item.node][item.cluster, item.name] = (item.reachable, item.detail)
    names = {region.name: mesh_name(region) for region in plan.regions}
    nodes = planned_nodes(plan, inventory)
    deviations: list[tuple[NodeKey, tuple[str, str]]] = []
    details: dict[tuple[str, str], str] = {}
    examined = 0
    for agent in nodes:
        key = (agent.region, agent.name)
        for node in nodes if key in told else ():
            if node is agent:
                continue
            examined += 1
            reachable, detail = told[key].get((names[node.region], node.name), (None, ""))
            if not reachable:
                thing = (
                    qualified((node.region, node.name)),
                    "it does not probe this node" if reachable is None else "not reachable",
                )
                deviations.append((key, thing))
                details.setdefault(thing, detail)
    return conclude(
        expected=f"the health probe of every agent reaches all {len(nodes)} nodes of the mesh",
        examined=examined,
        what="health probes between nodes",
        violations=[
            Finding(
                f"{name_nodes(agents, inventory)} -> {where}",
                "reachable by the agent's own health probe",
                problem + (f": {details[where, problem]}" if details[where, problem] else ""),
                "the node is down, or the tunnel or TCP 4240 to it is blocked"
                if problem == "not reachable"
                else "the agent does not know the node: see NET-ROUTE-019",
            )
            for agents, things in together(deviations)
            for where, problem in things
        ],
        gaps=[
            *gap_findings(inventory.gaps),
            *_silent_agents(nodes, set(told), "the agent's view of node health", federation),
        ],
        remedy="kubectl -n kube-system exec POD -c cilium-agent -- cilium-health status --probe",
    )


def _wrong(entry: KnownNode, node: Node, blocks: set[IPv4Network]) -> list[tuple[str, str, str | None]]:
    """What an agent has wrong about a node that it knows."""
    found: list[tuple[str, str, str | None]] = []
    if entry.address != node.internal_ip:
        cause = "the node was replaced or renumbered, and the agent was not told"
        found.append((f"at {node.internal_ip}", f"at {entry.address or 'no address'}", cause))
    missing = sorted(blocks - set(entry.pod_cidrs))
    if missing:
        observed = f"known with {listed(entry.pod_cidrs) or 'no block'}"
        found.append((f"with its pods' block {listed(missing)}", observed, "packets for its pods go elsewhere"))
    return found


def _lists(federation: Federation) -> dict[NodeKey, list[KnownNode]]:
    lists: defaultdict[NodeKey, list[KnownNode]] = defaultdict(list)
    for entry in federation.nodes:
        lists[entry.region, entry.node].append(entry)
    return dict(lists)


def _is_own(entry: KnownNode, agent: Node, regions: Mapping[str, RegionPlan]) -> bool:
    return entry.cluster in regions and regions[entry.cluster].name == agent.region


def _silent_agents(nodes: list[Node], told: set[NodeKey], what: str, federation: Federation) -> list[Finding]:
    return [node_gap(node, what, federation.gaps) for node in nodes if (node.region, node.name) not in told]
