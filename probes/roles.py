"""Pods that wear the labels of policy's roles, and strangers that wear none of them: who tries what gets through.

They come when flows are to be tried and go right afterwards. Like all pods of ours they carry the run's labels and end
by themselves. Behind their doors, listeners wait on ports that must be open and on ports that must be closed: silence
proves nothing where nobody listens. Ordinary probe pods take part as well: they are clients of the database.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from analysis.facts import Gap, Party
from analysis.fleet import Fleet
from analysis.plan import CLIENT, DATABASE, PolicyPlan
from probes import deploy
from probes.cluster import Cluster, KubeObject
from probes.deploy import ProbePod, ProbeSet
from probes.doors import open_doors
from probes.errors import ApiError, ProbeError
from probes.mesh import Mesh
from probes.node_ports import SELECTED, NodePorts, open_node_ports

NODE_PORTS = "node-ports"
"""The part of what is tried that gaps about node ports name."""

PART = "policy"
"""What the label `meshproof/probe` of these pods says."""

DOORS = "doors"
"""What a pod's doors are asked by, behind its name."""

LIFE = timedelta(minutes=15)
READY_WITHIN = timedelta(seconds=60)
DOORS_WITHIN = timedelta(seconds=10)

ARBITRARY = 5432
"""A port that policy opens for nobody, where few are tried."""

SPREAD = (22, 53, 80, 443, 2379, 5432, 6443, 10250, 26258)
"""Ports that something usually listens on: SSH, DNS, the web, etcd, PostgreSQL, the Kubernetes API, kubelets, and what
newer layouts of CockroachDB use between nodes."""

FIRST_UNPRIVILEGED = 1024
_PORT_START = {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}
"""A sysctl that every level of Pod Security allows: whoever runs in the pod may listen on any port."""


@dataclass(frozen=True)
class Actor:
    """A pod that flows are tried from and to.

    Attributes:
        role: the plan's name for it; "" for a stranger.
        doors: (protocol, port) behind which somebody of ours listens; empty until they are open.
        entrances: TCP ports that a node is to lead to.
        node_ports: those that a port of every node leads to.
    """

    pod: ProbePod
    party: Party
    role: str = ""
    doors: tuple[tuple[str, int], ...] = ()
    entrances: tuple[int, ...] = ()
    node_ports: NodePorts = ()

    @property
    def doors_name(self) -> str:
        """What the listeners behind its doors are addressed by, besides those that a probe pod has anyway."""
        return f"{self.pod.name}-{DOORS}"


@dataclass(frozen=True)
class Cast:
    """Who takes part.

    Attributes:
        actors: those whose doors are open, region by region; probe pods come last.
        newcomer: a stranger who may become a pod of the database.
        leaving: a pod of the database that may go and come again.
        gaps: who is missing, and why.
    """

    actors: tuple[Actor, ...]
    newcomer: Actor | None = None
    leaving: Actor | None = None
    gaps: tuple[Gap, ...] = ()


def ports_to_try(policy: PolicyPlan) -> tuple[int, ...]:
    """Every port that policy opens for anybody, its neighbours, and a spread of others."""
    allowed = {port for flow in policy.allow for port in flow.ports}
    neighbours = {port + step for port in allowed for step in (-1, 1) if 0 < port + step < 1 << 16}
    return tuple(sorted(allowed | neighbours | set(SPREAD)))


@contextmanager
def cast(mesh: Mesh, probe_set: ProbeSet) -> Iterator[Cast]:
    """While this lasts, pods of all roles and strangers are there with open doors.

    In every region: two of the database on two nodes, a stranger beside the first, one of every other role beside the
    second, and the probe pods of both nodes. Whoever does not come is a gap.

    Raises:
        ProbeError: nobody came at all.
    """
    policy = mesh.fleet.plan.policy
    assert policy is not None
    wanted, extras = _wanted(mesh.fleet, policy, probe_set), _extras(mesh.fleet, probe_set)
    try:
        yield _opened(mesh, policy, probe_set, wanted, extras)
    finally:
        remove(mesh, [actor.pod for actor in (*wanted, *extras)])


