"""Faults of the cloud: networks, route tables, peerings, gateways and security groups of the lab's VPC routers.

`cloud_faults` makes those of a lab that it is told; what a lab's cloud does not have, it does not break.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from analysis.facts import SecurityRule
from analysis.rootcause import Layer
from provision.faults import Command, Confirm, Control, Fault, Patch
from provision.lab.cloud import (
    ANYBODY,
    FORWARDED,
    SUBNET_BRIDGE,
    TABLE,
    TCP,
    TRAFFIC,
    UDP,
    rule_text,
    security_group,
)
from provision.lab.faults.policy import DENIALS
from provision.lab.faults.shared import MESH_PATHS
from provision.lab.faults.steps import kernel_routes, object_says
from provision.lab.topology import AZURE, CILIUM_PORT, INTERNET, LabRegion, LabTopology

CALICO = "/apis/crd.projectcalico.org/v1"

OVERLAY_SEVERED = MESH_PATHS | {
    "NET-ROUTE-006",
    "NET-ROUTE-014",
    "NET-ROUTE-017",
    "NET-POD-008",
    "NET-POD-010",
    "NET-POD-011",
    "NET-POD-012",
    "NET-POD-013",
    "MESH-CP-010",
    "MESH-CP-011",
    "MESH-CP-015",
}
"""What is lost when packets of tunnels do not get from one region to another."""

SEVERED = OVERLAY_SEVERED | {
    "NET-UNDR-006",
    "NET-UNDR-007",
    "NET-UNDR-008",
    "NET-UNDR-009",
    "NET-UNDR-010",
    "NET-UNDR-011",
    "MESH-CP-002",
    "MESH-CP-003",
    "MESH-CP-004",
    "MESH-CP-006",
    "MESH-CP-012",
    "NET-POL-016",
}
"""What is lost when no packets at all do: engines of policy no longer hear of the other cluster's pods either."""

NEIGHBOURS_SEVERED = DENIALS | frozenset(
    {
        "NET-POL-008",
        "NET-POL-012",
        "NET-ROUTE-013",
        "NET-POD-006",
        "NET-POD-008",
        "NET-MTU-006",
        "NET-DNS-005",
        "NET-DNS-006",
        "NET-DNS-007",
        "NET-DNS-008",
        "NET-DNS-010",
        "NET-DNS-011",
        "NET-DNS-012",
        "NET-DNS-013",
        "NET-DNS-014",
        "NET-DNS-015",
        "NET-DNS-016",
        "NET-DNS-018",
    }
)
"""What is lost when pods of one cluster do not reach each other, its DNS servers among them."""

CUT_OFF = frozenset({"NET-POD-009", "NET-UNDR-012", "NET-UNDR-014", "NET-DNS-012", "NET-DNS-015", "NET-DNS-017"})
"""What is lost with the way to the internet; whether a port is closed to it cannot be told then."""

SECOND_NETWORK = IPv4Network("10.77.0.0/16")
_FORGOTTEN = IPv4Network("10.78.0.0/16")
_ETCD = 2379

Change = Callable[[str], str]
"""From a chain as `nft` lists it to what it is to be."""


@dataclass(frozen=True)
class RulesChanged:
    """A chain of a VPC router's rules, edited."""

    region: LabRegion
    family: str
    chain: str
    change: Change

    def apply(self, control: Control) -> str:
        """Edit it and remember how it was."""
        before = listed(control, self.region, self.family, self.chain)
        self._load(control, self.change(before))
        return before

    def heal(self, control: Control, memory: str) -> None:
        """Put it back as it was."""
        self._load(control, memory)

    def _load(self, control: Control, text: str) -> None:
        flush = f"flush chain {self.family} {TABLE} {self.chain}\n"
        control.run(router(self.region), ["nft", "-f", "-"], text=flush + text)


