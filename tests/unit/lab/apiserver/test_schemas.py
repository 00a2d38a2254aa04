"""Custom objects and the schemas of their kinds."""

from __future__ import annotations

import pytest

from provision.lab.cilium.policy.schema import policy_schema
from provision.lab.kube.apiserver.schemas import check, prune

ANY_POLICY = policy_schema(clusterwide=True)


def policy(**section):
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": "p", "labels": {"any": "label"}},
        "spec": {"endpointSelector": {"matchLabels": {"app": "web"}}, **section},
    }


def test_a_policy_in_order_stays_as_it_is():
    obj = policy(ingress=[{"fromEndpoints": [{}], "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]}])
    before = repr(obj)
    assert prune(ANY_POLICY, obj) == []
    assert check(ANY_POLICY, obj) == []
    assert repr(obj) == before


def test_a_misspelt_field_is_taken_out_and_named():
    obj = policy(ingress=[{"fromEndpoint": [{}], "toPorts": [{"ports": [{"port": "443", "protocl": "TCP"}]}]}])
    assert prune(ANY_POLICY, obj) == ["spec.ingress[0].fromEndpoint", "spec.ingress[0].toPorts[0].ports[0].protocl"]
    assert obj["spec"]["ingress"] == [{"toPorts": [{"ports": [{"port": "443"}]}]}]


def test_an_unknown_member_of_the_whole_object_goes_too():
    obj = policy() | {"spce": {}}
    assert prune(ANY_POLICY, obj) == ["spce"]
    assert "spce" not in obj


def test_what_is_left_open_by_the_schema_is_kept():
    obj = policy(egress=[{"toPorts": [{"ports": [{"port": "80"}], "rules": {"http": [{"method": "GET"}]}}]}])
    assert prune(ANY_POLICY, obj) == []


@pytest.mark.parametrize(
    ("section", "path", "said"),
    [
        ({"ingress": [{"fromEntities": ["everybody"]}]}, "spec.ingress[0].fromEntities[0]", "Unsupported value"),
        ({"ingress": {}}, "spec.ingress", "must be of type array"),
        ({"egress": [{"toCIDR": ["home"]}]}, "spec.egress[0].toCIDR[0]", "should match"),
        ({"egress": [{"toPorts": [{"ports": [{}] * 41}]}]}, "spec.egress[0].toPorts[0].ports", "Too many: 41"),
        ({"ingress": [{"icmps": [{"fields": [{}]}]}]}, "spec.ingress[0].icmps[0].fields[0].type", "Required value"),
        (
            {"ingress": [{"toPorts": [{"ports": [{"port": "1", "endPort": 70000}]}]}]},
            "spec.ingress[0].toPorts[0].ports[0].endPort",
            "less than or equal to 65535",
        ),
        ({"nodeSelector": {}}, "spec", "one and only one"),
    ],
)
def test_a_value_that_the_schema_forbids_is_named(section, path, said):
    ((where, problem),) = check(ANY_POLICY, policy(**section))
    assert where == path
    assert said in problem
