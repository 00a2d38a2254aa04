"""NET-POD, the matrix: do pods reach each other, by every protocol, undisguised and by the straight way?

A probe that found its target open proves a path. One that did not is a violation only if it could have succeeded:
the agent that sent it and the agent that should have answered reached their own listeners before and after (the
positive control). Everything else is a gap, and a gap never lets a requirement be met.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from analysis.facts import Inventory, Probe, ProbeOutcome, ProbeProtocol, ReachabilityMatrix
from analysis.plan import Plan
from analysis.verdict import Finding, Verdict, conclude, not_applicable
from analysis.words import OUTCOME_WORDS, NodeKey, count, gap_findings, listed, name_members, place, qualified, together

STRAIGHT_TTL = 62
"""What is left of 64 after the two nodes between a pod and another; all there is to go by without a neighbour."""

MOST_FINDINGS = 20
"""Beyond this many groups of broken pairs, a count tells more than names."""

_Pair = tuple[int, int]


def judge_between_clusters(plan: Plan, matrix: ReachabilityMatrix, protocol: ProbeProtocol) -> Verdict:
    """NET-POD-001, 002 and 003: pods of every cluster reach those of every other by that protocol."""
    view = _View(matrix)
    tally = view.tally(protocol, view.between_clusters)
    directions = len(plan.ordered_pairs())
    tried = {(view.regions[source], view.regions[target]) for source, target in tally.tried}
    return conclude(
        expected=f"pods of all clusters reach each other by {_WORDS[protocol]}, in all {directions} directions",
        examined=tally.examined,
        what=f"{protocol.value.upper()} probes between clusters{view.sample}",
        violations=view.broken(tally.failed, protocol),
        gaps=[
            *view.silence(tally),
            *view.uncovered(tally, plan),
            *(
                Finding(f"{a.name} -> {b.name}", f"{protocol.value.upper()} probes", "none was made")
                for a, b in plan.ordered_pairs()
                if (a.name, b.name) not in tried
            ),
        ],
        warnings=view.repeats(),
    )


def judge_inside_clusters(plan: Plan, matrix: ReachabilityMatrix) -> Verdict:
    """NET-POD-006: pods on different nodes of one cluster reach each other by every protocol."""
    expected = "pods on different nodes of one cluster reach each other by ICMP, TCP and UDP"
    if all(region.node_count < 2 for region in plan.regions):
        return not_applicable(expected, "every cluster has one node only")
    view = _View(matrix)
    tallies = {protocol: view.tally(protocol, view.inside_cluster) for protocol in ProbeProtocol}
    seen = {view.regions[source] for tally in tallies.values() for source, _ in tally.tried}
    return conclude(
        expected=expected,
        examined=sum(tally.examined for tally in tallies.values()),
        what=f"probes inside clusters{view.sample}",
        violations=[finding for protocol, tally in tallies.items() for finding in view.broken(tally.failed, protocol)],
        gaps=[
            *(finding for tally in tallies.values() for finding in view.silence(tally)),
            *view.unwell(),
            *(finding for tally in tallies.values() for finding in view.unsampled(tally, plan, view.inside_cluster)),
            *(
                Finding(f"cluster {region.name}", "probes between its nodes", "none was made")
                for region in plan.regions
                if region.node_count > 1 and region.name not in seen
            ),
        ],
    )


def judge_node_pairs(plan: Plan, inventory: Inventory, matrix: ReachabilityMatrix) -> Verdict:
    """NET-POD-005: from every node to every node of another cluster, the pods on them reach each other somehow.

    A pair of nodes counts as connected as soon as one probe between their pods came through; what single protocols
    lose is told by NET-POD-001 to 003.
    """
    view = _View(matrix)
    nodes = [(endpoint.region, endpoint.node) for endpoint in matrix.endpoints]
    connected: set[tuple[NodeKey, NodeKey]] = set()
    failed: set[tuple[NodeKey, NodeKey]] = set()
    unclear: set[tuple[NodeKey, NodeKey]] = set()
    for probe in matrix.probes:
        source, target = probe.source, probe.target
        if not view.between_clusters(source, target):
            continue
        pair = nodes[source], nodes[target]
        if probe.outcome is ProbeOutcome.OPEN:
            connected.add(pair)
        elif view.counts(probe):
            failed.add(pair)
        else:
            unclear.add(pair)
    broken = sorted(failed - connected)
    unclear -= connected | failed
    everyone = [(node.region, node.name) for node in inventory.nodes]
    probed = {nodes[index] for index, endpoint in enumerate(matrix.endpoints) if not endpoint.on_host}
    planned = {region.name for region in plan.regions}
    wanted = [node for node in everyone if node[0] in planned]
    return conclude(
        expected="pods on any two nodes of different clusters reach each other, control-plane nodes included",
        examined=len(connected | failed),
        what="ordered pairs of nodes",
        violations=_at_most(
            [
                Finding(
                    f"{name_members(sources, everyone, 'nodes')} -> {name_members(targets, everyone, 'nodes')}",
                    "some probe between their pods to come through",
                    "none did, by any protocol",
                    view.underlay_hint({(a, b) for a in sources for b in targets}),
                )
                for sources, targets in together(broken)
            ],
            "groups of node pairs",
        ),
        gaps=[
            *gap_findings([*inventory.gaps, *matrix.gaps]),
            *view.unwell(),
            *(
                Finding(f"node {qualified(node)}", "a probe pod on it", "there is none")
                for node in wanted
                if node not in probed
            ),
            *(
                Finding(
                    f"{name_members(sources, everyone, 'nodes')} -> {name_members(targets, everyone, 'nodes')}",
                    "a conclusive probe",
                    "all probes were inconclusive",
                )
                for sources, targets in together(sorted(unclear))
            ),
            *_unprobed_nodes(wanted, probed, connected | failed | unclear),
        ],
    )


def judge_source_preserved(inventory: Inventory, matrix: ReachabilityMatrix) -> Verdict:
    """NET-POD-004: listeners in other clusters see the sender's own pod address."""
    view = _View(matrix)
    nodes = {node.internal_ip: qualified((node.region, node.name)) for node in inventory.nodes}
    endpoints = matrix.endpoints
    addresses = [endpoint.address for endpoint in endpoints]
    disguised: dict[tuple[int, tuple[str, str]], None] = {}
    examined = 0
    for probe in matrix.probes:
        if probe.outcome is not ProbeOutcome.OPEN or probe.seen_source is None:
            continue
        if not view.between_clusters(probe.source, probe.target):
            continue
        examined += 1
        if probe.seen_source != addresses[probe.source]:
            known = nodes.get(probe.seen_source)
            own = known == qualified((endpoints[probe.source].region, endpoints[probe.source].node))
            seen = "its node's address" if own else f"{probe.seen_source}" + (f", node {known}" if known else "")
            disguised[probe.source, (view.regions[probe.target], seen)] = None
    return conclude(
        expected="a pod in another cluster sees the sender's own pod address",
        examined=examined,
        what=f"TCP and UDP probes between clusters{view.sample}",
        violations=_at_most(
            [
                Finding(
                    f"{view.name(sources)} -> {region}",
                    "to be seen under the pod's own address",
                    f"seen as {seen}",
                    "the sender's cluster has no disabled pool for the target, or natOutgoing on the wrong pool"
                    if "node" in seen
                    else "something on the way translates addresses",
                )
                for sources, things in together(disguised)
                for region, seen in things
            ],
            "groups of senders",
        ),
        gaps=gap_findings(matrix.gaps) + view.unwell(),
    )


