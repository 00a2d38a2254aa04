"""Calico decides flows as its documentation and its data plane say, vector by vector."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from analysis.policy.calico import CalicoEngine
from analysis.policy.model import (
    Direction,
    EndDecision,
    Endpoint,
    EndpointKind,
    Engine,
    Flow,
    Policy,
    PolicyKind,
    Protocol,
    Tier,
    World,
)
from tests.unit.analysis.policy.vectors import flow_vectors

CLIENT = Endpoint("client", EndpointKind.POD, IPv4Address("10.0.0.1"), "a", "web", "n1", labels={"app": "client"})
SERVER = Endpoint("server", EndpointKind.POD, IPv4Address("10.0.0.2"), "a", "db", "n2", labels={"app": "server"})


def world(*policies: Policy, **fields) -> World:
    return World(
        Engine.CALICO,
        (CLIENT, SERVER),
        policies,
        namespaces={("a", "web"): {"team": "front"}, ("a", "db"): {}},
        **fields,
    )


def gnp(name: str, **spec) -> Policy:
    return Policy("a", PolicyKind.GLOBAL_NETWORK_POLICY, name, (spec,))


def ingress(world: World, port: int = 80, protocol: Protocol = Protocol.TCP, **flow) -> EndDecision:
    return CalicoEngine(world).end(Flow(CLIENT, SERVER, protocol, port, **flow), Direction.INGRESS)


@pytest.mark.parametrize("vector", list(flow_vectors(Engine.CALICO)), ids=lambda vector: vector.id)
def test_a_flow_meets_what_its_vector_says(vector):
    engine = CalicoEngine(vector.world)
    egress, ingress = (engine.end(vector.flow, each) for each in (Direction.EGRESS, Direction.INGRESS))
    assert (egress.decider, ingress.decider) == (vector.egress, vector.ingress)
    assert (egress.allowed and ingress.allowed) is vector.allowed


def test_a_tier_without_an_object_comes_last_and_drops():
    lost = gnp("lost", tier="nowhere", selector="all()", ingress=[{"action": "Allow", "protocol": "UDP"}])
    ruled = gnp("ruled", selector="all()", ingress=[{"action": "Pass"}])
    assert ingress(world(lost, ruled)) == EndDecision(False, "tier/nowhere/end")


def test_a_tier_that_passes_at_its_end_leaves_the_flow_to_the_next():
    early = gnp("soft.early", tier="soft", selector="all()", ingress=[{"action": "Allow", "protocol": "UDP"}])
    tier = Tier("a", "soft", 10, "Pass")
    assert ingress(world(early, tiers=(tier,))).decider == "profile/kns.db"
    assert not ingress(world(early, tiers=(replace(tier, default_action="Deny"),))).allowed


def test_a_policy_that_the_api_would_refuse_decides_nothing_and_is_named():
    broken = gnp("broken", selector='app = "server"', ingress=[{"action": "Deny"}])
    view = CalicoEngine(world(broken)).view("a")
    [(policy, reason)] = view.refused
    assert policy is broken
    assert "column 5" in reason
    assert ingress(world(broken)).allowed


@pytest.mark.parametrize(
    "rule",
    [
        {"action": "allow"},
        {"action": "Allow", "protocol": "tcp"},
        {"action": "Allow", "source": {"nets": ["10.0.0.0/33"]}},
        {"action": "Allow", "source": "everybody"},
    ],
)
def test_a_rule_of_any_shape_is_refused_rather_than_believed(rule):
    [(_, reason)] = CalicoEngine(world(gnp("odd", ingress=[rule]))).view("a").refused
    assert reason


def test_a_negated_net_that_covers_everything_switches_its_rule_off():
    denies = {"action": "Deny", "source": {"notNets": ["0.0.0.0/0"]}}
    assert ingress(world(gnp("odd", ingress=[denies, {"action": "Allow"}]))).decider == "gnp/odd/ingress/1"


def test_a_rule_about_http_allows_at_layer_4_only():
    rule = {"action": "Allow", "http": {"methods": ["GET"]}}
    assert ingress(world(gnp("web", ingress=[rule]))) == EndDecision(True, "gnp/web/ingress/0", layer_7=True)


def test_pods_do_not_send_vxlan():
    flow = Flow(CLIENT, SERVER, Protocol.UDP, 4789)
    assert not CalicoEngine(world()).end(flow, Direction.EGRESS).allowed


@pytest.mark.parametrize(
    ("rule", "port", "allowed"),
    [
        ({"source": {"ports": [1000]}, "protocol": "TCP"}, 80, False),
        ({"source": {"ports": ["49000:50000"]}, "protocol": "TCP"}, 80, True),
        ({"destination": {"notPorts": [80]}, "protocol": "TCP"}, 80, False),
        ({"destination": {"notPorts": [80]}, "protocol": "TCP"}, 81, True),
        ({"protocol": 6}, 80, True),
        ({"notProtocol": "TCP"}, 80, False),
    ],
)
def test_ports_and_protocols_of_rules(rule, port, allowed):
    assert ingress(world(gnp("p", ingress=[{"action": "Allow"} | rule])), port).allowed is allowed


def test_icmp_messages_are_told_apart_by_code_and_by_negation():
    only = gnp("p", ingress=[{"action": "Allow", "protocol": "ICMP", "icmp": {"type": 3, "code": 4}}])
    assert ingress(world(only), 0, Protocol.ICMP, icmp_type=3, icmp_code=4).allowed
    assert not ingress(world(only), 0, Protocol.ICMP, icmp_type=3, icmp_code=1).allowed
    but = gnp("p", ingress=[{"action": "Allow", "protocol": "ICMP", "notICMP": {"type": 8}}])
    assert not ingress(world(but), 0, Protocol.ICMP).allowed
    assert ingress(world(but), 0, Protocol.ICMP, icmp_type=0).allowed
