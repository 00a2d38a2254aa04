"""Ways around policy by node ports: whom they are tried from, by which nodes, and what shows that they lead on."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from analysis.facts import Participant, Party
from analysis.plan import AllowedFlow, PolicyPlan, PolicyRole
from probes.deploy import ProbePod
from probes.detours import _detours
from probes.flows import Side
from probes.scene import Scene

SQL, OTHER = 26257, 5432
POLICY = PolicyPlan(
    roles=(PolicyRole("database", "app", "db"), PolicyRole("client", "app", "client")),
    allow=(
        AllowedFlow("database", "database", (SQL,)),
        AllowedFlow("client", "database", (SQL,), same_region=True),
    ),
)


def side(region, party, node, address, role="", node_ports=()):
    pod = ProbePod(region, node, "meshproof", f"{region}-{role or party.value}", party is Party.NODE)
    doors = tuple(("TCP", port) for port, _ in node_ports) or (("TCP", SQL),)
    listening = () if party is Party.NODE else doors
    participant = Participant(region, party, pod.name, IPv4Address(address), role, node, listening=listening)
    return Side(participant, pod, node_ports=node_ports)


def a_region(name, octet):
    return [
        side(name, Party.ROLE, "n1", f"10.{octet}.0.1", "database", ((SQL, 30001), (OTHER, 30002))),
        side(name, Party.STRANGER, "n1", f"10.{octet}.0.2", node_ports=((OTHER, 30003),)),
        side(name, Party.ROLE, "n1", f"10.{octet}.0.3", "client"),
        side(name, Party.NODE, "n1", f"10.{octet}.9.1"),
        side(name, Party.NODE, "n2", f"10.{octet}.9.2"),
    ]


@pytest.fixture
def scene():
    return Scene(POLICY, services_routed=False, sides=(*a_region("east", 1), *a_region("west", 2)))


def test_strangers_try_every_port_and_the_database_what_it_may_not_use(scene):
    tried = {
        (scene.sides[each.flow.source].participant.party, each.whence, each.flow.port)
        for each in _detours(scene)
        if each.whither[0] == "west"
    }
    strangers = {(Party.STRANGER, region, port) for region in ("east", "west") for port in (SQL, OTHER)}
    assert tried == strangers | {(Party.ROLE, "east", OTHER)}


def test_it_is_knocked_at_all_nodes_of_the_targets_region(scene):
    tried = {each.flow.through for each in _detours(scene) if each.whither[0] == "west"}
    assert tried == {(f"10.2.9.{node}", port) for node in (1, 2) for port in (30001, 30002)}


def test_a_silence_means_something_only_where_the_same_node_leads_to_others(scene):
    for each in _detours(scene):
        assert each.leads in each.flow.controls
        assert each.leads.through == (each.flow.through[0], 30003)
        assert scene.sides[each.leads.source].participant.region == each.whence


def test_on_the_targets_own_node_a_client_shows_that_its_port_leads_there(scene):
    for each in _detours(scene):
        own = each.whither == (scene.sides[each.flow.target].participant.region, "n1")
        entrances = [control for control in each.flow.controls if control.through and control is not each.leads]
        assert {control.target for control in entrances} == ({each.flow.target} if own else set())


def test_without_node_ports_nothing_is_tried(scene):
    bare = replace(scene, sides=tuple(replace(side, node_ports=()) for side in scene.sides), _places={})
    assert not list(_detours(bare))
