"""Two readings of the same promises agree on every flow of every small world; what is called dead never decides."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.policy.decide import Evaluator, dead_rules
from analysis.policy.model import (
    Endpoint,
    EndpointKind,
    Engine,
    EngineOptions,
    Flow,
    Policy,
    PolicyKind,
    Protocol,
    World,
)
from tests.unit.analysis.policy import naive_union

NAMESPACE, CLUSTER = "io.kubernetes.pod.namespace", "io.cilium.k8s.policy.cluster"
NAMESPACES = {
    ("a", "web"): {"team": "front"},
    ("a", "db"): {"team": "back"},
    ("b", "web"): {"team": "front"},
}


def pod(name: str, cluster: str, namespace: str, address: str, node: str, **labels: str) -> Endpoint:
    ports = (("http", Protocol.TCP, 80),) if labels.get("app") == "x" else ()
    return Endpoint(name, EndpointKind.POD, IPv4Address(address), cluster, namespace, node, "", labels, ports)


ENDPOINTS = (
    pod("one", "a", "web", "10.1.0.1", "n1", app="x"),
    pod("two", "a", "web", "10.1.0.2", "n2", app="y", tier="x"),
    pod("three", "a", "db", "10.1.0.3", "n1"),
    pod("four", "b", "web", "10.2.0.1", "m1", app="x", tier="y"),
    Endpoint("n1", EndpointKind.NODE, IPv4Address("192.168.0.1"), "a", node="n1"),
    Endpoint("host", EndpointKind.HOST_POD, IPv4Address("192.168.0.2"), "a", "web", "n2", "", {"app": "x"}),
    Endpoint("m1", EndpointKind.NODE, IPv4Address("192.168.1.1"), "b", node="m1"),
    Endpoint("out", EndpointKind.EXTERNAL, IPv4Address("203.0.113.7")),
)
FLOWS = tuple(
    Flow(source, target, protocol, port)
    for source, target in product(ENDPOINTS, ENDPOINTS)
    if source is not target
    for protocol, port in ((Protocol.TCP, 79), (Protocol.TCP, 80), (Protocol.UDP, 80), (Protocol.ICMP, 0))
)

keys = st.sampled_from(["app", "tier"])
values = st.sampled_from(["x", "y"])
expressions = st.one_of(
    st.fixed_dictionaries(
        {"key": keys, "operator": st.sampled_from(["In", "NotIn"]), "values": st.lists(values, min_size=1, max_size=2)}
    ),
    st.fixed_dictionaries({"key": keys, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)
selectors = st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": st.dictionaries(keys, values, max_size=2),
        "matchExpressions": st.lists(expressions, max_size=2),
    },
)
namespace_selectors = st.sampled_from(
    [
        {},
        {"matchLabels": {"team": "front"}},
        {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["front"]}]},
    ]
)
networks = st.sampled_from(["10.1.0.0/16", "10.1.0.2/32", "192.168.0.0/16", "203.0.113.0/24", "0.0.0.0/0"])
blocks = st.fixed_dictionaries({"cidr": st.just("0.0.0.0/0")}, optional={"except": st.lists(networks, max_size=2)})


def few(items: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[list[Any]]:
    return st.lists(items, max_size=most)


kubernetes_peers = st.one_of(
    st.fixed_dictionaries({"podSelector": selectors}),
    st.fixed_dictionaries({"namespaceSelector": namespace_selectors}, optional={"podSelector": selectors}),
    st.fixed_dictionaries({"ipBlock": blocks}),
)
kubernetes_ports = st.one_of(
    st.fixed_dictionaries(
        {}, optional={"protocol": st.sampled_from(["TCP", "UDP"]), "port": st.sampled_from([79, 80, "http"])}
    ),
    st.just({"port": 70, "endPort": 79}),
)


def kubernetes_rules(side: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={side: few(kubernetes_peers), "ports": few(kubernetes_ports)})


kubernetes_specs = st.fixed_dictionaries(
    {"podSelector": selectors},
    optional={
        "policyTypes": st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
        "ingress": few(kubernetes_rules("from")),
        "egress": few(kubernetes_rules("to")),
    },
)
kubernetes_policies = st.builds(
    Policy,
    st.sampled_from("ab"),
    st.just(PolicyKind.KUBERNETES_NETWORK_POLICY),
    st.sampled_from(["p", "q", "r"]),
    st.tuples(kubernetes_specs),
    st.sampled_from(["web", "db"]),
)


@st.composite
def cilium_selectors(draw: st.DrawFn) -> dict[str, Any]:
    selector = dict(draw(selectors))
    labels = dict(selector.get("matchLabels", {}))
    if draw(st.booleans()):
        labels[NAMESPACE] = draw(st.sampled_from(["web", "db"]))
    if draw(st.booleans()):
        labels[CLUSTER] = draw(st.sampled_from("ab"))
    return selector | ({"matchLabels": labels} if labels else {})


cilium_ports = st.fixed_dictionaries(
    {
        "ports": st.lists(
            st.one_of(
                st.fixed_dictionaries(
                    {"port": st.sampled_from(["0", "79", "80", "http"])},
                    optional={"protocol": st.sampled_from(["TCP", "UDP", "ANY"])},
                ),
                st.just({"port": "70", "endPort": 79, "protocol": "TCP"}),
            ),
            min_size=1,
            max_size=2,
        )
    }
)


@st.composite
def cilium_rules(draw: st.DrawFn, side: str) -> dict[str, Any]:
    peers: dict[str, Any] = draw(
        st.sampled_from([{}, "Endpoints", "Entities", "CIDR", "CIDRSet"]).flatmap(
            lambda sort: (
                st.just({}) if not isinstance(sort, str) else st.fixed_dictionaries({side + sort: few(_PEERS[sort])})
            )
        )
    )
    return peers | draw(st.fixed_dictionaries({}, optional={"toPorts": st.lists(cilium_ports, min_size=1, max_size=1)}))


_PEERS: dict[str, st.SearchStrategy[Any]] = {
    "Endpoints": cilium_selectors(),
    "Entities": st.sampled_from(["all", "cluster", "host", "remote-node", "world", "none"]),
    "CIDR": networks,
    "CIDRSet": blocks,
}
cilium_specs = st.fixed_dictionaries(
    {"endpointSelector": selectors},
    optional={
        "ingress": few(cilium_rules("from")),
        "ingressDeny": few(cilium_rules("from"), 1),
        "egress": few(cilium_rules("to")),
        "egressDeny": few(cilium_rules("to"), 1),
        "enableDefaultDeny": st.fixed_dictionaries({}, optional={"ingress": st.booleans(), "egress": st.booleans()}),
    },
)
cilium_policies = st.one_of(
    st.builds(
        Policy,
        st.sampled_from("ab"),
        st.just(PolicyKind.CILIUM_NETWORK_POLICY),
        st.sampled_from(["p", "q", "r"]),
        st.tuples(cilium_specs),
        st.sampled_from(["web", "db"]),
    ),
    st.builds(
        Policy,
        st.sampled_from("ab"),
        st.just(PolicyKind.CILIUM_CLUSTERWIDE_NETWORK_POLICY),
        st.sampled_from(["s", "t"]),
        st.lists(cilium_specs, min_size=1, max_size=2).map(tuple),
    ),
    kubernetes_policies,
)
cilium_options = st.builds(
    EngineOptions,
    default_local_cluster=st.booleans(),
    enforcement_mode=st.sampled_from(["default", "default", "always", "never"]),
    allow_localhost=st.sampled_from(["auto", "policy"]),
    cidr_match_mode=st.sampled_from(["", "nodes"]),
)


def world_with(engine: Engine, policies: list[Policy], options: EngineOptions | None = None) -> World:
    """Policies of one name would be one object: each gets a name of its own."""
    named = tuple(replace(policy, name=f"{policy.name}{number}") for number, policy in enumerate(policies))
    return World(engine, ENDPOINTS, named, NAMESPACES, options=options or EngineOptions())


@settings(max_examples=60, deadline=None)
@given(st.lists(kubernetes_policies, max_size=4))
def test_kubernetes_is_read_alike_twice(policies: list[Policy]) -> None:
    agree(world_with(Engine.KUBERNETES, policies))


@settings(max_examples=100, deadline=None)
@given(st.lists(cilium_policies, max_size=4), cilium_options)
def test_cilium_is_read_alike_twice(policies: list[Policy], options: EngineOptions) -> None:
    agree(world_with(Engine.CILIUM, policies, options))


@settings(max_examples=40, deadline=None)
@given(st.lists(cilium_policies, max_size=3))
def test_a_dead_rule_decides_no_flow(policies: list[Policy]) -> None:
    world = world_with(Engine.CILIUM, policies)
    dead = {(each.cluster, each.rule) for each in dead_rules(world)}
    evaluator = Evaluator(world)
    for flow in FLOWS:
        decision = evaluator.decide(flow)
        assert (flow.source.cluster, decision.egress.decider) not in dead
        assert (flow.target.cluster, decision.ingress.decider) not in dead


def agree(world: World) -> None:
    evaluator = Evaluator(world)
    for flow in FLOWS:
        ours, naive = evaluator.decide(flow).allowed, naive_union.allowed(world, flow)
        assert ours is naive, (flow.source.name, flow.target.name, flow.protocol, flow.port, evaluator.decide(flow))
