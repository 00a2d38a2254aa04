"""NET-UNDR, from nodes and from outside: what the mesh lies on, before there is any mesh.

A knock that is refused has proved the network: something answered. Whether anybody should have listened there is the
business of those who speak about that service. From outside it is the other way round: a refusal says that packets of a
stranger come through. Silence counts only where a control at the same address was answered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from statistics import median
from typing import TypeAlias

from analysis.doors import Knocker, plan_doors
from analysis.expectation import planned_nodes, reflectors
from analysis.facts import (
    ClockOffset,
    Door,
    Gap,
    Inventory,
    KernelSetting,
    MeshConfiguration,
    Networks,
    OutsideKnock,
    Pod,
    ProbeOutcome,
    ProbeProtocol,
    ReachabilityMatrix,
    Routing,
    Trace,
    Underlay,
)
from analysis.fleet import Stand
from analysis.plan import DatabasePlan, Plan
from analysis.verdict import Finding, Verdict, conclude, not_applicable
from analysis.words import (
    OUTCOME_WORDS,
    NodeKey,
    gap_findings,
    listed,
    name_nodes,
    node_gap,
    qualified,
    together,
)

IP_FORWARD = "net.ipv4.ip_forward"
BRIDGE_FILTER = "net.bridge.bridge-nf-call-iptables"

PRIVATE = tuple(
    IPv4Network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8")
)
"""RFC 1918, RFC 6598, link-local and loopback: what no router of the internet forwards."""

CLUSTER_DOORS = (Door.KUBELET, Door.API_SERVER, Door.ETCD, Door.TYPHA, Door.HEALTH)
PROVED = frozenset({ProbeOutcome.OPEN, ProbeOutcome.REFUSED})
"""What shows that the network carries packets there and back."""

PROBE_LABEL = ("meshproof/owned", "true")
MEBIBYTE = 1 << 20


# --- between nodes --------------------------------------------------------------------------------------------------


def judge_nodes_answer(plan: Plan, inventory: Inventory, matrix: ReachabilityMatrix) -> Verdict:
    """NET-UNDR-006: every node answers pings from every node of the other regions at its private address."""
    ends = matrix.endpoints
    well = {agent.endpoint for agent in matrix.agents if agent.loopback_ok and not agent.error}
    tries: dict[tuple[NodeKey, NodeKey], tuple[ProbeOutcome, str]] = {}
    for probe in matrix.probes:
        source, target = ends[probe.source], ends[probe.target]
        if probe.protocol is not ProbeProtocol.ICMP or not (source.on_host and target.on_host):
            continue
        # A target need not be well to answer: its kernel does.
        outcome = probe.outcome
        if outcome is not ProbeOutcome.OPEN and probe.source not in well:
            outcome = ProbeOutcome.INCONCLUSIVE
        tries[(source.region, source.node), (target.region, target.node)] = outcome, probe.detail
    nodes = planned_nodes(plan, inventory)
    wanted = [(a, b) for a in nodes for b in nodes if a.region != b.region]
    results = {
        ((a.region, a.name), (b.region, b.name)): tries.get(((a.region, a.name), (b.region, b.name))) for a, b in wanted
    }
    failed = [
        (source, (target, result[0]))
        for (source, target), result in results.items()
        if result is not None and result[0] not in (ProbeOutcome.OPEN, ProbeOutcome.INCONCLUSIVE)
    ]
    return conclude(
        expected="every node answers pings from every node of the other regions at its private address",
        examined=sum(result is not None for result in results.values()),
        what="ordered pairs of nodes of different regions",
        violations=[
            Finding(
                f"{name_nodes(sources, inventory)} -> {name_nodes(targets, inventory)}",
                "an answer to ping",
                OUTCOME_WORDS[outcome],
                "a route, a peering or a security group between the regions' networks; or the node itself",
            )
            for sources, targets, outcome in _grouped(failed)
        ],
        gaps=[
            *gap_findings([*inventory.gaps, *matrix.gaps]),
            *_untold_pairs(results, inventory, "a conclusive ping"),
        ],
        remedy="compare route tables, peerings and security groups of the two regions (NET-UNDR-003, -004)",
    )


def judge_private_paths(plan: Plan, underlay: Underlay) -> Verdict:
    """NET-UNDR-007: no hop between two regions has a public address, and each region's nodes are reached so."""
    told: defaultdict[tuple[str, str], list[Trace]] = defaultdict(list)
    for trace in underlay.traces:
        told[trace.source.region, trace.target.region].append(trace)
    wanted = [(a.name, b.name) for a, b in plan.ordered_pairs()]
    public: dict[tuple[str, str], dict[IPv4Address, Trace]] = defaultdict(dict)
    for pair in wanted:
        for trace in told[pair]:
            for hop in trace.hops:
                if hop is not None and not is_private(hop, plan):
                    public[pair].setdefault(hop, trace)
    return conclude(
        expected="traffic between regions keeps to private addresses, hop by hop",
        examined=sum(trace.reached for pair in wanted for trace in told[pair]),
        what="paths between nodes of different regions",
        violations=[
            Finding(
                f"{a} -> {b}",
                "private addresses all the way",
                f"{listed(hops)} on the way ({_path(next(iter(hops.values())))})",
                "a route table sends the other region's network to a gateway instead of the peering",
            )
            for (a, b), hops in public.items()
        ],
        gaps=[
            *_missing_traces(wanted, told),
            *(gap_findings(underlay.gaps) if not underlay.traces else ()),
        ],
    )