@dataclass(frozen=True)
class RouteChanged:
    """A route of a VPC's route table that leads to another region's network, or is not there at all."""

    region: LabRegion
    destination: str
    via: LabRegion | None

    def apply(self, control: Control) -> str:
        """Change it and remember how it was."""
        there = router(self.region)
        before = control.run(there, ["ip", "-4", "route", "show", "exact", self.destination]).out.strip()
        control.run(there, ["ip", "route", "del", *before.split()])
        if self.via is not None:
            (hop,) = kernel_routes(control, there, str(self.via.plan.network))
            control.run(there, ["ip", "route", "add", self.destination, "via", hop["gateway"]])
        return before

    def heal(self, control: Control, memory: str) -> None:
        """Put it back as it was."""
        control.run(router(self.region), ["ip", "route", "replace", *memory.split()])


@dataclass(frozen=True)
class LinkShut:
    """A leg of a VPC's router, shut; its routes go with it."""

    region: LabRegion
    device: str

    def apply(self, control: Control) -> list[str]:
        """Shut it and remember the routes that led there."""
        there = router(self.region)
        routes = control.run(there, ["ip", "-4", "route", "show", "dev", self.device, "proto", "boot"]).out
        control.run(there, ["ip", "link", "set", self.device, "down"])
        return routes.splitlines()

    def heal(self, control: Control, memory: list[str]) -> None:
        """Open it, and let the routes lead there again."""
        orders = [f"link set {self.device} up", *(f"route replace {route} dev {self.device}" for route in memory)]
        control.run(router(self.region), ["ip", "-batch", "-"], text="\n".join(orders) + "\n")


def router(region: LabRegion) -> str:
    """The region's router as `Control.run` names it."""
    return f"{region.name}/vpc"


def listed(control: Control, region: LabRegion, family: str, chain: str) -> str:
    """A chain of the router's rules as `nft` lists it."""
    return control.run(router(region), ["nft", "-n", "list", "chain", family, TABLE, chain]).out


def with_rule(rule: SecurityRule) -> Change:
    """One more rule, before all others."""
    return lambda text: re.sub(r"(\tchain .*\{\n)", rf"\g<1>\t\t{rule_text(rule)}\n", text, count=1)


def without_rule(name: str) -> Change:
    """Without the rules of that name, whatever their priority."""
    return lambda text: "".join(line for line in text.splitlines(keepends=True) if not _is(line, name))


def from_sources(name: str, sources: str) -> Change:
    """The rule of that name with other sources: `nft`'s words, none at all for anybody."""
    words = f"ip saddr {sources} " if sources else ""

    def change(text: str) -> str:
        return "".join(
            re.sub(r"ip saddr (\{[^}]*\}|\S+) ", words, line) if _is(line, name) else line
            for line in text.splitlines(keepends=True)
        )

    return change


def group_changed(lab: LabTopology, region: LabRegion, change: Change) -> RulesChanged:
    """The security group of the region's nodes, edited."""
    return RulesChanged(region, "bridge", security_group(lab, region).name, change)


def group_says(lab: LabTopology, region: LabRegion, pattern: str, *, says: bool = True) -> Confirm:
    """A line of the region's security group matches that pattern, or none does."""
    group = security_group(lab, region).name
    return lambda control: bool(re.search(pattern, listed(control, region, "bridge", group))) is says


def _is(line: str, name: str) -> bool:
    return re.search(rf'comment "(\d+ )?{re.escape(name)}"', line) is not None


def cloud_faults(lab: LabTopology) -> tuple[Fault, ...]:
    """What can go wrong with the cloud that this lab plays."""
    first, second, third = lab.regions[:3]
    return (
        _second_network(third),
        _no_default_route(third),
        _gateway_detached(second),
        _peering_not_accepted(first, second),
        _wrong_peering(first, second, third),
        _dead_end(second),
        *_rules_of_the_cloud(lab, first, second, third),
        _store_open_to_the_world(lab, third),
        _ssh_open_to_the_world(lab, second),
        _tunnel_not_let_in(lab, second, third),
    )


# --- networks, routes, gateways -----------------------------------------------------------------------------------


def _second_network(region: LabRegion) -> Fault:
    subnet = f"{SECOND_NETWORK[257]}/24"
    return Fault(
        name="second-network",
        summary=f"somebody has made a second network in {region.name}",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-001",
        steps=(
            Command(
                router(region),
                ("ip", "address", "add", subnet, "dev", SUBNET_BRIDGE),
                ("ip", "address", "del", subnet, "dev", SUBNET_BRIDGE),
            ),
            _blackhole(region, SECOND_NETWORK),
        ),
        confirm=_leads(region, SECOND_NETWORK, lambda route: route.get("type") == "blackhole"),
    )


