"""What the lab's cloud says of itself: the VPC routers' routes, links and rules, told in a cloud's words.

Everything is read from the kernel when it is asked for, with one command for each router; what somebody has changed by
hand since the lab came up is a fact like any other. `provision.lab.fabric` and `provision.lab.cloud` made it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, summarize_address_range
from itertools import product
from typing import Any

from analysis.facts import (
    CloudRoute,
    Gap,
    Instance,
    InternetGateway,
    Network,
    Networks,
    PeeringEnd,
    RouteTable,
    RouteTarget,
    SecurityGroup,
    SecurityRule,
)
from provision.lab.cloud import (
    ANYBODY,
    CHECKED,
    FIRST_BUILTIN_PRIORITY,
    FORWARDED,
    ICMP,
    PUBLIC,
    SUBNET_BRIDGE,
    TABLE,
    TCP,
    TRAFFIC,
    UDP,
)
from provision.lab.topology import AZURE, INTERNET

_COMMANDS = (
    "ip -j -4 route show",
    "ip -j link show",
    "ip -j -4 address show",
    "nft -j -n -t list ruleset",
    f"nft -j list set bridge {TABLE} {CHECKED}",
    f"nft -j list set bridge {TABLE} instances",
    f"nft -j list map ip {TABLE} {PUBLIC}",
)
COMMAND = ("sh", "-ec", "; ".join(_COMMANDS))
"""What is run at a router: it writes one JSON document after the other."""

_TRANSPORT = {"tcp": TCP, "udp": UDP}
_KINDS = {"==": (TRAFFIC,), "!=": (FORWARDED,)}
"""What a rule for a peering speaks of, by how it compares sources with the other network's range."""

_HOST = 32

Json = dict[str, Any]


@dataclass(frozen=True)
class RouterState:
    """What a VPC router's kernel holds, as its tools tell it.

    Attributes:
        addresses: its own, with their prefix lengths, by device.
        rules: packet filter rules, in order, by family, table and chain.
        instances: the addresses of instances, by port.
        checked: ports whose instance may use its own address only.
        public: the public addresses of instances.
    """

    region: str
    routes: tuple[Json, ...]
    links: Mapping[str, Json]
    addresses: Mapping[str, tuple[IPv4Network, ...]]
    rules: Mapping[tuple[str, str, str], Sequence[Json]]
    instances: Mapping[str, IPv4Address]
    checked: frozenset[str]
    public: Mapping[IPv4Address, IPv4Address]

    @cached_property
    def subnets(self) -> tuple[IPv4Network, ...]:
        """What the router serves."""
        return self.addresses.get(SUBNET_BRIDGE, ())

    @cached_property
    def ranges(self) -> tuple[IPv4Network, ...]:
        """The networks that the subnets lie in: what leads nowhere but for them."""
        return tuple(
            destination
            for route in self.routes
            if route.get("type") == "blackhole"
            for destination in (_destination(route),)
            if destination != ANYBODY and any(subnet.subnet_of(destination) for subnet in self.subnets)
        )

    @cached_property
    def ports(self) -> tuple[str, ...]:
        """The devices that instances are plugged into."""
        return tuple(name for name, link in self.links.items() if link.get("master") == SUBNET_BRIDGE)

    @cached_property
    def peerings(self) -> tuple[str, ...]:
        """The devices that lead to other regions; each is called like the region."""
        others = {"lo", SUBNET_BRIDGE, INTERNET, *self.ports}
        return tuple(name for name in self.links if name not in others)

    def name_of(self, device: str) -> str:
        """What the cloud calls the thing that a device leads to."""
        return str(self.links[device].get("ifalias") or device)

    def carries(self, device: str) -> bool:
        """The link is up, at both ends."""
        return {"UP", "LOWER_UP"} <= set(self.links.get(device, {}).get("flags", ()))


def read_state(region: str, answer: str) -> RouterState:
    """What `COMMAND` has written.

    Raises:
        ValueError: it is not all there, or not what the tools write.
    """
    documents = list(_documents(answer))
    if len(documents) != len(_COMMANDS):
        raise ValueError(f"the router has answered {len(documents)} of {len(_COMMANDS)} questions")
    try:
        routes, links, addresses, ruleset, checked, instances, public = documents
        rules: dict[tuple[str, str, str], list[Json]] = {}
        for item in ruleset["nftables"]:
            if rule := item.get("rule"):
                rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule)
        return RouterState(
            region=region,
            routes=tuple(routes),
            links={link["ifname"]: link for link in links},
            addresses={
                link["ifname"]: tuple(
                    IPv4Network((each["local"], each["prefixlen"]), strict=False) for each in link["addr_info"]
                )
                for link in addresses
            },
            rules=rules,
            instances={port: IPv4Address(address) for port, address in map(_concatenated, _elements(instances))},
            checked=frozenset(_elements(checked)),
            public={IPv4Address(own): IPv4Address(known_as) for own, known_as in _elements(public)},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"what the router's tools say cannot be understood: {error!r}") from error


