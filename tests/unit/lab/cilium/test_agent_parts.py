"""The parts of an agent: endpoints and identities of pods, settings on nodes, what goes into a store, the socket."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace

import pytest

from provision.lab.cilium import api, keys, picture
from provision.lab.cilium.dbg import program
from provision.lab.cilium.endpoints import ClusterIdentity, IdentityAllocator, LocalEndpoints
from provision.lab.cilium.mounts import FolderWatch, SettingsMounts
from provision.lab.cilium.names import CLUSTERMESH_SECRET, REMOTE_SECRET
from provision.lab.cilium.store import contents
from provision.lab.cilium.watch import CILIUM_ENDPOINTS, CILIUM_IDENTITIES, NAMESPACE
from provision.lab.kube.client import AlreadyExists
from tests.unit.lab.cilium.agent_world import EAST

EAST_CLUSTER = ClusterIdentity(EAST, 1)
NODE, ADDRESS = "crdb-eastus-node1", IPv4Address("10.1.1.4")
WITHIN_S = 10


class Kind:
    """A reflector of one kind, filled by hand."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict] = {}
        self.handlers: list = []
        self.synced = asyncio.Event()
        self.synced.set()

    def put(self, obj: dict) -> None:
        meta = obj["metadata"]
        self.objects[meta.get("namespace", ""), meta["name"]] = obj
        for handler in self.handlers:
            handler(None)

    def get(self, name: str, namespace: str | None = None) -> dict | None:
        return self.objects.get((namespace or "", name))

    def add_handler(self, handler) -> None:
        self.handlers.append(handler)

    def __iter__(self):
        return iter(tuple(self.objects.values()))


class Cluster:
    """A cluster's objects, and the API that they are written by."""

    def __init__(self) -> None:
        for name in ("nodes", "endpoints", "identities", "pods", "namespaces", "services", "slices", "secrets"):
            setattr(self, name, Kind())
        self.client = self
        self.writes: list[tuple[str, str]] = []
        self._kinds = {CILIUM_ENDPOINTS: self.endpoints, CILIUM_IDENTITIES: self.identities}

    async def create(self, resource, obj):
        self.writes.append(("create", obj["metadata"]["name"]))
        if self._kinds[resource].get(obj["metadata"]["name"], obj["metadata"].get("namespace")):
            raise AlreadyExists(409, "AlreadyExists", "", "")
        self._kinds[resource].put({**obj, "metadata": {"uid": "u", **obj["metadata"]}})

    async def patch(self, resource, name, patch, namespace=None):
        self.writes.append(("patch", name))
        held = self._kinds[resource].get(name, namespace)
        self._kinds[resource].put({**held, **patch, "metadata": {**held["metadata"], **patch["metadata"]}})

    async def delete(self, resource, name, namespace=None, uid=None):
        self.writes.append(("delete", name))
        del self._kinds[resource].objects[namespace or "", name]


def pod(name: str, address: str = "10.10.0.17", node: str = NODE, **spec) -> dict:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}-{address}", "labels": {"app": "demo"}},
        "spec": {"nodeName": node, **spec},
        "status": {"podIP": address, "phase": "Running"},
    }


def endpoints(cluster: Cluster) -> LocalEndpoints:
    return LocalEndpoints(NODE, ADDRESS, EAST_CLUSTER, cluster, IdentityAllocator(cluster))


def test_every_local_pod_with_a_network_of_its_own_has_an_endpoint():
    cluster = Cluster()
    for each in (
        pod("demo"),
        pod("other-node", "10.10.1.17", node="crdb-eastus-node2"),
        pod("on-the-node", "10.1.1.4", hostNetwork=True),
    ):
        cluster.pods.put(each)
    local = endpoints(cluster)
    asyncio.run(local.sync())
    (entry,) = local.entries
    (stored,) = map(keys.endpoint_of_object, cluster.endpoints)
    assert stored == keys.StoredEndpoint(IPv4Address("10.10.0.17"), ADDRESS, entry.identity, "default", "demo")
    assert entry.identity >> 16 == 1
    assert entry.device.startswith("lxc")


