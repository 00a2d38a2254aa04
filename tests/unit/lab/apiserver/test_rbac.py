"""Who may do what, by roles and their bindings."""

from __future__ import annotations

import pytest

from provision.lab.kube.apiserver.authentication import acting_as
from provision.lab.kube.apiserver.errors import ApiError
from provision.lab.kube.apiserver.rbac import Authorizer
from provision.lab.kube.apiserver.request import read_action
from provision.lab.kube.apiserver.resources import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from provision.lab.kube.apiserver.store import Store

VERIFIER = acting_as("system:serviceaccount:meshproof:verifier")
READ = ["get", "list", "watch"]


def grant(store: Store, rules: list[dict], *, subject: dict, namespace: str = "", cluster_role: bool = False) -> None:
    """Puts a role and its binding into the store: cluster-wide, or in a namespace."""
    place = {"namespace": namespace} if namespace else {}
    role_place = {} if cluster_role else place
    kind = ROLES if namespace and not cluster_role else CLUSTER_ROLES
    store.write(kind.key, {"metadata": {"name": "r"} | role_place, "rules": rules})
    binding = {
        "metadata": {"name": "r"} | place,
        "roleRef": {"kind": kind.kind, "name": "r"},
        "subjects": [subject],
    }
    store.write((ROLE_BINDINGS if namespace else CLUSTER_ROLE_BINDINGS).key, binding)


SUBJECT = {"kind": "ServiceAccount", "name": "verifier", "namespace": "meshproof"}


def rule(verbs: list[str], *resources: str, groups: tuple[str, ...] = ("",), names: tuple[str, ...] = ()) -> dict:
    return {"apiGroups": list(groups), "resources": list(resources), "verbs": verbs, "resourceNames": list(names)}


def may(rules: list[dict], request: str, **where) -> bool:
    store = Store()
    authorizer = Authorizer(store)
    grant(store, rules, **({"subject": SUBJECT} | where))
    method, _, path = request.partition(" ")
    path, _, query = path.partition("?")
    return authorizer.allows(VERIFIER, read_action(method, path, dict([query.split("=")]) if query else {}))


@pytest.mark.parametrize(
    ("rules", "request_line", "allowed"),
    [
        ([rule(READ, "pods")], "GET /api/v1/pods", True),
        ([rule(READ, "pods")], "GET /api/v1/pods?watch=true", True),
        ([rule(["list"], "pods")], "GET /api/v1/pods?watch=1", False),
        ([rule(READ, "pods")], "GET /api/v1/namespaces/a/pods/p", True),
        ([rule(READ, "pods")], "DELETE /api/v1/namespaces/a/pods/p", False),
        ([rule(["delete"], "pods")], "DELETE /api/v1/namespaces/a/pods", False),
        ([rule(["deletecollection"], "pods")], "DELETE /api/v1/namespaces/a/pods", True),
        ([rule(["create"], "pods")], "POST /api/v1/namespaces/a/pods", True),
        ([rule(["update"], "pods")], "PUT /api/v1/namespaces/a/pods/p", True),
        ([rule(["patch"], "pods")], "PUT /api/v1/namespaces/a/pods/p", False),
        ([rule(["get"], "pods")], "GET /api/v1/namespaces/a/pods/p/log", False),
        ([rule(["get"], "pods/log")], "GET /api/v1/namespaces/a/pods/p/log", True),
        ([rule(["get"], "*/log")], "GET /api/v1/namespaces/a/pods/p/log", True),
        ([rule(["get"], "pods/*")], "GET /api/v1/namespaces/a/pods/p/log", False),
        ([rule(["*"], "*")], "DELETE /api/v1/namespaces/a/pods/p/log", True),
        ([rule(["*"], "*")], "GET /apis/apps/v1/deployments", False),
        ([rule(["*"], "*", groups=("*",))], "GET /apis/apps/v1/deployments", True),
        ([rule(["get"], "configmaps", names=("x",))], "GET /api/v1/namespaces/a/configmaps/x", True),
        ([rule(["get"], "configmaps", names=("x",))], "GET /api/v1/namespaces/a/configmaps/y", False),
        ([rule(["list"], "configmaps", names=("x",))], "GET /api/v1/namespaces/a/configmaps", False),
        ([rule(["get"], "namespaces")], "GET /api/v1/namespaces/a", True),
        ([{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}], "GET /metrics", True),
        ([{"nonResourceURLs": ["/logs/*"], "verbs": ["get"]}], "GET /logs/x/y", True),
        ([{"nonResourceURLs": ["/logs/*"], "verbs": ["get"]}], "GET /metrics", False),
        ([], "GET /version", False),
    ],
)
def test_rules_held_everywhere(rules, request_line, allowed):
    assert may(rules, request_line) is allowed


