"""Laws that hold for every judge, whatever the facts."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.facts import Network, ProbeOutcome
from analysis.plan import Encapsulation
from analysis.verdict import Outcome
from tests.unit.analysis.judges import JUDGES, verdicts
from tests.unit.analysis.test_faults import FAULTS, PERFECT
from tests.unit.analysis.world import gone, perfect

ANY_FACTS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
FAMILIES = [
    family.name
    for family in fields(PERFECT)
    if family.name not in ("plan", "federation")  # a mesh of routing daemons federates nothing here
]


def shuffled(world, seed):
    """The same facts in another order. Endpoints keep theirs, for probes point at them by number."""
    chance = random.Random(seed)
    changed = {}
    for family in FAMILIES:
        facts = getattr(world, family)
        lists = {
            f.name: list(getattr(facts, f.name)) for f in fields(facts) if isinstance(getattr(facts, f.name), tuple)
        }
        lists.pop("endpoints", None)
        for items in lists.values():
            chance.shuffle(items)
        changed[family] = replace(facts, **{name: tuple(items) for name, items in lists.items()})
    return replace(world, **changed)


@ANY_FACTS
@given(fault=st.sampled_from(FAULTS), seed=st.integers())
def test_the_order_of_facts_does_not_matter(fault, seed):
    world = fault.break_it(PERFECT)
    told, again = verdicts(world), verdicts(shuffled(world, seed))
    for requirement, verdict in told.items():
        assert again[requirement].outcome is verdict.outcome
        assert len(again[requirement].findings) == len(verdict.findings)


@ANY_FACTS
@given(first=st.sampled_from(FAULTS), second=st.sampled_from(FAULTS))
def test_one_fault_does_not_hide_another(first, second):
    try:
        world = second.break_it(first.break_it(PERFECT))
    except AssertionError:
        return  # the first fault took away what the second would break
    if world == second.break_it(PERFECT):
        return  # the second fault took away what the first had broken
    alone = [requirement for requirement in first.violates if requirement not in second.violates]
    told = verdicts(world)
    assert not any(told[requirement].outcome is Outcome.MET for requirement in alone)


@ANY_FACTS
@given(family=st.sampled_from(FAMILIES), data=st.data())
def test_seeing_less_never_turns_a_perfect_mesh_into_a_liar(family, data):
    """A fact that goes unseen may leave a requirement open or be missed as a thing; judges never crash on it."""
    facts = getattr(PERFECT, family)
    names = [f.name for f in fields(facts) if isinstance(getattr(facts, f.name), tuple) and getattr(facts, f.name)]
    name = data.draw(st.sampled_from([name for name in names if name != "endpoints"]))
    lost = data.draw(st.integers(0, len(getattr(facts, name)) - 1))
    item = getattr(facts, name)[lost]
    told = verdicts(PERFECT.edit(family, name, gone, lambda candidate: candidate is item))
    assert set(told) == set(JUDGES)


@ANY_FACTS
@given(index=st.integers(min_value=0))
def test_any_single_lost_probe_between_pods_is_noticed(index):
    ends = PERFECT.reachability.endpoints
    pods = [p for p in PERFECT.reachability.probes if not ends[p.source].on_host]
    lost = pods[index % len(pods)]
    world = PERFECT.edit(
        "reachability", "probes", lambda p: replace(p, outcome=ProbeOutcome.DROPPED), lambda p: p is lost
    )
    violated = [requirement for requirement, verdict in verdicts(world).items() if verdict.outcome is Outcome.VIOLATED]
    assert violated


@settings(ANY_FACTS, max_examples=12)
@given(regions=st.integers(2, 8), nodes=st.integers(1, 6), pods=st.integers(1, 2))
def test_a_mesh_of_any_size_can_be_perfect(regions, nodes, pods):
    if regions * nodes * pods > 24:
        return
    told = verdicts(perfect(regions=regions, nodes=nodes, pods_per_node=pods))
    assert {verdict.outcome for verdict in told.values()} <= {Outcome.MET, Outcome.NOT_APPLICABLE}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_verdict_is_the_same_twice(fault):
    world = fault.break_it(PERFECT)
    assert verdicts(world) == verdicts(world)


def test_what_the_plan_does_not_ask_for_does_not_apply():
    world = replace(
        PERFECT,
        plan=replace(PERFECT.plan, egress=None, encapsulation=Encapsulation.NONE),
    )
    told = verdicts(world)
    for requirement in ("NET-ROUTE-010", "NET-POD-009"):
        assert told[requirement].outcome is Outcome.NOT_APPLICABLE
        assert told[requirement].observed


def test_pods_may_be_seen_outside_under_an_address_that_the_cloud_translates_to():
    seen = IPv4Address("198.18.0.11")
    world = PERFECT.edit("paths", "egress", lambda probe: replace(probe, seen_source=seen))

    assert verdicts(world)["NET-POD-009"].outcome is Outcome.MET


def test_a_second_network_of_a_region_is_judged_once():
    second = Network(PERFECT.plan.regions[0].name, IPv4Network("10.77.0.0/16"), (IPv4Network("10.77.1.0/24"),))
    told = verdicts(PERFECT.add("networks", "networks", second))

    assert {requirement for requirement, verdict in told.items() if verdict.outcome is Outcome.VIOLATED} <= {
        "NET-UNDR-001"
    }


def test_service_ranges_that_are_not_routed_may_be_the_same_and_are_remarked_on():
    plan = replace(
        PERFECT.plan,
        services_routed=False,
        regions=tuple(replace(r, service_cidr=PERFECT.plan.regions[0].service_cidr) for r in PERFECT.plan.regions),
    )
    world = replace(PERFECT, plan=plan).edit(
        "configuration", "identities", lambda i: replace(i, advertised_service_cidrs=())
    )
    told = verdicts(world)
    assert told["NET-ADDR-004"].outcome is Outcome.MET
    assert any("172.20.0.0/16 overlap" in warning for warning in told["NET-ADDR-004"].warnings)
    assert told["NET-ADDR-005"].outcome is Outcome.MET


def test_a_single_reflector_is_remarked_on_and_two_are_not():
    told = verdicts(PERFECT)["NET-ROUTE-004"]
    assert told.outcome is Outcome.MET
    assert len(told.warnings) == 3
    plan = replace(
        PERFECT.plan,
        regions=tuple(
            replace(r, route_reflector_nodes=(f"{r.name}-node-1", f"{r.name}-node-2")) for r in PERFECT.plan.regions
        ),
    )
    doubled = verdicts(replace(PERFECT, plan=plan))["NET-ROUTE-004"]
    assert doubled.outcome is Outcome.MET
    assert not doubled.warnings


def test_a_named_reflector_that_is_not_there_is_missed():
    plan = replace(
        PERFECT.plan,
        regions=tuple(
            replace(r, route_reflector_nodes=(f"{r.name}-node-1", f"{r.name}-node-9")) for r in PERFECT.plan.regions
        ),
    )
    assert verdicts(replace(PERFECT, plan=plan))["NET-ROUTE-004"].outcome is Outcome.VIOLATED


def test_a_detour_is_wished_for_while_the_direct_session_is_down():
    world = PERFECT.edit(
        "routing",
        "routes",
        lambda r: replace(r, as_path=(64514, 64513)),
        lambda r: r.region == "us-east-1" and r.as_path == (64513,),
    ).edit(
        "routing",
        "sessions",
        lambda s: replace(s, state="Active"),
        lambda s: (
            {str(s.peer_address), s.node} & {"10.1.1.10", "us-east-2-node-1"}
            and s.region != "us-west-1"
            and s.peer_as != s.local_as
            and str(s.peer_address) != "10.2.1.10"
        ),
    )
    assert verdicts(world)["NET-ROUTE-018"].outcome is Outcome.MET
