"""The lab as a provider: a lab of one's own for one run, or one that runs already and has a name."""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.facts import POSTGRESQL, Gap, Networks
from analysis.fleet import Capability, ClusterHandle, Fleet, OutageMode
from analysis.nearest import did_you_mean
from provision.errors import ProvisionError
from provision.lab import cloud_facts, state
from provision.lab.calico.authentication import kernel_signs_segments
from provision.lab.database import standin
from provision.lab.database.certificates import database_access
from provision.lab.entry import ROUTER, Entry
from provision.lab.entry import environment as host_environment
from provision.lab.host import etcd_program, search_path
from provision.lab.kube.real.assets import find_assets
from provision.lab.launcher import await_stage, ends_with_this_process, launch, let_live
from provision.lab.paths import LabFolder
from provision.lab.profiles import PROFILES, Profile
from provision.lab.stages import Stage
from provision.lab.topology import TOPOLOGIES, LabTopology, PolicyPeers
from provision.provider import NoProgress

if TYPE_CHECKING:
    from provision.environment import Environment
    from provision.outages import Outages
    from provision.provider import Progress
    from provision.sections.provider import LabSettings


@dataclass(frozen=True)
class LabProvider:
    """Brings a lab up for a run, or uses a named one that `python -m provision up` left running."""

    name: str = "lab"

    def up(
        self,
        environment: Environment,
        *,
        folder: Path,
        progress: Progress,
        needs: frozenset[Capability] = frozenset(),
    ) -> Fleet:
        """Start a lab in that folder, or find the named one; return when its API servers answer.

        Raises:
            LabUnavailableError: this machine cannot run labs.
            ProvisionError: the lab does not come up, or there is no lab of that name, or it has another shape.
        """
        settings = _settings(environment)
        lab = (
            self._named(settings.name, environment)
            if settings.name
            else self._launch(environment, settings, folder, progress, needs)
        )
        profile = PROFILES[lab.state.profile]
        topology = Entry(lab).topology
        access = database_access(lab.folder.pki) if topology.database else None
        return Fleet(
            plan=environment.plan(),
            provider=self.name,
            clusters=tuple(
                ClusterHandle(
                    region.name,
                    str(environment.kubeconfig_of(region) if settings.name else lab.folder.verifier_kubeconfig),
                    environment.context_of(region),
                )
                for region in environment.regions
            ),
            capabilities=_capabilities(profile, topology, database=access is not None),
            stand_ins=(
                *stand_ins(profile, lab.state.api_server, lab.state.coredns),
                *database_stand_in(topology),
            ),
            state_dir=str(lab.folder.path),
            probe_image=environment.probes.image,
            probe_namespace=environment.probes.namespace,
            probe_pull_secret=environment.probes.pull_secret,
            probes_per_node=environment.probes.per_node,
            full_mesh_limit=environment.probes.full_mesh_limit,
            outposts=Entry(lab).outposts(),
            database=access,
            outage_modes=frozenset(OutageMode),
        )

    def lasting(
        self, environment: Environment, *, progress: Progress, needs: frozenset[Capability] = frozenset()
    ) -> Environment:
        """The named lab that it is, or a new one that has the environment's name; see `python -m provision list`.

        Raises:
            ProvisionError: a lab of that name is there already, or the lab does not come up.
        """
        from provision.environment_file import load_environment

        settings = _settings(environment)
        if settings.name:
            return environment
        folder = state.claim(environment.name)
        try:
            lab = self._launch(environment, settings, folder.path, progress, needs)
        except BaseException:
            state.forget(folder)
            raise
        let_live(lab)
        return load_environment(lab.folder.environment)

    def wait_ready(self, fleet: Fleet, within: timedelta) -> None:
        """Return when sessions, routes, pods and DNS have once been as planned.

        Raises:
            ProvisionError: they were not in time, or the lab has ended.
        """
        await_stage(_lab(fleet), Stage.READY, within=within, progress=NoProgress())

    def down(self, fleet: Fleet) -> None:
        """End a lab that `up` launched in this process, and leave its logs; a named lab stays as it is.

        Raises:
            ProvisionError: a process of the lab does not end.
        """
        lab = state.read_lab(LabFolder(Path(fleet.state_dir or "")))
        if lab is None or not ends_with_this_process(lab):
            return
        state.end(lab)
        for leftover in lab.folder.path.iterdir():
            if leftover == lab.folder.logs:
                continue
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()

    def outages(self, fleet: Fleet) -> Outages:
        """Those of every mode. Raises ProvisionError when the lab has been taken down."""
        from provision.lab.outages import LabOutages
        from provision.outages.journaled import JournaledOutages

        return JournaledOutages(fleet, LabOutages(_lab(fleet), fleet).courses)

    def networks(self, fleet: Fleet) -> Networks:
        """What the VPC routers' links, routes and rules say now: they play the cloud's description of its networks."""
        entry = Entry(_lab(fleet))
        states, gaps = [], []
        with ThreadPoolExecutor() as pool:
            asked = [(region.name, pool.submit(_router_state, entry, region.name)) for region in fleet.plan.regions]
        for region, answer in asked:
            try:
                states.append(answer.result())
            except (ProvisionError, OSError, ValueError, subprocess.SubprocessError) as error:
                gaps.append(Gap(region, "the network, its routes and its rules", f"VPC router: {error}"))
        found = cloud_facts.networks(entry.topology.cloud, states)
        return replace(found, gaps=(*gaps, *found.gaps))

    @staticmethod
    def _named(name: str, environment: Environment) -> state.Lab:
        lab = state.find_lab(name)
        planned = environment.plan().regions
        actual = Entry(lab).topology.plan.regions
        if {region.name for region in planned} != {region.name for region in actual}:
            raise ProvisionError(
                "the lab of that name has other regions",
                where=name,
                expected=", ".join(region.name for region in planned),
                observed=", ".join(region.name for region in actual),
                remedy=f"use {lab.folder.environment}, which was written for this lab",
            )
        await_stage(lab, Stage.API, progress=NoProgress())
        return lab

    @staticmethod
    def _launch(
        environment: Environment,
        settings: LabSettings,
        folder: Path,
        progress: Progress,
        needs: frozenset[Capability],
    ) -> state.Lab:
        topology = _topology(environment, settings, database=Capability.DATABASE in needs)
        lab = launch(topology, LabFolder(folder), progress=progress, kube_assets=find_assets())
        try:
            await_stage(lab, Stage.API, progress=progress)
        except BaseException:
            state.end(lab)
            raise
        return lab


