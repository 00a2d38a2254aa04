"""Who tries what under policy: everything that matters is tried, and a silence always has controls."""

from ipaddress import IPv4Address

import pytest

from analysis.facts import Participant, Party, Way
from analysis.plan import AllowedFlow, PolicyPlan, PolicyRole
from probes.deploy import ProbePod
from probes.flows import Side
from probes.lift import few, stopped
from probes.roles import ARBITRARY, ports_to_try
from probes.scene import Scene

POLICY = PolicyPlan(
    roles=(
        PolicyRole("database", "app", "db"),
        PolicyRole("client", "app", "client"),
        PolicyRole("store", "app", "store"),
    ),
    allow=(
        AllowedFlow("database", "database", (26257, 8080)),
        AllowedFlow("client", "database", (26257,)),
        AllowedFlow("database", "store", (2379,), same_region=True),
    ),
)
DOORS = (("TCP", 8080), ("TCP", 26257), ("TCP", ARBITRARY), ("UDP", 26257))


def side(region, party, role="", node="n1", doors=DOORS, name=""):
    address = IPv4Address("127.0.0.1")
    name = name or f"{region}-{role or party.value}-{node}"
    pod = ProbePod(region, node, "meshproof", name, party is Party.NODE, address, 1, 1)
    own = pod if doors or party is Party.NODE else None
    return Side(Participant(region, party, name, address, role, node, listening=doors), own, identity=pod.identity)


def a_region(name):
    return [
        side(name, Party.ROLE, "database", "n1"),
        side(name, Party.ROLE, "database", "n2"),
        side(name, Party.STRANGER),
        side(name, Party.ROLE, "client", "n1"),
        side(name, Party.ROLE, "client", "n2"),
        side(name, Party.ROLE, "store", "n2"),
        side(name, Party.NODE, node="n1", doors=()),
        side(name, Party.MEMBER, "database", doors=()),
        side(name, Party.MEMBER, "store", doors=()),
        side(name, Party.DNS, doors=()),
        side(name, Party.API_SERVER, doors=()),
    ]


@pytest.fixture
def scene():
    outside = side("", Party.OUTSIDE, doors=(), name="port 80")
    return Scene(POLICY, services_routed=True, sides=(*a_region("east"), *a_region("west"), outside))


def ends(scene, flow):
    here, there = scene.sides[flow.source].participant, scene.sides[flow.target].participant
    return (here.party, here.role, here.region), (there.party, there.role, there.region)


def test_every_flow_is_tried_once_and_whoever_must_be_stopped_has_controls(scene):
    flows = scene.flows()
    assert len(flows) == len(set(flows))
    assert all(flow.must_pass != bool(flow.controls) for flow in flows)


def test_controls_are_flows_that_policy_lets_pass_or_is_not_about(scene):
    for flow in scene.flows():
        for control in flow.controls:
            (_, source, _), (party, target, _) = ends(scene, control)
            policed = "database" in (source, target) and party is not Party.OUTSIDE
            assert control.must_pass or not policed, ends(scene, control)


@pytest.mark.parametrize("source", ["east", "west"])
@pytest.mark.parametrize("target", ["east", "west"])
def test_all_pairs_of_parties_are_tried_in_all_pairs_of_regions(scene, source, target):
    tried = {ends(scene, flow) for flow in scene.flows()}
    database, stranger = (Party.ROLE, "database"), (Party.STRANGER, "")
    for here, there in (
        (database, database),
        (stranger, database),
        (database, stranger),
        ((Party.ROLE, "client"), database),
        (database, (Party.ROLE, "client")),
        ((Party.ROLE, "store"), database),
        (stranger, (Party.MEMBER, "database")),
        (database, (Party.MEMBER, "store")),
        (database, (Party.DNS, "")),
        ((Party.NODE, ""), database),
    ):
        assert ((*here, source), (*there, target)) in tried


def test_what_must_pass_is_what_the_plan_allows(scene):
    passing = {(*ends(scene, flow), flow.port) for flow in scene.flows() if flow.must_pass and flow.kind == "knock"}
    near = ((Party.ROLE, "database", "east"), (Party.MEMBER, "store", "east"), 2379)
    far = ((Party.ROLE, "database", "east"), (Party.MEMBER, "store", "west"), 2379)
    assert near in passing
    assert far not in passing


def test_members_are_only_knocked_at_where_somebody_may(scene):
    tried = [flow for flow in scene.flows() if scene.sides[flow.target].participant.party is Party.MEMBER]
    assert {flow.kind for flow in tried} == {"knock"}
    assert {flow.port for flow in tried} == {26257, 8080, 2379}


def test_a_pods_own_node_is_not_tried(scene):
    for flow in scene.flows():
        here, there = scene.sides[flow.source].participant, scene.sides[flow.target].participant
        assert flow.way is not Way.NODE or (here.region, here.node) != (there.region, there.node)


def test_fragments_go_both_ways_between_strangers_and_the_database(scene):
    tried = {(ends(scene, flow)[0][0], ends(scene, flow)[1][0]) for flow in scene.flows() if flow.way is Way.FRAGMENTED}
    assert tried == {(Party.STRANGER, Party.ROLE), (Party.ROLE, Party.STRANGER)}


def test_without_routed_services_only_the_own_dns_is_asked(scene):
    alone = Scene(POLICY, services_routed=False, sides=scene.sides)
    asked = [ends(alone, flow) for flow in alone.flows() if flow.kind.startswith("dns")]
    assert all(here[2] == there[2] for here, there in asked)


def test_while_policy_is_away_what_it_stops_is_tried(scene):
    flows = few(scene)
    assert {flow.kind for flow in flows} == {"tcp", "udp"}
    parties = {(ends(scene, flow)[0][0], ends(scene, flow)[1][0]) for flow in stopped(flows)}
    assert parties == {(Party.STRANGER, Party.ROLE), (Party.ROLE, Party.STRANGER)}


def test_neighbours_of_open_ports_are_tried_and_so_is_a_spread_of_others():
    ports = ports_to_try(POLICY)
    assert {8079, 8080, 8081, 26256, 26257, 26258, 22, 53, 443, 6443, 10250} <= set(ports)
    assert list(ports) == sorted(set(ports))
