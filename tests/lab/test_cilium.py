"""A lab of the profile azure-cilium: pods of both clusters reach each other, and its objects are obeyed."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from kubernetes import client, config
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

EAST, WEST = "eastus", "westus"
GROUP = "cilium.io"
STORE = "clustermesh-apiserver"
DEADLINE_S = 15
PROJECT = Path(__file__).parents[2]

SERVE = """
import socket
with socket.create_server(("", 7000)) as server:
    connection, (caller, _) = server.accept()
    connection.sendall(caller.encode())
    connection.close()
"""
KNOCK = """
import socket, sys, time
until = time.monotonic() + 10
while True:
    try:
        print(socket.create_connection((sys.argv[1], 7000), timeout=1).makefile().read())
        break
    except OSError:
        if time.monotonic() > until:
            raise
        time.sleep(0.05)
"""

ASK_STATUS = """
import json, socket
end = socket.socket(socket.AF_UNIX)
end.connect("/run/cilium/cilium.sock")
end.sendall(json.dumps({"argv": ["cilium-dbg", "status", "-o", "json"]}).encode() + b"\\n")
print(json.loads(end.makefile().readline())["out"])
"""


def eventually(look):
    """The first value that `look` returns and that counts as true, or its last one."""
    attempts = Retrying(
        retry=retry_if_result(lambda value: not value),
        stop=stop_after_delay(DEADLINE_S),
        wait=wait_fixed(0.1),
        retry_error_callback=lambda state: state.outcome.result(),
    )
    return attempts(look)


class Cluster:
    """One region's cluster through its API."""

    def __init__(self, lab, region):
        api = config.new_client_from_config(str(lab.folder.admin_kubeconfig), context=region)
        self.core, self.apps = client.CoreV1Api(api), client.AppsV1Api(api)
        self._custom = client.CustomObjectsApi(api)

    def address(self, pod):
        return self.core.read_namespaced_pod(pod, "default").status.pod_ip

    def cilium_node(self, name):
        return self._custom.get_cluster_custom_object(GROUP, "v2", "ciliumnodes", name)

    def patch_node(self, name, spec):
        self._custom.patch_cluster_custom_object(GROUP, "v2", "ciliumnodes", name, {"spec": spec})

    def operator_error(self, name):
        status = self.cilium_node(name).get("status", {})
        return status.get("ipam", {}).get("operator-status", {}).get("error", "")

    def scale(self, replicas):
        body = {"spec": {"replicas": replicas}}
        self.apps.patch_namespaced_deployment_scale(STORE, "kube-system", body)

    @contextmanager
    def pod(self, name, node):
        """A pod that does nothing, and its address."""
        body = {
            "metadata": {"name": name},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "pause", "image": "registry.k8s.io/pause:3.8"}],
            },
        }
        self.core.create_namespaced_pod("default", body)
        try:
            assert eventually(lambda: self.core.read_namespaced_pod(name, "default").status.phase == "Running")
            yield self.address(name)
        finally:
            self.core.delete_namespaced_pod(name, "default", grace_period_seconds=0)


@pytest.fixture(scope="module")
def east(cilium_lab):
    return Cluster(cilium_lab, EAST)


@pytest.fixture(scope="module")
def west(cilium_lab):
    return Cluster(cilium_lab, WEST)


@pytest.fixture
def caller_seen_by(cilium_lab, at_cilium):
    """The address that a pod sees when a place connects to it: `caller_seen_by("westus/demo-1-1", address, place)`."""

    def seen(pod, address, place):
        name = cilium_lab.state.name
        serve = [sys.executable, "-m", "provision", "exec", name, pod, "--", "python3", "-c", SERVE]
        server = subprocess.Popen(serve, cwd=PROJECT)
        try:
            return at_cilium(place, "python3", "-c", KNOCK, address).stdout.strip()
        finally:
            server.kill()
            server.wait()

    return seen


def routes(at_cilium, place, *arguments):
    return at_cilium(place, "ip", "-4", "route", "show", *arguments).stdout.splitlines()


def test_pods_reach_each_other_across_clusters_under_their_own_addresses(east, west, caller_seen_by):
    theirs = west.address("demo-2-1")
    assert caller_seen_by(f"{WEST}/demo-2-1", theirs, f"{EAST}/demo-1-1") == east.address("demo-1-1")
    ours = east.address("demo-1-1")
    assert caller_seen_by(f"{EAST}/demo-1-1", ours, f"{WEST}/demo-2-1") == theirs


