"""Every way in which a cloud deviates from the plan turns the requirement that speaks of it, and is told by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import pytest

from analysis.facts import CloudRoute, Gap, Instance, Network, RouteTarget, SecurityRule
from analysis.flows import ICMP, IPIP, TCP, UDP
from analysis.plan import Encapsulation
from analysis.rootcause import Layer
from analysis.verdict import Outcome
from tests.unit.analysis.cloud_world import ANYBODY, JUDGES, CloudWorld, aws, azure, verdicts, violated
from tests.unit.analysis.world import address, gone, network

EAST, OHIO, WEST = "us-east-1", "us-east-2", "us-west-1"
EASTUS, WESTUS, EUROPE = "eastus", "westus", "northeurope"
OPERATOR = network("198.51.100.20/32")


def where(**wanted: object) -> Callable:
    """Picks items by their attributes."""
    return lambda item: all(getattr(item, name) == value for name, value in wanted.items())


def rerouted(region: str, *routes: CloudRoute, without: str = "") -> Callable[[CloudWorld], CloudWorld]:
    """The region's route table with more routes, and without the one to that destination."""
    dropped = without or "255.255.255.255/32"
    return lambda w: w.edit(
        "route_tables",
        lambda table: replace(table, routes=(*(r for r in table.routes if r.destination != network(dropped)), *routes)),
        where(region=region),
    )


def route(destination: str, target: RouteTarget, via: str = "") -> CloudRoute:
    return CloudRoute(network(destination), target, via)


def without_rule(region: str, name: str) -> Callable[[CloudWorld], CloudWorld]:
    return lambda w: w.rules(region, lambda rules: tuple(rule for rule in rules if rule.name != name))


def with_rule(region: str, rule: SecurityRule) -> Callable[[CloudWorld], CloudWorld]:
    return lambda w: w.rules(region, lambda rules: (rule, *rules))


def with_sources(region: str, name: str, *sources: str) -> Callable[[CloudWorld], CloudWorld]:
    return lambda w: w.rules(
        region,
        lambda rules: tuple(
            replace(rule, sources=tuple(map(network, sources))) if rule.name == name else rule for rule in rules
        ),
    )


@dataclass(frozen=True)
class Fault:
    """A way to break the cloud: what must be violated by it (and nothing else), and what the first verdict says."""

    name: str
    world: Callable[[], CloudWorld]
    break_it: Callable[[CloudWorld], CloudWorld]
    violates: tuple[str, ...]
    says: tuple[str, ...]


