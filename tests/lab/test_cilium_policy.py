"""Policies in a lab of the profile azure-cilium: what becomes of packets is what the objects say, and at once."""

from __future__ import annotations

import json
from contextlib import contextmanager
from functools import partial

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

EAST, WEST = "eastus", "westus"
GROUP, VERSION, PLURAL = "cilium.io", "v2", "ciliumnetworkpolicies"
DEADLINE_S = 15
OPEN, SHUT = "open", "shut"

KNOCK = """
import socket, sys
for address, port in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        socket.create_connection((address, int(port)), timeout=0.7)
    except ConnectionRefusedError:
        print("open")
    except TimeoutError:
        print("shut")
"""
"""A port that nobody listens at is refused by the pod itself, if policy lets the question through."""

ASK = """
import json, socket
end = socket.socket(socket.AF_UNIX)
end.connect("/run/cilium/cilium.sock")
end.sendall(json.dumps({"argv": ["cilium-dbg", "endpoint", "list", "-o", "json"]}).encode() + b"\\n")
print(json.loads(end.makefile().readline())["out"])
"""


@pytest.fixture(scope="module")
def east(cilium_lab):
    return config.new_client_from_config(str(cilium_lab.folder.admin_kubeconfig), context=EAST)


@pytest.fixture(scope="module")
def target(east):
    return client.CoreV1Api(east).read_namespaced_pod("demo-1-1", "default").status.pod_ip


@pytest.fixture
def becomes(at_cilium, target):
    """Wait until what a place finds at ports of the target is as expected."""

    def look(place, expected):
        words = [word for port in expected for word in (target, str(port))]
        return dict(zip(expected, at_cilium(place, "python3", "-c", KNOCK, *words).stdout.split(), strict=True))

    def wait(place, expected):
        attempts = Retrying(
            retry=retry_if_result(lambda found: found != expected),
            stop=stop_after_delay(DEADLINE_S),
            wait=wait_fixed(0.1),
            retry_error_callback=lambda state: state.outcome.result(),
        )
        assert attempts(look, place, expected) == expected

    return wait


@contextmanager
def policy(east, **spec):
    api = client.CustomObjectsApi(east)
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "tried"},
        "spec": {"endpointSelector": {"matchLabels": {"app": "demo"}}, **spec},
    }
    api.create_namespaced_custom_object(GROUP, VERSION, "default", PLURAL, body)
    try:
        yield lambda patch: api.patch_namespaced_custom_object(
            GROUP, VERSION, "default", PLURAL, "tried", {"spec": patch}
        )
    finally:
        api.delete_namespaced_custom_object(GROUP, VERSION, "default", PLURAL, "tried")


def test_a_policy_holds_while_it_is_there_and_knows_pods_of_the_other_cluster_by_their_labels(east, becomes):
    ports = [{"ports": [{"port": "7001", "protocol": "TCP"}]}]
    from_west = {"matchLabels": {"app": "demo", "io.cilium.k8s.policy.cluster": "crdb-cilium-westus"}}
    becomes(f"{WEST}/demo-1-1", {7001: OPEN, 7002: OPEN})
    with policy(east, ingress=[{"fromEndpoints": [from_west], "toPorts": ports}]) as change:
        becomes(f"{WEST}/demo-1-1", {7001: OPEN, 7002: SHUT})
        becomes(f"{EAST}/demo-2-1", {7001: SHUT})
        becomes(f"{WEST}/node-1", {7001: SHUT})
        becomes(f"{EAST}/node-1", {7001: OPEN, 7002: OPEN})  # a node always reaches its own pods
        change({"ingressDeny": [{"fromEndpoints": [from_west]}]})
        becomes(f"{WEST}/demo-1-1", {7001: SHUT, 7002: SHUT})
    becomes(f"{WEST}/demo-1-1", {7001: OPEN, 7002: OPEN})


def test_the_agent_tells_what_it_enforces(at_cilium, east, becomes):
    def enforced():
        told = json.loads(at_cilium(f"{EAST}/node-1", "python3", "-c", ASK).stdout)
        pods = {each["status"]["external-identifiers"]["k8s-pod-name"]: each["status"]["policy"] for each in told}
        return pods["demo-1-1"]["realized"]["policy-enabled"]

    assert enforced() == "none"
    with policy(east, ingress=[{}]):
        becomes(f"{WEST}/demo-1-1", {7001: SHUT})
        assert enforced() == "ingress"


def test_kubernetes_own_policies_are_enforced_too(east, becomes):
    api = client.NetworkingV1Api(east)
    body = {"metadata": {"name": "closed"}, "spec": {"podSelector": {"matchLabels": {"app": "demo"}}}}
    api.create_namespaced_network_policy("default", body)
    try:
        becomes(f"{WEST}/demo-1-1", {7001: SHUT})
    finally:
        api.delete_namespaced_network_policy("closed", "default")
    becomes(f"{WEST}/demo-1-1", {7001: OPEN})


def test_a_misspelt_field_is_refused_or_lost_as_kubernetes_does_it(east):
    api = client.CustomObjectsApi(east)
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "misspelt"},
        "spec": {"endpointSelector": {}, "egress": [{"toEndpoint": [{}]}]},
    }
    with pytest.raises(ApiException, match="unknown field"):
        api.create_namespaced_custom_object(GROUP, VERSION, "default", PLURAL, body, field_validation="Strict")
    found = api.create_namespaced_custom_object(GROUP, VERSION, "default", PLURAL, body, dry_run="All")
    assert found["spec"]["egress"] == [{}]


def test_a_pod_is_closed_from_its_first_packet_on(at_cilium, east, ping_newcomer):
    """Somebody calls its address all the while: what gets through before the rules are there would go on for good."""

    def at_address(address):
        return {"lab.meshproof/address": address}

    with policy(east, endpointSelector={"matchLabels": {"app": "closed"}}, ingress=[{}]):
        planned, given, said = ping_newcomer(client.CoreV1Api(east), at_address, partial(at_cilium, f"{EAST}/demo-1-1"))
    assert given == planned
    assert " 0 received" in said


def test_the_last_rules_go_on_while_no_agent_runs_and_the_next_one_follows_the_objects(east, becomes, without_daemons):
    caller = f"{WEST}/demo-1-1"
    with policy(east, ingress=[{}]) as change:
        becomes(caller, {7001: SHUT})
        with without_daemons(east, "kube-system", "cilium", "k8s-app=cilium", DEADLINE_S):
            change({"ingress": [{"fromEntities": ["all"]}]})
            for _ in range(2):
                becomes(caller, {7001: SHUT})
        becomes(caller, {7001: OPEN})
