"""What the clusters' control planes know of each other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network

from analysis.facts.gap import Gap
from analysis.facts.reachability import ProbeOutcome


@dataclass(frozen=True)
class RemoteCluster:
    """A connection from one cluster (or one of its nodes' agents) to the store of another cluster.

    The store is the clustermesh etcd (Cilium) or the remote API server (Calico federation).

    Attributes:
        region: who looks.
        node: whose agent looks; None where the cluster as a whole has one connection.
        remote: the name that the other cluster is configured under.
        connected: there is a connection now.
        ready: connected, and the remote cluster's own settings are known where they must be.
        synced: everything that the store holds has arrived once; None when not told.
        nodes: nodes of the remote cluster that are known through it, None when not told.
        endpoints: endpoints likewise.
        identities: identities likewise.
        cluster_id: what the remote cluster says its id is.
        failures: how often the connection was lost.
        message: the agent's own words, for evidence.
    """

    region: str
    node: str | None
    remote: str
    connected: bool
    ready: bool
    synced: bool | None = None
    nodes: int | None = None
    endpoints: int | None = None
    identities: int | None = None
    cluster_id: int | None = None
    failures: int | None = None
    message: str = ""


@dataclass(frozen=True)
class RemoteSetting:
    """How a cluster is told to reach the store of another: where, under which name, with which files.

    Attributes:
        remote: the name that the other cluster is configured under.
        host: host name of the endpoint ("crdb-cilium-westus.mesh.cilium.io"), or an address.
        port: TCP port.
        addresses: what the host name stands for on the nodes (hostAliases); the host itself when it is an address.
        credentials: names of the credentials that are there and are not empty ("ca", "certificate", "key", "token").
        trusted: SHA-256 fingerprints (hex) of the authorities that the store's certificate is checked against.
    """

    region: str
    remote: str
    host: str
    port: int
    addresses: tuple[IPv4Address, ...] = ()
    credentials: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoreCertificate:
    """The certificate that a cluster's store shows to those who connect from another cluster.

    Attributes:
        region: whose store.
        seen_from: the region that it was seen from.
        host: the name that it was asked under.
        names: DNS names and addresses that it is valid for.
        verified: it was verified by the authorities that `seen_from` trusts and for `host`; None when not tried.
        problem: why the verification failed, in the library's words.
        issuer: subject of its issuer (RFC 4514).
        not_after: its end, RFC 3339.
    """

    region: str
    seen_from: str
    host: str
    names: tuple[str, ...]
    verified: bool | None
    problem: str = ""
    issuer: str = ""
    not_after: str = ""


class Credential(str, Enum):
    """As whom an access to a store was tried."""

    REMOTE = "remote"
    """As the other cluster, with what it was given for this."""

    NONE = "none"
    """Without any credential, over TLS."""

    FOREIGN = "foreign"
    """With a client certificate (or token) that an unknown authority has issued."""

    PLAIN = "plain"
    """Without TLS."""


class Access(str, Enum):
    """What was tried at a store."""

    READ = "read"
    WRITE = "write"
    CONNECT = "connect"


@dataclass(frozen=True)
class AccessTrial:
    """One attempt to use a cluster's store, and whether it was let in.

    A write is tried so that nothing changes where it is let through (a key of one's own, removed again; a dry run, an
    access review).

    Attributes:
        region: whose store.
        tried_from: the region it was tried from.
        allowed: True when it was let through, False when the store refused it, None when the store could not be asked.
        detail: what the store said.
    """

    region: str
    tried_from: str
    credential: Credential
    access: Access
    allowed: bool | None
    detail: str = ""


@dataclass(frozen=True)
class StoreKnock:
    """A TCP connection from a node to the store of another cluster, at an address it is configured with."""

    region: str
    node: str
    remote: str
    address: IPv4Address
    port: int
    outcome: ProbeOutcome
    detail: str = ""


@dataclass(frozen=True)
class StoreContent:
    """How many entries of a cluster's store belong to which cluster. `cached` ones are declared copies of others'."""

    region: str
    owner: str
    kind: str
    entries: int
    cached: bool = False


@dataclass(frozen=True)
class KnownNode:
    """A node that a node's agent knows of, in its own cluster or another.

    Attributes:
        region: whose agent.
        node: the node that the agent runs on.
        cluster: name of the cluster that the known node is said to be in.
        name: the known node.
        address: where its agent sends packets for it.
        pod_cidrs: the blocks it is said to own.
    """

    region: str
    node: str
    cluster: str
    name: str
    address: IPv4Address | None
    pod_cidrs: tuple[IPv4Network, ...] = ()


@dataclass(frozen=True)
class KnownIdentity:
    """How many identities of a cluster a node's agent knows; `foreign_numbers` of them lie outside its id's range."""

    region: str
    node: str
    cluster: str
    identities: int
    foreign_numbers: int = 0


@dataclass(frozen=True)
class NodeHealth:
    """Whether a node's agent reaches another node, by its own health probe."""

    region: str
    node: str
    cluster: str
    name: str
    reachable: bool
    detail: str = ""


@dataclass(frozen=True)
class GlobalService:
    """A Service that several clusters answer for, and its backends as one cluster's agents see them, by cluster."""

    region: str
    namespace: str
    name: str
    backends: tuple[tuple[str, int], ...]
    shared: bool = True


@dataclass(frozen=True)
class Federation:
    """What the clusters' control planes know of each other, and how they may get at it."""

    remotes: tuple[RemoteCluster, ...] = ()
    settings: tuple[RemoteSetting, ...] = ()
    certificates: tuple[StoreCertificate, ...] = ()
    trials: tuple[AccessTrial, ...] = ()
    knocks: tuple[StoreKnock, ...] = ()
    contents: tuple[StoreContent, ...] = ()
    nodes: tuple[KnownNode, ...] = ()
    identities: tuple[KnownIdentity, ...] = ()
    health: tuple[NodeHealth, ...] = ()
    services: tuple[GlobalService, ...] = ()
    gaps: tuple[Gap, ...] = ()
