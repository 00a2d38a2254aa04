"""Cluster Mesh: what agents know of other clusters, how they were told to reach their stores, and who gets in there.

Every agent is asked once for all it knows. One of each region then uses the stores of the others as it is meant to, and
as it must not; a probe in each region knocks at their doors as a stranger (`probes.observers.cilium.stores`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from analysis.cilium import (
    IDENTITY_BITS,
    AgentStatus,
    ListedIdentity,
    ListedNode,
    ListedService,
    ProbedNode,
    parse_health,
    parse_identities,
    parse_nodes,
    parse_services,
    parse_status,
)
from analysis.expectation import mesh_name
from analysis.facts import Federation, Gap, GlobalService, KnownIdentity, KnownNode, NodeHealth, RemoteCluster
from analysis.plan import Plan
from analysis.prefixes import PrefixTable
from probes.cilium import AgentPod, Answer, all_agents, ask_agent, ask_agents
from probes.cluster import Cluster, KubeObject
from probes.deploy import ProbeSet
from probes.errors import ProbeError
from probes.mesh import Mesh
from probes.observers.cilium.settings import READ_SETTINGS, StoreSetting, read_settings
from probes.observers.cilium.stores import observe_stores

T = TypeVar("T")

QUESTIONS = {
    "status": '"$cilium" status -o json',
    "nodes": '"$cilium" node list -o json',
    "identities": '"$cilium" identity list -o json',
    "health": "cilium-health status -o json",
    "settings": READ_SETTINGS,
}
SERVICES = {"services": '"$cilium" service list -o json'}
GLOBAL_ANNOTATIONS = ("service.cilium.io/global", "io.cilium/global-service")
SHARED_ANNOTATIONS = ("service.cilium.io/shared", "io.cilium/shared-service")
"""Their names of today, and those up to 1.12."""


@dataclass
class _Seen:
    """What the agents have said; what they have not is a gap."""

    remotes: list[RemoteCluster] = field(default_factory=list)
    settings: dict[StoreSetting, None] = field(default_factory=dict)
    nodes: list[KnownNode] = field(default_factory=list)
    identities: list[KnownIdentity] = field(default_factory=list)
    health: list[NodeHealth] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    bits: int = IDENTITY_BITS

    def read(
        self, agent: AgentPod, part: str, what: str, answer: Answer, parse: Callable[[str], tuple[T, ...]]
    ) -> tuple[T, ...]:
        """The parsed answer; nothing, and a gap in that part of the facts, when it cannot be had."""
        try:
            return answer.read(parse)
        except ProbeError as error:
            self.gaps.append(Gap(agent.region, f"node {agent.node}: {what}", str(error), (part,)))
            return ()


def observe_federation(mesh: Mesh, probe_set: ProbeSet) -> Federation:
    """Ask every agent, then try the stores."""
    plan, seen = mesh.fleet.plan, _Seen()
    agents, unasked = all_agents(mesh, "what agents know of other clusters")
    seen.gaps += unasked
    spokesmen: dict[str, AgentPod] = {}
    for agent, told in ask_agents(mesh, agents, QUESTIONS):
        if isinstance(told, ProbeError):
            seen.gaps.append(Gap(agent.region, f"node {agent.node}: what its agent knows", str(told)))
        else:
            spokesmen.setdefault(agent.region, agent)
            _take(seen, plan, agent, told)
    stores = observe_stores(mesh, probe_set, spokesmen, tuple(seen.settings), seen.bits)
    services, untold = _global_services(mesh, spokesmen, seen.nodes)
    return Federation(
        remotes=tuple(seen.remotes),
        settings=tuple(setting.fact for setting in seen.settings),
        certificates=stores.certificates,
        trials=stores.trials,
        knocks=stores.knocks,
        contents=stores.contents,
        nodes=tuple(seen.nodes),
        identities=tuple(seen.identities),
        health=tuple(seen.health),
        services=tuple(services),
        gaps=(*seen.gaps, *stores.gaps, *untold),
    )


def _take(seen: _Seen, plan: Plan, agent: AgentPod, told: Mapping[str, Answer]) -> None:
    """Add what one agent has said."""
    region, node = agent.region, agent.node
    status = seen.read(agent, "remotes", "connections", told["status"], lambda text: (parse_status(text),))
    seen.remotes += (remote for one in status for remote in remotes_of(region, node, one))
    nodes = seen.read(agent, "nodes", "known nodes", told["nodes"], parse_nodes)
    seen.nodes += (known_node(region, node, one) for one in nodes)
    identities = seen.read(agent, "identities", "known identities", told["identities"], parse_identities)
    seen.bits = next((one.identity_bits for one in status), seen.bits)
    seen.identities += known_identities(plan, region, node, identities, seen.bits)
    health = seen.read(agent, "health", "node health", told["health"], parse_health)
    seen.health += (node_health(region, node, one) for one in health)
    settings = seen.read(
        agent, "settings", "settings for other clusters", told["settings"], lambda text: read_settings(agent, text)
    )
    seen.settings |= dict.fromkeys(settings)


def remotes_of(region: str, node: str, status: AgentStatus) -> Iterable[RemoteCluster]:
    """An agent's connections to other clusters."""
    for remote in status.remotes:
        yield RemoteCluster(
            region=region,
            node=node,
            remote=remote.name,
            connected=remote.connected,
            ready=remote.ready,
            synced=remote.synced,
            nodes=remote.nodes,
            endpoints=remote.endpoints,
            identities=remote.identities,
            cluster_id=remote.cluster_id,
            failures=remote.failures,
            message=remote.status,
        )


