"""The host's side of a lab: prepare its folder, start its container, follow its stages.

The API servers' listening sockets are made here, before the container is: a socket stays in the network namespace of
its birth, so the host reaches a server that runs in the lab's own.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.plan import Cni
from provision.errors import ProvisionError
from provision.lab import seed
from provision.lab.agents_config import AgentsConfig, ClusterAccess
from provision.lab.container import STAY, ContainerConfig
from provision.lab.database import certificates as database_certificates
from provision.lab.host import (
    COREDNS_VARIABLE,
    USER_NAMESPACE_OPTION,
    coredns_program,
    coredns_version,
    etcd_program,
    isolation,
    search_path,
)
from provision.lab.kube.identities import ADMIN, VERIFIER, Identity
from provision.lab.kube.pki import ClusterPki, KubeContext, create_cluster_pki, write_kubeconfig
from provision.lab.kube.real.assets import KubeAssets
from provision.lab.paths import INSIDE, LabFolder
from provision.lab.private_file import write_secret
from provision.lab.profiles import profile_of
from provision.lab.stages import Stage, milestones
from provision.lab.state import Lab, LabState, Process, write_state
from provision.lab.topology import API_SERVER_PORT, LabRegion, LabTopology

if TYPE_CHECKING:
    from provision.provider import Progress

START_DEADLINE = timedelta(seconds=240)
"""More than the lab gives itself: it knows better what is missing."""

_LOOPBACK = "127.0.0.1"
_LOOK_EVERY_MS = 20
_BACKLOG = 256
_PROJECT = Path(__file__).parents[2]
_STAGE_WORDS = {
    Stage.FABRIC: "networks are there, waiting for the API servers",
    Stage.API: "API servers answer, waiting for the mesh, pods and DNS",
}

_children: dict[int, tuple[subprocess.Popen[bytes], int | None]] = {}
"""Labs launched by this process, and its ends of the lifelines of those that are to end with it: they stay open."""


@dataclass(frozen=True)
class _Listener:
    """A region's API server as the host sees it."""

    region: LabRegion
    socket: socket.socket

    @property
    def url(self) -> str:
        return f"https://{_LOOPBACK}:{self.socket.getsockname()[1]}"


def launch(
    topology: LabTopology, folder: LabFolder, *, progress: Progress, kube_assets: KubeAssets | None = None
) -> Lab:
    """Start a lab. It ends with this process unless `let_live` is called.

    Returns as soon as the container runs; `await_stage` follows it from there.

    Args:
        topology: which lab.
        folder: an existing folder, as from `state.claim`.
        progress: told what is being done.
        kube_assets: Kubernetes' own API server, to run on in place of the lab's.

    Raises:
        LabUnavailableError: this machine cannot run labs.
        ProvisionError: the container could not be started.
    """
    requested = time.monotonic()
    options = isolation()
    if topology.cni is Cni.CILIUM_CLUSTERMESH:
        etcd_program()  # now, since a pod that lacks it would only never be ready
    progress.stage("certificates and configuration")
    _refuse_hidden(folder)
    folder.logs.mkdir(mode=0o700, exist_ok=True)
    folder.stages.unlink(missing_ok=True)
    folder.spec.write_text(json.dumps(topology.to_spec()) + "\n")
    listeners = tuple(_Listener(region, _listen()) for region in topology.regions)
    try:
        pki = {region.name: _create_pki(folder, region) for region in topology.regions}
        _write_apiserver_config(folder, topology, pki, listeners, kube_assets)
        _write_agents_config(folder, topology, pki)
        _write_kubeconfig(folder.admin_kubeconfig, pki, listeners, ADMIN)
        _write_kubeconfig(folder.verifier_kubeconfig, pki, listeners, VERIFIER)
        progress.stage("networks")
        process = _start_container(options, folder, listeners, requested)
        api = {listener.region.name: listener.url for listener in listeners}
    finally:
        for listener in listeners:
            listener.socket.close()
    state = LabState(
        name=topology.name,
        profile=topology.profile,
        process=process,
        user_namespace=USER_NAMESPACE_OPTION in options,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        api=api,
        api_server=kube_assets.summary if kube_assets else "",
        coredns=coredns_version() or "",
    )
    write_state(folder, state)
    _write_environment(folder, topology)
    return Lab(folder, state)


