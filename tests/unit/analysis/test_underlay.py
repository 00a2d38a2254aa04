"""What nodes and the outside see of the underlay, well and broken, and what judges make of it."""

from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Address

import pytest

from analysis.doors import CONTROL_PLANE, TYPHA_LABEL, plan_doors
from analysis.facts import (
    ClockOffset,
    Door,
    Gap,
    Instance,
    KernelSetting,
    Knock,
    Networks,
    OutsideKnock,
    Pod,
    ProbeOutcome,
    ProbeProtocol,
    Service,
    Trace,
    Underlay,
)
from analysis.fleet import Stand
from analysis.plan import Cni
from analysis.underlay import (
    PairTrial,
    PeeringLoss,
    Phase,
    judge_administration,
    judge_clocks,
    judge_closed_to_the_internet,
    judge_cluster_ports,
    judge_kernel_settings,
    judge_mesh_ports,
    judge_node_sizes,
    judge_nodes_answer,
    judge_peering_lost,
    judge_private_paths,
    judge_reflector_ports,
)
from analysis.verdict import Outcome
from tests.unit.analysis.world import gone, perfect

OPEN, REFUSED, DROPPED = ProbeOutcome.OPEN, ProbeOutcome.REFUSED, ProbeOutcome.DROPPED
INCONCLUSIVE = ProbeOutcome.INCONCLUSIVE
EAST, OHIO, WEST = "us-east-1", "us-east-2", "us-west-1"
GIB = 1 << 30


@dataclass(frozen=True)
class Scene:
    """A world and its underlay."""

    world: object
    underlay: Underlay
    networks: Networks

    def edit(self, collection, change, where=lambda item: True):
        items = getattr(self.underlay, collection)
        assert any(map(where, items)), f"nothing to change in {collection}"
        changed = [change(item) if where(item) else item for item in items]
        kept = tuple(item for item in changed if item is not None)
        return replace(self, underlay=replace(self.underlay, **{collection: kept}))

    def world_edit(self, *arguments):
        return replace(self, world=self.world.edit(*arguments))


@cache
def scene(cni=Cni.CALICO_BGP):
    """Everything as it should be."""
    world = perfect()
    world = world.edit(
        "inventory",
        "nodes",
        lambda node: replace(
            node,
            labels=(*node.labels, *([(CONTROL_PLANE, "")] if node.name.endswith("-1") else [])),
            cpu=4000,
            memory=8 * GIB,
        ),
    )
    world = world.add(
        "inventory",
        "pods",
        *(
            Pod(
                region,
                "calico-system",
                f"typha-{region}",
                f"{region}-node-2",
                None,
                True,
                "Running",
                True,
                (TYPHA_LABEL,),
            )
            for region in (EAST, OHIO, WEST)
        ),
    )
    world = world.add(
        "inventory",
        "services",
        *(
            Service(region, "kube-system", "clustermesh-apiserver", None, "NodePort", (2379,), (32379 + place,))
            for place, region in enumerate((EAST, OHIO, WEST))
        ),
    )
    world = replace(world, plan=replace(world.plan, cni=cni))
    doors = plan_doors(world.plan, world.inventory)
    nodes = doors.endpoints
    public = {end: IPv4Address(f"198.18.0.{place}") for place, end in enumerate(nodes, 1)}
    outside = [
        OutsideKnock(stand, end.region, end.node, str(public[end]), door, ProbeProtocol.TCP, port, outcome)
        for stand, outcome in ((Stand.OPERATOR, OPEN), (Stand.INTERNET, DROPPED))
        for end in nodes
        for door, port in doors.outside(stand, end.address)
    ]
    settings = (
        ("net.ipv4.ip_forward", "1"),
        ("net.bridge.bridge-nf-call-iptables", "1"),
        ("module br_netfilter", "loaded"),
    )
    underlay = Underlay(
        traces=tuple(
            Trace(a, b, (IPv4Address("10.0.1.1"), None, b.address), reached=True)
            for a in nodes
            for b in nodes
            if a.region != b.region
        ),
        knocks=tuple(Knock(k.source, k.target, k.door, k.port, OPEN) for k in doors.knockers),
        outside=tuple(outside),
        stands=(Stand.OPERATOR, Stand.INTERNET),
        settings=tuple(
            KernelSetting(end.region, end.node, name, value, value) for end in nodes for name, value in settings
        ),
        clocks=tuple(ClockOffset(end.region, end.node, 0.001 * place, 0.004) for place, end in enumerate(nodes)),
    )
    networks = Networks((), instances=tuple(Instance(end.region, end.node, end.address, public[end]) for end in nodes))
    return Scene(world, underlay, networks)