FAULTS = [
    # Networks and the way out
    Fault(
        "a second network",
        aws,
        lambda w: w.telling(networks=(*w.networks.networks, Network(OHIO, network("10.77.0.0/16"), ()))),
        ("NET-UNDR-001",),
        (f"region {OHIO}", "10.1.0.0/16 and 10.77.0.0/16"),
    ),
    Fault(
        "no network", aws, lambda w: w.edit("networks", gone, where(region=OHIO)), ("NET-UNDR-001",), ("no network",)
    ),
    Fault("no default route", aws, rerouted(WEST, without="0.0.0.0/0"), ("NET-UNDR-002",), ("no default route",)),
    Fault(
        "default route to a peering",
        aws,
        rerouted(WEST, route("0.0.0.0/0", RouteTarget.PEERING, f"pcx-{EAST}-{WEST}"), without="0.0.0.0/0"),
        ("NET-UNDR-002",),
        (f"goes into peering pcx-{EAST}-{WEST}",),
    ),
    Fault(
        "gateway of another region",
        aws,
        rerouted(WEST, route("0.0.0.0/0", RouteTarget.INTERNET, f"igw-{EAST}"), without="0.0.0.0/0"),
        ("NET-UNDR-002",),
        (f"igw-{EAST} of {EAST}",),
    ),
    Fault(
        "gateway that is gone",
        aws,
        rerouted(WEST, route("0.0.0.0/0", RouteTarget.INTERNET, "igw-old"), without="0.0.0.0/0"),
        ("NET-UNDR-002",),
        ("igw-old, which is not there",),
    ),
    Fault(
        "gateway detached",
        aws,
        lambda w: w.edit("gateways", lambda g: replace(g, network_attached=False), where(region=OHIO)),
        ("NET-UNDR-002",),
        ("not attached",),
    ),
    Fault(
        "no public address",
        azure,
        lambda w: w.edit("instances", lambda i: replace(i, public_address=None), where(node="crdb-westus-node2")),
        ("NET-UNDR-002",),
        ("crdb-westus-node2", "none beside 10.2.1.5"),
    ),
    Fault(
        "no table for the subnet",
        aws,
        lambda w: w.edit("route_tables", lambda t: replace(t, subnets=()), where(region=EAST)),
        ("NET-UNDR-002", "NET-UNDR-004"),
        ("10.0.1.0/24", "main table"),
    ),
    # Peerings
    Fault(
        "peering not accepted",
        aws,
        lambda w: w.edit(
            "peerings", lambda p: replace(p, active=False, state="pending-acceptance"), where(name=f"pcx-{EAST}-{OHIO}")
        ),
        ("NET-UNDR-003",),
        (f"pcx-{EAST}-{OHIO} is pending-acceptance", "has not accepted it"),
    ),
    Fault(
        "peering at one end only",
        azure,
        lambda w: w.edit("peerings", gone, where(region=WESTUS, peer_region=EASTUS)).edit(
            "peerings",
            lambda p: replace(p, active=False, state="Initiated"),
            where(region=EASTUS, peer_region=WESTUS),
        ),
        ("NET-UNDR-003", "NET-UNDR-004"),
        ("eastus-westus-peer is Initiated",),
    ),
    Fault(
        "peering with a network that was made again",
        aws,
        lambda w: w.edit(
            "peerings",
            lambda p: replace(p, peer_network=network("10.9.0.0/16")),
            where(region=EAST, peer_region=OHIO),
        ),
        ("NET-UNDR-003",),
        ("leads to 10.9.0.0/16", "10.1.1.0/24"),
    ),
    Fault(
        "forwarded traffic forbidden",
        azure,
        lambda w: w.edit(
            "peerings", lambda p: replace(p, allows_forwarded=False), where(region=EASTUS, peer_region=EUROPE)
        ),
        ("NET-UNDR-005",),
        ("eastus-northeurope-peer", "allowForwardedTraffic is off"),
    ),
    Fault(
        "traffic forbidden",
        azure,
        lambda w: w.edit("peerings", lambda p: replace(p, allows_traffic=False), where(region=WESTUS)),
        ("NET-UNDR-005",),
        ("allowVirtualNetworkAccess is off",),
    ),
    # Routes to the other regions
    Fault("no route", aws, rerouted(EAST, without="10.1.0.0/16"), ("NET-UNDR-004",), ("igw-us-east-1", "is missing")),
    Fault(
        "wrong peering",
        aws,
        rerouted(EAST, route("10.1.0.0/16", RouteTarget.PEERING, f"pcx-{EAST}-{WEST}"), without="10.1.0.0/16"),
        ("NET-UNDR-004",),
        (f"pcx-{EAST}-{WEST}, which leads to {WEST}", "10.1.1.0/24 of us-east-2"),
    ),
    Fault(
        "wrong peering for a part of the subnet",
        aws,
        rerouted(EAST, route("10.1.1.128/25", RouteTarget.PEERING, f"pcx-{EAST}-{WEST}")),
        ("NET-UNDR-004",),
        ("10.1.1.128/25 of us-east-2", f"leads to {WEST}"),
    ),
    Fault(
        "peering that is not there",
        aws,
        rerouted(EAST, route("10.1.0.0/16", RouteTarget.PEERING, "pcx-old"), without="10.1.0.0/16"),
        ("NET-UNDR-004",),
        (f"pcx-old, which {EAST} does not have",),
    ),
    Fault(
        "black hole",
        aws,
        rerouted(EAST, route("10.1.1.0/24", RouteTarget.NOWHERE)),
        ("NET-UNDR-004",),
        ("10.1.1.0/24 is a dead end",),
    ),
    Fault(
        "black hole that nobody needs",
        azure,
        rerouted(EASTUS, route("10.78.0.0/16", RouteTarget.NOWHERE)),
        ("NET-UNDR-004",),
        ("10.78.0.0/16 is a dead end",),
    ),
    Fault(
        "route by an instance",
        aws,
        rerouted(EAST, route("10.1.1.0/24", RouteTarget.INSTANCE, "nat-1")),
        ("NET-UNDR-004",),
        ("goes to instance nat-1",),
    ),
    # What must be let in
    Fault("no rule for pings", aws, without_rule(EAST, "ping"), ("NET-UNDR-006",), ("ICMP type 8 code 0", EAST)),
    Fault(
        "no rule for the tunnel",
        aws,
        without_rule(OHIO, "vxlan"),
        ("NET-UNDR-010",),
        ("UDP 4789 from 10.0.1.0/24, 10.1.1.0/24 and 10.2.1.0/24 kept out by default",),
    ),
    Fault(
        "tunnel from a part of a subnet only",
        aws,
        with_sources(OHIO, "vxlan", "10.0.1.0/24", "10.1.1.0/24", "10.2.1.0/25"),
        ("NET-UNDR-010",),
        ("UDP 4789 from 10.2.1.128/25 kept out", "rule vxlan lets it in from"),
    ),
    Fault(
        "another tunnel's port",
        aws,
        lambda w: with_rule(OHIO, SecurityRule("vxlan", True, UDP, (network("10.0.0.0/8"),), ports=(8472, 8472)))(
            without_rule(OHIO, "vxlan")(w)
        ),
        ("NET-UNDR-010",),
        ("opens UDP 8472, which is another tunnel's port",),
    ),
    Fault(
        "the port for the protocol",
        aws,
        lambda w: with_rule(OHIO, SecurityRule("tunnel", True, TCP, (network("10.0.0.0/8"),), ports=(4, 4)))(
            without_rule(OHIO, "ipip")(replace(w, plan=replace(w.plan, encapsulation=Encapsulation.IPIP)))
        ),
        ("NET-UNDR-010",),
        ("IP-in-IP (protocol 4)", "rule tunnel opens port 4 of TCP or UDP"),
    ),
    Fault("no rule for BGP", aws, without_rule(OHIO, "bgp"), ("NET-UNDR-009", "NET-UNDR-018"), ("TCP 179",)),
    Fault(
        "BGP from the own region only",
        aws,
        with_sources(OHIO, "bgp", "10.1.1.0/24"),
        ("NET-UNDR-009",),
        ("TCP 179 from 10.0.1.0/24 and 10.2.1.0/24 kept out", "lets it in from 10.1.1.0/24 only"),
    ),
    Fault(
        "API for operators only",
        aws,
        with_sources(WEST, "kubernetes-api", "198.51.100.20/32", "10.2.1.0/24"),
        ("NET-UNDR-011",),
        ("TCP 6443 from 10.0.1.0/24 and 10.1.1.0/24",),
    ),
    Fault("no rule for kubelets", aws, without_rule(WEST, "kubelet"), ("NET-UNDR-018",), ("kubelet", "TCP 10250")),
    Fault("no rule for sizes", aws, without_rule(WEST, "path-mtu"), ("NET-MTU-002",), ("ICMP type 3 code 4",)),
    Fault(
        "custom deny above the networks' own rule",
        azure,
        with_rule(EASTUS, SecurityRule("Harden", False, UDP, (ANYBODY,), priority=4000)),
        ("NET-UNDR-010",),
        ("UDP 8472", "kept out by rule Harden"),
    ),
    # What must not be
    Fault(
        "etcd open to the world",
        aws,
        with_rule(OHIO, SecurityRule("debug", True, TCP, (ANYBODY,), ports=(2379, 2379))),
        ("NET-UNDR-014",),
        ("rule debug lets in TCP 2379 (etcd) from 0.0.0.0/0", "everybody"),
    ),
    Fault(
        "one half of the world",
        aws,
        with_rule(OHIO, SecurityRule("debug", True, TCP, (network("128.0.0.0/1"),), ports=(2000, 3000))),
        ("NET-UNDR-014",),
        ("TCP 2379 (etcd) and TCP 2380 (etcd) from 128.0.0.0/1",),
    ),
    Fault(
        "IP-in-IP from the world",
        aws,
        with_rule(OHIO, SecurityRule("tunnel", True, IPIP, (ANYBODY,))),
        ("NET-UNDR-014",),
        ("IP-in-IP (protocol 4) (the tunnel)",),
    ),
    Fault(
        "everything from everybody",
        aws,
        with_rule(OHIO, SecurityRule("allow-all", True, None, (ANYBODY,))),
        ("NET-UNDR-014", "NET-UNDR-015"),
        ("TCP 26257 (the database)", "UDP 8472 (the tunnel)", "TCP 179 (BGP)"),
    ),
    Fault(
        "SSH open to the world",
        azure,
        with_sources(EUROPE, "NsgRuleSSH", "0.0.0.0/0"),
        ("NET-UNDR-015", "NET-UNDR-013"),
        ("SSH", "open to 0.0.0.0/0", "everybody"),
    ),
    Fault(
        "API open to a neighbour of the operator",
        aws,
        with_sources(WEST, "kubernetes-api", "198.51.100.16/28", "10.0.0.0/8"),
        ("NET-UNDR-015",),
        ("the Kubernetes API", "198.51.100.16/28", "wider than the plan's"),
    ),
    Fault(
        "a rule more",
        azure,
        with_rule(EASTUS, SecurityRule("Debug", True, TCP, (OPERATOR,), ports=(8080, 8081), priority=350)),
        ("NET-UNDR-013",),
        ("rule Debug", "lets in TCP 8080-8081 from 198.51.100.20/32"),
    ),
    Fault(
        "a port more",
        azure,
        lambda w: w.rules(
            EASTUS, lambda rules: (replace(r, ports=(30000, 32768)) if r.ports == (30000, 32767) else r for r in rules)
        ),
        ("NET-UNDR-013",),
        ("lets in TCP 32768 from",),
    ),
    Fault(
        "a rule less",
        azure,
        without_rule(EASTUS, "NsgRulek8sAPI"),
        ("NET-UNDR-013",),
        ("keeps out TCP 6443", "missing"),
    ),
    Fault(
        "a planned rule behind a deny",
        azure,
        with_rule(EASTUS, SecurityRule("NoSsh", False, TCP, (OPERATOR,), ports=(22, 22), priority=99)),
        ("NET-UNDR-013",),
        ("keeps out TCP 22 from 198.51.100.20/32", "rule NoSsh"),
    ),
    # Foreign addresses
    Fault(
        "pods across subnets only are encapsulated",
        aws,
        lambda w: replace(
            w,
            addressing=replace(
                w.addressing,
                pools=tuple(
                    replace(p, encapsulation_mode="cross-subnet") if p.region == OHIO and not p.disabled else p
                    for p in w.addressing.pools
                ),
            ),
        ),
        ("NET-UNDR-016",),
        (OHIO, "cross-subnet", "drops every packet with a pod address"),
    ),
    Fault(
        "pods of another region are not encapsulated",
        aws,
        lambda w: replace(
            w,
            addressing=replace(
                w.addressing,
                pools=tuple(
                    replace(p, encapsulation="none", encapsulation_mode="never")
                    if p.region == OHIO and p.disabled
                    else p
                    for p in w.addressing.pools
                ),
            ),
        ),
        ("NET-UNDR-016",),
        ("pool pool-us-east-1 (192.168.0.0/18) does not encapsulate",),
    ),
]