def await_stage(lab: Lab, stage: Stage, *, within: timedelta = START_DEADLINE, progress: Progress) -> None:
    """Return once the lab has reached that stage.

    Raises:
        ProvisionError: the lab has ended, or is not there in time; the text says what was missing.
    """
    deadline = time.monotonic() + within.total_seconds()
    told = 0
    try:
        end_of_lab = os.pidfd_open(lab.state.process.pid)
    except ProcessLookupError:
        raise _failure(lab) from None
    try:
        ended = select.poll()
        ended.register(end_of_lab, select.POLLIN)
        while True:
            over = bool(ended.poll(_LOOK_EVERY_MS))
            reached = milestones(lab.folder.stages)
            for milestone in reached[told:]:
                if milestone.stage in _STAGE_WORDS:
                    progress.stage(_STAGE_WORDS[milestone.stage])
            told = len(reached)
            if any(milestone.stage is stage for milestone in reached):
                return
            if over:
                raise _failure(lab)
            if time.monotonic() > deadline:
                raise ProvisionError(
                    f"the lab was not {stage.value} within {within.total_seconds():.0f} s",
                    where=lab.state.name,
                    observed=f"it is {lab.stage}",
                    remedy=f"look at {lab.folder.logs}",
                )
    finally:
        os.close(end_of_lab)


def let_live(lab: Lab) -> None:
    """Let a lab that this process launched outlive it, until somebody takes it down by its name."""
    process, lifeline = _children[lab.state.process.pid]
    if lifeline is not None:
        os.write(lifeline, STAY)
        os.close(lifeline)
        _children[lab.state.process.pid] = process, None


def ends_with_this_process(lab: Lab) -> bool:
    """Whether this process launched the lab and has not let it live on."""
    _, lifeline = _children.get(lab.state.process.pid, (None, None))
    return lifeline is not None


def _failure(lab: Lab) -> ProvisionError:
    reached = milestones(lab.folder.stages)
    log = lab.folder.logs / "container.log"
    last_words = reached[-1].error if reached else ""
    return ProvisionError(
        "the lab has ended",
        where=lab.state.name,
        observed=last_words or (log.read_text(errors="replace").strip() if log.exists() else "") or "no word of it",
        remedy=f"look at {lab.folder.logs}",
    )


def _refuse_hidden(folder: LabFolder) -> None:
    """The container has a /run of its own, and would look for its folder there in vain."""
    if folder.path.resolve().is_relative_to("/run"):
        raise ProvisionError(
            "a lab's files cannot be in /run",
            where=str(folder.path),
            remedy="set MESHPROOF_HOME to a folder on a disk",
        )


def _listen() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((_LOOPBACK, 0))
    listener.listen(_BACKLOG)
    return listener


def _create_pki(folder: LabFolder, region: LabRegion) -> ClusterPki:
    addresses: dict[str, IPv4Address] = {node.name: node.address for node in region.nodes}
    return create_cluster_pki(
        folder.pki,
        region.name,
        addresses,
        [region.plan.service_cidr[1], *(node.address for node in region.nodes if node.is_control_plane)],
    )


