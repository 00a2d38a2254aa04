"""The lab obeys Calico's objects: what is changed in the API is what nodes do, within two seconds or a little more."""

from __future__ import annotations

import json
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network

import pytest
from kubernetes import client, config
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

GROUP = "crd.projectcalico.org"
EAST, SECOND = "us-east-1", "us-east-2"
DEADLINE_S = 10


def eventually(look):
    """The first value that `look` returns and that counts as true, or its last one."""
    attempts = Retrying(
        retry=retry_if_result(lambda value: not value),
        stop=stop_after_delay(DEADLINE_S),
        wait=wait_fixed(0.1),
        retry_error_callback=lambda state: state.outcome.result(),
    )
    return attempts(look)


class Calico:
    """The custom resources of one region's cluster."""

    def __init__(self, api):
        self.core = client.CoreV1Api(api)
        self._custom = client.CustomObjectsApi(api)

    def get(self, plural, name):
        return self._custom.get_cluster_custom_object(GROUP, "v1", plural, name)

    def patch(self, plural, name, spec):
        self._custom.patch_cluster_custom_object(GROUP, "v1", plural, name, {"spec": spec})

    def delete(self, plural, name):
        self._custom.delete_cluster_custom_object(GROUP, "v1", plural, name)

    @contextmanager
    def without(self, plural, name):
        """The object is away in the body, and back afterwards."""
        kept = self.get(plural, name)
        self.delete(plural, name)
        try:
            yield
        finally:
            meta = {"name": name}
            self._custom.create_cluster_custom_object(GROUP, "v1", plural, kept | {"metadata": meta})

    @contextmanager
    def with_spec(self, plural, name, spec):
        """The fields are changed in the body, and as before afterwards."""
        before = self.get(plural, name)["spec"]
        self.patch(plural, name, spec)
        try:
            yield
        finally:
            self.patch(plural, name, {key: before.get(key) for key in spec})

    @contextmanager
    def pod(self, name, node, **annotations):
        """A pod that does nothing, and its address."""
        body = {
            "metadata": {"name": name, "annotations": annotations},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "pause", "image": "registry.k8s.io/pause:3.8"}],
            },
        }
        self.core.create_namespaced_pod("default", body)
        try:
            running = eventually(lambda: self._running(name))
            assert running, f"pod {name} does not run"
            yield IPv4Address(running.status.pod_ip)
        finally:
            self.core.delete_namespaced_pod(name, "default", grace_period_seconds=0)
            assert eventually(lambda: not self._exists(name)), f"pod {name} does not go"

    def calico_pods(self):
        return {pod.metadata.name for pod in self.core.list_namespaced_pod("calico-system").items}

    def _running(self, name):
        pod = self.core.read_namespaced_pod(name, "default")
        return pod if pod.status.phase == "Running" and pod.status.pod_ip else None

    def _exists(self, name):
        return any(pod.metadata.name == name for pod in self.core.list_namespaced_pod("default").items)


@pytest.fixture(scope="module")
def east(lab):
    return Calico(config.new_client_from_config(str(lab.folder.admin_kubeconfig), context=EAST))


@pytest.fixture(scope="module")
def second(lab):
    return Calico(config.new_client_from_config(str(lab.folder.admin_kubeconfig), context=SECOND))


@pytest.fixture
def routes(at):
    """The kernel's routes of a node, by destination."""

    def read(node):
        return {route["dst"]: route for route in json.loads(at(node, "ip", "-j", "route").stdout)}

    return read


@pytest.fixture
def sessions(at):
    """Names and states of a node's BGP sessions."""

    def read(node):
        lines = at(node, "birdcl", "-r", "-s", "/var/run/calico/bird.ctl", "show", "protocols").stdout.splitlines()
        rows = [line.split() for line in lines]
        return {row[0]: row[5] for row in rows if len(row) > 5 and row[1] == "BGP"}

    return read


@pytest.fixture
def pings(at):
    def ping(place, address):
        return at(place, "ping", "-c", "1", "-W", "1", str(address)).returncode == 0

    return ping


