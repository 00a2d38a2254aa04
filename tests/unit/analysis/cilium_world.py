"""A whole Cilium mesh as facts: three clusters of three servers each, perfect as the plan has it."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network

from analysis.facts import (
    Access,
    AccessTrial,
    Addressing,
    AgentHealth,
    Block,
    ClusterIdentity,
    Component,
    Components,
    Credential,
    Datapath,
    DnsForward,
    EgressProbe,
    Endpoint,
    Federation,
    FibRoute,
    Forwarding,
    GlobalService,
    Inventory,
    KnownIdentity,
    KnownNode,
    Link,
    MeshConfiguration,
    Network,
    Networks,
    Node,
    NodeHealth,
    PathQuality,
    Paths,
    Pod,
    Pool,
    Probe,
    ProbeOutcome,
    ProbeProtocol,
    ReachabilityMatrix,
    RegionPairQuality,
    RemoteCluster,
    RemoteSetting,
    Routing,
    Service,
    ServiceProbe,
    StoreCertificate,
    StoreContent,
    StoreKnock,
)
from analysis.plan import Budgets, Cni, DatabasePlan, EgressTarget, Encapsulation, Plan, RegionPlan
from tests.unit.analysis.world import TCP_PORT, World, packet_sizes

NAMES = ("eastus", "westus", "northeurope")
SERVICES = IPv4Network("10.43.0.0/16")
CLUSTER_DNS = SERVICES[10]
TUNNEL = "cilium_vxlan"
AUTHORITY = "ca" * 32
DNS_NODE_PORT = 31000
OPEN = ProbeOutcome.OPEN


def cluster(region: str) -> str:
    """The name of a region's cluster."""
    return f"crdb-cilium-{region}"


def plan(nodes: int = 3) -> Plan:
    """The plan of the published environment on Azure."""
    return Plan(
        name="demo",
        profile="azure-cilium",
        cni=Cni.CILIUM_CLUSTERMESH,
        encapsulation=Encapsulation.VXLAN,
        regions=tuple(
            RegionPlan(
                name=name,
                network=IPv4Network(f"10.{index}.0.0/16"),
                node_cidr=IPv4Network(f"10.{index}.1.0/24"),
                pod_cidr=IPv4Network(f"10.{9 + index}.0.0/16"),
                service_cidr=SERVICES,
                dns_address=CLUSTER_DNS,
                node_count=nodes,
                block_size=24,
                cluster_id=str(index),
                cluster_name=cluster(name),
            )
            for index, name in enumerate(NAMES, start=1)
        ),
        services_routed=False,
        budgets=Budgets(convergence=timedelta(seconds=30)),
        database=DatabasePlan(namespaces=tuple((name, name) for name in NAMES)),
        egress=EgressTarget(IPv4Address("198.51.100.10"), 80),
    )


class _Mesh:
    """Nodes and blocks of the plan, for those who fill the families."""

    def __init__(self, nodes: int) -> None:
        self.plan = plan(nodes)
        servers = {"node-role.kubernetes.io/etcd": "true", "node-role.kubernetes.io/control-plane": "true"}
        arguments = '["server","--flannel-backend","none","--disable-network-policy"]'
        self.nodes = [
            Node(
                region.name,
                f"crdb-{region.name}-node{number}",
                region.node_cidr[3 + number],
                True,
                labels=tuple(servers.items()),
                annotations=(("k3s.io/node-args", arguments),),
                conditions=(("EtcdIsVoter", "True"), ("Ready", "True")),
            )
            for region in self.plan.regions
            for number in range(1, nodes + 1)
        ]
        self.blocks = {
            node.name: list(region.pod_cidr.subnets(new_prefix=24))[number]
            for region in self.plan.regions
            for number, node in enumerate(self.of(region.name))
        }

    def of(self, region: str) -> list[Node]:
        return [node for node in self.nodes if node.region == region]

    def others(self, region: str) -> list[Node]:
        return [node for node in self.nodes if node.region != region]


