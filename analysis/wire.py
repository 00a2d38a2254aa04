"""What is on the wire: packets between clusters are encapsulated as planned, and nobody else's are taken in.

Captures speak by the packets in them: one that did not catch what must have gone by proves nothing, and neither does
one where nothing went by. What a stranger sent counts as refused only where a node's packet of the very same form came
to the same pod before and after.
"""

from __future__ import annotations

from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address

from analysis.facts import (
    Capture,
    CapturedPacket,
    Endpoint,
    HandMadePacket,
    Inventory,
    OnTheWire,
    Sender,
    TunnelEnd,
)
from analysis.plan import Encapsulation, Plan
from analysis.verdict import Finding, Verdict, conclude, not_applicable
from analysis.words import NodeKey, gap_findings, listed, name_nodes, qualified

PROTOCOLS = {Encapsulation.IPIP: 4, Encapsulation.VXLAN: 17, Encapsulation.GENEVE: 17}
PROTOCOL_WORDS = {1: "ICMP", 4: "IP-in-IP", 6: "TCP", 17: "UDP"}
WORDS = {Encapsulation.IPIP: "IP-in-IP", Encapsulation.VXLAN: "VXLAN", Encapsulation.GENEVE: "Geneve"}
PCAP_HEADER_BYTES = 24
NOTHING_ENCAPSULATED = "the plan is to encapsulate nothing"


def judge_encapsulated(plan: Plan, inventory: Inventory, wire: OnTheWire) -> Verdict:
    """NET-MTU-004: what goes between clusters is encapsulated as planned, from one node's address to the other's."""
    encapsulation = plan.encapsulation
    if encapsulation is Encapsulation.NONE:
        return not_applicable("packets between clusters are encapsulated", NOTHING_ENCAPSULATED)
    nodes = {(node.region, node.name): node.internal_ip for node in inventory.nodes}
    ends: defaultdict[NodeKey, list[TunnelEnd]] = defaultdict(list)
    for end in wire.tunnels:
        ends[end.region, end.node].append(end)
    wrong: defaultdict[str, set[tuple[NodeKey, NodeKey]]] = defaultdict(set)
    examined = 0
    for capture in wire.captures:
        for packet in capture.packets:
            if not packet.marked:
                continue
            examined += 1
            source, target = _direction(capture, packet)
            for text in _deviations(encapsulation, packet, nodes.get(source), nodes.get(target), ends[target]):
                wrong[text].add((source, target))
    return conclude(
        expected=f"packets between clusters are encapsulated with {WORDS[encapsulation]}, node addresses outside",
        examined=examined,
        what="captured packets between clusters",
        violations=[
            Finding(
                f"{name_nodes({a for a, _ in pairs}, inventory)} -> {name_nodes({b for _, b in pairs}, inventory)}",
                f"{WORDS[encapsulation]} from node to node",
                text,
                "a route of the sending node leads past the tunnel" if text.startswith("bare") else None,
            )
            for text, pairs in wrong.items()
        ],
        gaps=[*gap_findings(wire.gaps, "captures", "tunnels"), *_blind(wire), *_undirected(plan, wire)],
    )


def judge_no_bare_pods(plan: Plan, wire: OnTheWire) -> Verdict:
    """NET-MTU-005: no packet on the underlay bears a pod's address outside."""
    expected = "no packet on the underlay bears a pod's address outside"
    if plan.encapsulation is Encapsulation.NONE:
        return not_applicable(expected, NOTHING_ENCAPSULATED)
    ranges = [region.pod_cidr for region in plan.regions]
    bare: defaultdict[NodeKey, dict[str, None]] = defaultdict(dict)
    for capture in wire.captures:
        for packet in capture.packets:
            outer = packet.outer_source, packet.outer_destination
            if any(address in network for address in outer for network in ranges):
                words = PROTOCOL_WORDS.get(packet.protocol, f"protocol {packet.protocol}")
                bare[capture.region, capture.place][f"{outer[0]} -> {outer[1]} ({words})"] = None
    return conclude(
        expected=expected,
        examined=sum(len(capture.packets) for capture in wire.captures),
        what="captured packets",
        violations=[
            Finding(
                qualified(place),
                "node addresses outside",
                f"went by bare: {listed(packets)}",
                "a route leads these packets past the tunnel, or a node sends its pods' packets out unmasqueraded",
            )
            for place, packets in bare.items()
        ],
        gaps=[*gap_findings(wire.gaps, "captures"), *_blind(wire), *_undirected(plan, wire)],
    )


