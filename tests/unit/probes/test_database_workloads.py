"""What the observer of the database's workloads makes of Kubernetes objects."""

import pytest

from analysis.facts import Binding, DatabasePod, DisruptionBudget, NodeRoom, StatefulSet, Subject, VolumeClaim
from analysis.plan import DatabasePlan
from probes.deploy import ProbeSet
from probes.errors import ApiError
from probes.observers.database_rooms import read_rooms
from probes.observers.database_workloads import (
    observe_database_workloads,
    read_bindings,
    read_budgets,
    read_claims,
    read_pods,
    read_stateful_sets,
    read_storage_classes,
)

A, B = "us-east-1", "us-east-2"
GIB = 1 << 30
PLAN = DatabasePlan(replicas=2)


def pod(name, labels=None, *, node="n1", namespace=A, phase="Running", requests=None, restarts=0):
    resources = {"requests": requests} if requests else {}
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "labels": labels or {"app": "cockroachdb"},
        },
        "spec": {
            "nodeName": node,
            "containers": [
                {"name": "sidecar", "image": "proxy:1"},
                {"name": "cockroachdb", "image": "cockroachdb/cockroach:v23.2.5", "resources": resources},
            ],
        },
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": "True" if phase == "Running" else "False"}],
            "containerStatuses": [
                {"name": "sidecar", "restartCount": 9, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
                {
                    "name": "cockroachdb",
                    "restartCount": restarts,
                    "state": {"running": {"startedAt": "2026-11-22T09:00:00Z"}},
                },
            ],
        },
    }


def stateful_set(name="cockroachdb", **template):
    return {
        "metadata": {"name": name, "namespace": A},
        "spec": {
            "replicas": 2,
            "serviceName": name,
            "template": {
                "spec": {
                    "containers": [
                        {"name": name, "image": "img:v1", "command": ["/bin/bash", "-ecx"], "args": ["exec start"]}
                    ],
                    **template,
                }
            },
            "volumeClaimTemplates": [
                {"metadata": {"name": "datadir"}, "spec": {"resources": {"requests": {"storage": "50Gi"}}}}
            ],
        },
        "status": {"readyReplicas": 1},
    }


def node(name, cpu="4", memory="16Gi", labels=None, taints=(), **spec):
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"taints": list(taints), **spec},
        "status": {"allocatable": {"cpu": cpu, "memory": memory}},
    }


@pytest.fixture
def cluster(make_cluster):
    """Builds a recorded cluster of region A from what is at each path below its database's namespace."""

    def make(**collections):
        paths = {
            "stateful_sets": f"/apis/apps/v1/namespaces/{A}/statefulsets",
            "own_pods": f"/api/v1/namespaces/{A}/pods",
            "pods": "/api/v1/pods",
            "nodes": "/api/v1/nodes",
            "claims": f"/api/v1/namespaces/{A}/persistentvolumeclaims",
            "classes": "/apis/storage.k8s.io/v1/storageclasses",
            "budgets": f"/apis/policy/v1/namespaces/{A}/poddisruptionbudgets",
            "bindings": f"/apis/rbac.authorization.k8s.io/v1/namespaces/{A}/rolebindings",
            "cluster_bindings": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        }
        return make_cluster(A, {paths[name]: items for name, items in collections.items()})

    return make


def test_a_stateful_set_is_read_with_its_command_and_its_account(cluster):
    told = read_stateful_sets(
        cluster(stateful_sets=[stateful_set(serviceAccountName="crdb"), stateful_set("other")]), PLAN
    )
    assert told.stateful_sets == (
        StatefulSet(
            A,
            A,
            "cockroachdb",
            wanted=2,
            ready=1,
            image="img:v1",
            command=("/bin/bash", "-ecx", "exec start"),
            service="cockroachdb",
            grace=30.0,
            storage=(("datadir", 50 * GIB),),
        ),
    )
    assert told.service_accounts == ((A, "crdb"),)


def test_pods_are_those_of_the_stateful_set_and_tell_of_their_database_container(cluster):
    listed = [pod("cockroachdb-10"), pod("cockroachdb-2", restarts=3, requests={"cpu": "500m", "memory": "1Gi"})]
    found = read_pods(cluster(own_pods=[*listed, pod("cockroachdb-client"), pod("database-store-0")]), PLAN)
    assert [each.name for each in found] == ["cockroachdb-2", "cockroachdb-10"]
    assert found[0] == DatabasePod(
        A,
        A,
        "cockroachdb-2",
        "uid-cockroachdb-2",
        "n1",
        "Running",
        ready=True,
        restarts=3,
        image="cockroachdb/cockroach:v23.2.5",
        started="2026-11-22T09:00:00Z",
        cpu=500,
        memory=GIB,
    )


def test_a_pod_that_waits_for_a_node_has_none(cluster):
    waiting = pod("cockroachdb-0", phase="Pending", node=None)
    waiting["status"].pop("containerStatuses")
    (found,) = read_pods(cluster(own_pods=[waiting]), PLAN)
    assert (found.node, found.ready, found.started, found.restarts, found.cpu) == ("", False, "", 0, None)


