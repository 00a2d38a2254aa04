"""The rules of the lab's cloud, and how what a router holds is told in a cloud's words."""

import json
from ipaddress import IPv4Address, IPv4Network

import pytest

from analysis.facts import RouteTarget, SecurityRule
from provision.lab import cloud, cloud_facts
from provision.lab.topology import aws_calico, azure_cilium

AWS, AZURE = aws_calico("drawn", nodes=2), azure_cilium("drawn", nodes=2)
OPERATOR, ANYBODY = (IPv4Network("198.51.100.20/32"),), (IPv4Network("0.0.0.0/0"),)


# --- what is planned ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lab", [AWS, AZURE], ids=lambda lab: lab.cloud)
def test_only_the_operator_gets_in_from_outside(lab):
    region = lab.regions[0]
    inside = [other.plan.network for other in lab.regions]
    allowed = [
        (rule.ports, source)
        for rule in cloud.security_group(lab, region).rules
        for source in rule.sources
        if rule.allow and not rule.builtin and not any(source.subnet_of(network) for network in inside)
    ]

    assert sorted(allowed) == [(ports, *OPERATOR) for ports in ((22, 22), (6443, 6443), (30000, 32767))]


def test_aws_nodes_open_to_their_own_subnet_what_the_cluster_needs_and_to_all_nodes_what_the_mesh_needs():
    rules = {rule.name: rule for rule in cloud.security_group(AWS, AWS.regions[0]).rules}
    own, nodes = (IPv4Network("10.0.1.0/24"),), tuple(region.plan.node_cidr for region in AWS.regions)

    assert {rules[name].sources for name in ("kubelet", "etcd", "typha")} == {own}
    assert {rules[name].sources for name in ("bgp", "ipip", "vxlan", "ping", "path-mtu")} == {nodes}


def test_azure_nodes_have_the_clouds_own_rules_behind_ours():
    rules = cloud.security_group(AZURE, AZURE.regions[0]).rules

    assert [rule.priority for rule in rules] == [100, 200, 300, 65000, 65001, 65500]
    assert [rule.builtin for rule in rules] == [False] * 3 + [True] * 3
    assert (rules[-1].allow, rules[-1].sources) == (False, ANYBODY)


def test_aws_has_one_name_for_a_peering_and_azure_one_for_each_end():
    assert cloud.peering_name(AWS, "us-east-2", "us-east-1") == cloud.peering_name(AWS, "us-east-1", "us-east-2")
    assert cloud.peering_name(AZURE, "westus", "eastus") == "westus-eastus-peer"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (
            SecurityRule("NsgRuleSSH", True, 6, OPERATOR, ports=(22, 22), priority=100),
            'ip saddr 198.51.100.20/32 tcp dport 22 counter accept comment "100 NsgRuleSSH"',
        ),
        (
            SecurityRule("tunnel", True, 17, (*OPERATOR, IPv4Network("10.0.1.0/24")), ports=(4789, 4790)),
            'ip saddr { 198.51.100.20/32, 10.0.1.0/24 } udp dport 4789-4790 counter accept comment "tunnel"',
        ),
        (SecurityRule("ipip", True, 4, ANYBODY), 'ip protocol 4 counter accept comment "ipip"'),
        (SecurityRule("errors", True, 1, ANYBODY, icmp=(3, None)), 'icmp type 3 counter accept comment "errors"'),
        (SecurityRule("end", False, None, ANYBODY), 'counter drop comment "end"'),
    ],
)
def test_a_rule_as_nftables_reads_it(rule, text):
    assert cloud.rule_text(rule) == text


def test_public_addresses_are_translated_both_ways():
    (region, *_), legs = AWS.regions, cloud.tables(AWS, AWS.regions[0])["ip vpc"]

    assert f"{region.nodes[1].address} : {region.nodes[1].public_address}" in legs
    assert f"{region.nodes[1].public_address} : {region.nodes[1].address}" in legs


# --- what is told -------------------------------------------------------------------------------------------------


def link(name, *flags, **more):
    return {"ifname": name, "flags": list(flags or ("UP", "LOWER_UP")), **more}


def match(subject, value, op="=="):
    protocol, field = subject.split()
    left = {"meta": {"key": field}} if protocol == "meta" else {"payload": {"protocol": protocol, "field": field}}
    return {"match": {"op": op, "left": left, "right": value}}