@pytest.mark.parametrize("world", [aws, azure])
def test_what_is_as_planned_is_met(world: Callable[[], CloudWorld]) -> None:
    unmet = {name: verdict for name, verdict in verdicts(world()).items() if verdict.outcome is not Outcome.MET}
    assert not unmet


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_deviation_violates_what_speaks_of_it_and_nothing_else(fault: Fault) -> None:
    world = fault.break_it(fault.world())
    assert violated(world) == set(fault.violates)
    verdict = verdicts(world)[fault.violates[0]]
    told = " ".join(f"{f.subject} {f.expected} {f.observed} {f.cause or ''}" for f in verdict.findings)
    for words in fault.says:
        assert words in told


def test_every_judge_can_say_violated() -> None:
    assert {requirement for fault in FAULTS for requirement in fault.violates} == set(JUDGES)


@pytest.mark.parametrize("requirement", JUDGES)
def test_nothing_is_met_without_facts(requirement: str) -> None:
    world = azure() if requirement in ("NET-UNDR-005", "NET-UNDR-013") else aws()
    nothing = world.telling(**{family.name: () for family in fields(world.networks)})
    assert JUDGES[requirement](nothing).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("requirement", JUDGES)
def test_a_region_that_could_not_be_read_leaves_the_requirement_open(requirement: str) -> None:
    world = azure() if requirement in ("NET-UNDR-005", "NET-UNDR-013") else aws()
    region = world.plan.regions[1].name
    unread = world.telling(
        **{
            family.name: tuple(item for item in getattr(world.networks, family.name) if item.region != region)
            for family in fields(world.networks)
            if family.name != "gaps"
        }
    ).telling(gaps=(Gap(region, "the network and its subnets", "AccessDenied"),))
    verdict = JUDGES[requirement](unread)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "AccessDenied" in " ".join(finding.observed for finding in verdict.findings)


