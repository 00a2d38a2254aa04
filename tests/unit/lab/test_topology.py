"""The figures of a lab: those of the published environments, and room for every size that may be asked for."""

from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

import pytest

from analysis.plan import Cni
from provision.lab.topology import TOPOLOGIES, Timers, azure_cilium, topology_from_spec, vtep_mac


def test_the_second_profile_has_the_published_figures():
    topology = azure_cilium("x")
    assert [(r.name, str(r.plan.network), str(r.plan.pod_cidr), r.plan.cluster_name) for r in topology.regions] == [
        ("eastus", "10.1.0.0/16", "10.10.0.0/16", "crdb-cilium-eastus"),
        ("westus", "10.2.0.0/16", "10.11.0.0/16", "crdb-cilium-westus"),
        ("northeurope", "10.3.0.0/16", "10.12.0.0/16", "crdb-cilium-northeurope"),
    ]
    assert [(n.name, n.alias, str(n.address), str(n.block)) for n in topology.regions[1].nodes] == [
        ("crdb-westus-node1", "node-1", "10.2.1.4", "10.11.0.0/24"),
        ("crdb-westus-node2", "node-2", "10.2.1.5", "10.11.1.0/24"),
        ("crdb-westus-node3", "node-3", "10.2.1.6", "10.11.2.0/24"),
    ]
    assert {str(r.plan.dns_address) for r in topology.regions} == {"10.43.0.10"}
    assert all(node.is_control_plane and not node.is_reflector for node in topology.nodes)


def test_a_plan_says_how_its_profile_joins_clusters():
    plans = {name: build("x").plan for name, build in TOPOLOGIES.items()}
    assert {name: (plan.cni, plan.services_routed) for name, plan in plans.items()} == {
        "aws-calico": (Cni.CALICO_BGP, True),
        "azure-cilium": (Cni.CILIUM_CLUSTERMESH, False),
    }


@pytest.mark.parametrize("profile", TOPOLOGIES)
def test_no_two_ranges_of_the_largest_lab_overlap(profile):
    topology = TOPOLOGIES[profile]("x", regions=8, nodes=200)
    plans = [region.plan for region in topology.regions]
    ranges = [network for plan in plans for network in (plan.network, plan.pod_cidr)]
    ranges += sorted({plan.service_cidr for plan in plans})
    assert not [pair for pair in combinations(ranges, 2) if pair[0].overlaps(pair[1])]
    assert len({node.address for node in topology.nodes}) == len({node.block for node in topology.nodes}) == 1600
    assert len({node.tunnel_mac for node in topology.nodes}) == 1600
    for region in topology.regions:
        assert all(node.address in region.plan.node_cidr for node in region.nodes)
        assert all(node.block.subnet_of(region.plan.pod_cidr) for node in region.nodes)


@pytest.mark.parametrize("profile", TOPOLOGIES)
def test_a_topology_follows_from_its_spec(profile):
    topology = TOPOLOGIES[profile]("x", regions=4, nodes=2, pods=0)
    assert topology_from_spec(topology.to_spec()) == topology


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ({"regions": 1}, "2 to 8 regions"),
        ({"nodes": 201}, "1 to 200 nodes"),
        ({"pods": 51}, "0 to 50 sample pods"),
        ({"timers": Timers.CALICO}, "no BGP"),
    ],
)
def test_what_a_lab_cannot_be_is_said(size, words):
    with pytest.raises(ValueError, match=words):
        azure_cilium("x", **size)


def test_a_tunnels_mac_address_follows_from_the_nodes_address():
    assert vtep_mac(IPv4Address("10.2.1.5")) == "66:c1:0a:02:01:05"
    assert azure_cilium("x").regions[1].nodes[1].tunnel_mac == "66:c1:0a:02:01:05"
    assert IPv4Network("10.11.1.0/24")[1] == azure_cilium("x").regions[1].nodes[1].tunnel_address
