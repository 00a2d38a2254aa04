"""What any Kubernetes API server must do for our client code, asked through the official client and plain HTTP.

By default the lab's own server is asked. `--contract-context NAME` (with `--contract-kubeconfig FILE`) asks another
one: a running lab, or a real cluster.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import websocket
from kubernetes import client, watch
from kubernetes.stream import stream
from tenacity import Retrying, retry_if_exception_type, stop_after_delay

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
WITHIN_S = 10


def refused(code: int, reason: str, function: Callable, *arguments, **options) -> str:
    """Calls the function, which must be refused so, and returns the message."""
    with pytest.raises(client.ApiException) as caught:
        function(*arguments, **options)
    status = json.loads(caught.value.body)
    assert (caught.value.status, status["reason"]) == (code, reason), status
    assert status["kind"] == "Status"
    assert status["code"] == code
    return status["message"]


def config_map(name: str, **data: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str) -> dict:
    labels = {"app": name}
    containers = [{"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "b:1"}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


def resting_pod(name: str) -> dict:
    """A pod that no scheduler takes care of."""
    spec = {"schedulerName": "nobody", "containers": [{"name": "c", "image": "busybox:1.36"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def until(condition: Callable[[], bool], what: str, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)


def is_gone(function: Callable, *arguments) -> bool:
    try:
        function(*arguments)
    except client.ApiException as error:
        return error.status == 404
    return False


class TestDiscovery:
    def test_version_is_semantic(self, api):
        assert re.match(r"v1\.\d+\.\d+", client.VersionApi(api).get_code().git_version)

    @pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
    def test_health_answers(self, call, path):
        answer = call("GET", path)
        assert (answer.status, answer.body) == (200, b"ok")

    def test_core_resources_are_listed_with_their_subresources(self, call):
        resources = {each["name"]: each for each in call("GET", "/api/v1").json["resources"]}
        assert resources["pods"]["kind"] == "Pod"
        assert resources["pods"]["namespaced"]
        assert "po" in resources["pods"]["shortNames"]
        assert not resources["nodes"]["namespaced"]
        assert {"pods/exec", "pods/log", "pods/status", "pods/eviction", "pods/binding"} <= resources.keys()

    @pytest.mark.parametrize(
        ("group", "plural"),
        [
            ("apps", "deployments"),
            ("apps", "statefulsets"),
            ("apps", "daemonsets"),
            ("discovery.k8s.io", "endpointslices"),
            ("networking.k8s.io", "networkpolicies"),
            ("policy", "poddisruptionbudgets"),
            ("rbac.authorization.k8s.io", "clusterroles"),
            ("apiextensions.k8s.io", "customresourcedefinitions"),
            ("authorization.k8s.io", "selfsubjectaccessreviews"),
            ("authentication.k8s.io", "tokenreviews"),
        ],
    )
    def test_groups_are_served(self, call, group, plural):
        assert group in {each["name"] for each in call("GET", "/apis").json["groups"]}
        assert plural in {each["name"] for each in call("GET", f"/apis/{group}/v1").json["resources"]}

    @pytest.mark.parametrize("path", ["/apis/nobody.example/v1", "/api/v1/nothings", "/apis/apps/v1/nothings"])
    def test_unknown_paths_are_not_found(self, call, path):
        answer = call("GET", path)
        assert answer.status == 404

    def test_list_can_be_had_as_a_table(self, call):
        answer = call("GET", "/api/v1/namespaces", accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        assert answer.json["kind"] == "Table"
        assert answer.json["columnDefinitions"][0]["name"] == "Name"
        assert "kube-system" in [row["cells"][0] for row in answer.json["rows"]]
        assert answer.json["rows"][0]["object"]["metadata"]["name"]


class TestObjects:
    def test_create_completes_the_metadata(self, core, namespace):
        made = core.create_namespaced_config_map(namespace, config_map("complete", k="v"))
        assert made.metadata.uid
        assert made.metadata.creation_timestamp
        assert int(made.metadata.resource_version) > 0
        assert core.read_namespaced_config_map("complete", namespace).data == {"k": "v"}

    def test_generate_name_makes_distinct_names(self, core, namespace):
        body = {"metadata": {"generateName": "many-"}}
        names = {core.create_namespaced_config_map(namespace, body).metadata.name for _ in range(3)}
        assert len(names) == 3
        assert all(name.startswith("many-") for name in names)

    def test_second_create_conflicts(self, core, namespace):
        core.create_namespaced_config_map(namespace, config_map("twice"))
        message = refused(409, "AlreadyExists", core.create_namespaced_config_map, namespace, config_map("twice"))
        assert message == 'configmaps "twice" already exists'

    def test_missing_object_is_not_found(self, core, apps, namespace):
        message = refused(404, "NotFound", core.read_namespaced_pod, "nope", namespace)
        assert message == 'pods "nope" not found'
        message = refused(404, "NotFound", apps.read_namespaced_deployment, "nope", namespace)
        assert message == 'deployments.apps "nope" not found'

    def test_missing_namespace_refuses_objects(self, core):
        refused(404, "NotFound", core.create_namespaced_config_map, "no-such-namespace", config_map("x"))

    def test_stale_replace_conflicts(self, core, namespace):
        first = core.create_namespaced_config_map(namespace, config_map("stale", k="1"))
        first.data = {"k": "2"}
        core.replace_namespaced_config_map("stale", namespace, first)
        message = refused(409, "Conflict", core.replace_namespaced_config_map, "stale", namespace, first)
        assert "the object has been modified" in message

    def test_write_without_change_keeps_the_version(self, core, namespace):
        made = core.create_namespaced_config_map(namespace, config_map("same", k="1"))
        again = core.patch_namespaced_config_map("same", namespace, {"data": {"k": "1"}})
        assert again.metadata.resource_version == made.metadata.resource_version

    def test_generation_counts_changes_of_the_spec_only(self, apps, namespace):
        made = apps.create_namespaced_deployment(namespace, deployment("generation"))
        labelled = apps.patch_namespaced_deployment("generation", namespace, {"metadata": {"labels": {"a": "b"}}})
        respecified = apps.patch_namespaced_deployment("generation", namespace, {"spec": {"paused": True}})
        assert made.metadata.generation == labelled.metadata.generation == 1
        assert respecified.metadata.generation == 2

    def test_dry_run_leaves_nothing(self, core, namespace):
        made = core.create_namespaced_config_map(namespace, config_map("dry"), dry_run="All")
        assert made.metadata.name == "dry"
        refused(404, "NotFound", core.read_namespaced_config_map, "dry", namespace)

    def test_status_is_written_only_through_its_subresource(self, apps, namespace):
        apps.create_namespaced_deployment(namespace, deployment("status"))
        apps.patch_namespaced_deployment("status", namespace, {"status": {"collisionCount": 7}})
        assert apps.read_namespaced_deployment("status", namespace).status.collision_count is None
        patch = {"status": {"collisionCount": 7}, "spec": {"replicas": 5}}
        patched = apps.patch_namespaced_deployment_status("status", namespace, patch)
        assert patched.status.collision_count == 7
        assert patched.spec.replicas == 0

    def test_scale(self, apps, namespace):
        apps.create_namespaced_stateful_set(namespace, deployment("scale") | {"kind": "StatefulSet"})
        assert apps.read_namespaced_stateful_set_scale("scale", namespace).spec.replicas is None  # zero is left out
        apps.patch_namespaced_stateful_set("scale", namespace, {"spec": {"template": {"spec": {"schedulerName": "x"}}}})
        scaled = apps.patch_namespaced_stateful_set_scale("scale", namespace, {"spec": {"replicas": 2}})
        assert scaled.spec.replicas == 2
        assert apps.read_namespaced_stateful_set("scale", namespace).spec.replicas == 2
        apps.delete_namespaced_stateful_set("scale", namespace)

    def test_secret_takes_plain_text(self, core, namespace):
        core.create_namespaced_secret(namespace, {"metadata": {"name": "plain"}, "stringData": {"k": "v"}})
        assert core.read_namespaced_secret("plain", namespace).data == {"k": "dg=="}

    @pytest.mark.parametrize(
        ("path", "body", "code", "words"),
        [
            ("configmaps", {"metadata": {"name": "Not_A_Name"}}, 422, "metadata.name"),
            ("configmaps", {"metadata": {}}, 422, "name or generateName is required"),
            ("configmaps", {"metadata": {"name": "x", "labels": {"a": 1}}}, 400, ""),
            ("configmaps", {"metadata": {"name": "x", "labels": {"a": "b c"}}}, 422, "metadata.labels"),
            ("configmaps", {"metadata": {"name": "x", "namespace": "kube-system"}}, 400, "namespace"),
            ("configmaps", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}, 400, ""),
            ("configmaps", b"{not json", 400, ""),
            ("configmaps", ["a list"], 400, ""),
            ("configmaps", {"metadata": "text"}, 400, ""),
            ("configmaps", {"metadata": {"name": "x", "labels": []}}, 400, ""),
            ("pods", {"metadata": {"name": "x"}, "spec": "text"}, 400, ""),
            ("pods", {"metadata": {"name": "x"}, "spec": {"containers": "text"}}, 400, ""),
            ("pods", {"metadata": {"name": "x"}, "spec": {"containers": []}}, 422, "spec.containers"),
            ("pods", {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c"}]}}, 422, "image"),
            (
                "pods",
                {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "i"}] * 2}},
                422,
                "Duplicate value",
            ),
            (
                "pods",
                {
                    "metadata": {"name": "x"},
                    "spec": {
                        "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]
                    },
                },
                422,
                "volumeMounts[0].name",
            ),
        ],
    )
    def test_bad_object_is_refused(self, call, namespace, path, body, code, words):
        answer = call("POST", f"/api/v1/namespaces/{namespace}/{path}", body)
        assert answer.status == code, answer.body
        assert words in answer.json["message"]

    def test_pod_with_unknown_service_account_is_refused(self, core, namespace):
        pod = resting_pod("unknown-account")
        pod["spec"]["serviceAccountName"] = "nobody"
        assert "nobody" in refused(403, "Forbidden", core.create_namespaced_pod, namespace, pod)

    def test_selector_must_match_the_template(self, apps, namespace):
        body = deployment("mismatch")
        body["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
        message = refused(422, "Invalid", apps.create_namespaced_deployment, namespace, body)
        assert "`selector` does not match template `labels`" in message

    def test_pod_spec_cannot_change(self, core, namespace):
        core.create_namespaced_pod(namespace, resting_pod("frozen"))
        patch = {"spec": {"hostNetwork": True}}
        assert "pod updates may not change fields" in refused(
            422, "Invalid", core.patch_namespaced_pod, "frozen", namespace, patch
        )
        image = core.patch_namespaced_pod("frozen", namespace, {"spec": {"containers": [{"name": "c", "image": "j"}]}})
        assert image.spec.containers[0].image == "j"

    def test_pod_gets_defaults(self, core, namespace):
        pod = core.create_namespaced_pod(namespace, resting_pod("defaults"))
        assert pod.spec.restart_policy == "Always"
        assert pod.spec.service_account_name == "default"
        assert pod.spec.termination_grace_period_seconds == 30
        assert pod.spec.security_context is not None
        assert pod.status.phase == "Pending"
        assert pod.status.qos_class == "BestEffort"

    def test_pod_gets_a_token_a_priority_and_patience_with_its_node(self, core, namespace):
        spec = core.create_namespaced_pod(namespace, resting_pod("admitted"), dry_run="All").spec
        (volume,) = spec.volumes
        token, authority, namespace_file = volume.projected.sources
        assert token.service_account_token.path == "token"
        assert authority.config_map.name == "kube-root-ca.crt"
        assert namespace_file.downward_api.items[0].field_ref.field_path == "metadata.namespace"
        (mount,) = spec.containers[0].volume_mounts
        assert (mount.name, mount.mount_path) == (volume.name, "/var/run/secrets/kubernetes.io/serviceaccount")
        assert (spec.priority, spec.preemption_policy) == (0, "PreemptLowerPriority")
        assert {(each.key, each.effect, each.toleration_seconds) for each in spec.tolerations} == {
            ("node.kubernetes.io/not-ready", "NoExecute", 300),
            ("node.kubernetes.io/unreachable", "NoExecute", 300),
        }

    def test_pod_may_do_without_a_token(self, core, namespace):
        pod = resting_pod("unmounted")
        pod["spec"]["automountServiceAccountToken"] = False
        assert core.create_namespaced_pod(namespace, pod, dry_run="All").spec.volumes is None

    def test_pod_of_unknown_priority_is_refused(self, core, namespace):
        pod = resting_pod("urgent")
        pod["spec"]["priorityClassName"] = "nowhere"
        assert "no PriorityClass with name nowhere" in refused(
            403, "Forbidden", core.create_namespaced_pod, namespace, pod
        )

    def test_namespace_holds_the_clusters_authority(self, core, namespace, configuration):
        attempts = Retrying(retry=retry_if_exception_type(client.ApiException), stop=stop_after_delay(WITHIN_S))
        authority = attempts(core.read_namespaced_config_map, "kube-root-ca.crt", namespace)
        assert authority.data["ca.crt"] == Path(configuration.ssl_ca_cert).read_text()

    def test_only_what_has_a_wish_and_a_state_counts_generations(self, core, namespace):
        plain = core.create_namespaced_config_map(namespace, config_map("plain"), dry_run="All")
        assert plain.metadata.generation is None
        service = {"metadata": {"name": "plain"}, "spec": {"ports": [{"port": 80}]}}
        assert core.create_namespaced_service(namespace, service, dry_run="All").metadata.generation is None
        assert core.create_namespaced_pod(namespace, resting_pod("counted"), dry_run="All").metadata.generation == 1

    def test_pod_is_labelled_with_the_place_of_its_node(self, core, namespace, node):
        place = {"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "r-a"}
        core.patch_node(node, {"metadata": {"labels": place}})
        body = {
            "metadata": {"name": "placed", "labels": {"app": "contract"}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        }
        seen_by_way_of_a_cache = Retrying(
            retry=retry_if_exception_type(AssertionError), stop=stop_after_delay(WITHIN_S)
        )
        try:
            for attempt in seen_by_way_of_a_cache:
                with attempt:
                    made = core.create_namespaced_pod(namespace, body, dry_run="All")
                    assert made.metadata.labels == place | {"app": "contract"}
        finally:
            core.patch_node(node, {"metadata": {"labels": dict.fromkeys(place)}})

    def test_service_gets_a_cluster_address(self, core, namespace):
        body = {"metadata": {"name": "svc"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}
        service = core.create_namespaced_service(namespace, body)
        assert service.spec.cluster_ip
        assert service.spec.cluster_ips == [service.spec.cluster_ip]
        assert service.spec.ports[0].target_port == 80
        assert service.spec.ports[0].protocol == "TCP"
        headless = {"metadata": {"name": "headless"}, "spec": {"clusterIP": "None", "selector": {"a": "b"}}}
        assert core.create_namespaced_service(namespace, headless).spec.cluster_ip == "None"
        taken = {
            "metadata": {"name": "taken"},
            "spec": {"clusterIP": service.spec.cluster_ip, "ports": [{"port": 80}]},
        }
        assert "already allocated" in refused(422, "Invalid", core.create_namespaced_service, namespace, taken)


class TestPatches:
    @pytest.fixture(scope="class")
    @classmethod
    def path(cls, apps, namespace) -> str:
        apps.create_namespaced_deployment(namespace, deployment("patched"))
        return f"/apis/apps/v1/namespaces/{namespace}/deployments/patched"

    def test_strategic_merge_joins_containers_by_name(self, call, path):
        env = [{"name": "Y", "value": "2"}]
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "a", "env": env}]}}}}
        answer = call("PATCH", path, patch, content_type=STRATEGIC_PATCH)
        containers = answer.json["spec"]["template"]["spec"]["containers"]
        assert [each["name"] for each in containers] == ["a", "b"]
        assert {each["name"] for each in containers[0]["env"]} == {"X", "Y"}

    def test_strategic_merge_deletes_by_directive(self, call, path):
        containers = [{"name": "a", "env": [{"name": "X", "$patch": "delete"}]}]
        patch = {"spec": {"template": {"spec": {"containers": containers}}}}
        answer = call("PATCH", path, patch, content_type=STRATEGIC_PATCH)
        assert "X" not in {e["name"] for e in answer.json["spec"]["template"]["spec"]["containers"][0].get("env", [])}

    def test_merge_patch_replaces_lists_and_null_removes(self, call, path):
        call("PATCH", path, {"metadata": {"annotations": {"a": "1", "b": "2"}}}, content_type=MERGE_PATCH)
        containers = [{"name": "a", "image": "a:2"}]
        patch = {
            "metadata": {"annotations": {"a": None}},
            "spec": {"template": {"spec": {"containers": containers}}},
        }
        answer = call("PATCH", path, patch, content_type=MERGE_PATCH)
        annotations = answer.json["metadata"]["annotations"]
        assert "a" not in annotations
        assert annotations["b"] == "2"
        assert [each["name"] for each in answer.json["spec"]["template"]["spec"]["containers"]] == ["a"]

    def test_json_patch_is_all_or_nothing(self, call, path):
        good = [{"op": "add", "path": "/metadata/labels", "value": {"x": "1"}}]
        assert call("PATCH", path, good, content_type=JSON_PATCH).json["metadata"]["labels"] == {"x": "1"}
        bad = [
            {"op": "replace", "path": "/metadata/labels/x", "value": "2"},
            {"op": "test", "path": "/metadata/labels/x", "value": "nope"},
        ]
        assert call("PATCH", path, bad, content_type=JSON_PATCH).status == 422
        assert call("GET", path).json["metadata"]["labels"] == {"x": "1"}

    def test_apply_creates_and_then_changes(self, call, namespace):
        path = f"/api/v1/namespaces/{namespace}/configmaps/applied?fieldManager=contract&force=true"
        first = call("PATCH", path, config_map("applied", k="1"), content_type=APPLY_PATCH)
        second = call("PATCH", path, config_map("applied", k="2"), content_type=APPLY_PATCH)
        assert (first.status, second.status) == (201, 200)
        assert second.json["data"] == {"k": "2"}

    def test_unknown_patch_type_is_refused(self, call, path):
        assert call("PATCH", path, {}, content_type="application/json").status == 415

    def test_patch_cannot_rename(self, call, path):
        answer = call("PATCH", path, {"metadata": {"name": "other"}}, content_type=MERGE_PATCH)
        assert answer.status in (400, 422)

    def test_patch_with_stale_version_conflicts(self, call, path):
        patch = {"metadata": {"resourceVersion": "1", "labels": {"y": "1"}}}
        assert call("PATCH", path, patch, content_type=MERGE_PATCH).status == 409


class TestSelection:
    @pytest.fixture(scope="class")
    @classmethod
    def shelf(cls, core, namespaces) -> str:
        namespace = namespaces()
        for name, labels in (("a", {"app": "db", "tier": "1"}), ("b", {"app": "db"}), ("c", {"app": "web"}), ("d", {})):
            core.create_namespaced_secret(namespace, {"metadata": {"name": name, "labels": labels}})
        return namespace

    @pytest.mark.parametrize(
        ("selector", "names"),
        [
            ("app=db", "ab"),
            ("app==db", "ab"),
            ("app!=db", "cd"),
            ("app in (db, web)", "abc"),
            ("app notin (db)", "cd"),
            ("app", "abc"),
            ("!app", "d"),
            ("app=db,!tier", "b"),
            ("app=db,tier in (1,2)", "a"),
            ("app=none", ""),
            ("", "abcd"),
        ],
    )
    def test_label_selector(self, core, shelf, selector, names):
        found = core.list_namespaced_secret(shelf, label_selector=selector).items
        assert "".join(sorted(each.metadata.name for each in found)) == names

    @pytest.mark.parametrize(
        ("selector", "names"),
        [("metadata.name=a", "a"), ("metadata.name!=a", "bcd"), ("type=Opaque,metadata.name=b", "b"), ("type=x", "")],
    )
    def test_field_selector(self, core, shelf, selector, names):
        found = core.list_namespaced_secret(shelf, field_selector=selector).items
        assert "".join(each.metadata.name for each in found) == names

    @pytest.mark.parametrize("option", ["labelSelector=a%20b", "fieldSelector=data.k%3Dv", "limit=x"])
    def test_bad_selection_is_refused(self, call, shelf, option):
        assert call("GET", f"/api/v1/namespaces/{shelf}/secrets?{option}").status == 400

    def test_pages_join_to_the_whole_list(self, core, shelf):
        names, token, sizes = [], None, []
        while True:
            page = core.list_namespaced_secret(shelf, limit=3, _continue=token)
            names += [each.metadata.name for each in page.items]
            sizes.append(len(page.items))
            token = page.metadata._continue
            if not token:
                break
            assert page.metadata.remaining_item_count in (1, None)
        assert names == ["a", "b", "c", "d"]
        assert sizes == [3, 1]

    def test_bad_continue_token_is_refused(self, call, shelf):
        assert call("GET", f"/api/v1/namespaces/{shelf}/secrets?limit=1&continue=nonsense").status == 400

    def test_pods_are_found_by_their_node(self, core, namespace, node):
        core.create_namespaced_pod(namespace, resting_pod("bound"))
        core.create_namespaced_pod(namespace, resting_pod("unbound"))
        target = {"metadata": {"name": "bound"}, "target": {"kind": "Node", "name": node}}
        core.create_namespaced_pod_binding("bound", namespace, target, _preload_content=False)
        found = core.list_namespaced_pod(namespace, field_selector=f"spec.nodeName={node}").items
        assert [each.metadata.name for each in found] == ["bound"]
        with pytest.raises(client.ApiException) as caught:
            core.create_namespaced_pod_binding("bound", namespace, target, _preload_content=False)
        assert caught.value.status == 409
        core.delete_namespaced_pod("bound", namespace, grace_period_seconds=0)

    def test_deletecollection_takes_the_selected(self, core, namespaces):
        namespace = namespaces()
        for name in "xyz":
            labels = {"doomed": str(name != "y").lower()}
            core.create_namespaced_secret(namespace, {"metadata": {"name": name, "labels": labels}})
        core.delete_collection_namespaced_secret(namespace, label_selector="doomed=true")
        assert [each.metadata.name for each in core.list_namespaced_secret(namespace).items] == ["y"]


class TestWatch:
    def events(self, core, namespace, count, **options) -> list[tuple[str, str]]:
        seen = []
        source = watch.Watch()
        for event in source.stream(core.list_namespaced_config_map, namespace, timeout_seconds=10, **options):
            seen.append((event["type"], event["object"].metadata.name))
            if len(seen) == count:
                break
        return seen

    @pytest.fixture
    def shelf(self, core, namespaces) -> str:
        """A namespace in which nothing comes by itself any more (real clusters add a ConfigMap)."""
        return namespaces()

    def test_changes_since_a_list_come_in_order(self, core, shelf):
        version = core.list_namespaced_config_map(shelf).metadata.resource_version
        core.create_namespaced_config_map(shelf, config_map("w", k="1"))
        core.patch_namespaced_config_map("w", shelf, {"data": {"k": "2"}})
        core.delete_namespaced_config_map("w", shelf)
        seen = self.events(core, shelf, 3, resource_version=version, field_selector="metadata.name=w")
        assert seen == [("ADDED", "w"), ("MODIFIED", "w"), ("DELETED", "w")]

    def test_without_version_the_present_comes_first(self, core, shelf):
        core.create_namespaced_config_map(shelf, config_map("here"))
        assert ("ADDED", "here") in self.events(core, shelf, 1, field_selector="metadata.name=here")

    def test_leaving_the_selection_is_a_deletion(self, core, shelf):
        version = core.list_namespaced_config_map(shelf).metadata.resource_version
        core.create_namespaced_config_map(shelf, config_map("l"))
        core.patch_namespaced_config_map("l", shelf, {"metadata": {"labels": {"in": "yes"}}})
        core.patch_namespaced_config_map("l", shelf, {"metadata": {"labels": {"in": "no"}}})
        seen = self.events(core, shelf, 2, resource_version=version, label_selector="in=yes")
        assert seen == [("ADDED", "l"), ("DELETED", "l")]

    def test_initial_events_end_with_a_bookmark(self, call, core, shelf):
        core.create_namespaced_config_map(shelf, config_map("one"))
        query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        answer = call("GET", f"/api/v1/namespaces/{shelf}/configmaps?{query}&timeoutSeconds=1")
        events = [json.loads(line) for line in answer.body.splitlines()]
        kinds = [event["type"] for event in events]
        end = kinds.index("BOOKMARK")
        assert "one" in [event["object"]["metadata"]["name"] for event in events[:end]]
        assert events[end]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}

    def test_watch_ends_when_its_time_is_up(self, call, shelf):
        answer = call("GET", f"/api/v1/namespaces/{shelf}/secrets?watch=1&timeoutSeconds=1")
        assert answer.status == 200

    def test_forgotten_version_is_gone(self, core, shelf):
        status = 0
        try:
            self.events(core, shelf, 1, resource_version="1")
        except client.ApiException as error:
            status = error.status
        if not status:
            pytest.skip("this server still remembers its first version: real ones forget after some minutes")
        assert status == 410


class TestDeletion:
    def test_deletion_answers_with_success(self, call, core, namespace):
        core.create_namespaced_config_map(namespace, config_map("gone"))
        answer = call("DELETE", f"/api/v1/namespaces/{namespace}/configmaps/gone")
        assert answer.json["status"] == "Success"
        assert answer.json["details"]["name"] == "gone"

    def test_other_incarnation_is_spared(self, core, namespace):
        core.create_namespaced_config_map(namespace, config_map("spared"))
        options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))
        refused(409, "Conflict", core.delete_namespaced_config_map, "spared", namespace, body=options)

    def test_finalizer_delays_deletion(self, core, namespace):
        body = config_map("held")
        body["metadata"]["finalizers"] = ["meshproof.example/hold"]
        core.create_namespaced_config_map(namespace, body)
        core.delete_namespaced_config_map("held", namespace)
        assert core.read_namespaced_config_map("held", namespace).metadata.deletion_timestamp
        core.patch_namespaced_config_map("held", namespace, {"metadata": {"finalizers": None}})
        refused(404, "NotFound", core.read_namespaced_config_map, "held", namespace)

    def test_pod_without_node_goes_at_once(self, core, namespace):
        core.create_namespaced_pod(namespace, resting_pod("homeless"))
        core.delete_namespaced_pod("homeless", namespace)
        refused(404, "NotFound", core.read_namespaced_pod, "homeless", namespace)

    def test_eviction_deletes(self, call, core, namespace):
        core.create_namespaced_pod(namespace, resting_pod("evicted"))
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "evicted"}}
        assert call("POST", f"/api/v1/namespaces/{namespace}/pods/evicted/eviction", body).status == 201
        refused(404, "NotFound", core.read_namespaced_pod, "evicted", namespace)

    def test_namespace_takes_its_contents_along(self, core, namespaces):
        name = namespaces()
        held = config_map("held")
        held["metadata"]["finalizers"] = ["meshproof.example/hold"]
        core.create_namespaced_config_map(name, held)
        core.create_namespaced_config_map(name, config_map("free"))
        core.delete_namespace(name)
        until(lambda: is_gone(core.read_namespaced_config_map, "free", name), "the free ConfigMap is gone")
        assert core.read_namespace(name).status.phase == "Terminating"
        refused(403, "Forbidden", core.create_namespaced_config_map, name, config_map("late"))
        core.patch_namespaced_config_map("held", name, {"metadata": {"finalizers": None}})
        until(lambda: is_gone(core.read_namespace, name), "the namespace is gone")


class TestCustomResources:
    GROUP = "contract.meshproof.example"

    @pytest.fixture(scope="class")
    @classmethod
    def kind(cls, api) -> Iterator[str]:
        extensions = client.ApiextensionsV1Api(api)
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        versions = [
            {"name": "v1", "served": True, "storage": True, "schema": schema, "subresources": {"status": {}}},
            {"name": "v1beta1", "served": True, "storage": False, "schema": schema},
            {"name": "v1alpha1", "served": False, "storage": False, "schema": schema},
        ]
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"probes.{cls.GROUP}"},
            "spec": {
                "group": cls.GROUP,
                "scope": "Cluster",
                "names": {"kind": "Probe", "plural": "probes", "singular": "probe", "shortNames": ["prb"]},
                "versions": versions,
            },
        }
        extensions.create_custom_resource_definition(definition)
        name = definition["metadata"]["name"]

        def established() -> bool:
            conditions = extensions.read_custom_resource_definition(name).status.conditions or []
            return any(each.type == "Established" and each.status == "True" for each in conditions)

        until(established, "the definition is established")
        yield "probes"
        if not is_gone(extensions.read_custom_resource_definition, name):
            extensions.delete_custom_resource_definition(name)

    def probe(self, name: str, version: str = "v1", **spec) -> dict:
        return {"apiVersion": f"{self.GROUP}/{version}", "kind": "Probe", "metadata": {"name": name}, "spec": spec}

    def test_objects_are_served_in_all_versions(self, custom, kind):
        made = custom.create_cluster_custom_object(self.GROUP, "v1", kind, self.probe("multi", size=1))
        assert made["apiVersion"] == f"{self.GROUP}/v1"
        read = custom.get_cluster_custom_object(self.GROUP, "v1beta1", kind, "multi")
        assert read["apiVersion"] == f"{self.GROUP}/v1beta1"
        assert read["spec"] == {"size": 1}
        listed = custom.list_cluster_custom_object(self.GROUP, "v1beta1", kind)
        assert {each["apiVersion"] for each in listed["items"]} == {f"{self.GROUP}/v1beta1"}
        assert listed["kind"] == "ProbeList"

    def test_version_that_is_not_served_is_unknown(self, call, kind):
        assert call("GET", f"/apis/{self.GROUP}/v1alpha1/{kind}").status == 404

    def test_merge_patch_and_status(self, call, custom, kind):
        custom.create_cluster_custom_object(self.GROUP, "v1", kind, self.probe("patched", a=1, b=2))
        path = f"/apis/{self.GROUP}/v1/{kind}/patched"
        patched = call("PATCH", path, {"spec": {"a": None}, "status": {"x": 1}}, content_type=MERGE_PATCH).json
        assert patched["spec"] == {"b": 2}
        assert "status" not in patched
        patched = call("PATCH", path + "/status", {"status": {"x": 1}}, content_type=MERGE_PATCH).json
        assert patched["status"] == {"x": 1}
        assert call("PATCH", path, {}, content_type=STRATEGIC_PATCH).status == 415

    def test_kind_must_be_stated(self, call, kind):
        assert call("POST", f"/apis/{self.GROUP}/v1/{kind}", {"metadata": {"name": "x"}}).status == 400

    def test_deleted_definition_takes_its_objects_along(self, call, api, kind):
        definition = client.ApiextensionsV1Api(api).delete_custom_resource_definition(f"probes.{self.GROUP}")
        assert definition is not None
        until(lambda: call("GET", f"/apis/{self.GROUP}/v1/{kind}").status == 404, "the kind is no longer served")


class TestAccess:
    @pytest.fixture(scope="class")
    @classmethod
    def token(cls, core, api, namespace) -> str:
        """A ServiceAccount that may read pods and two ConfigMaps, and look at logs, in one namespace."""
        rbac = client.RbacAuthorizationV1Api(api)
        core.create_namespaced_service_account(namespace, {"metadata": {"name": "reader"}})
        rules = [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["get", "update"]},
        ]
        rbac.create_namespaced_role(namespace, {"metadata": {"name": "reader"}, "rules": rules})
        binding = {
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}],
        }
        rbac.create_namespaced_role_binding(namespace, binding)
        request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
        return core.create_namespaced_service_account_token("reader", namespace, request).status.token

    def test_unknown_token_is_unauthorized(self, call):
        answer = call("GET", "/api/v1/namespaces", token="nobody-has-this")
        assert (answer.status, answer.json["reason"]) == (401, "Unauthorized")

    def test_nobody_sees_nothing_but_the_version(self, call):
        assert call("GET", "/version", token="").status == 200
        assert call("GET", "/api/v1/pods", token="").status in (401, 403)

    def test_granted_verbs_pass(self, call, token, namespace):
        assert call("GET", f"/api/v1/namespaces/{namespace}/pods", token=token).status == 200

    @pytest.mark.parametrize(
        ("method", "path", "what"),
        [
            ("DELETE", "namespaces/{ns}/pods/p", 'delete resource "pods" in API group "" in the namespace "{ns}"'),
            ("GET", "namespaces/default/pods", 'list resource "pods" in API group "" in the namespace "default"'),
            ("GET", "pods", 'list resource "pods" in API group "" at the cluster scope'),
            ("GET", "nodes", 'list resource "nodes" in API group "" at the cluster scope'),
            ("GET", "namespaces/{ns}/configmaps", 'list resource "configmaps" in API group ""'),
            ("GET", "namespaces/{ns}/configmaps/other", 'get resource "configmaps" in API group ""'),
            ("GET", "namespaces/{ns}/pods/p/exec", 'get resource "pods/exec" in API group ""'),
            ("PUT", "namespaces/{ns}/pods/p/status", 'update resource "pods/status" in API group ""'),
        ],
    )
    def test_everything_else_is_forbidden_in_so_many_words(self, call, token, namespace, method, path, what):
        body = {} if method == "PUT" else None
        answer = call(method, "/api/v1/" + path.format(ns=namespace), body, token=token)
        assert (answer.status, answer.json["reason"]) == (403, "Forbidden")
        user = f'User "system:serviceaccount:{namespace}:reader" cannot '
        assert user + what.format(ns=namespace) in answer.json["message"]

    def test_resource_names_limit_a_rule(self, call, core, token, namespace):
        core.create_namespaced_config_map(namespace, config_map("mine"))
        assert call("GET", f"/api/v1/namespaces/{namespace}/configmaps/mine", token=token).status == 200

    def test_role_change_takes_effect(self, call, api, token, namespace):
        path = f"/api/v1/namespaces/{namespace}/services"
        assert call("GET", path, token=token).status == 403
        rule = {"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}
        patch = [{"op": "add", "path": "/rules/-", "value": rule}]
        rbac = client.RbacAuthorizationV1Api(api)
        rbac.patch_namespaced_role("reader", namespace, patch)
        until(lambda: call("GET", path, token=token).status == 200, "the new rule holds")

    def test_own_rights_can_be_asked(self, call, token, namespace):
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

        def allowed(**attributes: str) -> bool:
            body = {"spec": {"resourceAttributes": {"namespace": namespace} | attributes}}
            answer = call("POST", path, body, token=token)
            assert answer.status == 201
            return answer.json["status"]["allowed"]

        assert allowed(verb="list", resource="pods")
        assert allowed(verb="get", resource="pods", subresource="log")
        assert not allowed(verb="create", resource="pods", subresource="exec")
        assert not allowed(verb="list", resource="pods", namespace="default")
        assert not allowed(verb="list", resource="pods", group="apps")

    def test_rights_are_listed(self, call, token, namespace):
        body = {"spec": {"namespace": namespace}}
        answer = call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", body, token=token)
        rules = answer.json["status"]["resourceRules"]
        assert any(set(rule["resources"]) == {"pods/log"} and rule["verbs"] == ["get"] for rule in rules)

    def test_identity_can_be_asked(self, call, token, namespace):
        answer = call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, token=token)
        user = answer.json["status"]["userInfo"]
        assert user["username"] == f"system:serviceaccount:{namespace}:reader"
        assert "system:authenticated" in user["groups"]

    def test_tokens_can_be_reviewed(self, call, token, namespace):
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
        known = call("POST", path, review | {"spec": {"token": token}})
        assert known.json["status"]["user"]["username"].endswith(":reader")
        unknown = call("POST", path, review | {"spec": {"token": "x"}})
        assert not unknown.json["status"].get("authenticated")

    def test_others_rights_can_be_asked_by_an_admin(self, call, namespace, token):
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{namespace}:reader",
                "resourceAttributes": {"namespace": namespace, "verb": "get", "resource": "pods"},
            },
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        assert call("POST", path, body).json["status"]["allowed"]
        assert call("POST", path, body, token=token).status == 403


class TestPodSecurity:
    @pytest.fixture(scope="class")
    @classmethod
    def strict(cls, core, namespaces) -> str:
        """A namespace that takes only restricted pods."""
        name = namespaces()
        core.patch_namespace(name, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
        return name

    def pod(self, **container) -> dict:
        pod = resting_pod("hardened")
        context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}} | container
        pod["spec"]["securityContext"] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        pod["spec"]["containers"][0]["securityContext"] = context
        return pod

    def test_hardened_pod_is_taken(self, core, strict):
        assert core.create_namespaced_pod(strict, self.pod(), dry_run="All").metadata.name == "hardened"

    @pytest.mark.parametrize(
        ("context", "words"),
        [
            ({"allowPrivilegeEscalation": None}, "allowPrivilegeEscalation != false"),
            ({"capabilities": {}}, "unrestricted capabilities"),
            ({"capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]}}, "NET_RAW"),
            ({"runAsNonRoot": False}, "runAsNonRoot != true"),
            ({"seccompProfile": {"type": "Unconfined"}}, "seccompProfile"),
            ({"privileged": True, "allowPrivilegeEscalation": None}, "privileged"),
        ],
    )
    def test_lax_container_is_refused(self, core, strict, context, words):
        message = refused(403, "Forbidden", core.create_namespaced_pod, strict, self.pod(**context))
        assert 'violates PodSecurity "restricted:latest"' in message
        assert words in message

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ({"hostNetwork": True}, "host namespaces"),
            ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, '"restricted:latest": restricted volume types'),
        ],
    )
    def test_lax_pod_is_refused(self, core, strict, spec, words):
        pod = self.pod()
        pod["spec"] |= spec
        assert words in refused(403, "Forbidden", core.create_namespaced_pod, strict, pod)


class Exec:
    """An exec over a chosen channel protocol."""

    def __init__(self, configuration: client.Configuration, namespace: str) -> None:
        self.configuration = configuration
        self.namespace = namespace

    def __call__(self, pod: str, *command: str, stdin: bytes | None = None, protocol: str = V5, chunk: int = 16384):
        """Returns (status, stdout, stderr); the end of stdin is told where the protocol can."""
        options = [("command", word) for word in command] + [("stdout", "true"), ("stderr", "true")]
        if stdin is not None:
            options.append(("stdin", "true"))
        query = "&".join(f"{key}={quote(value, safe='')}" for key, value in options)
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/exec?{query}"
        settings = self.configuration
        tls = {"ca_certs": settings.ssl_ca_cert, "certfile": settings.cert_file, "keyfile": settings.key_file}
        credentials = settings.auth_settings().get("BearerToken", {}).get("value")
        socket = websocket.create_connection(
            settings.host.replace("https:", "wss:") + path,
            subprotocols=[protocol],
            header=[f"Authorization: {credentials}"] if credentials else [],
            sslopt={key: value for key, value in tls.items() if value},
            timeout=30,
        )
        try:
            assert socket.getsubprotocol() == protocol
            for start in range(0, len(stdin or b""), chunk):
                socket.send_binary(b"\0" + stdin[start : start + chunk])
            if stdin is not None and protocol == V5:
                socket.send_binary(bytes([255, 0]))
            channels: dict[int, bytearray] = {1: bytearray(), 2: bytearray(), 3: bytearray()}
            while True:
                opcode, data = socket.recv_data()
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    break
                if data:
                    channels[data[0]] += data[1:]
        finally:
            socket.close()
        return json.loads(channels[3]), bytes(channels[1]), bytes(channels[2])


class TestPods:
    @pytest.fixture(scope="class")
    @classmethod
    def pod(cls, start_pod, namespace) -> str:
        return start_pod(namespace)

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, configuration, namespace) -> Exec:
        return Exec(configuration, namespace)

    @pytest.mark.parametrize("protocol", [V4, V5])
    def test_exec_keeps_streams_and_exit_code_apart(self, run, pod, protocol):
        status, out, err = run(pod, "sh", "-c", "echo out; echo err >&2; exit 5", protocol=protocol)
        assert (out, err) == (b"out\n", b"err\n")
        assert status["reason"] == "NonZeroExitCode"
        assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "5"}]

    @pytest.mark.parametrize("protocol", [V4, V5])
    def test_exec_success(self, run, pod, protocol):
        status, out, _ = run(pod, "echo", "a b", "c", protocol=protocol)
        assert (status["status"], out) == ("Success", b"a b c\n")

    @pytest.mark.parametrize("chunk", [16384, 1 << 20])
    def test_exec_carries_a_mebibyte_unharmed(self, run, pod, chunk):
        blob = os.urandom(1 << 20)
        status, out, _ = run(pod, "head", "-c", str(len(blob)), stdin=blob, chunk=chunk)
        assert status["status"] == "Success"
        assert out == blob

    def test_end_of_input_reaches_the_command(self, run, pod):
        status, out, _ = run(pod, "cat", stdin=b"abc")
        assert (status["status"], out) == ("Success", b"abc")

    def test_v4_reads_input_of_known_length(self, run, pod):
        _, out, _ = run(pod, "head", "-c", "3", stdin=b"abc", protocol=V4)
        assert out == b"abc"

    def test_exec_of_a_missing_command_fails(self, run, pod):
        status, _, _ = run(pod, "no-such-command")
        assert status["status"] == "Failure"

    def test_exec_through_the_official_client(self, configuration, pod, namespace):
        core = client.CoreV1Api(client.ApiClient(configuration))  # stream() changes the client that it is given
        command = ["echo", "hi"]
        out = stream(core.connect_get_namespaced_pod_exec, pod, namespace, command=command, stdout=True, stderr=True)
        assert out == "hi\n"

    def test_exec_needs_pod_and_container(self, run, pod, call, namespace):
        for path in (f"{pod}/exec?command=true&container=nobody", "nobody/exec?command=true"):
            assert call("GET", f"/api/v1/namespaces/{namespace}/pods/{path}").status in (400, 404)

    def test_exec_ends_with_its_client(self, run, pod, configuration, namespace):
        core = client.CoreV1Api(client.ApiClient(configuration))
        session = stream(
            core.connect_get_namespaced_pod_exec,
            pod,
            namespace,
            command=["sh", "-c", "echo started; sleep 60"],
            stdout=True,
            stderr=True,
            _preload_content=False,
        )
        session.update(timeout=10)
        assert session.read_stdout() == "started\n"
        session.close()
        assert run(pod, "true")[0]["status"] == "Success"

    def test_logs(self, call, start_pod, namespace):
        name = start_pod(namespace, "seq 5", until=("Succeeded",))
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/log"
        assert call("GET", path).body == b"1\n2\n3\n4\n5\n"
        assert call("GET", path + "?tailLines=2&container=main").body == b"4\n5\n"

    def test_logs_can_be_followed(self, core, start_pod, namespace):
        name = start_pod(namespace, "echo one; sleep 0.3; echo two", until=("Running", "Succeeded"))
        lines = watch.Watch().stream(core.read_namespaced_pod_log, name, namespace)
        assert list(lines) == ["one", "two"]

    def test_exit_code_decides_the_phase(self, core, start_pod, namespace):
        name = start_pod(namespace, "exit 3", until=("Failed",))
        state = core.read_namespaced_pod(name, namespace).status.container_statuses[0].state
        assert state.terminated.exit_code == 3

    def test_deleted_pod_goes_when_its_processes_have_ended(self, core, start_pod, namespace):
        name = start_pod(namespace)
        deleted = core.delete_namespaced_pod(name, namespace)
        assert deleted.metadata.deletion_timestamp
        until(lambda: is_gone(core.read_namespaced_pod, name, namespace), "the pod is gone")