def rule(chain, *expr, comment=None, family="bridge", handle=7):
    named = {"comment": comment} if comment else {}
    return {"rule": {"family": family, "table": "vpc", "chain": chain, "handle": handle, **named, "expr": list(expr)}}


ACCEPT, DROP, COUNTER = {"accept": None}, {"drop": None}, {"counter": {"packets": 1, "bytes": 60}}
LINKS = (
    link("lo"),
    link("subnet"),
    link("node-1", master="subnet", ifalias="crdb-eastus-node1"),
    link("node-2", master="subnet", ifalias="crdb-eastus-node2"),
    link("westus", ifalias="eastus-westus-peer"),
    link("internet", ifalias="crdb-eastus-internet"),
)
ROUTES = (
    {"dst": "default", "gateway": "169.254.200.2", "dev": "internet", "flags": []},
    {"type": "blackhole", "dst": "10.1.0.0/16", "flags": []},
    {"dst": "10.1.1.0/24", "dev": "subnet", "protocol": "kernel", "scope": "link", "flags": []},
    {"dst": "10.2.0.0/16", "gateway": "169.254.100.2", "dev": "westus", "flags": []},
)
GUARD = rule(
    "destination", match("meta oifname", {"set": ["node-1", "node-2"]}), {"jump": {"target": "crdb-eastus-nsg"}}
)
TRAFFIC = rule(
    "peerings", match("meta iifname", "westus"), match("ip saddr", "10.2.0.0/16"), ACCEPT, family="ip", comment="a"
)
FORWARDED = rule(
    "peerings",
    match("meta iifname", "westus"),
    match("ip saddr", "10.2.0.0/16", "!="),
    ACCEPT,
    family="ip",
    comment="b",
)
ELSE = rule("peerings", match("meta iifname", "westus"), COUNTER, DROP, family="ip")


def told(*, links=LINKS, routes=ROUTES, rules=(GUARD, TRAFFIC, FORWARDED, ELSE), subnets=("10.1.1.1",), of="azure"):
    """What a router in such a state says."""
    local = [{"local": address, "prefixlen": 24} for address in subnets]

    def elements(kind, *found):
        return {"nftables": [{"metainfo": {}}, {kind: {"elem": list(found)} if found else {}}]}

    documents = (
        list(routes),
        list(links),
        [{"ifname": "subnet", "addr_info": local}],
        {"nftables": list(rules)},
        elements("set", "node-1"),
        elements("set", {"concat": ["node-1", "10.1.1.4"]}, {"concat": ["node-2", "10.1.1.5"]}),
        elements("map", ["10.1.1.4", "198.18.0.10"]),
    )
    state = cloud_facts.read_state("eastus", "\n".join(map(json.dumps, documents)))
    return cloud_facts.networks(of, [state])


def test_a_network_is_what_leads_nowhere_but_for_its_subnets():
    assert [(found.cidr, found.subnets) for found in told().networks] == [
        (IPv4Network("10.1.0.0/16"), (IPv4Network("10.1.1.0/24"),))
    ]


def test_routes_are_told_by_where_they_lead():
    more = (
        {"dst": "10.9.0.0/16", "gateway": "10.1.1.5", "dev": "subnet", "flags": []},
        {"type": "blackhole", "dst": "10.8.0.0/16", "flags": []},
        {"dst": "10.2.0.0/16", "gateway": "10.1.1.4", "dev": "subnet", "metric": 9, "flags": []},
    )
    (table,) = told(routes=(*ROUTES, *more)).route_tables

    assert {(str(route.destination), route.target, route.via) for route in table.routes} == {
        ("0.0.0.0/0", RouteTarget.INTERNET, "crdb-eastus-internet"),
        ("10.1.0.0/16", RouteTarget.LOCAL, ""),
        ("10.2.0.0/16", RouteTarget.PEERING, "eastus-westus-peer"),
        ("10.9.0.0/16", RouteTarget.INSTANCE, "crdb-eastus-node2"),
        ("10.8.0.0/16", RouteTarget.NOWHERE, ""),
    }
    assert table.subnets == (IPv4Network("10.1.1.0/24"),)


