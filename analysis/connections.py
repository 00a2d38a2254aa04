"""NET-ROUTE and MESH-CP, connections between control planes: who reaches whose store, where, and how many serve it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from analysis.expectation import mesh_name, planned_nodes, regions_by_mesh_name
from analysis.facts import Components, Federation, Inventory, Node, ProbeOutcome, RemoteCluster, RemoteSetting, Service
from analysis.nearest import did_you_mean
from analysis.plan import Plan
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import (
    OUTCOME_WORDS,
    NodeKey,
    count,
    gap_findings,
    listed,
    name_nodes,
    node_gap,
    qualified,
    together,
    unseen_regions,
)

STORE = "clustermesh-apiserver"
"""Name of the Deployment that serves a cluster's store to the others, and of its Service."""

RECOMMENDED_SERVERS = 2

# What an agent's words mean to an engineer, most specific first; etcd's client and Go's network library speak here.
_CAUSES = (
    ("x509", "the store's certificate is not signed by the authority that the agent trusts, or is for another name"),
    ("certificate", "the store's certificate or the agent's own is not accepted: see MESH-CP-006 and MESH-CP-007"),
    ("authentication handshake", "the TLS handshake failed: see MESH-CP-006 and MESH-CP-007"),
    ("permission denied", "the user of the other clusters has lost its role in the store"),
    ("connection refused", "nothing listens there: the store's pod is gone, or the port is another one"),
    ("no such host", "no hostAliases entry gives the store's name an address"),
    ("i/o timeout", "packets to the store's port are dropped on the way"),
    ("deadline exceeded", "the store does not answer: its pod is gone, or packets are dropped on the way"),
    ("quorum check failed", "the store was lost after it had been connected: its pod is gone, or the way to it"),
    ("initial connection", "the store has never answered: address, port, certificate or its pod is at fault"),
)


def judge_store_redundancy(plan: Plan, components: Components) -> Verdict:
    """NET-ROUTE-004: clusters should have two servers of their store; a cluster with one gets a warning."""
    wanted = {item.region: item.wanted for item in components.components if item.name == STORE}
    seen = {item.region for item in components.components}
    known = [region.name for region in plan.regions if region.name in seen]
    return conclude(
        expected=f"every cluster has {RECOMMENDED_SERVERS} servers of its mesh store, and one at the least",
        examined=len(known),
        what="clusters",
        violations=[
            Finding(
                f"cluster {name}",
                f"a server of its store ({STORE})",
                "0 replicas are asked for" if name in wanted else "there is none",
                "the other clusters learn nothing more of this one",
            )
            for name in known
            if wanted.get(name, 0) == 0
        ],
        gaps=[
            *gap_findings(components.gaps),
            *unseen_regions(plan, known, f"its {STORE}"),
            *(
                Finding(f"cluster {name}", f"replicas of {STORE} to be observed", "their number is not told")
                for name in known
                if name in wanted and wanted[name] is None
            ),
        ],
        remedy=f"kubectl -n kube-system scale deployment/{STORE} --replicas={RECOMMENDED_SERVERS}",
        warnings=[
            f"{name} has one {STORE}: while it restarts, the other clusters learn nothing of this one"
            for name in known
            if wanted.get(name) == 1
        ],
    )


def judge_agents_at_home(plan: Plan, inventory: Inventory, components: Components) -> Verdict:
    """NET-ROUTE-005: every node's agent is well and in touch with its own cluster's control plane."""
    told = {
        (item.region, item.name.partition(" on ")[2]): item for item in components.components if " on " in item.name
    }
    nodes = planned_nodes(plan, inventory)
    known = [node for node in nodes if (node.region, node.name) in told]
    ill = [
        ((node.region, node.name), told[node.region, node.name].message or "it says that it is not well")
        for node in known
        if told[node.region, node.name].healthy is False
    ]
    return conclude(
        expected="the agent of every node is in touch with the control plane of its own cluster",
        examined=len(known),
        what="agents",
        violations=[
            Finding(
                f"agent on {name_nodes(where, inventory)}",
                "to be in touch with its own cluster's control plane",
                message,
                "an agent without its API server keeps what it knows and learns nothing new",
            )
            for where, messages in together(ill)
            for message in messages
        ],
        gaps=[
            *gap_findings(inventory.gaps),
            *(
                node_gap(node, "the agent's own status", components.gaps)
                for node in nodes
                if (node.region, node.name) not in told or told[node.region, node.name].healthy is None
            ),
        ],
        remedy="kubectl -n kube-system exec POD -c cilium-agent -- cilium-dbg status --verbose",
    )


