"""The clustermesh API server: keeps a cluster's store filled with what other clusters may know of it."""

from __future__ import annotations

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
