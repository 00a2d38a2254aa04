"""What network policy says, and what it does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network

from analysis.facts.gap import Gap
from analysis.facts.reachability import ProbeOutcome

LabelPairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PolicyObject:
    """A policy, a tier, a network set or a host endpoint, as the API holds it.

    Attributes:
        kind: the API's ("GlobalNetworkPolicy", "NetworkPolicy", "CiliumClusterwideNetworkPolicy", "Tier", ...).
        api_version: group and version; NetworkPolicy is a kind of two groups.
        namespace: "" for kinds without one.
        document: the whole object as JSON text, without status and managed fields.
    """

    region: str
    kind: str
    api_version: str
    namespace: str
    name: str
    document: str


@dataclass(frozen=True)
class PolicyEndpoint:
    """A pod as policy sees it.

    Attributes:
        ports: name, protocol ("TCP") and number of its containers' ports.
        template_labels: labels of the pod template of its owner; None when it has no owner that could be read.
    """

    region: str
    namespace: str
    name: str
    node: str
    address: IPv4Address | None
    host_network: bool
    labels: LabelPairs
    service_account: str = ""
    ports: tuple[tuple[str, str, int], ...] = ()
    template_labels: LabelPairs | None = None


@dataclass(frozen=True)
class LabelledNamespace:
    """A namespace and its labels."""

    region: str
    name: str
    labels: LabelPairs


@dataclass(frozen=True)
class LabelledAccount:
    """A service account and its labels."""

    region: str
    namespace: str
    name: str
    labels: LabelPairs


@dataclass(frozen=True)
class Admission:
    """What the API server says to a policy that is offered to it once more, as a dry run.

    Attributes:
        accepted: None when it could not be asked.
        dropped: fields (dotted paths) that came back missing.
    """

    region: str
    kind: str
    namespace: str
    name: str
    accepted: bool | None
    dropped: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True)
class RemoteKnowledge:
    """What a cluster's policy engine knows of the pods of another cluster.

    Attributes:
        region: whose engine; `node` whose agent, "" where the cluster knows as a whole.
        remote: the other region.
        source: "federation", "network-set" or "identity".
        in_sync: the engine says that it knows all of them; None when it does not tell.
        networks: addresses that it knows.
    """

    region: str
    node: str
    remote: str
    source: str
    in_sync: bool | None
    networks: tuple[IPv4Network, ...] = ()
    detail: str = ""


@dataclass(frozen=True)
class Policies:
    """What is said: policy objects of all clusters, and everything that gives them their meaning.

    Attributes:
        settings: region, key and value of settings that change what policies mean ("policy-default-local-cluster",
            "enable-policy", "defaultEndpointToHostAction", "version").
    """

    objects: tuple[PolicyObject, ...]
    endpoints: tuple[PolicyEndpoint, ...]
    namespaces: tuple[LabelledNamespace, ...] = ()
    accounts: tuple[LabelledAccount, ...] = ()
    admissions: tuple[Admission, ...] = ()
    knowledge: tuple[RemoteKnowledge, ...] = ()
    settings: tuple[tuple[str, str, str], ...] = ()
    gaps: tuple[Gap, ...] = ()


class Way(str, Enum):
    """How a flow was tried."""

    DIRECT = "direct"
    """From pod to pod, by the pod's own address."""

    NODE = "node"
    """From a node's own network to a pod."""

    NODE_PORT = "node-port"
    """Through a port of a node that leads to the pod."""

    SPOOFED = "spoofed"
    """With the source address of a pod that is let in (crafted packets)."""

    FRAGMENTED = "fragmented"
    """In IP fragments."""

    LABELLED_LATER = "labelled-later"
    """To a pod that got its label while it ran; before and after tell the two apart in `detail`."""

    ESTABLISHED = "established"
    """Over a connection that was there before the policy took hold of the pod."""

    AFTER_RESTART = "after-restart"
    """To a pod that was made anew."""


class Party(str, Enum):
    """Who takes part in trials."""

    ROLE = "role"
    """A pod of ours that wears a role's labels."""

    STRANGER = "stranger"
    """A pod of ours without the labels of any role."""

    MEMBER = "member"
    """A pod of the database itself. It is knocked at from outside only."""

    NODE = "node"
    """A node's own network."""

    DNS = "dns"
    """The DNS server of a cluster."""

    OUTSIDE = "outside"
    """A host outside every region."""

    API_SERVER = "api-server"
    """A Kubernetes API server."""


@dataclass(frozen=True)
class Participant:
    """An end of flows that were tried.

    Attributes:
        role: the plan's name for it, for parties of a role and members; else "".
        listening: ports with a listener of ours behind them, as (protocol, port); others answer with a refusal.
        healthy: the listeners answered on loopback before and after; False means that nothing follows from silence.
    """

    region: str
    party: Party
    name: str
    address: IPv4Address
    role: str = ""
    node: str = ""
    namespace: str = ""
    listening: tuple[tuple[str, int], ...] = ()
    healthy: bool = True


@dataclass(frozen=True, slots=True)
class FlowTrial:
    """One new connection (or datagram) that was tried.

    Attributes:
        source: index into `Enforcement.participants`; `target` likewise.
        protocol: "TCP", "UDP", "SCTP" or "ICMP".
        port: of the destination, 0 for ICMP.
        heard: whether the target's listener saw it; None where it has no listener of ours, or could not be asked.
        control: a flow from the same source to the same target that must pass, passed before and after; None where
            there is none: a silence then proves nothing.
    """

    source: int
    target: int
    protocol: str
    port: int
    outcome: ProbeOutcome
    way: Way = Way.DIRECT
    heard: bool | None = None
    control: bool | None = None
    detail: str = ""


@dataclass(frozen=True)
class Sweep:
    """All ports of one target, tried from one source.

    Attributes:
        source: index into `Enforcement.participants`; `target` likewise.
        first: of the ports that were tried; `last` likewise.
        ports: those that were tried, when not all between these two were.
        reached: ports that answered in any way, a refusal by the target included: policy let them through.
        undecided: ports of which nothing can be said.
        seconds: how long it took.
    """

    source: int
    target: int
    protocol: str
    first: int
    last: int
    reached: tuple[int, ...]
    undecided: tuple[int, ...] = ()
    seconds: float = 0.0
    ports: tuple[int, ...] = ()


@dataclass(frozen=True)
class Enforcement:
    """What is done: flows that were tried, between pods that wear the roles' labels and others.

    Attributes:
        ipv6: regions where pods have IPv6 addresses, over which nothing is tried; None where that is not known.
    """

    participants: tuple[Participant, ...]
    trials: tuple[FlowTrial, ...]
    sweeps: tuple[Sweep, ...] = ()
    gaps: tuple[Gap, ...] = ()
    ipv6: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Lift:
    """What happened while the policies of the database were taken away for a moment, and once they were back.

    Attributes:
        removed: the objects that were away, by (region, kind, name).
        without: trials while they were away, over the participants of `Enforcement`.
        again: the same trials once they were back.
    """

    removed: tuple[tuple[str, str, str], ...]
    participants: tuple[Participant, ...]
    without: tuple[FlowTrial, ...]
    again: tuple[FlowTrial, ...]
    gaps: tuple[Gap, ...] = ()
