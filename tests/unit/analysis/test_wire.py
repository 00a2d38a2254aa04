"""What is judged of the wire: made-up captures and packets, whole and with one thing wrong."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from analysis.facts import (
    Capture,
    CapturedPacket,
    Endpoint,
    Gap,
    HandMadePacket,
    Inventory,
    Node,
    OnTheWire,
    Sender,
    TunnelEnd,
)
from analysis.plan import Encapsulation
from analysis.verdict import Outcome
from analysis.wire import (
    judge_encapsulated,
    judge_no_bare_pods,
    judge_strangers_refused,
    judge_tunnel_passes,
    pcap_files,
)
from provision.lab.topology import aws_calico

LAB = aws_calico("wire", regions=2, nodes=2)
PLAN = LAB.plan
A, B = LAB.regions[0].nodes[1], LAB.regions[1].nodes[1]
STRANGER = "the internet"
HEADER = bytes(24)


def pod(node):
    return Endpoint(node.region, node.name, f"probe-{node.alias}", node.block[3])


def inventory():
    return Inventory(
        tuple(Node(node.region, node.name, node.address, ready=True) for node in LAB.nodes), pods=(), services=()
    )


def seen(source, target, **changes):
    """The packet of a marked probe from the pod of one node to that of another."""
    packet = CapturedPacket(
        outer_source=source.address,
        outer_destination=target.address,
        protocol=17,
        port=4789,
        vni=4096,
        dont_fragment=False,
        inner_source=pod(source).address,
        inner_destination=pod(target).address,
        length=91,
    )
    return replace(packet, **changes)


def bare(source, target, **changes):
    """The same without a tunnel."""
    addresses = {"outer_source": pod(source).address, "outer_destination": pod(target).address}
    return seen(source, target, **addresses, port=20257, vni=None, inner_source=None, inner_destination=None, **changes)


def captured(node, source=A, target=B, *, there=None, back=None, answered=True, extra=()):
    """What one place saw of a probe and of its answer."""
    marked = [packet for packet in (there or seen(source, target), back or seen(target, source)) if packet != "lost"]
    return Capture(
        region=node.region,
        place=node.name,
        interface="eth0",
        source=pod(source),
        target=pod(target),
        answered=answered,
        control_seen=bool(marked),
        packets=(*marked, *extra),
        pcap=b64encode(HEADER + node.name.encode()).decode(),
    )


def thrown(sender, node, arrived=True, reached=True, address=None):
    mesh = sender != STRANGER
    return HandMadePacket(
        sender=Sender.MESH_NODE if mesh else Sender.STRANGER,
        from_region=sender.region if mesh else "",
        from_place=sender.name if mesh else sender,
        from_address=str(sender.address) if mesh else "198.51.100.66",
        region=node.region,
        node=node.name,
        address=address or node.address,
        arrived=arrived,
        reached=reached,
    )


def wire(**changes):
    """All as planned."""
    facts = OnTheWire(
        tunnels=tuple(
            TunnelEnd(node.region, node.name, "vxlan.calico", "vxlan", 4789, 4096, node.tunnel_mac)
            for node in LAB.nodes
        ),
        captures=(captured(A), captured(B)),
        hand_made=(
            *(thrown(a, b) for a in LAB.nodes for b in LAB.nodes if a != b),
            *(thrown(STRANGER, node, False, False, node.public_address) for node in LAB.nodes),
        ),
        strangers=(STRANGER,),
    )
    return replace(facts, **changes)


def verdicts(facts, plan=PLAN):
    return {
        "NET-MTU-004": judge_encapsulated(plan, inventory(), facts),
        "NET-MTU-005": judge_no_bare_pods(plan, facts),
        "NET-MTU-009": judge_strangers_refused(plan, facts),
        "NET-UNDR-010": judge_tunnel_passes(plan, inventory(), facts),
    }


def outcomes(facts, plan=PLAN):
    return {requirement: verdict.outcome for requirement, verdict in verdicts(facts, plan).items()}


def turned(facts, outcome):
    """The requirements with that outcome; all others must be met."""
    told = outcomes(facts)
    assert set(told.values()) <= {outcome, Outcome.MET}
    return {requirement for requirement, each in told.items() if each is outcome}


def violated(facts):
    return turned(facts, Outcome.VIOLATED)


def inconclusive(facts):
    return turned(facts, Outcome.INCONCLUSIVE)


def test_all_is_met_when_all_is_as_planned():
    assert set(outcomes(wire()).values()) == {Outcome.MET}


def test_nothing_applies_where_nothing_is_encapsulated():
    plan = replace(PLAN, encapsulation=Encapsulation.NONE)
    assert set(outcomes(OnTheWire(), plan).values()) == {Outcome.NOT_APPLICABLE}


def test_packets_that_may_not_be_made_are_not_missed():
    told = outcomes(wire(hand_made=(), unsent="no raw sockets"))
    assert {each for each, outcome in told.items() if outcome is Outcome.NOT_APPLICABLE} == {
        "NET-MTU-009",
        "NET-UNDR-010",
    }


def test_no_facts_prove_nothing():
    assert set(outcomes(OnTheWire()).values()) == {Outcome.INCONCLUSIVE}


# --- what is captured -----------------------------------------------------------------------------------------------


def test_a_bare_packet_breaks_both_promises_and_its_direction_is_named():
    facts = wire(captures=(captured(A, there=bare(A, B)), captured(B, there=bare(A, B))))
    assert violated(facts) == {"NET-MTU-004", "NET-MTU-005"}
    (finding,) = verdicts(facts)["NET-MTU-004"].findings
    assert finding.subject == f"{A.name} -> {B.name}"
    assert "not encapsulated" in finding.observed


def test_somebody_elses_bare_packet_is_not_held_against_the_probes():
    stray = bare(B, A, protocol=6, marked=False)
    facts = wire(captures=(captured(A, extra=(stray,)), captured(B)))
    assert violated(facts) == {"NET-MTU-005"}
    (finding,) = verdicts(facts)["NET-MTU-005"].findings
    assert finding.subject == A.name
    assert f"{pod(B).address} -> {pod(A).address} (TCP)" in finding.observed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"vni": 4097}, "network identifier 4097, where the receiver's tunnel takes 4096", id="identifier"),
        pytest.param({"port": 8472}, "UDP port 8472, where the receiver's tunnel listens at 4789", id="port"),
        pytest.param({"protocol": 4, "port": None, "vni": None}, "encapsulated with IP-in-IP", id="protocol"),
        pytest.param({"outer_source": IPv4Address("203.0.113.7")}, "outside 203.0.113.7 -> ", id="outer address"),
    ],
)
def test_a_tunnel_that_is_not_as_planned_is_found(change, words):
    facts = wire(captures=(captured(A, there=seen(A, B, **change)), captured(B)))
    assert violated(facts) == {"NET-MTU-004"}
    (finding,) = verdicts(facts)["NET-MTU-004"].findings
    assert words in finding.observed


def test_an_end_that_takes_any_identifier_takes_any():
    facts = wire()
    ends = tuple(replace(end, vni=None) for end in facts.tunnels)
    captures = (captured(A, there=seen(A, B, vni=7)), captured(B))
    assert not violated(replace(facts, tunnels=ends, captures=captures))


def test_ip_in_ip_has_neither_port_nor_identifier():
    plan = replace(PLAN, encapsulation=Encapsulation.IPIP)
    header = {"protocol": 4, "port": None, "vni": None}
    ends = tuple(replace(end, kind="ipip", port=None, vni=None) for end in wire().tunnels)
    captures = tuple(captured(node, there=seen(A, B, **header), back=seen(B, A, **header)) for node in (A, B))
    assert judge_encapsulated(plan, inventory(), wire(tunnels=ends, captures=captures)).outcome is Outcome.MET


def test_a_capture_that_missed_what_was_answered_proves_nothing():
    facts = wire(captures=(captured(A, there="lost", back="lost"), captured(B)))
    assert inconclusive(facts) == {"NET-MTU-004", "NET-MTU-005"}


def test_a_probe_that_was_lost_says_nothing_while_others_go_the_same_way():
    lost = captured(A, there="lost", back="lost", answered=False)
    assert not inconclusive(wire(captures=(*wire().captures, lost)))


def test_a_direction_of_which_nothing_was_captured_is_open():
    facts = wire(captures=(captured(A, back="lost"),))
    assert inconclusive(facts) == {"NET-MTU-004", "NET-MTU-005"}
    assert verdicts(facts)["NET-MTU-005"].findings[0].subject == f"{B.region} -> {A.region}"


def test_a_place_that_could_not_capture_leaves_the_captures_open_and_nothing_else():
    gap = Gap(A.region, f"node {A.name}: capture", "Operation not permitted", ("captures",))
    assert inconclusive(wire(gaps=(gap,))) == {"NET-MTU-004", "NET-MTU-005"}


def test_captures_become_a_file_for_each_place():
    files = pcap_files((captured(A), captured(B), captured(A)))
    assert files == {
        f"{A.name}.pcap": HEADER + 2 * A.name.encode(),
        f"{B.name}.pcap": HEADER + B.name.encode(),
    }


# --- packets made by hand -------------------------------------------------------------------------------------------


def with_throw(changed):
    kept = [
        each
        for each in wire().hand_made
        if (each.from_place, each.node, each.address) != (changed.from_place, changed.node, changed.address)
    ]
    return wire(hand_made=(*kept, changed))


def test_a_packet_that_is_lost_between_two_nodes_names_them():
    facts = with_throw(thrown(A, B, False, False))
    assert violated(facts) == {"NET-UNDR-010"}
    (finding,) = verdicts(facts)["NET-UNDR-010"].findings
    assert finding.subject == f"{A.name} -> {B.name}"


def test_a_packet_that_its_node_drops_has_passed():
    facts = with_throw(thrown(A, B, False, True))
    assert not violated(facts)
    assert f"{A.name} -> {B.name}" in verdicts(facts)["NET-UNDR-010"].warnings[0]


def test_where_nobody_captures_only_arriving_counts():
    assert violated(with_throw(thrown(A, B, False, None))) == {"NET-UNDR-010"}


def test_one_of_two_packets_is_no_answer():
    assert inconclusive(with_throw(thrown(A, B, None, None))) == {"NET-UNDR-010"}


def test_when_no_packet_comes_anywhere_the_instrument_is_doubted():
    facts = wire(hand_made=tuple(replace(each, arrived=False, reached=False) for each in wire().hand_made))
    assert inconclusive(facts) == {"NET-MTU-009", "NET-UNDR-010"}


def test_a_node_that_nothing_was_sent_to_is_told():
    facts = wire(hand_made=tuple(each for each in wire().hand_made if B.name not in (each.node, each.from_place)))
    assert inconclusive(facts) == {"NET-UNDR-010"}


def test_a_strangers_packet_that_comes_to_a_pod_is_a_violation_with_the_way_it_took():
    facts = with_throw(thrown(STRANGER, B, True, True, B.public_address))
    assert violated(facts) == {"NET-MTU-009"}
    (finding,) = verdicts(facts)["NET-MTU-009"].findings
    assert str(B.public_address) in finding.observed


def test_silence_from_a_stranger_counts_only_where_nodes_are_heard():
    deaf = tuple(
        replace(each, arrived=False) if each.sender is Sender.MESH_NODE and each.node == B.name else each
        for each in wire().hand_made
    )
    assert "NET-MTU-009" in inconclusive(wire(hand_made=deaf))


def test_a_node_that_no_stranger_could_send_to_is_open():
    facts = wire(hand_made=tuple(each for each in wire().hand_made if each.sender is Sender.MESH_NODE))
    assert inconclusive(facts) == {"NET-MTU-009"}


def test_a_stranger_that_could_not_send_leaves_the_tunnel_between_nodes_alone():
    gap = Gap("", "the internet: packets made by hand", "no python3 there", ("strangers",))
    assert inconclusive(wire(gaps=(gap,))) == {"NET-MTU-009"}
