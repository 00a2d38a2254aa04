"""What probes saw: reachability, paths that lead elsewhere, speed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from analysis.facts.gap import Gap


class ProbeOutcome(str, Enum):
    """What one probe saw. Only `OPEN` proves a path; only `INCONCLUSIVE` says nothing about the network.

    DROPPED: no answer until the deadline. REFUSED: a reset, or port unreachable from the target itself.
    PROHIBITED: an ICMP error said so (administratively prohibited, host or net unreachable).
    """

    OPEN = "open"
    REFUSED = "refused"
    DROPPED = "dropped"
    PROHIBITED = "prohibited"
    INCONCLUSIVE = "inconclusive"


class ProbeProtocol(str, Enum):
    """How a probe knocks."""

    ICMP = "icmp"
    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True)
class Endpoint:
    """A place that probes start from or aim at: a probe pod, or a node (its host network)."""

    region: str
    node: str
    name: str
    address: IPv4Address
    on_host: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe and what came of it.

    Attributes:
        source: index into `ReachabilityMatrix.endpoints`.
        target: index into `ReachabilityMatrix.endpoints`.
        rtt: seconds, for an open probe.
        seen_source: the source address that the listener saw.
        ttl: time to live left in the answer (ICMP), from a start value of 64.
        detail: what the instrument said, for anything but open.
    """

    source: int
    target: int
    protocol: ProbeProtocol
    port: int
    outcome: ProbeOutcome
    rtt: float | None = None
    seen_source: IPv4Address | None = None
    ttl: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class AgentHealth:
    """The instrument's own state while it probed: a pod whose agent was unwell proves nothing about the network.

    Attributes:
        endpoint: index into `ReachabilityMatrix.endpoints`.
        loopback_ok: the agent reached its own listener before and after its probes (the positive control).
        retries: how often the instrument (never the measurement) had to be tried again.
        error: why the agent gave no result, "" when it did.
    """

    endpoint: int
    loopback_ok: bool
    retries: int = 0
    error: str = ""


@dataclass(frozen=True)
class Sampling:
    """Which pairs of pods were to be probed where all of them were too many (`analysis.sampling`).

    Attributes:
        seed: what the sample was drawn from: with it and the endpoints, anybody can draw it again.
        node_pairs: ordered pairs of distinct nodes; the sample has a pair of pods for each.
        pod_pairs: ordered pairs of pods in the sample.
        all_pod_pairs: ordered pairs of pods that there are.
    """

    seed: str
    node_pairs: int
    pod_pairs: int
    all_pod_pairs: int


@dataclass(frozen=True)
class ReachabilityMatrix:
    """Every ordered pair of probe endpoints, by protocol, or a sample of them.

    `probes` holds pod-to-pod probes and, where node probes are allowed, node-to-node ones; pods and nodes are told
    apart by `Endpoint.on_host` and never mixed in one probe. With a `sampling`, not every pair of pods was probed, but
    every ordered pair of nodes.
    """

    endpoints: tuple[Endpoint, ...]
    probes: tuple[Probe, ...]
    agents: tuple[AgentHealth, ...]
    probes_per_second: float | None = None
    gaps: tuple[Gap, ...] = ()
    sampling: Sampling | None = None


@dataclass(frozen=True)
class ServiceProbe:
    """A knock on a remote cluster's kube-dns ClusterIP (DNS over TCP and UDP, port 53) from a pod."""

    source: Endpoint
    target_region: str
    address: IPv4Address
    protocol: ProbeProtocol
    outcome: ProbeOutcome
    answered_by: str = ""
    detail: str = ""


@dataclass(frozen=True)
class EgressProbe:
    """A knock on the egress target from a pod; `seen_source` is the address that the target reports."""

    source: Endpoint
    address: IPv4Address
    port: int
    outcome: ProbeOutcome
    seen_source: IPv4Address | None = None
    detail: str = ""


@dataclass(frozen=True)
class Paths:
    """Probes that go elsewhere than from pod to pod."""

    services: tuple[ServiceProbe, ...]
    egress: tuple[EgressProbe, ...]
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True)
class RegionPairQuality:
    """Round trips and throughput from one region to another, pod to pod and node to node.

    Round-trip times are medians in seconds over `samples` echoes; throughput is in bytes per second, None when not
    measured.
    """

    source_region: str
    target_region: str
    samples: int
    pod_rtt: float | None
    node_rtt: float | None
    pod_throughput: float | None = None
    node_throughput: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class PathQuality:
    """Speed of every ordered pair of regions, measured pod to pod and node to node in turn."""

    pairs: tuple[RegionPairQuality, ...]
    gaps: tuple[Gap, ...] = ()