def networks(cloud: str, states: Sequence[RouterState]) -> Networks:
    """What the routers tell, as a cloud would tell it.

    Args:
        cloud: whose words to use, AWS or AZURE.
        states: of every region's router, as far as it could be read.
    """
    ranges = {state.region: state.ranges[0] for state in states if state.ranges}
    groups, unreadable = [], []
    for state in states:
        for name in _group_ports(state):
            try:
                groups.append(SecurityGroup(state.region, name, tuple(_group_rules(state, name))))
            except (ValueError, KeyError, TypeError) as error:
                unreadable.append(Gap(state.region, f"security group {name}", f"a rule cannot be told: {error}"))
    return Networks(
        networks=tuple(network for state in states for network in _networks(state)),
        route_tables=tuple(_route_table(state) for state in states),
        peerings=tuple(end for state in states for end in _peering_ends(cloud, state, ranges)),
        gateways=tuple(
            InternetGateway(state.region, state.name_of(INTERNET), state.carries(INTERNET))
            for state in states
            if INTERNET in state.links
        ),
        security_groups=tuple(groups),
        instances=tuple(instance for state in states for instance in _instances(state)),
        gaps=tuple(unreadable),
    )


def _networks(state: RouterState) -> Iterator[Network]:
    """A subnet that no network of the region holds is shown with the first one."""
    strays = [each for each in state.subnets if not any(each.subnet_of(held) for held in state.ranges)]
    for cidr in state.ranges:
        inside = (each for each in state.subnets if each.subnet_of(cidr))
        yield Network(state.region, cidr, (*inside, *(strays if cidr == state.ranges[0] else ())))


def _route_table(state: RouterState) -> RouteTable:
    """The kernel takes the first of several routes to one destination."""
    routes: dict[IPv4Network, CloudRoute] = {}
    for route in state.routes:
        if route.get("protocol") != "kernel":  # the router's own links, of which a cloud does not speak
            routes.setdefault(_destination(route), _route(state, route))
    return RouteTable(state.region, f"rtb-{state.region}", state.subnets, tuple(routes.values()))


def _route(state: RouterState, route: Json) -> CloudRoute:
    destination, device = _destination(route), route.get("dev", "")
    if destination in state.ranges:
        return CloudRoute(destination, RouteTarget.LOCAL)
    if route.get("type", "unicast") != "unicast" or not state.carries(device):
        return CloudRoute(destination, RouteTarget.NOWHERE)
    if device == INTERNET:
        return CloudRoute(destination, RouteTarget.INTERNET, state.name_of(device))
    if device in state.peerings:
        return CloudRoute(destination, RouteTarget.PEERING, state.name_of(device))
    gateway = route.get("gateway", "")
    port = next((port for port, address in state.instances.items() if str(address) == gateway), None)
    return CloudRoute(destination, RouteTarget.INSTANCE, state.name_of(port) if port else gateway)


def _peering_ends(cloud: str, state: RouterState, ranges: Mapping[str, IPv4Network]) -> Iterator[PeeringEnd]:
    """A link that is shut at one end is a peering that this end has not accepted.

    AWS shows it at both ends as pending; Azure has nothing at this end and shows the other one as waiting.
    """
    for device in state.peerings:
        allows_traffic: bool | None = None
        allows_forwarded: bool | None = None
        if cloud == AZURE:
            if "UP" not in state.links[device]["flags"]:
                continue
            word = "Connected" if state.carries(device) else "Initiated"
            allows_traffic, allows_forwarded = _admitted(state, device)
        else:
            word = "active" if state.carries(device) else "pending-acceptance"
        yield PeeringEnd(
            region=state.region,
            name=state.name_of(device),
            peer_region=device,
            peer_network=ranges.get(device),
            active=state.carries(device),
            state=word,
            allows_traffic=allows_traffic,
            allows_forwarded=allows_forwarded,
        )


def _admitted(state: RouterState, device: str) -> tuple[bool, bool]:
    """Whether the first rule that speaks of them lets the other network's packets in, and those it only passes on."""
    verdicts: dict[str, bool] = {}
    for rule in state.rules.get(("ip", TABLE, "peerings"), ()):
        matches = {_subject(each): each for each in _each(rule, "match")}
        if ("meta", "oifname") in matches or device not in _values(matches["meta", "iifname"]["right"]):
            continue
        source = matches.get(("ip", "saddr"))
        for kind in _KINDS[source["op"]] if source else (TRAFFIC, FORWARDED):
            verdicts.setdefault(kind, any("accept" in each for each in rule["expr"]))
    return verdicts.get(TRAFFIC, True), verdicts.get(FORWARDED, True)


def _instances(state: RouterState) -> Iterator[Instance]:
    guarded = _group_ports(state)
    for port in state.ports:
        if port in state.instances:
            yield Instance(
                region=state.region,
                node=state.name_of(port),
                address=state.instances[port],
                public_address=state.public.get(state.instances[port]),
                forwards_foreign=port not in state.checked,
                groups=tuple(name for name, ports in guarded.items() if port in ports),
            )