def _write_apiserver_config(
    folder: LabFolder,
    topology: LabTopology,
    pki: Mapping[str, ClusterPki],
    listeners: tuple[_Listener, ...],
    kube_assets: KubeAssets | None,
) -> None:
    clusters = []
    credentials = profile_of(topology).credentials.create(folder.pki, topology, pki)
    certificates = database_certificates.create(folder.pki, topology) if topology.database else {}
    for listener in listeners:
        region, cluster = listener.region, pki[listener.region.name]
        objects = folder.path / f"seed-{region.name}.json"
        secrets = [*credentials[region.name], *certificates.get(region.name, ())]
        write_secret(objects, json.dumps(seed.objects(topology, region, secrets)).encode())
        clusters.append(
            {
                "region": region.name,
                "fd": listener.socket.fileno(),
                "port": API_SERVER_PORT + region.index,
                "certificate": str(cluster.api_server.certificate),
                "key": str(cluster.api_server.key),
                "ca": str(cluster.ca),
                "tokens": str(cluster.tokens_file),
                "kubelet_client_certificate": str(cluster.kubelet_client.certificate),
                "kubelet_client_key": str(cluster.kubelet_client.key),
                "seed": str(objects),
                "service_cidr": str(region.plan.service_cidr),
                "nodes": [
                    {"netns": node.netns, "address": str(node.address), "port": API_SERVER_PORT}
                    for node in region.nodes
                    if node.is_control_plane
                ],
            }
        )
    config: dict[str, Any] = {"clusters": clusters}
    if kube_assets:
        config |= {"assets": str(kube_assets.folder), "folder": str(INSIDE / "kubernetes"), "logs": str(folder.logs)}
    folder.apiserver.write_text(json.dumps(config, indent=2) + "\n")


def _write_agents_config(folder: LabFolder, topology: LabTopology, pki: Mapping[str, ClusterPki]) -> None:
    config = AgentsConfig(
        topology=topology,
        clusters=tuple(
            ClusterAccess(
                region=region.name,
                server=f"https://{_LOOPBACK}:{API_SERVER_PORT + region.index}",
                ca=pki[region.name].ca,
                tokens=pki[region.name].tokens_file,
                kubelet_certificate=pki[region.name].kubelets.certificate,
                kubelet_key=pki[region.name].kubelets.key,
            )
            for region in topology.regions
        ),
    )
    folder.agents.write_text(json.dumps(config.to_json(), indent=2) + "\n")


def _write_kubeconfig(
    file: Path, pki: Mapping[str, ClusterPki], listeners: tuple[_Listener, ...], identity: Identity
) -> None:
    write_kubeconfig(
        file,
        [
            KubeContext(region, listener.url, pki[region].ca, pki[region].token(identity))
            for listener in listeners
            for region in (listener.region.name,)
        ],
    )


def _write_environment(folder: LabFolder, topology: LabTopology) -> None:
    from provision.environment import Environment  # pydantic: imported while the container starts
    from provision.sections.provider import LabSettings

    environment = Environment.from_plan(
        topology.plan,
        provider=LabSettings(
            kind="lab",
            name=topology.name,
            pods=topology.pods_per_node,
            timers=topology.timers,
            database=topology.database,
            database_timers=topology.database_timers,
            policy_peers=topology.policy_peers,
        ),
        kubeconfig=folder.verifier_kubeconfig,
    )
    folder.environment.write_text(environment.to_yaml())


def _start_container(
    options: tuple[str, ...], folder: LabFolder, listeners: tuple[_Listener, ...], requested: float
) -> Process:
    reader, writer = os.pipe()
    inherited = tuple(listener.socket.fileno() for listener in listeners)
    config = ContainerConfig(folder.path, requested, reader, inherited)
    with (folder.logs / "container.log").open("ab") as log:
        process = subprocess.Popen(
            ["unshare", *options, sys.executable, "-m", "provision.lab.container", config.to_json()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(reader, *inherited),
            cwd="/",
            env=_container_environment(),
            start_new_session=True,
        )
    os.close(reader)
    _children[process.pid] = (process, writer)
    return Process.of(process.pid)


def _container_environment() -> dict[str, str]:
    """Ours, without what would change how Python runs there; the lab's modules come from this project first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    modules = filter(None, (str(_PROJECT), os.environ.get("PYTHONPATH")))
    coredns = coredns_program()
    return {
        **kept,
        **({COREDNS_VARIABLE: str(coredns)} if coredns else {}),
        "PATH": search_path(),
        "PYTHONPATH": os.pathsep.join(modules),
        "PYTHONSAFEPATH": "1",
        # Every TLS context in a lab names its own authority. aiohttp reads all public ones when it is imported, 35 ms.
        "SSL_CERT_FILE": os.devnull,
        "SSL_CERT_DIR": os.devnull,
    }