def judge_straight_way(matrix: ReachabilityMatrix) -> Verdict:
    """NET-POD-007: an echo between clusters loses as many hops as one between two nodes of one cluster."""
    view = _View(matrix)
    echoes = [
        probe
        for probe in matrix.probes
        if probe.protocol is ProbeProtocol.ICMP and probe.outcome is ProbeOutcome.OPEN and probe.ttl is not None
    ]
    nearby = Counter(probe.ttl for probe in echoes if view.inside_cluster(probe.source, probe.target))
    usual = nearby.most_common(1)[0][0] if nearby else STRAIGHT_TTL
    crossing = [probe for probe in echoes if view.between_clusters(probe.source, probe.target)]
    deviations = {(probe.source, (probe.target, probe.ttl)): None for probe in crossing if probe.ttl != usual}
    violations = []
    for sources, things in together(deviations):
        by_ttl: defaultdict[int | None, list[int]] = defaultdict(list)
        for target, ttl in things:
            by_ttl[ttl].append(target)
        violations += [
            Finding(
                f"{view.name(sources)} -> {view.name(targets)}",
                f"TTL {usual} in the answer, as inside a cluster",
                f"TTL {ttl}",
                "the way has hops of its own: packets are routed by a gateway, not tunnelled from node to node"
                if (ttl or 0) < (usual or 0)
                else "something nearer than the pod answers in its place",
            )
            for ttl, targets in by_ttl.items()
        ]
    return conclude(
        expected=f"echoes between clusters come back with TTL {usual}, as those inside a cluster do",
        examined=len(crossing),
        what=f"echoes between clusters{view.sample}",
        violations=_at_most(violations, "groups of pairs"),
        gaps=gap_findings(matrix.gaps) + view.unwell(),
    )


