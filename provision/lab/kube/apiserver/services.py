"""Cluster IPs: every Service that needs one gets a free address of the cluster's service range."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from provision.lab.kube.apiserver.errors import ApiError, invalid
from provision.lab.kube.apiserver.resources import SERVICES
from provision.lab.kube.apiserver.store import Store

RESERVED = 16
"""The first addresses of the range are for well-known services (kubernetes, kube-dns) that name theirs."""


class ServiceAddresses:
    """Assigns cluster IPs. Without a range, services keep the address that they name, or have none."""

    def __init__(self, store: Store, network: IPv4Network | None) -> None:
        self._store = store
        self._network = network

    def assign(self, service: dict[str, Any]) -> None:
        """Give the service its cluster IP, in place, unless it needs none.

        Raises:
            ApiError: 422, the address it names is taken; 500, the range is used up.
        """
        spec = service["spec"]
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
