"""kube-proxy: Services and EndpointSlices become nftables rules, the same on every node of a cluster.

A packet to a ClusterIP is sent on to one endpoint. When it does not come from a pod of the own cluster (a node, or
another cluster whose routes lead here) its source becomes this node's, so that the answer finds its way back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from provision.lab import kernel
from provision.lab.kube.client import KubeObject, Reflector, synced

log = logging.getLogger(__name__)

TABLE = "ip kube-proxy"
SETTLE_S = 0.05
RETRY_S = 1.0
_MASQUERADE_MARK = "0x4000"
_PROTOCOLS = ("TCP", "UDP")


@dataclass(frozen=True, order=True)
class ServicePort:
    """One port of a Service and the endpoints behind it.

    Attributes:
        protocol: "tcp" or "udp".
        node_port: the port on every node, or None.
    """

    name: str
    address: IPv4Address
    protocol: str
    port: int
    node_port: int | None
    endpoints: tuple[tuple[IPv4Address, int], ...]


def service_ports(services: Iterable[KubeObject], slices: Iterable[KubeObject]) -> tuple[ServicePort, ...]:
    """The ports of all Services that have a ClusterIP, with their ready endpoints."""
    by_service: dict[tuple[str, str], list[KubeObject]] = {}
    for endpoint_slice in slices:
        meta = endpoint_slice["metadata"]
        service = (meta.get("labels") or {}).get("kubernetes.io/service-name", "")
        by_service.setdefault((meta["namespace"], service), []).append(endpoint_slice)
    found = []
    for service in services:
        meta, spec = service["metadata"], service["spec"]
        if spec.get("clusterIP") in (None, "", "None"):
            continue
        for port in spec.get("ports") or ():
            protocol = port.get("protocol", "TCP")
            if protocol in _PROTOCOLS:
                behind = _endpoints(by_service.get((meta["namespace"], meta["name"]), ()), port.get("name"), protocol)
                found.append(
                    ServicePort(
                        name=f"{meta['namespace']}/{meta['name']}",
                        address=IPv4Address(spec["clusterIP"]),
                        protocol=protocol.lower(),
                        port=int(port["port"]),
                        node_port=port.get("nodePort"),
                        endpoints=tuple(sorted(set(behind))),
                    )
                )
    return tuple(sorted(found, key=lambda each: (each.name, each.protocol, each.port)))


def _endpoints(slices: Iterable[KubeObject], port_name: str | None, protocol: str) -> Iterator[tuple[IPv4Address, int]]:
    for endpoint_slice in slices:
        for port in endpoint_slice.get("ports") or ():
            if (port.get("name") or "") != (port_name or "") or port.get("protocol", "TCP") != protocol:
                continue
            for endpoint in endpoint_slice.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready", True):
                    for address in endpoint["addresses"]:
                        yield IPv4Address(address), int(port["port"])


def proxy_table(ports: Iterable[ServicePort], pod_cidr: IPv4Network) -> str:
    """The nftables table of every node of a cluster.

    Args:
        ports: what to forward.
        pod_cidr: the cluster's pods, whose packets keep their source.
    """
    served, unserved, on_nodes, chains = [], [], [], []
    for port in ports:
        key = f"{port.address} . {port.protocol} . {port.port}"
        if not port.endpoints:
            unserved.append(key)
            continue
        chain = f"service-{port.address}-{port.protocol}-{port.port}"
        served.append(f"{key} : goto {chain}")
        if port.node_port is not None:
            on_nodes.append(f"{port.protocol} . {port.node_port} : goto nodeport-{port.protocol}-{port.node_port}")
            chains.append(
                f"    chain nodeport-{port.protocol}-{port.node_port} {{\n"
                f"        meta mark set meta mark or {_MASQUERADE_MARK}\n        goto {chain}\n    }}"
            )
        chains += _service_chains(chain, port, pod_cidr)
    blank = "\n"
    return f"""\