def is_private(address: IPv4Address, plan: Plan) -> bool:
    """Whether an address belongs to a planned network, or to those that the internet does not know."""
    planned = [network for region in plan.regions for network in (region.node_cidr, region.network) if network]
    return any(address in network for network in (*planned, *PRIVATE))


def _missing_traces(
    wanted: Iterable[tuple[str, str]], told: Mapping[tuple[str, str], Sequence[Trace]]
) -> Iterable[Finding]:
    for a, b in wanted:
        traces = told.get((a, b), ())
        if not any(trace.reached for trace in traces):
            last = _path(traces[0]) if traces else "none was traced"
            yield Finding(f"{a} -> {b}", "a path that leads to its end", last)


def _path(trace: Trace) -> str:
    hops = ", ".join("?" if hop is None else str(hop) for hop in trace.hops) or "no hop answered"
    return hops if trace.reached else f"{hops}, and no answer from {trace.target.address}"


def judge_reflector_ports(
    plan: Plan, inventory: Inventory, configuration: MeshConfiguration, routing: Routing, underlay: Underlay
) -> Verdict:
    """NET-UNDR-009: the BGP ports of route reflectors of different regions are open to each other.

    Where BGP is signed (RFC 2385), a kernel is silent to a peer's packets without a signature, and a knock bears none.
    There an answer to another node of the same region proves the port, and a session where there is no other node: one
    that is up outlives many a rule.
    """
    signed = {peering.region for peering in configuration.peerings if peering.authenticated}
    up = {(session.region, session.node, session.peer_address) for session in routing.sessions if session.established}
    mirrors = {(node.region, node.name) for region in plan.regions for node in reflectors(plan, inventory, region.name)}
    neighbours: defaultdict[tuple[str, IPv4Address], list[ProbeOutcome]] = defaultdict(list)
    for knock in underlay.knocks:
        if knock.door is Door.BGP and (knock.source.region, knock.source.node) not in mirrors:
            neighbours[knock.source.region, knock.target.address].append(knock.outcome)

    def amend(knocker: Knocker, outcome: ProbeOutcome) -> ProbeOutcome:
        source, target = knocker.source, knocker.target
        if outcome is not ProbeOutcome.DROPPED or not signed & {source.region, target.region}:
            return outcome
        if others := neighbours[source.region, target.address]:
            return ProbeOutcome.OPEN if PROVED & set(others) else outcome
        session = (source.region, source.node, target.address), (target.region, target.node, source.address)
        return ProbeOutcome.OPEN if up & set(session) else ProbeOutcome.INCONCLUSIVE

    return _judge_knocks(
        plan,
        inventory,
        underlay,
        lambda knocker: knocker.door is Door.BGP and (knocker.source.region, knocker.source.node) in mirrors,
        amend=amend,
        expected="route reflectors of different regions can open each other's BGP port",
        what="knocks between route reflectors of different regions",
        remedy="let TCP 179 in from the other regions' node subnets",
    )


