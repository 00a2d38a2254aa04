"""The pure parts of the controllers: who is meant, what is reported, what is made."""

from __future__ import annotations

import asyncio

import pytest

from provision.lab.kube.client import REPLICA_SETS, ApiError
from provision.lab.kube.controllers import daemonset, deployment, endpoints, replicaset, scheduler, statefulset
from provision.lab.kube.controllers.ownership import pod_from_template, short_hash
from provision.lab.kube.controllers.queue import WorkQueue
from provision.lab.kube.controllers.selectors import node_fits, repels, requirement_holds, selects


def a_pod(name="p", *, ready=True, node="n", labels=None, **meta):
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": labels or {}, **meta},
        "spec": {"nodeName": node, "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def a_node(name="n", *, ready=True, taints=(), **labels):
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": list(taints)},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


@pytest.mark.parametrize(
    ("requirement", "holds"),
    [
        ({"key": "app", "operator": "In", "values": ["x", "y"]}, True),
        ({"key": "app", "operator": "NotIn", "values": ["x"]}, False),
        ({"key": "none", "operator": "NotIn", "values": ["x"]}, True),
        ({"key": "app", "operator": "Exists"}, True),
        ({"key": "app", "operator": "DoesNotExist"}, False),
        ({"key": "size", "operator": "Gt", "values": ["3"]}, True),
        ({"key": "none", "operator": "Lt", "values": ["3"]}, False),
    ],
)
def test_requirements(requirement, holds):
    assert requirement_holds(requirement, {"app": "x", "size": "5"}) is holds


def test_no_selector_selects_nothing_and_an_empty_one_everything():
    assert not selects(None, {"a": "b"})
    assert selects({}, {"a": "b"})
    assert not selects({"matchLabels": {"a": "c"}}, {"a": "b"})


def test_node_selector_and_affinity():
    spec = {"nodeSelector": {"disk": "fast"}}
    assert node_fits(spec, a_node(disk="fast"))
    assert not node_fits(spec, a_node())
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    assert node_fits({"affinity": {"nodeAffinity": required}}, a_node("n2"))
    assert not node_fits({"affinity": {"nodeAffinity": required}}, a_node("n1"))


def test_taints_keep_away_what_does_not_tolerate_them():
    node = a_node(taints=[{"key": "dedicated", "value": "db", "effect": "NoSchedule"}])
    assert repels(node, [])
    assert not repels(node, [{"operator": "Exists"}])
    assert not repels(node, [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}])
    assert repels(node, [{"key": "dedicated", "value": "web"}])
    assert not repels(a_node(taints=[{"key": "x", "effect": "PreferNoSchedule"}]), [])


def test_the_scheduler_shuns_nodes_that_are_not_ready_or_closed():
    pod = a_pod()
    assert scheduler.accepts(a_node(), pod)
    assert not scheduler.accepts(a_node(ready=False), pod)
    assert not scheduler.accepts(a_node() | {"spec": {"unschedulable": True}}, pod)


def test_daemons_run_on_closed_nodes_too():
    daemon_set = {"spec": {"template": {"spec": {}}}}
    closed = a_node(ready=False, taints=[{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}])
    assert daemonset.runs_on(daemon_set, closed)
    reserved = a_node(taints=[{"key": "dedicated", "effect": "NoSchedule"}])
    assert not daemonset.runs_on(daemon_set, reserved)


def test_a_seeded_daemon_is_of_the_first_template():
    daemon_set = {"metadata": {"generation": 1}, "spec": {"template": {"spec": {}}}}
    assert daemonset.is_current(daemon_set, a_pod())
    assert not daemonset.is_current({**daemon_set, "metadata": {"generation": 2}}, a_pod())


def test_replicas_are_given_up_in_the_order_of_their_use():
    old = a_pod("old", creationTimestamp="2026-01-01T00:00:00Z")
    young = a_pod("young", creationTimestamp="2026-01-02T00:00:00Z")
    broken = a_pod("broken", ready=False, creationTimestamp="2026-01-01T00:00:00Z")
    waiting = a_pod("waiting", ready=False, node="", creationTimestamp="2026-01-01T00:00:00Z")
    order = [pod["metadata"]["name"] for pod in replicaset.dispensable_first([old, broken, waiting, young])]
    assert order == ["waiting", "broken", "young", "old"]