def perfect_cilium(*, nodes: int = 3, pods_per_node: int = 1) -> World:
    """Facts of the `azure-cilium` lab, as they are when nothing is wrong."""
    mesh = _Mesh(nodes)
    matrix = _matrix(mesh, pods_per_node)
    return World(
        plan=mesh.plan,
        inventory=_inventory(mesh, matrix),
        networks=Networks(tuple(Network(r.name, r.network, (r.node_cidr,)) for r in mesh.plan.regions if r.network)),
        addressing=Addressing(
            tuple(
                Pool(r.name, "cluster-pool", r.pod_cidr, False, True, "vxlan", "always", 24) for r in mesh.plan.regions
            ),
            tuple(Block(node.region, mesh.blocks[node.name], node.name) for node in mesh.nodes),
        ),
        configuration=_configuration(mesh),
        routing=Routing((), ()),
        forwarding=_forwarding(mesh),
        reachability=matrix,
        paths=_paths(mesh, matrix),
        quality=PathQuality(
            tuple(RegionPairQuality(a.name, b.name, 50, 0.0006, 0.0004, 9e8, 1e9) for a, b in mesh.plan.ordered_pairs())
        ),
        components=_components(mesh),
        federation=_federation(mesh),
        mtu=packet_sizes(mesh.plan, matrix),
    )


def _inventory(mesh: _Mesh, matrix: ReachabilityMatrix) -> Inventory:
    regions = enumerate(mesh.plan.regions)
    return Inventory(
        tuple(mesh.nodes),
        (
            *(
                Pod(end.region, "meshproof", end.name, end.node, end.address, end.on_host, "Running", True)
                for end in matrix.endpoints
            ),
            *(
                Pod(
                    node.region,
                    "kube-system",
                    f"cilium-{number:05}",
                    node.name,
                    node.internal_ip,
                    True,
                    "Running",
                    True,
                )
                for number, node in enumerate(mesh.nodes)
            ),
        ),
        tuple(
            service
            for index, region in regions
            for service in (
                Service(region.name, "kube-system", "kube-dns", CLUSTER_DNS, "ClusterIP", (53,)),
                Service(
                    region.name,
                    "kube-system",
                    "clustermesh-apiserver",
                    SERVICES[100 + index],
                    "NodePort",
                    (2379,),
                    (32379 + index,),
                ),
            )
        ),
    )


def _configuration(mesh: _Mesh) -> MeshConfiguration:
    return MeshConfiguration(
        identities=tuple(
            ClusterIdentity(r.name, cluster_id=int(r.cluster_id or 0), cluster_name=r.cluster_name)
            for r in mesh.plan.regions
        ),
        dns_forwards=tuple(
            DnsForward(
                region.name,
                f"{other.name}.svc.cluster.local",
                tuple((node.internal_ip, DNS_NODE_PORT) for node in mesh.of(other.name) if node.internal_ip),
            )
            for region, other in mesh.plan.ordered_pairs()
        ),
    )


def _forwarding(mesh: _Mesh) -> Forwarding:
    routes, links = [], []
    for node in mesh.nodes:
        here = {"region": node.region, "node": node.name}
        gateway = mesh.plan.region(node.region).node_cidr[1]
        links += [
            Link(**here, name="eth0", kind="veth", mtu=1500, up=True),
            Link(**here, name=TUNNEL, kind="vxlan", mtu=1500, up=True, port=8472),
        ]
        default = IPv4Network("0.0.0.0/0")
        routes.append(
            FibRoute(**here, prefix=default, kind="unicast", protocol="static", gateways=((gateway, "eth0"),))
        )
        routes += [
            FibRoute(
                **here,
                prefix=mesh.blocks[other.name],
                kind="unicast",
                protocol="tunnel-map",
                gateways=((mesh.blocks[other.name][1], TUNNEL),),
                tunnel_endpoints=(other.internal_ip,),
            )
            for other in mesh.nodes
            if other is not node
        ]
    return Forwarding(tuple(routes), tuple(links))


def _matrix(mesh: _Mesh, pods_per_node: int) -> ReachabilityMatrix:
    endpoints = [
        Endpoint(node.region, node.name, f"probe-{node.name}-{number}", mesh.blocks[node.name][20 + number])
        for node in mesh.nodes
        for number in range(pods_per_node)
    ]
    endpoints += [Endpoint(n.region, n.name, n.name, n.internal_ip, True) for n in mesh.nodes if n.internal_ip]
    probes = []
    for a, source in enumerate(endpoints):
        for b, target in enumerate(endpoints):
            if source.on_host == target.on_host and source.node != target.node:
                probes.append(Probe(a, b, ProbeProtocol.ICMP, 0, OPEN, 0.0004, ttl=63))
                for protocol in (ProbeProtocol.TCP, ProbeProtocol.UDP):
                    probes.append(Probe(a, b, protocol, TCP_PORT, OPEN, 0.0005, seen_source=source.address))
    return ReachabilityMatrix(
        tuple(endpoints), tuple(probes), tuple(AgentHealth(index, True) for index in range(len(endpoints)))
    )