def remove(mesh: Mesh, pods: Sequence[ProbePod]) -> None:
    """Remove these pods, as far as the clusters let us: what stays ends by itself, and is swept by the next run."""
    for _pod, _error in mesh.each(
        pods,
        lambda pod: pod.region,
        lambda cluster, pod: cluster.delete(deploy.pod_path(pod), grace_seconds=deploy.GRACE_SECONDS),
    ):
        pass


def new_actor(fleet: Fleet, region: str, node: str, role: str, *, party: Party = Party.ROLE) -> Actor:
    """One that is still to be created, under a name that no other ever had."""
    policy = fleet.plan.policy
    assert policy is not None
    kind = re.sub(r"[^a-z0-9]+", "-", (role or "stranger").lower())[:12].strip("-")
    name = deploy.pod_name(secrets.token_hex(3), node, kind)
    return Actor(ProbePod(region, node, policy.namespace or fleet.probe_namespace, name, on_host=False), party, role)


def enter(
    mesh: Mesh, probe_set: ProbeSet, actors: Sequence[Actor], ports: Sequence[int]
) -> tuple[tuple[Actor, ...], tuple[Gap, ...]]:
    """Create these pods and open their doors. Whoever does not come is a gap; nobody is removed."""
    policy = mesh.fleet.plan.policy
    assert policy is not None
    expires = (datetime.now(UTC) + LIFE).isoformat(timespec="seconds")
    gaps, created = [], []
    for actor, told in mesh.each(
        actors,
        lambda actor: actor.pod.region,
        lambda cluster, actor: _create(cluster, actor, _manifest(mesh.fleet, policy, actor, probe_set.run, expires)),
    ):
        if isinstance(told, ProbeError):
            gaps.append(Gap(actor.pod.region, f"pod of the role {actor.role or 'stranger'}", str(told)))
            continue
        node_ports, failure = told
        created.append(replace(actor, node_ports=node_ports))
        if failure:
            gaps.append(Gap(actor.pod.region, "node ports", failure, (NODE_PORTS,)))
    by_pod = {actor.pod.identity: actor for actor in created}
    entered = []
    for region, outcome in mesh.each_region(
        lambda cluster: deploy.start_in(
            cluster,
            mesh,
            [actor.pod for actor in created if actor.pod.region == cluster.region],
            probe_set.run,
            READY_WITHIN,
            partial(_open_in_new, ports=ports),
        )
    ):
        if isinstance(outcome, ProbeError):
            gaps.append(Gap(region, "pods of policy's roles", str(outcome)))
            continue
        for pod, opened in outcome:
            actor = by_pod[pod.identity]
            if isinstance(opened, str):
                gaps.append(Gap(pod.region, f"pod of the role {actor.role or 'stranger'} on node {pod.node}", opened))
            else:
                entered.append(replace(actor, pod=opened[0], doors=opened[1]))
    order = {actor.pod.identity: place for place, actor in enumerate(actors)}
    entered.sort(key=lambda actor: order[actor.pod.identity])
    return tuple(entered), tuple(gaps)


def nodes_of(probe_set: ProbeSet, region: str) -> list[str]:
    """The two nodes of the region that everybody is placed on; the only one twice, none where no probe runs."""
    nodes = list(dict.fromkeys(pod.node for pod in probe_set.on_pods() if pod.region == region))
    return [nodes[0], nodes[1 % len(nodes)]] if nodes else []


def _wanted(fleet: Fleet, policy: PolicyPlan, probe_set: ProbeSet) -> list[Actor]:
    wanted = []
    others = [role.name for role in policy.roles if role.name not in (DATABASE, CLIENT)]
    for region in (handle.region for handle in fleet.clusters):
        nodes = nodes_of(probe_set, region)
        if not nodes:
            continue
        first, *further = (new_actor(fleet, region, node, DATABASE) for node in nodes)
        stranger = new_actor(fleet, region, nodes[0], "", party=Party.STRANGER)
        wanted += [replace(first, entrances=_entrances(policy)), *further, replace(stranger, entrances=(ARBITRARY,))]
        wanted += [new_actor(fleet, region, nodes[1], role) for role in others]
    return wanted


