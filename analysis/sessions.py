"""NET-ROUTE, the control plane: identities, route reflectors and the BGP sessions between nodes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from analysis.expectation import ExpectedSession, internal_sessions, is_reflector, reflectors
from analysis.facts import Inventory, MeshConfiguration, Node, Peering, Routing, Session
from analysis.plan import Plan
from analysis.policy.selector import SelectorError, parse_selector
from analysis.verdict import Finding, Verdict, conclude, not_applicable
from analysis.words import count, gap_findings, listed, name_nodes, node_gap, qualified, together, unseen_regions

RECOMMENDED_REFLECTORS = 2

# What a daemon's last error means to an engineer, most specific first; in BIRD's words.
_CAUSES = (
    ("Bad peer AS", "the two ends disagree about an AS number"),
    ("Authentication failure", "the two ends have different passwords"),
    ("Bad BGP identifier", "two nodes use the same router id"),
    ("Connection refused", "nothing listens for BGP there: the peer's routing agent is down or has no such peering"),
    ("Connection rejected", "the peer has no peering for this node"),
    ("Peer de-configured", "the peering was removed at the other end"),
    ("Administrative shutdown", "the session was shut down by hand at the other end"),
    ("Maximum number of prefixes", "the peer sends more prefixes than its limit allows"),
    ("Hold timer expired", "the peer fell silent: its node is gone, or packets are lost on the way"),
    ("No route to host", "the underlay has no way to the peer, or the peer's node is gone"),
    ("Network is unreachable", "the underlay has no route to the peer's subnet"),
    ("timed out", "TCP 179 is blocked on the way, or the peer's node is gone"),
    ("Neighbor lost", "the underlay lost the way to the peer"),
)
_SILENT = {"Active", "Connect", "OpenSent", "OpenConfirm"}


def judge_full_mesh_off(plan: Plan, configuration: MeshConfiguration, routing: Routing) -> Verdict:
    """NET-ROUTE-002: with reflectors in use, no node peers with every other node."""
    identities = {identity.region: identity for identity in configuration.identities}
    meshed = Counter((session.region, session.node) for session in routing.sessions if session.name.startswith("Mesh_"))
    return conclude(
        expected="the node-to-node mesh is off in every cluster, and no node holds a session of it",
        examined=sum(identity.full_node_mesh is not None for identity in identities.values()),
        what="clusters",
        violations=[
            *(
                Finding(f"cluster {region}", "node-to-node mesh off", "nodeToNodeMeshEnabled is on, or was never set")
                for region, identity in identities.items()
                if identity.full_node_mesh
            ),
            *(
                Finding(
                    f"node {qualified(node)}",
                    "sessions with reflectors only",
                    count(number, "session") + " of the mesh",
                )
                for node, number in sorted(meshed.items())
            ),
        ],
        gaps=[
            *gap_findings(configuration.gaps),
            *_unknown_identities(plan, configuration),
            *(
                Finding(f"cluster {region}", "the mesh setting to be observed", "it is not known")
                for region, identity in identities.items()
                if identity.full_node_mesh is None
            ),
        ],
        remedy="set nodeToNodeMeshEnabled: false in BGPConfiguration/default once reflectors are in place",
    )


def judge_reflectors(plan: Plan, inventory: Inventory, configuration: MeshConfiguration) -> Verdict:
    """NET-ROUTE-003: every cluster has a labelled reflector, with a cluster id that no other cluster uses."""
    ids = {(override.region, override.node): override.reflector_cluster_id for override in configuration.node_overrides}
    violations: list[Finding] = []
    users: defaultdict[str, set[str]] = defaultdict(set)
    examined = 0
    for region in plan.regions:
        nodes = [node for node in inventory.nodes if node.region == region.name]
        chosen = [node for node in nodes if is_reflector(region, node)]
        if nodes and not chosen:
            wanted = region.route_reflector_selector or listed(region.route_reflector_nodes)
            violations.append(
                Finding(
                    f"cluster {region.name}",
                    f"a route reflector ({wanted})",
                    f"none of its {count(len(nodes), 'node')} is one",
                    "without a reflector the cluster exchanges no routes",
                )
            )
        for node in chosen:
            examined += 1
            cluster_id = ids.get((node.region, node.name))
            where = f"reflector {qualified((node.region, node.name))}"
            if cluster_id is None:
                violations.append(
                    Finding(where, "a reflector cluster id", "none", "without it the node does not reflect routes")
                )
                continue
            users[cluster_id].add(region.name)
            if region.cluster_id is not None and cluster_id != region.cluster_id:
                violations.append(Finding(where, f"cluster id {region.cluster_id}", f"cluster id {cluster_id}"))
    violations += [
        Finding(
            listed(sorted(clusters)),
            "reflector cluster ids of their own",
            f"share {cluster_id}",
            "a reflector drops routes that carry its own cluster id",
        )
        for cluster_id, clusters in sorted(users.items())
        if len(clusters) > 1
    ]
    return conclude(
        expected="every cluster has a labelled route reflector with a cluster id of its own",
        examined=examined,
        what="route reflectors",
        violations=violations,
        gaps=[*gap_findings([*inventory.gaps, *configuration.gaps]), *_unknown_nodes(plan, inventory)],
    )


def judge_reflector_redundancy(plan: Plan, inventory: Inventory) -> Verdict:
    """NET-ROUTE-004: clusters should have two reflectors; a plan that is content with one gets a warning."""
    numbers = {region.name: len(reflectors(plan, inventory, region.name)) for region in plan.regions}
    known = {node.region for node in inventory.nodes}
    planned = {region.name: max(1, len(region.route_reflector_nodes)) for region in plan.regions}
    return conclude(
        expected=f"every cluster has {RECOMMENDED_REFLECTORS} route reflectors, or the one that its plan asks for",
        examined=len(known & set(numbers)),
        what="clusters",
        violations=[
            Finding(f"cluster {region}", count(planned[region], "route reflector"), str(number))
            for region, number in numbers.items()
            if region in known and number < planned[region]
        ],
        gaps=gap_findings(inventory.gaps) + _unknown_nodes(plan, inventory),
        warnings=[
            f"{region} has one route reflector: when it fails, the cluster is cut off from the others"
            for region, number in numbers.items()
            if number == 1 and planned[region] < RECOMMENDED_REFLECTORS
        ],
    )


def judge_internal_sessions(
    plan: Plan, inventory: Inventory, configuration: MeshConfiguration, routing: Routing
) -> Verdict:
    """NET-ROUTE-005: every ordinary node holds an Established session with each reflector of its cluster.

    A session is looked at from both of its ends, where both were observed.
    """
    promise = "every ordinary node has an Established iBGP session with each reflector of its cluster"
    planned = {region.name: region for region in plan.regions}
    local = [node for node in inventory.nodes if node.region in planned]
    if {node.region for node in local} == set(planned) and all(is_reflector(planned[n.region], n) for n in local):
        return not_applicable(promise, "every node is a route reflector")
    view = _View(routing, configuration)
    expected = list(internal_sessions(plan, inventory))
    faults: list[_Fault] = []
    unseen: list[Node] = []
    for session in expected:
        back = ExpectedSession(session.peer, session.node, session.peer_as)
        ends = [end for end in (session, back) if view.knows(end.node)]
        if not ends:
            unseen.append(session.node)
        told = [fault for end in ends if (fault := view.fault(end))]
        # A broken session is one fault, told by the end that knows most about it.
        faults += sorted(told, key=lambda fault: fault.cause is None)[:1]
    return conclude(
        expected=promise,
        examined=len(expected),
        what="sessions",
        violations=_findings(faults, inventory),
        gaps=[
            *gap_findings(inventory.gaps),
            *(node_gap(node, "BGP sessions", routing.gaps) for node in dict.fromkeys(unseen)),
            *_without_reflector(plan, inventory),
        ],
        remedy="look at the peer's routing agent, then at TCP 179 between the two nodes",
    )


def judge_external_sessions(
    plan: Plan, inventory: Inventory, configuration: MeshConfiguration, routing: Routing
) -> Verdict:
    """NET-ROUTE-006: every reflector has an Established session with a reflector of each other cluster, right AS."""
    view = _View(routing, configuration)
    faults: list[_Fault] = []
    examined = 0
    unseen: list[Node] = []
    for region in plan.regions:
        for node in reflectors(plan, inventory, region.name):
            if not view.knows(node):
                unseen.append(node)
                continue
            for remote in plan.others(region.name):
                peers = reflectors(plan, inventory, remote.name)
                if not peers:
                    continue
                examined += 1
                told = [view.fault(ExpectedSession(node, peer, remote.as_number)) for peer in peers]
                if all(told):
                    faults += filter(None, told)
    return conclude(
        expected="every reflector has an Established eBGP session with each other cluster, under that cluster's AS: "
        + listed((f"{region.name} {region.as_number}" for region in plan.regions), limit=8),
        examined=examined,
        what="sessions",
        violations=_findings(faults, inventory),
        gaps=[
            *gap_findings(inventory.gaps),
            *(node_gap(node, "BGP sessions", routing.gaps) for node in unseen),
            *_without_reflector(plan, inventory),
        ],
        remedy="compare the BGPPeer objects of both clusters with the plan, then TCP 179 between the two reflectors",
    )


def judge_peer_addresses(plan: Plan, inventory: Inventory, configuration: MeshConfiguration) -> Verdict:
    """NET-ROUTE-007: peerings with other clusters name present addresses of their reflectors, one for each cluster."""
    owners = {node.internal_ip: node for node in inventory.nodes if node.internal_ip is not None}
    planned = {region.name: region for region in plan.regions}
    violations: list[Finding] = []
    named: defaultdict[str, set[str]] = defaultdict(set)
    examined = 0
    for peering in configuration.peerings:
        if peering.region not in planned or not _is_external(peering, planned[peering.region].as_number):
            continue
        examined += 1
        owner = owners.get(peering.peer_ip) if peering.peer_ip else None
        where = f"BGPPeer {peering.name} of {peering.region}"
        if owner is None:
            violations.append(
                Finding(
                    where,
                    "the address of a reflector of another cluster",
                    f"peerIP {peering.peer_ip or 'is empty'}, which belongs to no node",
                    "the reflector was replaced, or the address was never filled in",
                )
            )
        elif owner.region == peering.region or not is_reflector(planned[owner.region], owner):
            violations.append(
                Finding(
                    where,
                    "the address of a reflector of another cluster",
                    f"peerIP {peering.peer_ip} is node {qualified((owner.region, owner.name))}, no reflector there",
                )
            )
        else:
            named[peering.region].add(owner.region)
    known = {node.region for node in inventory.nodes} & {identity.region for identity in configuration.identities}
    violations += [
        Finding(f"cluster {region.name}", f"a peering with {other.name}", "no BGPPeer names a reflector of it")
        for region, other in plan.ordered_pairs()
        if region.name in known and other.name in known and other.name not in named[region.name]
    ]
    return conclude(
        expected="every BGPPeer towards another cluster names the present address of one of its reflectors",
        examined=examined,
        what="peerings",
        violations=violations,
        gaps=gap_findings([*inventory.gaps, *configuration.gaps]) + _unknown_identities(plan, configuration),
        remedy="set peerIP to the InternalIP of the remote reflector",
    )


def judge_sessions_complete(plan: Plan, inventory: Inventory, routing: Routing) -> Verdict:
    """MESH-CP-015: every session that any node knows is Established, and every node knows one."""
    planned = {region.name for region in plan.regions}
    sessions = [session for session in routing.sessions if session.region in planned]
    nodes = [node for node in inventory.nodes if node.region in planned]
    owners = {node.internal_ip: qualified((node.region, node.name)) for node in inventory.nodes if node.internal_ip}
    told = {(session.region, session.node) for session in sessions}
    down: defaultdict[tuple[str, str, str | None], list[tuple[str, str]]] = defaultdict(list)
    for session in sessions:
        if not session.established:
            address = session.peer_address
            peer = (owners.get(address) if address else None) or str(address or session.name)
            down[peer, _state(session), _why_down(session)].append((session.region, session.node))
    return conclude(
        expected="every BGP session that the nodes know is Established",
        examined=len(sessions),
        what="sessions",
        violations=[
            Finding(f"{name_nodes(where, inventory)} -> {peer}", "an Established session", state, cause)
            for (peer, state, cause), where in sorted(down.items(), key=lambda item: -len(item[1]))
        ],
        gaps=[
            *gap_findings(inventory.gaps),
            *(node_gap(node, "BGP sessions", routing.gaps) for node in nodes if (node.region, node.name) not in told),
        ],
        remedy="look at the peer's routing agent, then at TCP 179 between the two nodes",
    )


def judge_declared_peers(
    plan: Plan, inventory: Inventory, configuration: MeshConfiguration, routing: Routing
) -> Verdict:
    """MESH-CP-016: BGP is spoken with peers that are declared, and should be with a password."""
    nodes = {(node.region, node.name): node for node in inventory.nodes}
    owners = {node.internal_ip: node for node in inventory.nodes if node.internal_ip is not None}
    meshed = {identity.region for identity in configuration.identities if identity.full_node_mesh}
    planned = {region.name for region in plan.regions}
    sessions = [session for session in routing.sessions if session.region in planned]
    strangers = []
    for session in sessions:
        node = nodes.get((session.region, session.node))
        if node is None or session.peer_address is None:
            continue
        peer = owners.get(session.peer_address)
        if peer is None:
            declared = any(
                each.peer_ip == session.peer_address and _is_local(each, node) for each in configuration.peerings
            )
        else:
            declared = (node.region == peer.region and node.region in meshed) or any(
                _covers(each, node, peer) for each in configuration.peerings
            )
        if not declared:
            who = qualified((peer.region, peer.name)) if peer else "no node of the mesh"
            strangers.append(((node.region, node.name), (f"{session.peer_address} ({who})", _state(session))))
    read = {(session.region, session.node) for session in sessions}
    bare: Counter[str] = Counter(each.region for each in configuration.peerings if not each.authenticated)
    return conclude(
        expected="every BGP session is with a declared peer",
        examined=len(sessions),
        what="sessions",
        violations=[
            Finding(
                f"{name_nodes(where, inventory)} -> {peer}",
                "no session with a peer that no BGPPeer declares",
                f"a session: {state}",
                "it was configured by hand in the routing daemon, or its BGPPeer was deleted",
            )
            for where, things in together(strangers)
            for peer, state in things
        ],
        gaps=[
            *gap_findings([*inventory.gaps, *configuration.gaps]),
            *_unknown_identities(plan, configuration),
            *(
                node_gap(node, "BGP sessions", routing.gaps)
                for key, node in nodes.items()
                if node.region in planned and key not in read
            ),
        ],
        warnings=[
            f"{region}: {count(number, 'peering')} without a password (BGPPeer spec.password)"
            for region, number in sorted(bare.items())
        ],
    )


@dataclass(frozen=True)
class _Fault:
    """What is wrong with one end of a session."""

    node: Node
    peer: Node
    expected: str
    observed: str
    cause: str | None


class _View:
    """What nodes show of their sessions."""

    def __init__(self, routing: Routing, configuration: MeshConfiguration) -> None:
        self._peerings = configuration.peerings
        self._sessions: defaultdict[tuple[str, str], list[Session]] = defaultdict(list)
        for session in routing.sessions:
            self._sessions[session.region, session.node].append(session)
        self._with_routes = {(route.region, route.node) for route in routing.routes}
        self._gaps = routing.gaps

    def knows(self, node: Node) -> bool:
        """Whether that node's sessions were observed.

        A node without any, whose routes were read and of which no gap speaks, was asked and has none.
        """
        key = (node.region, node.name)
        asked = key in self._with_routes and not any(node.name in gap.subject for gap in self._gaps)
        return key in self._sessions or asked

    def fault(self, wanted: ExpectedSession) -> _Fault | None:
        """What is wrong with that session at that end; None when it is up and as planned."""
        node, peer = wanted.node, wanted.peer
        expected = "an Established session" + (f" with AS {wanted.peer_as}" if wanted.peer_as else "")
        sessions = [
            session
            for session in self._sessions.get((node.region, node.name), ())
            if peer.internal_ip is not None and session.peer_address == peer.internal_ip
        ]
        if not sessions:
            return _Fault(node, peer, expected, "there is no such session", _why_absent(node, peer, self._peerings))
        session = max(sessions, key=lambda each: each.established)
        if wanted.peer_as is not None and session.peer_as not in (None, wanted.peer_as):
            observed = f"configured for AS {session.peer_as}, {_state(session)}"
            cause = f"the peering names AS {session.peer_as} where the plan says {wanted.peer_as}"
            return _Fault(node, peer, expected, observed, cause)
        if not session.established:
            return _Fault(node, peer, expected, _state(session), _why_down(session))
        return None


def _findings(faults: Iterable[_Fault], inventory: Inventory) -> list[Finding]:
    """One finding for all nodes that have the same trouble with the same peer; the peer with most of it first."""
    alike: defaultdict[_Fault, list[Node]] = defaultdict(list)
    for fault in faults:
        alike[replace(fault, node=fault.peer)].append(fault.node)
    return [
        Finding(
            f"{name_nodes([(node.region, node.name) for node in nodes], inventory)} -> "
            f"{qualified((fault.peer.region, fault.peer.name))} ({fault.peer.internal_ip})",
            fault.expected,
            fault.observed,
            fault.cause,
        )
        for fault, nodes in sorted(alike.items(), key=lambda group: -len(group[1]))
    ]


def _state(session: Session) -> str:
    return session.state + (f" ({session.error})" if session.error else "")


def _why_down(session: Session) -> str | None:
    for needle, cause in _CAUSES:
        if needle in session.error:
            return cause
    if session.state == "Down":
        return "the session is administratively down at this end"
    if session.state in _SILENT:
        return "the peer does not answer: its routing agent is down, or TCP 179 is blocked on the way"
    return None


def _why_absent(node: Node, peer: Node, peerings: Sequence[Peering]) -> str | None:
    """Which configuration is missing for a session that the daemon does not know."""
    if any(_covers(peering, node, peer) for peering in peerings):
        return "a BGPPeer asks for it, and the routing agent has not taken it up"
    return f"no BGPPeer of {node.region} selects these two nodes"


def _covers(peering: Peering, node: Node, peer: Node) -> bool:
    if peering.region not in (node.region, peer.region):
        return False
    return (_is_local(peering, node) and _is_remote(peering, node, peer)) or (
        # Calico makes the reverse side of a peering between nodes of one cluster by itself.
        node.region == peer.region and _is_local(peering, peer) and _is_remote(peering, peer, node)
    )


def _is_local(peering: Peering, node: Node) -> bool:
    if peering.region != node.region:
        return False
    return node.name == peering.node if peering.node else _selects(peering.node_selector or "all()", node)


def _is_remote(peering: Peering, node: Node, peer: Node) -> bool:
    if peering.peer_ip is not None:
        return peering.peer_ip == peer.internal_ip
    return peering.peer_selector is not None and node.region == peer.region and _selects(peering.peer_selector, peer)


def _selects(selector: str, node: Node) -> bool:
    try:
        return parse_selector(selector).matches(dict(node.labels))
    except SelectorError:
        return False


def _is_external(peering: Peering, own_as: int | None) -> bool:
    """Whether a peering leads out of its cluster: to a foreign AS, or to an address and no AS at all."""
    return peering.peer_selector is None and peering.as_number != own_as


def _unknown_identities(plan: Plan, configuration: MeshConfiguration) -> list[Finding]:
    return unseen_regions(plan, (identity.region for identity in configuration.identities), "its identity in the mesh")


def _unknown_nodes(plan: Plan, inventory: Inventory) -> list[Finding]:
    return unseen_regions(plan, (node.region for node in inventory.nodes), "its nodes")


def _without_reflector(plan: Plan, inventory: Inventory) -> list[Finding]:
    """Clusters whose sessions cannot be told, because no node of theirs is a reflector (NET-ROUTE-003 says so)."""
    return [
        Finding(f"cluster {region.name}", "a route reflector to look for", "none of its nodes is one")
        for region in plan.regions
        if not reflectors(plan, inventory, region.name)
    ]