def judge_mesh_ports(plan: Plan, inventory: Inventory, underlay: Underlay) -> Verdict:
    """NET-UNDR-011: every node can open the port of the mesh's control plane in the other regions."""
    return _judge_knocks(
        plan,
        inventory,
        underlay,
        lambda knocker: knocker.door is Door.MESH_STORE,
        expected="every node can open the port of the mesh's control plane in every other region",
        what="knocks at mesh control planes of other regions",
        remedy="let that port in from the other regions' node subnets",
    )


def judge_cluster_ports(plan: Plan, inventory: Inventory, underlay: Underlay) -> Verdict:
    """NET-UNDR-018: the ports that nodes of one cluster need of each other are open."""
    return _judge_knocks(
        plan,
        inventory,
        underlay,
        lambda knocker: knocker.door in CLUSTER_DOORS and knocker.source.region == knocker.target.region,
        expected="nodes of one cluster can open each other's ports: kubelet, API server, etcd, and those of the mesh",
        what="knocks between nodes of one cluster",
        remedy="let these ports in from the region's own node subnet",
    )


def _judge_knocks(
    plan: Plan,
    inventory: Inventory,
    underlay: Underlay,
    concerns: Callable[[Knocker], bool],
    *,
    expected: str,
    what: str,
    remedy: str,
    amend: Callable[[Knocker, ProbeOutcome], ProbeOutcome] = lambda _knocker, outcome: outcome,
) -> Verdict:
    """Compare the knocks that the inventory asks for with those that were made.

    Args:
        plan: the plan.
        inventory: what there is to knock at.
        underlay: the knocks.
        concerns: whether a knock is of the kind that is asked about.
        expected: the promise.
        what: what is counted.
        remedy: what to do.
        amend: from a knock and its outcome to what else is known of it.
    """
    made = {
        (knock.source.address, knock.target.address, knock.door, knock.port): (knock.outcome, knock.detail)
        for knock in underlay.knocks
    }
    results: dict[tuple[NodeKey, NodeKey, str], tuple[ProbeOutcome, str] | None] = {}
    for knocker in filter(concerns, plan_doors(plan, inventory).knockers):
        source, target = knocker.source, knocker.target
        key = (source.region, source.node), (target.region, target.node), f"{knocker.door.value}, {knocker.port}"
        result = made.get((source.address, target.address, knocker.door, knocker.port))
        results[key] = None if result is None else (amend(knocker, result[0]), result[1])
    failed: defaultdict[str, list[tuple[NodeKey, tuple[NodeKey, ProbeOutcome]]]] = defaultdict(list)
    for (start, end, port), result in results.items():
        if result is not None and result[0] not in PROVED and result[0] is not ProbeOutcome.INCONCLUSIVE:
            failed[port].append((start, (end, result[0])))
    refused = sum(result is not None and result[0] is ProbeOutcome.REFUSED for result in results.values())
    return conclude(
        expected=expected,
        examined=sum(result is not None for result in results.values()),
        what=what,
        violations=[
            Finding(
                f"{name_nodes(sources, inventory)} -> {name_nodes(targets, inventory)} ({port})",
                "an open port",
                OUTCOME_WORDS[outcome],
                "a security group, or a packet filter of the node, keeps it out",
            )
            for port, tries in failed.items()
            for sources, targets, outcome in _grouped(tries)
        ],
        gaps=[
            *gap_findings(inventory.gaps),
            *_untold_pairs({(a, b): result for (a, b, _port), result in results.items()}, inventory, "a knock"),
            *(gap_findings(underlay.gaps) if not underlay.knocks else ()),
        ],
        remedy=remedy,
        warnings=[f"{refused} of them were refused: packets come through, and nobody listens"] if refused else (),
    )


