"""What a cloud tells of a lab's networks when nothing is wrong, as facts, and every judge that reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Network
from typing import Any

from analysis import cloud, rulesets
from analysis.facts import (
    Addressing,
    CloudRoute,
    Instance,
    InternetGateway,
    Inventory,
    Network,
    Networks,
    Node,
    PeeringEnd,
    Pool,
    RouteTable,
    RouteTarget,
    SecurityRule,
    Service,
)
from analysis.plan import Plan
from analysis.verdict import Outcome, Verdict
from provision.lab.cloud import gateway_name, peering_name, security_group
from provision.lab.topology import AZURE, LabTopology, aws_calico, azure_cilium

ANYBODY = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True)
class CloudWorld:
    """The plan, and the facts that judges of the cloud read."""

    plan: Plan
    networks: Networks
    inventory: Inventory
    addressing: Addressing

    def edit(self, collection: str, change: Callable, where: Callable = lambda item: True) -> CloudWorld:
        """`change` applied to the items of the cloud's facts that `where` picks; items changed to None are gone."""
        items = getattr(self.networks, collection)
        assert any(where(item) for item in items), f"nothing to change in {collection}"
        changed = (change(item) if where(item) else item for item in items)
        return self.telling(**{collection: tuple(item for item in changed if item is not None)})

    def telling(self, **facts: Any) -> CloudWorld:
        """The cloud says this of itself."""
        return replace(self, networks=replace(self.networks, **facts))

    def planned(self, **figures: Any) -> CloudWorld:
        """The plan says this of the underlay."""
        return replace(self, plan=replace(self.plan, underlay=replace(self.plan.underlay, **figures)))

    def rules(self, region: str, change: Callable[[tuple[SecurityRule, ...]], tuple[SecurityRule, ...]]) -> CloudWorld:
        """The rules of the region's security group, changed."""
        return self.edit(
            "security_groups", lambda g: replace(g, rules=tuple(change(g.rules))), lambda g: g.region == region
        )


JUDGES: dict[str, Callable[[CloudWorld], Verdict]] = {
    "NET-UNDR-001": lambda w: cloud.judge_one_network_each(w.plan, w.networks),
    "NET-UNDR-002": lambda w: cloud.judge_ways_out(w.plan, w.networks),
    "NET-UNDR-003": lambda w: cloud.judge_peerings(w.plan, w.networks),
    "NET-UNDR-004": lambda w: cloud.judge_routes_to_regions(w.plan, w.networks),
    "NET-UNDR-005": lambda w: cloud.judge_peerings_permit(w.plan, w.networks),
    "NET-UNDR-006": lambda w: rulesets.judge_pings_let_in(w.plan, w.networks),
    "NET-UNDR-009": lambda w: rulesets.judge_reflectors_let_in(w.plan, w.inventory, w.networks),
    "NET-UNDR-010": lambda w: rulesets.judge_tunnels_let_in(w.plan, w.networks),
    "NET-UNDR-011": lambda w: rulesets.judge_stores_let_in(w.plan, w.inventory, w.networks),
    "NET-UNDR-013": lambda w: rulesets.judge_rules_as_planned(w.plan, w.networks),
    "NET-UNDR-014": lambda w: rulesets.judge_closed_to_the_internet(w.plan, w.inventory, w.networks),
    "NET-UNDR-015": lambda w: rulesets.judge_administration_limited(w.plan, w.networks),
    "NET-UNDR-016": lambda w: cloud.judge_foreign_addresses(w.plan, w.networks, w.addressing),
    "NET-UNDR-018": lambda w: rulesets.judge_neighbours_let_in(w.plan, w.inventory, w.networks),
    "NET-MTU-002": lambda w: rulesets.judge_size_reports_let_in(w.plan, w.networks),
}
ONLY = {"aws": {"NET-UNDR-009", "NET-UNDR-016"}, "azure": {"NET-UNDR-005", "NET-UNDR-013"}}
"""Requirements that speak of one cloud's profile only."""


def verdicts(world: CloudWorld) -> dict[str, Verdict]:
    """What every judge that is for that cloud says of it."""
    others = set().union(*(names for cloud_name, names in ONLY.items() if cloud_name != world.plan.underlay.cloud))
    return {name: judge(world) for name, judge in JUDGES.items() if name not in others}


def violated(world: CloudWorld) -> set[str]:
    """The requirements that are violated."""
    return {name for name, verdict in verdicts(world).items() if verdict.outcome is Outcome.VIOLATED}


@cache
def aws() -> CloudWorld:
    """The networks of the `aws-calico` lab."""
    return _world(aws_calico("demo"))


@cache
def azure() -> CloudWorld:
    """The networks of the `azure-cilium` lab."""
    return _world(azure_cilium("demo"))


def _world(lab: LabTopology) -> CloudWorld:
    switch = True if lab.cloud == AZURE else None
    state = "Connected" if lab.cloud == AZURE else "active"
    ranges = {region.name: region.plan.network for region in lab.regions}
    others = {region.name: [other for other in lab.regions if other is not region] for region in lab.regions}
    return CloudWorld(
        plan=lab.plan,
        networks=Networks(
            networks=tuple(
                Network(region.name, ranges[region.name], (region.plan.node_cidr,)) for region in lab.regions
            ),
            route_tables=tuple(
                RouteTable(
                    region.name,
                    f"rtb-{region.name}",
                    (region.plan.node_cidr,),
                    (
                        CloudRoute(ranges[region.name], RouteTarget.LOCAL),
                        CloudRoute(ANYBODY, RouteTarget.INTERNET, gateway_name(lab, region.name)),
                        *(
                            CloudRoute(
                                ranges[other.name], RouteTarget.PEERING, peering_name(lab, region.name, other.name)
                            )
                            for other in others[region.name]
                        ),
                    ),
                )
                for region in lab.regions
            ),
            peerings=tuple(
                PeeringEnd(
                    region.name,
                    peering_name(lab, region.name, other.name),
                    other.name,
                    ranges[other.name],
                    True,
                    state,
                    switch,
                    switch,
                )
                for region in lab.regions
                for other in others[region.name]
            ),
            gateways=tuple(
                InternetGateway(region.name, gateway_name(lab, region.name), True) for region in lab.regions
            ),
            security_groups=tuple(security_group(lab, region) for region in lab.regions),
            instances=tuple(
                Instance(
                    node.region,
                    node.name,
                    node.address,
                    node.public_address,
                    forwards_foreign=False,
                    groups=tuple(group.name for group in (security_group(lab, lab.region(node.region)),)),
                )
                for node in lab.nodes
            ),
        ),
        inventory=Inventory(
            nodes=tuple(
                Node(
                    node.region,
                    node.name,
                    node.address,
                    True,
                    labels=(
                        *([("node-role.kubernetes.io/control-plane", "true")] if node.is_control_plane else []),
                        *([("route-reflector", "true")] if node.is_reflector else []),
                    ),
                )
                for node in lab.nodes
            ),
            pods=(),
            services=tuple(
                Service(
                    region.name,
                    "kube-system",
                    "clustermesh-apiserver",
                    region.plan.service_cidr[7],
                    "NodePort",
                    node_ports=(region.store_port,),
                )
                for region in lab.regions
                if lab.cloud == AZURE
            ),
        ),
        addressing=Addressing(
            tuple(
                Pool(region.name, name, each.plan.pod_cidr, each is not region, True, "vxlan", "always", 26)
                for region in lab.regions
                for each in lab.regions
                for name in (f"pool-{each.name}",)
            ),
            (),
        ),
    )