def judge_agents_connected(plan: Plan, inventory: Inventory, federation: Federation) -> Verdict:
    """NET-ROUTE-006: every agent is connected to every other cluster, ready, and has taken in all that it holds."""
    view = _Agents(federation)
    deviations: list[tuple[NodeKey, tuple[str, str]]] = []
    words: dict[tuple[str, str], str] = {}
    unseen: list[Node] = []
    examined = 0
    for node in planned_nodes(plan, inventory):
        key = (node.region, node.name)
        if not view.knows(key):
            unseen.append(node)
            continue
        for remote in plan.others(node.region):
            examined += 1
            link = view.link(key, mesh_name(remote))
            problem = _problem(link)
            if problem:
                thing = (mesh_name(remote), problem)
                deviations.append((key, thing))
                words.setdefault(thing, link.message if link else "")
    return conclude(
        expected=f"every node's agent is ready for the {len(plan.regions) - 1} other clusters and in step with them",
        examined=examined,
        what="connections of agents to other clusters",
        violations=[
            Finding(
                f"{name_nodes(nodes, inventory)} -> {remote}",
                "connected, ready and in step",
                problem + (f": {words[remote, problem]}" if words[remote, problem] else ""),
                why_disconnected(words[remote, problem])
                or (
                    "the secret cilium-clustermesh was not read there, or has no entry for it"
                    if problem == _UNKNOWN
                    else None
                ),
            )
            for nodes, things in together(deviations)
            for remote, problem in things
        ],
        gaps=[
            *gap_findings(inventory.gaps),
            *(node_gap(node, "the agent's connections to other clusters", federation.gaps) for node in unseen),
        ],
        remedy="kubectl -n kube-system exec POD -c cilium-agent -- cilium-dbg troubleshoot clustermesh",
    )


def judge_store_addresses(plan: Plan, inventory: Inventory, federation: Federation) -> Verdict:
    """NET-ROUTE-007: settings name present addresses of the remote cluster's nodes, and the port that its store has.

    An address that is no node's may be a load balancer's: it is believed where a node has opened the port there.
    """
    owners = {node.internal_ip: node for node in inventory.nodes if node.internal_ip is not None}
    services = {service.region: service for service in inventory.services if service.name == STORE}
    listed_services = {service.region for service in inventory.services}
    opened = {(knock.address, knock.port) for knock in federation.knocks if knock.outcome is ProbeOutcome.OPEN}
    regions = regions_by_mesh_name(plan)
    violations: list[Finding] = []
    gaps = gap_findings(inventory.gaps) + gap_findings(federation.gaps, "settings", "knocks")
    settings = [setting for setting in federation.settings if setting.remote in regions]
    for setting in settings:
        remote = regions[setting.remote]
        if remote.name == setting.region:
            continue
        where = f"{setting.region}: settings for {setting.remote}"
        for address in setting.addresses:
            owner = owners.get(address)
            if owner is None and (address, setting.port) not in opened:
                violations.append(
                    Finding(
                        where,
                        f"addresses of nodes of {remote.name}",
                        f"{setting.host} stands for {address}, which belongs to no node",
                        "the node was replaced after the settings were made",
                    )
                )
            elif owner is not None and owner.region != remote.name:
                violations.append(
                    Finding(
                        where,
                        f"addresses of nodes of {remote.name}",
                        f"{setting.host} stands for {address}, node {qualified((owner.region, owner.name))}",
                        "agents ask the wrong cluster's store",
                    )
                )
        if not setting.addresses:
            violations.append(Finding(where, f"addresses of nodes of {remote.name}", f"{setting.host} has none"))
        service = services.get(remote.name)
        if service is None:
            if remote.name in listed_services:
                violations.append(Finding(f"cluster {remote.name}", f"a Service {STORE}", "there is none"))
        elif setting.port not in (ports := _ports(service)):
            violations.append(
                Finding(
                    where,
                    f"port {listed(ports) or 'of a Service that can be reached from outside'}",
                    f"port {setting.port}",
                    "the Service was made anew and has another NodePort",
                )
            )
    named = {setting.region for setting in settings}
    return conclude(
        expected="the settings for every other cluster name present addresses of its nodes and the port of its store",
        examined=len(settings),
        what="settings",
        violations=violations,
        gaps=gaps + unseen_regions(plan, named, "its settings for the other clusters"),
        remedy="set clustermesh.config.clusters[].ips and .port to those of the other cluster",
    )