Result: TypeAlias = tuple[ProbeOutcome, str] | None
"""What came of a try, and what the instrument said; None when it was not made."""


def _grouped(
    failed: Iterable[tuple[NodeKey, tuple[NodeKey, ProbeOutcome]]],
) -> Iterator[tuple[frozenset[NodeKey], list[NodeKey], ProbeOutcome]]:
    """Tries that failed in the same way, those that started at the same nodes together."""
    for sources, things in together(failed):
        for outcome in dict.fromkeys(outcome for _target, outcome in things):
            yield sources, [target for target, other in things if other is outcome], outcome


def _untold_pairs(
    results: Mapping[tuple[NodeKey, NodeKey], Result], inventory: Inventory, what: str
) -> Iterator[Finding]:
    """Nodes from which nothing was tried, or in vain."""
    missing: dict[tuple[NodeKey, NodeKey], str] = {}
    for pair, result in results.items():
        if result is None:
            missing[pair] = "none was made"
        elif result[0] is ProbeOutcome.INCONCLUSIVE:
            missing[pair] = result[1] or "it was inconclusive"
    for sources, targets in together(missing):
        reason = next(missing[source, target] for source in sorted(sources) for target in targets)
        yield Finding(f"{name_nodes(sources, inventory)} -> {name_nodes(targets, inventory)}", what, reason)


# --- from outside ---------------------------------------------------------------------------------------------------


def judge_administration(plan: Plan, underlay: Underlay) -> Verdict:
    """NET-UNDR-012: the operator can open SSH and the Kubernetes API of every region."""
    knocks = [knock for knock in underlay.outside if knock.stand is Stand.OPERATOR]
    doors = {Door.SSH: "SSH", Door.API_SERVER: "the Kubernetes API"}
    told = {(knock.region, knock.door) for knock in knocks if knock.outcome is not ProbeOutcome.INCONCLUSIVE}
    reasons = {(knock.region, knock.door): knock.detail for knock in knocks}
    nobody = "nothing was tried from the operator's place" if not knocks else "nothing was tried there"
    return conclude(
        expected="the operator can open SSH and the Kubernetes API of every region",
        examined=len(knocks),
        what="knocks of the operator",
        violations=[
            Finding(
                f"{doors[knock.door]} of {_who(knock)} ({knock.address}:{knock.port})",
                "an open port",
                OUTCOME_WORDS[knock.outcome],
                "nothing listens there"
                if knock.outcome is ProbeOutcome.REFUSED
                else "a security group does not know the operator's address, or the way back is missing",
            )
            for knock in knocks
            if knock.outcome not in (ProbeOutcome.OPEN, ProbeOutcome.INCONCLUSIVE)
        ],
        gaps=[
            Finding(f"{region.name}: {name}", "to be tried by the operator", reasons.get((region.name, door), nobody))
            for region in plan.regions
            for door, name in doors.items()
            if (region.name, door) not in told
        ],
    )