def known_node(region: str, node: str, listed: ListedNode) -> KnownNode:
    """An entry of an agent's list of nodes."""
    return KnownNode(region, node, listed.cluster, listed.name, listed.address, listed.pod_cidrs)


def known_identities(
    plan: Plan, region: str, node: str, identities: Iterable[ListedIdentity], bits: int
) -> Iterable[KnownIdentity]:
    """An agent's identities by the cluster that they name; those that name none are Cilium's own.

    Args:
        plan: says which cluster has which id.
        region: the agent's.
        node: the agent's.
        identities: what it listed.
        bits: how many bits of an identity are its cluster's own.
    """
    ids = {mesh_name(one): int(one.cluster_id) for one in plan.regions if one.cluster_id}
    named = [(one.cluster, one.number >> bits) for one in identities if one.cluster is not None]
    foreign = Counter(cluster for cluster, number in named if cluster in ids and number != ids[cluster])
    for cluster, count in Counter(cluster for cluster, _ in named).items():
        yield KnownIdentity(region, node, cluster, count, foreign[cluster])


def node_health(region: str, node: str, probed: ProbedNode) -> NodeHealth:
    """What an agent's health probe found."""
    return NodeHealth(region, node, probed.cluster, probed.name, not probed.problem, probed.problem)


def _global_services(
    mesh: Mesh, spokesmen: Mapping[str, AgentPod], nodes: Iterable[KnownNode]
) -> tuple[list[GlobalService], list[Gap]]:
    """The services that are declared global, and their backends as one agent of the region has them."""
    blocks: defaultdict[str, list[KnownNode]] = defaultdict(list)
    for known in nodes:
        blocks[known.region].append(known)
    found: list[GlobalService] = []
    gaps: list[Gap] = []

    def look(cluster: Cluster) -> list[GlobalService]:
        declared = [one for one in cluster.items("/api/v1/services") if annotated(one, GLOBAL_ANNOTATIONS, "false")]
        if not declared or cluster.region not in spokesmen:
            return []
        told = ask_agent(cluster, spokesmen[cluster.region], SERVICES)["services"].read(parse_services)
        return list(global_services(cluster.region, declared, told, blocks[cluster.region]))

    for region, seen in mesh.each_region(look):
        if isinstance(seen, ProbeError):
            gaps.append(Gap(region, "global services", str(seen), ("services",)))
        else:
            found += seen
    return found, gaps


def annotated(found: KubeObject, names: Iterable[str], default: str) -> bool:
    """Whether one of these annotations says "true"; `default` where there is none."""
    annotations = found["metadata"].get("annotations") or {}
    return str(next((annotations[name] for name in names if name in annotations), default)) == "true"


def global_services(
    region: str, declared: Iterable[KubeObject], told: Iterable[ListedService], nodes: Iterable[KnownNode]
) -> Iterable[GlobalService]:
    """Declared services with the clusters of their backends, which the nodes' blocks tell."""
    clusters = PrefixTable((cidr, node.cluster) for node in nodes for cidr in node.pod_cidrs)
    backends: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    counted: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for service in told:
        key = service.namespace, service.name
        for address in service.backends:
            if str(address) not in backends[key]:  # once, though the service may have several ports
                backends[key].add(str(address))
                counted[key][next(iter(clusters.longest(address)), "")] += 1
    for one in declared:
        key = one["metadata"]["namespace"], one["metadata"]["name"]
        yield GlobalService(
            region, *key, tuple(sorted(counted[key].items())), annotated(one, SHARED_ANNOTATIONS, "true")
        )
