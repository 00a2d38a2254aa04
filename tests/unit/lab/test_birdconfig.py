"""From Calico's objects to a BIRD configuration."""

import re
import shutil
import subprocess
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from provision.lab.calico.birdconfig import render, sessions
from provision.lab.calico.resources import BgpConfiguration, BgpPeer, BlockAffinity
from provision.lab.topology import Timers


@pytest.fixture
def cluster(clusters):
    return clusters["us-east-1"]


@pytest.fixture
def reflector(cluster):
    return cluster.nodes[0]


@pytest.fixture
def worker(cluster):
    return cluster.nodes[1]


def test_a_worker_peers_with_the_reflector_alone(cluster, worker):
    (session,) = sessions(cluster, worker)
    assert (session.name, session.as_number, session.reflector_client) == ("Node_10_0_1_10", 64512, False)


def test_the_reflector_peers_with_its_clients_and_with_the_other_clusters(cluster, reflector):
    seen = {s.name: (s.as_number, s.reflector_client, s.keep_next_hop, s.passive) for s in sessions(cluster, reflector)}
    assert seen == {
        "Node_10_0_1_11": (64512, True, False, False),
        "Node_10_0_1_12": (64512, True, False, False),
        "Node_10_0_1_13": (64512, True, False, False),
        "Node_10_1_1_10": (64513, False, True, False),
        "Node_10_2_1_10": (64514, False, True, False),
    }


def test_two_reflectors_of_one_cluster_id_are_not_each_others_clients(cluster, reflector, worker):
    second = replace(worker, labels=reflector.labels, reflector_cluster_id=reflector.reflector_cluster_id)
    twins = replace(cluster, nodes=(reflector, second, *cluster.nodes[2:]))
    (between,) = (s for s in sessions(twins, second) if s.address == reflector.address.ip)
    assert not between.reflector_client


def test_the_node_mesh_leaves_reflectors_out_and_the_higher_address_waits(cluster, reflector, worker):
    meshed = replace(cluster, peers=(), bgp=BgpConfiguration(64512, node_mesh=True))
    assert sessions(meshed, reflector) == ()
    assert [(s.name, s.passive) for s in sessions(meshed, worker)] == [
        ("Mesh_10_0_1_12", True),
        ("Mesh_10_0_1_13", True),
    ]


def test_a_peering_without_selector_is_global_and_its_target_gets_the_reverse_side(cluster, worker):
    to_worker = BgpPeer("g", None, None, worker.address.ip, None, 64512, False)
    only = replace(cluster, peers=(to_worker,))
    assert [s.name for s in sessions(only, cluster.nodes[2])] == ["Global_10_0_1_11"]
    assert {s.name for s in sessions(only, worker)} == {"Node_10_0_1_10", "Node_10_0_1_12", "Node_10_0_1_13"}


def test_a_nodes_own_as_makes_its_sessions_external(cluster, reflector, worker):
    odd = replace(worker, as_number=64600)
    mixed = replace(cluster, nodes=(reflector, odd, *cluster.nodes[2:]))
    (seen,) = (s for s in sessions(mixed, reflector) if s.address == odd.address.ip)
    assert (seen.as_number, seen.reflector_client) == (64600, False)


def test_own_blocks_and_services_are_held_but_services_stay_out_of_the_kernel(cluster, worker, all_nodes):
    text = render(cluster, worker, all_nodes)
    assert "route 192.168.0.128/26 blackhole;" in text
    assert "route 172.20.0.0/16 blackhole;" in text
    assert 'if proto = "static1" && net ~ 172.20.0.0/16 then reject;' in text


def test_a_block_that_is_not_the_nodes_is_not_announced(cluster, worker, all_nodes):
    foreign = replace(cluster, blocks=(BlockAffinity("x", "elsewhere", IPv4Network("192.168.9.0/26")),))
    assert "192.168.9.0/26" not in render(foreign, worker, all_nodes)


def test_every_other_nodes_next_hop_leads_to_its_tunnel_endpoint(cluster, worker, all_nodes):
    text = render(cluster, worker, all_nodes)
    mapped = re.findall(r"route ([\d.]+)/32 via ([\d.]+)%'vxlan.calico' onlink;", text)
    assert len(mapped) == 11
    assert ("10.1.1.11", "192.168.64.128") in mapped
    assert "10.0.1.11" not in dict(mapped)


def test_pools_decide_what_is_exported_and_what_is_encapsulated(cluster, worker, all_nodes):
    own, fed, *_ = cluster.pools
    pools = (
        own,
        replace(fed, vxlan_mode="CrossSubnet"),
        replace(fed, name="bare", cidr=IPv4Network("10.50.0.0/16"), vxlan_mode="Never"),
        replace(fed, name="secret", cidr=IPv4Network("10.60.0.0/16"), disable_bgp_export=True),
    )
    text = render(replace(cluster, pools=pools), worker, all_nodes)
    export = text.split("filter calico_export_to_bgp_peers")[1].split("\nfilter")[0]
    imports = text.split("filter calico_next_hops")[1].split("\nprotocol")[0]
    assert f"if net ~ {fed.cidr} then accept;" in export
    assert "if net ~ 10.50.0.0/16 then accept;" in export
    assert "if net ~ 10.60.0.0/16 then reject;" in export
    assert f"if net ~ {own.cidr} then accept;" in imports
    assert f"if net ~ {fed.cidr} && !(bgp_next_hop ~ 10.0.1.0/24) then accept;" in imports
    assert "10.50.0.0/16" not in imports
    assert "then gw = bgp_next_hop; else gw = 10.0.1.1;" in imports


def test_a_missing_pool_leaves_its_routes_unexported_and_unencapsulated(cluster, worker, all_nodes):
    remaining = tuple(pool for pool in cluster.pools if pool.name != "fed-ipv4-clusterb")
    assert "192.168.64.0/18" not in render(replace(cluster, pools=remaining), worker, all_nodes)


def test_calico_timers_are_those_that_confd_renders(cluster, worker, all_nodes):
    fast, calico = (render(cluster, worker, all_nodes, timers) for timers in (Timers.FAST, Timers.CALICO))
    assert "hold time 3;" in fast
    assert "graceful restart time 5;" in fast
    assert "hold time" not in calico
    assert "graceful restart time" not in calico
    assert all("graceful restart on;" in text for text in (fast, calico))


def test_there_is_always_a_log_line(cluster, worker, all_nodes):
    assert "log stderr all;" in render(cluster, worker, all_nodes)


@pytest.mark.skipif(shutil.which("bird", path="/usr/sbin:/usr/bin") is None, reason="BIRD is not installed")
@pytest.mark.parametrize("timers", Timers)
@pytest.mark.parametrize("position", [0, 1])
def test_bird_accepts_what_is_rendered(cluster, all_nodes, timers, position, tmp_path):
    config = tmp_path / "bird.cfg"
    config.write_text(render(cluster, cluster.nodes[position], all_nodes, timers))
    done = subprocess.run(["/usr/sbin/bird", "-p", "-c", config], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_idle_node_announces_nothing(cluster, worker):
    idle = render(replace(cluster, peers=(), blocks=(), bgp=BgpConfiguration(node_mesh=False)), worker, [])
    assert "protocol bgp" not in idle
    assert "blackhole" not in idle