JUDGES = {
    6: lambda s: judge_nodes_answer(s.world.plan, s.world.inventory, s.world.reachability),
    7: lambda s: judge_private_paths(s.world.plan, s.underlay),
    9: lambda s: judge_reflector_ports(
        s.world.plan, s.world.inventory, s.world.configuration, s.world.routing, s.underlay
    ),
    11: lambda s: judge_mesh_ports(s.world.plan, s.world.inventory, s.underlay),
    12: lambda s: judge_administration(s.world.plan, s.underlay),
    14: lambda s: judge_closed_to_the_internet(s.underlay, s.networks),
    17: lambda s: judge_kernel_settings(s.world.plan, s.world.inventory, s.underlay),
    18: lambda s: judge_cluster_ports(s.world.plan, s.world.inventory, s.underlay),
    19: lambda s: judge_node_sizes(s.world.plan, s.world.inventory),
    20: lambda s: judge_clocks(s.world.plan, s.world.inventory, s.underlay),
}


def outcomes(s):
    return {number: judge(s).outcome for number, judge in JUDGES.items()}


def only(s, **expected):
    """Those that are not met."""
    return {number: outcome.value for number, outcome in outcomes(s).items() if outcome is not Outcome.MET}


def found(s, number):
    return [f"{finding.subject}: {finding.observed}" for finding in JUDGES[number](s).findings]


def where(**wanted):
    return lambda item: all(getattr(item, name) == value for name, value in wanted.items())


@pytest.mark.parametrize("cni", Cni)
def test_all_is_met_where_all_is_well(cni):
    assert only(scene(cni)) == {9: "inconclusive"} if cni is Cni.CILIUM_CLUSTERMESH else not only(scene(cni))


def test_nothing_seen_is_never_met():
    s = replace(scene(), underlay=Underlay(gaps=(Gap(EAST, "the underlay", "no probe there"),)), networks=Networks(()))
    s = replace(s, world=s.world.edit("inventory", "nodes", lambda node: replace(node, cpu=None)))
    s = replace(s, world=s.world.edit("reachability", "probes", gone))
    assert set(outcomes(s).values()) == {Outcome.INCONCLUSIVE}


# --- pings and paths ------------------------------------------------------------------------------------------------


def ping_between(a, b, s):
    ends = s.world.reachability.endpoints
    return lambda probe: (
        probe.protocol is ProbeProtocol.ICMP
        and ends[probe.source].on_host
        and (ends[probe.source].node, ends[probe.target].node) == (a, b)
    )


def test_a_pair_of_nodes_that_is_cut_is_named():
    s = scene()
    pair = ping_between("us-east-1-node-2", "us-east-2-node-3", s)
    s = s.world_edit("reachability", "probes", lambda probe: replace(probe, outcome=DROPPED), pair)
    assert only(s) == {6: "violated"}
    assert found(s, 6) == ["us-east-1-node-2 -> us-east-2-node-3: no answer"]


def test_a_whole_region_that_is_cut_is_one_finding():
    s = scene()
    ends = s.world.reachability.endpoints
    s = s.world_edit(
        "reachability",
        "probes",
        lambda probe: replace(probe, outcome=DROPPED),
        lambda probe: (
            ends[probe.source].on_host and ends[probe.source].region == EAST and ends[probe.target].region == OHIO
        ),
    )
    assert found(s, 6) == ["all 4 nodes of us-east-1 -> all 4 nodes of us-east-2: no answer"]


def test_pings_of_an_agent_that_was_unwell_prove_nothing():
    s = scene()
    pair = ping_between("us-east-1-node-2", "us-east-2-node-3", s)
    s = s.world_edit("reachability", "probes", lambda probe: replace(probe, outcome=DROPPED), pair)
    ends = s.world.reachability.endpoints
    s = s.world_edit(
        "reachability",
        "agents",
        lambda agent: replace(agent, loopback_ok=False),
        lambda agent: ends[agent.endpoint].on_host and ends[agent.endpoint].node == "us-east-1-node-2",
    )
    assert only(s) == {6: "inconclusive"}


