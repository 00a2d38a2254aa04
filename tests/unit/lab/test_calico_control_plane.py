"""Calico's control plane in the lab: what its parts say of themselves, and how clusters come to follow each other."""

import json
from base64 import b64decode, b64encode
from dataclasses import replace

import pytest

from provision.lab.calico import credentials
from provision.lab.calico.birdconfig import render, sessions
from provision.lab.calico.operator import health
from provision.lab.calico.resources import BadObjectError, SecretKey, read_passwords
from provision.lab.calico.typha import UnusableError, read_access
from provision.lab.kube.pki import create_cluster_pki


@pytest.fixture(scope="module")
def held(lab, tmp_path_factory):
    """What the clusters of the lab are given, by region."""
    folder = tmp_path_factory.mktemp("pki")
    pki = {region.name: create_cluster_pki(folder, region.name, {}) for region in lab.regions}
    return credentials.create(folder, lab, pki)


class Listed:
    """A reflector's copy of a list."""

    def __init__(self, objects):
        self._objects = {(obj["metadata"].get("namespace"), obj["metadata"]["name"]): obj for obj in objects}

    def get(self, name, namespace=None):
        return self._objects.get((namespace, name))


def of_kind(objects, kind):
    return [obj for obj in objects if obj["kind"] == kind]


def test_every_cluster_is_told_of_each_other_one(lab, held):
    for region in lab.regions:
        remotes = of_kind(held[region.name], "RemoteClusterConfiguration")
        secrets = Listed(of_kind(held[region.name], "Secret"))
        servers = {read_access(remote, secrets).server for remote in remotes}
        assert servers == {f"https://{other.nodes[0].address}:6443" for other in lab.regions if other is not region}


def test_a_kubeconfig_holds_the_token_that_the_other_cluster_gave_out(lab, held):
    first, second = (region.name for region in lab.regions[:2])
    (own,) = (obj for obj in of_kind(held[second], "Secret") if obj["type"] == "kubernetes.io/service-account-token")
    (remote,) = (r for r in of_kind(held[first], "RemoteClusterConfiguration") if second in r["metadata"]["name"])
    access = read_access(remote, Listed(of_kind(held[first], "Secret")))
    assert access.token == b64decode(own["data"]["token"]).decode()
    assert access.token not in repr(access)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (None, "access secret was not found"),
        ({"kubeconfig": "{}"}, "datastoreType"),
        ({"datastoreType": "etcdv3", "kubeconfig": "{}"}, "datastoreType"),
        ({"datastoreType": "kubernetes"}, "kubeconfig"),
        ({"datastoreType": "kubernetes", "kubeconfig": "contexts: ["}, "kubeconfig"),
        (
            {
                "datastoreType": "kubernetes",
                "kubeconfig": json.dumps(
                    {
                        "current-context": "x",
                        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
                        "clusters": [
                            {"name": "x", "cluster": {"server": "https://x", "certificate-authority-data": "bm8="}}
                        ],
                        "users": [{"name": "x", "user": {"token": "t"}}],
                    }
                ),
            },
            "kubeconfig",
        ),
    ],
)
def test_a_useless_secret_is_told(data, complaint):
    remote = {"metadata": {"name": "r"}, "spec": {"clusterAccessSecret": {"name": "s", "namespace": "calico-system"}}}
    encoded = {key: b64encode(value.encode()).decode() for key, value in (data or {}).items()}
    secret = {"metadata": {"name": "s", "namespace": "calico-system"}, "data": encoded}
    with pytest.raises(UnusableError, match=complaint):
        read_access(remote, Listed([] if data is None else [secret]))


def workload(kind, name, *, wanted=2, ready=2):
    status = (
        {"desiredNumberScheduled": wanted, "numberReady": ready}
        if kind == "DaemonSet"
        else {"readyReplicas": ready, "updatedReplicas": wanted}
    )
    return {"kind": kind, "metadata": {"name": name}, "spec": {"replicas": wanted}, "status": status}


WELL = (
    workload("DaemonSet", "calico-node"),
    workload("Deployment", "calico-typha"),
    workload("Deployment", "calico-kube-controllers"),
)


@pytest.mark.parametrize(
    ("workloads", "available", "progressing", "degraded"),
    [
        (WELL, "True", "False", "False"),
        ((workload("DaemonSet", "calico-node", ready=1), *WELL[1:]), "False", "True", "False"),
        ((*WELL[:1], workload("Deployment", "calico-typha", wanted=0, ready=0), *WELL[2:]), "False", "True", "False"),
        (WELL[1:], "False", "False", "True"),
    ],
)
def test_the_operator_tells_what_really_runs(workloads, available, progressing, degraded):
    told = {condition["type"]: condition["status"] for condition in health(workloads).conditions}
    assert told == {"Available": available, "Progressing": progressing, "Degraded": degraded}


def test_all_sessions_are_signed_with_the_password_of_the_secret(clusters, held):
    (secret,) = (obj for obj in of_kind(held["us-east-1"], "Secret") if obj["metadata"]["name"] == "bgp-secrets")
    passwords = read_passwords(secret)
    cluster = replace(clusters["us-east-1"], passwords=passwords)
    for node in cluster.nodes:
        assert {session.password for session in sessions(cluster, node)} == {passwords[0][1]}
        text = render(cluster, node, cluster.nodes)
        assert text.count(f'password "{passwords[0][1]}";') == len(sessions(cluster, node))
        assert passwords[0][1] not in repr(sessions(cluster, node)) + repr(cluster)


def test_a_peering_without_its_secret_is_not_signed(clusters):
    cluster = clusters["us-east-1"]
    assert {session.password for session in sessions(cluster, cluster.nodes[0])} == {None}


def test_a_password_that_birds_grammar_cannot_hold_is_refused():
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"k": b64encode(b'a"; protocol').decode()}}
    with pytest.raises(BadObjectError, match="quotation mark"):
        read_passwords(secret)
    fine = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"k": b64encode(b"good\n").decode()}}
    assert read_passwords(fine) == ((SecretKey("s", "k"), "good"),)