def judge_clusters_connected(plan: Plan, federation: Federation) -> Verdict:
    """MESH-CP-002: every cluster is connected to every other, in both directions, with all of its connections."""
    links: defaultdict[tuple[str, str], list[RemoteCluster]] = defaultdict(list)
    for link in federation.remotes:
        links[link.region, link.remote].append(link)
    observed = _observed(federation)
    violations: list[Finding] = []
    examined = 0
    for region, remote in plan.ordered_pairs():
        if region.name not in observed:
            continue
        examined += 1
        present = links[region.name, mesh_name(remote)]
        lost = [link for link in present if not link.connected]
        subject = f"{region.name} -> {mesh_name(remote)}"
        if not present:
            violations.append(Finding(subject, "a connection", "it is not configured"))
        elif lost:
            words = next((link.message for link in lost if link.message), "")
            share = f"{len(lost)} of {count(len(present), 'connection')} are down" if len(present) > 1 else "it is down"
            violations.append(
                Finding(subject, "connected", share + (f": {words}" if words else ""), why_disconnected(words))
            )
    return conclude(
        expected="every cluster is connected to every other, both ways",
        examined=examined,
        what="directions between clusters",
        violations=violations,
        gaps=gap_findings(federation.gaps, "remotes")
        + unseen_regions(plan, observed, "its connections to the other clusters"),
        remedy="look at the store of the cluster that is not reached, then at its port on the way there",
    )


def judge_settings_complete(plan: Plan, federation: Federation) -> Verdict:
    """MESH-CP-008: every cluster has settings for exactly the other clusters, each with a place to connect to.

    An entry for the cluster itself is left out: tools write one.
    """
    settings: defaultdict[str, dict[str, RemoteSetting]] = defaultdict(dict)
    for setting in federation.settings:
        settings[setting.region][setting.remote] = setting
    observed = _observed(federation) | set(settings)
    violations: list[Finding] = []
    examined = 0
    for region in plan.regions:
        if region.name not in observed:
            continue
        wanted = {mesh_name(other) for other in plan.others(region.name)}
        present = settings[region.name]
        examined += len(wanted)
        violations += [
            Finding(f"cluster {region.name}", f"settings for {name}", "there are none")
            for name in sorted(wanted - present.keys())
        ]
        violations += [
            Finding(
                f"cluster {region.name}",
                "settings for the other clusters of the plan only",
                f"settings for {name}{did_you_mean(name, wanted)}",
                "the name is misspelt, or the cluster has left the mesh",
            )
            for name in sorted(present.keys() - wanted - {mesh_name(region)})
        ]
        violations += [
            Finding(f"cluster {region.name}: settings for {name}", "a place to connect to", "no endpoint is named")
            for name in sorted(wanted & present.keys())
            if not (present[name].host and present[name].port)
        ]
    return conclude(
        expected="every cluster has settings for each of the other clusters, and for no more",
        examined=examined,
        what="settings for other clusters",
        violations=violations,
        gaps=gap_findings(federation.gaps, "settings")
        + unseen_regions(plan, observed, "its settings for the other clusters"),
    )


