"""What policy comes to for the pods of one node: rules in order, with addresses in place of selectors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network


class Action(str, Enum):
    """What a rule does with a packet that it matches."""

    ACCEPT = "accept"
    DROP = "drop"
    PASS = "pass"  # noqa: S105 - a verdict
    """Leave it to the chain that comes next (Calico's tiers)."""


@dataclass(frozen=True)
class Match:
    """Which packets a rule is about; everything that is named must hold.

    Attributes:
        peers: addresses at the other end; None for any, empty for none.
        not_peers: addresses at the other end that are left out.
        protocol: "tcp", "udp", "sctp", "icmp", or a protocol's number as text; None for any.
        not_protocol: a protocol that is left out.
        ports: destination ports, first and last; None for any, empty for none.
        not_ports: destination ports that are left out.
        source_ports: likewise, of the source.
        icmp_type: the ICMP type; None for any. `icmp_code` likewise.
    """

    peers: frozenset[IPv4Network] | None = None
    not_peers: frozenset[IPv4Network] = frozenset()
    protocol: str | None = None
    not_protocol: str | None = None
    ports: tuple[tuple[int, int], ...] | None = None
    not_ports: tuple[tuple[int, int], ...] = ()
    source_ports: tuple[tuple[int, int], ...] | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None


@dataclass(frozen=True)
class Rule:
    """A rule with the name of the policy that it is from, for those who look at the node."""

    action: Action
    match: Match
    comment: str = ""


@dataclass(frozen=True)
class Chain:
    """The rules of one direction: the first that matches decides, and `otherwise` when none does.

    Attributes:
        then: the chain that PASS leads to; None where PASS comes to ACCEPT.
    """

    rules: tuple[Rule, ...]
    otherwise: Action = Action.DROP
    then: Chain | None = None


@dataclass(frozen=True)
class PolicedPod:
    """A pod on the node that policy has something to say about.

    Attributes:
        device: the node's end of its veth pair.
        ingress: None where nothing polices that direction; `egress` likewise.
    """

    device: str
    address: IPv4Address
    ingress: Chain | None
    egress: Chain | None