def judge_closed_to_the_internet(underlay: Underlay, networks: Networks) -> Verdict:
    """NET-UNDR-014: tunnel, BGP, etcd and database ports stay closed to the internet.

    An address where the operator gets in proves that the internet leads there: only then is a silence a closed port.
    """
    expected = "tunnel, BGP, etcd and database ports stay closed to the internet"
    knocks = [knock for knock in underlay.outside if knock.stand is Stand.INTERNET]
    reached = {knock.address for knock in underlay.outside if knock.stand is Stand.OPERATOR and knock.outcome in PROVED}
    open_ports: dict[tuple[NodeKey, tuple[str, ProbeOutcome]], None] = {}
    unproved: dict[str, OutsideKnock] = {}
    for knock in knocks:
        if knock.outcome in PROVED:
            open_ports[(knock.region, knock.node), (f"{knock.door.value}, {knock.port}", knock.outcome)] = None
        elif knock.outcome is ProbeOutcome.INCONCLUSIVE or knock.address not in reached:
            unproved.setdefault(knock.address, knock)
    if not knocks and networks.instances and all(each.public_address is None for each in networks.instances):
        return not_applicable(expected, "no node has a public address")
    return conclude(
        expected=expected,
        examined=len(knocks),
        what="knocks from the internet",
        violations=[
            Finding(
                f"{listed(sorted(map(qualified, nodes)))}: {port}",
                "closed to the internet",
                "open" if outcome is ProbeOutcome.OPEN else "let in: nobody listens there now",
                "a security group lets the whole internet in",
            )
            for nodes, things in together(open_ports)
            for port, outcome in things
        ],
        gaps=[
            *(
                Finding(
                    f"{_who(knock)} ({address})",
                    "an address that the internet leads to, as the operator's knock would show",
                    knock.detail if knock.outcome is ProbeOutcome.INCONCLUSIVE else "nobody was answered there",
                )
                for address, knock in unproved.items()
            ),
            *(() if knocks else [Finding("the internet", "a place there to knock from", _why_not(underlay))]),
        ],
        remedy="limit the sources of these rules to the node subnets",
    )


def _why_not(underlay: Underlay) -> str:
    if Stand.INTERNET in underlay.stands:
        return "no public address of a node is known"
    return next((gap.error for gap in underlay.gaps if not gap.region), "there is none")


def _who(knock: OutsideKnock) -> str:
    return qualified((knock.region, knock.node)) if knock.node else knock.region


# --- settings, sizes, clocks ----------------------------------------------------------------------------------------


def judge_kernel_settings(plan: Plan, inventory: Inventory, underlay: Underlay) -> Verdict:
    """NET-UNDR-017: nodes forward, let packet filters see what bridges carry, and go on so after a reboot.

    Pods of Calico and Cilium are not on bridges, so a kernel without that module loses nothing.
    """
    told = {(setting.region, setting.node, setting.name): setting for setting in underlay.settings}
    violations: list[tuple[NodeKey, tuple[str, str, str]]] = []
    gaps = gap_findings(inventory.gaps)
    blind: list[NodeKey] = []
    examined = 0
    for node in planned_nodes(plan, inventory):
        key = (node.region, node.name)
        forward = told.get((*key, IP_FORWARD))
        if forward is None:
            gaps.append(node_gap(node, "its kernel settings", underlay.gaps))
            continue
        examined += 1
        violations += ((key, deviation) for deviation in _deviations(forward, told.get((*key, BRIDGE_FILTER))))
        if not forward.persistent_told:
            blind.append(key)
    if blind:
        gaps.append(Finding(name_nodes(blind, inventory), "files that set this at a reboot", "they could not be read"))
    return conclude(
        expected="nodes forward packets and will after a reboot",
        examined=examined,
        what="nodes",
        violations=[
            Finding(f"{name_nodes(nodes, inventory)}: {name}", wanted, seen, "a setting of the day, or an image's own")
            for nodes, things in together(violations)
            for name, wanted, seen in things
        ],
        gaps=gaps,
        remedy="write it to a file in /etc/sysctl.d, and run sysctl --system",
    )


