"""Pools and blocks of pod addresses."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from analysis.facts.gap import Gap


@dataclass(frozen=True)
class Pool:
    """A range of pod (or remote) addresses known to a cluster's CNI, defaults filled in.

    `encapsulation` is "ipip", "vxlan" or "none"; `encapsulation_mode` "always", "cross-subnet" or "never".
    """

    region: str
    name: str
    cidr: IPv4Network
    disabled: bool
    nat_outgoing: bool
    encapsulation: str
    encapsulation_mode: str
    block_size: int


@dataclass(frozen=True)
class Block:
    """A block of addresses and the node that owns it; `addresses` are the ones given out."""

    region: str
    cidr: IPv4Network
    node: str | None
    confirmed: bool = True
    addresses: tuple[IPv4Address, ...] = ()


@dataclass(frozen=True)
class Addressing:
    """Pools and blocks of every cluster."""

    pools: tuple[Pool, ...]
    blocks: tuple[Block, ...]
    gaps: tuple[Gap, ...] = ()