def judge_strangers_refused(plan: Plan, wire: OnTheWire) -> Verdict:
    """NET-MTU-009: what a host that is no part of the mesh encapsulates does not come to any pod."""
    expected = "tunnel packets from hosts that are not nodes of the mesh are dropped"
    if plan.encapsulation is Encapsulation.NONE:
        return not_applicable(expected, NOTHING_ENCAPSULATED)
    if wire.unsent:
        return not_applicable(expected, wire.unsent)
    from_nodes = _by_target(each for each in wire.hand_made if each.sender is Sender.MESH_NODE)
    strange = [each for each in wire.hand_made if each.sender is Sender.STRANGER]
    violations: defaultdict[str, list[HandMadePacket]] = defaultdict(list)
    gaps = []
    for each in strange:
        node = qualified((each.region, each.node))
        if each.arrived:
            violations[each.from_place].append(each)
        elif each.arrived is None:
            gaps.append(Finding(f"{each.from_place} -> {node}", "to see whether it came", each.detail or "not told"))
        elif not any(control.arrived for control in from_nodes.get((each.region, each.node), ())):
            gaps.append(
                Finding(
                    f"{each.from_place} -> {node}",
                    "packets of nodes to come where the stranger's does not",
                    "no node's came either",
                )
            )
    tried = {(each.region, each.node) for each in strange}
    gaps += [
        Finding(f"outside -> {qualified(node)}", "an address that a stranger can send to", "there is none")
        for node in from_nodes
        if node not in tried
    ]
    return conclude(
        expected=expected,
        examined=len(strange),
        what="addresses of nodes, tried from outside",
        violations=[
            Finding(
                f"{stranger} -> {listed(sorted({qualified((each.region, each.node)) for each in came}))}",
                "its encapsulated packets to be dropped",
                f"they came to the pods, by {listed(sorted({str(each.address) for each in came}))}",
                "security groups let the tunnel's protocol in from anywhere, and the nodes take it from anybody",
            )
            for stranger, came in violations.items()
        ],
        gaps=[*gap_findings(wire.gaps, "hand_made", "strangers"), *gaps],
    )


def judge_tunnel_passes(plan: Plan, inventory: Inventory, wire: OnTheWire) -> Verdict:
    """NET-UNDR-010: the packets of the encapsulation pass from every node to every other."""
    expected = "what a node encapsulates for another comes there, between any two nodes"
    if plan.encapsulation is Encapsulation.NONE:
        return not_applicable(expected, NOTHING_ENCAPSULATED)
    if wire.unsent:
        return not_applicable(expected, wire.unsent)
    sent = [each for each in wire.hand_made if each.sender is Sender.MESH_NODE]
    lost = [each for each in sent if each.arrived is False and not each.reached]
    dropped = [each for each in sent if each.arrived is False and each.reached]
    # Where none at all has come, it is rather the instrument that fails.
    believed = any(each.arrived or each.reached for each in sent)
    findings = [
        Finding(
            f"{name_nodes(sources, inventory)} -> {name_nodes(targets, inventory)}",
            f"{WORDS[plan.encapsulation]} packets to pass",
            "they were lost on the way",
            "a security group or a packet filter on the way does not let the tunnel's protocol through",
        )
        for sources, targets in _groups(lost)
    ]
    seen = {(each.from_region, each.from_place) for each in sent} | {(each.region, each.node) for each in sent}
    return conclude(
        expected=expected,
        examined=len(sent),
        what="ordered pairs of nodes",
        violations=findings if believed else (),
        gaps=[
            *gap_findings(wire.gaps, "hand_made"),
            *(() if believed else findings),
            *(
                Finding(
                    f"{qualified((each.from_region, each.from_place))} -> {qualified((each.region, each.node))}",
                    "to see whether packets pass",
                    each.detail or "not told",
                )
                for each in sent
                if each.arrived is None
            ),
            *(
                Finding(f"node {qualified(node)}", "packets to and from it", "none were sent")
                for node in _planned(plan, inventory)
                if node not in seen
            ),
        ],
        warnings=[
            f"{name_nodes(sources, inventory)} -> {name_nodes(targets, inventory)}: they arrive, and are dropped there"
            for sources, targets in _groups(dropped)
        ],
    )