def test_a_replica_sets_hash_label_is_no_difference():
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {}}
    marked = {"metadata": {"labels": {"app": "x", "pod-template-hash": "abc"}}, "spec": {}}
    owner = {"spec": {"template": template}}
    assert deployment.same_template({"spec": {"template": marked}}, owner)
    assert not deployment.same_template({"spec": {"template": {**marked, "spec": {"x": 1}}}}, owner)


def test_a_null_is_no_difference():
    """kubectl 1.32 writes `creationTimestamp: null` into templates when it rolls back; newer ones do not."""
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c"}]}}
    nulls = {
        "metadata": {"labels": {"app": "x"}, "creationTimestamp": None},
        "spec": {"containers": [{"name": "c", "x": None}]},
    }
    assert deployment.same_template({"spec": {"template": template}}, {"spec": {"template": nulls}})
    assert short_hash(template) == short_hash(nulls)


def test_hashes_are_names_and_follow_the_content():
    assert short_hash({"a": 1, "b": 2}) == short_hash({"b": 2, "a": 1})
    assert short_hash({"a": 1}) != short_hash({"a": 2})
    assert short_hash({}).isalnum()


def test_ordinals_are_only_of_ones_own_pods():
    assert statefulset.ordinal(a_pod("db-12"), "db") == 12
    assert statefulset.ordinal(a_pod("db-x"), "db") is None
    assert statefulset.ordinal(a_pod("other-1"), "db") is None


def test_pods_of_a_template_do_not_share_their_spec():
    owner = {"metadata": {"name": "o", "namespace": "ns", "uid": "u"}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}
    pod = pod_from_template(owner, REPLICA_SETS, template, {"c": "d"})
    pod["spec"]["containers"].append({})
    assert template["spec"]["containers"] == []
    assert pod["metadata"]["labels"] == {"a": "b", "c": "d"}
    assert pod["metadata"]["ownerReferences"][0]["controller"]


SERVICE = {
    "metadata": {"name": "web", "namespace": "ns", "uid": "s"},
    "spec": {"selector": {"app": "x"}, "ports": [{"port": 80, "targetPort": "http"}]},
}


def test_endpoints_say_who_is_ready_who_leaves_and_by_which_port():
    pods = [a_pod("a"), a_pod("b", ready=False), a_pod("c", deletionTimestamp="2026-01-01T00:00:00Z")]
    slice_ = endpoints.endpoint_slice(SERVICE, pods)
    assert slice_["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    assert [row["conditions"] for row in slice_["endpoints"]] == [
        {"ready": True, "serving": True, "terminating": False},
        {"ready": False, "serving": False, "terminating": False},
        {"ready": False, "serving": True, "terminating": True},
    ]
    (subset,) = endpoints.endpoints(SERVICE, pods)["subsets"]
    assert len(subset["addresses"]) == 1
    assert len(subset["notReadyAddresses"]) == 2


def test_a_pod_with_a_name_of_its_own_has_it_in_the_slice():
    pod = a_pod()
    pod["spec"] |= {"hostname": "db-0", "subdomain": "web"}
    assert endpoints.endpoint_slice(SERVICE, [pod])["endpoints"][0]["hostname"] == "db-0"


def test_the_queue_works_on_a_key_once_for_many_requests_and_again_after_a_failure():
    async def play():
        queue, calls = WorkQueue(), []
        done = asyncio.Event()

        async def reconcile(key):
            calls.append(key)
            if len(calls) == 1:
                raise ApiError(500, "InternalError", "try again", "GET /")
            done.set()

        for _ in range(5):
            queue.add(("ns", "a"))
        running = asyncio.create_task(queue.run("test", reconcile))
        await asyncio.wait_for(done.wait(), 5)
        running.cancel()
        return calls

    assert asyncio.run(play()) == [("ns", "a"), ("ns", "a")]


def test_a_key_that_changes_while_it_is_worked_on_is_worked_on_again():
    async def play():
        queue, calls = WorkQueue(), 0
        twice = asyncio.Event()

        async def reconcile(key):
            nonlocal calls
            calls += 1
            if calls == 1:
                queue.add(key)
                await asyncio.sleep(0)
            else:
                twice.set()

        queue.add(("ns", "a"))
        running = asyncio.create_task(queue.run("test", reconcile))
        await asyncio.wait_for(twice.wait(), 5)
        running.cancel()

    asyncio.run(play())
