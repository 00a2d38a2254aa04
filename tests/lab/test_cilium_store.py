"""A mesh's store is a real etcd: who may do what there, and how agents of other clusters follow it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath

import pytest

from provision.lab.cilium import keys, pki
from provision.lab.cilium.connection import BadCertificateError, PermissionDeniedError, Target, Tls, UnreachableError
from provision.lab.cilium.dbg.commandline import parse
from provision.lab.cilium.dbg.kvstore import kvstore
from provision.lab.cilium.dbg.troubleshoot import troubleshoot
from provision.lab.cilium.etcd import EtcdClient
from provision.lab.cilium.names import mesh_name
from provision.lab.cilium.remote import Access, ClusterIds, RemoteCluster
from provision.lab.cilium.settings import EtcdSettings
from provision.lab.cilium.state import NodeSource
from provision.lab.cilium.store import ETCD_COMMAND, initialise
from provision.lab.host import LabUnavailableError, etcd_program
from tests.unit.lab.cilium.agent_world import EAST, WEST, node

LOOPBACK = IPv4Address("127.0.0.1")
WITHIN_S = 20


class Store:
    """The store of the cluster in the west, as its pod runs it, on the loopback device."""

    def __init__(self, folder: Path, mesh: pki.MeshPki) -> None:
        self.folder = folder
        self.mesh = mesh
        self.port, self._peer_port = _free_ports()
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        shutil.rmtree(self.folder / "default.etcd", ignore_errors=True)
        server = self.mesh.clusters[WEST].server
        replaced = {
            "/var/run/etcd": str(self.folder),
            "/var/lib/etcd-secrets/ca.crt": str(self.mesh.authority.certificate),
            "/var/lib/etcd-secrets/tls.crt": str(server.certificate),
            "/var/lib/etcd-secrets/tls.key": str(server.key),
            "0.0.0.0:2379": f"127.0.0.1:{self.port}",
            ":2380": f":{self._peer_port}",
        }
        argv = [str(etcd_program()), *ETCD_COMMAND[1:]]
        for old, new in replaced.items():
            argv = [argument.replace(old, new) for argument in argv]
        self._process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def tls(self, pair: pki.KeyPair | None, mesh: pki.MeshPki | None = None) -> Tls:
        ca = (mesh or self.mesh).authority.certificate.read_bytes()
        return Tls(ca, pair.certificate.read_bytes(), pair.key.read_bytes()) if pair else Tls(ca)

    def target(self, host: str = mesh_name(WEST)) -> Target:
        return Target(None, host, (LOOPBACK,), self.port)

    async def connect(self, pair: pki.KeyPair | None) -> EtcdClient:
        return await EtcdClient.connect(self.target(), self.tls(pair))

    async def fill(self) -> EtcdClient:
        """Wait until it answers, and make its users."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                with contextlib.suppress(UnreachableError):
                    client = await self.connect(self.mesh.clusters[WEST].admin)
                    break
                await asyncio.sleep(0.02)
            await initialise(client, WEST)
        return client


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    return pki.create_mesh_pki(tmp_path_factory.mktemp("pki"), [EAST, WEST])


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    return pki.create_mesh_pki(tmp_path_factory.mktemp("foreign"), [EAST])


@pytest.fixture
def store(tmp_path, mesh):
    try:
        etcd_program()
    except LabUnavailableError as error:
        pytest.skip(str(error))
    made = Store(tmp_path, mesh)
    made.start()
    yield made
    made.stop()


def remote(store: Store) -> pki.KeyPair:
    return store.mesh.clusters[EAST].remote


def test_remote_clusters_may_read_state_and_nothing_else(store):
    async def scenario():
        async with await store.fill() as admin:
            await admin.put("cilium/state/x", b"1")
            await admin.put("cilium/other", b"1")
        async with await store.connect(remote(store)) as client:
            assert [row.key for row in (await client.get_prefix(keys.STATE)).items] == ["cilium/state/x"]
            for refused in (client.get("cilium/other"), client.put("cilium/state/x", b"2"), client.delete("cilium/x")):
                with pytest.raises(PermissionDeniedError, match="permission denied"):
                    await refused
        async with await store.connect(store.mesh.clusters[EAST].admin) as stranger:
            with pytest.raises(PermissionDeniedError):
                await stranger.get_prefix(keys.STATE)

    asyncio.run(scenario())


def test_nobody_comes_in_without_a_certificate_of_the_common_authority(store, foreign):
    async def scenario():
        (await store.fill()).close()
        stranger = foreign.clusters[EAST].remote
        for tls in (
            store.tls(None),
            Tls(store.tls(None).ca, stranger.certificate.read_bytes(), stranger.key.read_bytes()),
        ):
            with pytest.raises(BadCertificateError):
                async with await EtcdClient.connect(store.target(), tls) as client:
                    await client.get("cilium/state/x")

    asyncio.run(scenario())


def test_a_store_must_show_a_certificate_for_its_name_that_is_trusted(store, foreign):
    async def scenario():
        (await store.fill()).close()
        with pytest.raises(BadCertificateError, match="certificate verify failed"):
            await EtcdClient.connect(store.target(), store.tls(remote(store), mesh=foreign))
        with pytest.raises(BadCertificateError, match=r"not valid for 'west\.example'"):
            await EtcdClient.connect(store.target("west.example"), store.tls(remote(store)))

    asyncio.run(scenario())


async def until(condition) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def following(store: Store, own_id: int = 1):
    """The agent of a node in the east, as far as its connection to the west goes."""
    access = Access(store.target(), store.tls(remote(store)))
    cluster = RemoteCluster("node", WEST, lambda: access, ClusterIds(EAST, own_id).accept, lambda: None)
    task = asyncio.create_task(cluster.run())
    try:
        yield cluster
    finally:
        task.cancel()
        await asyncio.wait([task])