def _deviations(forward: KernelSetting, bridge: KernelSetting | None) -> Iterator[tuple[str, str, str]]:
    """What is otherwise than it should be: the setting, what is wanted of it, what is there."""
    if forward.value != "1":
        yield IP_FORWARD, "1", forward.value or "not there"
    if forward.persistent_told and forward.persistent != "1":
        seen = "no file sets it" if forward.persistent is None else f"files set it to {forward.persistent}"
        yield IP_FORWARD, "1 after a reboot", seen
    if bridge is not None and bridge.value not in ("", "1"):
        yield BRIDGE_FILTER, "1, or no such module", bridge.value
    if bridge is not None and bridge.persistent_told and bridge.persistent not in (None, "1"):
        yield BRIDGE_FILTER, "1 after a reboot", f"files set it to {bridge.persistent}"


def judge_node_sizes(plan: Plan, inventory: Inventory) -> Verdict:
    """NET-UNDR-019: a database pod fits on every node that takes pods, next to what runs there."""
    expected = "a database pod fits on every node, next to the system pods"
    database = plan.database
    if database is None or (database.cpu is None and database.memory is None):
        return not_applicable(expected, "the plan does not say what a database pod asks for")
    used: defaultdict[NodeKey, list[Pod]] = defaultdict(list)
    for pod in inventory.pods:
        if pod.node and PROBE_LABEL not in pod.labels and not _is_database(pod, database):
            used[pod.region, pod.node].append(pod)
    violations: list[tuple[NodeKey, tuple[str, str]]] = []
    gaps = gap_findings(inventory.gaps)
    examined = 0
    for node in planned_nodes(plan, inventory):
        if not node.takes_pods:
            continue
        if node.cpu is None or node.memory is None:
            gaps.append(node_gap(node, "its size", inventory.gaps))
            continue
        examined += 1
        pods = used[node.region, node.name]
        cpu, memory = node.cpu - sum(pod.cpu for pod in pods), node.memory - sum(pod.memory for pod in pods)
        if (short := _shortage(database, cpu, memory)) is not None:
            violations.append(((node.region, node.name), short))
    return conclude(
        expected=expected,
        examined=examined,
        what="nodes",
        violations=[
            Finding(
                name_nodes(nodes, inventory),
                wanted,
                left,
                "the machines are smaller than the database's requests ask for: its pods stay Pending",
            )
            for nodes, things in together(violations)
            for wanted, left in things
        ],
        gaps=gaps,
        remedy="take larger machines, or ask for less in the database's StatefulSet",
    )


def _is_database(pod: Pod, database: DatabasePlan) -> bool:
    return pod.namespace == database.namespace(pod.region) and pod.name.startswith(f"{database.service}-")


def _shortage(database: DatabasePlan, cpu: int, memory: int) -> tuple[str, str] | None:
    """What is wanted and what is left, when that is not enough."""
    if database.cpu is not None and cpu < database.cpu:
        return f"{database.cpu} thousandths of a processor to spare", f"{max(0, cpu)} are left"
    if database.memory is not None and memory < database.memory:
        return f"{database.memory // MEBIBYTE} MiB to spare", f"{max(0, memory) // MEBIBYTE} MiB are left"
    return None


