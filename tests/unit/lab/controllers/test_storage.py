"""Volumes for claims, nodes for pods that wait for theirs, and what disruption budgets allow."""

from __future__ import annotations

import asyncio
from copy import deepcopy

import pytest

from provision.lab.kube.client import AlreadyExists, NotFound
from provision.lab.kube.controllers.disruption import budget_status
from provision.lab.kube.controllers.scheduler import Scheduler
from provision.lab.kube.controllers.storage import LocalProvisioner
from provision.lab.kube.objects import PROVISIONER, SELECTED_NODE

NODES = ("node-1", "node-2", "node-3")


class Cluster:
    """As much of an API as the two controllers use; what it holds is what they see."""

    def __init__(self):
        self.objects = {}
        self.bound = {}

    def of(self, kind):
        return Held(self.objects, kind)

    def put(self, kind, obj):
        meta = obj["metadata"]
        self.objects[kind, meta.get("namespace", ""), meta["name"]] = obj

    async def create(self, resource, obj):
        meta = obj["metadata"]
        if (resource.kind, meta.get("namespace", ""), meta["name"]) in self.objects:
            raise AlreadyExists(409, "AlreadyExists", "", "")
        meta["uid"] = f"uid of {meta['name']}"
        self.put(resource.kind, deepcopy(obj))

    async def patch(self, resource, name, patch, namespace=None):
        try:
            known = self.objects[resource.kind, namespace or "", name]
        except KeyError:
            raise NotFound(404, "NotFound", f"{name} not found", "") from None
        known["metadata"].setdefault("annotations", {}).update(patch["metadata"].get("annotations", {}))
        known["spec"] |= patch.get("spec", {})

    async def patch_status(self, resource, name, status, namespace=None):
        self.objects[resource.kind, namespace or "", name].setdefault("status", {}).update(status)

    async def delete(self, resource, name):
        del self.objects[resource.kind, "", name]

    async def request(self, method, path, *, body):
        assert (method, path.rpartition("/")[2]) == ("POST", "binding")
        name, node = body["metadata"]["name"], body["target"]["name"]
        self.bound[name] = self.objects["Pod", "ns", name]["spec"]["nodeName"] = node


class Held:
    def __init__(self, objects, kind):
        self._objects, self._kind = objects, kind

    def __iter__(self):
        return iter([obj for (kind, *_), obj in self._objects.items() if kind == self._kind])

    def __len__(self):
        return len(list(iter(self)))

    def get(self, name, namespace=None):
        return self._objects.get((self._kind, namespace or "", name))

    def add_handler(self, handler):
        pass


@pytest.fixture
def cluster():
    made = Cluster()
    made.put("StorageClass", {"metadata": {"name": "local"}, "provisioner": PROVISIONER})
    for node in NODES:
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        made.put("Node", {"metadata": {"name": node, "labels": {}}, "spec": {}, "status": ready})
    return made


@pytest.fixture
def scheduler(cluster):
    return Scheduler(cluster, cluster.of("Pod"), cluster.of("Node"), cluster.of("PersistentVolumeClaim"))


@pytest.fixture
def provisioner(cluster, tmp_path):
    kinds = ("PersistentVolumeClaim", "PersistentVolume", "StorageClass")
    return LocalProvisioner(cluster, *map(cluster.of, kinds), lambda node: tmp_path / node)


def turn(*controllers):
    for controller in controllers:
        asyncio.run(controller.reconcile_all(("", "")))


def claim(name, storage_class="local"):
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-of-{name}"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": storage_class,
        },
    }


def pod(name, *claims):
    volumes = [{"name": each, "persistentVolumeClaim": {"claimName": each}} for each in claims]
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-of-{name}", "labels": {"app": "db"}},
        "spec": {"volumes": volumes},
    }


def test_a_claim_has_no_volume_before_a_pod_needs_it(cluster, provisioner):
    cluster.put("PersistentVolumeClaim", claim("data"))
    turn(provisioner)
    assert len(cluster.of("PersistentVolume")) == 0


