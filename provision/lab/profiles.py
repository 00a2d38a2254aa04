"""The profiles that a lab can have: which clouds, which CNI, which figures.

A profile is its topology and a package. The package's modules are imported by the process that needs them: `seed` and
`credentials` by the launcher, `mesh` by the agents, `readiness` by the container. What is the same in all profiles asks
the topology.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from analysis.fleet import Capability
from provision.lab.topology import AWS_CALICO, AZURE_CILIUM, LabNode, LabRegion, LabTopology

if TYPE_CHECKING:
    from provision.lab.kube.objects import KubeObject
    from provision.lab.kube.pki import ClusterPki
    from provision.lab.mesh import MeshModule

_COMMON = frozenset(
    {
        Capability.CLOUD_NETWORK,
        Capability.NODE_PROBES,
        Capability.EGRESS_TARGET,
        Capability.DISRUPTION,
        Capability.NODE_SHELL,
        Capability.OUTSIDE,
        Capability.PACKET_CAPTURE,
        Capability.DATABASE_PODS,
        Capability.POLICY,
    }
)


class MeshSeed(Protocol):
    """The module `seed` of a profile's package: what comes with the CNI in a new cluster."""

    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that it lives in, besides those that every cluster has."""
        ...

    def kinds(self) -> list[KubeObject]:
        """The CustomResourceDefinitions that it registers."""
        ...

    def service_accounts(self) -> tuple[tuple[str, str], ...]:
        """Namespace and name of the accounts that its pods use."""
        ...

    def node_labels(self, node: LabNode, /) -> dict[str, str]:
        """Labels of a Node object, besides those that every node has."""
        ...

    def node_annotations(self, region: LabRegion, node: LabNode, /) -> dict[str, str]:
        """Annotations of a Node object."""
        ...

    def node_conditions(self, node: LabNode, /) -> list[KubeObject]:
        """Conditions of a Node object, besides the kubelet's."""
        ...

    def objects(self, topology: LabTopology, region: LabRegion, /) -> list[KubeObject]:
        """Its configuration."""
        ...

    def workloads(self, topology: LabTopology, region: LabRegion, /) -> list[KubeObject]:
        """What runs of it."""
        ...


class MeshCredentials(Protocol):
    """The module `credentials` of a profile's package: what the clusters of a mesh are given to trust each other by."""

    def create(
        self, folder: Path, topology: LabTopology, pki: Mapping[str, ClusterPki], /
    ) -> Mapping[str, list[KubeObject]]:
        """Draw them anew, files below that folder with mode 0600; the objects that they come to, by region."""
        ...


class MeshReadiness(Protocol):
    """The module `readiness` of a profile's package: when its part of a lab is as planned."""

    def check_node(self, topology: LabTopology, node: LabNode) -> None:
        """The node's kernel and the CNI's daemon on it are as planned."""
        ...


@dataclass(frozen=True)
class Profile:
    """A kind of lab.

    Attributes:
        name: as in `lab:NAME`; its topology is `topology.TOPOLOGIES[name]`.
        package: of its modules `seed`, `credentials`, `mesh` and `readiness`.
        mesh_capabilities: what the mesh lets checks do.
        stand_ins: parts of the mesh that play real ones: what, by whom; `{bird}` is the version of the tool bird.
    """

    name: str
    package: str
    mesh_capabilities: frozenset[Capability]
    stand_ins: tuple[tuple[str, str], ...]

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What a lab of this profile lets checks do."""
        return _COMMON | self.mesh_capabilities

    @property
    def seed(self) -> MeshSeed:
        """What comes with the CNI in a new cluster."""
        return cast(MeshSeed, import_module(f"{self.package}.seed"))

    @property
    def mesh(self) -> MeshModule:
        """The CNI as the agents process runs it."""
        return cast("MeshModule", import_module(f"{self.package}.mesh"))

    @property
    def readiness(self) -> MeshReadiness:
        """When the CNI's part of a lab is as planned."""
        return cast(MeshReadiness, import_module(f"{self.package}.readiness"))

    @property
    def credentials(self) -> MeshCredentials:
        """What its clusters are given to trust each other by."""
        return cast(MeshCredentials, import_module(f"{self.package}.credentials"))


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name=AWS_CALICO,
            package="provision.lab.calico",
            mesh_capabilities=frozenset({Capability.BGP, Capability.FEDERATION}),
            stand_ins=(
                ("encapsulation", "VXLAN in place of IPIP"),
                ("calico", "the lab's own dataplane, with {bird}"),
                ("federation", "the lab's own Typha in place of Calico Enterprise's"),
            ),
        ),
        Profile(
            name=AZURE_CILIUM,
            package="provision.lab.cilium",
            mesh_capabilities=frozenset({Capability.TUNNEL_MAP, Capability.FEDERATION}),
            stand_ins=(("cilium", "the lab's own agents, with routing tables in place of BPF maps, and {etcd}"),),
        ),
    )
}


def profile_of(topology: LabTopology) -> Profile:
    """The profile that a lab has."""
    return PROFILES[topology.profile]
