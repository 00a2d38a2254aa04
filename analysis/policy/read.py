"""Policy objects of the API, read into a world: from facts of running clusters, or from manifests of whom nothing runs.

Calico's objects come in two groups, `projectcalico.org/v3` and the one that they are stored as; both mean the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from analysis.facts import Policies, PolicyEndpoint
from analysis.plan import Cni, Plan
from analysis.policy.model import (
    Endpoint,
    EndpointKind,
    Engine,
    EngineOptions,
    HostEndpoint,
    NetworkSet,
    Policy,
    PolicyKind,
    Protocol,
    Tier,
    World,
)

CALICO_GROUPS = ("projectcalico.org", "crd.projectcalico.org")
KUBERNETES_GROUP = "networking.k8s.io"
CLUSTER_POLICY_GROUP = "policy.networking.k8s.io"
CILIUM_GROUP = "cilium.io"

POLICY_KINDS: Mapping[tuple[str, str], PolicyKind] = {
    **{
        (group, kind): meaning
        for group in CALICO_GROUPS
        for kind, meaning in {
            "GlobalNetworkPolicy": PolicyKind.GLOBAL_NETWORK_POLICY,
            "NetworkPolicy": PolicyKind.NETWORK_POLICY,
            "StagedGlobalNetworkPolicy": PolicyKind.STAGED_GLOBAL_NETWORK_POLICY,
        }.items()
    },
    (KUBERNETES_GROUP, "NetworkPolicy"): PolicyKind.KUBERNETES_NETWORK_POLICY,
    (CLUSTER_POLICY_GROUP, "ClusterNetworkPolicy"): PolicyKind.CLUSTER_NETWORK_POLICY,
    (CILIUM_GROUP, "CiliumNetworkPolicy"): PolicyKind.CILIUM_NETWORK_POLICY,
    (CILIUM_GROUP, "CiliumClusterwideNetworkPolicy"): PolicyKind.CILIUM_CLUSTERWIDE_NETWORK_POLICY,
}
"""Kinds of policy by API group and name. NetworkPolicy is a kind of two groups."""

_CLUSTERWIDE = {
    PolicyKind.GLOBAL_NETWORK_POLICY,
    PolicyKind.STAGED_GLOBAL_NETWORK_POLICY,
    PolicyKind.CLUSTER_NETWORK_POLICY,
    PolicyKind.CILIUM_CLUSTERWIDE_NETWORK_POLICY,
}
_BUILT_IN = {PolicyKind.KUBERNETES_NETWORK_POLICY, PolicyKind.CLUSTER_NETWORK_POLICY}
ENFORCED: Mapping[Engine, frozenset[PolicyKind]] = {
    Engine.CALICO: frozenset(
        _BUILT_IN
        | {PolicyKind.GLOBAL_NETWORK_POLICY, PolicyKind.NETWORK_POLICY, PolicyKind.STAGED_GLOBAL_NETWORK_POLICY}
    ),
    Engine.CILIUM: frozenset(
        _BUILT_IN | {PolicyKind.CILIUM_NETWORK_POLICY, PolicyKind.CILIUM_CLUSTERWIDE_NETWORK_POLICY}
    ),
    Engine.KUBERNETES: frozenset(_BUILT_IN),
}
"""What each engine looks at; it does not see the others' kinds."""

_LOCAL_CLUSTER_DEFAULT_SINCE = (1, 19)
"""Cilium's release from which selectors mean the own cluster unless they say another."""