@pytest.mark.parametrize(
    ("requirement", "collection", "change"),
    [
        ("NET-UNDR-005", "peerings", {"allows_traffic": None}),
        ("NET-UNDR-013", "instances", {"groups": ()}),
        ("NET-UNDR-014", "instances", {"groups": ("unknown",)}),
        ("NET-UNDR-016", "instances", {"forwards_foreign": None}),
    ],
)
def test_what_the_cloud_does_not_tell_is_not_met(requirement: str, collection: str, change: dict) -> None:
    world = azure() if requirement in ("NET-UNDR-005", "NET-UNDR-013") else aws()
    assert JUDGES[requirement](world.edit(collection, lambda item: replace(item, **change))).outcome is (
        Outcome.INCONCLUSIVE
    )


def test_a_missing_instance_leaves_the_rules_open() -> None:
    world = aws().edit("instances", gone, where(node="us-east-1-node-2"))
    verdict = verdicts(world)["NET-UNDR-010"]
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "3 were" in verdict.findings[0].observed


def test_without_operators_in_the_plan_only_what_is_certainly_wrong_is_violated() -> None:
    unplanned = azure().planned(operators=())
    assert {name for name, verdict in verdicts(unplanned).items() if verdict.outcome is not Outcome.MET} == {
        "NET-UNDR-013",
        "NET-UNDR-015",
    }
    assert not violated(unplanned)
    assert "NET-UNDR-015" in violated(with_sources(EASTUS, "NsgRuleSSH", "0.0.0.0/0")(unplanned))