@dataclass
class _Tally:
    """Probes of one protocol and scope, sorted by what they prove."""

    examined: int = 0
    tried: set[_Pair] = field(default_factory=set)
    failed: list[Probe] = field(default_factory=list)
    unclear: list[Probe] = field(default_factory=list)


_WORDS = {
    ProbeProtocol.ICMP: "ICMP echo",
    ProbeProtocol.TCP: "TCP on an arbitrary port",
    ProbeProtocol.UDP: "UDP",
}


class _View:
    """A matrix with what judges ask of it again and again."""

    def __init__(self, matrix: ReachabilityMatrix) -> None:
        self._matrix = matrix
        self.regions = [endpoint.region for endpoint in matrix.endpoints]
        self._nodes = [endpoint.node for endpoint in matrix.endpoints]
        self._on_host = [endpoint.on_host for endpoint in matrix.endpoints]
        self._pod_regions = [None if endpoint.on_host else endpoint.region for endpoint in matrix.endpoints]
        well = {agent.endpoint for agent in matrix.agents if agent.loopback_ok and not agent.error}
        self._well = [index in well for index in range(len(matrix.endpoints))]

    def between_clusters(self, source: int, target: int) -> bool:
        """A pair of pods in different clusters."""
        here, there = self._pod_regions[source], self._pod_regions[target]
        return here != there and here is not None and there is not None

    def inside_cluster(self, source: int, target: int) -> bool:
        """A pair of pods on different nodes of one cluster."""
        here, there = self._pod_regions[source], self._pod_regions[target]
        return here == there and here is not None and self._nodes[source] != self._nodes[target]

    def counts(self, probe: Probe) -> bool:
        """Whether a probe that did not come through says something about the network: both agents were well."""
        return probe.outcome is not ProbeOutcome.INCONCLUSIVE and self._well[probe.source] and self._well[probe.target]

    def tally(self, protocol: ProbeProtocol, scope: Callable[[int, int], bool]) -> _Tally:
        """All probes of that protocol between pairs in scope."""
        tally = _Tally()
        for probe in self._matrix.probes:
            if probe.protocol is not protocol or not scope(probe.source, probe.target):
                continue
            tally.examined += 1
            tally.tried.add((probe.source, probe.target))
            if probe.outcome is not ProbeOutcome.OPEN:
                (tally.failed if self.counts(probe) else tally.unclear).append(probe)
        return tally

    def name(self, endpoints: Iterable[int]) -> str:
        """Probe pods in words: a single one with its node and address, many by their regions."""
        indices = list(endpoints)
        if len(indices) == 1:
            return place(self._matrix.endpoints[indices[0]])
        return name_members({self._member(index) for index in indices}, self._pods, "pods")

    @cached_property
    def _pods(self) -> list[NodeKey]:
        return [self._member(index) for index in range(len(self.regions)) if not self._on_host[index]]

    def broken(self, failed: Sequence[Probe], protocol: ProbeProtocol) -> list[Finding]:
        """One finding for all pods that cannot reach the very same pods."""
        outcomes: defaultdict[_Pair, list[Probe]] = defaultdict(list)
        for probe in failed:
            outcomes[probe.source, probe.target].append(probe)

        def finding(sources: Iterable[int], targets: Sequence[int]) -> Finding:
            pairs = [(source, target) for source in sorted(sources) for target in targets]
            return Finding(
                f"{self.name(sorted(sources))} -> {self.name(targets)}",
                f"an answer to {protocol.value.upper()}",
                _observed([probe for pair in pairs for probe in outcomes[pair]]),
                self._why(pairs, protocol),
            )

        groups = together(outcomes)
        # To explain a group takes longer than to find it: those that nobody is told of are only counted.
        told = [finding(sources, targets) for sources, targets in groups[:MOST_FINDINGS]]
        return told + _rest(len(groups), "groups of pairs")

    def silence(self, tally: _Tally) -> list[Finding]:
        """Probes that say nothing, by the agent that sent them."""
        by_source = Counter(probe.source for probe in tally.unclear)
        details = {probe.source: probe.detail for probe in tally.unclear}
        return [
            Finding(
                f"probes from {place(self._matrix.endpoints[source])}",
                "conclusive",
                f"{count(number, 'probe')} inconclusive" + (f": {details[source]}" if details[source] else ""),
            )
            for source, number in sorted(by_source.items())
        ]

    def uncovered(self, tally: _Tally, plan: Plan) -> list[Finding]:
        """Pods that did not try every pod of the other clusters; of a sample, nodes that did not try every node."""
        if self._matrix.sampling:
            sampled = self.unsampled(tally, plan, self.between_clusters)
            return [*gap_findings(self._matrix.gaps), *self.unwell(), *sampled]
        planned = {region.name for region in plan.regions}
        pods = [index for index, region in enumerate(self.regions) if region in planned and not self._on_host[index]]
        in_region = Counter(self.regions[index] for index in pods)
        tried = Counter(source for source, _ in tally.tried)
        missing = [
            Finding(
                f"probes from {place(self._matrix.endpoints[index])}",
                f"to all {len(pods) - in_region[self.regions[index]]} pods of the other clusters",
                f"{tried[index]} were tried",
            )
            for index in pods
            if tried[index] < len(pods) - in_region[self.regions[index]]
        ]
        return [*gap_findings(self._matrix.gaps), *self.unwell(), *missing]

    @cached_property
    def sample(self) -> str:
        """What a sample covers, in brackets; nothing where every pair of pods was probed."""
        if not self._matrix.sampling:
            return ""
        pods = len(self._on_host) - sum(self._on_host)
        tried = {(p.source, p.target) for p in self._matrix.probes if not self._on_host[p.source]}
        share = 100 * len(tried) / max(1, pods * (pods - 1))
        return f" (a sample: every ordered pair of nodes; {share:.{0 if share >= 1 else 2}f}% of the pairs of pods)"

    def unsampled(self, tally: _Tally, plan: Plan, scope: Callable[[int, int], bool]) -> list[Finding]:
        """Pairs of nodes in scope that a sample must not leave out, and has left out all the same."""
        if not self._matrix.sampling:
            return []
        planned = {region.name for region in plan.regions}
        pods = {self._member(i, node=True): i for i, region in enumerate(self._pod_regions) if region in planned}
        tried = {(self._member(source, node=True), self._member(target, node=True)) for source, target in tally.tried}
        missing = {
            a: [b for b, target in pods.items() if scope(source, target) and (a, b) not in tried]
            for a, source in pods.items()
        }
        return [
            Finding(
                f"probes from {qualified(a)}",
                "a sample with every ordered pair of nodes",
                f"none to {listed(map(qualified, to))}",
            )
            for a, to in missing.items()
            if to
        ]

    def repeats(self) -> list[str]:
        """Agents that had to be started again before they answered. Their probes were made once, like all others."""
        endpoints = self._matrix.endpoints
        return [
            f"the agent in {place(endpoints[agent.endpoint])} was started again {count(agent.retries, 'time')}"
            for agent in self._matrix.agents
            if agent.retries
        ]

    def unwell(self) -> list[Finding]:
        """Pod agents without a positive control, unless all that they sent came through, which proves them well."""
        if all(self._well):
            return []
        errors = {agent.endpoint: agent.error for agent in self._matrix.agents}
        senders = {probe.source for probe in self._matrix.probes}
        losers = {probe.source for probe in self._matrix.probes if probe.outcome is not ProbeOutcome.OPEN}
        return [
            Finding(
                f"agent in {place(self._matrix.endpoints[index])}",
                "to reach its own listener before and after its probes",
                (errors[index] or "it did not") if index in errors else "it gave no result",
            )
            for index, well in enumerate(self._well)
            if not well and not self._on_host[index] and (index in losers or index not in senders)
        ]

    def underlay_hint(self, pairs: set[tuple[NodeKey, NodeKey]]) -> str | None:
        """What probes from node to node say about node pairs whose pods do not reach each other."""
        known = [self._underlay[pair] for pair in pairs if pair in self._underlay]
        if known and not any(known):
            return "the nodes do not reach each other either: the underlay is at fault, or a node is gone"
        if known and all(known):
            return "their nodes reach each other: look at routes, encapsulation and packet filters, not at the underlay"
        return None

    @cached_property
    def _underlay(self) -> dict[tuple[NodeKey, NodeKey], bool]:
        """Whether a node reaches another from host network to host network, by any protocol; conclusive pairs only."""
        reached: dict[tuple[NodeKey, NodeKey], bool] = {}
        for probe in self._matrix.probes:
            if not (self._on_host[probe.source] and self._on_host[probe.target]):
                continue
            pair = self._member(probe.source, node=True), self._member(probe.target, node=True)
            if probe.outcome is ProbeOutcome.OPEN:
                reached[pair] = True
            elif self.counts(probe):
                reached.setdefault(pair, False)
        return reached

    @cached_property
    def _open(self) -> dict[ProbeProtocol, set[_Pair]]:
        opened: dict[ProbeProtocol, set[_Pair]] = {protocol: set() for protocol in ProbeProtocol}
        for probe in self._matrix.probes:
            if probe.outcome is ProbeOutcome.OPEN:
                opened[probe.protocol].add((probe.source, probe.target))
        return opened

    def _why(self, pairs: Sequence[_Pair], protocol: ProbeProtocol) -> str | None:
        others = [other for other in ProbeProtocol if other is not protocol]
        working = [other for other in others if self._open[other].issuperset(pairs)]
        if working:
            names = listed(other.value.upper() for other in working)
            return f"{names} between the same pods works: a packet filter, not a route"
        if self._open[protocol].issuperset((target, source) for source, target in pairs):
            return "one way only, the other direction works: a packet filter that lets answers through"
        hint = self.underlay_hint(
            {(self._member(source, node=True), self._member(target, node=True)) for source, target in pairs}
        )
        ends = [{self._member(end, node=True) for end in side} for side in zip(*pairs, strict=True)]
        if hint is None:
            for nodes, word in zip(ends, ("sends", "receives"), strict=True):
                if len(nodes) == 1 and len(pairs) > 1:
                    culprit = qualified(next(iter(nodes)))
                    return f"{culprit} alone {word} nothing: its routes, its tunnel device or a filter on it"
        return hint

    def _member(self, index: int, *, node: bool = False) -> NodeKey:
        endpoint = self._matrix.endpoints[index]
        return endpoint.region, endpoint.node if node else endpoint.name


