"""Policies in a lab of the profile aws-calico: what becomes of packets is what the objects of its clusters say."""

from __future__ import annotations

import json
from contextlib import contextmanager
from functools import partial

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

EAST, SECOND = "us-east-1", "us-east-2"
GROUP, VERSION, POLICIES = "crd.projectcalico.org", "v1", "globalnetworkpolicies"
REMOTES, SECOND_REMOTE = "remoteclusterconfigurations", f"calico-cluster-{SECOND}"
DEADLINE_S = 15
FROM_DEMO = {"action": "Allow", "protocol": "ICMP", "source": {"selector": 'app == "demo"'}}


@pytest.fixture(scope="module")
def east(lab):
    return config.new_client_from_config(str(lab.folder.admin_kubeconfig), context=EAST)


@pytest.fixture(scope="module")
def custom(east):
    return client.CustomObjectsApi(east)


@pytest.fixture
def becomes(at, east):
    """Wait until the sample pod of the first region answers to those places as expected."""
    target = client.CoreV1Api(east).read_namespaced_pod("demo-2-1", "default").status.pod_ip

    def look(places):
        return {place: at(place, "ping", "-c", "1", "-W", "1", target).returncode == 0 for place in places}

    def wait(**expected):
        places = {
            "far": f"{SECOND}/demo-1-1",
            "near": f"{EAST}/demo-1-1",
            "other": f"{SECOND}/node-1",
            "host": f"{EAST}/node-1",
        }
        wanted = {places[name]: answer for name, answer in expected.items()}
        attempts = Retrying(
            retry=retry_if_result(lambda found: found != wanted),
            stop=stop_after_delay(DEADLINE_S),
            wait=wait_fixed(0.1),
            retry_error_callback=lambda state: state.outcome.result(),
        )
        assert attempts(look, wanted) == wanted

    return wait


@contextmanager
def policy(custom, name="tried", **spec):
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": name},
        "spec": {"selector": 'app == "demo"', "types": ["Ingress"], **spec},
    }
    custom.create_cluster_custom_object(GROUP, VERSION, POLICIES, body)
    try:
        yield
    finally:
        custom.delete_cluster_custom_object(GROUP, VERSION, POLICIES, name)


def test_a_policy_holds_while_it_is_there_and_knows_remote_pods_by_their_labels(custom, becomes):
    becomes(far=True, near=True, other=True)
    with policy(custom, ingress=[FROM_DEMO]):
        becomes(far=True, near=True, other=False)
    becomes(far=True, near=True, other=True)


def test_without_federation_pods_of_another_cluster_are_strangers(custom, becomes):
    kept = custom.get_cluster_custom_object(GROUP, VERSION, REMOTES, SECOND_REMOTE)
    kept["metadata"] = {"name": SECOND_REMOTE}
    with policy(custom, ingress=[FROM_DEMO]):
        becomes(far=True, near=True)
        custom.delete_cluster_custom_object(GROUP, VERSION, REMOTES, SECOND_REMOTE)
        try:
            becomes(far=False, near=True)
        finally:
            custom.create_cluster_custom_object(GROUP, VERSION, REMOTES, kept)
        becomes(far=True)


def test_the_lower_order_decides(custom, becomes):
    with policy(custom, order=10, ingress=[FROM_DEMO]), policy(custom, "first", order=5, ingress=[{"action": "Deny"}]):
        becomes(far=False, near=False)


def test_kubernetes_own_policies_are_enforced_too(east, becomes):
    api = client.NetworkingV1Api(east)
    peers = {"from": [{"podSelector": {"matchLabels": {"app": "demo"}}}]}
    body = {"metadata": {"name": "closed"}, "spec": {"podSelector": {}, "ingress": [peers]}}
    api.create_namespaced_network_policy("default", body)
    try:
        becomes(far=True, near=True, other=False)
    finally:
        api.delete_namespaced_network_policy("closed", "default")


def test_a_misspelt_field_is_refused_or_lost_as_kubernetes_does_it(custom):
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "misspelt"},
        "spec": {"ingress": [FROM_DEMO | {"destinations": {"ports": [80]}}]},
    }
    with pytest.raises(ApiException, match="unknown field"):
        custom.create_cluster_custom_object(GROUP, VERSION, POLICIES, body, field_validation="Strict")
    found = custom.create_cluster_custom_object(GROUP, VERSION, POLICIES, body, dry_run="All")
    assert found["spec"]["ingress"] == [FROM_DEMO]


def test_a_pod_is_closed_from_its_first_packet_on(custom, east, at, ping_newcomer):
    """Somebody calls its address all the while: what gets through before the rules are there would go on for good."""

    def at_address(address):
        return {"cni.projectcalico.org/ipAddrs": json.dumps([address])}

    with policy(custom, selector='app == "closed"', ingress=[]):
        planned, given, said = ping_newcomer(client.CoreV1Api(east), at_address, partial(at, f"{EAST}/demo-1-1"))
    assert given == planned
    assert " 0 received" in said


def test_the_last_rules_go_on_while_no_felix_runs_and_the_next_one_follows_the_objects(
    custom, east, becomes, without_daemons
):
    with policy(custom, ingress=[FROM_DEMO]):
        becomes(near=True, host=False)
        with without_daemons(east, "calico-system", "calico-node", "k8s-app=calico-node", DEADLINE_S):
            everybody = {"spec": {"ingress": [{"action": "Allow"}]}}
            custom.patch_cluster_custom_object(GROUP, VERSION, POLICIES, "tried", everybody)
            for _ in range(2):  # what other clusters are asked is routed by calico-node, too
                becomes(near=True, host=False)
        becomes(near=True, host=True)
