"""Keys, values and messages of the mesh's stores."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.lab.cilium import keys, wire
from provision.lab.cilium.connection import RefusedError
from provision.lab.cilium.endpoints import ClusterIdentity, identity_labels
from provision.lab.cilium.etcd import KeyValue, Range, StoreChange, prefix_end
from provision.lab.cilium.health import checksum
from provision.lab.cilium.remote import ClusterIds, Knowledge
from provision.lab.cilium.settings import EtcdSettings, SettingsError, read_settings
from provision.lab.cilium.state import Backend, NodeSource
from tests.unit.lab.cilium.agent_world import WEST, node


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1), st.binary(), st.text())
def test_messages_come_back_as_they_were_written(number, data, text):
    message = wire.Message(wire.encode((1, number), (2, data), (16, text)))
    assert (message.number(1), message.bytes(2), message.text(16)) == (number, data, text)


def test_fields_of_kinds_that_are_not_used_are_passed_over():
    data = bytes([0x09, *range(8), 0x15, *range(4)]) + wire.encode((3, 7))
    assert wire.Message(data).number(3) == 7


@pytest.mark.parametrize("data", [b"\x08", b"\x12\x05ab", b"\x0b"])
def test_what_is_no_message_is_an_error(data):
    with pytest.raises(wire.WireError):
        wire.Message(data)


def test_a_prefix_ends_where_its_last_letter_does():
    assert prefix_end("cilium/state/") == b"cilium/state0"


def test_a_node_is_written_in_the_words_of_cilium():
    entry = node(WEST, 2, 1, NodeSource.CLUSTERMESH)
    assert keys.node_key(entry) == "cilium/state/nodes/v1/crdb-cilium-westus/crdb-westus-node1"
    written = json.loads(keys.node_value(entry))
    assert written["IPv4AllocCIDR"] == {"IP": "10.11.0.0", "Mask": "////AA=="}
    assert keys.read_node(keys.node_value(entry)) == entry


def test_endpoints_services_and_settings_come_back_as_they_were_written():
    endpoint = keys.StoredEndpoint(IPv4Address("10.11.0.3"), IPv4Address("10.2.1.4"), 131198, "default", "demo")
    assert keys.read_endpoint(keys.endpoint_value(endpoint)) == endpoint
    backends = (Backend(IPv4Address("10.11.0.3"), 8080, WEST),)
    service = keys.StoredService(WEST, 2, "default", "echo", backends, shared=True)
    assert keys.read_service(keys.service_value(service)) == service
    config = keys.StoredConfig(2, synced_canaries=True)
    assert keys.read_config(keys.config_value(config)) == config


def test_an_identity_is_its_labels():
    assert keys.identity_value(("k8s:b=2", "k8s:a=1")) == b"k8s:a=1;k8s:b=2;"
    assert keys.read_identity(b"k8s:a=1;k8s:b=2;") == ("k8s:a=1", "k8s:b=2")


def row(key: str, value: bytes) -> KeyValue:
    return KeyValue(key, value, revision=1)


def test_a_new_list_takes_the_place_of_what_was_known():
    first, second = node(WEST, 2, 1, NodeSource.CLUSTERMESH), node(WEST, 2, 2, NodeSource.CLUSTERMESH)
    known = Knowledge()
    known.replace(Range((row(keys.node_key(first), keys.node_value(first)),), 1, 1))
    known.replace(Range((row(keys.node_key(second), keys.node_value(second)),), 2, 1))
    assert list(known.nodes.values()) == [second]
    known.take([StoreChange(keys.node_key(second), None)])
    assert not known.nodes


def test_a_value_that_is_not_understood_costs_only_itself():
    good = node(WEST, 2, 1, NodeSource.CLUSTERMESH)
    known = Knowledge()
    known.take([StoreChange(f"{keys.NODES}/x/y", b"{}"), StoreChange(keys.node_key(good), keys.node_value(good))])
    assert list(known.nodes.values()) == [good]


def test_no_two_clusters_have_the_same_id():
    ids = ClusterIds("east", 1)
    ids.accept("west", keys.StoredConfig(2, True))
    ids.accept("west", keys.StoredConfig(2, True))
    with pytest.raises(RefusedError, match="which is that of east itself"):
        ids.accept("north", keys.StoredConfig(1, True))
    with pytest.raises(RefusedError, match="which is that of west"):
        ids.accept("north", keys.StoredConfig(2, True))
    ids.release("west")
    ids.accept("north", keys.StoredConfig(2, True))


def pod(**labels: str) -> dict:
    return {"metadata": {"name": "db-0", "namespace": "db", "labels": labels}, "spec": {}}


def test_replicas_share_an_identity():
    namespace = {"metadata": {"labels": {"kubernetes.io/metadata.name": "db"}}}
    first, second = (
        pod(app="db", **{"statefulset.kubernetes.io/pod-name": f"db-{k}", "pod-template-hash": f"{k}"}) for k in (0, 1)
    )
    labels = identity_labels(first, namespace, "east")
    assert labels == identity_labels(second, namespace, "east")
    assert labels == (
        "k8s:app=db",
        "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=db",
        "k8s:io.cilium.k8s.policy.cluster=east",
        "k8s:io.cilium.k8s.policy.serviceaccount=default",
        "k8s:io.kubernetes.pod.namespace=db",
    )


@pytest.mark.parametrize(("settings", "bits"), [({}, 16), ({"max-connected-clusters": "511"}, 15)])
def test_identities_lie_in_the_range_of_their_cluster(settings, bits):
    cluster = ClusterIdentity.of_settings({"cluster-name": "west", "cluster-id": "2", **settings})
    numbers = {cluster.identity(("k8s:app=x",), attempt) for attempt in range(1000)}
    assert len(numbers) == 1000
    assert {number >> bits for number in numbers} == {2}


def test_settings_come_back_as_they_were_written():
    told = EtcdSettings(("https://west.mesh.cilium.io:32380",), PurePosixPath("/a/ca.crt"), None, None)
    assert read_settings(told.to_yaml()) == told


@pytest.mark.parametrize("text", ["", "endpoints: []\n", "endpoints:\n- west.mesh.cilium.io\n"])
def test_settings_that_name_no_store_are_an_error(text):
    with pytest.raises(SettingsError):
        read_settings(text)


def test_a_checksum_makes_the_sum_of_all_words_nothing():
    data = b"\x08\x00\x00\x00\x12\x34\x00\x01"
    summed = data[:2] + checksum(data).to_bytes(2, "big") + data[4:]
    assert checksum(summed) == 0
