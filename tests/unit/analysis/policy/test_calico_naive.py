"""Calico's semantics against a second, naive reading of it: no index, no cache, one function per question.

It knows the fields that the generated policies use, and works on plain values from beginning to end.
"""

from __future__ import annotations

from ipaddress import IPv4Address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.policy.calico import CalicoEngine
from analysis.policy.dead import dead_rules_of_calico
from analysis.policy.model import (
    Direction,
    Endpoint,
    EndpointKind,
    Engine,
    EngineOptions,
    Flow,
    NetworkSet,
    Policy,
    PolicyKind,
    Protocol,
    Tier,
    World,
)

NAMESPACES = {("a", "x"): {"team": "red"}, ("a", "y"): {"team": "blue"}, ("b", "x"): {"team": "red"}}


def _pod(name: str, address: str, cluster: str, namespace: str, **labels: str) -> Endpoint:
    port = 80 if namespace == "x" else 81
    return Endpoint(
        name,
        EndpointKind.POD,
        IPv4Address(address),
        cluster,
        namespace,
        f"{cluster}-{name}",
        "robot" if "p" in labels else "",
        labels,
        (("web", Protocol.TCP, port),),
    )


ENDPOINTS = (
    _pod("one", "10.0.0.1", "a", "x", p="1"),
    _pod("two", "10.0.0.2", "a", "x", p="2", q="1"),
    _pod("three", "10.0.1.3", "a", "y", q="1"),
    _pod("four", "10.0.1.4", "a", "y"),
    _pod("far", "10.1.0.1", "b", "x", p="1", q="2"),
    Endpoint("out", EndpointKind.EXTERNAL, IPv4Address("192.0.2.1")),
)
SETS = (NetworkSet("a", "offices", ("192.0.2.0/24", "10.1.0.0/16"), {"p": "1"}),)
TIERS = tuple(each for cluster in "ab" for each in (Tier(cluster, "early", 10), Tier(cluster, "soft", 20, "Pass")))

# The selectors, each with what it means, written down by hand.
SELECTORS: dict[str, Any] = {
    "all()": lambda labels: True,
    'p == "1"': lambda labels: labels.get("p") == "1",
    'p != "1"': lambda labels: labels.get("p") != "1",
    "!has(p)": lambda labels: "p" not in labels,
    'q in {"1", "2"} && has(p)': lambda labels: labels.get("q") in ("1", "2") and "p" in labels,
    'p == "1" && p == "2"': lambda labels: False,
}
TEAMS: dict[str, Any] = {
    'team == "red"': lambda labels: labels.get("pcns.team") == "red",
    "all()": lambda labels: "projectcalico.org/namespace" in labels,
    "global()": lambda labels: "projectcalico.org/namespace" not in labels,
}


def labels_of(thing: Endpoint | NetworkSet) -> dict[str, str]:
    labels = dict(thing.labels)
    if isinstance(thing, Endpoint):
        labels["projectcalico.org/namespace"] = thing.namespace
        labels["pcns.team"] = NAMESPACES[thing.cluster, thing.namespace]["team"]
        if thing.service_account:
            labels["projectcalico.org/serviceaccount"] = thing.service_account
    return labels


def who_has(address: IPv4Address, cluster: str, federated: bool) -> list[Endpoint | NetworkSet]:
    pods = [
        each
        for each in ENDPOINTS
        if each.kind is EndpointKind.POD and each.address == address and (federated or each.cluster == cluster)
    ]
    return [*pods, *(each for each in SETS if cluster == "a" and any(address in ip_network(net) for net in each.nets))]


def side_holds(side: dict, address: IPv4Address, port: int, protocol: str, policy: Policy, federated: bool) -> bool:
    everybody = who_has(address, policy.cluster, federated)
    names_peers = {"selector", "notSelector", "serviceAccounts"} & side.keys()
    only_negated = set(side) & {"selector", "namespaceSelector", "serviceAccounts"} == set() and not policy.namespace

    def meant(thing: Endpoint | NetworkSet) -> bool:
        labels = labels_of(thing)
        if "selector" in side and not SELECTORS[side["selector"]](labels):
            return False
        names = side.get("serviceAccounts", {}).get("names")
        if names and labels.get("projectcalico.org/serviceaccount") not in names:
            return False
        if "namespaceSelector" in side:
            if not TEAMS[side["namespaceSelector"]](labels):
                return False
        elif names_peers and policy.namespace and labels.get("projectcalico.org/namespace") != policy.namespace:
            return False
        return not ("notSelector" in side and SELECTORS[side["notSelector"]](labels))

    if "notSelector" in side and only_negated:
        if any(SELECTORS[side["notSelector"]](labels_of(thing)) for thing in everybody):
            return False
    elif names_peers or "namespaceSelector" in side:
        everybody = [thing for thing in everybody if meant(thing)]
        if not everybody:
            return False
    if "nets" in side and not any(address in ip_network(net) for net in side["nets"]):
        return False
    if any(address in ip_network(net) for net in side.get("notNets", [])):
        return False
    if "ports" not in side:
        return True
    return any(port_is(each, port, protocol, everybody) for each in side["ports"])


def port_is(wanted: int | str, port: int, protocol: str, everybody: list) -> bool:
    if wanted == "web":
        pods = [thing for thing in everybody if isinstance(thing, Endpoint)]
        return any(("web", Protocol(protocol), port) in pod.ports for pod in pods)
    low, _, high = str(wanted).partition(":")
    return protocol != "ICMP" and int(low) <= port <= int(high or low)


