"""Facts of running clusters, read into the world that policies act in."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from analysis.facts import LabelledNamespace, Policies, PolicyEndpoint, PolicyObject, RemoteKnowledge
from analysis.plan import Plan
from analysis.policy.model import EndpointKind, Engine, PolicyKind
from analysis.policy.read import world_of
from tests.unit.analysis.cilium_world import plan as cilium_plan
from tests.unit.analysis.world import perfect as calico_mesh


def written(region: str, kind: str, api_version: str, spec: dict[str, Any], namespace: str = "") -> PolicyObject:
    metadata = {"name": "it"} | ({"namespace": namespace} if namespace else {})
    document = {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
    return PolicyObject(region, kind, api_version, namespace, "it", json.dumps(document))


def pod(name: str, **other: Any) -> PolicyEndpoint:
    fields: dict[str, Any] = {
        "region": "us-east-1",
        "namespace": "web",
        "name": name,
        "node": "n1",
        "address": IPv4Address("10.0.0.9"),
        "host_network": False,
        "labels": (("app", "front"),),
        "ports": (("http", "TCP", 8080), ("odd", "UDPLite", 1)),
    }
    return PolicyEndpoint(**(fields | other))


def plans() -> tuple[Plan, Plan]:
    return calico_mesh().plan, cilium_plan()


def test_networkpolicy_is_a_kind_of_two_groups() -> None:
    policies = Policies(
        objects=(
            written("us-east-1", "NetworkPolicy", "crd.projectcalico.org/v1", {"selector": "all()"}, "web"),
            written("us-east-1", "NetworkPolicy", "networking.k8s.io/v1", {"podSelector": {}}, "web"),
            written("us-east-1", "CiliumNetworkPolicy", "cilium.io/v2", {"endpointSelector": {}}, "web"),
            written("us-east-1", "Tier", "projectcalico.org/v3", {"order": 10}),
            written("us-east-1", "GlobalNetworkSet", "projectcalico.org/v3", {"nets": ["10.2.0.0/16"]}),
        ),
        endpoints=(pod("front"), pod("agent", host_network=True), pod("coming", address=None)),
        namespaces=(LabelledNamespace("us-east-1", "web", (("team", "front"),)),),
        knowledge=(RemoteKnowledge("us-east-1", "", "us-east-2", "federation", True),),
    )
    world = world_of(policies, plans()[0])
    assert world.engine is Engine.CALICO
    assert [policy.path for policy in world.policies] == ["np/web/it", "knp/web/it"]
    assert world.tiers[0].order == 10
    assert world.network_sets[0].nets == ("10.2.0.0/16",)
    assert [(each.name, each.kind) for each in world.endpoints] == [
        ("front", EndpointKind.POD),
        ("agent", EndpointKind.HOST_POD),
    ]
    assert [name for name, _, _ in world.endpoints[0].ports] == ["http"]
    assert world.namespaces["us-east-1", "web"] == {"team": "front"}
    assert world.options.federation


@pytest.mark.parametrize(
    ("settings", "local"),
    [
        ({}, True),
        ({"version": "v1.18.3"}, False),
        ({"version": "v1.19.0"}, True),
        ({"version": "v1.18.3", "policy-default-local-cluster": "true"}, True),
        ({"version": "v1.20.0", "policy-default-local-cluster": "false"}, False),
    ],
)
def test_a_cilium_world_knows_whom_selectors_mean(settings: dict[str, str], local: bool) -> None:
    entry: dict[str, Any] = {"endpointSelector": {}, "ingress": [{}]}
    document = {"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "it"}}
    plan = plans()[1]
    policies = Policies(
        objects=(
            replace(
                written("us-east-1", "CiliumClusterwideNetworkPolicy", "cilium.io/v2", {}),
                document=json.dumps(document | {"specs": [entry, entry]}),
            ),
        ),
        endpoints=(),
        settings=tuple(("us-east-1", key, value) for key, value in settings.items()),
    )
    world = world_of(policies, plan)
    assert world.engine is Engine.CILIUM
    assert world.policies[0].kind is PolicyKind.CILIUM_CLUSTERWIDE_NETWORK_POLICY
    assert world.policies[0].specs == (entry, entry)
    assert world.options.default_local_cluster is local
    assert world.options.cluster_names == {region.name: region.cluster_name for region in plan.regions}
