"""What a store holds, by cluster: counted, and nothing of it kept."""

import base64
import json

import pytest

from analysis.cilium import CiliumParseError, StoreEntries, count_store

EAST, WEST = "crdb-cilium-eastus", "crdb-cilium-westus"
LABELS = f"k8s:app=demo;k8s:io.cilium.k8s.policy.cluster={EAST};k8s:io.kubernetes.pod.namespace=default;"
HELD = {
    "cilium/.heartbeat": "2026-11-22T09:45:00Z",
    f"cilium/cluster-config/{EAST}": json.dumps({"id": 1, "capabilities": {}}),
    f"cilium/cluster-config/{WEST}": json.dumps({"id": 2, "capabilities": {"cached": True}, "cached": True}),
    f"cilium/synced/{EAST}/cilium/state/nodes/v1": "2026-11-22T09:45:00Z",
    f"cilium/state/nodes/v1/{EAST}/crdb-eastus-node1": json.dumps({"Name": "crdb-eastus-node1", "Cluster": EAST}),
    f"cilium/state/services/v1/{EAST}/default/echo": json.dumps({"cluster": EAST}),
    "cilium/state/ip/v1/default/10.10.0.17": json.dumps({"IP": "10.10.0.17", "ID": 65536 + 700}),
    "cilium/state/ip/v1/default/10.11.0.17": json.dumps({"IP": "10.11.0.17", "ID": 2 * 65536 + 700}),
    "cilium/state/identities/v1/id/66236": LABELS,
    "cilium/state/identities/v1/id/131772": "k8s:app=demo;",
    f"cilium/cache/nodes/v1/{WEST}/crdb-westus-node1": "{}",
}
AS_JSON = json.dumps({key: {"Data": base64.b64encode(value.encode()).decode()} for key, value in HELD.items()})
AS_TEXT = "\n".join(f"{key} => {value}" for key, value in HELD.items())


@pytest.mark.parametrize("told", [AS_JSON, AS_TEXT])
def test_entries_are_counted_by_the_cluster_that_the_key_or_the_value_names(told):
    assert set(count_store(told)) == {
        StoreEntries("cluster-config", EAST, None, False, 1),
        StoreEntries("cluster-config", WEST, None, True, 1),
        StoreEntries("synced", EAST, None, False, 1),
        StoreEntries("nodes", EAST, None, False, 1),
        StoreEntries("services", EAST, None, False, 1),
        StoreEntries("ip", None, 1, False, 1),
        StoreEntries("ip", None, 2, False, 1),
        StoreEntries("identities", EAST, None, False, 1),
        StoreEntries("identities", None, 2, False, 1),
        StoreEntries("nodes", WEST, None, True, 1),
    }


def test_with_511_clusters_one_bit_less_is_a_cluster_s_own():
    told = json.dumps({"cilium/state/identities/v1/id/98404": {"Data": ""}})
    assert count_store(told, identity_bits=15) == (StoreEntries("identities", None, 3, False, 1),)


def test_an_empty_store_holds_nothing():
    assert count_store("{}") == ()


@pytest.mark.parametrize("told", ["", "Error: permission denied", '{"cilium/x": {"Data": "not base64"}}'])
def test_what_is_no_store_is_an_error(told):
    with pytest.raises(CiliumParseError):
        count_store(told)
