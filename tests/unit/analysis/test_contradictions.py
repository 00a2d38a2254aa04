"""Control plane and data path that say different things, made up in both directions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.contradictions import Contradiction, Observed, find_contradictions
from analysis.facts import ProbeOutcome, ProbeProtocol
from tests.unit.analysis.cilium_world import perfect_cilium
from tests.unit.analysis.world import World, gone, perfect


def contradictions(world: World) -> tuple[Contradiction, ...]:
    return find_contradictions(
        world.plan,
        Observed(
            world.inventory,
            world.addressing,
            world.reachability,
            world.routing,
            world.forwarding,
            world.federation,
        ),
    )


def between(world: World, here: str, there: str, *protocols: ProbeProtocol):
    """Picks the probes of pods from one region to another."""
    ends = world.reachability.endpoints

    def where(probe) -> bool:
        source, target = ends[probe.source], ends[probe.target]
        return (
            (source.region, target.region) == (here, there)
            and not source.on_host
            and (not protocols or probe.protocol in protocols)
        )

    return where


def lose(world: World, here: str, there: str, *protocols: ProbeProtocol) -> World:
    return world.edit(
        "reachability",
        "probes",
        lambda probe: replace(probe, outcome=ProbeOutcome.DROPPED),
        between(world, here, there, *protocols),
    )


@pytest.mark.parametrize("world", [perfect(), perfect_cilium()], ids=["calico", "cilium"])
def test_a_mesh_that_is_well_contradicts_itself_nowhere(world: World) -> None:
    assert contradictions(world) == ()


@pytest.mark.parametrize("world", [perfect(), perfect_cilium()], ids=["calico", "cilium"])
def test_lost_packets_under_a_control_plane_that_is_well(world: World) -> None:
    here, there = world.plan.regions[0].name, world.plan.regions[1].name
    (found,) = contradictions(lose(world, here, there))
    assert found.subject == f"{here} -> {there}"
    assert "has a route to every block" in found.control
    assert found.data.startswith(f"no pod of {here} reaches one of {there}: 0 of ")
    assert "packet filter" in found.meaning


def test_one_protocol_alone_can_be_lost() -> None:
    world = perfect()
    (found,) = contradictions(lose(world, "us-east-1", "us-west-1", ProbeProtocol.UDP))
    assert found.data == "nothing passes by UDP, while the rest does"


def test_lost_packets_where_the_session_is_down_too_contradict_nothing() -> None:
    world = lose(lose(perfect(), "us-east-1", "us-west-1"), "us-west-1", "us-east-1")
    addresses = {node.internal_ip for node in world.inventory.nodes if node.region in ("us-east-1", "us-west-1")}
    world = world.edit(
        "routing",
        "sessions",
        lambda session: replace(session, state="Active"),
        lambda session: session.region in ("us-east-1", "us-west-1") and session.peer_address in addresses,
    )
    assert contradictions(world) == ()


def test_lost_packets_without_a_route_contradict_nothing() -> None:
    world = lose(perfect(), "us-east-1", "us-west-1")
    west = world.plan.region("us-west-1").pod_cidr
    world = world.edit(
        "forwarding",
        "routes",
        gone,
        lambda route: route.region == "us-east-1" and route.prefix.subnet_of(west),
    )
    assert contradictions(world) == ()


def test_pods_that_reach_each_other_without_a_session_live_on_what_was_learnt() -> None:
    world = perfect()
    addresses = {node.internal_ip: node.region for node in world.inventory.nodes}
    world = world.edit(
        "routing",
        "sessions",
        lambda session: replace(session, state="Active"),
        lambda session: {session.region, addresses.get(session.peer_address)} == {"us-east-1", "us-west-1"},
    )
    found = contradictions(world)
    assert [item.subject for item in found] == ["us-east-1 -> us-west-1", "us-west-1 -> us-east-1"]
    assert found[0].control == "no BGP session between the two is established"
    assert "graceful restart" in found[0].meaning


def test_a_detour_by_a_third_region_is_no_contradiction() -> None:
    world = perfect()
    addresses = {node.internal_ip: node.region for node in world.inventory.nodes}
    world = world.edit(
        "routing",
        "sessions",
        lambda session: replace(session, state="Active"),
        lambda session: {session.region, addresses.get(session.peer_address)} == {"us-east-1", "us-west-1"},
    ).edit(
        "routing",
        "routes",
        lambda route: replace(route, as_path=(64513, *route.as_path)),
        lambda route: route.from_bgp and len(route.as_path) == 1,
    )
    assert contradictions(world) == ()


def test_pods_that_reach_each_other_without_the_store() -> None:
    world = perfect_cilium()
    here, there = world.plan.regions[0], world.plan.regions[2]
    world = world.edit(
        "federation",
        "remotes",
        lambda remote: replace(remote, connected=False, ready=False),
        lambda remote: remote.region == here.name and remote.remote == there.cluster_name,
    )
    (found,) = contradictions(world)
    assert found.control == f"no agent of {here.name} is connected to the store of {there.name}"
    assert found.data.startswith("pods reach each other all the same")


def test_an_agent_that_was_unwell_proves_nothing() -> None:
    world = lose(perfect(), "us-east-1", "us-west-1")
    world = world.edit("reachability", "agents", lambda agent: replace(agent, loopback_ok=False))
    assert contradictions(world) == ()