def test_pods_with_the_same_labels_share_one_identity_and_nothing_is_written_twice():
    cluster = Cluster()
    cluster.pods.put(pod("a", "10.10.0.17"))
    cluster.pods.put(pod("b", "10.10.0.18"))
    local = endpoints(cluster)
    asyncio.run(local.sync())
    assert len(list(cluster.identities)) == 1
    written = len(cluster.writes)
    asyncio.run(local.sync())
    assert len(cluster.writes) == written


def test_an_endpoint_goes_with_its_pod_and_follows_a_new_pod_of_the_same_name():
    cluster = Cluster()
    cluster.pods.put(pod("db-0"))
    local = endpoints(cluster)
    asyncio.run(local.sync())
    cluster.pods.put(pod("db-0", "10.10.0.99"))
    asyncio.run(local.sync())
    assert [keys.endpoint_of_object(obj).address for obj in cluster.endpoints] == [IPv4Address("10.10.0.99")]
    cluster.pods.objects.clear()
    asyncio.run(local.sync())
    assert (list(cluster.endpoints), local.entries) == ([], ())


def test_an_endpoint_that_somebody_removed_is_made_again():
    cluster = Cluster()
    cluster.pods.put(pod("demo"))
    local = endpoints(cluster)
    asyncio.run(local.sync())
    asyncio.run(local.sync())
    cluster.endpoints.objects.clear()
    asyncio.run(local.sync())
    assert len(list(cluster.endpoints)) == 1


def test_an_agent_that_restarts_finds_what_it_made_before():
    cluster = Cluster()
    cluster.pods.put(pod("demo"))
    before, after = endpoints(cluster), endpoints(cluster)
    asyncio.run(before.sync())
    written = len(cluster.writes)
    asyncio.run(after.sync())
    assert after.entries == before.entries
    assert len(cluster.writes) == written


def cilium_node(name: str) -> dict:
    addresses = [{"type": "InternalIP", "ip": "10.1.1.4"}, {"type": "CiliumInternalIP", "ip": "10.10.0.1"}]
    return {"metadata": {"name": name}, "spec": {"addresses": addresses, "ipam": {"podCIDRs": ["10.10.0.0/24"]}}}


def service(name: str, **annotations: str) -> dict:
    return {
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"clusterIP": "10.43.0.7", "ports": [{"port": 80}]},
    }


def test_a_store_holds_the_own_cluster_and_the_services_that_are_global():
    cluster = Cluster()
    cluster.nodes.put(cilium_node(NODE))
    cluster.pods.put(pod("demo"))
    asyncio.run(endpoints(cluster).sync())
    cluster.services.put(service("own"))
    cluster.services.put(service("shared", **{"service.cilium.io/global": "true"}))
    number = next(iter(cluster.identities))["metadata"]["name"]
    assert sorted(contents(EAST, keys.StoredConfig(1, True), cluster)) == [
        f"cilium/state/identities/v1/id/{number}",
        "cilium/state/ip/v1/default/10.10.0.17",
        f"cilium/state/nodes/v1/{EAST}/{NODE}",
        f"cilium/state/services/v1/{EAST}/default/shared",
    ]


def test_a_global_service_has_the_backends_that_other_clusters_share():
    cluster = Cluster()
    cluster.services.put(service("shared", **{"service.cilium.io/global": "true"}))
    backend = keys.Backend(IPv4Address("10.11.0.17"), 8080, "west")
    told = {
        name: keys.StoredService("west", 2, "default", name, (backend,), shared=shared)
        for name, shared in (("shared", True), ("kept", False))
    }
    west = SimpleNamespace(knowledge=SimpleNamespace(services=told))
    (entry,) = picture.services(cluster, EAST, [west])
    assert entry.backends == (backend,)


def secret(name: str, **data: bytes) -> dict:
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    return {"metadata": {"name": name, "namespace": NAMESPACE}, "data": encoded}