def _paths(mesh: _Mesh, matrix: ReachabilityMatrix) -> Paths:
    pods = [end for end in matrix.endpoints if not end.on_host]
    own = {node.name: node.internal_ip for node in mesh.nodes}
    egress = mesh.plan.egress
    assert egress is not None
    return Paths(
        tuple(
            ServiceProbe(pod, region.name, CLUSTER_DNS, protocol, OPEN, pod.region)
            for pod in pods
            for region in mesh.plan.regions
            for protocol in (ProbeProtocol.TCP, ProbeProtocol.UDP)
        ),
        tuple(EgressProbe(pod, egress.address, egress.port, OPEN, own[pod.node]) for pod in pods),
    )


def _components(mesh: _Mesh) -> Components:
    return Components(
        (
            *(
                Component(region.name, name, True, wanted, wanted, "1.16.5")
                for region in mesh.plan.regions
                for name, wanted in (("cilium", len(mesh.of(region.name))), ("cilium-operator", 1))
            ),
            *(Component(region.name, "clustermesh-apiserver", True, 2, 2, "1.16.5") for region in mesh.plan.regions),
            *(
                Component(node.region, f"cilium-agent on {node.name}", True, version="1.16.5", message="Ok")
                for node in mesh.nodes
            ),
        ),
        tuple(
            Datapath(
                node.region,
                node.name,
                "tunnel",
                "vxlan",
                8472,
                masquerades=True,
                not_masqueraded=(mesh.plan.region(node.region).pod_cidr,),
            )
            for node in mesh.nodes
        ),
    )


def _federation(mesh: _Mesh) -> Federation:
    ports = {region.name: 32379 + index for index, region in enumerate(mesh.plan.regions)}
    pairs = mesh.plan.ordered_pairs()
    links = [(node, other) for node in mesh.nodes for other in mesh.plan.others(node.region)]
    return Federation(
        remotes=tuple(
            RemoteCluster(
                node.region,
                node.name,
                cluster(other.name),
                True,
                True,
                True,
                nodes=len(mesh.of(other.name)),
                cluster_id=int(other.cluster_id or 0),
                message="etcd: 1/1 connected",
            )
            for node, other in links
        ),
        settings=tuple(
            RemoteSetting(
                region.name,
                cluster(other.name),
                f"{cluster(other.name)}.mesh.cilium.io",
                ports[other.name],
                tuple(node.internal_ip for node in mesh.of(other.name) if node.internal_ip),
                ("ca", "certificate", "key"),
                (AUTHORITY,),
            )
            for region, other in pairs
        ),
        certificates=tuple(
            StoreCertificate(
                target.name,
                source.name,
                f"{cluster(target.name)}.mesh.cilium.io",
                ("clustermesh-apiserver.cilium.io", "*.mesh.cilium.io", "127.0.0.1"),
                True,
                issuer="CN=Cilium CA",
                not_after="2029-11-22T00:00:00Z",
            )
            for source, target in pairs
        ),
        trials=tuple(
            AccessTrial(target.name, source.name, credential, access, allowed)
            for source, target in pairs
            for credential, access, allowed in (
                (Credential.REMOTE, Access.READ, True),
                (Credential.REMOTE, Access.WRITE, False),
                (Credential.NONE, Access.CONNECT, False),
                (Credential.FOREIGN, Access.CONNECT, False),
                (Credential.PLAIN, Access.CONNECT, False),
            )
        ),
        knocks=tuple(
            StoreKnock(node.region, node.name, cluster(other.name), remote.internal_ip, ports[other.name], OPEN)
            for node, other in links
            for remote in mesh.of(other.name)
            if remote.internal_ip
        ),
        contents=tuple(
            StoreContent(region.name, cluster(region.name), kind, 3)
            for region in mesh.plan.regions
            for kind in ("nodes", "endpoints", "identities")
        ),
        nodes=tuple(
            KnownNode(
                agent.region,
                agent.name,
                cluster(node.region),
                node.name,
                node.internal_ip,
                (mesh.blocks[node.name],),
            )
            for agent in mesh.nodes
            for node in mesh.nodes
        ),
        identities=tuple(
            KnownIdentity(agent.region, agent.name, cluster(region.name), 6)
            for agent in mesh.nodes
            for region in mesh.plan.regions
        ),
        health=tuple(
            NodeHealth(agent.region, agent.name, cluster(node.region), node.name, True)
            for agent in mesh.nodes
            for node in mesh.nodes
        ),
        services=tuple(
            GlobalService(region.name, "demo", "front", tuple((cluster(name), 2) for name in NAMES))
            for region in mesh.plan.regions
        ),
    )
