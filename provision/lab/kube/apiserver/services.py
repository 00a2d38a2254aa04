"""Cluster IPs and node ports: every Service that needs some gets free ones of the cluster's ranges."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from provision.lab.kube.apiserver.errors import ApiError, invalid
from provision.lab.kube.apiserver.resources import SERVICES
from provision.lab.kube.apiserver.store import Store

RESERVED = 16
"""The first addresses of the range are for well-known services (kubernetes, kube-dns) that name theirs."""

NODE_PORTS = range(30086, 32768)
"""What Kubernetes takes node ports from by itself; those below are for Services that name theirs."""


class ServiceAddresses:
    """Assigns cluster IPs and node ports.

    Without a range, services keep the address that they name, or have none.
    """

    def __init__(self, store: Store, network: IPv4Network | None) -> None:
        self._store = store
        self._network = network

    def assign(self, service: dict[str, Any]) -> None:
        """Give the service its cluster IP and its node ports, in place, unless it needs none.

        Raises:
            ApiError: 422, the address it names is taken; 500, a range is used up.
        """
        spec = service["spec"]
        if spec["type"] == "NodePort":
            self._assign_node_ports(spec)
        wanted = spec.get("clusterIP")
        if spec["type"] == "ExternalName" or wanted == "None" or (self._network is None and not wanted):
            return
        taken = {stored.data["spec"].get("clusterIP") for stored in self._store.all(SERVICES.key)}
        if wanted in taken:
            problem = f'Invalid value: ["{wanted}"]: failed to allocate IP {wanted}: provided IP is already allocated'
            raise invalid("Service", "", service["metadata"]["name"], [("spec.clusterIPs", problem)])
        if not wanted and self._network is not None:
            candidates = (str(self._network[index]) for index in range(RESERVED, self._network.num_addresses - 1))
            wanted = next((address for address in candidates if address not in taken), None)
            if wanted is None:
                raise ApiError(500, "InternalError", f"no free cluster IP in {self._network}")
        spec["clusterIP"] = wanted
        spec["clusterIPs"] = [wanted]

    def _assign_node_ports(self, spec: dict[str, Any]) -> None:
        stored = (service.data["spec"].get("ports") or () for service in self._store.all(SERVICES.key))
        taken = {port.get("nodePort") for ports in (*stored, spec["ports"]) for port in ports}
        free = (number for number in NODE_PORTS if number not in taken)
        for port in spec["ports"]:
            if not port.get("nodePort"):
                number = next(free, None)
                if number is None:
                    raise ApiError(500, "InternalError", "no free node port")
                port["nodePort"] = number
