"""The pods of a cluster as `kubectl get` writes them down, for what depends on who is there today."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import Any

import yaml

from analysis.policy.model import Endpoint, EndpointKind, Protocol

_ENDED = ("Succeeded", "Failed")


class InventoryError(ValueError):
    """The text is no list of objects."""


@dataclass(frozen=True)
class PodInventory:
    """Pods, and the labels that they inherit; everything is of the cluster "" (its manifests have none either)."""

    endpoints: tuple[Endpoint, ...] = ()
    namespaces: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    service_accounts: Mapping[tuple[str, str, str], Mapping[str, str]] = field(default_factory=dict)


def read_inventory(text: str) -> PodInventory:
    """Pods, namespaces and service accounts out of YAML or JSON; other objects are left aside.

    Raises:
        InventoryError: it is neither, or has no pods.
    """
    objects = list(_objects(_parsed(text)))
    pods = tuple(endpoint for each in objects if each.get("kind") == "Pod" for endpoint in _endpoint(each))
    if not pods:
        raise InventoryError(
            "there is no pod in it; `kubectl get pods,namespaces,serviceaccounts -A -o json` makes one"
        )
    return PodInventory(
        endpoints=pods,
        namespaces={("", _name(each)): _labels(each) for each in objects if each.get("kind") == "Namespace"},
        service_accounts={
            ("", str(each["metadata"].get("namespace", "")), _name(each)): _labels(each)
            for each in objects
            if each.get("kind") == "ServiceAccount"
        },
    )


def _parsed(text: str) -> list[Any]:
    try:
        if text.lstrip().startswith("{"):
            return [json.loads(text)]
        return list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (ValueError, yaml.YAMLError) as error:
        raise InventoryError(f"it cannot be read as YAML or JSON: {error}") from error


def _objects(documents: list[Any]) -> Iterator[Mapping[str, Any]]:
    for document in documents:
        if isinstance(document, Mapping) and isinstance(document.get("items"), list):
            yield from _objects(document["items"])
        elif isinstance(document, Mapping) and isinstance(document.get("metadata"), Mapping):
            yield document


def _endpoint(pod: Mapping[str, Any]) -> Iterator[Endpoint]:
    """The pod as an endpoint; nothing for one that has ended, or has no IPv4 address yet."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if status.get("phase") in _ENDED or not status.get("podIP"):
        return
    address = ip_address(status["podIP"])
    if isinstance(address, IPv4Address):
        yield Endpoint(
            name=_name(pod),
            kind=EndpointKind.HOST_POD if spec.get("hostNetwork") else EndpointKind.POD,
            address=address,
            namespace=str(pod["metadata"].get("namespace") or "default"),
            node=str(spec.get("nodeName") or ""),
            service_account=str(spec.get("serviceAccountName") or ""),
            labels=_labels(pod),
            ports=tuple(
                (str(port["name"]), Protocol(port.get("protocol") or "TCP"), int(port["containerPort"]))
                for container in spec.get("containers") or ()
                for port in container.get("ports") or ()
                if port.get("name")
            ),
        )


def _name(document: Mapping[str, Any]) -> str:
    return str(document["metadata"].get("name", ""))


def _labels(document: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in (document["metadata"].get("labels") or {}).items()}