@pytest.mark.parametrize("cluster_role", [True, False])
def test_role_binding_reaches_no_further_than_its_namespace(cluster_role):
    where = {"namespace": "a", "cluster_role": cluster_role}
    assert may([rule(READ, "pods")], "GET /api/v1/namespaces/a/pods", **where)
    assert may([rule(["get"], "namespaces")], "GET /api/v1/namespaces/a", **where)
    assert not may([rule(READ, "pods")], "GET /api/v1/namespaces/b/pods", **where)
    assert not may([rule(READ, "pods")], "GET /api/v1/pods", **where)


@pytest.mark.parametrize(
    ("subject", "allowed"),
    [
        ({"kind": "User", "name": "system:serviceaccount:meshproof:verifier"}, True),
        ({"kind": "Group", "name": "system:serviceaccounts:meshproof"}, True),
        ({"kind": "Group", "name": "system:authenticated"}, True),
        ({"kind": "ServiceAccount", "name": "verifier", "namespace": "other"}, False),
        ({"kind": "User", "name": "verifier"}, False),
        ({"kind": "Group", "name": "system:masters"}, False),
    ],
)
def test_subjects(subject, allowed):
    assert may([rule(READ, "pods")], "GET /api/v1/pods", subject=subject) is allowed


def test_masters_may_do_everything():
    boss = acting_as("admin", ["system:masters"])
    assert Authorizer(Store()).allows(boss, read_action("DELETE", "/api/v1/nodes", {}))


def test_changes_of_rights_take_effect_at_once():
    store = Store()
    authorizer = Authorizer(store)
    action = read_action("GET", "/api/v1/pods", {})
    assert not authorizer.allows(VERIFIER, action)
    grant(store, [rule(READ, "pods")], subject=SUBJECT)
    assert authorizer.allows(VERIFIER, action)
    grant(store, [], subject=SUBJECT)
    assert not authorizer.allows(VERIFIER, action)


@pytest.mark.parametrize(
    ("request_line", "message"),
    [
        (
            "GET /api/v1/namespaces/default/pods",
            'pods is forbidden: User "system:serviceaccount:meshproof:verifier" cannot list resource "pods" '
            'in API group "" in the namespace "default"',
        ),
        (
            "POST /api/v1/namespaces/a/pods/p/exec",
            'pods "p" is forbidden: User "system:serviceaccount:meshproof:verifier" cannot create resource "pods/exec" '
            'in API group "" in the namespace "a"',
        ),
        (
            "DELETE /apis/crd.projectcalico.org/v1/ippools/x",
            'ippools.crd.projectcalico.org "x" is forbidden: User "system:serviceaccount:meshproof:verifier" cannot '
            'delete resource "ippools" in API group "crd.projectcalico.org" at the cluster scope',
        ),
        ("GET /metrics", 'forbidden: User "system:serviceaccount:meshproof:verifier" cannot get path "/metrics"'),
    ],
)
def test_denial_reads_like_that_of_kubernetes(request_line, message):
    with pytest.raises(ApiError) as caught:
        Authorizer(Store()).require(VERIFIER, read_action(*request_line.split(), {}))
    assert caught.value.code == 403
    assert caught.value.message == message