def _no_default_route(region: LabRegion) -> Fault:
    return Fault(
        name="no-default-route",
        summary=f"the route table of {region.name} has lost its default route",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-002",
        steps=(RouteChanged(region, "default", None),),
        confirm=lambda control: not kernel_routes(control, router(region), "default"),
        follows=CUT_OFF,
    )


def _gateway_detached(region: LabRegion) -> Fault:
    return Fault(
        name="internet-gateway-detached",
        summary=f"the internet gateway of {region.name} is not attached to its network any more",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-002",
        steps=(LinkShut(region, INTERNET),),
        confirm=_link_is_shut(region, INTERNET),
        follows=CUT_OFF,
    )


def _peering_not_accepted(region: LabRegion, other: LabRegion) -> Fault:
    return Fault(
        name="peering-not-accepted",
        summary=f"{region.name} has not accepted the peering with {other.name}, and has no routes by it",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-003",
        steps=(LinkShut(region, other.name),),
        confirm=_link_is_shut(region, other.name),
        follows=SEVERED | {"NET-UNDR-004"},
    )


def _wrong_peering(region: LabRegion, target: LabRegion, other: LabRegion) -> Fault:
    return Fault(
        name="wrong-peering-in-route-table",
        summary=f"the route table of {region.name} sends what is for {target.name} to {other.name}",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-004",
        steps=(RouteChanged(region, str(target.plan.network), other),),
        confirm=_leads(region, target.plan.network, lambda route: route.get("dev") == other.name),
        follows=SEVERED,
    )


def _dead_end(region: LabRegion) -> Fault:
    return Fault(
        name="dead-end-in-route-table",
        summary=f"the route table of {region.name} still has a route to a peering that was deleted",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-004",
        steps=(_blackhole(region, _FORGOTTEN),),
        confirm=_leads(region, _FORGOTTEN, lambda route: route.get("type") == "blackhole"),
    )


def _blackhole(region: LabRegion, network: IPv4Network) -> Command:
    route = ("blackhole", str(network))
    return Command(router(region), ("ip", "route", "add", *route), ("ip", "route", "del", *route))


def _leads(region: LabRegion, network: IPv4Network | None, where: Callable[[dict[str, Any]], bool]) -> Confirm:
    """The first route of the route table to that network leads there."""

    def confirm(control: Control) -> bool:
        routes = kernel_routes(control, router(region), str(network))
        return bool(routes) and where(routes[0])

    return confirm


def _link_is_shut(region: LabRegion, device: str) -> Confirm:
    shown = ["ip", "-br", "link", "show", device, "up"]
    return lambda control: not control.run(router(region), shown).out.strip()


# --- what only one cloud has --------------------------------------------------------------------------------------


def _rules_of_the_cloud(lab: LabTopology, first: LabRegion, second: LabRegion, third: LabRegion) -> Iterator[Fault]:
    if lab.cloud == AZURE:
        yield _peering_forbids(first, second, FORWARDED, frozenset())
        yield _peering_forbids(third, first, TRAFFIC, SEVERED)
        yield _one_rule_more(lab, first)
        yield _one_rule_less(lab, third)
    else:
        yield _bare_in_the_subnet(first)


def _peering_forbids(region: LabRegion, other: LabRegion, switch: str, follows: frozenset[str]) -> Fault:
    words = {FORWARDED: "traffic that was only forwarded", TRAFFIC: "traffic"}[switch]
    device = f'iifname "{other.name}"'
    return Fault(
        name=f"peering-forbids-{'forwarded-' if switch == FORWARDED else ''}traffic",
        summary=f"the peering of {region.name} with {other.name} does not let in {words} from there",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-005",
        steps=(
            RulesChanged(
                region,
                "ip",
                "peerings",
                lambda text: "".join(
                    line for line in text.splitlines(keepends=True) if device not in line or not _is(line, switch)
                ),
            ),
        ),
        confirm=lambda control: (
            not any(
                device in line and _is(line, switch) for line in listed(control, region, "ip", "peerings").splitlines()
            )
        ),
        follows=follows,
    )