@pytest.fixture(scope="module")
def demo(east, second):
    """Addresses of the sample pods, by region and name."""
    return {
        (region, pod.metadata.name): pod.status.pod_ip
        for region, cluster in ((EAST, east), (SECOND, second))
        for pod in cluster.core.list_namespaced_pod("default").items
    }


def test_pods_reach_each_other_across_regions(pings, demo):
    assert pings(f"{EAST}/demo-2-1", demo[SECOND, "demo-2-1"])
    assert pings(f"{SECOND}/demo-1-1", demo[EAST, "demo-1-1"])


def test_without_a_peering_there_is_no_session_and_no_route(east, sessions, routes):
    remote = "192.168.64.128/26"
    assert "Node_10_1_1_10" in sessions(f"{EAST}/node-1")
    with east.without("bgppeers", "remote-rr-us-east-2"):
        assert eventually(lambda: "Node_10_1_1_10" not in sessions(f"{EAST}/node-1"))
        assert eventually(lambda: remote not in routes(f"{EAST}/node-2"))
    assert eventually(lambda: sessions(f"{EAST}/node-1").get("Node_10_1_1_10") == "Established")
    assert eventually(lambda: remote in routes(f"{EAST}/node-2"))


def test_a_wrong_as_number_breaks_the_session(east, sessions):
    with east.with_spec("bgppeers", "remote-rr-us-east-2", {"asNumber": 64999}):
        assert eventually(lambda: sessions(f"{EAST}/node-1").get("Node_10_1_1_10") != "Established")
    assert eventually(lambda: sessions(f"{EAST}/node-1").get("Node_10_1_1_10") == "Established")


def test_without_keeping_next_hops_the_reflector_is_in_the_way(second, routes):
    """The routes that a reflector sends out then lead to itself."""
    with second.with_spec("bgppeers", "remote-rr-us-east-1", {"keepOriginalNextHop": False}):
        assert eventually(
            lambda: routes(f"{EAST}/node-2").get("192.168.64.128/26", {}).get("gateway") == "192.168.64.64"
        )
    assert eventually(lambda: routes(f"{EAST}/node-2").get("192.168.64.128/26", {}).get("gateway") == "192.168.64.128")


def test_without_its_pool_a_range_is_not_encapsulated(east, routes, pings, demo):
    """The reflector still hears of it, but sends bare packets, which the VPC drops."""
    remote = "192.168.64.128/26"
    with east.without("ippools", "fed-ipv4-clusterb"):
        assert eventually(lambda: routes(f"{EAST}/node-1").get(remote, {}).get("dev") == "eth0")
        assert not pings(f"{EAST}/demo-1-1", demo[SECOND, "demo-2-1"])
    assert eventually(lambda: routes(f"{EAST}/node-1").get(remote, {}).get("dev") == "vxlan.calico")
    assert eventually(lambda: pings(f"{EAST}/demo-1-1", demo[SECOND, "demo-2-1"]))


def test_a_block_without_owner_is_not_announced(second, routes):
    with second.without("blockaffinities", f"{SECOND}-node-2-192-168-64-128-26"):
        assert eventually(lambda: "192.168.64.128/26" not in routes(f"{EAST}/node-2"))
    assert eventually(lambda: "192.168.64.128/26" in routes(f"{EAST}/node-2"))


def test_routes_come_back_after_a_restart_of_calico_node(east, sessions, routes):
    pods = east.core.list_namespaced_pod("calico-system").items
    (reflector,) = (pod for pod in pods if pod.spec.node_name == f"{EAST}-node-1")
    east.core.delete_namespaced_pod(reflector.metadata.name, "calico-system")
    assert eventually(lambda: reflector.metadata.name not in east.calico_pods())
    assert eventually(lambda: set(sessions(f"{EAST}/node-1").values()) == {"Established"})
    assert eventually(lambda: "192.168.64.128/26" in routes(f"{EAST}/node-2"))


def test_tunnels_are_accepted_from_external_nodes_alone(second, pings, demo):
    with second.with_spec("felixconfigurations", "default", {"externalNodesList": []}):
        assert eventually(lambda: not pings(f"{EAST}/demo-2-1", demo[SECOND, "demo-2-1"]))
    assert eventually(lambda: pings(f"{EAST}/demo-2-1", demo[SECOND, "demo-2-1"]))


