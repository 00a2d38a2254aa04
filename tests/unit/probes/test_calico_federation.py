"""Calico's components and federation, from what clusters say of them."""

from ipaddress import IPv4Address

import pytest

from analysis.facts import Access, Credential, Link
from probes.deploy import ProbeSet
from probes.errors import ApiError
from probes.observers.calico.components import observe_components, read_datapath, read_tigera_status
from probes.observers.calico.federation import observe_federation, read_door, read_remote, read_words

EAST, OHIO = "us-east-1", "us-east-2"
EMPTY = ProbeSet("run", "meshproof", "2999-01-01T00:00:00+00:00", ())
CRD = "/apis/crd.projectcalico.org/v1"
APPS = "/apis/apps/v1/namespaces/calico-system"
NAME = f"calico-cluster-{OHIO}"
WHO = f"RemoteClusterConfiguration({NAME})"
SYNCED = f"2026-11-22 09:00:00.000 [INFO][13] wrappedcallbacks.go 487: Sending in-sync update for {WHO}"
FAILED = f"2026-11-22 09:01:00.000 [INFO][13] wrappedcallbacks.go 512: Sending connection failed update for {WHO}"
UNUSABLE = f"2026-11-22 09:02:00.000 [WARNING][13] wrappedcallbacks.go 300: Unable to get datastore config: no {WHO}"


@pytest.mark.parametrize(
    ("log", "synced", "usable", "failures"),
    [
        ([SYNCED], True, True, 0),
        ([SYNCED, FAILED], False, True, 1),
        ([SYNCED, FAILED, FAILED, SYNCED], True, True, 2),
        ([UNUSABLE], False, False, 0),
    ],
)
def test_the_last_word_of_typha_counts(log, synced, usable, failures):
    words = read_words("\n".join([*log, "something about nothing"]))[NAME]
    assert (words.synced, words.usable, words.failures) == (synced, usable, failures)
    assert read_remote(EAST, OHIO, words).connected is synced


def node(name, address, *, control_plane=False):
    labels = {"node-role.kubernetes.io/control-plane": ""} if control_plane else {}
    addresses = [{"type": "InternalIP", "address": address}]
    return {"metadata": {"name": name, "labels": labels}, "status": {"addresses": addresses}}


def cluster_of(make_cluster, region, number, *, log="", remotes=(), nodes=(), blocks=()):
    typha = {"namespace": "calico-system", "name": "typha", "labels": {"k8s-app": "calico-typha"}}
    found = make_cluster(
        region,
        {
            "/apis": {"groups": []},
            "/api/v1/nodes": [node(f"{region}-n1", f"10.{number}.1.10", control_plane=True), *nodes],
            "/api/v1/pods": [{"metadata": typha, "status": {"phase": "Running"}}] if log else [],
            f"{CRD}/remoteclusterconfigurations": [{"metadata": {"name": name}} for name in remotes],
            f"{CRD}/ipamblocks": [
                {"metadata": {}, "spec": {"affinity": f"host:{name}"}} for name in (f"{region}-n1", *blocks)
            ],
        },
    )
    found.text = lambda path, **_query: log
    found.may = lambda verb, resource: verb in ("list", "watch")
    create = found.create

    def review(path, body):
        if not path.endswith("/subjectaccessreviews"):
            return create(path, body)
        asked = body["spec"]["resourceAttributes"]
        return {"status": {"allowed": found.may(asked["verb"], asked["resource"])}}

    found.create = review
    return found


@pytest.fixture
def federated(make_cluster):
    return (
        cluster_of(make_cluster, EAST, 0, log=SYNCED, remotes=[NAME]),
        cluster_of(make_cluster, OHIO, 1),
    )


def test_a_cluster_that_follows_another_is_seen_with_its_setting(make_mesh, federated):
    seen = observe_federation(make_mesh(*federated), EMPTY)
    (remote,) = seen.remotes
    assert (remote.region, remote.remote, remote.connected, remote.synced) == (EAST, OHIO, True, True)
    (setting,) = seen.settings
    assert (setting.host, setting.port, setting.credentials) == ("10.1.1.10", 6443, ("ca", "token"))


def test_the_account_of_the_others_reads_and_does_not_write(make_mesh, federated):
    seen = observe_federation(make_mesh(*federated), EMPTY)
    assert {(t.region, t.credential, t.access): t.allowed for t in seen.trials} == {
        (OHIO, Credential.REMOTE, Access.READ): True,
        (OHIO, Credential.REMOTE, Access.WRITE): False,
    }


def test_a_right_to_write_is_found_and_named(make_cluster, make_mesh):
    east = cluster_of(make_cluster, EAST, 0, log=SYNCED, remotes=[NAME])
    ohio = cluster_of(make_cluster, OHIO, 1, log="-", remotes=["other"])
    ohio.may = lambda verb, resource: verb == "delete" and resource == "ippools"
    seen = observe_federation(make_mesh(east, ohio), EMPTY)
    (write,) = (t for t in seen.trials if t.access is Access.WRITE)
    assert write.allowed
    assert "delete ippools" in write.detail


