"""What runs the mesh."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

from analysis.facts.gap import Gap


@dataclass(frozen=True)
class Component:
    """A part of the CNI in one cluster, as its own status or its workload object shows it.

    Attributes:
        name: "calico-node", "tigerastatus/calico", "cilium", "cilium-operator", "clustermesh-apiserver", or, for an
            agent that tells its own state, "cilium-agent on NODE".
        healthy: what it says of itself; None when it says nothing.
        wanted: replicas that there should be, None where that means nothing.
        ready: replicas that are ready.
        version: the version that runs ("v3.24.5", "1.16.5"), "" when it is not told.
        message: its own words, for evidence.
    """

    region: str
    name: str
    healthy: bool | None
    wanted: int | None = None
    ready: int | None = None
    version: str = ""
    message: str = ""


@dataclass(frozen=True)
class Datapath:
    """How a node says that it forwards, which must be the same in all clusters.

    Attributes:
        routing: "tunnel" or "native".
        encapsulation: "vxlan", "geneve", "ipip" or "none".
        port: the tunnel's UDP port, None without one.
        vni: the VXLAN identifier where the device has a fixed one.
        foreign_devices: names of network devices that another CNI has made (flannel.1, cni0, ...).
        masquerades: None when not told, else whether the node rewrites the source of pods' packets that leave.
        not_masqueraded: destinations that keep the pod's source address, as the node tells them.
    """

    region: str
    node: str
    routing: str
    encapsulation: str
    port: int | None = None
    vni: int | None = None
    foreign_devices: tuple[str, ...] = ()
    masquerades: bool | None = None
    not_masqueraded: tuple[IPv4Network, ...] = ()


@dataclass(frozen=True)
class Components:
    """Health, versions and settings of what runs the mesh, in every cluster."""

    components: tuple[Component, ...]
    datapaths: tuple[Datapath, ...] = ()
    gaps: tuple[Gap, ...] = ()
