"""What a cluster of the lab holds from the start."""

import json
from ipaddress import IPv4Network

import pytest

from analysis.plan import Cni
from probes.permissions import agent_rules, cluster_rules, policy_rules, probe_rules, workload_cluster_rules
from provision.lab import seed
from provision.lab.roles import verifier_roles
from provision.lab.topology import aws_calico


def named(objects, kind):
    return {obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == kind}


def test_the_seed_is_json_with_one_object_per_name(seeded):
    for objects in seeded.values():
        json.dumps(objects)
        keys = [(o["apiVersion"], o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects]
        assert len(keys) == len(set(keys))


def test_objects_can_be_created_in_their_order(seeded):
    """A namespace comes before what is in it, a kind before its objects, an owner before what it owns."""
    namespaces, kinds, uids = {"kube-public"}, set(), set()
    for obj in seeded["us-east-1"]:
        meta = obj["metadata"]
        assert meta.get("namespace") is None or meta["namespace"] in namespaces, obj
        if obj["apiVersion"].startswith("crd.projectcalico.org"):
            assert obj["kind"] in kinds
        assert all(owner["uid"] in uids for owner in meta.get("ownerReferences", ()))
        uids.add(meta.get("uid"))
        if obj["kind"] == "Namespace":
            namespaces.add(meta["name"])
        if obj["kind"] == "CustomResourceDefinition":
            kinds.add(obj["spec"]["names"]["kind"])


def test_pools_are_the_own_one_and_the_other_clusters_disabled(seeded):
    pools = {name: pool["spec"] for name, pool in named(seeded["us-east-2"], "IPPool").items()}
    assert {name: spec["cidr"] for name, spec in pools.items()} == {
        "default-ipv4-ippool": "192.168.64.0/18",
        "fed-ipv4-clustera": "192.168.0.0/18",
        "fed-serviceips-clustera": "172.20.0.0/16",
        "fed-ipv4-clusterc": "192.168.128.0/18",
        "fed-serviceips-clusterc": "172.22.0.0/16",
    }
    assert {name for name, spec in pools.items() if not spec.get("disabled")} == {"default-ipv4-ippool"}
    assert {name for name, spec in pools.items() if spec["natOutgoing"]} == {"default-ipv4-ippool"}


def test_reflectors_peer_with_the_other_clusters_reflectors(seeded):
    peers = named(seeded["us-east-1"], "BGPPeer")
    assert {name: peer["spec"].get("peerIP") for name, peer in peers.items()} == {
        "peer-with-route-reflectors": None,
        "remote-rr-us-east-2": "10.1.1.10",
        "remote-rr-us-west-1": "10.2.1.10",
    }


def test_every_node_owns_a_block_whose_first_address_is_its_tunnels(lab, seeded):
    region = lab.region("us-west-1")
    blocks, claims = named(seeded["us-west-1"], "IPAMBlock"), named(seeded["us-west-1"], "BlockAffinity")
    owners = {IPv4Network(claim["spec"]["cidr"]): claim["spec"]["node"] for claim in claims.values()}
    assert owners == {node.block: node.name for node in region.nodes}
    for block in blocks.values():
        spec = block["spec"]
        assert spec["allocations"][0] == 0
        assert spec["attributes"][0]["secondary"]["type"] == "vxlanTunnelAddress"
        assert len(spec["unallocated"]) == len(spec["allocations"]) - 1


def test_every_node_runs_calico_node_and_the_workload_asked_for():
    topology = aws_calico("unit", regions=2, nodes=3, pods=2)
    pods = named(seed.objects(topology, topology.regions[0]), "Pod")
    assert {"demo-1-1", "demo-1-2", "demo-3-2"} <= pods.keys()
    agents = [pod for pod in pods.values() if pod["metadata"]["namespace"] == "calico-system"]
    assert {pod["spec"]["nodeName"] for pod in agents} == {f"us-east-1-node-{n}" for n in (1, 2, 3)}


def rights(objects, namespace):
    """(verb, group, resource) of the roles that bind the verifier, but the optional ones for changes."""
    kind = "Role" if namespace else "ClusterRole"
    return {
        (verb, group, resource)
        for role in objects
        if role["kind"] == kind
        and role["metadata"].get("namespace") == namespace
        and not role["metadata"]["name"].endswith(("disruptor", "offerer", "node-ports"))
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.mark.parametrize(
    ("namespace", "rules"),
    [
        (
            None,
            {
                rule
                for cni in Cni
                for rule in (*cluster_rules(cni), *workload_cluster_rules(), *policy_rules(cni, "meshproof"))
                if rule.namespace is None
            },
        ),
        ("meshproof", (*probe_rules("meshproof"), *policy_rules(Cni.CALICO_BGP, "meshproof")[-1:])),
        ("calico-system", agent_rules(Cni.CALICO_BGP, "calico-system")),
    ],
)
def test_the_verifier_may_do_exactly_what_the_probes_need(namespace, rules):
    assert rights(verifier_roles(), namespace) == {(rule.verb, rule.group, rule.resource) for rule in rules}