def _observed(probes: Sequence[Probe]) -> str:
    """What became of probes that failed together: outcomes with their numbers, and what was said most often."""
    outcomes = Counter(OUTCOME_WORDS[probe.outcome] for probe in probes)
    details = Counter(probe.detail for probe in probes if probe.detail)
    text = listed(f"{number} x {word}" if len(probes) > 1 else word for word, number in outcomes.most_common())
    return text + (f" ({details.most_common(1)[0][0]})" if details else "")


def _unprobed_nodes(
    nodes: Iterable[NodeKey], probed: set[NodeKey], pairs: set[tuple[NodeKey, NodeKey]]
) -> list[Finding]:
    """Pairs of nodes with probe pods, between which no probe was made, by sender."""
    senders = [node for node in nodes if node in probed]
    missing = {a: [b for b in senders if b[0] != a[0] and (a, b) not in pairs] for a in senders}
    return [
        Finding(
            f"probes from {qualified(a)}",
            "one to every node of the other clusters",
            f"none to {listed(map(qualified, to))}",
        )
        for a, to in missing.items()
        if to
    ]


def _at_most(findings: list[Finding], what: str) -> list[Finding]:
    return findings[:MOST_FINDINGS] + _rest(len(findings), what)


def _rest(number: int, what: str) -> list[Finding]:
    """What stands for findings beyond those that are told."""
    rest = number - MOST_FINDINGS
    return [Finding(f"{rest} more {what}", "as above", "as above; the facts list them all")] if rest > 0 else []