async def until(condition) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.01)


def test_settings_follow_their_secrets_and_a_change_on_one_node_stays_until_then(tmp_path):
    async def scenario():
        cluster, folders = Cluster(), [tmp_path / "a", tmp_path / "b"]
        cluster.secrets.put(secret(CLUSTERMESH_SECRET, west=b"endpoints:\n- https://west:1\n"))
        cluster.secrets.put(secret(REMOTE_SECRET, ca_crt=b"ca", tls_crt=b"crt", tls_key=b"key"))
        task = asyncio.create_task(SettingsMounts(cluster, folders).run())
        await until(lambda: all((folder / "west").exists() for folder in folders))
        files = {path.name: path.read_bytes() for path in folders[0].iterdir()}
        assert files["common-etcd-client.key"] == b"key"
        assert {stat.S_IMODE(path.stat().st_mode) for path in folders[0].iterdir()} == {0o600}
        assert stat.S_IMODE(folders[0].stat().st_mode) == 0o700
        (folders[0] / "west").unlink()
        cluster.secrets.put(secret("another"))
        cluster.secrets.put(secret(REMOTE_SECRET, ca_crt=b"ca", tls_crt=b"crt", tls_key=b"new"))
        await until(lambda: (folders[1] / "common-etcd-client.key").read_bytes() == b"new")
        assert not (folders[0] / "west").exists()
        cluster.secrets.put(secret(CLUSTERMESH_SECRET))
        await until(lambda: not (folders[1] / "west").exists())
        task.cancel()

    asyncio.run(scenario())


@pytest.mark.parametrize("change", ["write", "replace", "remove"])
def test_a_change_in_a_folder_is_told(tmp_path, change):
    (tmp_path / "old").write_text("old")

    async def scenario():
        changed = asyncio.Event()
        with FolderWatch() as watch:
            watch.add(tmp_path, changed.set)
            if change == "write":
                (tmp_path / "old").write_text("new")
            elif change == "replace":
                (tmp_path / "old").rename(tmp_path / "new")
            else:
                (tmp_path / "old").unlink()
            async with asyncio.timeout(WITHIN_S):
                await changed.wait()

    asyncio.run(scenario())


def test_the_program_prints_what_the_agent_answers_and_exits_as_it_says(tmp_path):
    copy = tmp_path / "cilium-dbg"
    copy.write_text(Path(program.__file__).read_text().replace(program.SOCKET, str(tmp_path / "cilium.sock")))
    asked = []

    async def answer(question: api.Question) -> api.Reply:
        asked.append(question.argv)
        return api.Reply("out\n", "err\n", 3)

    async def scenario():
        server = asyncio.create_task(api.serve(tmp_path / "cilium.sock", answer))
        await until((tmp_path / "cilium.sock").exists)
        run = await asyncio.to_thread(
            subprocess.run, [sys.executable, copy, "status", "-o", "json"], capture_output=True, text=True
        )
        server.cancel()
        await asyncio.wait([server])
        return run

    run = asyncio.run(scenario())
    assert (run.returncode, run.stdout, run.stderr) == (3, "out\n", "err\n")
    assert asked == [("cilium-dbg", "status", "-o", "json")]
    gone = subprocess.run([sys.executable, copy, "status"], capture_output=True, text=True)
    assert gone.returncode == 1
    assert "Is the agent running?" in gone.stderr


def test_a_question_that_cannot_be_answered_costs_no_other(tmp_path):
    async def answer(question: api.Question) -> api.Reply:
        raise RuntimeError(question.argv)

    async def scenario():
        server = asyncio.create_task(api.serve(tmp_path / "cilium.sock", answer))
        await until((tmp_path / "cilium.sock").exists)
        for _ in range(2):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "cilium.sock")
            writer.write(b'{"argv": ["cilium-dbg"]}\n')
            assert json.loads(await reader.readline())["code"] == 1
            writer.close()
        server.cancel()

    asyncio.run(scenario())
