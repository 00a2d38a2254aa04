"""The clustermesh API server: keeps a cluster's store filled with what other clusters may know of it."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from ipaddress import IPv4Address

from provision.lab.cilium import keys, names
from provision.lab.cilium.connection import EtcdError, RefusedError, Target, Tls
from provision.lab.cilium.etcd import Backoff, EtcdClient, Permission, prefix_end
from provision.lab.cilium.policy.selectors import NAMESPACE_KEY, split_label
from provision.lab.cilium.watch import CONFIG, NAMESPACE, ClusterWatch
from provision.lab.kube.client import Change, KubeObject

log = logging.getLogger(__name__)

LOOPBACK = IPv4Address("127.0.0.1")
PORT = 2379
HEARTBEAT_S = 60.0
LEASE_S = 15 * 60
SETTLE_S = 0.02
RETRY_FIRST_S = 0.05
RETRY_MOST_S = 0.2

ETCD_COMMAND = (
    "etcd",
    "--data-dir=/var/run/etcd/default.etcd",
    "--name=clustermesh-apiserver",
    "--client-cert-auth",
    "--trusted-ca-file=/var/lib/etcd-secrets/ca.crt",
    "--cert-file=/var/lib/etcd-secrets/tls.crt",
    "--key-file=/var/lib/etcd-secrets/tls.key",
    "--listen-client-urls=https://0.0.0.0:2379",
    "--advertise-client-urls=https://0.0.0.0:2379",
    "--listen-peer-urls=http://127.0.0.1:2380",
    "--initial-advertise-peer-urls=http://127.0.0.1:2380",
    "--initial-cluster=clustermesh-apiserver=http://127.0.0.1:2380",
    "--initial-cluster-token=clustermesh-apiserver",
    "--enable-grpc-gateway=false",
    # Alone as it is, it wins its election as soon as it holds it.
    "--heartbeat-interval=10",
    "--election-timeout=50",
    "--unsafe-no-fsync",
    "--log-level=warn",
)
"""What the container "etcd" runs. Durability is not wanted: a new pod is filled from nothing."""


async def initialise(client: EtcdClient, cluster: str) -> None:
    """Make the store's users, unless that was done before, and let nobody in who is none of them.

    Users have no passwords: who one is, the common name of one's certificate says.

    Raises:
        EtcdError: the store could not be asked, or refused.
    """
    if await client.authentication_enabled():
        return
    everything = [("\0", b"\0")]
    readable = [(prefix, prefix_end(prefix)) for prefix in remote_prefixes(cluster)]
    await _unless_there(client.add_role("root", Permission.READ_WRITE, []))
    await _unless_there(client.add_user("root", ["root"]))
    await _unless_there(client.add_role("admin", Permission.READ_WRITE, everything))
    await _unless_there(client.add_user(names.admin_user(cluster), ["admin"]))
    await _unless_there(client.add_role("remote", Permission.READ, readable))
    await _unless_there(client.add_user(names.REMOTE_USER, ["remote"]))
    await client.enable_authentication()


async def _unless_there(addition: Awaitable[None]) -> None:
    try:
        await addition
    except RefusedError as error:
        if "already exists" not in str(error):  # an attempt that was cut short has left it
            raise


def remote_prefixes(cluster: str) -> tuple[str, ...]:
    """What other clusters may read: the cluster's state, and its word that it is there, alive and complete."""
    return keys.HEARTBEAT, keys.STATE, keys.config_key(cluster), keys.synced_prefix(cluster)


def contents(cluster: str, config: keys.StoredConfig, watch: ClusterWatch) -> dict[str, bytes]:
    """Every key of the cluster's state, with its value, as the cluster's objects have it now."""
    found: dict[str, bytes] = {}
    hidden = keys.hidden_namespaces(watch.namespaces)
    for obj in watch.nodes:
        if node := keys.node_of_object(obj, cluster, config.cluster_id):
            found[keys.node_key(node)] = keys.node_value(node)
    for obj in watch.endpoints:
        endpoint = keys.endpoint_of_object(obj)
        if endpoint and endpoint.namespace not in hidden:
            found[keys.endpoint_key(endpoint.address)] = keys.endpoint_value(endpoint)
    for obj in watch.identities:
        number, labels = int(obj["metadata"]["name"]), keys.labels_of_identity(obj)
        if hidden.isdisjoint(value for _, key, value in map(split_label, labels) if key == NAMESPACE_KEY):
            found[keys.identity_key(number)] = keys.identity_value(labels)
    for obj in watch.services:
        if keys.is_global(obj) and obj["metadata"]["namespace"] not in hidden:
            namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
            backends = keys.backends_of(watch.slices, namespace, name, cluster)
            service = keys.StoredService(cluster, config.cluster_id, namespace, name, backends, keys.is_shared(obj))
            found[keys.service_key(service)] = keys.service_value(service)
    return found


