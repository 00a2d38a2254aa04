"""Addresses as sets of intervals: exact subtraction of networks, and back to networks for people to read."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network, summarize_address_range

from analysis.policy.intervals import IntervalSet

ALL_ADDRESSES = IntervalSet(((0, 2**32 - 1),))


def addresses(networks: Iterable[str | IPv4Network]) -> IntervalSet:
    """The IPv4 addresses of networks in CIDR notation; those of IPv6 are left out, host bits are overlooked.

    Raises:
        ValueError: a text is no network.
    """
    read = (network if isinstance(network, IPv4Network) else any_network(network) for network in networks)
    return IntervalSet.of(
        (int(each.network_address), int(each.broadcast_address)) for each in read if isinstance(each, IPv4Network)
    )


def any_network(text: str) -> IPv4Network | IPv6Network:
    """A network of either family; an address alone is a network of one.

    Raises:
        ValueError: the text is no network.
    """
    return ip_network(text, strict=False)


def networks_of(addresses: IntervalSet) -> tuple[IPv4Network, ...]:
    """The fewest networks that hold exactly these addresses."""
    return tuple(
        network
        for first, last in addresses.intervals
        for network in summarize_address_range(IPv4Address(first), IPv4Address(last))
    )
