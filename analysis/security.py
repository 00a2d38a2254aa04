"""What security groups let in, by which rule, and how that compares with what is needed and what is forbidden.

Rules are data, and so are their answers: nothing is tried out at single addresses. Of a set of flows this says which
part each rule decides about, so that a range that is one address short, or one port too wide, does not escape.

On AWS there are only rules that let in, and all of them count. On Azure they are looked at in the order of their
priorities, the first that matches decides, and of several groups each must let a packet in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import chain

from analysis.doors import CLOSED_TO_THE_INTERNET, PORTS, Doors
from analysis.facts import Door, Instance, Networks, SecurityGroup, SecurityRule
from analysis.flows import (
    ANYWHERE,
    EVERY_DETAIL,
    ICMP,
    IPIP,
    NOTHING,
    TCP,
    UDP,
    WITH_PORTS,
    Flows,
    Interval,
    flows,
    icmp_detail,
    union,
)
from analysis.plan import Cni, Encapsulation, Plan, RegionPlan
from analysis.rootcause import Layer
from analysis.verdict import Finding
from analysis.words import gap_findings, listed

ECHO_REQUEST = icmp_detail(8, 0)
FRAGMENTATION_NEEDED = icmp_detail(3, 4)
VXLAN_PORT, CILIUM_VXLAN_PORT, GENEVE_PORT = 4789, 8472, 6081
TUNNEL_PORTS = (VXLAN_PORT, CILIUM_VXLAN_PORT, GENEVE_PORT)

NOT_THE_INTERNET = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
    )
)
"""What no router of the internet forwards (RFC 6890), multicast and what lies above it."""

CLOUDS_OWN = IPv4Network("168.63.129.16/32")
"""Azure itself: the health probes of its load balancers. No customer's packet bears this source."""

WIDE = 8
"""Prefix length: shorter ones hold a good part of the internet."""

_DOOR_NAMES = {
    Door.SSH: "SSH",
    Door.API_SERVER: "the Kubernetes API",
    Door.KUBELET: "kubelet",
    Door.ETCD: "etcd",
    Door.BGP: "BGP",
    Door.TYPHA: "Typha",
    Door.HEALTH: "health probes",
    Door.MESH_STORE: "the mesh's control plane",
    Door.DATABASE: "the database",
}


@dataclass(frozen=True)
class Part:
    """Flows that one rule decides about; `rule` is None for those that no rule speaks of, which are kept out."""

    flows: Flows
    allowed: bool
    rule: SecurityRule | None


@dataclass(frozen=True)
class Guard:
    """Security groups of a region, and the instances that exactly these guard."""

    region: str
    groups: tuple[SecurityGroup, ...]
    instances: tuple[Instance, ...]

    @property
    def name(self) -> str:
        """As a finding's subject begins: "us-east-1: security group mesh-nodes"."""
        return f"{self.region}: security group {' with '.join(group.name for group in self.groups)}"

    @property
    def rules(self) -> Iterator[SecurityRule]:
        """The rules of all the groups."""
        return chain.from_iterable(group.rules for group in self.groups)

    def decide(self, wanted: Flows) -> list[Part]:
        """Which part of the flows each rule decides about, and how."""
        return decide(self.groups, wanted)


@dataclass(frozen=True)
class Need:
    """Flows that nodes of a region need to receive, and what for ("BGP")."""

    region: str
    what: str
    flows: Flows


def flows_of(rule: SecurityRule) -> Flows:
    """Everything that a rule speaks of. Ports without a protocol are those of TCP and UDP."""
    if rule.icmp is not None:
        return flows(rule.sources, ICMP, icmp_detail(*rule.icmp))
    if rule.ports is not None:
        protocols = WITH_PORTS if rule.protocol is None else (rule.protocol,)
        return union(flows(rule.sources, protocol, rule.ports) for protocol in protocols)
    return flows(rule.sources, rule.protocol)


def decide(groups: Sequence[SecurityGroup], wanted: Flows) -> list[Part]:
    """Which part of the flows each rule of the groups decides about, and how. Parts share nothing."""
    parts, passed = [], [Part(wanted, True, None)]
    for rules in _chains(groups):
        decided = [part for before in passed for part in _first_match(rules, before.flows)]
        parts += [part for part in decided if not part.allowed]
        passed = [part for part in decided if part.allowed]
    return [*passed, *parts]


def _chains(groups: Sequence[SecurityGroup]) -> Iterator[Sequence[SecurityRule]]:
    """Lists of rules of which each must let a packet in: groups with priorities one by one, all others together."""
    ordered = [group for group in groups if any(rule.priority is not None for rule in group.rules)]
    for group in ordered:
        yield sorted(group.rules, key=lambda rule: rule.priority or 0)
    if len(ordered) < len(groups):
        yield [rule for group in groups if group not in ordered for rule in group.rules]