def test_a_pod_gets_an_address_of_its_nodes_block_and_gives_it_back(east):
    node, block = f"{EAST}-node-2", "192-168-0-128-26"

    def holders():
        spec = east.get("ipamblocks", block)["spec"]
        return {entry["secondary"].get("pod") for entry in spec["attributes"]}

    with east.pod("short-lived", node) as address:
        assert address in IPv4Network("192.168.0.128/26")
        assert eventually(lambda: "short-lived" in holders())
    assert eventually(lambda: "short-lived" not in holders())


def test_a_full_block_is_followed_by_a_new_one_that_goes_with_its_last_pod(east, routes, pings):
    node = f"{EAST}-node-2"
    with east.with_spec("ipamblocks", "192-168-0-128-26", {"unallocated": []}), east.pod("overflow", node) as address:
        block = IPv4Network((address, 26), strict=False)
        assert block != IPv4Network("192.168.0.128/26")
        assert eventually(lambda: str(block) in routes(f"{SECOND}/node-2"))
        assert eventually(lambda: pings(f"{SECOND}/demo-2-1", address))
    assert eventually(lambda: str(block) not in routes(f"{SECOND}/node-2"))


def test_a_pod_may_be_planted_outside_its_pool(east):
    asked_for = json.dumps(["10.77.0.1"])
    with east.pod("astray", f"{EAST}-node-1", **{"cni.projectcalico.org/ipAddrs": asked_for}) as address:
        assert address == IPv4Address("10.77.0.1")


def test_a_pod_leaves_the_mesh_with_its_nodes_public_address(at):
    """The host outside answers with the address that it sees."""
    ask = "import socket; print(socket.create_connection(('198.51.100.10', 80), 3).recv(64).decode().strip())"
    assert at(f"{EAST}/demo-2-1", "python3", "-c", ask).stdout.split() == ["198.18.0.11"]


@pytest.mark.parametrize("region", [EAST, SECOND])
def test_service_addresses_answer_in_every_region(at, region):
    """kube-dns of the first region is asked, over TCP, at its service address."""
    ask = "import socket; socket.create_connection(('172.20.0.10', 53), 3)"
    done = at(f"{region}/demo-2-1", "python3", "-c", ask)
    assert done.returncode == 0, done.stderr


# --- federation ---------------------------------------------------------------------------------------------------


def last_words(core):
    """What Typha's log says last."""
    (pod,) = core.list_namespaced_pod("calico-system", label_selector="k8s-app=calico-typha").items
    # Decoded, the client would give back the text of a bytes object.
    log = core.read_namespaced_pod_log(pod.metadata.name, "calico-system", _preload_content=False)
    return log.data.decode().splitlines()[-1]


def test_clusters_follow_each_other_through_their_networks(at, east):
    """Typha loses the other cluster with the way to its API server, says so, and takes it up again."""
    followed = f"in-sync update for RemoteClusterConfiguration(calico-cluster-{SECOND})"
    assert followed in last_words(east.core)
    # Both ways: what the server sends again and again would keep the connection alive for the client.
    drops = "tcp sport 6443 drop; tcp dport 6443 drop;"
    rules = f"table ip cut {{ chain forward {{ type filter hook forward priority -10; {drops} }}; }}"
    cut = at(f"{SECOND}/vpc", "nft", rules)
    assert cut.returncode == 0, cut.stderr
    try:
        assert eventually(lambda: followed not in last_words(east.core))
    finally:
        at(f"{SECOND}/vpc", "nft", "delete table ip cut")
    assert eventually(lambda: followed in last_words(east.core))


def test_a_peering_with_another_password_does_not_come_up(sessions, east):
    """Sessions are signed by the kernels of both ends."""
    kept = east.core.read_namespaced_secret("bgp-secrets", "calico-system").data
    node, session = f"{EAST}/node-1", "Node_10_1_1_10"
    east.core.patch_namespaced_secret("bgp-secrets", "calico-system", {"data": {"mesh": "d3Jvbmc="}})
    try:
        assert eventually(lambda: sessions(node)[session] != "Established")
    finally:
        east.core.patch_namespaced_secret("bgp-secrets", "calico-system", {"data": kept})
    assert eventually(lambda: sessions(node)[session] == "Established")