def test_a_ping_that_was_not_sent_is_missed():
    s = scene()
    s = s.world_edit("reachability", "probes", gone, ping_between("us-east-1-node-2", "us-east-2-node-3", s))
    assert only(s) == {6: "inconclusive"}


@pytest.mark.parametrize("hop", ["203.0.113.9", "8.8.8.8"])
def test_a_public_hop_is_a_violation(hop):
    s = scene().edit(
        "traces",
        lambda trace: replace(trace, hops=(trace.hops[0], IPv4Address(hop), trace.hops[2])),
        lambda trace: (trace.source.region, trace.target.region) == (EAST, WEST),
    )
    assert only(s) == {7: "violated"}
    (finding,) = found(s, 7)
    assert finding.startswith(f"us-east-1 -> us-west-1: {hop} on the way")


def test_a_public_hop_tells_even_where_the_end_was_not_reached():
    s = scene().edit(
        "traces", lambda trace: replace(trace, hops=(IPv4Address("203.0.113.9"),), reached=False), lambda trace: True
    )
    assert JUDGES[7](s).outcome is Outcome.VIOLATED


def test_silent_hops_prove_nothing_against_a_path():
    s = scene().edit("traces", lambda trace: replace(trace, hops=(None, None, trace.hops[2])))
    assert not only(s)


def test_paths_that_end_nowhere_leave_the_question_open():
    s = scene().edit(
        "traces",
        lambda trace: replace(trace, hops=trace.hops[:1], reached=False),
        lambda trace: (trace.source.region, trace.target.region) == (EAST, WEST),
    )
    assert only(s) == {7: "inconclusive"}
    assert found(s, 7) == ["us-east-1 -> us-west-1: 10.0.1.1, and no answer from 10.2.1.10"]


# --- ports ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("door", "number", "place"),
    [
        (Door.MESH_STORE, 11, "all 4 nodes of us-east-1 -> us-east-2-node-1 (mesh-store, 6443): no answer"),
        (Door.KUBELET, 18, None),
        (Door.TYPHA, 18, None),
        (Door.API_SERVER, 18, None),
    ],
)
def test_a_filtered_port_turns_the_requirement_that_speaks_of_it(door, number, place):
    def concerns(knock):
        if knock.door is not door:
            return False
        return place is None or (knock.source.region, knock.target.region) == (EAST, OHIO)

    s = scene().edit("knocks", lambda knock: replace(knock, outcome=DROPPED), concerns)
    assert only(s) == {number: "violated"}
    if place:
        assert found(s, number) == [place]


@pytest.mark.parametrize("door", [Door.MESH_STORE, Door.KUBELET, Door.BGP])
def test_a_refusal_proves_the_network(door):
    s = scene().edit("knocks", lambda knock: replace(knock, outcome=REFUSED), where(door=door))
    assert not only(s)
    assert any("nobody listens" in warning for judge in JUDGES.values() for warning in judge(s).warnings)


def test_the_ports_of_the_other_mesh():
    s = scene(Cni.CILIUM_CLUSTERMESH)
    ports = {(knock.target.region, knock.port) for knock in s.underlay.knocks if knock.door is Door.MESH_STORE}
    assert ports == {(EAST, 32379), (OHIO, 32380), (WEST, 32381)}
    s = s.edit("knocks", lambda knock: replace(knock, outcome=DROPPED), where(door=Door.HEALTH, port=4240))
    assert JUDGES[18](s).outcome is Outcome.VIOLATED


def test_a_knock_that_was_not_made_is_missed():
    s = scene().edit(
        "knocks", gone, lambda knock: knock.door is Door.KUBELET and knock.source.node == "us-east-1-node-2"
    )
    assert only(s) == {18: "inconclusive"}


def silent_bgp(s, of=lambda knock: True):
    return s.edit(
        "knocks", lambda knock: replace(knock, outcome=DROPPED), lambda knock: knock.door is Door.BGP and of(knock)
    )


def signed(s):
    return s.world_edit("configuration", "peerings", lambda peering: replace(peering, authenticated=True))


def from_reflectors(knock):
    return knock.source.node.endswith("-1")


def test_without_signatures_a_silent_bgp_port_is_filtered_even_where_a_session_still_stands():
    s = silent_bgp(scene(), from_reflectors)
    assert only(s) == {9: "violated"}


def test_with_signatures_an_answer_to_a_neighbour_proves_the_port():
    assert not only(silent_bgp(signed(scene()), from_reflectors))