def pcap_files(captures: Iterable[Capture]) -> dict[str, bytes]:
    """What was captured as pcap files, one for each place, by their names."""
    files: dict[str, bytes] = {}
    for capture in captures:
        if capture.pcap:
            name = f"{qualified((capture.region, capture.place)).replace('/', '-')}.pcap"
            content = b64decode(capture.pcap)
            files[name] = files[name] + content[PCAP_HEADER_BYTES:] if name in files else content
    return files


def _direction(capture: Capture, packet: CapturedPacket) -> tuple[NodeKey, NodeKey]:
    """The nodes that a marked packet goes between: it is the probe, or the answer to it."""
    forward = capture.target.address in (packet.inner_destination, packet.outer_destination)
    ends = (capture.source, capture.target) if forward else (capture.target, capture.source)
    return _node(ends[0]), _node(ends[1])


def _deviations(
    encapsulation: Encapsulation,
    packet: CapturedPacket,
    source: IPv4Address | None,
    target: IPv4Address | None,
    ends: list[TunnelEnd],
) -> Iterator[str]:
    """What is not as planned with a packet from the node with that address to the one with those tunnel ends."""
    if packet.inner_destination is None:
        words = PROTOCOL_WORDS.get(packet.protocol, f"protocol {packet.protocol}")
        yield f"bare: {words}, not encapsulated"
        return
    if packet.protocol != PROTOCOLS[encapsulation]:
        yield f"encapsulated with {PROTOCOL_WORDS.get(packet.protocol, f'protocol {packet.protocol}')}"
        return
    if ends and packet.port not in {end.port for end in ends}:
        yield f"UDP port {packet.port}, where the receiver's tunnel listens at {ends[0].port}"
    elif ends and not any(end.port == packet.port and end.vni in (None, packet.vni) for end in ends):
        yield f"network identifier {packet.vni}, where the receiver's tunnel takes {ends[0].vni}"
    if None not in (source, target) and (packet.outer_source, packet.outer_destination) != (source, target):
        yield f"outside {packet.outer_source} -> {packet.outer_destination}, where the nodes are {source} -> {target}"


def _blind(wire: OnTheWire) -> Iterator[Finding]:
    """Captures that did not see what must have gone by."""
    for capture in wire.captures:
        if capture.answered and not capture.control_seen:
            ends = f"{capture.source.address} -> {capture.target.address}"
            yield Finding(
                f"{qualified((capture.region, capture.place))}, {capture.interface or 'no interface'}",
                f"the probe {ends} to be captured, which was answered",
                "it was not",
            )


def _undirected(plan: Plan, wire: OnTheWire) -> Iterator[Finding]:
    """Directions in which nothing marked was captured at all."""
    seen = {
        (source[0], target[0])
        for capture in wire.captures
        for packet in capture.packets
        if packet.marked
        for source, target in [_direction(capture, packet)]
    }
    for a, b in plan.ordered_pairs():
        if (a.name, b.name) not in seen:
            yield Finding(f"{a.name} -> {b.name}", "marked packets to be captured", "none were")


def _groups(packets: Iterable[HandMadePacket]) -> list[tuple[set[NodeKey], set[NodeKey]]]:
    """Senders and receivers: senders of packets to the very same nodes stand together."""
    targets: defaultdict[NodeKey, set[NodeKey]] = defaultdict(set)
    for each in packets:
        targets[each.from_region, each.from_place].add((each.region, each.node))
    groups: defaultdict[frozenset[NodeKey], set[NodeKey]] = defaultdict(set)
    for source, group in targets.items():
        groups[frozenset(group)].add(source)
    return [(sources, set(group)) for group, sources in groups.items()]


def _by_target(packets: Iterable[HandMadePacket]) -> Mapping[NodeKey, list[HandMadePacket]]:
    found: defaultdict[NodeKey, list[HandMadePacket]] = defaultdict(list)
    for each in packets:
        found[each.region, each.node].append(each)
    return found


def _planned(plan: Plan, inventory: Inventory) -> list[NodeKey]:
    regions = {region.name for region in plan.regions}
    return [(node.region, node.name) for node in inventory.nodes if node.region in regions]


def _node(endpoint: Endpoint) -> NodeKey:
    return endpoint.region, endpoint.node
