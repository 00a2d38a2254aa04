"""The vectors of `vectors.yaml` as worlds, flows and what is expected of them.

A vector that is not `sure` never becomes a test: the sources contradict each other there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import yaml

from analysis.policy.model import (
    Endpoint,
    EndpointKind,
    Engine,
    EngineOptions,
    Flow,
    HostEndpoint,
    NetworkSet,
    Policy,
    PolicyKind,
    Protocol,
    Service,
    Tier,
    World,
)

_DEFAULT_CLUSTERS = ("a",)


@dataclass(frozen=True)
class FlowVector:
    """A flow in a world: whether it gets through, and what decides at each end."""

    id: str
    world: World
    flow: Flow
    allowed: bool
    egress: str
    ingress: str
    layer_7: bool


@dataclass(frozen=True)
class Raw:
    """A vector of another sort: the world it speaks of, and the rest of it as it stands in the file."""

    id: str
    world: World
    fields: Mapping[str, Any]


@cache
def document() -> dict[str, Any]:
    text = Path(__file__).with_name("vectors.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded


def flow_vectors(engine: Engine) -> Iterator[FlowVector]:
    for group in document()["flow_groups"]:
        if group["engine"] != engine.value:
            continue
        world = world_of(group)
        by_name = {endpoint.name: endpoint for endpoint in world.endpoints}
        for each in group["flows"]:
            if each["sure"]:
                allowed = each["verdict"] == "allow"
                yield FlowVector(
                    id=each["id"],
                    world=world,
                    flow=Flow(
                        by_name[each["src"]],
                        by_name[each["dst"]],
                        Protocol(each["proto"]),
                        each.get("port", 0),
                        icmp_type=each.get("icmp_type", 8),
                        icmp_code=each.get("icmp_code", 0),
                    ),
                    allowed=allowed,
                    egress=each["egress"],
                    ingress=each["ingress"],
                    layer_7=bool(group.get("l7")) and allowed,
                )


def dead_rule_vectors(engine: Engine) -> Iterator[Raw]:
    """`fields["expect"]` has `selected` (endpoints), `dead` (rule, reason, by) and perhaps `effect`."""
    return _raw("dead_rule_vectors", engine)


def set_vectors(engine: Engine) -> Iterator[Raw]:
    """`fields["expect"]` has `exact_between_regions`, `open` and three verdicts in words."""
    return _raw("set_vectors", engine)


def selector_vectors() -> list[dict[str, Any]]:
    return [each for each in document()["selector_vectors"] if each["sure"]]


def relation_vectors() -> list[dict[str, Any]]:
    return [each for each in document()["relation_vectors"] if each["sure"]]


def library_policy(name: str) -> Policy:
    """A policy of the file's library, in its (first) cluster."""
    return next(_policies(name))


def _raw(section: str, engine: Engine) -> Iterator[Raw]:
    for each in document()[section]:
        if each["engine"] == engine.value and each["sure"]:
            yield Raw(each["id"], world_of(each), each)


def world_of(group: Mapping[str, Any]) -> World:
    """The file's fixture with the policies and options of a vector or a group of them."""
    fixture = document()["fixture"]
    options: Mapping[str, Any] = group.get("options", {})
    endpoints = tuple(_endpoint(each) for each in fixture["endpoints"])
    clusters = {endpoint.node: endpoint.cluster for endpoint in endpoints if endpoint.node}
    return World(
        engine=Engine(group["engine"]),
        endpoints=endpoints,
        policies=tuple(policy for entry in group["policies"] for policy in _policies(entry)),
        namespaces={tuple(key.split("/")): labels for key, labels in fixture["namespaces"].items()},
        service_accounts={
            (each.cluster, each.namespace, each.service_account): {} for each in endpoints if each.service_account
        },
        network_sets=tuple(
            NetworkSet(cluster, each["name"], tuple(each["nets"]), each["labels"], each.get("ns", ""))
            for each in options.get("networkSets", ())
            for cluster in each.get("clusters", _DEFAULT_CLUSTERS)
        ),
        tiers=tuple(
            Tier(cluster, each["name"], each.get("order"), each.get("defaultAction", "Deny"))
            for each in options.get("tiers", ())
            for cluster in each.get("clusters", _DEFAULT_CLUSTERS)
        ),
        host_endpoints=tuple(
            HostEndpoint(
                cluster=clusters[each["node"]],
                name=each["name"],
                node=each["node"],
                interface=each.get("interfaceName", ""),
                addresses=tuple(map(IPv4Address, each.get("expectedIPs", ()))),
                labels=each.get("labels", {}),
                profiles=tuple(each.get("profiles", ())),
            )
            for each in options.get("hostEndpoints", ())
        ),
        services=(*_backed_services(options), *_selecting_services(options)),
        options=EngineOptions(
            federation=options.get("federation", False),
            default_endpoint_to_host_action=options.get("defaultEndpointToHostAction", "Drop"),
            default_local_cluster=options.get("policyDefaultLocalCluster", True),
            enforcement_mode=options.get("policyEnforcementMode", "default"),
            allow_localhost=options.get("allowLocalhost", "auto"),
            cidr_match_mode=options.get("policyCIDRMatchMode", ""),
            pod_cidrs=tuple(options.get("pod_cidrs", ())),
        ),
    )


def _endpoint(fields: Mapping[str, Any]) -> Endpoint:
    return Endpoint(
        name=fields["name"],
        kind=EndpointKind(fields["type"]),
        address=IPv4Address(fields["ip"]),
        cluster=fields.get("cluster", ""),
        namespace=fields.get("ns", ""),
        node=fields.get("node", ""),
        service_account=fields.get("sa", ""),
        labels=fields.get("labels", {}),
        ports=tuple((name, *_port(text)) for name, text in fields.get("ports", {}).items()),
    )


def _policies(entry: str | Mapping[str, Any]) -> Iterator[Policy]:
    fields: Mapping[str, Any] = document()["library"][entry] if isinstance(entry, str) else entry
    specs = fields.get("specs") or [fields["spec"]]
    for cluster in fields.get("clusters", _DEFAULT_CLUSTERS):
        yield Policy(cluster, PolicyKind(fields["kind"]), fields["name"], tuple(specs), fields.get("ns", ""))


def _backed_services(options: Mapping[str, Any]) -> Iterator[Service]:
    for key, backends in options.get("services", {}).items():
        namespace, name = key.split("/")
        addresses = (each.replace("/", ":").split(":") for each in backends)
        yield Service(
            cluster=_DEFAULT_CLUSTERS[0],
            namespace=namespace,
            name=name,
            backends=tuple((IPv4Address(address), Protocol(proto), int(port)) for address, port, proto in addresses),
        )


def _selecting_services(options: Mapping[str, Any]) -> Iterator[Service]:
    for key, fields in options.get("cilium_services", {}).items():
        namespace, name = key.split("/")
        yield Service(
            _DEFAULT_CLUSTERS[0], namespace, name, labels=fields.get("labels", {}), selector=fields.get("selector")
        )


def _port(text: str) -> tuple[Protocol, int]:
    protocol, number = text.split("/")
    return Protocol(protocol), int(number)