def _bare_in_the_subnet(region: LabRegion) -> Fault:
    pool = f"{CALICO}/ippools/default-ipv4-ippool"
    return Fault(
        name="bare-packets-under-address-check",
        summary=f"pods of {region.name} send each other bare packets, and the cloud checks addresses of instances",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-016",
        steps=(Patch(region.name, pool, {"spec": {"vxlanMode": "CrossSubnet"}}),),
        confirm=object_says(region.name, pool, ("spec", "vxlanMode"), "CrossSubnet"),
        follows=NEIGHBOURS_SEVERED,
    )


def _one_rule_more(lab: LabTopology, region: LabRegion) -> Fault:
    rule = SecurityRule("NsgRuleDebug", True, TCP, lab.plan.underlay.operators, ports=(8080, 8080), priority=350)
    return Fault(
        name="rule-that-nobody-planned",
        summary=f"the network security group of {region.name} has one more rule, left from a search for an error",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-013",
        steps=(group_changed(lab, region, with_rule(rule)),),
        confirm=group_says(lab, region, rule.name),
    )


def _one_rule_less(lab: LabTopology, region: LabRegion) -> Fault:
    return Fault(
        name="planned-rule-missing",
        summary=f"the network security group of {region.name} does not open the Kubernetes API to the operator",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-013",
        steps=(group_changed(lab, region, without_rule("NsgRulek8sAPI")),),
        confirm=group_says(lab, region, "NsgRulek8sAPI", says=False),
        follows=frozenset({"NET-UNDR-012"}),
    )


# --- security groups ----------------------------------------------------------------------------------------------


def _store_open_to_the_world(lab: LabTopology, region: LabRegion) -> Fault:
    rule = SecurityRule("etcd-debug", True, TCP, (ANYBODY,), ports=(_ETCD, _ETCD), priority=_priority(lab, 360))
    return Fault(
        name="etcd-open-to-the-world",
        summary=f"the security group of {region.name} opens etcd to everybody",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-014",
        steps=(group_changed(lab, region, with_rule(rule)),),
        confirm=group_says(lab, region, rule.name),
        follows=frozenset({"NET-UNDR-013"}),
    )


def _ssh_open_to_the_world(lab: LabTopology, region: LabRegion) -> Fault:
    name = "NsgRuleSSH" if lab.cloud == AZURE else "ssh"
    return Fault(
        name="ssh-open-to-the-world",
        summary=f"the security group of {region.name} opens SSH to everybody",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-015",
        steps=(group_changed(lab, region, from_sources(name, "")),),
        confirm=group_says(lab, region, rf'\ttcp dport 22 .*comment "(\d+ )?{name}"'),
        follows=frozenset({"NET-UNDR-013"}),
    )


def _tunnel_not_let_in(lab: LabTopology, region: LabRegion, source: LabRegion) -> Fault:
    """For want of a source on AWS, because of one more rule on Azure."""
    if lab.cloud == AZURE:
        rule = SecurityRule(
            "DenyUdp", False, UDP, (source.plan.node_cidr,), ports=(CILIUM_PORT, CILIUM_PORT), priority=400
        )
        change, sign = with_rule(rule), group_says(lab, region, rule.name)
    else:
        let_in = ", ".join(str(each.plan.node_cidr) for each in lab.regions if each != source)
        change = from_sources("vxlan", f"{{ {let_in} }}")
        sign = group_says(lab, region, rf'{source.plan.node_cidr}.*"vxlan"', says=False)
    return Fault(
        name="tunnel-not-let-in",
        summary=f"the security group of {region.name} does not let in the tunnels of {source.name}",
        layer=Layer.UNDERLAY,
        requirement="NET-UNDR-010",
        steps=(group_changed(lab, region, change),),
        confirm=sign,
        follows=OVERLAY_SEVERED,
    )


def _priority(lab: LabTopology, number: int) -> int | None:
    return number if lab.cloud == AZURE else None