def _group_ports(state: RouterState) -> dict[str, frozenset[str]]:
    """The ports that each security group guards."""
    found: dict[str, frozenset[str]] = {}
    for rule in state.rules.get(("bridge", TABLE, "destination"), ()):
        for jump in _each(rule, "jump"):
            ports = (_values(each["right"]) for each in _each(rule, "match") if _subject(each) == ("meta", "oifname"))
            found[jump["target"]] = frozenset(next(ports, state.ports))
    return found


def _group_rules(state: RouterState, group: str) -> Iterator[SecurityRule]:
    for rule in state.rules.get(("bridge", TABLE, group), ()):
        if "comment" in rule or list(_each(rule, "match")):  # else it is the end: what no rule lets in is kept out
            yield from _security_rules(rule)


def _security_rules(rule: Json) -> Iterator[SecurityRule]:
    """A rule of the packet filter as rules of a security group: several, where it has a set of ports or protocols.

    Raises:
        ValueError: it looks at something that security groups do not look at.
    """
    sources: tuple[IPv4Network, ...] = (ANYBODY,)
    protocols: list[int | None] = [None]
    ports: list[tuple[int, int] | None] = [None]
    icmp_types: list[int | None] = [None]
    icmp_codes: list[int | None] = [None]
    for match in _each(rule, "match"):
        values = _values(match["right"])
        if match["op"] != "==":
            raise ValueError(f"rule {rule['handle']} matches by {match['op']!r}")
        protocol, field = _subject(match)
        if (protocol, field) == ("ip", "saddr"):
            sources = tuple(network for value in values for network in _address_ranges(value))
        elif (protocol, field) in (("ip", "protocol"), ("meta", "l4proto")):
            protocols = [int(value) for value in values]
        elif field == "dport":
            protocols = [_TRANSPORT[protocol]] if protocol in _TRANSPORT else protocols
            ports = [_span(value) for value in values]
        elif (protocol, field) == ("icmp", "type"):
            protocols, icmp_types = [ICMP], [int(value) for value in values]
        elif (protocol, field) == ("icmp", "code"):
            protocols, icmp_codes = [ICMP], [int(value) for value in values]
        else:
            raise ValueError(f"rule {rule['handle']} looks at {protocol} {field}")
    priority, name = _priority_and_name(rule.get("comment", f"rule-{rule['handle']}"))
    for number, span, icmp_type, icmp_code in product(protocols, ports, icmp_types, icmp_codes):
        yield SecurityRule(
            name=name,
            allow=any("accept" in each for each in rule["expr"]),
            protocol=number,
            sources=sources,
            ports=span,
            icmp=None if icmp_type is None else (icmp_type, icmp_code),
            priority=priority,
            builtin=priority is not None and priority >= FIRST_BUILTIN_PRIORITY,
        )


def _priority_and_name(comment: str) -> tuple[int | None, str]:
    first, _, rest = comment.partition(" ")
    return (int(first), rest) if first.isdecimal() and rest else (None, comment)


def _each(rule: Json, kind: str) -> Iterator[Json]:
    """The statements of that kind in a rule."""
    return (statement[kind] for statement in rule["expr"] if kind in statement)


def _subject(match: Json) -> tuple[str, str]:
    """What a match looks at: a protocol and its field, or "meta" and a key."""
    left = match["left"]
    if "payload" in left:
        return left["payload"].get("protocol", "raw"), left["payload"].get("field", "")
    if "meta" in left:
        return "meta", left["meta"]["key"]
    return next(iter(left)), ""


def _values(right: Any) -> list[Any]:
    """The values that a match compares with."""
    return list(right["set"]) if isinstance(right, dict) and "set" in right else [right]


def _address_ranges(value: Any) -> Iterable[IPv4Network]:
    if isinstance(value, dict) and "range" in value:
        first, last = map(IPv4Address, value["range"])
        return summarize_address_range(first, last)
    if isinstance(value, dict):
        return (IPv4Network((value["prefix"]["addr"], value["prefix"]["len"])),)
    return (IPv4Network((value, _HOST)),)


def _span(value: Any) -> tuple[int, int]:
    first, last = value["range"] if isinstance(value, dict) else (value, value)
    return int(first), int(last)


def _destination(route: Json) -> IPv4Network:
    return ANYBODY if route["dst"] == "default" else IPv4Network(route["dst"])


def _elements(listing: Json) -> list[Any]:
    """The elements of the one set or map that `nft list` has shown."""
    found = next(item[kind] for item in listing["nftables"] for kind in ("set", "map") if kind in item)
    return list(found.get("elem", ()))


def _concatenated(element: Json) -> tuple[str, str]:
    port, address = element["concat"]
    return port, address


def _documents(text: str) -> Iterator[Any]:
    """One JSON document after the other."""
    decoder, rest = json.JSONDecoder(), text.lstrip()
    while rest:
        document, end = decoder.raw_decode(rest)
        yield document
        rest = rest[end:].lstrip()