def test_the_source_check_may_be_off_in_place_of_tunnels() -> None:
    bare = replace(aws(), addressing=replace(aws().addressing, pools=tuple(
        replace(pool, encapsulation="none", encapsulation_mode="never") for pool in aws().addressing.pools
    )))  # fmt: skip
    assert violated(bare) == {"NET-UNDR-016"}
    assert not violated(bare.edit("instances", lambda i: replace(i, forwards_foreign=True)))


@pytest.mark.parametrize("destination", ["10.0.1.0/24", "10.1.1.0/24"])
def test_a_route_may_be_as_narrow_as_the_subnet(destination: str) -> None:
    """The guide's commands have the subnets, its drawing the whole networks: both carry every packet."""
    region, other = (WEST, EAST) if destination.startswith("10.0") else (WEST, OHIO)
    narrow = rerouted(
        region,
        route(destination, RouteTarget.PEERING, f"pcx-{other}-{region}"),
        without=str(aws().plan.region(other).network),
    )(aws())
    assert not violated(narrow)


def test_routes_of_the_cloud_for_unused_private_ranges_are_no_dead_ends() -> None:
    unused = [route(text, RouteTarget.NOWHERE) for text in ("10.0.0.0/8", "192.168.0.0/16", "100.64.0.0/10")]
    assert not violated(rerouted(EASTUS, *unused)(azure()))