def rule_holds(rule: dict, flow: Flow, policy: Policy, federated: bool) -> bool:
    protocol = flow.protocol.value
    if rule.get("protocol", protocol) != protocol or rule.get("notProtocol") == protocol:
        return False
    source, target = rule.get("source", {}), rule.get("destination", {})
    return side_holds(source, flow.source.address, flow.source_port, protocol, policy, federated) and side_holds(
        target, flow.target.address, flow.port, protocol, policy, federated
    )


def naive(world: World, flow: Flow, direction: str) -> tuple[bool, str]:
    pod = flow.source if direction == "egress" else flow.target
    if pod.kind is not EndpointKind.POD:
        return True, "not-policed"
    orders = {"early": 10, "soft": 20, "default": 1_000_000}
    for tier in sorted(orders, key=orders.__getitem__):
        acting = []
        for policy in world.policies:
            spec = policy.specs[0]
            types = [each.lower() for each in spec["types"]]
            if (
                policy.cluster == pod.cluster
                and spec.get("tier", "default") == tier
                and direction in types
                and policy.namespace in ("", pod.namespace)
                and SELECTORS[spec["selector"]](labels_of(pod))
            ):
                acting.append(policy)
        if not acting:
            continue
        acting.sort(key=lambda policy: (policy.specs[0].get("order", float("inf")), policy.name))
        fate = None
        for policy in acting:
            for number, rule in enumerate(policy.specs[0].get(direction, [])):
                if (
                    fate is None
                    and rule["action"] != "Log"
                    and rule_holds(rule, flow, policy, world.options.federation)
                ):
                    fate = rule["action"], f"{policy.path}/{direction}/{number}"
        if fate is None and tier != "soft":
            return False, f"tier/{tier}/end"
        if fate is not None and fate[0] != "Pass":
            return fate[0] == "Allow", fate[1]
    return True, f"profile/kns.{pod.namespace}"


sides = st.fixed_dictionaries(
    {},
    optional={
        "selector": st.sampled_from(list(SELECTORS)),
        "notSelector": st.sampled_from(list(SELECTORS)),
        "namespaceSelector": st.sampled_from(list(TEAMS)),
        "serviceAccounts": st.just({"names": ["robot"]}),
        "nets": st.sampled_from([["10.0.0.0/24"], ["10.0.0.0/8", "192.0.2.0/25"]]),
        "notNets": st.just(["10.0.1.0/30"]),
    },
)
with_ports = st.one_of(
    sides,
    st.tuples(sides, st.lists(st.sampled_from([80, "79:81", "web"]), min_size=1, max_size=2)).map(
        lambda both: both[0] | {"ports": both[1]}
    ),
)
rules = st.builds(
    lambda fields, target: fields | ({"destination": target} if "protocol" in fields else {}),
    st.fixed_dictionaries(
        {"action": st.sampled_from(["Allow", "Deny", "Pass", "Log"])},
        optional={
            "protocol": st.sampled_from(["TCP", "UDP"]),
            "notProtocol": st.sampled_from(["TCP", "ICMP"]),
            "source": sides,
        },
    ),
    with_ports,
)
specs = st.fixed_dictionaries(
    {
        "selector": st.sampled_from(list(SELECTORS)),
        "types": st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
    },
    optional={
        "tier": st.sampled_from(["early", "soft"]),
        "order": st.sampled_from([-1, 0, 5.5]),
        "ingress": st.lists(rules, min_size=1, max_size=4),
        "egress": st.lists(rules, min_size=1, max_size=4),
    },
)
places = st.sampled_from(
    [
        ("a", PolicyKind.GLOBAL_NETWORK_POLICY, ""),
        ("a", PolicyKind.NETWORK_POLICY, "x"),
        ("a", PolicyKind.NETWORK_POLICY, "y"),
        ("b", PolicyKind.GLOBAL_NETWORK_POLICY, ""),
    ]
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    policies = tuple(
        Policy(cluster, kind, f"p{number}", (draw(specs),), namespace)
        for number, (cluster, kind, namespace) in enumerate(draw(st.lists(places, min_size=1, max_size=4)))
    )
    options = EngineOptions(federation=draw(st.booleans()))
    accounts = {("a", "x", "robot"): {}, ("b", "x", "robot"): {}}
    return World(Engine.CALICO, ENDPOINTS, policies, NAMESPACES, accounts, SETS, TIERS, options=options)


FLOWS = [
    Flow(source, target, protocol, port)
    for source in ENDPOINTS
    for target in ENDPOINTS
    if source is not target
    for protocol, port in ((Protocol.TCP, 80), (Protocol.TCP, 81), (Protocol.UDP, 80), (Protocol.ICMP, 0))
]


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_both_readings_decide_every_flow_alike(world):
    engine = CalicoEngine(world)
    for flow in FLOWS:
        for direction in Direction:
            end = engine.end(flow, direction)
            assert (end.allowed, end.decider) == naive(world, flow, direction.value)


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_a_rule_that_is_called_dead_decides_no_flow(world):
    dead = {(each.cluster, each.rule) for each in dead_rules_of_calico(world)}
    for flow in FLOWS:
        for direction, cluster in (("egress", flow.source.cluster), ("ingress", flow.target.cluster)):
            decider = naive(world, flow, direction)[1]
            assert (cluster, decider) not in dead
            assert (cluster, decider.rpartition(f"/{direction}/")[0]) not in dead
