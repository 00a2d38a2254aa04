"""What `cilium-dbg` prints, in each version's shape."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from provision.lab.cilium.dbg import health as health_forms
from provision.lab.cilium.dbg.command import render_list, render_status
from provision.lab.cilium.dbg.commandline import parse
from tests.unit.lab.cilium.agent_world import NORTH, NOW, VERSIONS, WEST, agent_state, health


def status_json(version: str) -> dict:
    return json.loads(render_status(agent_state(version), parse(["status", "-o", "json"]), NOW).out)


def status_text(version: str, *options: str) -> str:
    return render_status(agent_state(version), parse(["status", *options]), NOW).out


def printed(version: str, command: str) -> str:
    return render_list(agent_state(version), parse(command.split())).out


@pytest.mark.parametrize("version", VERSIONS)
def test_a_remote_cluster_that_is_well_has_all_its_fields(version):
    remote = next(one for one in status_json(version)["cluster-mesh"]["clusters"] if one["name"] == WEST)
    assert remote["ready"]
    assert remote["connected"]
    assert (remote["num-nodes"], remote["num-endpoints"], remote["num-identities"]) == (3, 14, 9)
    assert remote["synced"] == {"nodes": True, "endpoints": True, "identities": True, "services": True}
    assert remote["config"]["cluster-id"] == 2
    assert remote["last-failure"] == "0001-01-01T00:00:00.000Z"


@pytest.mark.parametrize("version", VERSIONS)
def test_zero_values_are_left_out_of_json_as_go_leaves_them_out(version):
    remote = next(one for one in status_json(version)["cluster-mesh"]["clusters"] if one["name"] == NORTH)
    assert remote == {
        "name": NORTH,
        "status": "Waiting for initial connection to be established",
        "num-failures": 4,
        "last-failure": "2026-11-22T09:41:37.000Z",
        "synced": {},
    }


@pytest.mark.parametrize(
    ("version", "line"),
    [
        ("1.14.9", "1/2 clusters ready, 1 global-services"),
        ("1.15.4", "1/2 clusters ready, 1 global-services"),
        ("1.16.5", "1/2 remote clusters ready, 1 global-services"),
        ("1.18.0", "1/2 remote clusters ready, 1 global-services"),
        ("1.19.1", "1/2 remote clusters ready"),
    ],
)
def test_the_first_line_of_the_mesh_follows_the_version(version, line):
    assert f"ClusterMesh:             {line}\n" in status_text(version)


def test_only_clusters_that_are_not_ready_are_listed_unless_all_are_asked_for():
    assert f"   {WEST}:" not in status_text("1.16.5")
    assert f"   {NORTH}: not-ready" in status_text("1.16.5")
    assert f"   {WEST}: ready, 3 nodes, 14 endpoints" in status_text("1.16.5", "--all-clusters")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("1.15.4", "1 services, 0 failures (last: never)"),
        ("1.16.5", "1 services, 0 reconnections (last: never)"),
        ("1.17.2", "1 services, 0 MCS-API service exports, 0 reconnections (last: never)"),
    ],
)
def test_the_words_for_a_lost_connection_follow_the_version(version, words):
    assert words in status_text(version, "--verbose")


def test_a_cluster_whose_settings_were_never_read_says_so():
    assert "remote configuration: expected=unknown, retrieved=unknown" in status_text("1.16.5")


@pytest.mark.parametrize("version", VERSIONS)
def test_how_packets_are_routed_is_told_where_the_version_tells_it(version):
    told = status_json(version)
    if version < "1.16":
        assert told["host-routing"] == {"mode": "Legacy"}
        assert "routing" not in told
    else:
        assert told["routing"]["inter-host-routing-mode"] == "Tunnel"
        assert told["routing"]["tunnel-protocol"] == "vxlan"
        assert "Network: Tunnel [vxlan]   Host: Legacy" in status_text(version)


def test_an_agent_without_its_api_server_fails_in_text_only():
    state = replace(agent_state(), kubernetes_error="connection refused")
    assert render_status(state, parse(["status", "--brief"]), NOW).code == 1
    reply = render_status(state, parse(["status", "-o", "json"]), NOW)
    assert reply.code == 0
    assert json.loads(reply.out)["cilium"]["state"] == "Failure"


@pytest.mark.parametrize(("version", "has_source"), [("1.14.9", False), ("1.15.4", True), ("1.19.1", True)])
def test_nodes_tell_their_source_since_1_15(version, has_source):
    assert ("Source" in printed(version, "node list").splitlines()[0]) is has_source
    nodes = json.loads(printed(version, "node list -o json"))
    assert [node.get("source") for node in nodes] == (
        ["local", "custom-resource", "clustermesh"] if has_source else [None] * 3
    )
    assert nodes[0]["primary-address"]["ipv4"]["alloc-range"] == "10.10.0.0/24"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_tunnel_map_is_gone_in_1_18(version):
    reply = render_list(agent_state(version), parse(["bpf", "tunnel", "list", "-o", "json"]))
    if version >= "1.18":
        assert reply.code == 1
        assert "unknown command" in reply.err
    else:
        assert json.loads(reply.out)["10.11.0.0"] == ["10.2.1.4:0"]


@pytest.mark.parametrize(
    ("version", "value"),
    [
        ("1.14.9", "identity=131912 encryptkey=0 tunnelendpoint=10.2.1.4"),
        ("1.16.5", "identity=131912 encryptkey=0 tunnelendpoint=10.2.1.4 flags=hastunnel"),
        ("1.19.1", "identity=131912 encryptkey=0 tunnelendpoint=10.2.1.4 flags=hastunnel,remotecluster"),
    ],
)
def test_the_ipcache_says_where_an_address_is(version, value):
    assert json.loads(printed(version, "bpf ipcache list -o json"))["10.11.0.17/32"] == [value]
    assert value in printed(version, "bpf ipcache list")


def test_an_identity_has_a_line_for_each_label():
    lines = printed("1.16.5", "identity list").splitlines()
    assert [line.split() for line in lines[2:4]] == [
        ["110119", "k8s:app=demo"],
        ["k8s:io.cilium.k8s.policy.cluster=crdb-cilium-eastus"],
    ]


def test_services_name_the_clusters_of_their_backends():
    (service,) = json.loads(printed("1.16.5", "service list -o json"))
    assert [backend["clusterName"] for backend in service["spec"]["backend-addresses"]] == [
        "crdb-cilium-eastus",
        WEST,
    ]


def test_endpoints_say_their_device():
    (endpoint,) = json.loads(printed("1.16.5", "endpoint list -o json"))
    assert endpoint["status"]["networking"]["interface-name"] == "lxc0123456789ab"


def test_a_reachable_path_has_no_status_in_the_health_report():
    well, lost = json.loads(health_forms.health_json(health()))["nodes"]
    assert "status" not in well["host"]["primary-address"]["icmp"]
    assert lost["host"]["primary-address"]["http"]["status"] == "Connection timed out"
    assert "Connection timed out" in health_forms.health_text(health(), NOW)


def test_a_command_that_does_not_exist_is_an_error():
    reply = render_list(agent_state(), parse(["bpf", "nothing", "list"]))
    assert (reply.code, reply.out) == (1, "")


@pytest.mark.parametrize("given", [["-o", "json"], ["-ojson"], ["--output", "json"], ["--output=json"]])
def test_options_are_read_in_all_of_their_forms(given):
    command = parse(["kvstore", "get", "--recursive", "cilium/", *given])
    assert command.words == ("kvstore", "get", "cilium/")
    assert command.output == "json"
    assert command.has("recursive")
