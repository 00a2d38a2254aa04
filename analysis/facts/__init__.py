"""Facts: what was observed, one family per subject, before anybody judges it.

Every family is a frozen dataclass that can be written to JSON and read back without loss. `gaps` says what could
not be observed and why; a judge that needs a missing fact says inconclusive, never met. Facts are the same for
every CNI: observers translate, checks do not branch.

A region's name is the key of its cluster. Node and pod names are those of the Kubernetes API.
"""

from analysis.facts.addressing import Addressing, Block, Pool
from analysis.facts.cloud import (
    CloudRoute,
    Instance,
    InternetGateway,
    Network,
    Networks,
    PeeringEnd,
    RouteTable,
    RouteTarget,
    SecurityGroup,
    SecurityRule,
)
from analysis.facts.components import Component, Components, Datapath
from analysis.facts.configuration import ClusterIdentity, DnsForward, MeshConfiguration, NodeOverride, Peering
from analysis.facts.dns import DatabaseMember, Dns, DnsAnswer, DnsConfiguration, DnsServer, Purpose
from analysis.facts.encapsulation import Capture, CapturedPacket, HandMadePacket, OnTheWire, Sender, TunnelEnd
from analysis.facts.federation import (
    Access,
    AccessTrial,
    Credential,
    Federation,
    GlobalService,
    KnownIdentity,
    KnownNode,
    NodeHealth,
    RemoteCluster,
    RemoteSetting,
    StoreCertificate,
    StoreContent,
    StoreKnock,
)
from analysis.facts.forwarding import FibRoute, FilterSet, Forwarding, Link
from analysis.facts.gap import Gap
from analysis.facts.inventory import Inventory, Node, Pod, Service
from analysis.facts.mtu import BulkTransfer, Mtu, PathMtu, Refusal
from analysis.facts.reachability import (
    AgentHealth,
    EgressProbe,
    Endpoint,
    PathQuality,
    Paths,
    Probe,
    ProbeOutcome,
    ProbeProtocol,
    ReachabilityMatrix,
    RegionPairQuality,
    Sampling,
    ServiceProbe,
)
from analysis.facts.routing import RibRoute, Routing, Session
from analysis.facts.underlay import ClockOffset, Door, KernelSetting, Knock, OutsideKnock, Trace, Underlay

__all__ = [
    "Access",
    "AccessTrial",
    "Addressing",
    "AgentHealth",
    "Block",
    "BulkTransfer",
    "Capture",
    "CapturedPacket",
    "ClockOffset",
    "CloudRoute",
    "ClusterIdentity",
    "Component",
    "Components",
    "Credential",
    "DatabaseMember",
    "Datapath",
    "Dns",
    "DnsAnswer",
    "DnsConfiguration",
    "DnsForward",
    "DnsServer",
    "Door",
    "EgressProbe",
    "Endpoint",
    "Federation",
    "FibRoute",
    "FilterSet",
    "Forwarding",
    "Gap",
    "GlobalService",
    "HandMadePacket",
    "Instance",
    "InternetGateway",
    "Inventory",
    "KernelSetting",
    "Knock",
    "KnownIdentity",
    "KnownNode",
    "Link",
    "MeshConfiguration",
    "Mtu",
    "Network",
    "Networks",
    "Node",
    "NodeHealth",
    "NodeOverride",
    "OnTheWire",
    "OutsideKnock",
    "PathMtu",
    "PathQuality",
    "Paths",
    "Peering",
    "PeeringEnd",
    "Pod",
    "Pool",
    "Probe",
    "ProbeOutcome",
    "ProbeProtocol",
    "Purpose",
    "ReachabilityMatrix",
    "Refusal",
    "RegionPairQuality",
    "RemoteCluster",
    "RemoteSetting",
    "RibRoute",
    "RouteTable",
    "RouteTarget",
    "Routing",
    "Sampling",
    "SecurityGroup",
    "SecurityRule",
    "Sender",
    "Service",
    "ServiceProbe",
    "Session",
    "StoreCertificate",
    "StoreContent",
    "StoreKnock",
    "Trace",
    "TunnelEnd",
    "Underlay",
]
