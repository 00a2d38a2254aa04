"""What a cluster's policy engine knows of the pods of the other clusters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError

from analysis.cilium import AgentStatus, IpcacheEntry, parse_ipcache, parse_status
from analysis.expectation import mesh_name
from analysis.facts import Gap, Policies, RemoteKnowledge
from analysis.plan import DATABASE, Plan, PolicyPlan, RegionPlan
from probes.calico import calico_group, calico_objects
from probes.cilium import AgentPod, agents_of, ask_agent
from probes.cluster import Cluster, KubeObject
from probes.errors import ApiError, ProbeError
from probes.observers.calico.federation import NO_TYPHA, meant_cluster, remote_configurations, typha_words

QUESTIONS = {"ipcache": '"$cilium" bpf ipcache list -o json', "status": '"$cilium" status -o json'}


def read_federation(cluster: Cluster, plan: Plan) -> Iterator[RemoteKnowledge]:
    """Calico's federation: Typha says of each remote cluster whether it knows all of it. Raises ApiError."""
    names = [item["metadata"]["name"] for item in remote_configurations(cluster, calico_group(cluster))]
    words = typha_words(cluster) if names else {}
    for name in names:
        told = words.get(name) if words is not None else NO_TYPHA
        yield RemoteKnowledge(
            cluster.region,
            "",
            meant_cluster(name, plan),
            "federation",
            None if told is None else told.synced,
            detail="Typha's log no longer says anything about it" if told is None else told.message,
        )


def read_network_sets(cluster: Cluster, plan: Plan) -> Iterator[RemoteKnowledge]:
    """Calico's network sets that pass for database pods, by the region that their addresses are of. Raises ApiError."""
    try:
        sets = calico_objects(cluster, calico_group(cluster), "globalnetworksets")
    except ApiError as error:
        if error.status != 404:
            raise
        sets = []
    for item in sets:
        if plan.policy is None or not _passes_for_database(item, plan.policy):
            continue
        networks = list(_networks((item.get("spec") or {}).get("nets") or ()))
        for region in plan.others(cluster.region):
            own = tuple(network for network in networks if network.subnet_of(region.pod_cidr))
            if own:
                name = f"GlobalNetworkSet {item['metadata']['name']}"
                yield RemoteKnowledge(cluster.region, "", region.name, "network-set", None, own, name)


def _passes_for_database(item: KubeObject, policy: PolicyPlan) -> bool:
    role = next((role for role in policy.roles if role.name == DATABASE), None)
    return role is not None and (item["metadata"].get("labels") or {}).get(role.key) == role.value


def _networks(texts: Iterable[str]) -> Iterator[IPv4Network]:
    for text in texts:
        try:
            yield IPv4Network(text, strict=False)
        except (AddressValueError, NetmaskValueError, ValueError):
            continue  # of IPv6, or no network at all: the lint of objects is about that


def read_identities(cluster: Cluster, plan: Plan) -> Policies:
    """What each of Cilium's agents knows: addresses with an identity, and whether the other store was read whole.

    Raises ProbeError: the agents cannot be found.
    """
    knowledge: list[RemoteKnowledge] = []
    gaps: list[Gap] = []
    for agent in agents_of(cluster):
        try:
            answers = ask_agent(cluster, agent, QUESTIONS)
            entries, status = answers["ipcache"].read(parse_ipcache), answers["status"].read(parse_status)
        except ProbeError as error:
            gaps.append(Gap(cluster.region, f"node {agent.node}: pods of other clusters", str(error), ("knowledge",)))
            continue
        knowledge += (_known_to(agent, region, entries, status) for region in plan.others(cluster.region))
    return Policies((), (), knowledge=tuple(knowledge), gaps=tuple(gaps))


def _known_to(
    agent: AgentPod, region: RegionPlan, entries: Iterable[IpcacheEntry], status: AgentStatus
) -> RemoteKnowledge:
    networks = tuple(entry.prefix for entry in entries if _is_pod(entry, region))
    remote = next((remote for remote in status.remotes if remote.name == mesh_name(region)), None)
    ready = remote is not None and remote.ready
    detail = "" if ready else f"the agent is not connected to {mesh_name(region)}"
    return RemoteKnowledge(agent.region, agent.node, region.name, "identity", ready, networks, detail)


def _is_pod(entry: IpcacheEntry, region: RegionPlan) -> bool:
    """Whether the entry is about a pod there, and not about the range of a node's pods."""
    return entry.prefix.prefixlen == entry.prefix.max_prefixlen and entry.prefix.subnet_of(region.pod_cidr)
