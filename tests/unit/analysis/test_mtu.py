"""Packet sizes as facts: what leaves room, what comes through, what vanishes, and what is set up alike."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from analysis.facts import BulkTransfer, Endpoint, Gap, Mtu, PathMtu, Pool, Refusal
from analysis.mtu import (
    judge_bulk_transfers,
    judge_equal_mtu,
    judge_exact_size,
    judge_no_flannel,
    judge_no_ipip,
    judge_room_for_header,
    judge_same_encapsulation,
)
from analysis.plan import Encapsulation, UnderlayPlan
from analysis.verdict import Outcome
from tests.unit.analysis.world import gone, perfect

WORLD = perfect()
PLAN, INVENTORY = WORLD.plan, WORLD.inventory
ENDS = [end for end in WORLD.reachability.endpoints if end.region != "us-west-1"]
TWO = replace(PLAN, regions=PLAN.regions[:2])


def path(source: Endpoint, target: Endpoint) -> PathMtu:
    size = 1500 if source.on_host else 1450
    return PathMtu(source, target, size, None, size, size + 1, Refusal.LOCAL, reported=size, segment=size - 52)


def transfer(source: Endpoint, target: Endpoint) -> BulkTransfer:
    return BulkTransfer(source, target, PLAN.bulk_bytes, PLAN.bulk_bytes, 0.4, 0.02, 0)


def sizes(change=lambda one: one, where=lambda one: True) -> Mtu:
    """Facts of two regions, in which `change` was applied to the paths that `where` picks."""
    paths = [path(a, b) for a in ENDS for b in ENDS if a.region != b.region and a.on_host == b.on_host]
    assert any(map(where, paths))
    changed = [change(one) if where(one) else one for one in paths]
    pods = {end.region: end for end in ENDS if not end.on_host}
    transfers = [transfer(a, b) for a in pods.values() for b in pods.values() if a != b]
    return Mtu(tuple(one for one in changed if one is not None), tuple(transfers))


def between_pods(one):
    return not one.source.on_host


def between_nodes(one):
    return one.source.on_host


def east_to_ohio(one):
    return one.source.region == "us-east-1"


def narrowed(size, refusal=Refusal.FRAGMENTATION_NEEDED):
    named = {"refused_by": IPv4Address("10.0.1.1"), "reported": size} if refusal is not Refusal.SILENCE else {}
    return lambda one: replace(one, largest=size, refused=size + 1, refusal=refusal, **named)


def gone_by(size):
    """Pods that go by that MTU, on a path that takes all of it."""
    return lambda one: replace(one, interface_mtu=size, largest=size, refused=size + 1)


def on(cloud, path_mtu):
    return replace(TWO, underlay=UnderlayPlan(cloud=cloud, path_mtu=path_mtu))


# --- NET-MTU-001 ----------------------------------------------------------------------------------------------------


def test_pods_that_leave_room_for_the_header_are_met():
    verdict = judge_room_for_header(TWO, sizes())
    assert (verdict.outcome, verdict.warnings) == (Outcome.MET, ())


def test_pods_of_the_underlays_own_size_leave_no_room():
    verdict = judge_room_for_header(TWO, sizes(gone_by(1500), lambda one: between_pods(one) and east_to_ohio(one)))
    assert verdict.outcome is Outcome.VIOLATED
    (finding,) = verdict.findings
    assert finding.subject == "us-east-1 -> us-east-2"
    assert "1450" in finding.expected
    assert "1500" in finding.observed


def test_a_narrow_hop_counts_though_the_plan_knows_nothing_of_it():
    verdict = judge_room_for_header(TWO, sizes(narrowed(1400), between_nodes))
    assert verdict.outcome is Outcome.VIOLATED
    assert "1350" in verdict.findings[0].expected
    assert "10.0.1.1, which takes 1400" in verdict.findings[0].cause


def test_a_black_hole_between_nodes_is_called_one():
    verdict = judge_room_for_header(TWO, sizes(narrowed(1400, Refusal.SILENCE), between_nodes))
    assert verdict.outcome is Outcome.VIOLATED
    assert "from 1401 on all vanish without a word: a black hole" in verdict.findings[0].cause


def jumbo(pods):
    """Nodes whose devices take 9001 bytes, as they are on AWS, and pods that go by that MTU; 8500 get across."""
    facts = sizes(gone_by(pods), between_pods)
    nodes = [replace(narrowed(8500)(one), interface_mtu=9001) if one.source.on_host else one for one in facts.paths]
    return replace(facts, paths=tuple(nodes))


def test_pods_on_aws_may_not_fill_their_nodes_devices():
    ipip = replace(on("aws", 9001), encapsulation=Encapsulation.IPIP)
    verdict = judge_room_for_header(ipip, jumbo(pods=8981))
    assert verdict.outcome is Outcome.VIOLATED
    assert "at most 8480" in verdict.findings[0].expected
    assert judge_room_for_header(ipip, jumbo(pods=8480)).outcome is Outcome.MET


def test_the_clouds_limit_counts_where_nobody_could_measure():
    verdict = judge_room_for_header(on("aws", 9001), sizes(gone_by(8951), between_pods))
    assert verdict.outcome is Outcome.VIOLATED
    assert "1450" in verdict.findings[0].expected  # measured between nodes: less than either
    unmeasured = [one for one in sizes(gone_by(8951), between_pods).paths if not one.source.on_host]
    verdict = judge_room_for_header(on("aws", 9001), Mtu(tuple(unmeasured)))
    assert "8500" in verdict.findings[0].cause
    assert any("not measured" in remark for remark in verdict.warnings)


def test_an_azure_route_that_says_1450_is_what_pods_go_by():
    cilium = sizes(lambda one: replace(one, interface_mtu=1500, route_mtu=1450), between_pods)
    assert judge_room_for_header(on("azure", 1500), cilium).outcome is Outcome.MET


@pytest.mark.parametrize(
    "facts",
    [
        Mtu(),
        sizes(gone, lambda one: between_pods(one) and east_to_ohio(one)),
        sizes(lambda one: replace(one, interface_mtu=None, largest=None), between_pods),
        sizes(lambda one: replace(one, largest=None, refused=None, refusal=None), between_nodes),
        replace(sizes(), gaps=(Gap("us-east-1", "path MTU", "no probe pod runs there"),)),
    ],
)
def test_room_that_is_not_known_is_not_met(facts):
    assert judge_room_for_header(TWO, facts).outcome is Outcome.INCONCLUSIVE


# --- NET-MTU-002 ----------------------------------------------------------------------------------------------------


def test_exactly_the_pod_mtu_passes():
    verdict = judge_exact_size(TWO, sizes())
    assert (verdict.outcome, verdict.warnings) == (Outcome.MET, ())


def test_packets_that_vanish_are_a_black_hole_with_its_sizes():
    facts = sizes(narrowed(1350, Refusal.SILENCE), lambda one: between_pods(one) and east_to_ohio(one))
    verdict = judge_exact_size(TWO, facts)
    assert verdict.outcome is Outcome.VIOLATED
    (finding,) = verdict.findings
    assert finding.subject == "us-east-1 -> us-east-2"
    assert finding.observed == "1350 bytes pass, and from 1351 on all vanish without a word: a black hole"
    assert "type 3, code 4" in finding.cause


def test_a_black_hole_over_a_narrow_underlay_is_explained_by_it():
    facts = sizes(narrowed(1350, Refusal.SILENCE), between_pods)
    nodes = tuple(narrowed(1400)(one) if one.source.on_host else one for one in facts.paths)
    verdict = judge_exact_size(TWO, replace(facts, paths=nodes))
    assert "must not be fragmented (DF)" in verdict.findings[0].cause


def test_a_refusal_below_the_pod_mtu_names_who_refuses():
    verdict = judge_exact_size(TWO, sizes(narrowed(1350), between_pods))
    assert verdict.outcome is Outcome.VIOLATED
    assert "refused by 10.0.1.1, which takes 1350" in verdict.findings[0].observed


def test_a_larger_packet_that_comes_through_is_a_violation():
    verdict = judge_exact_size(
        TWO, sizes(lambda one: replace(one, largest=1451, refused=None, refusal=None), between_pods)
    )
    assert verdict.outcome is Outcome.VIOLATED
    assert verdict.findings[0].observed == "they came through"


def test_a_larger_packet_that_vanishes_is_a_violation():
    silence = sizes(lambda one: replace(one, refusal=Refusal.SILENCE), between_pods)
    assert judge_exact_size(TWO, silence).outcome is Outcome.VIOLATED


def test_fragments_on_the_underlay_are_worth_a_warning():
    verdict = judge_exact_size(TWO, sizes(narrowed(1400), between_nodes))
    assert verdict.outcome is Outcome.MET
    assert "1500 bytes with their header, and the underlay carries 1400" in verdict.warnings[0]


def test_one_pod_of_many_is_told_as_such():
    (name,) = {one.source.node for one in sizes().paths if one.source.node.endswith("east-1-node-3")}
    facts = sizes(narrowed(1350), lambda one: between_pods(one) and one.source.node == name)
    (finding,) = judge_exact_size(TWO, facts).findings
    assert "from 1 of 4 pods" in finding.observed


@pytest.mark.parametrize(
    "facts",
    [
        Mtu(),
        sizes(gone, lambda one: between_pods(one) and east_to_ohio(one)),
        sizes(lambda one: replace(one, largest=None, refused=None, refusal=None), between_pods),
    ],
)
def test_sizes_that_are_not_known_are_not_met(facts):
    assert judge_exact_size(TWO, facts).outcome is Outcome.INCONCLUSIVE


# --- NET-MTU-003 ----------------------------------------------------------------------------------------------------


def moved(**fields) -> Mtu:
    facts = sizes()
    first, *others = facts.transfers
    return replace(facts, transfers=(replace(first, **fields), *others))


def test_transfers_that_arrive_are_met():
    assert judge_bulk_transfers(TWO, sizes()).outcome is Outcome.MET


def test_a_transfer_that_stands_still_is_a_violation():
    verdict = judge_bulk_transfers(TWO, moved(sent=1_400_000, longest_stall=4.5, seconds=4.7, retransmits=7))
    assert verdict.outcome is Outcome.VIOLATED
    assert "nothing was confirmed for 4.5 s: 1.4 MB" in verdict.findings[0].observed
    assert "7 segments sent again" in verdict.findings[0].observed


def test_a_standstill_counts_even_if_all_arrived_in_the_end():
    assert judge_bulk_transfers(TWO, moved(longest_stall=4.1)).outcome is Outcome.VIOLATED


def test_a_transfer_that_does_not_finish_is_a_violation():
    assert judge_bulk_transfers(TWO, moved(sent=1000, seconds=30.0)).outcome is Outcome.VIOLATED


def test_a_transfer_that_did_not_begin_says_nothing_of_stalls():
    assert judge_bulk_transfers(TWO, moved(sent=0, seconds=0.0, detail="refused")).outcome is Outcome.INCONCLUSIVE
    assert judge_bulk_transfers(TWO, replace(sizes(), transfers=())).outcome is Outcome.INCONCLUSIVE


# --- NET-MTU-006, 007, 008, 011 -------------------------------------------------------------------------------------


def same(world):
    return judge_same_encapsulation(world.plan, world.inventory, world.addressing, world.components)


def test_one_encapsulation_everywhere_is_met():
    assert same(WORLD).outcome is Outcome.MET


def test_a_cluster_that_encapsulates_differently_is_found():
    odd = WORLD.edit(
        "components",
        "datapaths",
        lambda item: replace(item, encapsulation="geneve"),
        lambda item: item.region == "us-east-2",
    )
    assert same(odd).outcome is Outcome.VIOLATED
    assert same(odd).findings[0].subject == "all 4 nodes of us-east-2"


def test_a_pool_of_another_mode_is_found():
    odd = WORLD.edit(
        "addressing",
        "pools",
        lambda pool: replace(pool, encapsulation_mode="cross-subnet"),
        lambda pool: pool.region == "us-east-2" and not pool.disabled,
    )
    assert same(odd).outcome is Outcome.VIOLATED
    assert "vxlan always" in same(odd).findings[0].expected


def test_an_encapsulation_that_nobody_tells_is_not_met():
    blind = WORLD.edit("components", "datapaths", gone).edit("addressing", "pools", gone)
    assert same(blind).outcome is Outcome.INCONCLUSIVE


def ipip(world):
    return judge_no_ipip(world.plan, world.inventory, world.addressing, world.components)


AZURE = replace(WORLD, plan=on("azure", 1500))


def test_ipip_matters_on_azure_only():
    assert ipip(WORLD).outcome is Outcome.NOT_APPLICABLE
    assert ipip(AZURE).outcome is Outcome.MET


def test_ipip_on_azure_is_found_in_plan_pools_and_nodes():
    planned = replace(AZURE, plan=replace(AZURE.plan, encapsulation=Encapsulation.IPIP))
    assert ipip(planned).findings[0].subject == "the plan"
    pool = Pool("us-east-2", "spare", IPv4Network("192.168.70.0/24"), True, False, "ipip", "always", 26)
    assert "pool spare" in ipip(AZURE.add("addressing", "pools", pool)).findings[0].subject
    tunnels = AZURE.edit("components", "datapaths", lambda item: replace(item, encapsulation="ipip"))
    assert ipip(tunnels).outcome is Outcome.VIOLATED


def test_azure_nodes_that_nobody_has_seen_are_not_met():
    assert ipip(AZURE.edit("components", "datapaths", gone)).outcome is Outcome.INCONCLUSIVE


def test_the_same_mtu_everywhere_is_met():
    assert judge_equal_mtu(TWO, INVENTORY, sizes()).outcome is Outcome.MET


def test_a_node_whose_pods_have_another_mtu_is_found():
    facts = sizes(gone_by(1400), lambda one: between_pods(one) and one.source.node == "us-east-1-node-2")
    verdict = judge_equal_mtu(TWO, INVENTORY, facts)
    assert verdict.outcome is Outcome.VIOLATED
    assert (verdict.findings[0].subject, verdict.findings[0].observed) == ("pods on us-east-1-node-2", "1400")


def test_an_mtu_that_nobody_tells_is_not_met():
    assert judge_equal_mtu(PLAN, INVENTORY, sizes()).outcome is Outcome.INCONCLUSIVE
    assert judge_equal_mtu(TWO, INVENTORY, Mtu()).outcome is Outcome.INCONCLUSIVE


def flannel(world):
    return judge_no_flannel(world.plan, world.inventory, world.forwarding)


def test_nodes_without_a_trace_of_flannel_are_met():
    assert flannel(WORLD).outcome is Outcome.MET


@pytest.mark.parametrize("name", ["flannel.1", "flannel-wg", "cni0"])
def test_a_device_of_flannel_is_found(name):
    first = WORLD.forwarding.links[0]
    verdict = flannel(WORLD.add("forwarding", "links", replace(first, name=name)))
    assert verdict.outcome is Outcome.VIOLATED
    assert verdict.findings[0].observed == f"device {name}"


def test_k3s_with_its_own_network_is_found():
    started = WORLD.edit(
        "inventory",
        "nodes",
        lambda node: replace(node, annotations=(("k3s.io/node-args", '["server","--flannel-backend","none"]'),)),
    )
    verdict = flannel(started)
    assert verdict.outcome is Outcome.VIOLATED
    assert "--disable-network-policy" in verdict.findings[0].observed


def test_a_node_whose_devices_nobody_saw_is_not_met():
    blind = WORLD.edit("forwarding", "links", gone, lambda link: link.node == "us-east-1-node-2")
    assert flannel(blind).outcome is Outcome.INCONCLUSIVE