def test_room_is_what_others_leave_on_nodes_that_database_pods_may_use(cluster):
    own = pod("cockroachdb-0", requests={"cpu": "3"})
    own["spec"] |= {"tolerations": [{"key": "dedicated", "value": "db"}], "nodeSelector": {"disk": "ssd"}}
    init = pod("web-0", requests={"cpu": "250m"}, namespace="default")
    init["spec"]["initContainers"] = [{"name": "init", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]
    done = pod("job", requests={"cpu": "2"}, namespace="default", phase="Succeeded")
    limited = pod("web-1", namespace="default")
    limited["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "100m"}}
    ssd = {"disk": "ssd"}
    nodes = [
        node("n1", labels=ssd, taints=[{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]),
        node("n2", labels=ssd, taints=[{"key": "soft", "effect": "PreferNoSchedule"}]),
        node("slow"),
        node("cordoned", labels=ssd, unschedulable=True),
        node("another", labels=ssd, taints=[{"key": "dedicated", "value": "web", "effect": "NoExecute"}]),
    ]
    rooms = read_rooms(cluster(pods=[own, init, done, limited], nodes=nodes), PLAN)
    assert rooms == (NodeRoom(A, "n1", 4000, 16 * GIB, 1100, GIB), NodeRoom(A, "n2", 4000, 16 * GIB))


def test_claims_are_those_of_the_database_pods(cluster):
    def claim(name, **status):
        spec = {"resources": {"requests": {"storage": "50Gi"}}, "storageClassName": "gp3"}
        return {"metadata": {"name": name, "namespace": A}, "spec": spec, "status": status}

    bound = claim("datadir-cockroachdb-0", phase="Bound", capacity={"storage": "50Gi"})
    told = read_claims(
        cluster(claims=[bound, claim("datadir-cockroachdb-1"), claim("datadir-database-store-0"), claim("other")]), PLAN
    )
    assert told.claims == (
        VolumeClaim(A, A, "datadir-cockroachdb-0", "Bound", 50 * GIB, 50 * GIB, "gp3"),
        VolumeClaim(A, A, "datadir-cockroachdb-1", "Pending", 50 * GIB, None, "gp3"),
    )


def test_a_default_class_is_known_by_its_annotation(cluster):
    marked = {"metadata": {"name": "gp3", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}
    told = read_storage_classes(cluster(classes=[marked, {"metadata": {"name": "slow"}}]))
    assert [(each.name, each.default) for each in told.storage_classes] == [("gp3", True), ("slow", False)]


@pytest.mark.parametrize(
    ("selector", "covers"),
    [
        ({"matchLabels": {"app": "cockroachdb"}}, ("cockroachdb-0", "cockroachdb-1")),
        ({"matchLabels": {"app": "cockroachdb", "tier": "x"}}, ("cockroachdb-1",)),
        ({}, ("cockroachdb-0", "cockroachdb-1")),
        (None, ()),
        ({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["x", "y"]}]}, ("cockroachdb-1",)),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]}, ("cockroachdb-0",)),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, ("cockroachdb-1",)),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, ("cockroachdb-0",)),
    ],
)
def test_a_budget_covers_what_its_selector_picks(cluster, selector, covers):
    spec = {"maxUnavailable": 1} | ({} if selector is None else {"selector": selector})
    budget = {"metadata": {"name": "b", "namespace": A}, "spec": spec}
    pods = [pod("cockroachdb-0"), pod("cockroachdb-1", {"app": "cockroachdb", "tier": "x"}), pod("client")]
    told = read_budgets(cluster(budgets=[budget], own_pods=pods), PLAN)
    assert told.budgets == (DisruptionBudget(A, A, "b", "1", "", covers),)


def test_bindings_of_the_whole_cluster_count_when_they_name_the_account_in_whatever_namespace(cluster):
    def binding(name, *subjects, **metadata):
        return {"metadata": {"name": name, **metadata}, "roleRef": {"name": "role"}, "subjects": list(subjects)}

    account = {"kind": "ServiceAccount", "name": "cockroachdb", "namespace": "default"}
    user = {"kind": "User", "name": "cockroachdb"}
    told = read_bindings(
        cluster(
            bindings=[binding("local", user, namespace=A)],
            cluster_bindings=[binding("everywhere", account), binding("strange", user), binding("empty")],
        ),
        PLAN,
    )
    assert told.bindings == (
        Binding(A, A, "local", "role", (Subject("User", "", "cockroachdb"),)),
        Binding(A, "", "everywhere", "role", (Subject("ServiceAccount", "default", "cockroachdb"),)),
    )


def test_what_may_not_be_listed_is_a_gap_of_its_own(make_cluster, make_mesh, monkeypatch):
    """A right that is missing for one kind of object leaves the others to be judged."""
    forbidden = ApiError(A, "GET", 403, "forbidden")
    paths = {
        f"/apis/apps/v1/namespaces/{A}/statefulsets": [stateful_set()],
        f"/api/v1/namespaces/{A}/pods": [pod("cockroachdb-0")],
        f"/api/v1/namespaces/{A}/persistentvolumeclaims": forbidden,
        "/apis/storage.k8s.io/v1/storageclasses": [],
        f"/apis/policy/v1/namespaces/{A}/poddisruptionbudgets": [],
        f"/apis/rbac.authorization.k8s.io/v1/namespaces/{A}/rolebindings": [],
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings": forbidden,
        "/api/v1/pods": [],
        "/api/v1/nodes": [],
    }
    cluster = make_cluster(A, paths)
    monkeypatch.setattr(cluster, "has_namespace", lambda name: name == A, raising=False)
    facts = observe_database_workloads(make_mesh(cluster), ProbeSet("run", "meshproof", "2026-11-22T10:00:00Z", ()))
    assert [gap.parts for gap in facts.gaps] == [("claims",), ("bindings",)]
    assert len(facts.stateful_sets) == len(facts.pods) == 1
    assert facts.namespaces == ((A, A),)