def judge_clocks(plan: Plan, inventory: Inventory, underlay: Underlay) -> Verdict:
    """NET-UNDR-020: the clocks of any two nodes differ by less than the budget.

    Each offset is known give or take an uncertainty; two clocks differ when they do so even if both are taken as near
    to each other as that allows, and agree when they do so taken as far apart.
    """
    budget = plan.budgets.clock_offset.total_seconds()
    told = {(clock.region, clock.node): clock for clock in underlay.clocks}
    nodes = planned_nodes(plan, inventory)
    clocks = [told[node.region, node.name] for node in nodes if (node.region, node.name) in told]
    middle = median(clock.offset for clock in clocks) if clocks else 0.0
    off: dict[NodeKey, ClockOffset] = {}
    unsure: dict[NodeKey, ClockOffset] = {}
    for a, b in combinations(clocks, 2):
        apart, give = abs(a.offset - b.offset), a.uncertainty + b.uncertainty
        if apart + give < budget:
            continue
        if apart - give >= budget:
            further = max(a, b, key=lambda clock: abs(clock.offset - middle))
            off[further.region, further.node] = further
        else:
            vaguer = max(a, b, key=lambda clock: clock.uncertainty)
            unsure[vaguer.region, vaguer.node] = vaguer
    limit = f"{budget * 1000:g} ms"
    return conclude(
        expected=f"the clocks of any two nodes differ by less than {limit}",
        examined=len(clocks),
        what="clocks",
        violations=[
            Finding(
                qualified(key),
                f"less than {limit} from every other node",
                f"{_lead(clock.offset - middle)} most nodes, give or take {clock.uncertainty * 1000:.0f} ms",
                "its time service does not run or follows another source",
            )
            for key, clock in off.items()
        ],
        gaps=[
            *gap_findings(inventory.gaps),
            *(
                Finding(
                    qualified(key), "an offset that tells", f"known only give or take {clock.uncertainty * 1000:.0f} ms"
                )
                for key, clock in unsure.items()
            ),
            *(node_gap(node, "its clock", underlay.gaps) for node in nodes if (node.region, node.name) not in told),
        ],
        remedy="look at the time service of that node (chronyc tracking, timedatectl)",
    )


def _lead(seconds: float) -> str:
    size = f"{abs(seconds):.2f} s" if abs(seconds) >= 1 else f"{abs(seconds) * 1000:.0f} ms"
    return f"{size} {'ahead of' if seconds > 0 else 'behind'}"


# --- a peering taken away -------------------------------------------------------------------------------------------


class Phase(str, Enum):
    """When a pair of regions was looked at."""

    BEFORE = "before"
    WITHOUT = "without the peering"
    AFTER = "after"


@dataclass(frozen=True)
class PairTrial:
    """Pings from a node of one region to a node of another, in one of the phases."""

    phase: Phase
    source: str
    target: str
    outcome: ProbeOutcome
    detail: str = ""


@dataclass(frozen=True)
class PeeringLoss:
    """A peering that was taken away and given back, and what was seen of it.

    Attributes:
        a: one of the two regions.
        b: the other.
    """

    a: str
    b: str
    trials: tuple[PairTrial, ...]
    gaps: tuple[Gap, ...] = ()


def judge_peering_lost(plan: Plan, loss: PeeringLoss) -> Verdict:
    """NET-UNDR-008: without its peering, exactly that pair of regions is cut on the underlay."""
    cut = {(loss.a, loss.b), (loss.b, loss.a)}
    told = {(trial.phase, trial.source, trial.target): trial for trial in loss.trials}
    violations: list[Finding] = []
    gaps = gap_findings(loss.gaps)
    for phase in Phase:
        for a, b in plan.ordered_pairs():
            pair, subject = (a.name, b.name), f"{a.name} -> {b.name}, {phase.value}"
            trial = told.get((phase, *pair))
            if trial is None or trial.outcome is ProbeOutcome.INCONCLUSIVE:
                gaps.append(Finding(subject, "a conclusive ping", trial.detail if trial else "none was sent"))
                continue
            answered = trial.outcome is ProbeOutcome.OPEN
            wanted = phase is not Phase.WITHOUT or pair not in cut
            if answered == wanted:
                continue
            if phase is Phase.BEFORE:
                gaps.append(Finding(subject, "an answer, or nothing is shown by losing it", "no answer"))
            elif answered:
                cause = "their traffic takes another way than the peering: a gateway, or a third region"
                violations.append(Finding(subject, "no answer", "an answer", cause))
            else:
                cause = (
                    "the pair does not come back with its peering"
                    if phase is Phase.AFTER
                    else "its traffic leads through the peering of another pair"
                )
                violations.append(Finding(subject, "an answer", "no answer", cause))
    return conclude(
        expected=f"without the peering of {loss.a} and {loss.b}, that pair is cut on the underlay and no other",
        examined=len(loss.trials),
        what="pings between regions",
        violations=violations,
        gaps=gaps,
    )