def judge_endpoints_open(plan: Plan, inventory: Inventory, federation: Federation) -> Verdict:
    """MESH-CP-012: every node can open the store of every other cluster, at each address that it is configured with."""
    regions = regions_by_mesh_name(plan)
    knocks = [
        knock for knock in federation.knocks if knock.remote in regions and regions[knock.remote].name != knock.region
    ]
    tried = {(knock.region, knock.node, knock.remote) for knock in knocks}
    told = [knock for knock in knocks if knock.outcome is not ProbeOutcome.INCONCLUSIVE]
    closed = [
        ((knock.region, knock.node), (knock.remote, f"{knock.address}:{knock.port}", OUTCOME_WORDS[knock.outcome]))
        for knock in told
        if knock.outcome is not ProbeOutcome.OPEN
    ]
    gaps = gap_findings(inventory.gaps)
    gaps += [
        Finding(
            f"{qualified((knock.region, knock.node))} -> {knock.remote} ({knock.address}:{knock.port})",
            "a conclusive knock",
            knock.detail,
        )
        for knock in knocks
        if knock.outcome is ProbeOutcome.INCONCLUSIVE
    ]
    gaps += [
        node_gap(node, f"a knock at the store of {mesh_name(remote)}", federation.gaps)
        for node in planned_nodes(plan, inventory)
        for remote in plan.others(node.region)
        if (node.region, node.name, mesh_name(remote)) not in tried
    ]
    return conclude(
        expected="every node can open the mesh endpoint of every other cluster at its configured addresses",
        examined=len(told),
        what="knocks at mesh endpoints",
        violations=[
            Finding(
                f"{name_nodes(nodes, inventory)} -> {remote} ({where})",
                "an open port",
                word,
                "nothing serves the store there: its pod is gone, or the port is another one"
                if word == OUTCOME_WORDS[ProbeOutcome.REFUSED]
                else "a filter on the way drops it, or the node at that address is gone",
            )
            for nodes, things in together(closed)
            for remote, where, word in things
        ],
        gaps=gaps,
    )


def why_disconnected(message: str) -> str | None:
    """What an agent's words about a lost connection mean; None when they say nothing known."""
    return next((cause for needle, cause in _CAUSES if needle in message), None)


_UNKNOWN = "the agent does not know this cluster"


class _Agents:
    """What the agents of single nodes say of the other clusters."""

    def __init__(self, federation: Federation) -> None:
        self._links = {(link.region, link.node, link.remote): link for link in federation.remotes}
        self._answered = {(link.region, link.node) for link in federation.remotes}
        self._answered |= {(known.region, known.node) for known in federation.nodes}

    def knows(self, node: NodeKey) -> bool:
        """Whether that node's agent has answered at all, even if it knows no other cluster."""
        return node in self._answered

    def link(self, node: NodeKey, remote: str) -> RemoteCluster | None:
        """What it says of its connection to that cluster."""
        return self._links.get((*node, remote))


def _problem(link: RemoteCluster | None) -> str | None:
    if link is None:
        return _UNKNOWN
    if not link.connected:
        return "not connected"
    if not link.ready:
        return "connected, but not ready"
    return "connected, but not in step yet" if link.synced is False else None


def _observed(federation: Federation) -> set[str]:
    """Regions whose own view of the mesh was seen, though it may be empty.

    A cluster whose store was read, and of which nothing went unseen, has shown that it knows of no other.
    """
    told = {item.region for family in (federation.remotes, federation.settings, federation.nodes) for item in family}
    unsure = {
        gap.region for gap in federation.gaps if not gap.parts or {"remotes", "settings", "nodes"} & set(gap.parts)
    }
    read = {content.region for content in federation.contents} - unsure
    return told | read


def _ports(service: Service) -> Sequence[int]:
    """Where a Service answers from outside: on nodes, and on its load balancer."""
    return (*service.node_ports, *(service.ports if service.kind == "LoadBalancer" else ()))