def _entrances(policy: PolicyPlan) -> tuple[int, ...]:
    """What of the database a node leads to: a port that some may use, and one that nobody may."""
    used = next((port for flow in policy.allow if flow.target == DATABASE for port in flow.ports), ARBITRARY)
    return tuple(dict.fromkeys((used, ARBITRARY)))


def _extras(fleet: Fleet, probe_set: ProbeSet) -> list[Actor]:
    """A newcomer and one that leaves, in the first region that has probes."""
    for region in (handle.region for handle in fleet.clusters):
        nodes = nodes_of(probe_set, region)
        if nodes:
            return [
                new_actor(fleet, region, nodes[1], "", party=Party.STRANGER),
                new_actor(fleet, region, nodes[1], DATABASE),
            ]
    return []


def _opened(
    mesh: Mesh, policy: PolicyPlan, probe_set: ProbeSet, wanted: Sequence[Actor], extras: Sequence[Actor]
) -> Cast:
    """Everybody, with open doors."""
    ports = ports_to_try(policy)
    everybody, gaps = enter(mesh, probe_set, [*wanted, *extras], ports)
    apart = {actor.pod.identity for actor in extras}
    entered = [actor for actor in everybody if actor.pod.identity not in apart]
    by_party = {actor.party: actor for actor in everybody if actor.pod.identity in apart}
    if not entered:
        raise ProbeError(gaps[0].error if gaps else "no probe pod runs anywhere, so no pod of a role was placed")
    known = any(role.name == CLIENT for role in policy.roles)
    probes = []
    for region in mesh.regions:
        for node in dict.fromkeys(nodes_of(probe_set, region)):
            pod = next(pod for pod in probe_set.on_pods() if (pod.region, pod.node) == (region, node))
            probes.append(Actor(pod, Party.ROLE if known else Party.STRANGER, CLIENT if known else ""))
    missing = list(gaps)
    clients = []
    for actor, doors in mesh.each(
        probes,
        lambda actor: actor.pod.region,
        lambda cluster, actor: _open(cluster, actor.pod, [port for port in ports if port >= FIRST_UNPRIVILEGED]),
    ):
        if isinstance(doors, ProbeError):
            missing.append(Gap(actor.pod.region, f"doors of {actor.pod.name}", str(doors)))
        else:
            clients.append(replace(actor, doors=doors))
    return Cast((*entered, *clients), by_party.get(Party.STRANGER), by_party.get(Party.ROLE), tuple(missing))


def _create(cluster: Cluster, actor: Actor, manifest: KubeObject) -> tuple[NodePorts, str]:
    """Create its pod and what leads there from nodes, or else say why the latter failed. Raises ApiError."""
    created = deploy.create(cluster, actor.pod, manifest)
    try:
        return (open_node_ports(cluster, actor.pod, created, actor.entrances) if actor.entrances else ()), ""
    except ApiError as error:
        return (), str(error)


def _manifest(fleet: Fleet, policy: PolicyPlan, actor: Actor, run: str, expires: str) -> KubeObject:
    manifest = deploy.pod_manifest(fleet, actor.pod, run, expires)
    worn = policy.labels(actor.role, actor.pod.region) if actor.role else {}
    own = {deploy.OWNED: "true", deploy.RUN: run, deploy.ROLE: PART, SELECTED: actor.pod.name}
    manifest["metadata"]["labels"] = worn | own
    manifest["spec"]["securityContext"]["sysctls"].append(_PORT_START)
    return manifest


def _open_in_new(
    cluster: Cluster, pod: ProbePod, *, ports: Sequence[int]
) -> tuple[ProbePod, tuple[tuple[str, int], ...]]:
    """Open the doors of a pod that has no other listeners: its own controls knock at one of them."""
    doors = _open(cluster, pod, ports)
    return replace(pod, tcp_port=next(port for protocol, port in doors if protocol == "TCP")), doors


def _open(cluster: Cluster, pod: ProbePod, ports: Sequence[int]) -> tuple[tuple[str, int], ...]:
    """Open the doors on these ports, of all protocols; those that are open. Raises ProbeError."""
    by_protocol = dict.fromkeys(("tcp", "udp", "sctp"), ports)
    return open_doors(cluster, pod, DOORS, by_protocol, life=LIFE, within=DOORS_WITHIN)