@pytest.mark.parametrize(
    ("of", "flags", "ends"),
    [
        ("azure", ("UP", "LOWER_UP"), [("Connected", True)]),
        ("azure", ("UP", "NO-CARRIER"), [("Initiated", False)]),
        ("azure", ("BROADCAST",), []),
        ("aws", ("UP", "LOWER_UP"), [("active", True)]),
        ("aws", ("UP", "NO-CARRIER"), [("pending-acceptance", False)]),
        ("aws", ("BROADCAST",), [("pending-acceptance", False)]),
    ],
)
def test_a_peering_is_told_in_the_clouds_words(of, flags, ends):
    links = [link("westus", *flags) if each["ifname"] == "westus" else each for each in LINKS]

    assert [(end.state, end.active) for end in told(of=of, links=links).peerings] == ends


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ((TRAFFIC, FORWARDED, ELSE), (True, True)),
        ((TRAFFIC, ELSE), (True, False)),
        ((FORWARDED, ELSE), (False, True)),
        ((ELSE, TRAFFIC), (False, False)),
        ((), (True, True)),
    ],
)
def test_the_switches_of_a_peering_are_the_first_rules_that_speak_of_it(rules, allowed):
    (end,) = told(rules=rules).peerings

    assert (end.allows_traffic, end.allows_forwarded) == allowed


def test_a_gateway_without_carrier_is_not_attached():
    links = [link("internet", "UP", "NO-CARRIER") if each["ifname"] == "internet" else each for each in LINKS]
    found = told(links=links)

    assert [gateway.network_attached for gateway in found.gateways] == [False]
    assert next(route.target for route in found.route_tables[0].routes) is RouteTarget.NOWHERE


def test_instances_have_their_names_addresses_groups_and_check():
    first, second = told().instances

    assert (first.node, first.address, first.public_address) == (
        "crdb-eastus-node1",
        IPv4Address("10.1.1.4"),
        IPv4Address("198.18.0.10"),
    )
    assert (first.forwards_foreign, second.forwards_foreign, second.public_address) == (False, True, None)
    assert first.groups == second.groups == ("crdb-eastus-nsg",)


@pytest.mark.parametrize(
    ("expr", "comment", "expected"),
    [
        (
            (match("ip saddr", "198.51.100.20"), match("tcp dport", 22), COUNTER, ACCEPT),
            "100 NsgRuleSSH",
            [SecurityRule("NsgRuleSSH", True, 6, OPERATOR, ports=(22, 22), priority=100)],
        ),
        (
            (match("ip saddr", {"set": [{"range": ["10.1.0.0", "10.3.255.255"]}]}), ACCEPT),
            "65000 AllowVNetInBound",
            [
                SecurityRule(
                    "AllowVNetInBound",
                    True,
                    None,
                    (IPv4Network("10.1.0.0/16"), IPv4Network("10.2.0.0/15")),
                    priority=65000,
                    builtin=True,
                )
            ],
        ),
        (
            (match("ip protocol", 17), match("th dport", {"set": [53, {"range": [8472, 8473]}]}), ACCEPT),
            "two words",
            [
                SecurityRule("two words", True, 17, ANYBODY, ports=(53, 53)),
                SecurityRule("two words", True, 17, ANYBODY, ports=(8472, 8473)),
            ],
        ),
        (
            (match("icmp type", 3), match("icmp code", 4), ACCEPT),
            "path-mtu",
            [SecurityRule("path-mtu", True, 1, ANYBODY, icmp=(3, 4))],
        ),
        ((match("meta l4proto", 4), ACCEPT), None, [SecurityRule("rule-7", True, 4, ANYBODY)]),
        ((COUNTER, DROP), None, []),
    ],
)
def test_rules_are_told_as_a_cloud_shows_them(expr, comment, expected):
    (group,) = told(rules=(GUARD, rule("crdb-eastus-nsg", *expr, comment=comment))).security_groups

    assert list(group.rules) == expected


@pytest.mark.parametrize("strange", [match("tcp flags", 2), match("tcp dport", 22, "!=")])
def test_a_rule_that_no_cloud_has_is_a_gap_and_not_left_out(strange):
    found = told(rules=(GUARD, rule("crdb-eastus-nsg", strange, ACCEPT)))

    assert found.security_groups == ()
    assert [gap.region for gap in found.gaps] == ["eastus"]


def test_half_an_answer_is_none():
    with pytest.raises(ValueError, match="2 of 7"):
        cloud_facts.read_state("eastus", "[]\n[]")