def test_a_configuration_that_typha_is_silent_about_is_a_gap(make_cluster, make_mesh):
    silent = cluster_of(make_cluster, EAST, 0, log="nothing to see", remotes=[NAME])
    seen = observe_federation(make_mesh(silent, cluster_of(make_cluster, OHIO, 1)), EMPTY)
    assert not seen.remotes
    assert any(NAME in gap.subject for gap in seen.gaps)


def test_without_typha_nothing_is_connected(make_cluster, make_mesh):
    seen = observe_federation(make_mesh(cluster_of(make_cluster, EAST, 0, remotes=[NAME])), EMPTY)
    (remote,) = seen.remotes
    assert not remote.connected
    assert "no Typha" in remote.message


def test_open_source_calico_has_no_federation(make_cluster, make_mesh):
    plain = cluster_of(make_cluster, EAST, 0)
    del plain.collections[f"{CRD}/remoteclusterconfigurations"]
    seen = observe_federation(make_mesh(plain), EMPTY)
    assert (seen.remotes, seen.settings, seen.trials) == ((), (), ())


def test_foreign_nodes_and_their_blocks_are_counted_as_such(make_cluster, make_mesh):
    stray = f"{OHIO}-n1"
    mixed = cluster_of(make_cluster, EAST, 0, nodes=[node("copy", "10.1.1.10")], blocks=[stray, "left-the-cluster"])
    seen = observe_federation(make_mesh(mixed, cluster_of(make_cluster, OHIO, 1)), EMPTY)
    held = {(c.owner, c.kind): c.entries for c in seen.contents if c.region == EAST}
    assert held == {(EAST, "nodes"): 1, (OHIO, "nodes"): 1, (EAST, "blocks"): 2, (OHIO, "blocks"): 1}


def test_a_door_without_a_certificate_is_not_verified():
    shut = read_door(OHIO, EAST, IPv4Address("10.1.1.10"), {"outcome": "dropped"}, "", None)
    assert shut.verified is None
    assert "dropped" in shut.problem


@pytest.mark.parametrize(
    ("states", "healthy"),
    [
        ({"Available": "True", "Degraded": "False", "Progressing": "False"}, True),
        ({"Available": "True", "Degraded": "True"}, False),
        ({"Available": "True", "Progressing": "True"}, False),
        ({"Available": "False"}, False),
        ({}, None),
    ],
)
def test_a_status_is_healthy_when_available_and_neither_progressing_nor_degraded(states, healthy):
    conditions = [{"type": kind, "status": status} for kind, status in states.items()]
    item = {"metadata": {"name": "calico"}, "status": {"conditions": conditions}}
    assert read_tigera_status(EAST, item).healthy is healthy


def test_components_are_statuses_and_workloads(make_cluster, make_mesh):
    image = "quay.io/calico/node:v3.24.5@sha256:0123"
    template = {"spec": {"containers": [{"name": "calico-node", "image": image}]}}
    daemon_set = {
        "metadata": {"name": "calico-node"},
        "spec": {"template": template},
        "status": {"desiredNumberScheduled": 3, "numberReady": 2},
    }
    cluster = make_cluster(
        EAST,
        {
            "/apis": {"groups": []},
            "/api/v1/pods": [],
            "/apis/operator.tigera.io/v1/tigerastatuses": [],
            f"{APPS}/daemonsets/calico-node": daemon_set,
            f"{CRD}/ippools": [],
        },
    )
    (found,) = observe_components(make_mesh(cluster), EMPTY).components
    assert (found.name, found.wanted, found.ready, found.version) == ("calico-node", 3, 2, "v3.24.5")


def test_a_cluster_that_refuses_is_a_gap(make_cluster, make_mesh):
    refused = ApiError(EAST, "GET /apis/operator.tigera.io/v1/tigerastatuses", 403, "forbidden")
    cluster = make_cluster(EAST, {"/apis/operator.tigera.io/v1/tigerastatuses": refused})
    seen = observe_components(make_mesh(cluster), EMPTY)
    assert not seen.components
    assert any("403" in gap.error or "forbidden" in gap.error for gap in seen.gaps)


def test_a_node_forwards_by_the_tunnel_device_that_is_up():
    links = [
        Link(EAST, "n", "eth0", "", 1500, up=True),
        Link(EAST, "n", "vxlan.calico", "vxlan", 1450, up=True, vni=4096, port=4789),
        Link(EAST, "n", "flannel.1", "vxlan", 1450, up=True, vni=1, port=8472),
    ]
    seen = read_datapath(EAST, "n", links, [])
    assert (seen.routing, seen.encapsulation, seen.port, seen.vni) == ("tunnel", "vxlan", 4789, 4096)
    assert seen.foreign_devices == ("flannel.1",)
    assert read_datapath(EAST, "n", links[:1], None).routing == "native"