def test_a_pod_gets_its_node_once_its_volume_is_there(cluster, scheduler, provisioner, tmp_path):
    cluster.put("PersistentVolumeClaim", claim("data"))
    cluster.put("Pod", pod("db-0", "data"))
    turn(scheduler)
    assert not cluster.bound
    turn(provisioner, scheduler)
    (volume,) = cluster.of("PersistentVolume")
    bound = cluster.of("PersistentVolumeClaim").get("data", "ns")
    assert bound["spec"]["volumeName"] == volume["metadata"]["name"]
    assert (bound["status"]["phase"], bound["status"]["capacity"]) == ("Bound", {"storage": "1Gi"})
    assert volume["status"] == {"phase": "Bound"}
    assert (tmp_path / cluster.bound["db-0"] / volume["spec"]["local"]["path"].lstrip("/")).is_dir()


def test_pods_that_wait_for_volumes_are_spread_all_the_same(cluster, scheduler, provisioner):
    for number in range(3):
        cluster.put("PersistentVolumeClaim", claim(f"data-{number}"))
        cluster.put("Pod", pod(f"db-{number}", f"data-{number}"))
    turn(scheduler, provisioner, scheduler)
    assert sorted(cluster.bound.values()) == list(NODES)


def test_a_pod_made_anew_goes_where_its_data_is(cluster, scheduler, provisioner, tmp_path):
    cluster.put("PersistentVolumeClaim", claim("data") | {})
    cluster.of("PersistentVolumeClaim").get("data", "ns")["metadata"]["annotations"] = {SELECTED_NODE: "node-3"}
    turn(provisioner)
    (kept,) = tmp_path.glob("node-3/var/lib/volumes/*")
    (kept / "file").write_text("kept")
    cluster.put("Pod", pod("db-0", "data"))
    turn(scheduler, provisioner)
    assert cluster.bound == {"db-0": "node-3"}
    assert (kept / "file").read_text() == "kept"


def test_a_volume_goes_with_its_claim(cluster, provisioner, tmp_path):
    cluster.put("PersistentVolumeClaim", claim("data"))
    cluster.of("PersistentVolumeClaim").get("data", "ns")["metadata"]["annotations"] = {SELECTED_NODE: "node-1"}
    turn(provisioner)
    del cluster.objects["PersistentVolumeClaim", "ns", "data"]
    turn(provisioner)
    assert len(cluster.of("PersistentVolume")) == 0
    assert not list(tmp_path.glob("node-1/var/lib/volumes/*"))


def test_claims_of_another_class_are_left_alone(cluster, scheduler, provisioner):
    cluster.put("PersistentVolumeClaim", claim("data", storage_class="cloud-disk"))
    cluster.put("Pod", pod("db-0", "data"))
    turn(scheduler, provisioner, scheduler)
    assert not cluster.bound
    assert len(cluster.of("PersistentVolume")) == 0


@pytest.mark.parametrize(
    ("spec", "healthy", "expected", "desired", "allowed"),
    [
        ({"maxUnavailable": 1}, 3, 3, 2, 1),
        ({"maxUnavailable": 1}, 2, 3, 2, 0),
        ({"maxUnavailable": 1}, 1, 1, 0, 1),
        ({"maxUnavailable": "50%"}, 3, 3, 1, 2),
        ({"minAvailable": 2}, 3, 3, 2, 1),
        ({"minAvailable": 2}, 1, 3, 2, 0),
        ({"maxUnavailable": 1}, 0, 0, 0, 0),
    ],
)
def test_a_budget_tells_how_many_pods_can_be_spared(spec, healthy, expected, desired, allowed):
    status = budget_status({"metadata": {"generation": 2}, "spec": spec}, healthy, expected)
    assert (status["desiredHealthy"], status["disruptionsAllowed"]) == (desired, allowed)
    assert (status["currentHealthy"], status["expectedPods"], status["observedGeneration"]) == (healthy, expected, 2)