def _first_match(rules: Sequence[SecurityRule], wanted: Flows) -> Iterator[Part]:
    for rule in rules:
        if not wanted:
            return
        spoken_of = flows_of(rule)
        if matched := wanted & spoken_of:
            yield Part(matched, rule.allow, rule)
            wanted -= spoken_of
    if wanted:
        yield Part(wanted, False, None)


def guards(plan: Plan, networks: Networks) -> tuple[list[Guard], list[Finding]]:
    """Who guards the nodes of the planned regions, and what could not be learned about that."""
    known = {(group.region, group.name): group for group in networks.security_groups}
    guarded: dict[tuple[str, tuple[str, ...]], list[Instance]] = {}
    gaps = gap_findings(networks.gaps)
    for region in plan.regions:
        instances = [instance for instance in networks.instances if instance.region == region.name]
        if len(instances) < region.node_count:
            gaps.append(
                Finding(f"instances of {region.name}", f"{region.node_count} to be observed", f"{len(instances)} were")
            )
        for instance in instances:
            missing = [name for name in instance.groups if (region.name, name) not in known]
            if missing or not instance.groups:
                gaps.append(
                    Finding(
                        f"{region.name}: instance {instance.node or instance.address}",
                        "the rules of its security groups to be observed",
                        f"nothing is known of {listed(missing)}" if missing else "no security group was told",
                    )
                )
            else:
                guarded.setdefault((region.name, tuple(sorted(instance.groups))), []).append(instance)
    return [
        Guard(region, tuple(known[region, name] for name in names), tuple(instances))
        for (region, names), instances in guarded.items()
    ], gaps


# --- what is needed -------------------------------------------------------------------------------------------------


def tunnel_needs(plan: Plan) -> list[Need]:
    """The encapsulation, between any two nodes."""
    match plan.encapsulation:
        case Encapsulation.NONE:
            return []
        case Encapsulation.IPIP:
            what, protocol, port = "IP-in-IP", IPIP, EVERY_DETAIL
        case Encapsulation.VXLAN:
            number = CILIUM_VXLAN_PORT if plan.cni is Cni.CILIUM_CLUSTERMESH else VXLAN_PORT
            what, protocol, port = "VXLAN", UDP, (number, number)
        case Encapsulation.GENEVE:
            what, protocol, port = "Geneve", UDP, (GENEVE_PORT, GENEVE_PORT)
    nodes = [region.node_cidr for region in plan.regions]
    return [Need(region.name, f"the tunnel ({what})", flows(nodes, protocol, port)) for region in plan.regions]


def icmp_needs(plan: Plan, what: str, detail: Interval) -> list[Need]:
    """ICMP of that type and code, from the nodes of the other regions."""
    return [
        Need(region.name, what, flows([other.node_cidr for other in plan.others(region.name)], ICMP, detail))
        for region in plan.regions
    ]


def door_needs(plan: Plan, doors: Doors, wanted: Iterable[Door], *, across: bool) -> list[Need]:
    """TCP ports that nodes need of each other: of other regions where `across`, else of their own."""
    choice = frozenset(wanted)
    found: dict[tuple[str, Door], Flows] = {}
    for source, target, door, port in sorted(
        {
            (knocker.source.region, knocker.target.region, knocker.door, knocker.port)
            for knocker in doors.knockers
            if knocker.door in choice and (knocker.source.region != knocker.target.region) is across
        }
    ):
        needed = flows([plan.region(source).node_cidr], TCP, (port, port))
        found[target, door] = found.get((target, door), NOTHING) | needed
    return [Need(region, _DOOR_NAMES[door], needed) for (region, door), needed in found.items()]


def inner_bgp_needs(plan: Plan) -> list[Need]:
    """BGP between the nodes of a cluster and its reflectors, where there is BGP."""
    return [
        Need(region.name, _DOOR_NAMES[Door.BGP], flows([region.node_cidr], TCP, (port, port)))
        for region in plan.regions
        for port in PORTS[Door.BGP]
        if region.as_number is not None
    ]


def blocked_flows(found: Sequence[Guard], needs: Sequence[Need]) -> list[Finding]:
    """A finding for each need that the groups of its region do not let in, with the part that they keep out."""
    findings = []
    for guard in found:
        for need in needs:
            kept_out = [part for part in guard.decide(need.flows) if not part.allowed]
            if need.region == guard.region and kept_out:
                findings.append(
                    Finding(
                        guard.name,
                        f"{need.what} let in: {need.flows}",
                        f"{union(part.flows for part in kept_out)} kept out by {_deciders(kept_out)}",
                        _why_blocked(guard, need, kept_out),
                        layer=Layer.UNDERLAY,
                    )
                )
    return findings