def test_with_signatures_a_port_that_answers_nobody_is_filtered():
    s = silent_bgp(signed(scene()), lambda knock: knock.target.region == WEST)
    assert only(s) == {9: "violated"}


def test_with_signatures_and_without_neighbours_a_session_proves_the_port():
    s = signed(scene())
    s = s.world_edit("inventory", "nodes", gone, lambda node: not node.name.endswith("-1"))
    s = s.edit("knocks", gone, lambda knock: not from_reflectors(knock))
    s = silent_bgp(s)
    assert JUDGES[9](s).outcome is Outcome.MET
    s = s.world_edit("routing", "sessions", lambda session: replace(session, state="Active"))
    assert JUDGES[9](s).outcome is Outcome.INCONCLUSIVE


# --- from outside ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "verdict"), [(DROPPED, "violated"), (REFUSED, "violated"), (INCONCLUSIVE, None)])
def test_the_operator_must_get_in(outcome, verdict):
    s = scene().edit(
        "outside",
        lambda knock: replace(knock, outcome=outcome),
        where(stand=Stand.OPERATOR, node="us-west-1-node-3", door=Door.SSH),
    )
    assert only(s).get(12) == verdict


def test_a_region_that_nobody_tried_to_administer_is_missed():
    s = scene().edit("outside", gone, where(stand=Stand.OPERATOR, region=WEST, door=Door.API_SERVER))
    assert only(s) == {12: "inconclusive"}
    assert found(s, 12) == ["us-west-1: the Kubernetes API: nothing was tried there"]


@pytest.mark.parametrize("outcome", [OPEN, REFUSED])
def test_what_answers_the_internet_is_a_violation(outcome):
    s = scene().edit(
        "outside",
        lambda knock: replace(knock, outcome=outcome),
        where(stand=Stand.INTERNET, node="us-east-2-node-1", port=2379),
    )
    assert only(s) == {14: "violated"}
    assert found(s, 14)[0].startswith("us-east-2-node-1: etcd, 2379")


def test_a_silence_counts_only_where_the_operator_was_answered():
    s = scene().edit("outside", lambda knock: replace(knock, outcome=DROPPED), where(stand=Stand.OPERATOR, region=EAST))
    assert only(s) == {12: "violated", 14: "inconclusive"}


def test_nodes_that_the_internet_does_not_know_need_no_knock():
    s = scene()
    s = replace(
        s,
        underlay=replace(s.underlay, outside=tuple(k for k in s.underlay.outside if k.stand is Stand.OPERATOR)),
        networks=replace(s.networks, instances=tuple(replace(i, public_address=None) for i in s.networks.instances)),
    )
    assert JUDGES[14](s).outcome is Outcome.NOT_APPLICABLE


def test_without_a_place_outside_nothing_is_known():
    s = scene().edit("outside", gone, where(stand=Stand.INTERNET))
    s = replace(s, underlay=replace(s.underlay, stands=(Stand.OPERATOR,)))
    assert found(s, 14) == ["the internet: there is none"]


# --- settings, sizes, clocks ----------------------------------------------------------------------------------------

FORWARD = {"name": "net.ipv4.ip_forward", "node": "us-east-2-node-3"}
BRIDGE = {"name": "net.bridge.bridge-nf-call-iptables", "node": "us-east-2-node-3"}


@pytest.mark.parametrize(
    ("which", "change", "says"),
    [
        (FORWARD, {"value": "0"}, "us-east-2-node-3: net.ipv4.ip_forward: 0"),
        (FORWARD, {"persistent": None}, "us-east-2-node-3: net.ipv4.ip_forward: no file sets it"),
        (FORWARD, {"persistent": "0"}, "us-east-2-node-3: net.ipv4.ip_forward: files set it to 0"),
        (BRIDGE, {"value": "0"}, "us-east-2-node-3: net.bridge.bridge-nf-call-iptables: 0"),
        (BRIDGE, {"persistent": "0"}, "us-east-2-node-3: net.bridge.bridge-nf-call-iptables: files set it to 0"),
    ],
)
def test_a_setting_that_is_off_or_will_be(which, change, says):
    s = scene().edit("settings", lambda setting: replace(setting, **change), where(**which))
    assert only(s) == {17: "violated"}
    assert found(s, 17) == [says]


