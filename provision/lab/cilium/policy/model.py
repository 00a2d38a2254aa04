"""What all kinds of policies that an agent enforces come to, before anybody has an address."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network

from provision.lab.cilium.policy.selectors import Selector


class PolicyError(ValueError):
    """The agent does not take the policy; the text says why."""


class Direction(str, Enum):
    """As the policed pod sees it."""

    INGRESS = "ingress"
    EGRESS = "egress"


@dataclass(frozen=True)
class Entity:
    """Peers by what they are to Cilium ("host", "world", "cluster")."""

    name: str


@dataclass(frozen=True)
class Networks:
    """Peers by address. No pod is among them, whatever its address, for a pod is known by its identity."""

    network: IPv4Network
    without: tuple[IPv4Network, ...] = ()


Peer = Selector | Entity | Networks


@dataclass(frozen=True)
class Port:
    """Ports of a protocol.

    Attributes:
        protocol: "tcp", "udp" or "sctp".
        first: 0 for all ports; `last` likewise.
        name: of a container's port, "" where numbers are given.
    """

    protocol: str
    first: int = 0
    last: int = 0
    name: str = ""


@dataclass(frozen=True)
class PolicyRule:
    """One entry of a section of a policy.

    Attributes:
        peers: any of them; None for whoever it is.
        ports: any of them; None for all protocols.
        icmp_types: types of ICMP instead of ports; None where none are spoken of.
        name: what it is called by: "ccnp/NAME/ingressDeny/0".
    """

    direction: Direction
    deny: bool
    peers: tuple[Peer, ...] | None
    ports: tuple[Port, ...] | None
    icmp_types: tuple[int, ...] | None
    name: str


@dataclass(frozen=True)
class PolicySpec:
    """A policy, or one of the rule sets of a policy that has several.

    Attributes:
        name: kind, namespace and name: "cnp/eastus/NAME".
        subject: the endpoints of the own cluster that it is about.
        isolates: directions in which these endpoints then have nothing that is not allowed.
        notes: what it asks for and the lab's agents do not do, for their log.
    """

    name: str
    subject: Selector
    rules: tuple[PolicyRule, ...]
    isolates: frozenset[Direction]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """What policies mean to an agent of that version with those settings.

    Attributes:
        cluster: the agent's cluster.
        version: of the agent: (1, 16).
        local_cluster: peers that name no cluster are of the own one (`policy-default-local-cluster`).
    """

    cluster: str
    version: tuple[int, int]
    local_cluster: bool

    @classmethod
    def of_settings(cls, cluster: str, version: tuple[int, int], settings: dict[str, str]) -> Dialect:
        """The dialect of an agent with that cilium-config: the setting is there since 1.18, and off without a word."""
        local = version >= (1, 18) and settings.get("policy-default-local-cluster") == "true"
        return cls(cluster, version, local)