def test_an_instance_without_public_address_is_not_exposed() -> None:
    opened = with_rule(OHIO, SecurityRule("debug", True, TCP, (ANYBODY,), ports=(2379, 2379)))(aws())
    hidden = opened.edit("instances", lambda i: replace(i, public_address=None), where(region=OHIO))
    assert "NET-UNDR-014" not in violated(hidden)


def test_networks_that_nobody_planned_are_remarked_on() -> None:
    world = aws().telling(networks=(*aws().networks.networks, Network("eu-west-1", network("10.9.0.0/16"), ())))
    verdict = verdicts(world)["NET-UNDR-001"]
    assert verdict.outcome is Outcome.MET
    assert "eu-west-1" in verdict.warnings[0]


def test_a_group_for_some_nodes_only_is_judged_for_those() -> None:
    """A node may have a group of its own, as a bastion has."""
    world = aws()
    first = world.networks.instances[0]
    group = next(group for group in world.networks.security_groups if group.region == first.region)
    extra = replace(group, name="bastion", rules=(SecurityRule("any", True, None, (ANYBODY,)),))
    world = world.telling(security_groups=(*world.networks.security_groups, extra)).edit(
        "instances", lambda i: replace(i, groups=(*i.groups, "bastion")), lambda i: i == first
    )
    findings = verdicts(world)["NET-UNDR-014"].findings
    assert [finding.subject for finding in findings] == ["us-east-1: security group bastion with mesh-nodes"]


def test_plans_without_encapsulation_need_no_rule_for_it() -> None:
    world = replace(aws(), plan=replace(aws().plan, encapsulation=Encapsulation.NONE))
    assert verdicts(world)["NET-UNDR-010"].outcome is Outcome.NOT_APPLICABLE


def test_a_foreign_instance_in_the_network_does_no_harm() -> None:
    """A jump host in the subnet is no node, but it is guarded like one."""
    jump = Instance(EAST, "", address("10.0.1.99"), None, forwards_foreign=True, groups=("mesh-nodes",))
    world = aws().telling(instances=(*aws().networks.instances, jump))
    assert violated(world) == {"NET-UNDR-002"}


def test_what_a_security_group_keeps_out_is_the_underlays_trouble() -> None:
    """Whichever requirement it breaks: sizes are not to be looked at when it is a rule that is missing."""
    assert verdicts(without_rule(WEST, "path-mtu")(aws()))["NET-MTU-002"].layer is Layer.UNDERLAY


def test_every_kind_of_icmp_is_let_in_by_a_rule_for_all_of_it() -> None:
    world = aws()
    for region in (EAST, OHIO, WEST):
        for name in ("ping", "path-mtu"):
            world = without_rule(region, name)(world)
        world = with_rule(region, SecurityRule("icmp", True, ICMP, (network("10.0.0.0/8"),)))(world)
    assert not violated(world)
