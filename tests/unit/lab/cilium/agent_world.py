"""The state of an agent in a mesh of three clusters, one of which is away: for the tests of renderers and parsers."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network

from provision.lab.cilium.state import (
    AddressHealth,
    AgentState,
    Backend,
    ControllerState,
    EndpointEntry,
    HealthReport,
    IdentityEntry,
    IpcacheEntry,
    NodeEntry,
    NodeHealth,
    NodeSource,
    PathHealth,
    RemoteConfig,
    RemoteState,
    RemoteSync,
    ServiceEntry,
    TunnelEntry,
)

VERSIONS = ("1.14.9", "1.15.4", "1.16.5", "1.17.2", "1.18.0", "1.19.1")
NOW = datetime(2026, 11, 22, 9, 45, 0, tzinfo=UTC)
LOST = datetime(2026, 11, 22, 9, 41, 37, tzinfo=UTC)
GOOD_STATUS = (
    "etcd: 1/1 connected, leases=0, lock leases=0, has-quorum=true: endpoint status checks are disabled, ID: 7"
)

EAST, WEST, NORTH = "crdb-cilium-eastus", "crdb-cilium-westus", "crdb-cilium-northeurope"
LABELS = (
    "k8s:app=demo",
    f"k8s:io.cilium.k8s.policy.cluster={EAST}",
    "k8s:io.cilium.k8s.policy.serviceaccount=default",
    "k8s:io.kubernetes.pod.namespace=default",
)


def node(cluster: str, cluster_id: int, number: int, source: NodeSource) -> NodeEntry:
    return NodeEntry(
        cluster=cluster,
        name=f"crdb-{cluster.removeprefix('crdb-cilium-')}-node{number}",
        cluster_id=cluster_id,
        address=IPv4Address(f"10.{cluster_id}.1.{3 + number}"),
        pod_cidr=IPv4Network(f"10.{9 + cluster_id}.{number - 1}.0/24"),
        router=IPv4Address(f"10.{9 + cluster_id}.{number - 1}.1"),
        health=None,
        source=source,
    )


def remote_ready() -> RemoteState:
    return RemoteState(
        name=WEST,
        connected=True,
        ready=True,
        status=GOOD_STATUS,
        config=RemoteConfig(required=True, retrieved=True, cluster_id=2, sync_canaries=True),
        synced=RemoteSync(nodes=True, endpoints=True, identities=True, services=True),
        nodes=3,
        endpoints=14,
        identities=9,
        services=1,
    )


def remote_away() -> RemoteState:
    return RemoteState(
        name=NORTH,
        connected=False,
        ready=False,
        status="Waiting for initial connection to be established",
        failures=4,
        last_failure=LOST,
        last_error="dial tcp 10.3.1.4:32381: connect: connection refused",
    )


def path(status: str = "") -> PathHealth:
    return PathHealth(status, 0 if status else 321_000, NOW)


def health() -> HealthReport:
    def one(entry: NodeEntry, status: str = "") -> NodeHealth:
        return NodeHealth(f"{entry.cluster}/{entry.name}", AddressHealth(entry.address, path(status), path(status)))

    return HealthReport(
        f"{EAST}/crdb-eastus-node1",
        (
            one(node(EAST, 1, 1, NodeSource.LOCAL)),
            one(node(WEST, 2, 1, NodeSource.CLUSTERMESH), "Connection timed out"),
        ),
        NOW,
        60,
    )


def agent_state(version: str = "1.16.5") -> AgentState:
    own = node(EAST, 1, 1, NodeSource.LOCAL)
    return AgentState(
        version=version,
        cluster=EAST,
        cluster_id=1,
        node=own.name,
        address=own.address,
        router=own.router,
        pod_cidr=own.pod_cidr,
        started=NOW,
        settings={
            "cluster-name": EAST,
            "cluster-id": "1",
            "routing-mode": "tunnel",
            "tunnel-protocol": "vxlan",
            "kube-proxy-replacement": "false",
            "enable-ipv4-masquerade": "true",
        },
        kubernetes_version="1.36 (v1.36.0)",
        allocated=((IPv4Address("10.10.0.1"), "router"), (IPv4Address("10.10.0.17"), "default/demo-1-1")),
        nodes=(
            own,
            node(EAST, 1, 2, NodeSource.CUSTOM_RESOURCE),
            node(WEST, 2, 1, NodeSource.CLUSTERMESH),
        ),
        tunnels=(
            TunnelEntry(IPv4Network("10.10.1.0/24"), IPv4Address("10.1.1.5")),
            TunnelEntry(IPv4Network("10.11.0.0/24"), IPv4Address("10.2.1.4")),
        ),
        ipcache=(
            IpcacheEntry(IPv4Network("10.1.1.4/32"), 1),
            IpcacheEntry(IPv4Network("10.10.0.17/32"), 110119),
            IpcacheEntry(IPv4Network("10.11.0.17/32"), 131912, IPv4Address("10.2.1.4"), remote_cluster=True),
        ),
        identities=(IdentityEntry(1, ("reserved:host",)), IdentityEntry(110119, LABELS)),
        endpoints=(
            EndpointEntry(
                id=233,
                namespace="default",
                pod="demo-1-1",
                address=IPv4Address("10.10.0.17"),
                identity=110119,
                labels=LABELS,
                device="lxc0123456789ab",
                container="0" * 64,
            ),
        ),
        services=(
            ServiceEntry(
                id=1,
                namespace="default",
                name="echo",
                kind="ClusterIP",
                address=IPv4Address("10.43.0.7"),
                port=80,
                protocol="TCP",
                backends=(
                    Backend(IPv4Address("10.10.0.17"), 8080, EAST),
                    Backend(IPv4Address("10.11.0.17"), 8080, WEST),
                ),
                shared=True,
            ),
        ),
        remotes=(remote_away(), remote_ready()),
        health=health(),
        controllers=(
            ControllerState("sync-datapath"),
            ControllerState(f"remote-etcd-{NORTH}", 4, "dial tcp 10.3.1.4:32381: connect: connection refused"),
        ),
    )
