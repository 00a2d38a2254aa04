"""What the lab's cloud does to packets beyond carrying them, as nftables rules of a VPC's router.

Two tables, both called `vpc`. In the bridge, on the nodes' ports: the source/destination check and the security group.
In the IP layer, on the legs to elsewhere: the internet gateway, which translates public addresses one to one, and what
Azure's peerings let in. `provision.lab.cloud_facts` reads them back, so what is changed here by hand is a fact at once.

A security group is stateful: what belongs to a connection that the instance began passes. Many kernels have no
connection tracking in bridges, so the instances' own packets are noted in a set, turned round, and what comes in is
looked up there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

from analysis.facts import SecurityGroup, SecurityRule
from provision.lab.topology import AZURE, CILIUM_PORT, INTERNET, OPERATOR, VXLAN_PORT, LabRegion, LabTopology

SUBNET_BRIDGE = "subnet"
"""The router's bridge that the nodes of the region are plugged into."""

TABLE = "vpc"
CHECKED = "checked"
"""The set of ports whose node may only send and receive under its own address."""

PUBLIC = "public"
"""The map from instances' addresses to their public ones."""

TRAFFIC, FORWARDED = "allowVirtualNetworkAccess", "allowForwardedTraffic"
"""Azure's words for what a peering lets in: the other network's packets, and those that it only passes on."""

NOT_TRANSITIVE = "peerings are not transitive"

ANYBODY = IPv4Network("0.0.0.0/0")
FIRST_BUILTIN_PRIORITY = 65000
NODE_PORTS = (30000, 32767)
PROBE_PORTS = (20257, 20258)
"""Where probes in the nodes' network listen, so that nodes can be compared with pods."""

TCP, UDP, ICMP, IPIP = 6, 17, 1, 4

_LINK_LOCAL = "169.254.0.0/16"
_LOAD_BALANCER = IPv4Network("168.63.129.16/32")
"""From where Azure's load balancers look whether an instance is alive."""

_TCP_IDLE, _UDP_IDLE, _PING_IDLE = "1h", "3m", "30s"
_TCP_OVER = "10s"


def security_group(topology: LabTopology, region: LabRegion) -> SecurityGroup:
    """The group that guards the region's nodes: what the published environments need, and from nobody else."""
    name = f"crdb-{region.name}-nsg" if topology.cloud == AZURE else "mesh-nodes"
    rules = _azure_rules(topology) if topology.cloud == AZURE else _aws_rules(topology, region)
    return SecurityGroup(region.name, name, tuple(rules))


def peering_name(topology: LabTopology, region: str, other: str) -> str:
    """What a peering is called where `region` looks at it: AWS has one name for it, Azure one for each end."""
    if topology.cloud == AZURE:
        return f"{region}-{other}-peer"
    first, second = sorted((region, other), key=[each.name for each in topology.regions].index)
    return f"pcx-{first}-{second}"


def gateway_name(topology: LabTopology, region: str) -> str:
    """What the region's way out is called."""
    return f"crdb-{region}-internet" if topology.cloud == AZURE else f"igw-{region}"


def tables(topology: LabTopology, region: LabRegion) -> dict[str, str]:
    """The router's tables as `nft` reads them, by family and name."""
    return {f"bridge {TABLE}": _ports(topology, region), f"ip {TABLE}": _legs(topology, region)}


def rule_text(rule: SecurityRule) -> str:
    """A security group's rule as `nft` reads it; its comment bears the name, and before it the priority if any."""
    words = []
    if ANYBODY not in rule.sources:
        words.append(f"ip saddr {_one_of(map(str, rule.sources))}")
    if rule.icmp is not None:
        kind, code = rule.icmp
        words += [f"icmp type {kind}", *([] if code is None else [f"icmp code {code}"])]
    elif rule.ports is not None:
        first, last = rule.ports
        protocol = {TCP: "tcp", UDP: "udp"}[rule.protocol or TCP]
        words.append(f"{protocol} dport {first if first == last else f'{first}-{last}'}")
    elif rule.protocol is not None:
        words.append(f"ip protocol {rule.protocol}")
    name = rule.name if rule.priority is None else f"{rule.priority} {rule.name}"
    return " ".join([*words, "counter", "accept" if rule.allow else "drop", f'comment "{name}"'])


def _ports(topology: LabTopology, region: LabRegion) -> str:
    group = security_group(topology, region)
    ports = [f'"{node.alias}"' for node in region.nodes]
    instances = (f'"{node.alias}" . {node.address}' for node in region.nodes)
    lines = "\n".join(f"        {rule_text(rule)}" for rule in group.rules)
    return f"""\
table bridge {TABLE} {{
    set instances {{
        type ifname . ipv4_addr
        elements = {{ {", ".join(instances)} }}
    }}
    set {CHECKED} {{
        type ifname
        elements = {{ {", ".join(ports)} }}
    }}
    set connections {{
        type ipv4_addr . inet_proto . inet_service . ipv4_addr . inet_service
        size 65536
        flags dynamic,timeout
        timeout {_TCP_IDLE}
    }}
    set pings {{
        type ipv4_addr . ipv4_addr
        size 65536
        flags dynamic,timeout
        timeout {_PING_IDLE}
    }}
    chain source {{
        type filter hook prerouting priority -300
        iifname @{CHECKED} iifname . ip saddr != @instances counter drop
        iifname "node-*" jump began
    }}
    chain began {{
        udp dport {{ {VXLAN_PORT}, {CILIUM_PORT} }} return comment "no connections, as ports of tunnels differ each way"
        tcp flags & (fin | rst) == 0 update @connections {{ {_turned_round("tcp")} timeout {_TCP_IDLE} }}
        tcp flags & (fin | rst) != 0 update @connections {{ {_turned_round("tcp")} timeout {_TCP_OVER} }}
        ip protocol udp update @connections {{ {_turned_round("udp")} timeout {_UDP_IDLE} }}
        icmp type echo-request update @pings {{ ip daddr . ip saddr }}
    }}
    chain destination {{
        type filter hook postrouting priority 300
        oifname @{CHECKED} oifname . ip daddr != @instances counter drop
        ether type != ip accept
        ip frag-off & 0x1fff != 0 accept comment "later fragments have no ports"
        ip saddr . ip protocol . th sport . ip daddr . th dport @connections accept
        icmp type echo-reply ip saddr . ip daddr @pings accept
        ip saddr {{ {_LINK_LOCAL}, {region.gateway} }} accept comment "the cloud's own routers"
        icmp type {{ destination-unreachable, time-exceeded }} icmp code != frag-needed accept
        oifname {_one_of(ports)} jump {group.name}
    }}
    chain {group.name} {{
{lines}
        counter drop
    }}
}}
"""