def test_a_kernel_without_bridge_filters_loses_nothing():
    s = scene().edit("settings", lambda setting: replace(setting, value="", persistent=None), where(**BRIDGE))
    assert not only(s)


def test_files_that_nobody_read_leave_the_question_open():
    s = scene().edit("settings", lambda setting: replace(setting, persistent=None, persistent_told=False))
    assert only(s) == {17: "inconclusive"}


@pytest.mark.parametrize("size", [{"cpu": 400}, {"memory": GIB // 2}])
def test_a_node_without_room_for_the_database(size):
    s = scene().world_edit("inventory", "nodes", lambda node: replace(node, **size), where(name="us-west-1-node-4"))
    assert only(s) == {19: "violated"}
    assert found(s, 19)[0].startswith("us-west-1-node-4: ")


def test_what_runs_on_a_node_takes_its_room_but_for_the_database_itself_and_probes():
    s = scene()
    hungry = Pod(WEST, "kube-system", "hungry", "us-west-1-node-4", None, False, "Running", True, cpu=3800)
    assert JUDGES[19](replace(s, world=s.world.add("inventory", "pods", hungry))).outcome is Outcome.VIOLATED
    database = replace(hungry, namespace=WEST, name="cockroachdb-0")
    probe = replace(hungry, labels=(("meshproof/owned", "true"),))
    assert not only(replace(s, world=s.world.add("inventory", "pods", database, probe)))


def test_a_node_that_takes_no_pods_may_be_small():
    s = scene().world_edit(
        "inventory", "nodes", lambda node: replace(node, cpu=400, takes_pods=False), where(name="us-west-1-node-1")
    )
    assert not only(s)


def test_without_planned_requests_sizes_do_not_matter():
    s = scene()
    database = replace(s.world.plan.database, cpu=None, memory=None)
    s = replace(s, world=replace(s.world, plan=replace(s.world.plan, database=database)))
    assert JUDGES[19](s).outcome is Outcome.NOT_APPLICABLE


@pytest.mark.parametrize(("offset", "words"), [(1.5, "1.50 s ahead of"), (-0.3, "310 ms behind")])
def test_a_clock_that_is_off_is_named_with_its_uncertainty(offset, words):
    s = scene().edit("clocks", lambda clock: replace(clock, offset=offset), where(node="us-east-2-node-3"))
    assert only(s) == {20: "violated"}
    (finding,) = found(s, 20)
    assert finding.startswith("us-east-2-node-3: ")
    assert "give or take 4 ms" in finding


def test_a_vague_clock_proves_nothing():
    s = scene().edit("clocks", lambda clock: replace(clock, uncertainty=0.4), where(node="us-east-2-node-3"))
    assert only(s) == {20: "inconclusive"}


def test_a_clock_that_is_off_by_far_tells_even_when_it_is_vague():
    s = scene().edit(
        "clocks", lambda clock: replace(clock, offset=9.0, uncertainty=0.4), where(node="us-east-2-node-3")
    )
    assert only(s) == {20: "violated"}


# --- a lost peering -------------------------------------------------------------------------------------------------


def loss(**changes):
    """Every ping in its phase as it should be, but for some."""
    plan = scene().world.plan
    trials = []
    for phase in Phase:
        for a, b in plan.ordered_pairs():
            cut = phase is Phase.WITHOUT and {a.name, b.name} == {EAST, OHIO}
            trials.append(
                PairTrial(
                    phase, a.name, b.name, changes.get(f"{phase.name} {a.name} {b.name}", DROPPED if cut else OPEN)
                )
            )
    return judge_peering_lost(plan, PeeringLoss(EAST, OHIO, tuple(trials)))


@pytest.mark.parametrize(
    ("change", "outcome", "verdict"),
    [
        (None, OPEN, "met"),
        (f"WITHOUT {EAST} {OHIO}", OPEN, "violated"),
        (f"WITHOUT {EAST} {WEST}", DROPPED, "violated"),
        (f"AFTER {OHIO} {EAST}", DROPPED, "violated"),
        (f"BEFORE {OHIO} {EAST}", DROPPED, "inconclusive"),
        (f"WITHOUT {WEST} {OHIO}", INCONCLUSIVE, "inconclusive"),
    ],
)
def test_exactly_the_pair_whose_peering_is_gone_is_cut(change, outcome, verdict):
    assert loss(**({change: outcome} if change else {})).outcome.value == verdict
