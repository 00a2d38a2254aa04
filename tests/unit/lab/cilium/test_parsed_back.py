"""What the lab's cilium-dbg prints, in every version and shape, is read back as what the agent knew."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from analysis.cilium import (
    CiliumParseError,
    parse_health,
    parse_identities,
    parse_ipcache,
    parse_nodes,
    parse_services,
    parse_status,
    parse_tunnels,
    parse_version,
)
from provision.lab.cilium.dbg import health, lists, status
from provision.lab.cilium.dbg.command import render_list, render_version
from provision.lab.cilium.dbg.commandline import parse
from provision.lab.cilium.dbg.status import StatusOptions
from tests.unit.lab.cilium.agent_world import EAST, NORTH, NOW, VERSIONS, WEST, agent_state

SHAPES = ("json", "text")
EVERYTHING = StatusOptions(all_addresses=True, all_clusters=True, all_controllers=True, all_health=True)


@pytest.fixture(params=VERSIONS)
def state(request):
    return agent_state(request.param)


@pytest.fixture(params=SHAPES)
def shape(request):
    return request.param


def printed(state, shape, what):
    return getattr(lists, f"{what}_{shape}")(state)


def told_status(state, shape):
    return status.status_json(state) if shape == "json" else status.status_text(state, EVERYTHING, NOW)


def test_connections_to_other_clusters(state, shape):
    away, ready = parse_status(told_status(state, shape)).remotes
    assert (away.name, away.connected, away.ready, away.synced) == (NORTH, False, False, False)
    assert (away.failures, away.cluster_id, away.nodes) == (4, None, 0)
    assert away.status == "Waiting for initial connection to be established"
    assert (ready.name, ready.connected, ready.ready, ready.synced) == (WEST, True, True, True)
    assert (ready.nodes, ready.endpoints, ready.identities, ready.failures, ready.cluster_id) == (3, 14, 9, 0, 2)
    assert ready.status.startswith("etcd: 1/1 connected")


def test_a_cluster_that_is_not_in_sync_is_not_taken_for_it(state, shape):
    away, ready = state.remotes
    late = replace(ready, synced=replace(ready.synced, identities=False))
    read = parse_status(told_status(replace(state, remotes=(away, late)), shape)).remotes[1]
    assert (read.ready, read.synced) == (True, False)


def test_the_agent_s_own_state(state, shape):
    read = parse_status(told_status(state, shape))
    assert (read.state, read.version, read.cluster_id) == ("Ok", state.version, 1)
    assert read.masquerades is True
    told = state.minor >= (1, 16)
    assert (read.routing, read.encapsulation) == (("tunnel", "vxlan") if told else (None, None))


def test_an_agent_without_the_api_server_is_unwell(state, shape):
    read = parse_status(told_status(replace(state, kubernetes_error="no route to host"), shape))
    assert read.state == "Failure"
    assert "no route to host" in read.message


def test_an_agent_that_does_not_masquerade_says_so(state, shape):
    settings = state.settings | {"enable-ipv4-masquerade": "false", "routing-mode": "native"}
    read = parse_status(told_status(replace(state, settings=settings), shape))
    assert read.masquerades is False
    assert (read.routing, read.encapsulation) == (("native", None) if state.minor >= (1, 16) else (None, None))


def test_half_as_many_numbers_are_a_cluster_s_own_where_511_may_be_connected(state, shape):
    settings = state.settings | {"max-connected-clusters": "511"}
    read = parse_status(told_status(replace(state, settings=settings, cluster_id=300), shape))
    assert (read.cluster_id, read.identity_bits) == (300, 15)


def test_background_tasks_that_fail_are_told_in_json(state):
    (failing,) = parse_status(status.status_json(state)).failing
    assert failing.startswith(f"remote-etcd-{NORTH}: dial tcp")


def test_nodes(state, shape):
    read = parse_nodes(printed(state, shape, "nodes"))
    assert {(one.cluster, one.name, one.address, one.pod_cidrs) for one in read} == {
        (one.cluster, one.name, one.address, (one.pod_cidr,)) for one in state.nodes
    }


def test_a_node_without_a_block_has_none(state, shape):
    nodes = tuple(replace(one, pod_cidr=None) for one in state.nodes)
    assert {one.pod_cidrs for one in parse_nodes(printed(replace(state, nodes=nodes), shape, "nodes"))} == {()}


def test_the_tunnel_map(state, shape):
    reply = render_list(state, parse(["bpf", "tunnel", "list", *(["-o", "json"] if shape == "json" else [])]))
    if state.minor >= (1, 18):
        assert "unknown command" in reply.err
    else:
        assert parse_tunnels(reply.out) == {entry.prefix.network_address: entry.endpoint for entry in state.tunnels}


def test_an_empty_tunnel_map_is_no_error(state, shape):
    assert parse_tunnels(printed(replace(state, tunnels=()), shape, "tunnels")) == {}


def test_the_ipcache(state, shape):
    read = parse_ipcache(printed(state, shape, "ipcache"))
    assert {(one.prefix, one.identity, one.tunnel) for one in read} == {
        (one.prefix, one.identity, one.tunnel) for one in state.ipcache
    }


def test_identities(state, shape):
    read = parse_identities(printed(state, shape, "identities"))
    assert [(one.number, one.cluster) for one in read] == [(1, None), (110119, EAST)]


def test_node_health(state, shape):
    assert state.health is not None
    told = health.health_json(state.health) if shape == "json" else health.health_text(state.health, NOW)
    well, unwell = parse_health(told)
    assert (well.cluster, well.name, well.problem) == (EAST, "crdb-eastus-node1", "")
    assert (unwell.cluster, unwell.name) == (WEST, "crdb-westus-node1")
    assert "Connection timed out" in unwell.problem


def test_versions(state, shape):
    command = parse(["version", *(["-o", "json"] if shape == "json" else [])])
    assert parse_version(render_version(state.version, command).out) == state.version


def test_services(state):
    (service,) = parse_services(lists.services_json(state))
    assert (service.namespace, service.name) == ("default", "echo")
    assert service.backends == (IPv4Address("10.10.0.17"), IPv4Address("10.11.0.17"))


@pytest.mark.parametrize(
    "parser",
    [parse_status, parse_nodes, parse_tunnels, parse_ipcache, parse_identities, parse_health, parse_version],
)
@pytest.mark.parametrize("told", ["", "Error: cannot connect to the agent", "{", '{"unexpected": 1}', "[3]"])
def test_what_is_something_else_is_an_error_and_no_guess(parser, told):
    with pytest.raises(CiliumParseError):
        parser(told)


@pytest.mark.parametrize(
    ("key", "value", "entry"),
    [
        ("10.11.0.0/24", "identity=2 encryptkey=0 tunnelendpoint=10.2.1.4, flags=hastunnel", ("10.2.1.4", 0)),
        ("10.11.0.17/32@2", "identity=131912 encryptkey=0 tunnelendpoint=10.2.1.4 nodeid=7", ("10.2.1.4", 2)),
        ("10.10.0.1/32", "identity=1 encryptkey=0 tunnelendpoint=0.0.0.0 flags=<none>", (None, 0)),
    ],
)
def test_the_forms_of_other_releases(key, value, entry):
    (read,) = parse_ipcache(f'{{"{key}": ["{value}"], "fd00::1/128": ["identity=1"]}}')
    assert read.prefix == IPv4Network(key.partition("@")[0])
    assert (read.tunnel and str(read.tunnel), read.cluster_id) == entry