_UNSIGNED = (("BGP passwords", "configured and not in force: this kernel cannot sign TCP segments"),)


def stand_ins(profile: Profile, api_server: str, coredns: str = "") -> tuple[tuple[str, str], ...]:
    """The parts of a lab that play a real one, for the header of every report.

    Args:
        profile: the lab's.
        api_server: which one it is where it is Kubernetes' own, with its version; else empty.
        coredns: its name and version where it runs itself; else empty.
    """
    own = "the lab's own"
    server = f"{api_server}, with {own}" if api_server else f"{own} API server,"
    return (
        ("cloud", "VPC routers in network namespaces"),
        ("kubernetes", f"{server} node agents and controllers"),
        *((part, by_whom.format_map(_Versions())) for part, by_whom in profile.stand_ins),
        *(_UNSIGNED if Capability.BGP in profile.capabilities and not kernel_signs_segments() else ()),
        ("dns", coredns or f"{_version('pdns_recursor')} in place of CoreDNS"),
    )


def database_stand_in(topology: LabTopology) -> tuple[tuple[str, str], ...]:
    """What plays CockroachDB in a lab whose database runs; nothing where it is CockroachDB itself."""
    if not topology.database or topology.engine != POSTGRESQL:
        return ()
    return (("database", f"{standin.version_of_member()} and {_version('etcd')} in place of CockroachDB"),)


def _capabilities(profile: Profile, topology: LabTopology, *, database: bool) -> frozenset[Capability]:
    missing = {Capability.FEDERATION} if topology.policy_peers is PolicyPeers.NETWORK_SETS else set()
    return (profile.capabilities - missing) | ({Capability.DATABASE} if database else set())


def _settings(environment: Environment) -> LabSettings:
    if environment.provider.kind != "lab":
        raise ProvisionError("this is not the environment of a lab", where=environment.name)
    return environment.provider


def _topology(environment: Environment, settings: LabSettings, *, database: bool) -> LabTopology:
    """The lab that has the environment's plan.

    Args:
        environment: with a plan.
        settings: how a lab is to be.
        database: whether somebody needs the database; it runs then, and when the settings say so.

    Raises:
        ProvisionError: no lab has: a lab's figures follow from its size.
    """
    if environment.profile not in TOPOLOGIES:
        raise ProvisionError(
            f"no lab profile {environment.profile!r}{did_you_mean(environment.profile, TOPOLOGIES)}",
            where=f"{environment.name}: profile",
            expected=f"one of {', '.join(TOPOLOGIES)}",
        )
    try:
        topology = TOPOLOGIES[environment.profile](
            environment.name,
            regions=len(environment.regions),
            nodes=environment.regions[0].node_count,
            pods=settings.pods,
            timers=settings.timers,
            database=settings.database or database,
            engine=environment.database.engine if environment.database else POSTGRESQL,
            database_timers=settings.database_timers,
            policy_peers=settings.policy_peers,
        )
    except ValueError as error:
        raise ProvisionError(str(error), where=environment.name) from None
    if topology.plan.regions != environment.plan().regions:
        raise ProvisionError(
            "a lab cannot be given these figures: they follow from the number of regions and nodes",
            where=environment.name,
            remedy="start from the environment.yaml that "
            f"`python -m provision up lab:{environment.profile} --name NAME` writes",
        )
    return topology


def _lab(fleet: Fleet) -> state.Lab:
    lab = state.read_lab(LabFolder(Path(fleet.state_dir or "")))
    if lab is None:
        raise ProvisionError(
            "the lab has been taken down", where=fleet.plan.name, observed=f"nothing in {fleet.state_dir}"
        )
    return lab


def _router_state(entry: Entry, region: str) -> cloud_facts.RouterState:
    argv = entry.command(f"{region}/{ROUTER}", cloud_facts.COMMAND)
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=host_environment(), timeout=10)
    return cloud_facts.read_state(region, done.stdout)


_OWN_WORDS = re.compile(r"(?P<name>[A-Za-z]+(?: Recursor)?)(?: [Vv]ersion:?)? (?P<version>\d+(?:\.\d+)+)")
"""Some begin with the time of day."""


class _Versions(dict[str, str]):
    """A tool's version, by its name, looked up when it is asked for."""

    def __missing__(self, tool: str) -> str:
        return _version(tool)


def _version(tool: str) -> str:
    """The name and version that the tool itself gives: "BIRD 2.0.12", "PowerDNS Recursor 4.8.8", "etcd 3.5.1"."""
    path = str(etcd_program()) if tool == "etcd" else shutil.which(tool, path=search_path())
    if path is None:
        return tool
    done = subprocess.run([path, "--version"], capture_output=True, text=True)
    said = _OWN_WORDS.search(done.stdout or done.stderr)
    return f"{said['name']} {said['version']}" if said else tool
