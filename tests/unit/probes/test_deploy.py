"""Probe pods come, listen and go; what belongs to others, or to a run that is alive, is never touched."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from analysis.fleet import Capability
from analysis.plan import Cni
from probes import deploy, preflight
from probes.errors import ApiError, MissingPermissions, ProbeError

NAMESPACE = "/api/v1/namespaces/meshproof"
PODS = f"{NAMESPACE}/pods"


def node(name, ready="True"):
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


@pytest.fixture
def cluster(make_cluster):
    return make_cluster("us-east-1", {"/api/v1/nodes": [node("east-1"), node("east-2")], NAMESPACE: {"metadata": {}}})


@pytest.fixture
def mesh(make_mesh, cluster):
    return make_mesh(cluster)


def stop(cluster, probe_set):
    for pod in probe_set.pods:
        cluster.local.run({"op": "stop", "name": pod.listener_name})


def test_every_ready_node_gets_its_probes_and_their_listeners_answer(mesh, cluster):
    probe_set = deploy.deploy(mesh, per_node=2)
    try:
        assert [(pod.node, pod.on_host) for pod in probe_set.pods] == [
            (name, on_host) for name in ("east-1", "east-2") for on_host in (False, False, True)
        ]
        assert all(pod.ready for pod in probe_set.pods)
        assert len({pod.identity for pod in probe_set.pods}) == 6
        (row,) = cluster.local.probe("tcp", list(probe_set.pods[0].control))
        assert row["outcome"] == "open"
        assert deploy.wait_ready(mesh, probe_set) is probe_set
    finally:
        stop(cluster, probe_set)


def test_a_node_that_is_not_ready_is_a_gap(mesh, cluster):
    cluster.collections["/api/v1/nodes"].append(node("east-3", ready="Unknown"))
    placed = deploy.place(mesh)
    assert {pod.node for pod in placed.pods} == {"east-1", "east-2"}
    assert [gap.subject for gap in placed.gaps] == ["probe pods on node east-3"]


def test_a_refused_host_probe_leaves_the_others_alone(mesh, cluster, monkeypatch):
    create = cluster.create

    def refuse_host(path, body):
        if body["spec"].get("hostNetwork"):
            raise ApiError("us-east-1", "POST", 403, "violates PodSecurity")
        return create(path, body)

    monkeypatch.setattr(cluster, "create", refuse_host)
    placed = deploy.place(mesh)
    assert not placed.on_hosts()
    assert len(placed.on_pods()) == 2
    assert "violates PodSecurity" in placed.gaps[0].error


def test_a_pod_that_ends_is_told_with_its_reason(mesh, cluster):
    placed = deploy.place(mesh)
    waiting = {"reason": "StartError", "message": "python3: not found"}
    for pod in cluster.collections[PODS]:
        pod["status"] = {"phase": "Failed", "containerStatuses": [{"state": {"terminated": waiting}}]}
    with pytest.raises(ProbeError, match=r"it has ended .Failed.: StartError: python3: not found"):
        deploy.wait_ready(mesh, placed, timedelta(seconds=1))


def test_a_region_without_probes_of_the_set_is_not_waited_for(make_mesh, make_cluster, cluster):
    other = make_cluster("us-east-2", {"/api/v1/nodes": [], NAMESPACE: {"metadata": {}}})
    other.watch = lambda *_, **__: pytest.fail("there is nothing to wait for")
    mesh = make_mesh(cluster, other)
    probe_set = deploy.deploy(mesh)
    stop(cluster, probe_set)
    assert {pod.region for pod in probe_set.pods} == {"us-east-1"}


def test_what_was_made_is_removed_when_nothing_becomes_ready(mesh, cluster, monkeypatch):
    monkeypatch.setattr(deploy, "_listening", lambda *_: [])
    with pytest.raises(ProbeError):
        deploy.deploy(mesh)
    assert len(cluster.deleted) == 4


def test_a_namespace_that_was_made_is_removed_again(make_mesh, make_cluster):
    cluster = make_cluster("us-east-1", {"/api/v1/nodes": [node("east-1")]})
    mesh = make_mesh(cluster)
    placed = deploy.place(mesh)
    assert placed.created_namespaces == ("us-east-1",)
    deploy.remove(mesh, placed)
    assert cluster.deleted[-1] == NAMESPACE


def test_removing_touches_only_the_pods_of_the_run(mesh, cluster):
    placed = deploy.place(mesh)
    cluster.collections[PODS].append({"metadata": {"name": "stranger"}})
    cluster.collections[PODS].append(owned("other-run", hours=1))
    deploy.remove(mesh, placed)
    assert sorted(cluster.deleted) == sorted(f"{PODS}/{pod.name}" for pod in placed.pods)


def owned(name, hours=None, run="another"):
    labels = {deploy.OWNED: "true", deploy.RUN: run}
    metadata = {"name": name, "namespace": "meshproof", "labels": labels, "annotations": {}}
    if hours is not None:
        metadata["annotations"][deploy.EXPIRES] = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
    return {"metadata": metadata, "spec": {}, "status": {"phase": "Running"}}


def test_the_sweep_takes_expired_pods_and_nothing_else(mesh, cluster):
    cluster.collections[PODS] = [
        owned("crashed", hours=-1),
        owned("alive", hours=1),
        owned("undated"),
        {"metadata": {"name": "stranger", "annotations": {deploy.EXPIRES: "2020-01-01T00:00:00Z"}}},
    ]
    assert deploy.sweep(mesh) == ("us-east-1/meshproof/crashed", "us-east-1/meshproof/undated")
    assert cluster.deleted == [f"{PODS}/crashed", f"{PODS}/undated"]


def test_the_sweep_takes_a_namespace_that_a_crashed_run_made(mesh, cluster):
    cluster.collections[PODS] = []
    cluster.collections[NAMESPACE] = owned("meshproof", hours=-1)
    assert deploy.sweep(mesh) == ("us-east-1/meshproof",)


def test_pod_probes_stay_within_the_restricted_policy(mesh):
    pod = deploy.ProbePod("us-east-1", "east-1", "meshproof", "p", on_host=False)
    spec = deploy.pod_manifest(mesh.fleet, pod, "run", "2026-11-22T10:00:00+00:00")["spec"]
    security = spec["containers"][0]["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert spec["automountServiceAccountToken"] is False
    assert "hostNetwork" not in spec


def test_host_probes_run_on_every_node_with_one_capability(mesh):
    pod = deploy.ProbePod("us-east-1", "east-1", "meshproof", "p", on_host=True)
    spec = deploy.pod_manifest(mesh.fleet, pod, "run", "2026-11-22T10:00:00+00:00")["spec"]
    assert spec["hostNetwork"] is True
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_RAW"]}
    assert "sysctls" not in spec["securityContext"]


def test_without_leave_no_probe_uses_the_nodes_network(make_mesh, cluster):
    assert not deploy.place(make_mesh(cluster, capabilities=())).on_hosts()


def test_pull_secret_and_image_are_the_user_s(mesh):
    fleet = replace(mesh.fleet, probe_image="registry.example/python:3.12", probe_pull_secret="pull")
    pod = deploy.ProbePod("us-east-1", "east-1", "meshproof", "p", on_host=False)
    spec = deploy.pod_manifest(fleet, pod, "run", "")["spec"]
    assert spec["containers"][0]["image"] == "registry.example/python:3.12"
    assert spec["imagePullSecrets"] == [{"name": "pull"}]


@pytest.mark.parametrize("name", ["node-1", "ip-10-0-1-11.ec2.internal", "n" * 80, "UPPER.case"])
def test_pod_names_are_host_names_and_tell_the_run(name):
    made = deploy.pod_name("20261122T090000Z-demo-abc123", name, "host")
    assert len(made) <= 63
    assert made == made.lower()
    assert "." not in made
    assert "abc123" in made
    assert made != deploy.pod_name("20261122T090000Z-demo-abc123", name + "x", "host")


def test_a_long_run_id_is_a_valid_label():
    label = deploy.run_label("20261122T090000Z-" + "x" * 60 + "-abc123")
    assert len(label) <= 63
    assert label.endswith("abc123")
    assert label[0].isalnum()


# --- preflight --------------------------------------------------------------------------------------------------------


@pytest.fixture
def calico_pods(cluster):
    metadata = {"name": "calico-node-a", "namespace": "kube-system", "labels": {"k8s-app": "calico-node"}}
    cluster.collections["/api/v1/pods"] = [{"metadata": metadata, "status": {"phase": "Running"}}]


def test_preflight_passes_where_everything_is_allowed(mesh, calico_pods):
    preflight.check(mesh)


@pytest.mark.parametrize(
    ("denied", "told"),
    [
        (("list", "nodes"), "list nodes in the whole cluster"),
        (("list", "ippools"), "list ippools.crd.projectcalico.org in the whole cluster"),
        (("create", "pods"), "create pods in namespace meshproof"),
        (("create", "pods/exec"), "create pods/exec in namespace kube-system"),
        (("list", "pods"), "list pods in the whole cluster"),
    ],
)
def test_preflight_names_the_missing_rule_and_what_to_do(mesh, cluster, calico_pods, denied, told):
    cluster.denied.add(denied)
    with pytest.raises(MissingPermissions) as caught:
        preflight.check(mesh)
    assert told in str(caught.value)
    assert "kubectl --context us-east-1 apply -f docs/rbac.yaml" in str(caught.value)


def test_a_missing_namespace_that_may_be_made_is_no_problem(mesh, cluster, calico_pods):
    del cluster.collections[NAMESPACE]
    preflight.check(mesh)
    cluster.denied.add(("create", "namespaces"))
    with pytest.raises(MissingPermissions, match="namespace meshproof does not exist yet"):
        preflight.check(mesh)


def test_preflight_asks_for_disruption_only_where_it_is_allowed(make_mesh, cluster, calico_pods):
    cluster.denied_in.add(("delete", "pods", "kube-system"))
    preflight.check(make_mesh(cluster))
    with pytest.raises(MissingPermissions, match="delete pods in namespace kube-system"):
        preflight.check(make_mesh(cluster, capabilities=(Capability.DISRUPTION,)))


def test_preflight_asks_about_the_cni_that_is_there(make_mesh, cluster):
    cluster.denied.add(("list", "ippools"))
    mesh = make_mesh(cluster)
    mesh.fleet = replace(mesh.fleet, plan=replace(mesh.fleet.plan, cni=Cni.CILIUM_CLUSTERMESH))
    preflight.check(mesh)
    cluster.denied.add(("list", "ciliumnodes"))
    with pytest.raises(MissingPermissions, match=r"list ciliumnodes\.cilium\.io") as caught:
        preflight.check(mesh)
    assert "-l 'meshproof/cni!=calico'" in str(caught.value)
