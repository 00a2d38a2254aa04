"""A cluster's own zone, as the `kubernetes` plugin of CoreDNS makes it of Services and EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address

from provision.lab.kube.objects import KubeObject

_SERVICE_LABEL = "kubernetes.io/service-name"
_WEIGHT = 100
"""The shares of a name's SRV records together."""


def zone_file(
    zone: str, ttl: int, server: IPv4Address, services: Iterable[KubeObject], slices: Iterable[KubeObject]
) -> str:
    """The zone in the form of RFC 1035, 5.

    Args:
        zone: its name, "cluster.local".
        ttl: of every record (s), and of the answer that there is none.
        server: the address of the cluster's DNS.
        services: all Services of the cluster.
        slices: all its EndpointSlices.
    """
    head = [
        f"$ORIGIN {zone}.",
        f"$TTL {ttl}",
        f"@ SOA ns.dns hostmaster 1 7200 1800 86400 {ttl}",
        "@ NS ns.dns",
        f"ns.dns A {server}",
    ]
    return "\n".join([*head, *sorted(set(_records(services, slices)))]) + "\n"


def _records(services: Iterable[KubeObject], slices: Iterable[KubeObject]) -> Iterator[str]:
    headless = set()
    for service in services:
        meta, spec = service["metadata"], service["spec"]
        name, address = f"{meta['name']}.{meta['namespace']}.svc", spec.get("clusterIP")
        if spec.get("externalName"):
            yield f"{name} CNAME {spec['externalName'].rstrip('.')}."
        elif address == "None":
            headless.add(name)
        elif address:
            yield f"{name} A {address}"
            yield from _ports(name, spec.get("ports") or (), [name])
    for endpoint_slice in slices:
        meta = endpoint_slice["metadata"]
        name = f"{(meta.get('labels') or {}).get(_SERVICE_LABEL, '')}.{meta['namespace']}.svc"
        hosts = []
        for endpoint in endpoint_slice.get("endpoints") or ():
            if not (endpoint.get("conditions") or {}).get("ready", True):
                continue
            for address in endpoint["addresses"]:
                hosts.append(f"{endpoint.get('hostname') or address.replace('.', '-')}.{name}")
                yield f"{hosts[-1]} A {address}"
                # The name of the Service itself leads to its endpoints only where it has no address of its own.
                if name in headless:
                    yield f"{name} A {address}"
        if name in headless:
            yield from _ports(name, endpoint_slice.get("ports") or (), hosts)


def _ports(name: str, ports: Iterable[KubeObject], hosts: list[str]) -> Iterator[str]:
    """SRV records, at the name of each port and at that of the Service, where CoreDNS gives those of all ports."""
    for port in ports:
        for host in hosts:
            target = f"SRV 0 {_WEIGHT // len(hosts)} {port['port']} {host}"
            yield f"{name} {target}"
            if port.get("name"):
                yield f"_{port['name']}._{port.get('protocol', 'TCP').lower()}.{name} {target}"
