"""A whole mesh as facts: perfect as the plan has it, and every way to break it that a judge must notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

from analysis.facts import (
    Addressing,
    AgentHealth,
    Block,
    BulkTransfer,
    ClusterIdentity,
    Component,
    Components,
    Datapath,
    EgressProbe,
    Endpoint,
    Federation,
    FibRoute,
    FilterSet,
    Forwarding,
    Inventory,
    Link,
    MeshConfiguration,
    Mtu,
    Network,
    Networks,
    Node,
    NodeOverride,
    PathMtu,
    PathQuality,
    Paths,
    Peering,
    Pod,
    Pool,
    Probe,
    ProbeOutcome,
    ProbeProtocol,
    ReachabilityMatrix,
    Refusal,
    RegionPairQuality,
    RibRoute,
    Routing,
    Service,
    ServiceProbe,
    Session,
)
from analysis.plan import Plan
from provision.lab.topology import LabNode, LabTopology, aws_calico

TUNNEL = "vxlan.calico"
TCP_PORT = 30123
LOOPBACK_OK = True


@dataclass(frozen=True)
class World:
    """The plan, and facts of every family."""

    plan: Plan
    inventory: Inventory
    networks: Networks
    addressing: Addressing
    configuration: MeshConfiguration
    routing: Routing
    forwarding: Forwarding
    reachability: ReachabilityMatrix
    paths: Paths
    quality: PathQuality
    components: Components
    federation: Federation = field(default_factory=Federation)
    mtu: Mtu = field(default_factory=Mtu)

    def edit(self, family: str, collection: str, change: Callable, where: Callable = lambda item: True) -> World:
        """A world in which `change` was applied to the items that `where` picks; items changed to None are gone.

        Raises AssertionError when there was nothing to change: a test that breaks nothing proves nothing.
        """
        facts = getattr(self, family)
        items = getattr(facts, collection)
        assert any(where(item) for item in items), f"nothing to change in {family}.{collection}"
        changed = [change(item) if where(item) else item for item in items]
        kept = tuple(item for item in changed if item is not None)
        return replace(self, **{family: replace(facts, **{collection: kept})})

    def add(self, family: str, collection: str, *items: object) -> World:
        """A world with more of something."""
        facts = getattr(self, family)
        return replace(self, **{family: replace(facts, **{collection: (*getattr(facts, collection), *items)})})


def gone(_item: object) -> None:
    """A change: the item is gone."""


def perfect(*, regions: int = 3, nodes: int = 4, pods_per_node: int = 1) -> World:
    """Facts of the `aws-calico` lab, as they are when nothing is wrong."""
    topology = aws_calico("demo", regions=regions, nodes=nodes)
    matrix = _matrix(topology, pods_per_node)
    inventory = _inventory(topology, matrix)
    return World(
        plan=topology.plan,
        inventory=inventory,
        networks=Networks(
            tuple(Network(region.name, region.plan.network, (region.plan.node_cidr,)) for region in topology.regions)
        ),
        addressing=_addressing(topology),
        configuration=_configuration(topology),
        routing=Routing(_sessions(topology), _rib(topology)),
        forwarding=_forwarding(topology),
        reachability=matrix,
        paths=_paths(topology, matrix),
        quality=PathQuality(
            tuple(
                RegionPairQuality(a.name, b.name, 50, 0.0006, 0.0004, 9e8, 1e9)
                for a, b in topology.plan.ordered_pairs()
            )
        ),
        components=_components(topology),
        mtu=packet_sizes(topology.plan, matrix),
    )


def key(node: LabNode) -> dict[str, str]:
    return {"region": node.region, "node": node.name}


def _inventory(topology: LabTopology, matrix: ReachabilityMatrix) -> Inventory:
    return Inventory(
        nodes=tuple(
            Node(
                node.region,
                node.name,
                node.address,
                True,
                labels=(("kubernetes.io/os", "linux"), *([("route-reflector", "true")] if node.is_reflector else [])),
            )
            for node in topology.nodes
        ),
        pods=(
            *(
                Pod(end.region, "meshproof", end.name, end.node, end.address, end.on_host, "Running", True)
                for end in matrix.endpoints
            ),
            Pod("us-east-1", "default", "pending", None, None, False, "Pending", False),
        ),
        services=tuple(
            service
            for region in topology.regions
            for service in (
                Service(region.name, "default", "kubernetes", region.plan.service_cidr[1], "ClusterIP"),
                Service(region.name, "kube-system", "kube-dns", region.plan.dns_address, "ClusterIP"),
                Service(region.name, "default", "headless", None, "ClusterIP"),
            )
        ),
    )


def _addressing(topology: LabTopology) -> Addressing:
    pools = []
    for region in topology.plan.regions:
        pools.append(Pool(region.name, "default-ipv4-ippool", region.pod_cidr, False, True, "vxlan", "always", 26))
        for other in topology.plan.others(region.name):
            for name, cidr in (("fed-ipv4", other.pod_cidr), ("fed-serviceips", other.service_cidr)):
                pools.append(Pool(region.name, f"{name}-{other.name}", cidr, True, False, "vxlan", "always", 26))
    blocks = tuple(
        Block(node.region, node.block, node.name, addresses=(node.tunnel_address, node.block[1]))
        for node in topology.nodes
    )
    return Addressing(tuple(pools), blocks)


def _configuration(topology: LabTopology) -> MeshConfiguration:
    plan = topology.plan
    reflector = {region.name: region.nodes[0] for region in topology.regions}
    return MeshConfiguration(
        identities=tuple(
            ClusterIdentity(
                region.name,
                as_number=region.as_number,
                full_node_mesh=False,
                advertised_service_cidrs=(region.service_cidr,),
                accepted_tunnel_sources=tuple(other.node_cidr for other in plan.others(region.name)),
            )
            for region in plan.regions
        ),
        node_overrides=tuple(
            NodeOverride(region.name, reflector[region.name].name, None, region.cluster_id) for region in plan.regions
        ),
        peerings=tuple(
            peering
            for region in plan.regions
            for peering in (
                Peering(
                    region.name,
                    "peer-with-route-reflectors",
                    node_selector="all()",
                    peer_selector="route-reflector == 'true'",
                ),
                *(
                    Peering(
                        region.name,
                        f"remote-rr-{other.name}",
                        node_selector="route-reflector == 'true'",
                        peer_ip=reflector[other.name].address,
                        as_number=other.as_number,
                        keep_next_hop=True,
                    )
                    for other in plan.others(region.name)
                ),
            )
        ),
    )


def _session(node: LabNode, peer: LabNode, as_numbers: dict[str, int | None]) -> Session:
    return Session(
        node.region,
        node.name,
        f"Node_{str(peer.address).replace('.', '_')}",
        peer.address,
        as_numbers[peer.region],
        "Established",
        local_as=as_numbers[node.region],
        reflector_client=node.is_reflector and peer.region == node.region,
        hold_time=3.0,
    )


def _sessions(topology: LabTopology) -> tuple[Session, ...]:
    as_numbers = {region.name: region.plan.as_number for region in topology.regions}
    reflectors = [node for node in topology.nodes if node.is_reflector]
    pairs = [(a, b) for a in reflectors for b in reflectors if a is not b]
    for node in topology.nodes:
        reflector = topology.region(node.region).nodes[0]
        if node is not reflector:
            pairs += [(node, reflector), (reflector, node)]
    return tuple(_session(a, b, as_numbers) for a, b in pairs)


def _rib(topology: LabTopology) -> tuple[RibRoute, ...]:
    routes = []
    for node in topology.nodes:
        reflector = topology.region(node.region).nodes[0]
        here = key(node)
        routes.append(RibRoute(**here, prefix=node.block, protocol="static1", kind="blackhole", best=True))
        for other in topology.nodes:
            if other is node:
                continue
            as_path = () if other.region == node.region else (topology.region(other.region).plan.as_number,)
            prefixes = [other.block]
            if other.region != node.region and other.is_reflector:
                prefixes.append(topology.region(other.region).plan.service_cidr)
            sender = topology.region(other.region).nodes[0] if node.is_reflector else reflector
            routes += [
                RibRoute(
                    **here,
                    prefix=prefix,
                    protocol=f"Node_{str(sender.address).replace('.', '_')}",
                    kind="unicast",
                    best=True,
                    from_bgp=True,
                    next_hop=other.address,
                    as_path=as_path,
                    learned_from=sender.address,
                )
                for prefix in prefixes
            ]
    return tuple(routes)


def tunnel_route(node: LabNode, prefix: IPv4Network, owner: LabNode) -> FibRoute:
    """A route as the lab's nodes hold it: through the tunnel device to the owner's end of the tunnel."""
    return FibRoute(
        **key(node),
        prefix=prefix,
        kind="unicast",
        protocol="bird",
        gateways=((owner.tunnel_address, TUNNEL),),
        tunnel_endpoints=(owner.address,),
        onlink=True,
        metric=32,
    )


def _forwarding(topology: LabTopology) -> Forwarding:
    routes, links, sets = [], [], []
    for node in topology.nodes:
        here, region = key(node), topology.region(node.region)
        links += [
            Link(**here, name="eth0", kind="veth", mtu=1500, up=True, addresses=(node.address,)),
            Link(**here, name=TUNNEL, kind="vxlan", mtu=1450, up=True, addresses=(node.tunnel_address,)),
            Link(**here, name="cali0123456789a", kind="veth", mtu=1450, up=True),
        ]
        routes += [
            FibRoute(
                **here,
                prefix=IPv4Network("0.0.0.0/0"),
                kind="unicast",
                protocol="static",
                gateways=((region.gateway, "eth0"),),
            ),
            FibRoute(
                **here, prefix=region.plan.node_cidr, kind="unicast", protocol="kernel", gateways=((None, "eth0"),)
            ),
            FibRoute(**here, prefix=node.block, kind="blackhole", protocol="bird", metric=32),
            FibRoute(
                **here,
                prefix=IPv4Network(node.block[1]),
                kind="unicast",
                protocol="boot",
                gateways=((None, "cali0123456789a"),),
            ),
        ]
        for other in topology.nodes:
            if other is not node:
                host = IPv4Network(other.tunnel_address)
                routes.append(tunnel_route(node, other.block, other))
                routes.append(
                    FibRoute(
                        **here,
                        prefix=host,
                        kind="unicast",
                        protocol="boot",
                        gateways=((None, TUNNEL),),
                        tunnel_endpoints=(None,),
                    )
                )
        routes += [
            tunnel_route(node, other.plan.service_cidr, other.nodes[0])
            for other in topology.regions
            if other is not region
        ]
        foreign = tuple(other.node_cidr for other in topology.plan.others(node.region))
        local = tuple(IPv4Network(other.address) for other in region.nodes)
        sets.append(FilterSet(**here, name="cali40all-vxlan-net", members=(*local, *foreign)))
    return Forwarding(tuple(routes), tuple(links), tuple(sets))


def _matrix(topology: LabTopology, pods_per_node: int) -> ReachabilityMatrix:
    endpoints = [
        Endpoint(node.region, node.name, f"probe-{node.alias}-{index}", node.block[2 + index])
        for node in topology.nodes
        for index in range(pods_per_node)
    ]
    endpoints += [Endpoint(node.region, node.name, f"node-{node.alias}", node.address, True) for node in topology.nodes]
    icmp, tcp, udp, is_open = ProbeProtocol.ICMP, ProbeProtocol.TCP, ProbeProtocol.UDP, ProbeOutcome.OPEN
    probes = []
    for a, source in enumerate(endpoints):
        for b, target in enumerate(endpoints):
            if a == b or source.on_host != target.on_host or source.node == target.node:
                continue
            ttl = 64 if source.on_host and source.region == target.region else 62
            probes.append(Probe(a, b, icmp, 0, is_open, 0.0004, ttl=ttl))
            probes.append(Probe(a, b, tcp, TCP_PORT, is_open, 0.0005, seen_source=source.address))
            probes.append(Probe(a, b, udp, TCP_PORT, is_open, 0.0005, seen_source=source.address))
    agents = tuple(AgentHealth(index, LOOPBACK_OK) for index in range(len(endpoints)))
    return ReachabilityMatrix(tuple(endpoints), tuple(probes), agents)


def _components(topology: LabTopology) -> Components:
    return Components(
        tuple(
            Component(region.name, name, True, wanted, wanted, "v3.24.5")
            for region in topology.regions
            for name, wanted in (("calico-node", len(region.nodes)), ("calico-typha", 1))
        ),
        tuple(
            Datapath(node.region, node.name, "tunnel", "vxlan", 4789, 4096, masquerades=True) for node in topology.nodes
        ),
    )


def _paths(topology: LabTopology, matrix: ReachabilityMatrix) -> Paths:
    pods = [end for end in matrix.endpoints if not end.on_host]
    addresses = {node.name: node.address for node in topology.nodes}
    services = tuple(
        ServiceProbe(pod, region.name, region.dns_address, protocol, ProbeOutcome.OPEN, "coredns")
        for pod in pods
        for region in topology.plan.others(pod.region)
        for protocol in (ProbeProtocol.TCP, ProbeProtocol.UDP)
    )
    egress = topology.plan.egress
    return Paths(
        services,
        tuple(EgressProbe(pod, egress.address, egress.port, ProbeOutcome.OPEN, addresses[pod.node]) for pod in pods),
    )


def packet_sizes(plan: Plan, matrix: ReachabilityMatrix) -> Mtu:
    """Paths between regions that take 1450 bytes between pods and 1500 between nodes, and transfers that flow."""

    def path(source: Endpoint, target: Endpoint) -> PathMtu:
        size = 1500 if source.on_host else 1450
        return PathMtu(source, target, size, None, size, size + 1, Refusal.LOCAL, reported=size, segment=size - 52)

    ends = matrix.endpoints
    last = {end.region: end for end in ends if not end.on_host}.values()
    return Mtu(
        tuple(path(a, b) for a in ends for b in ends if a.region != b.region and a.on_host is b.on_host),
        tuple(BulkTransfer(a, b, plan.bulk_bytes, plan.bulk_bytes, 0.4, 0.02, 0) for a in last for b in last if a != b),
    )


def address(text: str) -> IPv4Address:
    return IPv4Address(text)


def network(text: str) -> IPv4Network:
    return IPv4Network(text)
