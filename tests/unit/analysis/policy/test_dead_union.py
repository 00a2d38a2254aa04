"""Rules of Kubernetes and Cilium that can never do anything are found, with the reason."""

from __future__ import annotations

import pytest

from analysis.policy.dead_union import dead_rules_of_union
from analysis.policy.decide import Evaluator
from analysis.policy.model import Engine, Flow, Protocol
from tests.unit.analysis.policy.vectors import Raw, dead_rule_vectors, world_of

VECTORS = [*dead_rule_vectors(Engine.KUBERNETES), *dead_rule_vectors(Engine.CILIUM)]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector.id for vector in VECTORS])
def test_dead_rules_are_found_and_no_others(vector: Raw) -> None:
    found = dead_rules_of_union(vector.world)
    expected = [(each["rule"], each["reason"], each.get("by", "")) for each in vector.fields["expect"]["dead"]]
    assert [(each.rule, each.reason, each.by) for each in found] == expected
    assert all(each.explanation for each in found)


def test_a_contradiction_is_told_in_the_labels_own_words() -> None:
    both = {"matchLabels": {"geography": "us-east-2"}, "matchExpressions": [one_of("geography", "us-west-1")]}
    policy = {"kind": "ccnp", "name": "w", "spec": {"endpointSelector": {}, "ingress": [{"fromEndpoints": [both]}]}}
    (found,) = dead_rules_of_union(world_of({"engine": "cilium", "policies": [policy]}))
    assert found.explanation == (
        'the label "geography" cannot be "us-east-2" and "us-west-1" at once: a label has one value'
    )


def test_an_allowance_that_a_denial_only_narrows_is_alive() -> None:
    spec = {
        "endpointSelector": {},
        "ingress": [{"fromEndpoints": [{}], "toPorts": [{"ports": [{"port": "1", "endPort": 20}]}]}],
        "ingressDeny": [{"fromEndpoints": [{}], "toPorts": [{"ports": [{"port": "1", "endPort": 19}]}]}],
    }
    policy = {"kind": "ccnp", "name": "w", "spec": spec}
    assert dead_rules_of_union(world_of({"engine": "cilium", "policies": [policy]})) == ()


@pytest.mark.parametrize("engine", ["cilium", "kubernetes"])
def test_what_no_api_would_take_decides_nothing_and_is_told(engine: str) -> None:
    selector = {"matchExpressions": [{"key": "app", "operator": "Is", "values": ["a"]}]}
    policy = {"kind": "knp", "name": "k", "ns": "web", "spec": {"podSelector": selector}}
    world = world_of({"engine": engine, "policies": [policy]})
    (found,) = dead_rules_of_union(world)
    assert (found.rule, found.reason) == ("knp/web/k", "refused")
    assert "'Is'" in found.explanation
    plain = next(each for each in world.endpoints if each.name == "a-plain")
    outside = next(each for each in world.endpoints if each.name == "ext")
    assert Evaluator(world).decide(Flow(outside, plain, Protocol.TCP, 80)).allowed


def one_of(key: str, *values: str) -> dict[str, object]:
    return {"key": key, "operator": "In", "values": list(values)}
