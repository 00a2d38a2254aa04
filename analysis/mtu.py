"""NET-MTU: does what pods send fit through the tunnels, whole, and are all clusters set up alike for it?"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from analysis.components import FLANNEL_ANNOTATION, K3S_ARGUMENTS, K3S_REQUIRED
from analysis.expectation import planned_nodes
from analysis.facts import (
    Addressing,
    BulkTransfer,
    Components,
    Endpoint,
    Forwarding,
    Inventory,
    Mtu,
    PathMtu,
    Pool,
    Refusal,
)
from analysis.plan import Encapsulation, Plan
from analysis.rootcause import Layer
from analysis.verdict import Finding, Verdict, conclude, not_applicable
from analysis.words import count, gap_findings, listed, megabytes, name_nodes, node_gap, qualified, unseen_regions

CARRIED_BETWEEN_REGIONS = {"aws": 8500, "azure": 1500}
"""The largest packet (bytes) that a cloud carries between regions, whatever the devices of its instances say."""

CLOUD_LIMIT_CAUSE = {
    "aws": "an instance's device takes 9001 bytes, but what leaves its region by a peering may have 8500 at most",
    "azure": "a virtual network carries 1500 bytes",
}
NO_IPIP = "azure"
"""The cloud that drops IP-in-IP."""

FLANNEL_DEVICE = re.compile(r"flannel([.-]|$)|cni0$")
FLANNEL_POD = "kube-flannel-"

RegionPair: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class Room:
    """How much room a path leaves for the packets of pods.

    Attributes:
        bytes: the largest packet of a pod that still fits with the encapsulation's header.
        carried: what the underlay carries (bytes).
        why: what sets that limit.
    """

    bytes: int
    carried: int
    why: str


def room_for_pods(plan: Plan, underlay: PathMtu | None) -> Room:
    """What the plan, the cloud and a measurement between two nodes leave for pods: the least of the three counts."""
    limits = [(plan.underlay.path_mtu, f"the underlay is planned to carry {plan.underlay.path_mtu} bytes")]
    cloud = plan.underlay.cloud
    if cloud in CARRIED_BETWEEN_REGIONS:
        limits.append((CARRIED_BETWEEN_REGIONS[cloud], CLOUD_LIMIT_CAUSE[cloud]))
    if underlay is not None and underlay.largest is not None:
        limits.append((underlay.largest, f"between nodes {_limit(underlay)}"))
    carried, why = min(limits, key=lambda limit: limit[0])
    return Room(carried - plan.encapsulation.overhead, carried, why)


def judge_room_for_header(plan: Plan, mtu: Mtu) -> Verdict:
    """NET-MTU-001: the MTU that pods go by, and the header of the encapsulation, fit into what the underlay carries."""
    underlay = _Underlay(plan, mtu)
    pods = _between_regions(plan, mtu, on_host=False)
    overhead = plan.encapsulation.overhead
    wrong: dict[tuple[RegionPair, tuple[str, str, str]], set[Endpoint]] = defaultdict(set)
    gaps = [*gap_findings(mtu.gaps), *_untried(plan, pods)]
    for path in pods:
        if path.usable is None:
            gaps.append(_unknown(path, "the MTU that it goes by"))
            continue
        room = room_for_pods(plan, underlay.between(path.source, path.target))
        if path.usable > room.bytes:
            expected = (
                f"an MTU of at most {room.bytes}, {overhead} less than the {room.carried} that the underlay carries"
            )
            wrong[_pair(path), (expected, f"pods go by an MTU of {path.usable}", room.why)].add(path.source)
    return conclude(
        expected=f"the MTU of pods leaves {overhead} bytes for the header of {plan.encapsulation.value}",
        examined=sum(path.usable is not None for path in pods),
        what="paths between pods",
        violations=_merged(wrong, pods),
        gaps=[*gaps, *underlay.unknown()],
        warnings=underlay.remarks(),
        remedy=f"set the CNI's MTU to what every path carries less {overhead} bytes, and restart the pods",
    )


def judge_exact_size(plan: Plan, mtu: Mtu) -> Verdict:
    """NET-MTU-002: packets of the pod MTU come through whole between all regions, and larger ones are refused."""
    underlay = _Underlay(plan, mtu)
    pods = _between_regions(plan, mtu, on_host=False)
    wrong: dict[tuple[RegionPair, tuple[str, str, str]], set[Endpoint]] = defaultdict(set)
    fragmented: dict[tuple[int, int], set[RegionPair]] = defaultdict(set)
    gaps = [*gap_findings(mtu.gaps), *_untried(plan, pods)]
    examined = 0
    for path in pods:
        if path.usable is None or path.largest is None:
            gaps.append(_unknown(path, "the largest packet that comes through"))
            continue
        examined += 1
        below = underlay.between(path.source, path.target)
        outer = path.usable + plan.encapsulation.overhead
        problem = _problem(path, path.usable, below, plan.encapsulation.overhead)
        if problem is not None:
            wrong[_pair(path), problem].add(path.source)
        elif below is not None and below.largest is not None and outer > below.largest:
            fragmented[outer, below.largest].add(_pair(path))
    return conclude(
        expected="packets of exactly the pod MTU pass unfragmented between all regions; larger ones are refused",
        examined=examined,
        what="paths between pods",
        violations=_merged(wrong, pods),
        gaps=gaps,
        warnings=[
            *(
                f"{_arrows(pairs)}: full packets of pods take {outer} bytes with their header, and the underlay "
                f"carries {carried}; they pass in fragments, which costs speed and fails where fragments are dropped"
                for (outer, carried), pairs in sorted(fragmented.items())
            ),
            *underlay.black_holes(),
        ],
    )


def judge_bulk_transfers(plan: Plan, mtu: Mtu) -> Verdict:
    """NET-MTU-003: a bulk transfer finishes in every direction between regions, and never stands still for too long."""
    budget = plan.budgets.stall.total_seconds()
    names = {region.name for region in plan.regions}
    tried = [one for one in mtu.transfers if {one.source.region, one.target.region} <= names]
    begun = [one for one in tried if one.seconds > 0]
    seen = {(one.source.region, one.target.region) for one in tried}
    return conclude(
        expected=f"{megabytes(plan.bulk_bytes)} cross between any regions, never standing still for over {budget:g} s",
        examined=len(begun),
        what="transfers",
        violations=[finding for one in begun for finding in _stalls(one, budget)],
        gaps=[
            *gap_findings(mtu.gaps),
            *(
                Finding(f"{one.source.region} -> {one.target.region}", "a transfer", one.detail or "it did not begin")
                for one in tried
                if one.seconds <= 0
            ),
            *(
                Finding(f"{a.name} -> {b.name}", "a transfer", "none was tried")
                for a, b in plan.ordered_pairs()
                if (a.name, b.name) not in seen
            ),
        ],
    )


def judge_same_encapsulation(
    plan: Plan, inventory: Inventory, addressing: Addressing, components: Components
) -> Verdict:
    """NET-MTU-006: nodes forward, and pools ask to be forwarded, by the same encapsulation in all clusters."""
    planned = {region.name for region in plan.regions}
    nodes = [item for item in components.datapaths if item.region in planned]
    pools = [pool for pool in addressing.pools if pool.region in planned and _is_own(plan, pool)]
    kinds = Counter(item.encapsulation for item in nodes)
    modes = Counter((pool.encapsulation, pool.encapsulation_mode) for pool in pools)
    usual_kind = max(kinds, key=lambda kind: (kinds[kind], kind), default="")
    usual_mode = max(modes, key=lambda mode: (modes[mode], mode), default=("", ""))
    odd: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for item in nodes:
        if item.encapsulation != usual_kind:
            odd[item.encapsulation].append((item.region, item.node))
    seen = {item.region for item in nodes} | {pool.region for pool in pools}
    silent = [gap for gap in (*components.gaps, *addressing.gaps) if gap.region not in seen]
    return conclude(
        expected=f"all clusters encapsulate in the same way{f' ({usual_kind})' if usual_kind else ''}",
        examined=len(nodes) + len(pools),
        what="nodes and pools",
        violations=[
            *(
                Finding(
                    name_nodes(where, inventory),
                    f"{usual_kind}, as on {kinds[usual_kind]} of {len(nodes)} nodes",
                    kind,
                    "a tunnel's end understands no packets of another kind, so they are lost",
                )
                for kind, where in sorted(odd.items())
            ),
            *(
                Finding(
                    f"{pool.region}: pool {pool.name} ({pool.cidr})",
                    "{} {}, as in the other clusters".format(*usual_mode),
                    f"{pool.encapsulation} {pool.encapsulation_mode}",
                    "answers would come back by another way than packets go",
                )
                for pool in pools
                if (pool.encapsulation, pool.encapsulation_mode) != usual_mode
            ),
        ],
        gaps=[*gap_findings(silent), *unseen_regions(plan, seen, "how it encapsulates")],
        warnings=[f"the plan asks for {plan.encapsulation.value}, and all nodes use {usual_kind}"]
        if usual_kind and usual_kind != plan.encapsulation.value
        else [],
    )


def judge_no_ipip(plan: Plan, inventory: Inventory, addressing: Addressing, components: Components) -> Verdict:
    """NET-MTU-007: where the cloud drops IP-in-IP, neither the plan nor a pool nor a node uses it."""
    expected = "IP-in-IP is not used, because Azure drops it"
    if plan.underlay.cloud != NO_IPIP:
        return not_applicable(
            expected, f"the underlay is {plan.underlay.cloud or 'no cloud that is known'}, which may carry it"
        )
    ipip = Encapsulation.IPIP.value
    planned = {region.name for region in plan.regions}
    nodes = [item for item in components.datapaths if item.region in planned]
    pools = [pool for pool in addressing.pools if pool.region in planned]
    cause = "Azure drops packets of IP protocol 4: use VXLAN"
    tunnelling = [(item.region, item.node) for item in nodes if item.encapsulation == ipip]
    seen = {item.region for item in nodes}
    return conclude(
        expected=expected,
        examined=len(nodes) + len(pools),
        what="nodes and pools",
        violations=[
            *([Finding("the plan", "another encapsulation", ipip, cause)] if plan.encapsulation.value == ipip else []),
            *([Finding(name_nodes(tunnelling, inventory), "another encapsulation", ipip, cause)] if tunnelling else []),
            *(
                Finding(f"{pool.region}: pool {pool.name} ({pool.cidr})", "another encapsulation", ipip, cause)
                for pool in pools
                if pool.encapsulation == ipip
            ),
        ],
        gaps=[
            *gap_findings(gap for gap in components.gaps if gap.region not in seen),
            *gap_findings(addressing.gaps),
            *unseen_regions(plan, seen, "how its nodes encapsulate"),
        ],
    )


def judge_equal_mtu(plan: Plan, inventory: Inventory, mtu: Mtu) -> Verdict:
    """NET-MTU-008: pods go by the same MTU on all nodes of all clusters."""
    by_node: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    pods = _between_regions(plan, mtu, on_host=False)
    for path in pods:
        if path.usable is not None:
            by_node[path.source.region, path.source.node].add(path.usable)
    sizes = Counter(size for found in by_node.values() for size in found)
    usual = max(sizes, key=lambda size: (sizes[size], -size), default=None)
    odd: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
    for node, found in sorted(by_node.items()):
        for size in sorted(found - {usual}):
            odd[size].append(node)
    return conclude(
        expected="pods have the same MTU in all clusters" + (f" ({usual})" if usual else ""),
        examined=len(by_node),
        what="nodes with pods",
        violations=[
            Finding(
                f"pods on {name_nodes(nodes, inventory)}",
                f"an MTU of {usual}, as on {sizes[usual]} of {len(by_node)} nodes",
                str(size),
                "the CNI was given another MTU there, or pods have not been restarted since it was changed",
            )
            for size, nodes in sorted(odd.items())
            if usual is not None
        ],
        gaps=[*gap_findings(mtu.gaps), *unseen_regions(plan, {region for region, _ in by_node}, "the MTU of its pods")],
    )


def judge_no_flannel(plan: Plan, inventory: Inventory, forwarding: Forwarding) -> Verdict:
    """NET-MTU-011: no device, pod, annotation or setting of Flannel is on any node."""
    nodes = planned_nodes(plan, inventory)
    told = {(link.region, link.node) for link in forwarding.links}
    traces: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for link in forwarding.links:
        if FLANNEL_DEVICE.match(link.name):
            traces[f"device {link.name}"].append((link.region, link.node))
    for pod in inventory.pods:
        if pod.name.startswith(FLANNEL_POD) and pod.node:
            traces["a pod of Flannel"].append((pod.region, pod.node))
    for node in nodes:
        key = (node.region, node.name)
        annotations = dict(node.annotations)
        if any(name.startswith(FLANNEL_ANNOTATION) for name in annotations):
            traces["annotations of Flannel"].append(key)
        arguments = annotations.get(K3S_ARGUMENTS, "")
        if '"server"' in arguments:
            for pattern, problem, wish in K3S_REQUIRED:
                if not pattern.search(arguments):
                    traces[f"k3s was started without {wish}: {problem}"].append(key)
    return conclude(
        expected="no trace of Flannel is left on any node",
        examined=sum((node.region, node.name) in told for node in nodes),
        what="nodes",
        violations=[
            Finding(
                name_nodes(where, inventory),
                "nothing of Flannel",
                trace,
                "Flannel ran there once, or still does; its VXLAN takes UDP 8472, which is Cilium's port too",
            )
            for trace, where in sorted(traces.items())
        ],
        gaps=[
            *gap_findings(inventory.gaps),
            *(
                node_gap(node, "its network devices", forwarding.gaps)
                for node in nodes
                if (node.region, node.name) not in told
            ),
        ],
        remedy="start k3s with --flannel-backend=none and --disable-network-policy, then delete Flannel's devices",
    )


class _Underlay:
    """What was measured between nodes, and what it says about the plan."""

    def __init__(self, plan: Plan, mtu: Mtu) -> None:
        self._planned = plan.underlay.path_mtu
        self._paths = _between_regions(plan, mtu, on_host=True)
        self._by_nodes = {_nodes(path.source, path.target): path for path in self._paths}
        self._narrowest: dict[RegionPair, PathMtu] = {}
        for path in self._paths:
            known = self._narrowest.get(_pair(path))
            if path.largest is not None and (known is None or path.largest < (known.largest or 0)):
                self._narrowest[_pair(path)] = path

    def between(self, source: Endpoint, target: Endpoint) -> PathMtu | None:
        """The path between the nodes of two pods; where it was not measured, the narrowest between their regions."""
        own = self._by_nodes.get(_nodes(source, target))
        if own is not None and own.largest is not None:
            return own
        return self._narrowest.get((source.region, target.region))

    def unknown(self) -> list[Finding]:
        """Pairs of regions between whose nodes no packet came through."""
        pairs = {_pair(path): path for path in self._paths if _pair(path) not in self._narrowest}
        return [_unknown(path, "the largest packet that comes through") for path in pairs.values()]

    def remarks(self) -> list[str]:
        """What belongs in the report though it breaks no promise yet."""
        if not self._paths:
            return ["no probe runs in the nodes' network: the underlay's path MTU was not measured, the plan's counts"]
        narrow: defaultdict[str, set[RegionPair]] = defaultdict(set)
        for pair, path in self._narrowest.items():
            if path.largest is not None and path.largest < self._planned:
                narrow[_limit(path)].add(pair)
        return [
            f"{_arrows(pairs)}: {limit} between nodes; planned are {self._planned}" for limit, pairs in narrow.items()
        ]

    def black_holes(self) -> list[str]:
        """Sizes that vanish between nodes without a word."""
        holes: defaultdict[str, set[RegionPair]] = defaultdict(set)
        for path in self._paths:
            if path.refusal is Refusal.SILENCE:
                holes[_limit(path)].add(_pair(path))
        return [f"{_arrows(pairs)}: {limit} between nodes" for limit, pairs in sorted(holes.items())]


def _problem(path: PathMtu, usable: int, below: PathMtu | None, overhead: int) -> tuple[str, str, str] | None:
    """What is wrong with a path between pods: expected, observed, cause. `below` is the path between their nodes."""
    largest = path.largest or 0
    if largest < usable:
        return f"packets of {usable} bytes pass unfragmented", _limit(path), _cause(path, below, overhead)
    if path.refused is None:
        return f"packets of {usable + 1} bytes are refused", "they came through", "something on the way fragments them"
    if path.refusal in (Refusal.LOCAL, Refusal.FRAGMENTATION_NEEDED):
        return None
    if path.refusal is Refusal.SILENCE:
        return f"packets of {path.refused} bytes are refused by name", _limit(path), _cause(path, below, overhead)
    return f"packets of {path.refused} bytes are refused for their size", path.detail or "no reason", ""


def _cause(path: PathMtu, below: PathMtu | None, overhead: int) -> str:
    narrow = below is not None and below.largest is not None and (path.refused or 0) + overhead > below.largest
    if path.refusal is Refusal.SILENCE and narrow and below is not None:
        return (
            f"with {overhead} bytes of header they are larger than the {below.largest} that the underlay carries, the "
            "outer packets must not be fragmented (DF), and nobody tells the pods"
        )
    if path.refusal is Refusal.SILENCE:
        return "a hop with a smaller MTU, whose ICMP messages (type 3, code 4) are filtered; or a filter by size"
    if path.refusal is Refusal.FRAGMENTATION_NEEDED:
        return "pods go by a larger MTU than the tunnel or a hop behind it takes"
    return path.detail


def _limit(path: PathMtu) -> str:
    """Where a path ends and who says so: "1400 bytes pass, larger ones vanish without a word: a black hole"."""
    if path.refusal is Refusal.SILENCE:
        return f"{path.largest} bytes pass, and from {path.refused} on all vanish without a word: a black hole"
    if path.refusal is Refusal.FRAGMENTATION_NEEDED:
        says = f", which takes {path.reported}" if path.reported else ""
        return f"{path.largest} bytes pass, and larger packets are refused by {path.refused_by}{says}"
    if path.refusal is Refusal.LOCAL:
        return f"{path.largest} bytes pass, as many as the sender's own device takes"
    return f"{path.largest} bytes pass" + (f" ({path.detail})" if path.detail else "")


def _stalls(one: BulkTransfer, budget: float) -> Iterable[Finding]:
    done = f"{megabytes(one.sent)} of {megabytes(one.wanted)} in {one.seconds:.1f} s"
    again = f", {count(one.retransmits, 'segment')} sent again" if one.retransmits else ""
    subject = f"{one.source.region} -> {one.target.region}"
    if one.longest_stall > budget:
        yield Finding(
            subject,
            f"no standstill of more than {budget:g} s",
            f"nothing was confirmed for {one.longest_stall:.1f} s: {done}{again}",
            "full segments are lost again and again: a hop that drops large packets, or a rate limit without a queue",
        )
    elif one.sent < one.wanted:
        # Packets of every size get through, and too few of them: that is not a matter of their size.
        yield Finding(
            subject,
            f"{megabytes(one.wanted)} to arrive",
            f"{done}{again}",
            "the path carries too little",
            Layer.ENCAPSULATION,
        )


def _between_regions(plan: Plan, mtu: Mtu, *, on_host: bool) -> list[PathMtu]:
    """The paths between pods, or between nodes, of different regions of the plan."""
    names = {region.name for region in plan.regions}
    return [
        path
        for path in mtu.paths
        if path.source.on_host is on_host
        and path.source.region != path.target.region
        and {path.source.region, path.target.region} <= names
    ]


def _untried(plan: Plan, paths: Iterable[PathMtu]) -> list[Finding]:
    tried = {_pair(path) for path in paths}
    return [
        Finding(f"{a.name} -> {b.name}", "to be probed with large packets", "it was not")
        for a, b in plan.ordered_pairs()
        if (a.name, b.name) not in tried
    ]


def _unknown(path: PathMtu, what: str) -> Finding:
    ends = [qualified((end.region, end.node)) for end in (path.source, path.target)]
    kind = "node" if path.source.on_host else "pod on"
    return Finding(f"{kind} {ends[0]} -> {ends[1]}", what, path.detail or "no packet of any size was answered")


def _merged(
    wrong: Mapping[tuple[RegionPair, tuple[str, str, str]], Collection[Endpoint]], paths: Iterable[PathMtu]
) -> list[Finding]:
    """One finding for each thing that is wrong, with the pairs of regions, and how many senders it concerns."""
    senders: defaultdict[RegionPair, set[Endpoint]] = defaultdict(set)
    for path in paths:
        senders[_pair(path)].add(path.source)
    things: defaultdict[tuple[str, str, str], dict[RegionPair, int]] = defaultdict(dict)
    for (pair, thing), sources in wrong.items():
        things[thing][pair] = len(sources)
    findings = []
    for (expected, observed, cause), pairs in sorted(things.items(), key=lambda item: -len(item[1])):
        part, whole = sum(pairs.values()), sum(len(senders[pair]) for pair in pairs)
        share = f" (from {part} of {whole} pods)" if part < whole else ""
        findings.append(Finding(_arrows(pairs), expected, observed + share, cause or None))
    return findings


def _arrows(pairs: Iterable[RegionPair]) -> str:
    return listed(f"{a} -> {b}" for a, b in sorted(pairs))


def _pair(path: PathMtu) -> RegionPair:
    return path.source.region, path.target.region


def _nodes(source: Endpoint, target: Endpoint) -> tuple[str, str, str, str]:
    return source.region, source.node, target.region, target.node


def _is_own(plan: Plan, pool: Pool) -> bool:
    """Whether a cluster gives addresses of that pool to its own pods."""
    return not pool.disabled and pool.cidr.overlaps(plan.region(pool.region).pod_cidr)
