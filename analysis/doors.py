"""Which ports of nodes must be open to whom: what follows from the plan and from what the clusters list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from analysis.expectation import reflectors
from analysis.facts import Door, Endpoint, Inventory, Node
from analysis.fleet import Stand
from analysis.plan import Cni, Plan

CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
TYPHA_LABEL = ("k8s-app", "calico-typha")
STORE_SERVICE = ("kube-system", "clustermesh-apiserver")

PORTS = {
    Door.SSH: (22,),
    Door.API_SERVER: (6443,),
    Door.KUBELET: (10250,),
    Door.ETCD: (2379, 2380),
    Door.BGP: (179,),
    Door.TYPHA: (5473,),
    Door.HEALTH: (4240,),
}
"""TCP ports by what is behind them. Those of the mesh store and of the database are configured."""

ADMINISTRATION = (Door.SSH, Door.API_SERVER)
CLOSED_TO_THE_INTERNET = (Door.KUBELET, Door.ETCD, Door.BGP, Door.TYPHA, Door.HEALTH)


@dataclass(frozen=True)
class Knocker:
    """A port of a node to be knocked at, and the node that does."""

    source: Endpoint
    target: Endpoint
    door: Door
    port: int


@dataclass(frozen=True)
class Doors:
    """What there is to knock at.

    Attributes:
        endpoints: all nodes that have an address.
        knockers: the knocks between nodes.
        control_planes: addresses of the nodes that an API server runs on.
        stores: ports of the mesh store on nodes, by region; none where the store is the API server.
        database: ports of the database.
    """

    endpoints: tuple[Endpoint, ...]
    knockers: tuple[Knocker, ...]
    control_planes: frozenset[IPv4Address]
    stores: tuple[int, ...]
    database: tuple[int, ...]

    def outside(self, stand: Stand, node: IPv4Address) -> Iterator[tuple[Door, int]]:
        """What is tried from outside: what the operator must be able to open, and what nobody else may."""
        if stand is Stand.OPERATOR:
            for door in ADMINISTRATION:
                if door is not Door.API_SERVER or node in self.control_planes:
                    yield from ((door, port) for port in PORTS[door])
            return
        for door in CLOSED_TO_THE_INTERNET:
            yield from ((door, port) for port in PORTS[door])
        yield from ((Door.MESH_STORE, port) for port in self.stores)
        yield from ((Door.DATABASE, port) for port in self.database)


def plan_doors(plan: Plan, inventory: Inventory) -> Doors:
    """The knocks that follow from what clusters list.

    Nodes of one cluster need each other's kubelet and health port, their control planes' API server and etcd, and
    Typha; nodes of different clusters need the mesh store. Reflectors need those of other clusters; that the others
    knock there too shows what a silence means where BGP is signed.
    """
    ends = [
        Endpoint(node.region, node.name, node.name, node.internal_ip, on_host=True)
        for node in inventory.nodes
        if node.internal_ip is not None
    ]
    servers = _ends_of(ends, (node for node in inventory.nodes if node.label(CONTROL_PLANE) is not None))
    mirrors = {region.name: _ends_of(ends, reflectors(plan, inventory, region.name)) for region in plan.regions}
    typha = {
        (pod.region, pod.node) for pod in inventory.pods if TYPHA_LABEL in pod.labels and pod.host_network and pod.node
    }
    stores = {
        service.region: service.node_ports
        for service in inventory.services
        if (service.namespace, service.name) == STORE_SERVICE
    }
    knockers: list[Knocker] = []
    calico = plan.cni is Cni.CALICO_BGP
    for source in ends:
        neighbours = [end for end in ends if end.region == source.region and end != source]
        strangers = [end for end in ends if end.region != source.region]
        knockers += _knock(source, neighbours, Door.KUBELET)
        knockers += _knock(source, (end for end in neighbours if end in servers), Door.API_SERVER)
        if source in servers:
            knockers += _knock(source, (end for end in neighbours if end in servers), Door.ETCD)
        if calico:
            knockers += _knock(source, (end for end in neighbours if (end.region, end.node) in typha), Door.TYPHA)
            knockers += _knock(source, (end for end in strangers if end in mirrors[end.region]), Door.BGP)
            knockers += _knock(
                source, (end for end in strangers if end in servers), Door.MESH_STORE, PORTS[Door.API_SERVER]
            )
        else:
            knockers += _knock(source, neighbours, Door.HEALTH)
            for end in strangers:
                knockers += _knock(source, (end,), Door.MESH_STORE, stores.get(end.region, ()))
    return Doors(
        endpoints=tuple(ends),
        knockers=tuple(knockers),
        control_planes=frozenset(end.address for end in servers),
        stores=tuple(sorted({port for ports in stores.values() for port in ports})),
        database=plan.database.ports if plan.database else (),
    )


def _knock(
    source: Endpoint, targets: Iterable[Endpoint], door: Door, ports: tuple[int, ...] | None = None
) -> Iterator[Knocker]:
    for target in targets:
        yield from (Knocker(source, target, door, port) for port in (PORTS[door] if ports is None else ports))


def _ends_of(ends: Iterable[Endpoint], nodes: Iterable[Node]) -> list[Endpoint]:
    names = {(node.region, node.name) for node in nodes}
    return [end for end in ends if (end.region, end.node) in names]
