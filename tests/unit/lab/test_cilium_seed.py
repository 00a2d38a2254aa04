"""What a cluster of the profile azure-cilium holds from the start."""

import json
from ipaddress import IPv4Address, IPv4Network

import pytest

from provision.lab import seed
from provision.lab.cilium import credentials
from provision.lab.dns.translation import PIECE, translate
from provision.lab.topology import azure_cilium

LAB = azure_cilium("unit")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return credentials.create(tmp_path_factory.mktemp("pki"), LAB, {})


@pytest.fixture(scope="module")
def seeded(given):
    return {region.name: seed.objects(LAB, region, given[region.name]) for region in LAB.regions}


def of(objects, kind):
    return {obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == kind}


def test_the_seed_is_json_and_can_be_created_in_its_order(seeded):
    namespaces, kinds, uids, keys = {"kube-system"}, set(), set(), set()
    for obj in seeded["eastus"]:
        json.dumps(obj)
        meta = obj["metadata"]
        assert meta.get("namespace") is None or meta["namespace"] in namespaces, obj
        assert not obj["apiVersion"].startswith("cilium.io") or obj["kind"] in kinds
        assert all(owner["uid"] in uids for owner in meta.get("ownerReferences", ()))
        uids.add(meta.get("uid"))
        keys.add((obj["kind"], meta.get("namespace"), meta["name"]))
        if obj["kind"] == "Namespace":
            namespaces.add(meta["name"])
        if obj["kind"] == "CustomResourceDefinition":
            kinds.add(obj["spec"]["names"]["kind"])
    assert len(keys) == len(seeded["eastus"])


def test_clusters_have_an_id_a_name_and_a_pool_of_their_own(seeded):
    settings = [of(objects, "ConfigMap")["cilium-config"]["data"] for objects in seeded.values()]
    asked = ("cluster-id", "cluster-name", "cluster-pool-ipv4-cidr", "cluster-pool-ipv4-mask-size")
    assert [tuple(each[key] for key in asked) for each in settings] == [
        ("1", "crdb-cilium-eastus", "10.10.0.0/16", "24"),
        ("2", "crdb-cilium-westus", "10.11.0.0/16", "24"),
        ("3", "crdb-cilium-northeurope", "10.12.0.0/16", "24"),
    ]
    assert all(isinstance(value, str) for each in settings for value in each.values())


def test_every_node_has_a_pod_cidr_and_an_address_in_it(seeded):
    for region in LAB.regions:
        nodes = of(seeded[region.name], "CiliumNode")
        assert nodes.keys() == {node.name for node in region.nodes}
        for node in region.nodes:
            spec = nodes[node.name]["spec"]
            addresses = {each["type"]: each["ip"] for each in spec["addresses"]}
            assert spec["ipam"]["podCIDRs"] == [str(node.block)]
            assert addresses == {"InternalIP": str(node.address), "CiliumInternalIP": str(node.tunnel_address)}


def test_nodes_are_servers_of_k3s_with_a_vote(seeded):
    for node in of(seeded["westus"], "Node").values():
        labels, conditions = node["metadata"]["labels"], node["status"]["conditions"]
        assert {labels[f"node-role.kubernetes.io/{role}"] for role in ("control-plane", "etcd", "master")} == {"true"}
        assert [(each["type"], each["status"]) for each in conditions] == [("EtcdIsVoter", "True")]


def test_agents_know_the_other_clusters_stores_by_their_nodes_addresses(seeded):
    aliases = of(seeded["eastus"], "DaemonSet")["cilium"]["spec"]["template"]["spec"]["hostAliases"]
    assert {(each["ip"], *each["hostnames"]) for each in aliases} == {
        *((f"10.2.1.{host}", "crdb-cilium-westus.mesh.cilium.io") for host in (4, 5, 6)),
        *((f"10.3.1.{host}", "crdb-cilium-northeurope.mesh.cilium.io") for host in (4, 5, 6)),
    }


def test_stores_have_a_port_of_their_own_in_every_cluster(seeded):
    services = [of(objects, "Service")["clustermesh-apiserver"]["spec"] for objects in seeded.values()]
    assert [service["ports"][0]["nodePort"] for service in services] == [32379, 32380, 32381]


def test_names_of_other_regions_are_asked_for_at_their_nodes_and_no_remote_clusterip(seeded):
    corefile = of(seeded["eastus"], "ConfigMap")["coredns"]["data"]["Corefile"]
    forwarded = translate([(PIECE, corefile)], "nameserver 198.51.100.53").forwarded
    assert forwarded["westus.svc.cluster.local"] == tuple((IPv4Address(f"10.2.1.{host}"), 31450) for host in (4, 5, 6))
    assert forwarded["northeurope.svc.cluster.local"][0] == (IPv4Address("10.3.1.4"), 31451)
    services = [of(objects, "Service")["kube-dns-lb"]["spec"]["ports"] for objects in seeded.values()]
    assert [{port["nodePort"] for port in ports} for ports in services] == [{31449}, {31450}, {31451}]
    assert [{port["protocol"] for port in ports} for ports in services] == [{"UDP", "TCP"}] * 3


def test_clusterips_are_in_the_service_range_and_given_out_once(seeded):
    for objects in seeded.values():
        services = of(objects, "Service").values()
        addresses = [each["spec"]["clusterIP"] for each in services if each["spec"]["clusterIP"] != "None"]
        assert len(set(addresses)) == len(addresses)
        assert all(IPv4Network(address).subnet_of(IPv4Network("10.43.0.0/16")) for address in addresses)


def test_the_verifier_gets_no_rights_in_namespaces_of_another_cni(seeded):
    namespaces = of(seeded["eastus"], "Namespace").keys()
    assert "calico-system" not in namespaces
    roles = [obj for obj in seeded["eastus"] if obj["kind"] in ("Role", "RoleBinding")]
    assert {role["metadata"]["namespace"] for role in roles} <= namespaces


def test_credentials_are_one_authority_and_an_entry_for_each_other_cluster(given):
    for region in LAB.regions:
        secrets = {obj["metadata"]["name"]: obj for obj in given[region.name]}
        others = {str(other.plan.cluster_name) for other in LAB.regions if other is not region}
        assert secrets["cilium-clustermesh"]["data"].keys() == others
    authorities = {obj["data"]["ca.crt"] for objects in given.values() for obj in objects if "ca.crt" in obj["data"]}
    assert len(authorities) == 1
