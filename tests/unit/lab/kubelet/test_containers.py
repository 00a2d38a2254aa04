"""How containers are started: restarts, users, environment, volumes."""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath

import pytest

from provision.lab.kube.kubelet import process
from provision.lab.kube.kubelet.containers import RestartBackoff
from provision.lab.kube.kubelet.environment import container_environment, expand
from provision.lab.kube.kubelet.probes import ProbePace, await_success, port_number
from provision.lab.kube.kubelet.security import SecurityContextError, credentials, is_privileged
from provision.lab.kube.kubelet.source import ConfigurationError, PodContext
from provision.lab.kube.kubelet.volumes import Dns, Volumes, hosts_file, resolver_file


class Source:
    """ConfigMaps and Secrets out of dictionaries."""

    def __init__(self, **contents):
        self._contents = contents

    async def config_map(self, namespace, name, *, optional=False):
        if name not in self._contents and not optional:
            raise ConfigurationError(f'configmap "{name}" not found in namespace "{namespace}"')
        return self._contents.get(name, {})

    secret = config_map

    async def volume(self, namespace, claim):
        if claim not in self._contents:
            raise ConfigurationError(f'persistentvolumeclaim "{claim}" is not bound to a volume')
        return self._contents[claim]


def pod(**spec):
    meta = {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x"}}
    return {"metadata": meta, "spec": {"nodeName": "node-1", **spec}}


def context(**spec):
    return PodContext(pod(**spec), "192.168.0.2", "10.0.1.10")


def test_the_first_restart_is_at_once_and_the_next_ever_later_up_to_a_minute():
    backoff = RestartBackoff()
    assert [backoff.after(0.1) for _ in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_a_steady_run_begins_the_count_anew():
    backoff = RestartBackoff()
    for _ in range(5):
        backoff.after(1)
    assert backoff.after(61) == 0
    assert backoff.after(1) == 1


def test_a_container_that_asks_for_nothing_has_a_runtimes_capabilities():
    who = credentials(pod(), {"name": "c"})
    assert who.uid is None
    assert "NET_RAW" in who.capabilities
    assert "NET_ADMIN" not in who.capabilities


def test_drop_all_leaves_what_is_added():
    container = {"name": "c", "securityContext": {"capabilities": {"drop": ["ALL"], "add": ["CAP_NET_RAW"]}}}
    assert credentials(pod(), container).capabilities == {"NET_RAW"}


def test_the_containers_user_wins_over_the_pods():
    subject = pod(securityContext={"runAsUser": 1, "runAsGroup": 2, "runAsNonRoot": True})
    container = {"name": "c", "securityContext": {"runAsUser": 65532, "allowPrivilegeEscalation": False}}
    who = credentials(subject, container)
    assert (who.uid, who.gid, who.may_gain) == (65532, 2, False)


@pytest.mark.parametrize("user", [{}, {"runAsUser": 0}])
def test_run_as_non_root_refuses_root(user):
    with pytest.raises(SecurityContextError, match="runAsUser"):
        credentials(pod(securityContext={"runAsNonRoot": True, **user}), {"name": "c"})


def test_a_privileged_container_keeps_everything():
    container = {"name": "c", "securityContext": {"privileged": True}}
    assert is_privileged(container)
    assert credentials(pod(), container).capabilities is None


def test_identities_are_looked_up_in_the_user_namespaces_table(tmp_path):
    table = tmp_path / "uid_map"
    table.write_text("         0       1000          1\n")
    assert process.identity_is_mapped(0, table)
    assert not process.identity_is_mapped(65532, table)


@pytest.mark.parametrize(
    ("text", "result"),
    [("$(A)-$(B)", "1-$(B)"), ("$$(A)", "$(A)"), ("cost: $5", "cost: $5"), ("$(A)$(A)", "11"), ("", "")],
)
def test_references_in_commands(text, result):
    assert expand(text, {"A": "1"}) == result


def test_variables_come_from_fields_config_maps_and_each_other():
    container = {
        "envFrom": [{"prefix": "CM_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "no", "optional": True}}],
        "env": [
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "cm", "key": "k"}}},
            {"name": "ABSENT", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "x", "optional": True}}},
            {"name": "URL", "value": "http://$(IP)/"},
        ],
    }
    env = asyncio.run(container_environment(context(), container, Source(cm={"k": b"v"})))
    assert env["CM_k"] == "v"
    assert env["URL"] == "http://192.168.0.2/"
    assert (env["APP"], env["KEY"], env["HOSTNAME"]) == ("x", "v", "p")
    assert "ABSENT" not in env


