"""The policy that a Calico lab starts with, and what its API takes."""

from copy import deepcopy

import pytest

from provision.lab.calico.policy.objects import read_network_set, read_policy
from provision.lab.calico.policy.schemas import schema_of
from provision.lab.calico.policy.seed import isolation, objects
from provision.lab.kube.apiserver.schemas import check, prune
from provision.lab.topology import PolicyPeers, aws_calico, azure_cilium

LAB = aws_calico("lab")
EAST, OHIO, _ = LAB.regions


@pytest.mark.parametrize("region", LAB.regions, ids=lambda region: region.name)
def test_the_api_takes_the_seeded_objects_whole(region):
    for obj in objects(LAB, region):
        schema = schema_of(obj["kind"])
        assert prune(schema, deepcopy(obj)) == []
        assert check(schema, obj) == []


def test_a_policy_is_about_the_database_pods_of_its_own_region():
    policy = read_policy(isolation(LAB, EAST))
    assert policy.selects({"app": "cockroachdb", "geography": EAST.name})
    assert not policy.selects({"app": "cockroachdb", "geography": OHIO.name})
    assert not policy.selects({"app": "cockroachdb"})


def test_a_misspelt_field_is_one_that_the_api_does_not_know():
    policy = isolation(LAB, EAST)
    rule = policy["spec"]["ingress"][0]
    rule["sources"] = rule.pop("source")
    assert prune(schema_of(policy["kind"]), policy) == ["spec.ingress[0].sources"]


def test_an_action_is_one_of_four():
    policy = isolation(LAB, EAST)
    policy["spec"]["ingress"][0]["action"] = "allow"
    (path, _), *more = check(schema_of(policy["kind"]), policy)
    assert (path, more) == ("spec.ingress[0].action", [])


def test_without_federation_each_other_cluster_is_a_set_of_all_its_pods():
    lab = aws_calico("lab", policy_peers=PolicyPeers.NETWORK_SETS)
    sets = [read_network_set(obj) for obj in objects(lab, lab.regions[0]) if obj["kind"] == "GlobalNetworkSet"]
    assert [(each.labels["geography"], each.nets) for each in sets] == [
        (region.name, (region.plan.pod_cidr,)) for region in lab.regions[1:]
    ]
    assert all(each.labels["app"] == "cockroachdb" for each in sets)


def test_network_sets_are_calicos():
    with pytest.raises(ValueError, match="network sets"):
        azure_cilium("lab", policy_peers=PolicyPeers.NETWORK_SETS)