def test_a_node_reaches_pods_of_the_other_cluster_under_its_address_inside_the_mesh(west, caller_seen_by):
    assert caller_seen_by(f"{WEST}/demo-2-1", west.address("demo-2-1"), f"{EAST}/node-1") == "10.10.0.1"


def test_pods_leave_for_the_internet_under_their_nodes_public_address(at_cilium):
    answer = at_cilium(f"{EAST}/demo-2-1", "bash", "-c", "cat < /dev/tcp/198.51.100.10/80")
    assert answer.stdout.strip() == "198.18.0.11"


def test_a_nodes_routes_look_like_ciliums(at_cilium):
    mesh = "via 10.10.0.1 dev cilium_host proto kernel src 10.10.0.1"
    assert [line.strip() for line in routes(at_cilium, f"{EAST}/node-1")] == [
        "default via 10.1.1.1 dev eth0",
        "10.1.1.0/24 dev eth0 proto kernel scope link src 10.1.1.4",
        f"10.10.0.0/24 {mesh}",
        "10.10.0.1 dev cilium_host proto kernel scope link",
        f"10.10.1.0/24 {mesh} mtu 1450",
        f"10.11.0.0/24 {mesh} mtu 1450",
        f"10.11.1.0/24 {mesh} mtu 1450",
    ]
    assert [line.strip() for line in routes(at_cilium, f"{EAST}/demo-1-1")] == [
        "default via 10.10.0.1 dev eth0 mtu 1450",
        "10.10.0.1 dev eth0 scope link",
    ]


def test_a_nodes_devices_are_ciliums(at_cilium):
    links = json.loads(at_cilium(f"{EAST}/node-1", "ip", "-json", "-details", "link").stdout)
    by_name = {link["ifname"]: link for link in links}
    assert {"cilium_host", "cilium_net", "cilium_vxlan"} <= by_name.keys()
    tunnel = by_name["cilium_vxlan"]["linkinfo"]
    assert (tunnel["info_kind"], tunnel["info_data"]["external"], tunnel["info_data"]["port"]) == ("vxlan", True, 8472)
    assert {link["mtu"] for name, link in by_name.items() if name.startswith(("cilium_", "lxc"))} == {1500}


def test_a_full_packet_crosses_the_tunnel_whole(at_cilium, west):
    ping = ("ping", "-c", "1", "-W", "2", "-M", "do", "-s")
    assert at_cilium(f"{EAST}/demo-1-1", *ping, "1422", west.address("demo-1-1")).returncode == 0
    assert at_cilium(f"{EAST}/demo-1-1", *ping, "1423", west.address("demo-1-1")).returncode != 0


def test_a_deleted_pod_is_forgotten_and_its_address_given_out_again(east, at_cilium):
    def held(address):
        return any(line.startswith(address) for line in routes(at_cilium, f"{EAST}/node-2", "table", "1001"))

    with east.pod("first", "crdb-eastus-node2") as address:
        assert held(address)
        assert at_cilium(f"{WEST}/demo-1-1", "ping", "-c", "1", "-W", "2", address).returncode == 0
    assert eventually(lambda: not held(address))
    assert at_cilium(f"{WEST}/demo-1-1", "ping", "-c", "1", "-W", "1", address).returncode != 0
    with east.pod("second", "crdb-eastus-node2") as again:
        assert again == address
        assert at_cilium(f"{WEST}/demo-1-1", "ping", "-c", "1", "-W", "2", again).returncode == 0


def test_the_operator_complains_about_a_pod_cidr_outside_the_pool(east):
    before = east.cilium_node("crdb-eastus-node2")["spec"]["ipam"]
    east.patch_node("crdb-eastus-node2", {"ipam": {"podCIDRs": ["10.99.0.0/24"]}})
    try:
        assert "10.99.0.0/24 is not part of" in eventually(lambda: east.operator_error("crdb-eastus-node2"))
    finally:
        east.patch_node("crdb-eastus-node2", {"ipam": before})
    assert eventually(lambda: not east.operator_error("crdb-eastus-node2"))


def test_traffic_flows_on_while_a_store_is_away_and_agents_return_to_it(east, west, at_cilium):
    def ready():
        status = at_cilium(f"{WEST}/node-1", "python3", "-c", ASK_STATUS).stdout
        (remote,) = json.loads(status)["cluster-mesh"]["clusters"]
        return bool(remote.get("ready"))

    assert eventually(ready)
    east.scale(0)
    try:
        assert eventually(lambda: not ready())
        assert at_cilium(f"{WEST}/demo-1-1", "ping", "-c", "1", "-W", "2", east.address("demo-1-1")).returncode == 0
    finally:
        east.scale(1)
    assert eventually(ready)