def test_a_missing_config_map_is_named():
    container = {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]}
    with pytest.raises(ConfigurationError, match='configmap "cm" not found'):
        asyncio.run(container_environment(context(), container, Source()))


def test_resolver_by_dns_policy():
    dns, node = Dns("172.20.0.10"), "nameserver 9.9.9.9\n"
    cluster = resolver_file(context(), dns, node)
    assert cluster.splitlines() == [
        "nameserver 172.20.0.10",
        "search ns.svc.cluster.local svc.cluster.local cluster.local",
        "options ndots:5",
    ]
    assert resolver_file(context(dnsPolicy="Default"), dns, node) == node
    assert resolver_file(context(hostNetwork=True), dns, node) == node
    assert resolver_file(context(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"), dns, node) == cluster
    own = context(
        dnsPolicy="None", dnsConfig={"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "1"}]}
    )
    assert resolver_file(own, dns, node) == "nameserver 1.1.1.1\noptions ndots:1\n"


def test_hosts_file_knows_the_stable_name():
    text = hosts_file(context(hostname="db-0", subdomain="db"), Dns("172.20.0.10"))
    assert "192.168.0.2\tdb-0.db.ns.svc.cluster.local db-0" in text.splitlines()


def test_volumes_become_folders(tmp_path):
    subject = context(
        volumes=[
            {"name": "scratch", "emptyDir": {}},
            {"name": "config", "configMap": {"name": "cm", "items": [{"key": "k", "path": "sub/file", "mode": 0o400}]}},
            {"name": "host", "hostPath": {"path": "/var/run/calico", "type": "DirectoryOrCreate"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}},
        ]
    )
    node = tmp_path / "node"
    volumes = Volumes(tmp_path / "pod", node, Source(cm={"k": b"v"}, **{"data-db-0": "/var/lib/volumes/pvc-1"}))
    asyncio.run(volumes.prepare(subject))
    container = {
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/a/b/c"},
            {"name": "config", "mountPath": "/a", "readOnly": True},
            {"name": "host", "mountPath": "/host", "subPathExpr": "$(NAME)"},
            {"name": "data", "mountPath": "/data"},
        ]
    }
    mounts = {mount.target: mount for mount in volumes.mounts(container, {"NAME": "p"})}
    assert list(mounts)[-1] == PurePosixPath("/a/b/c"), "inner paths come after outer ones"
    config = mounts[PurePosixPath("/a")]
    assert config.read_only
    assert (config.source / "sub/file").read_bytes() == b"v"
    assert (config.source / "sub/file").stat().st_mode & 0o777 == 0o400
    assert mounts[PurePosixPath("/host")].source == node / "var/run/calico/p"
    assert mounts[PurePosixPath("/data")].source == node / "var/lib/volumes/pvc-1"


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "cm"}}, 'configmap "cm" not found'),
        ({"nfs": {"server": "x"}}, "no volumes of kind nfs"),
        ({"persistentVolumeClaim": {"claimName": "data"}}, "is not bound to a volume"),
        ({"hostPath": {"path": "/x", "type": "Directory"}}, "is not on the node"),
    ],
)
def test_a_volume_that_cannot_be_is_explained(tmp_path, volume, message):
    volumes = Volumes(tmp_path / "pod", tmp_path / "node", Source())
    with pytest.raises(ConfigurationError, match=message):
        asyncio.run(volumes.prepare(context(volumes=[{"name": "v", **volume}])))


def test_a_probe_may_name_its_port():
    container = {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}
    assert port_number(container, "http") == 8080
    assert port_number(container, 80) == 80
    with pytest.raises(LookupError, match="no port named"):
        port_number(container, "https")


def test_a_container_is_ready_when_it_is_not_when_its_period_has_passed():
    answers = iter([False, False, True])

    async def check():
        return next(answers)

    pace = ProbePace.of({"periodSeconds": 3600})
    assert asyncio.run(asyncio.wait_for(await_success(pace, check), 5))


def test_a_container_that_never_answers_is_given_up():
    async def check():
        raise ConnectionRefusedError

    assert not asyncio.run(await_success(ProbePace(0, 0.01, 1, 1, 3), check))
