"""Tunnel endpoints and packet filter, from Calico's objects."""

import re
from dataclasses import replace
from ipaddress import IPv4Network

from provision.lab.calico import felix
from provision.lab.calico.felix import Dataplane, desired_state, filter_table
from provision.lab.calico.resources import FelixConfiguration, read_felix_configuration


def members(rules: str, name: str) -> set[str]:
    body = re.search(rf"set {name} {{(.*?)\n    }}", rules, re.DOTALL)
    assert body, f"no set {name}"
    return set(re.findall(r"[\d.]+/\d+", body[1]))


def test_tunnels_are_accepted_from_own_nodes_and_external_nodes(clusters):
    rules = filter_table(clusters["us-east-1"])
    own = {f"10.0.1.{last}/32" for last in (10, 11, 12, 13)}
    assert members(rules, "cali40all-vxlan-net") == own | {"10.1.1.0/24", "10.2.1.0/24"}
    assert members(rules, "cali40all-hosts-net") == members(rules, "cali40all-vxlan-net")


def test_without_external_nodes_only_own_nodes_are_accepted(clusters):
    lonely = replace(clusters["us-east-1"], felix=FelixConfiguration())
    assert len(members(filter_table(lonely), "cali40all-vxlan-net")) == 4


def test_only_the_own_pool_masquerades_and_towards_no_pool(clusters):
    rules = filter_table(clusters["us-east-1"])
    assert members(rules, "cali40masq-ipam-pools") == {"192.168.0.0/18"}
    assert members(rules, "cali40all-ipam-pools") == {
        "192.168.0.0/18",
        "192.168.64.0/18",
        "192.168.128.0/18",
        "172.21.0.0/16",
        "172.22.0.0/16",
    }
    assert "ip saddr @cali40masq-ipam-pools ip daddr != @cali40all-ipam-pools counter masquerade" in rules


def test_a_pool_inside_another_adds_nothing_to_a_set(clusters):
    cluster = clusters["us-east-1"]
    inner = replace(cluster.pools[0], name="inner", cidr=IPv4Network("192.168.1.0/24"))
    rules = filter_table(replace(cluster, pools=(*cluster.pools, inner)))
    assert "192.168.1.0/24" not in rules


def test_a_cluster_without_pools_has_empty_sets(clusters):
    rules = filter_table(replace(clusters["us-east-1"], pools=()))
    assert members(rules, "cali40all-ipam-pools") == set()
    assert "elements = {  }" not in rules


def test_tunnels_lead_to_every_node_but_oneself(clusters, all_nodes):
    cluster = clusters["us-east-1"]
    state = desired_state(cluster, cluster.nodes[0], all_nodes)
    assert state.device is not None
    assert str(state.device.address) == "192.168.0.64"
    assert len(state.endpoints) == len(all_nodes) - 1
    assert state.device.local not in {endpoint.remote for endpoint in state.endpoints}


def test_tunnels_have_the_mtu_that_felix_was_told_or_what_the_nodes_device_leaves(clusters, all_nodes):
    cluster = clusters["us-east-1"]
    told = replace(cluster, felix=read_felix_configuration({"metadata": {"name": "d"}, "spec": {"vxlanMTU": 1400}}))
    devices = [desired_state(each, each.nodes[0], all_nodes).device for each in (cluster, told)]
    assert [device.mtu for device in devices if device] == [1450, 1400]


def test_a_device_whose_mtu_alone_changes_stays(clusters, all_nodes, monkeypatch):
    told, gone = [], []
    monkeypatch.setattr(felix.kernel, "ip", lambda _netns, orders: told.extend(orders))
    monkeypatch.setattr(felix.kernel, "bridge", lambda _netns, _orders: None)
    monkeypatch.setattr(felix.kernel, "load_rules", lambda _netns, _table, _rules: None)
    monkeypatch.setattr(felix.kernel, "forget", lambda _program, _netns, orders: gone.extend(orders))
    state = desired_state(clusters["us-east-1"], clusters["us-east-1"].nodes[0], all_nodes)
    assert state.device is not None
    dataplane = Dataplane("node")
    dataplane.apply(state)
    told.clear()
    dataplane.apply(replace(state, device=replace(state.device, mtu=1400)))
    assert gone == []
    assert told == ["link set vxlan.calico mtu 1400"]