class ClusterStore:
    """Keeps one cluster's store filled, for as long as there is a pod that it runs in.

    Args:
        region: the region's name.
        watch: the cluster's objects.
    """

    def __init__(self, region: str, watch: ClusterWatch) -> None:
        self._region = region
        self._watch = watch
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled."""
        watch = self._watch
        await watch.synced()
        exported = (watch.nodes, watch.namespaces, watch.endpoints, watch.identities, watch.services, watch.slices)
        for reflector in (*exported, watch.secrets):
            reflector.add_handler(lambda _change: self._changed.set())
        watch.pods.add_handler(self._note_pod)
        backoff = Backoff(RETRY_FIRST_S, RETRY_MOST_S)
        while True:
            pod = self._pod()
            if pod is None:
                await self._changed.wait()
                self._changed.clear()
                continue
            try:
                async with await EtcdClient.connect(self._target(pod), self._tls()) as client:
                    backoff.reset()
                    await self._fill(client, pod)
            except EtcdError as error:
                log.debug("%s: the store is not filled: %s", self._region, error)
                await backoff.wait()

    async def _fill(self, client: EtcdClient, pod: KubeObject) -> None:
        """Fill the store and keep it current, until its pod is another or the connection is lost."""
        settings = (self._watch.config_maps.get(CONFIG, NAMESPACE) or {}).get("data") or {}
        cluster = settings.get("cluster-name", "default")
        capacity = int(settings.get("max-connected-clusters", 255))
        config = keys.StoredConfig(int(settings.get("cluster-id", 0)), True, capacity)
        await initialise(client, cluster)
        lease = await client.grant_lease(LEASE_S)
        held = {row.key: row.value for row in (await client.get_prefix("cilium/")).items}
        words = {keys.config_key(cluster): keys.config_value(config), keys.HAS_CONFIG: b"true"}
        now = _now()
        complete = {keys.synced_key(cluster, kind): now for kind in keys.LISTS}
        beat = 0.0
        while client.connected and self._pod_uid() == pod["metadata"]["uid"]:
            if time.monotonic() - beat >= HEARTBEAT_S:
                beat = time.monotonic()
                await client.put(keys.HEARTBEAT, _now(), lease)
                await client.keep_alive(lease)
            self._changed.clear()
            wanted = words | contents(cluster, config, self._watch)
            puts = [(key, value) for key, value in wanted.items() if held.get(key) != value]
            outdated = held.keys() - wanted.keys() - complete.keys() - {keys.HEARTBEAT}
            await client.write(puts, sorted(outdated), lease)
            if held.keys() & complete.keys() != complete.keys():
                await client.write(list(complete.items()), lease=lease)
                log.info("%s: the store is filled with %d keys", self._region, len(wanted))
            held = wanted | complete
            await self._news(HEARTBEAT_S - (time.monotonic() - beat))

    async def _news(self, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
                await asyncio.sleep(SETTLE_S)  # what belongs together comes together
        except TimeoutError:
            pass

    def _note_pod(self, change: Change) -> None:
        if _is_store(change.object):
            self._changed.set()

    def _pod(self) -> KubeObject | None:
        """The pod that the store runs in: the one that has an address and is not about to go."""
        pods = [pod for pod in self._watch.pods if _is_store(pod) and (pod.get("status") or {}).get("podIP")]
        return max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)

    def _pod_uid(self) -> str | None:
        pod = self._pod()
        return str(pod["metadata"]["uid"]) if pod else None

    def _target(self, pod: KubeObject) -> Target:
        """From the container beside it, by the loopback device of the pod."""
        meta = pod["metadata"]
        namespace = f"{self._region}.{meta['namespace']}.{meta['name']}"
        return Target(namespace, str(LOOPBACK), (LOOPBACK,), PORT)

    def _tls(self) -> Tls:
        data = (self._watch.secrets.get(names.ADMIN_SECRET, NAMESPACE) or {}).get("data") or {}
        ca, certificate, key = (base64.b64decode(data.get(name, "")) for name in ("ca.crt", "tls.crt", "tls.key"))
        return Tls(ca, certificate, key)


def _is_store(pod: KubeObject) -> bool:
    meta = pod["metadata"]
    labels = meta.get("labels") or {}
    return (
        meta["namespace"] == NAMESPACE
        and labels.get("k8s-app") == "clustermesh-apiserver"
        and not meta.get("deletionTimestamp")
    )


def _now() -> bytes:
    return datetime.now(UTC).isoformat().encode()
