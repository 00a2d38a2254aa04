"""Rules of Calico that decide nothing are found, with the reason that a reader needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from analysis.policy.calico import CalicoEngine
from analysis.policy.dead import clusters, dead_rules_of_calico
from analysis.policy.label_index import numbers_of
from analysis.policy.model import (
    DeadRule,
    Endpoint,
    EndpointKind,
    Engine,
    EngineOptions,
    Policy,
    PolicyKind,
    Protocol,
    Tier,
    World,
)
from tests.unit.analysis.policy.vectors import dead_rule_vectors

PODS = tuple(
    Endpoint(
        name,
        EndpointKind.POD,
        IPv4Address(address),
        cluster,
        "db",
        labels={"app": name, "zone": zone},
        ports=(("sql", Protocol.TCP, 26257),),
    )
    for name, address, cluster, zone in (
        ("one", "10.0.0.1", "a", "east"),
        ("two", "10.0.0.2", "a", "east"),
        ("far", "10.1.0.1", "b", "west"),
    )
)


def gnp(name: str, **spec) -> Policy:
    return Policy("a", PolicyKind.GLOBAL_NETWORK_POLICY, name, ({"selector": 'app == "one"'} | spec,))


def found(*policies: Policy, inhabited: bool = True, **fields) -> dict[str, DeadRule]:
    world = World(Engine.CALICO, PODS if inhabited else (), policies, namespaces={("a", "db"): {}}, **fields)
    return {dead.rule: dead for dead in dead_rules_of_calico(world)}


def selected(world: World) -> Iterator[str]:
    """The pods that any policy selects."""
    engine = CalicoEngine(world)
    for cluster in clusters(world):
        view = engine.view(cluster)
        for tier in view.tiers:
            for policy in tier.policies:
                known = (view.known[number] for number in numbers_of(view.selected(policy)))
                yield from (each.name for each in known if isinstance(each, Endpoint))


@pytest.mark.parametrize("vector", list(dead_rule_vectors(Engine.CALICO)), ids=lambda vector: vector.id)
def test_dead_rules_are_those_of_the_vector(vector):
    expected = vector.fields["expect"]
    dead = dead_rules_of_calico(vector.world)
    assert [(each.rule, each.reason, each.by) for each in dead] == [
        (each["rule"], each["reason"], each.get("by", "")) for each in expected["dead"]
    ]
    assert all(each.explanation and each.cluster == "a" for each in dead)
    assert set(selected(vector.world)) == set(expected["selected"])


def test_two_rules_together_cast_a_shadow_that_neither_casts_alone():
    low, high = ({"protocol": "TCP", "destination": {"ports": [ports]}} for ports in ("1:1000", "1001:65535"))
    between = {"protocol": "TCP", "destination": {"ports": ["900:1100"]}, "source": {"nets": ["10.0.0.0/8"]}}
    dead = found(
        gnp("p", ingress=[{"action": "Allow"} | low, {"action": "Deny"} | high, {"action": "Allow"} | between])
    )
    assert dead["gnp/p/ingress/2"].by == "gnp/p/ingress/0, gnp/p/ingress/1"


def test_selectors_cover_each_other_by_what_they_mean():
    wide = {"action": "Allow", "source": {"selector": 'zone in {"east", "west"}'}}
    narrow = {"action": "Deny", "source": {"selector": 'zone == "west" && app == "far"'}}
    federated = EngineOptions(federation=True)
    assert found(gnp("p", ingress=[wide, narrow]), options=federated)["gnp/p/ingress/1"].reason == "shadowed"
    assert not found(gnp("p", ingress=[narrow, wide]), options=federated)


def test_without_an_inventory_shadows_are_told_and_nobody_is_missed():
    everything = gnp("everything", order=1, selector="all()", ingress=[{"action": "Deny"}])
    later = gnp("later", order=2, ingress=[{"action": "Allow", "source": {"selector": 'app == "ghost"'}}])
    assert found(everything, later, inhabited=False)["gnp/later/ingress/0"].by == "gnp/everything/ingress/0"
    assert not found(later, inhabited=False)


def test_what_a_pass_matches_goes_on_in_the_next_tier():
    passing = {"action": "Pass", "source": {"selector": 'zone == "east"'}}
    first = gnp("sec.p", tier="sec", ingress=[passing])
    east, west = ({"action": "Allow", "source": {"selector": f'zone == "{zone}"'}} for zone in ("east", "west"))
    dead = found(
        first, gnp("p", ingress=[east, west]), tiers=(Tier("a", "sec", 1),), options=EngineOptions(federation=True)
    )
    assert {rule: each.by for rule, each in dead.items()} == {"gnp/p/ingress/1": "tier/sec/end"}


def test_a_rule_shadowed_on_some_of_its_endpoints_only_lives():
    first = gnp("first", order=1, ingress=[{"action": "Allow"}])
    both = gnp("both", order=2, selector="has(app)", ingress=[{"action": "Deny"}])
    assert not found(first, both)


@pytest.mark.parametrize(
    "first",
    [
        {"source": {"notSelector": 'app == "two"'}},
        {"protocol": "TCP", "destination": {"ports": ["sql"]}},
        {"protocol": "TCP", "destination": {"notPorts": ["sql"]}},
        {"source": {"services": {"name": "s", "namespace": "db"}}},
        {"http": {"methods": ["GET"]}},
        {"source": {"notNets": ["0.0.0.0/0"]}},
        {"ipVersion": 6},
        {"protocol": "ICMP", "icmp": {"type": 8}},
        {"source": {"selector": "all()"}},
    ],
    ids=str,
)
def test_a_rule_that_leaves_something_casts_no_shadow(first):
    dead = found(gnp("p", ingress=[{"action": "Allow"} | first, {"action": "Deny"}]))
    assert "gnp/p/ingress/1" not in dead


def test_a_policy_that_selects_nobody_is_told_once_and_why():
    dead = found(gnp("p", selector='geography == "us-east-1"', ingress=[{"action": "Allow"}, {"action": "Deny"}]))
    assert dead["gnp/p"].reason == "policy-selects-nobody"
    assert dead["gnp/p"].explanation.endswith("nobody has the label geography")
    [abroad] = found(gnp("p", selector='app == "far"', ingress=[{"action": "Allow"}])).values()
    assert "its own cluster alone" in abroad.explanation


def test_a_peer_of_another_cluster_needs_federation():
    policy = gnp("p", ingress=[{"action": "Allow", "source": {"selector": 'zone == "west"'}}])
    dead = found(policy)["gnp/p/ingress/0"]
    assert dead.reason == "matches-nobody-now"
    assert "federation" in dead.explanation
    assert not found(policy, options=EngineOptions(federation=True))


@pytest.mark.parametrize(
    ("policy", "rule", "reason"),
    [
        (gnp("p", selector='a == "1" && a == "2"', ingress=[{"action": "Allow"}]), "gnp/p", "unsatisfiable-selector"),
        (gnp("p", selector='a = "1"', ingress=[{"action": "Allow"}]), "gnp/p", "refused"),
        (gnp("p", types=["Egress"], ingress=[{"action": "Allow"}]), "gnp/p/ingress/0", "direction-not-in-types"),
        (
            gnp("p", ingress=[{"action": "Allow", "ipVersion": 4, "source": {"nets": ["2001:db8::/32"]}}]),
            "gnp/p/ingress/0",
            "contradictory-ip-version",
        ),
        (
            gnp("p", ingress=[{"action": "Allow", "source": {"notNets": ["0.0.0.0/0"]}}]),
            "gnp/p/ingress/0",
            "contradictory-nets",
        ),
        (
            gnp("p", ingress=[{"action": "Allow", "protocol": "UDP", "destination": {"ports": ["sql"]}}]),
            "gnp/p/ingress/0",
            "named-port-undefined",
        ),
        (
            replace(gnp("p", ingress=[{"action": "Allow"}]), kind=PolicyKind.STAGED_GLOBAL_NETWORK_POLICY),
            "sgnp/p",
            "staged-not-enforced",
        ),
    ],
)
def test_reasons(policy, rule, reason):
    assert found(policy)[rule].reason == reason


def test_a_rule_of_kubernetes_is_dead_when_all_that_it_becomes_is():
    peers = [{"podSelector": {"matchLabels": {"app": app}}} for app in ("two", "ghost")]
    spec = {"podSelector": {}, "ingress": [{"from": peers}, {"from": peers[1:]}]}
    policy = Policy("a", PolicyKind.KUBERNETES_NETWORK_POLICY, "k", (spec,), "db")
    assert list(found(policy)) == ["knp/db/k/ingress/1"]