def _deciders(parts: Iterable[Part]) -> str:
    names = {f"rule {part.rule.name}" if part.rule else "default, as no rule lets it in" for part in parts}
    return listed(sorted(names))


def _why_blocked(guard: Guard, need: Need, kept_out: Sequence[Part]) -> str | None:
    """What people get wrong: a port for the protocol, another tunnel's port, a range too narrow, a deny above."""
    allowing = [rule for rule in guard.rules if rule.allow]
    kinds = {(box.protocols[0], box.details) for box in need.flows.boxes}
    for rule in allowing:
        if (IPIP, EVERY_DETAIL) in kinds and rule.ports == (4, 4):
            return f"rule {rule.name} opens port 4 of TCP or UDP; IP-in-IP is IP protocol 4 and has no ports"
    for rule in allowing:
        elsewhere = flows([ANYWHERE], rule.protocol, rule.ports or EVERY_DETAIL)
        if rule.icmp is None and ANYWHERE not in rule.sources and not (need.flows - elsewhere):
            return f"rule {rule.name} lets it in from {listed(rule.sources)} only"
    if any(protocol == UDP for protocol, _ in kinds):
        for rule in allowing:
            if rule.protocol == UDP and rule.ports and rule.ports[0] == rule.ports[1] and rule.ports[0] in TUNNEL_PORTS:
                return f"rule {rule.name} opens UDP {rule.ports[0]}, which is another tunnel's port"
    denying = next((part.rule for part in kept_out if part.rule and not part.rule.builtin), None)
    return f"rule {denying.name} keeps it out before any other rule is looked at" if denying else None


# --- what is forbidden ----------------------------------------------------------------------------------------------


def inside(plan: Plan) -> list[IPv4Network]:
    """The ranges of the regions themselves."""
    return [cidr for region in plan.regions for cidr in (region.network or region.node_cidr, *_overlay(region))]


def _overlay(region: RegionPlan) -> tuple[IPv4Network, IPv4Network]:
    return region.pod_cidr, region.service_cidr


def internet(plan: Plan) -> Flows:
    """Everything that comes from the internet, but from operators."""
    known = [*NOT_THE_INTERNET, CLOUDS_OWN, *inside(plan), *plan.underlay.operators]
    return flows([ANYWHERE]) - flows(known)


def forbidden_flows(doors: Doors) -> list[tuple[str, Flows]]:
    """What must never be let in from the internet, with what it is for."""
    ports = [
        *((door, port) for door in CLOSED_TO_THE_INTERNET for port in PORTS[door]),
        *((Door.MESH_STORE, port) for port in doors.stores),
        *((Door.DATABASE, port) for port in doors.database),
    ]
    return [
        ("the tunnel", flows([ANYWHERE], IPIP)),
        *(("the tunnel", flows([ANYWHERE], UDP, (port, port))) for port in TUNNEL_PORTS),
        *((_DOOR_NAMES[door], flows([ANYWHERE], TCP, (port, port))) for door, port in ports),
    ]


def admits_strangers(plan: Plan, rule: SecurityRule) -> bool:
    """Its source may be somebody whom the plan does not know.

    Where the plan names no operators, a narrow source may well be one; only a wide one is certainly too much.
    """
    return bool(plan.underlay.operators) or any(source.prefixlen < WIDE for source in rule.sources)


def exposed_flows(plan: Plan, found: Sequence[Guard], doors: Doors) -> list[Finding]:
    """A finding for each rule that lets in from the internet what must stay closed to it.

    An instance without a public address is not exposed, whatever its rules say.
    """
    findings = []
    outside = internet(plan)
    for guard in found:
        if all(instance.public_address is None for instance in guard.instances):
            continue
        opened: dict[SecurityRule, list[str]] = {}
        for what, kind in forbidden_flows(doors):
            for part in guard.decide(kind):
                if part.allowed and part.rule and admits_strangers(plan, part.rule) and part.flows & outside:
                    opened.setdefault(part.rule, []).append(f"{listed(part.flows.kinds)} ({what})")
        findings += [
            Finding(
                guard.name,
                "closed to the internet: tunnels, BGP, etcd, kubelet, health, the mesh's store and the database",
                f"rule {rule.name} lets in {listed(kinds, limit=12)} from {listed(rule.sources)}",
                "its source is everybody" if ANYWHERE in rule.sources else None,
            )
            for rule, kinds in opened.items()
        ]
    return findings