@dataclass(frozen=True)
class ApiObject:
    """An object of a cluster's API.

    Attributes:
        source: the file and line it was read from, "" for one from an API.
    """

    cluster: str
    document: Mapping[str, Any]
    source: str = ""

    @property
    def group(self) -> str:
        """Its API group, without the version."""
        return str(self.document.get("apiVersion") or "").rpartition("/")[0]

    @property
    def kind(self) -> str:
        """Its kind, as the API calls it."""
        return str(self.document.get("kind") or "")

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.metadata.get("name") or "")

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Its metadata, {} when it has none."""
        return self.document.get("metadata") or {}

    @property
    def spec(self) -> Mapping[str, Any]:
        """Its spec, {} when it has none."""
        return self.document.get("spec") or {}

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return {key: str(value) for key, value in (self.metadata.get("labels") or {}).items()}

    @property
    def policy_kind(self) -> PolicyKind | None:
        """What policy it is; None for anything else."""
        return POLICY_KINDS.get((self.group, self.kind))


def world_of(policies: Policies, plan: Plan) -> World:
    """The world that the facts tell of, with the engine and the regions of the plan. Clusters are called as regions."""
    engine = Engine.CALICO if plan.cni is Cni.CALICO_BGP else Engine.CILIUM
    objects = [ApiObject(each.region, json.loads(each.document)) for each in policies.objects]
    return world_from(
        engine,
        objects,
        endpoints=tuple(_endpoint(each, each.address) for each in policies.endpoints if each.address is not None),
        namespaces={(each.region, each.name): dict(each.labels) for each in policies.namespaces},
        service_accounts={(each.region, each.namespace, each.name): dict(each.labels) for each in policies.accounts},
        options=_options(policies, plan),
    )


def world_from(
    engine: Engine,
    objects: Iterable[ApiObject],
    *,
    endpoints: tuple[Endpoint, ...] = (),
    namespaces: Mapping[tuple[str, str], Mapping[str, str]] | None = None,
    service_accounts: Mapping[tuple[str, str, str], Mapping[str, str]] | None = None,
    options: EngineOptions | None = None,
) -> World:
    """A world of objects. What the engine does not look at is left out."""
    objects = tuple(objects)
    calico = [each for each in objects if engine is Engine.CALICO and each.group in CALICO_GROUPS]
    return World(
        engine=engine,
        endpoints=endpoints,
        policies=tuple(_policy(each) for each in objects if each.policy_kind in ENFORCED[engine]),
        namespaces=namespaces or {},
        service_accounts=service_accounts or {},
        network_sets=tuple(_network_set(each) for each in calico if each.kind in ("GlobalNetworkSet", "NetworkSet")),
        tiers=tuple(_tier(each) for each in calico if each.kind == "Tier"),
        host_endpoints=tuple(_host_endpoint(each) for each in calico if each.kind == "HostEndpoint"),
        options=options or EngineOptions(),
    )


def _policy(read: ApiObject) -> Policy:
    kind = POLICY_KINDS[read.group, read.kind]
    namespace = "" if kind in _CLUSTERWIDE else str(read.metadata.get("namespace") or "default")
    specs = (*([read.spec] if read.spec else []), *(read.document.get("specs") or ()))
    return Policy(read.cluster, kind, read.name, specs or ({},), namespace, read.source)


def _network_set(read: ApiObject) -> NetworkSet:
    namespace = str(read.metadata.get("namespace") or "") if read.kind == "NetworkSet" else ""
    return NetworkSet(read.cluster, read.name, tuple(read.spec.get("nets") or ()), read.labels, namespace)


def _tier(read: ApiObject) -> Tier:
    order = read.spec.get("order")
    return Tier(
        read.cluster,
        read.name,
        None if order is None else float(order),
        str(read.spec.get("defaultAction") or "Deny"),
    )


def _host_endpoint(read: ApiObject) -> HostEndpoint:
    spec = read.spec
    addresses = [ip_address(each) for each in spec.get("expectedIPs") or ()]
    return HostEndpoint(
        cluster=read.cluster,
        name=read.name,
        node=str(spec.get("node") or ""),
        interface=str(spec.get("interfaceName") or ""),
        addresses=tuple(each for each in addresses if not isinstance(each, IPv6Address)),
        labels=read.labels,
        profiles=tuple(spec.get("profiles") or ()),
        ports=_ports((each["name"], each["protocol"], each["port"]) for each in spec.get("ports") or ()),
    )


def _endpoint(pod: PolicyEndpoint, address: IPv4Address) -> Endpoint:
    return Endpoint(
        name=pod.name,
        kind=EndpointKind.HOST_POD if pod.host_network else EndpointKind.POD,
        address=address,
        cluster=pod.region,
        namespace=pod.namespace,
        node=pod.node,
        service_account=pod.service_account,
        labels=dict(pod.labels),
        ports=_ports(pod.ports),
    )


def _ports(ports: Iterable[tuple[str, str, int]]) -> tuple[tuple[str, Protocol, int], ...]:
    """Ports of protocols that rules can name; containers have no others."""
    known = {each.value: each for each in Protocol}
    return tuple(
        (name, known[protocol.upper()], int(port)) for name, protocol, port in ports if protocol.upper() in known
    )


def _options(policies: Policies, plan: Plan) -> EngineOptions:
    settings = {key: value for _, key, value in reversed(policies.settings)}
    default = EngineOptions()
    return EngineOptions(
        federation=any(each.source == "federation" for each in policies.knowledge),
        default_endpoint_to_host_action=(
            settings.get("defaultEndpointToHostAction") or default.default_endpoint_to_host_action
        ),
        default_local_cluster=_means_local_cluster(settings),
        enforcement_mode=settings.get("enable-policy") or default.enforcement_mode,
        allow_localhost=settings.get("allow-localhost") or default.allow_localhost,
        cidr_match_mode=settings.get("policy-cidr-match-mode", ""),
        pod_cidrs=tuple(str(region.pod_cidr) for region in plan.regions),
        cluster_names={region.name: region.cluster_name for region in plan.regions if region.cluster_name},
    )


def _means_local_cluster(settings: Mapping[str, str]) -> bool:
    said = settings.get("policy-default-local-cluster")
    if said:
        return said.lower() == "true"
    major, minor, *_ = [*settings.get("version", "").lstrip("v").split("."), "", ""]
    return not (major.isdecimal() and minor.isdecimal()) or (int(major), int(minor)) >= _LOCAL_CLUSTER_DEFAULT_SINCE