COMPLETE = [(keys.synced_key(WEST, kind), b"now") for kind in keys.LISTS]
CONFIG = (keys.config_key(WEST), keys.config_value(keys.StoredConfig(2, True)))


def written(number: int) -> tuple[str, bytes]:
    entry = node(WEST, 2, number, NodeSource.CLUSTERMESH)
    return keys.node_key(entry), keys.node_value(entry)


def test_a_remote_cluster_is_ready_when_it_has_said_who_it_is_and_synced_when_all_is_there(store):
    async def scenario():
        async with await store.fill() as admin, following(store) as west:
            await until(lambda: west.state.connected)
            assert not west.state.ready
            await admin.write([CONFIG, written(1)])
            await until(lambda: west.state.ready)
            assert not west.state.synced.complete
            assert west.state.nodes == 0
            await admin.write(COMPLETE)
            await until(lambda: west.state.synced.complete)
            assert west.state.nodes == 1
            await admin.write([written(2)], deletes=[written(1)[0]])
            await until(lambda: [entry.name for entry in west.knowledge.nodes.values()] == ["crdb-westus-node2"])

    asyncio.run(scenario())


def test_what_is_known_outlives_the_store_and_a_new_store_counts_once_it_is_complete(store):
    async def scenario():
        async with await store.fill() as admin, following(store) as west:
            await admin.write([CONFIG, written(1), written(2), *COMPLETE])
            await until(lambda: west.state.nodes == 2)
            store.stop()
            await until(lambda: not west.state.connected)
            assert (west.state.ready, west.state.nodes) == (False, 2)
            assert west.state.failures >= 1
            store.start()
            async with await store.fill() as again:
                await again.write([CONFIG])
                await until(lambda: west.state.ready)
                assert west.state.nodes == 2
                await again.write([written(2), *COMPLETE])
                await until(lambda: west.state.nodes == 1)

    asyncio.run(scenario())


def test_a_broken_connection_leaves_no_cancellation_behind(store):
    async def follow():
        client = await store.fill()
        store.stop()
        with pytest.raises(UnreachableError):
            async for _ in client.watch(["cilium/"], 1):
                pass
        # Else the next time-out of this task would end it, as if somebody had cancelled it.
        return asyncio.current_task().cancelling()

    assert asyncio.run(follow()) == 0


def test_a_cluster_with_the_own_id_never_becomes_ready(store):
    async def scenario():
        async with await store.fill() as admin, following(store, own_id=2) as west:
            await admin.write([CONFIG, written(1), *COMPLETE])
            await until(lambda: west.state.failures >= 2)
            assert not west.state.ready
            assert west.state.nodes == 0
            assert "cluster id 2" in west.state.last_error

    asyncio.run(scenario())


class LoopbackAgent:
    """What `cilium-dbg` needs of an agent to reach the store on the loopback device."""

    namespace = None
    version = "1.16.5"

    def __init__(self, folder: Path) -> None:
        self.settings_folder = folder

    def resolve(self, host: str) -> tuple[IPv4Address, ...]:
        return (LOOPBACK,) if host == mesh_name(WEST) else ()


@pytest.fixture
def pod(store, tmp_path):
    """The root of an agent's pod, with the settings of the west."""
    folder = tmp_path / "root/var/lib/cilium/clustermesh"
    folder.mkdir(parents=True)
    shutil.copy(store.mesh.authority.certificate, folder / "ca.crt")
    shutil.copy(remote(store).certificate, folder / "client.crt")
    shutil.copy(remote(store).key, folder / "client.key")
    inside = PurePosixPath("/var/lib/cilium/clustermesh")
    endpoint = f"https://{mesh_name(WEST)}:{store.port}"
    told = EtcdSettings((endpoint,), inside / "ca.crt", inside / "client.crt", inside / "client.key")
    (folder / WEST).write_text(told.to_yaml())
    return tmp_path / "root"


def dbg(line: str, pod: Path):
    options = f"--kvstore etcd --kvstore-opt etcd.config=/var/lib/cilium/clustermesh/{WEST}"
    agent = LoopbackAgent(pod / "var/lib/cilium/clustermesh")
    return asyncio.run(kvstore(parse(f"{line} {options}".split()), pod, agent))


def test_cilium_dbg_reads_the_store_and_says_what_it_is_refused(store, pod):
    async def fill():
        async with await store.fill() as admin:
            await admin.write([written(1)])

    asyncio.run(fill())
    key, value = written(1)
    assert dbg(f"kvstore get {key}", pod).out == f"{key} => {value.decode()}\n"
    assert list(json.loads(dbg("kvstore get --recursive cilium/state/ -o json", pod).out)) == [key]
    missing = dbg("kvstore get cilium/state/none", pod)
    assert (missing.code, missing.err) == (1, "Error: key cilium/state/none is not found\n")
    for line in ("kvstore set cilium/state/x --value=1", "kvstore delete cilium/state/x", "kvstore get cilium/x"):
        refused = dbg(line, pod)
        assert refused.code == 1
        assert "permission denied" in refused.err


def test_troubleshooting_says_how_far_it_came(store, pod):
    agent = LoopbackAgent(pod / "var/lib/cilium/clustermesh")

    async def report():
        (await store.fill()).close()
        return (await troubleshoot([], EAST, pod, agent)).out

    good = asyncio.run(report())
    assert "✅ TLS connection successfully established" in good
    assert "✅ Etcd connection successfully established" in good
    assert "❌" not in good
    store.stop()
    gone = asyncio.run(troubleshoot([], EAST, pod, agent))
    assert "❌ Cannot establish TCP connection" in gone.out
    assert gone.code == 0
