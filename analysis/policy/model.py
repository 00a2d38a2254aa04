"""The world that policies act in: clusters with namespaces and endpoints, policy objects, flows, and decisions.

A policy acts on endpoints of its own cluster only, in every product: of a flow the egress is decided by the policies of
the source's cluster and the ingress by those of the target's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address
from typing import Any


class Engine(str, Enum):
    """The product that enforces policy. Each of them enforces Kubernetes NetworkPolicy too, in its own way."""

    CALICO = "calico"
    KUBERNETES = "kubernetes"
    CILIUM = "cilium"


class PolicyKind(str, Enum):
    """Kinds of policy objects, by the short names that rules are called by."""

    GLOBAL_NETWORK_POLICY = "gnp"
    NETWORK_POLICY = "np"
    STAGED_GLOBAL_NETWORK_POLICY = "sgnp"
    KUBERNETES_NETWORK_POLICY = "knp"
    CLUSTER_NETWORK_POLICY = "kcnp"
    CILIUM_NETWORK_POLICY = "cilium"
    CILIUM_CLUSTERWIDE_NETWORK_POLICY = "ccnp"


class Direction(str, Enum):
    """As the policed endpoint sees it."""

    INGRESS = "ingress"
    EGRESS = "egress"


class Protocol(str, Enum):
    """Protocols that rules can name."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"
    ICMP = "ICMP"


class EndpointKind(str, Enum):
    """What an address belongs to."""

    POD = "pod"
    HOST_POD = "hostpod"
    """A pod in its node's network: to policy it is the node."""

    NODE = "node"
    EXTERNAL = "external"


@dataclass(frozen=True)
class Endpoint:
    """An address and what policy engines know of its owner.

    Attributes:
        cluster: "" for an external one.
        ports: name, protocol and number of its container ports.
    """

    name: str
    kind: EndpointKind
    address: IPv4Address
    cluster: str = ""
    namespace: str = ""
    node: str = ""
    service_account: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[tuple[str, Protocol, int], ...] = ()


@dataclass(frozen=True)
class Policy:
    """A policy object in a cluster.

    Attributes:
        namespace: "" for kinds without one.
        specs: its `spec`, or the entries of its `specs`, as in the API object.
        source: the file and line it was read from ("policies.yaml:12"), "" for one from an API.
    """

    cluster: str
    kind: PolicyKind
    name: str
    specs: tuple[Mapping[str, Any], ...]
    namespace: str = ""
    source: str = ""

    @property
    def path(self) -> str:
        """What its rules are called by: "gnp/deny-all", "np/web/allow-front"."""
        return "/".join(filter(None, (self.kind.value, self.namespace, self.name)))


@dataclass(frozen=True)
class NetworkSet:
    """A Calico GlobalNetworkSet, or a NetworkSet when it has a namespace: labels for addresses."""

    cluster: str
    name: str
    nets: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""


@dataclass(frozen=True)
class Tier:
    """A Calico tier; `order` None comes last."""

    cluster: str
    name: str
    order: float | None = None
    default_action: str = "Deny"


@dataclass(frozen=True)
class HostEndpoint:
    """A Calico HostEndpoint: a node's own interface that policies select by labels.

    Attributes:
        interface: its name, "*" for all of the node's, "" when only addresses are said.
        addresses: its `expectedIPs`; rules know it as a peer by them alone.
    """

    cluster: str
    name: str
    node: str
    interface: str = ""
    addresses: tuple[IPv4Address, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()
    ports: tuple[tuple[str, Protocol, int], ...] = ()


@dataclass(frozen=True)
class Service:
    """A Kubernetes Service, as rules name it.

    Attributes:
        selector: None for one without a selector.
        backends: address, protocol and port of what stands behind it, ready or not.
    """

    cluster: str
    namespace: str
    name: str
    backends: tuple[tuple[IPv4Address, Protocol, int], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    selector: Mapping[str, str] | None = None


@dataclass(frozen=True)
class EngineOptions:
    """Settings of the engine that change what policies mean.

    Attributes:
        federation: endpoints of other clusters are known by their labels (Calico Enterprise; Cilium knows them always).
        default_endpoint_to_host_action: Calico's, for traffic from a pod to its own node.
        default_local_cluster: Cilium's `policy-default-local-cluster`: selectors mean the own cluster unless they say.
        enforcement_mode: Cilium's `enable-policy`: default, always or never.
        allow_localhost: Cilium's `allow-localhost`: auto, always or policy.
        cidr_match_mode: Cilium's `policy-cidr-match-mode`: "" or nodes.
        pod_cidrs: where pods have their addresses, for rules that name addresses.
        cluster_names: the name that a cluster bears in a Cilium mesh, where it differs from `Endpoint.cluster`.
    """

    federation: bool = False
    default_endpoint_to_host_action: str = "Drop"
    default_local_cluster: bool = True
    enforcement_mode: str = "default"
    allow_localhost: str = "auto"
    cidr_match_mode: str = ""
    pod_cidrs: tuple[str, ...] = ()
    cluster_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """Everything that decides what a flow meets.

    Attributes:
        namespaces: labels by (cluster, namespace).
        service_accounts: labels by (cluster, namespace, name).
    """

    engine: Engine
    endpoints: tuple[Endpoint, ...]
    policies: tuple[Policy, ...]
    namespaces: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    service_accounts: Mapping[tuple[str, str, str], Mapping[str, str]] = field(default_factory=dict)
    network_sets: tuple[NetworkSet, ...] = ()
    tiers: tuple[Tier, ...] = ()
    host_endpoints: tuple[HostEndpoint, ...] = ()
    services: tuple[Service, ...] = ()
    options: EngineOptions = field(default_factory=EngineOptions)


@dataclass(frozen=True)
class Flow:
    """The first packet of a new connection, after service translation and without source NAT.

    Attributes:
        port: of the destination; 0 for ICMP.
        source_port: one that the system picks, unless said otherwise.
        icmp_type: of an ICMP message; an echo request unless said otherwise.
    """

    source: Endpoint
    target: Endpoint
    protocol: Protocol
    port: int
    source_port: int = 49152
    icmp_type: int = 8
    icmp_code: int = 0


@dataclass(frozen=True)
class EndDecision:
    """What one end of a flow says.

    Attributes:
        decider: the rule that decides ("gnp/name/ingress/0"), or what decides where no rule does ("default-deny",
            "tier/default/end", "not-policed", ...: the words of policy-vectors.yaml).
        layer_7: it is allowed at layer 4 only; a layer 7 rule still judges requests.
    """

    allowed: bool
    decider: str
    layer_7: bool = False


@dataclass(frozen=True)
class Decision:
    """What becomes of a flow: it gets through when both ends allow it."""

    egress: EndDecision
    ingress: EndDecision

    @property
    def allowed(self) -> bool:
        """Both ends let it through."""
        return self.egress.allowed and self.ingress.allowed

    @property
    def decider(self) -> str:
        """The rule that stopped it, else the one that let it in."""
        return self.egress.decider if not self.egress.allowed else self.ingress.decider


@dataclass(frozen=True)
class DeadRule:
    """A rule that never matches anything.

    Attributes:
        rule: what it is called by ("gnp/name/ingress/0").
        reason: one of those in docs/policy-lint.md ("unsatisfiable-selector", "shadowed", "matches-nobody-now", ...).
        by: the rule that is in front of it, for "shadowed" and "covered-by-deny".
        explanation: why, in a sentence that a reader of the policy understands at once.
        cluster: where its policy is; rules of the same name in other clusters are others.
    """

    rule: str
    reason: str
    by: str = ""
    explanation: str = ""
    cluster: str = ""
