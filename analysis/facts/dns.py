"""Cluster DNS: its configuration, its servers, and what they answer to whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from analysis.facts.gap import Gap
from analysis.facts.reachability import Endpoint, ProbeOutcome, ProbeProtocol


@dataclass(frozen=True)
class DnsConfiguration:
    """The configuration of a cluster's DNS, imports resolved: the pieces that a server reads, first the Corefile.

    Attributes:
        pieces: where each piece comes from ("coredns/Corefile", "coredns-custom/regions.server"), and its text.
    """

    region: str
    pieces: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DnsServer:
    """A pod that serves a cluster's DNS.

    Attributes:
        errors: lines of its log that say that its configuration was refused or that it forwards in a loop.
    """

    region: str
    pod: str
    node: str
    address: IPv4Address | None
    ready: bool
    restarts: int = 0
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class DnsEntrance:
    """An address and port at which a cluster's DNS can be asked now: of a Service that leads to its servers.

    Attributes:
        service: the Service's name.
        internal: it is a ClusterIP, which means nothing outside the cluster unless service ranges are routed.
    """

    region: str
    service: str
    address: IPv4Address
    port: int
    protocol: ProbeProtocol
    internal: bool


@dataclass(frozen=True)
class DatabaseService:
    """A Service of the database.

    Attributes:
        headless: it has no address of its own, so that its name leads to the pods.
        unready_too: it publishes the addresses of pods that are not Ready (publishNotReadyAddresses).
        ports: name and number.
    """

    region: str
    namespace: str
    name: str
    headless: bool
    unready_too: bool
    address: IPv4Address | None = None
    ports: tuple[tuple[str, int], ...] = ()


class Purpose(str, Enum):
    """Why a name was asked for."""

    DATABASE_POD = "database-pod"
    """The full name of a database pod (A)."""

    DATABASE_MEMBERS = "database-members"
    """The headless Service of a region's database (A)."""

    DATABASE_PORTS = "database-ports"
    """The SRV record of the headless Service."""

    ABSENT = "absent"
    """A name in a remote zone that nobody has."""

    LOCAL = "local"
    """A name of the asker's own cluster."""

    EXTERNAL = "external"
    """A name outside all clusters."""

    PRIVATE = "private"
    """A name of a remote cluster that is not shared: kube-system's."""


@dataclass(frozen=True)
class DnsAnswer:
    """A question that a probe asked, and what came back.

    Attributes:
        source: who asked.
        server: the address that was asked.
        server_region: the region whose DNS that is, "" for one outside.
        direct: it is a server's own endpoint (a forward target), not the asker's cluster DNS.
        name: fully qualified, without the final dot.
        kind: "A" or "SRV".
        protocol: UDP or TCP.
        region: the region that the name belongs to, "" for names outside.
        outcome: OPEN when there was an answer of whatever code.
        code: "NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED" ..., "" without an answer.
        addresses: of A records, aliases followed; of an SRV answer, those in its additional section.
        targets: host and port of SRV records.
        ttl: the smallest of the answer's records (s).
        seconds: until the answer came, or was given up.
        port: that was asked.
    """

    source: Endpoint
    server: IPv4Address
    server_region: str
    direct: bool
    purpose: Purpose
    name: str
    kind: str
    protocol: ProbeProtocol
    region: str
    outcome: ProbeOutcome
    code: str = ""
    addresses: tuple[IPv4Address, ...] = ()
    targets: tuple[tuple[str, int], ...] = ()
    ttl: int | None = None
    seconds: float = 0.0
    truncated: bool = False
    detail: str = ""
    port: int = 53


@dataclass(frozen=True)
class DatabaseMember:
    """A database pod by the names it goes by inside itself.

    Attributes:
        full_name: what `hostname -f` prints in it, "" when that could not be had.
        short_names: short names of the join list as its own resolver (search list, ndots) resolves them: name, address
            (None when it does not resolve).
        search: the search list of its resolver.
        ndots: names with fewer dots than this are tried with the search list first; None when that could not be had.
    """

    region: str
    pod: str
    namespace: str
    address: IPv4Address | None
    ready: bool
    full_name: str = ""
    short_names: tuple[tuple[str, IPv4Address | None], ...] = ()
    search: tuple[str, ...] = ()
    ndots: int | None = None


@dataclass(frozen=True)
class Dns:
    """Cluster DNS of all regions, and the names of the database."""

    configurations: tuple[DnsConfiguration, ...] = ()
    servers: tuple[DnsServer, ...] = ()
    answers: tuple[DnsAnswer, ...] = ()
    members: tuple[DatabaseMember, ...] = ()
    services: tuple[DatabaseService, ...] = ()
    entrances: tuple[DnsEntrance, ...] = ()
    namespaces: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Of the namespaces that somebody forwards zones of, or that are planned: those that exist in each cluster."""

    outside: tuple[tuple[str, IPv4Address, int, ProbeOutcome], ...] = ()
    """What happened to DNS questions from the internet: region, public address, port, outcome."""

    gaps: tuple[Gap, ...] = ()
