"""Attach: clusters that are there, reached by the user's kubeconfig. Nothing is created here and nothing removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.facts import Gap, Networks
from analysis.fleet import Capability, ClusterHandle, DatabaseAccess, Fleet, Outpost, Stand
from analysis.plan import Cni
from provision.identity import identify, node_addresses, refuse_one_cluster_twice
from provision.ssh_command import node_command

if TYPE_CHECKING:
    from provision.environment import Environment
    from provision.outages import Outages
    from provision.provider import Progress

CNI_CAPABILITIES = {Cni.CALICO_BGP: Capability.BGP, Cni.CILIUM_CLUSTERMESH: Capability.TUNNEL_MAP}


@dataclass(frozen=True)
class AttachProvider:
    """Uses clusters that somebody else brought up. Probe pods are the only thing made in them, and not by this."""

    name: str = "attach"

    def up(
        self,
        environment: Environment,
        *,
        folder: Path,
        progress: Progress,
        needs: frozenset[Capability] = frozenset(),
    ) -> Fleet:
        """See that every API server answers, that each is another cluster, and that its CNI is the planned one.

        Raises:
            ProvisionError: a cluster cannot be used; all of them are told, not only the first.
        """
        handles = tuple(
            ClusterHandle(region.name, str(environment.kubeconfig_of(region)), environment.context_of(region))
            for region in environment.regions
        )
        progress.stage(f"asking {len(handles)} API servers")
        refuse_one_cluster_twice(handles, identify(handles, environment.cni.kind))
        return Fleet(
            plan=environment.plan(),
            provider=self.name,
            clusters=handles,
            capabilities=capabilities(environment),
            probe_image=environment.probes.image,
            probe_namespace=environment.probes.namespace,
            probe_pull_secret=environment.probes.pull_secret,
            probes_per_node=environment.probes.per_node,
            full_mesh_limit=environment.probes.full_mesh_limit,
            outposts=(*outside(environment), *nodes(environment, handles)),
            database=database_access(environment),
        )

    def lasting(
        self, environment: Environment, *, progress: Progress, needs: frozenset[Capability] = frozenset()
    ) -> Environment:
        """As it is: what somebody else brought up stays up."""
        return environment

    def wait_ready(self, fleet: Fleet, within: timedelta) -> None:
        """Return at once: whether somebody else's environment is well is what the checks are there to say."""

    def down(self, fleet: Fleet) -> None:
        """Leave everything as it is: what was made in the clusters is removed by whoever made it."""

    def outages(self, fleet: Fleet) -> Outages:
        """Those that the Kubernetes API can make."""
        from provision.outages.journaled import JournaledOutages
        from provision.outages.kubernetes import KubernetesOutages

        return JournaledOutages(fleet, KubernetesOutages(fleet).courses)

    def networks(self, fleet: Fleet) -> Networks:
        """A gap for every region: Kubernetes does not know the cloud's networks."""
        return Networks(
            networks=(),
            gaps=tuple(
                Gap(handle.region, "network and subnets", "attach cannot read the cloud") for handle in fleet.clusters
            ),
        )


def capabilities(environment: Environment) -> frozenset[Capability]:
    """What the environment file lets checks do. Leave to disrupt is never in the file: a person gives it each time."""
    given = {
        Capability.NODE_PROBES: environment.probes.host_network,
        Capability.PACKET_CAPTURE: environment.probes.capture,
        Capability.EGRESS_TARGET: environment.egress,
        Capability.OUTSIDE: environment.outside,
        Capability.NODE_SHELL: environment.ssh,
        Capability.DATABASE_PODS: environment.database,
        Capability.POLICY: environment.policy,
        Capability.DATABASE: environment.database and environment.database.access,
    }
    return frozenset(
        {CNI_CAPABILITIES[environment.cni.kind], *(capability for capability, section in given.items() if section)}
    )


def database_access(environment: Environment) -> DatabaseAccess | None:
    """How the file says that one logs in to the database; None where it does not."""
    access = environment.database and environment.database.access
    if not access:
        return None

    def text(path: Path | None) -> str | None:
        return None if path is None else str(path)

    return DatabaseAccess(
        user=access.user,
        authority=str(access.authority),
        certificate=text(access.certificate),
        key=text(access.key),
        password=text(access.password_file),
        addresses=tuple((region, host, port) for region, (host, port) in access.addresses.items()),
    )


def outside(environment: Environment) -> Iterator[Outpost]:
    """Where this runs is where operators are; the file may name a place that has no rights."""
    yield Outpost(Stand.OPERATOR, "this machine", ())
    if environment.outside:
        yield Outpost(Stand.INTERNET, "outside", environment.outside.command, address=environment.outside.address)


def nodes(environment: Environment, handles: Iterable[ClusterHandle]) -> Iterator[Outpost]:
    """Every node of every cluster, by ssh, where the file says how.

    Raises:
        ProvisionError: a cluster does not tell its nodes.
    """
    if environment.ssh is None:
        return
    for handle in handles:
        for name, address in node_addresses(handle):
            yield Outpost(Stand.NODE, name, node_command(environment.ssh, address), handle.region, address)