def _legs(topology: LabTopology, region: LabRegion) -> str:
    public = ", ".join(f"{node.address} : {node.public_address}" for node in region.nodes)
    private = ", ".join(f"{node.public_address} : {node.address}" for node in region.nodes)
    admissions = "\n".join(f"        {line}" for line in _admissions(topology, region))
    return f"""\
table ip {TABLE} {{
    map {PUBLIC} {{
        type ipv4_addr : ipv4_addr
        elements = {{ {public} }}
    }}
    map private {{
        type ipv4_addr : ipv4_addr
        elements = {{ {private} }}
    }}
    chain arrivals {{
        type filter hook prerouting priority -300
        iifname "{INTERNET}" ip daddr {region.plan.network} counter drop
        iifname "{INTERNET}" ip daddr set ip daddr map @private
        iifname "{INTERNET}" ip daddr {region.public_network} counter drop
    }}
    chain departures {{
        type filter hook postrouting priority 300
        oifname "{INTERNET}" ip saddr set ip saddr map @{PUBLIC}
        oifname "{INTERNET}" ip saddr {region.plan.network} counter drop
    }}
    chain peerings {{
        type filter hook forward priority 0
{admissions}
    }}
}}
"""


def _admissions(topology: LabTopology, region: LabRegion) -> Iterator[str]:
    """What comes in by a peering stays in the network. Azure's have two switches each besides; AWS's have none."""
    others = topology.neighbours(region.name)
    ends = _one_of(f'"{other.name}"' for other in others)
    yield f'iifname {ends} oifname != "{SUBNET_BRIDGE}" counter drop comment "{NOT_TRANSITIVE}"'
    if topology.cloud != AZURE:
        return
    for other in others:
        yield f'iifname "{other.name}" ip saddr {other.plan.network} accept comment "{TRAFFIC}"'
        yield f'iifname "{other.name}" ip saddr != {other.plan.network} accept comment "{FORWARDED}"'
        yield f'iifname "{other.name}" counter drop'


def _azure_rules(topology: LabTopology) -> Iterator[SecurityRule]:
    operator = (IPv4Network((OPERATOR, 32)),)
    networks = tuple(region.plan.network for region in topology.regions if region.plan.network)
    yield SecurityRule("NsgRuleSSH", True, TCP, operator, ports=(22, 22), priority=100)
    yield SecurityRule("NsgRulek8sAPI", True, TCP, operator, ports=(6443, 6443), priority=200)
    yield SecurityRule("NsgRuleNodePorts", True, TCP, operator, ports=NODE_PORTS, priority=300)
    yield SecurityRule("AllowVNetInBound", True, None, networks, priority=FIRST_BUILTIN_PRIORITY, builtin=True)
    yield SecurityRule("AllowAzureLoadBalancerInBound", True, None, (_LOAD_BALANCER,), priority=65001, builtin=True)
    yield SecurityRule("DenyAllInbound", False, None, (ANYBODY,), priority=65500, builtin=True)


def _aws_rules(topology: LabTopology, region: LabRegion) -> Iterator[SecurityRule]:
    operator = (IPv4Network((OPERATOR, 32)),)
    own = (region.plan.node_cidr,)
    nodes = tuple(each.plan.node_cidr for each in topology.regions)
    yield SecurityRule("ssh", True, TCP, operator, ports=(22, 22))
    yield SecurityRule("kubernetes-api", True, TCP, (*operator, *nodes), ports=(6443, 6443))
    yield SecurityRule("node-ports", True, TCP, operator, ports=NODE_PORTS)
    yield SecurityRule("kubelet", True, TCP, own, ports=(10250, 10250))
    yield SecurityRule("etcd", True, TCP, own, ports=(2379, 2380))
    yield SecurityRule("typha", True, TCP, own, ports=(5473, 5473))
    yield SecurityRule("bgp", True, TCP, nodes, ports=(179, 179))
    yield SecurityRule("ipip", True, IPIP, nodes)
    yield SecurityRule("vxlan", True, UDP, nodes, ports=(VXLAN_PORT, VXLAN_PORT))
    yield SecurityRule("ping", True, ICMP, nodes, icmp=(8, 0))
    yield SecurityRule("path-mtu", True, ICMP, nodes, icmp=(3, 4))
    yield SecurityRule("probes-tcp", True, TCP, nodes, ports=PROBE_PORTS)
    yield SecurityRule("probes-udp", True, UDP, nodes, ports=PROBE_PORTS)


def _turned_round(protocol: str) -> str:
    """How the answer to a packet will be addressed."""
    return f"ip daddr . ip protocol . {protocol} dport . ip saddr . {protocol} sport"


def _one_of(values: Iterable[str]) -> str:
    texts = list(values)
    return texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}"