table {TABLE} {{
    map service-ips {{
        type ipv4_addr . inet_proto . inet_service : verdict
{_elements(served)}    }}
    map service-nodeports {{
        type inet_proto . inet_service : verdict
{_elements(on_nodes)}    }}
    set no-endpoint-services {{
        type ipv4_addr . inet_proto . inet_service
{_elements(unserved)}    }}
{blank.join(chains)}
    chain services {{
        ip daddr . meta l4proto . th dport vmap @service-ips
        fib daddr type local meta l4proto . th dport vmap @service-nodeports
    }}
    chain nat-prerouting {{
        type nat hook prerouting priority dstnat
        jump services
    }}
    chain nat-output {{
        type nat hook output priority -100
        jump services
    }}
    chain nat-postrouting {{
        type nat hook postrouting priority srcnat
        meta mark and {_MASQUERADE_MARK} == 0 return
        meta mark set meta mark xor {_MASQUERADE_MARK}
        masquerade
    }}
    chain no-endpoints {{
        ip daddr . meta l4proto . th dport @no-endpoint-services reject
    }}
    chain filter-forward {{
        type filter hook forward priority filter
        jump no-endpoints
    }}
    chain filter-output {{
        type filter hook output priority filter
        jump no-endpoints
    }}
}}
"""


def _service_chains(chain: str, port: ServicePort, pod_cidr: IPv4Network) -> list[str]:
    choices = ", ".join(f"{number} : goto {chain}-{number}" for number in range(len(port.endpoints)))
    chains = [
        f"    chain {chain}-{number} {{\n"
        # A pod that reaches itself by way of a service would answer itself directly, and not recognise the answer.
        f"        ip saddr {address} meta mark set meta mark or {_MASQUERADE_MARK}\n"
        f"        meta l4proto {port.protocol} dnat to {address}:{target}\n    }}"
        for number, (address, target) in enumerate(port.endpoints)
    ]
    chains.append(
        f"    chain {chain} {{ # {port.name}\n"
        f"        ip saddr != {pod_cidr} meta mark set meta mark or {_MASQUERADE_MARK}\n"
        f"        numgen random mod {len(port.endpoints)} vmap {{ {choices} }}\n    }}"
    )
    return chains


def _elements(elements: list[str]) -> str:
    return f"        elements = {{ {', '.join(elements)} }}\n" if elements else ""


class ServiceProxy:
    """kube-proxy on all nodes of one cluster.

    Args:
        services: reflector of Services.
        slices: reflector of EndpointSlices.
        node_namespaces: the nodes' network namespaces.
        pod_cidr: the cluster's pod range.
    """

    def __init__(
        self, services: Reflector, slices: Reflector, node_namespaces: Iterable[str], pod_cidr: IPv4Network
    ) -> None:
        self._services = services
        self._slices = slices
        self._nodes = tuple(node_namespaces)
        self._pod_cidr = pod_cidr

    async def run(self, fabric_ready: asyncio.Event) -> None:
        """Run until cancelled; the kernel is not touched before `fabric_ready`. The reflectors are run by others."""
        changed = asyncio.Event()
        for reflector in (self._services, self._slices):
            reflector.add_handler(lambda _change: changed.set())
        await synced(self._services, self._slices)
        await fabric_ready.wait()
        changed.set()
        loaded = ""
        while True:
            await changed.wait()
            await asyncio.sleep(SETTLE_S)
            changed.clear()
            table = proxy_table(service_ports(self._services, self._slices), self._pod_cidr)
            if table == loaded:
                continue
            try:
                await asyncio.gather(
                    *(asyncio.to_thread(kernel.load_rules, node, TABLE, table) for node in self._nodes)
                )
            except kernel.KernelError as error:
                log.warning("%s", error)
                await asyncio.sleep(RETRY_S)
                changed.set()
                continue
            loaded = table
