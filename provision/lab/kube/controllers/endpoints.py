"""EndpointSlices and Endpoints: which pods stand behind a Service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from provision.lab.kube.client import (
    ENDPOINT_SLICES,
    ENDPOINTS,
    SERVICES,
    AlreadyExists,
    ApiClient,
    KubeObject,
    NotFound,
    Reflector,
    Resource,
)
from provision.lab.kube.controllers.ownership import is_ready, owner_reference, short_hash
from provision.lab.kube.controllers.queue import Key
from provision.lab.kube.controllers.selectors import selects

SERVICE_LABEL = "kubernetes.io/service-name"
MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"


class EndpointsController:
    """Writes one EndpointSlice and one Endpoints object for each Service with a selector."""

    def __init__(
        self,
        client: ApiClient,
        services: Reflector,
        pods: Reflector,
        slices: Reflector,
        endpoints: Reflector,
    ) -> None:
        self._client = client
        self._services = services
        self._pods = pods
        self._slices = slices
        self._endpoints = endpoints

    async def reconcile(self, key: Key) -> None:
        """Brings the endpoints of a Service in line with its pods. Those of a Service that has gone are garbage."""
        namespace, name = key
        service = self._services.get(name, namespace)
        if service is None or not service["spec"].get("selector"):
            return
        pods = sorted(self._pods_of(service), key=lambda pod: str(pod["metadata"]["name"]))
        await self._write(ENDPOINT_SLICES, self._slices, endpoint_slice(service, pods))
        await self._write(ENDPOINTS, self._endpoints, endpoints(service, pods))

    def _pods_of(self, service: KubeObject) -> list[KubeObject]:
        namespace, selector = service["metadata"]["namespace"], {"matchLabels": service["spec"]["selector"]}
        return [
            pod
            for pod in self._pods
            if pod["metadata"]["namespace"] == namespace
            and selects(selector, pod["metadata"].get("labels"))
            and (pod.get("status") or {}).get("podIP")
            and pod["status"].get("phase") not in ("Succeeded", "Failed")
        ]

    async def _write(self, resource: Resource, known: Reflector, wanted: KubeObject) -> None:
        meta = wanted["metadata"]
        there = known.get(meta["name"], meta["namespace"])
        if there is not None and all(there.get(field) == wanted[field] for field in wanted if field != "metadata"):
            return
        try:
            if there is None:
                await self._client.create(resource, wanted)
            else:
                version = {"resourceVersion": there["metadata"]["resourceVersion"]}
                await self._client.replace(resource, wanted | {"metadata": there["metadata"] | meta | version})
        except AlreadyExists:
            await self._client.replace(resource, wanted)  # made a moment ago, and the reflector has not shown it
        except NotFound:
            await self._client.create(resource, wanted)


def endpoint_slice(service: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> KubeObject:
    """The EndpointSlice of a Service: every pod with an address, ready or not."""
    meta = service["metadata"]
    anyway = bool(service["spec"].get("publishNotReadyAddresses"))
    return {
        "metadata": {
            "name": f"{meta['name']}-{short_hash(meta['uid'])[:5]}",
            "namespace": meta["namespace"],
            "labels": {**(meta.get("labels") or {}), SERVICE_LABEL: meta["name"], MANAGER_LABEL: MANAGER},
            "ownerReferences": [owner_reference(SERVICES, service)],
        },
        "addressType": "IPv4",
        "endpoints": [_endpoint(service, pod, anyway=anyway) for pod in pods],
        "ports": slice_ports(service, pods),
    }


def slice_ports(service: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The ports of a Service as its pods have them; a named port is looked up in the first pod that has it."""
    ports = []
    for row in service["spec"].get("ports") or ():
        numbers = (number for pod in pods if (number := target_port(row, pod)) is not None)
        number = next(numbers, None)
        if number is not None or not pods:
            target = row.get("targetPort")
            number = number or (target if isinstance(target, int) else row["port"])
            ports.append({"name": row.get("name", ""), "port": number, "protocol": row.get("protocol", "TCP")})
    return ports


def target_port(port: Mapping[str, Any], pod: Mapping[str, Any]) -> int | None:
    """The number of a Service port in a pod, None when the pod has no port of the target's name."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int) or target.isdigit():
        return int(target)
    for container in pod["spec"]["containers"]:
        for row in container.get("ports") or ():
            if row.get("name") == target and row.get("protocol", "TCP") == port.get("protocol", "TCP"):
                return int(row["containerPort"])
    return None


def endpoints(service: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> KubeObject:
    """The older Endpoints object of a Service, with the same content."""
    meta = service["metadata"]
    anyway = bool(service["spec"].get("publishNotReadyAddresses"))
    groups: dict[str, list[dict[str, Any]]] = {"addresses": [], "notReadyAddresses": []}
    for pod in pods:
        ready = anyway or (is_ready(pod) and "deletionTimestamp" not in pod["metadata"])
        groups["addresses" if ready else "notReadyAddresses"].append(
            {"ip": pod["status"]["podIP"], "nodeName": pod["spec"].get("nodeName"), "targetRef": _reference(pod)}
        )
    subset: dict[str, Any] = {field: rows for field, rows in groups.items() if rows}
    if subset:
        subset["ports"] = slice_ports(service, pods)
    return {
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": dict(meta.get("labels") or {}),
            "ownerReferences": [owner_reference(SERVICES, service)],
        },
        "subsets": [subset] if subset else [],
    }


def _endpoint(service: Mapping[str, Any], pod: Mapping[str, Any], *, anyway: bool) -> dict[str, Any]:
    ready, leaving = is_ready(pod), "deletionTimestamp" in pod["metadata"]
    endpoint: dict[str, Any] = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": anyway or (ready and not leaving), "serving": ready or anyway, "terminating": leaving},
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": _reference(pod),
    }
    if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = pod["spec"]["hostname"]
    return endpoint


def _reference(pod: Mapping[str, Any]) -> dict[str, str]:
    meta = pod["metadata"]
    return {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
