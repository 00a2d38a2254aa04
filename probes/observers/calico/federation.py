"""Calico's federation of clusters, which is Calico Enterprise's: who follows whom, and who may get at an API server.

The store that other clusters read is the API server. What a cluster was told about another lies in a Secret, which is
not read: its address is taken to be that of the other cluster's control plane nodes, and what it holds is known from
Typha's log, which tells whether the connection that is made with it stands.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from ipaddress import IPv4Address
from typing import Any

from analysis.expectation import mesh_name
from analysis.facts import (
    Access,
    AccessTrial,
    Credential,
    Federation,
    Gap,
    RemoteCluster,
    RemoteSetting,
    StoreCertificate,
    StoreContent,
)
from analysis.plan import Plan
from analysis.words import listed
from probes.calico import calico_group, calico_objects
from probes.client import AgentRun, run_agent
from probes.cluster import Cluster, KubeObject
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ApiError, ProbeError
from probes.mesh import Mesh
from probes.observers.knocks import Place, observe_knocks
from probes.permissions import CALICO_NAMESPACES
from probes.tls import Door, let_in, read_authorities, read_certificate, throwaway_credential, tls_operation

API_SERVER_PORT = 6443
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
TYPHA_SELECTOR = "k8s-app=calico-typha"
FEDERATION_USER = "system:serviceaccount:kube-system:tigera-federation-remote-cluster"
FEDERATION_GROUPS = ("system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated")
WITHIN = timedelta(seconds=20)

READ_TRIALS = tuple(("", plural, verb) for plural in ("nodes", "pods") for verb in ("list", "watch"))
WRITE_TRIALS = tuple(
    (group, plural, verb)
    for group, plural in (
        ("", "nodes"),
        ("", "pods"),
        ("", "secrets"),
        ("crd.projectcalico.org", "ippools"),
        ("crd.projectcalico.org", "bgppeers"),
        ("crd.projectcalico.org", "globalnetworkpolicies"),
    )
    for verb in ("create", "update", "patch", "delete")
)
"""What the account of the other clusters must not do; a sample of what would hurt."""

STRANGER_WRITES = (
    b"POST /api/v1/namespaces/default/configmaps?dryRun=All HTTP/1.1\r\nHost: kubernetes\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
)
STRANGER_OBJECT = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"meshproof-trial"}}'
"""Whoever let this in would still change nothing: it is a dry run."""

_WORDS = re.compile(
    r"(?P<synced>Sending in-sync update)|(?P<failed>Sending connection failed update)"
    r"|(?P<unusable>Unable to get datastore config|access secret was not found)"
)
_NAME = re.compile(r"RemoteClusterConfiguration\((?P<name>[^)]+)\)")
_REFUSED = re.compile(r"\b40[13]\b|[Uu]nauthorized|[Ff]orbidden")
_DISTRUST = re.compile(r"x509|CERTIFICATE_VERIFY_FAILED|certificate verify failed", re.IGNORECASE)
_STRANGERS = (Credential.NONE, Credential.FOREIGN, Credential.PLAIN)


@dataclass(frozen=True, order=True)
class LinkWords:
    """What Typha's log says last of one remote cluster; the worse, the smaller."""

    synced: bool
    usable: bool
    failures: int
    message: str


NO_TYPHA = LinkWords(synced=False, usable=False, failures=0, message="no Typha runs that would connect")


@dataclass(frozen=True)
class ClusterView:
    """What one cluster's API tells.

    Attributes:
        names: of its RemoteClusterConfigurations.
        words: what Typha says of each; None where no Typha runs.
        doors: where its API server is reached from other clusters.
        nodes: its nodes and their InternalIPs.
        block_nodes: the node of every block of addresses.
        readable: whether the account of the other clusters may read what it is for.
        writable: what that account may write, in words.
    """

    names: tuple[str, ...]
    words: Mapping[str, LinkWords] | None
    doors: tuple[IPv4Address, ...]
    nodes: Mapping[str, IPv4Address | None]
    block_nodes: tuple[str, ...]
    readable: bool
    writable: tuple[str, ...]


def observe_federation(mesh: Mesh, probe_set: ProbeSet) -> Federation:
    """Read configurations, logs and rights in every cluster, then try the API servers' doors from the others."""
    plan = mesh.fleet.plan
    views: dict[str, ClusterView] = {}
    gaps: list[Gap] = []
    for region, seen in mesh.each_region(_observe):
        if isinstance(seen, ProbeError):
            gaps.append(Gap(region, "federation", str(seen)))
        else:
            views[region] = seen
    remotes: list[RemoteCluster] = []
    settings: list[RemoteSetting] = []
    for region, view in views.items():
        for name in view.names:
            remote = meant_cluster(name, plan)
            settings += _setting(region, remote, name, view, views)
            words = view.words.get(name) if view.words is not None else NO_TYPHA
            if words is None:
                gaps.append(
                    Gap(
                        region,
                        f"the connection to {name}",
                        "Typha's log no longer says anything about it",
                        ("remotes",),
                    )
                )
            else:
                remotes.append(read_remote(region, remote, words))
    links = {(remote.region, remote.remote): remote for remote in remotes}
    knocks, knock_gaps = observe_knocks(
        mesh, probe_set, {region: _places(plan, region, views) for region in mesh.regions}
    )
    certificates, trials, door_gaps = _try_doors(mesh, probe_set, views, links)
    return Federation(
        remotes=tuple(remotes),
        settings=tuple(settings),
        certificates=tuple(certificates),
        trials=(*trials, *_account_trials(plan, views, links)),
        knocks=knocks,
        contents=tuple(read_contents(plan, views)),
        gaps=(*gaps, *knock_gaps, *door_gaps),
    )


def _observe(cluster: Cluster) -> ClusterView:
    nodes = cluster.items("/api/v1/nodes")
    group = calico_group(cluster)
    names = tuple(item["metadata"]["name"] for item in remote_configurations(cluster, group))
    return ClusterView(
        names=names,
        words=typha_words(cluster) if names else {},
        doors=tuple(
            address
            for node in nodes
            if CONTROL_PLANE in (node["metadata"].get("labels") or {}) and (address := _internal_ip(node))
        ),
        nodes={node["metadata"]["name"]: _internal_ip(node) for node in nodes},
        block_nodes=tuple(_block_nodes(calico_objects(cluster, group, "ipamblocks"))),
        readable=bool(names) and all(_may(cluster, *trial) for trial in READ_TRIALS),
        writable=tuple(
            f"{verb} {plural}" for group, plural, verb in WRITE_TRIALS if names and _may(cluster, group, plural, verb)
        ),
    )


def remote_configurations(cluster: Cluster, group: str) -> list[KubeObject]:
    """None in open-source Calico, which does not know the kind."""
    try:
        return calico_objects(cluster, group, "remoteclusterconfigurations")
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return []


def typha_words(cluster: Cluster) -> dict[str, LinkWords] | None:
    """What the logs of all Typhas come to; None when none runs. A link is as good as in the Typha that fares worst."""
    told = None
    for pod in cluster.items("/api/v1/pods", labelSelector=TYPHA_SELECTOR):
        metadata = pod["metadata"]
        if metadata["namespace"] in CALICO_NAMESPACES and pod.get("status", {}).get("phase") == "Running":
            log = cluster.text(f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log")
            told = _worst(told or {}, read_words(log))
    return told


def read_words(log: str) -> dict[str, LinkWords]:
    """What a Typha's log says last of every remote cluster."""
    words: dict[str, LinkWords] = {}
    for line in log.splitlines():
        about, told = _NAME.search(line), _WORDS.search(line)
        if about is None or told is None:
            continue
        before = words.get(about["name"])
        failures = (before.failures if before else 0) + bool(told["failed"])
        message = "" if told["synced"] else line[told.start() :].strip()
        words[about["name"]] = LinkWords(bool(told["synced"]), not told["unusable"], failures, message)
    return words


def _worst(some: Mapping[str, LinkWords], others: Mapping[str, LinkWords]) -> dict[str, LinkWords]:
    both = {**some, **others}
    return {name: min(each[name] for each in (some, others) if name in each) for name in both}


def read_remote(region: str, remote: str, words: LinkWords) -> RemoteCluster:
    """A connection of a cluster, as its Typha tells it."""
    return RemoteCluster(
        region=region,
        node=None,
        remote=remote,
        connected=words.synced,
        ready=words.synced,
        synced=words.synced,
        failures=words.failures,
        message=words.message,
    )


def meant_cluster(name: str, plan: Plan) -> str:
    """The cluster that a RemoteClusterConfiguration is named after ("calico-cluster-us-east-2"), else its own name."""
    known = sorted((mesh_name(region) for region in plan.regions), key=len, reverse=True)
    return next((each for each in known if name == each or name.endswith(f"-{each}")), name)


def _setting(
    region: str, remote: str, name: str, view: ClusterView, views: Mapping[str, ClusterView]
) -> Iterator[RemoteSetting]:
    """What a cluster must have been told of another; nothing when that one's nodes are not known."""
    doors = views[remote].doors if remote in views else ()
    words = (view.words or {}).get(name)
    if doors or remote == name:
        yield RemoteSetting(
            region=region,
            remote=remote,
            host=str(doors[0]) if doors else "",
            port=API_SERVER_PORT if doors else 0,
            addresses=doors,
            credentials=("ca", "token") if words is not None and words.usable else (),
        )


# --- what the account may do, and what the stores hold ------------------------------------------------------------


def _may(cluster: Cluster, group: str, plural: str, verb: str) -> bool:
    """Whether the account of the other clusters may do this. It is asked, not done."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": FEDERATION_USER,
            "groups": list(FEDERATION_GROUPS),
            "resourceAttributes": {"group": group, "resource": plural, "verb": verb},
        },
    }
    answer = cluster.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def _account_trials(
    plan: Plan, views: Mapping[str, ClusterView], links: Mapping[tuple[str, str], RemoteCluster]
) -> Iterator[AccessTrial]:
    """What the other clusters' account can do at every API server.

    That it reads is proven by a connection that stands; without one, and for writing, the authorizer is asked.
    """
    for source, target in plan.ordered_pairs():
        link, view = links.get((source.name, mesh_name(target))), views.get(target.name)
        if link is None or view is None:
            continue
        refused = _REFUSED.search(link.message) is not None
        detail = "Typha follows it" if link.connected else link.message or "by access review"
        reads = link.connected or (view.readable and not refused)
        yield AccessTrial(target.name, source.name, Credential.REMOTE, Access.READ, reads, detail)
        detail = f"the account may {listed(view.writable)}" if view.writable else "by access review"
        yield AccessTrial(target.name, source.name, Credential.REMOTE, Access.WRITE, bool(view.writable), detail)


def read_contents(plan: Plan, views: Mapping[str, ClusterView]) -> Iterator[StoreContent]:
    """How many nodes and blocks in each datastore are of which cluster.

    A node is of the cluster whose subnet its address is in, a block is of its node's; what is of none is its finder's.
    """
    homes = {name: region for region, view in views.items() for name in view.nodes}
    for region in plan.regions:
        view = views.get(region.name)
        if view is None:
            continue
        counts: Counter[tuple[str, str]] = Counter()
        for address in view.nodes.values():
            owner = next((each for each in plan.regions if address is not None and address in each.node_cidr), region)
            counts[mesh_name(owner), "nodes"] += 1
        for node in view.block_nodes:
            home = region.name if node in view.nodes else homes.get(node, region.name)
            counts[mesh_name(plan.region(home)), "blocks"] += 1
        for (owner_name, kind), number in sorted(counts.items()):
            yield StoreContent(region.name, owner_name, kind, number)


def _block_nodes(blocks: Iterable[KubeObject]) -> Iterator[str]:
    for block in blocks:
        kind, _, name = (block["spec"].get("affinity") or "").partition(":")
        if kind == "host":
            yield name


def _internal_ip(node: KubeObject) -> IPv4Address | None:
    addresses = (node.get("status") or {}).get("addresses") or ()
    texts = (each["address"] for each in addresses if each["type"] == "InternalIP" and ":" not in each["address"])
    return next(map(IPv4Address, texts), None)


# --- the API servers' doors, seen from other clusters -------------------------------------------------------------


def _places(plan: Plan, region: str, views: Mapping[str, ClusterView]) -> list[Place]:
    """The API servers of the other clusters."""
    others = (other for other in plan.others(region) if other.name in views)
    return [
        Place(mesh_name(other), address, API_SERVER_PORT) for other in others for address in views[other.name].doors
    ]


def _try_doors(
    mesh: Mesh,
    probe_set: ProbeSet,
    views: Mapping[str, ClusterView],
    links: Mapping[tuple[str, str], RemoteCluster],
) -> tuple[list[StoreCertificate], list[AccessTrial], list[Gap]]:
    """Try every API server from a node of each other region, else from a pod, as a stranger in three ways."""
    plan = mesh.fleet.plan
    stranger = throwaway_credential("meshproof-stranger")
    request = STRANGER_WRITES % (len(STRANGER_OBJECT), STRANGER_OBJECT)
    sources = {pod.region: pod for pod in reversed((*probe_set.on_hosts(), *probe_set.on_pods()))}

    def targets(region: str) -> list[tuple[str, IPv4Address]]:
        others = (other.name for other in plan.others(region) if other.name in views)
        return [(name, views[name].doors[0]) for name in others if views[name].doors]

    def run(cluster: Cluster, pod: ProbePod) -> AgentRun:
        doors = [
            Door(address, API_SERVER_PORT, str(address), request=request, protocols=("http/1.1",), **manner)
            for _, address in targets(pod.region)
            for manner in ({}, {"credential": stranger}, {"plain": True})
        ]
        return run_agent(cluster, pod.namespace, pod.name, [tls_operation(doors)], within=WITHIN, control=pod.control)

    certificates: list[StoreCertificate] = []
    trials: list[AccessTrial] = []
    gaps: list[Gap] = []
    for pod, told in mesh.each([pod for pod in sources.values() if targets(pod.region)], lambda pod: pod.region, run):
        failure = str(told) if isinstance(told, ProbeError) else told.control_failure or told.operations[0].get("error")
        if isinstance(told, ProbeError) or failure:
            gaps.append(
                Gap(pod.region, "the doors of other clusters' API servers", failure or "", ("trials", "certificates"))
            )
            continue
        answers = told.operations[0]["targets"]
        for number, (name, address) in enumerate(targets(pod.region)):
            manners = zip(_STRANGERS, answers[number * len(_STRANGERS) :], strict=False)
            for credential, answer in manners:
                trials.append(AccessTrial(name, pod.region, credential, Access.CONNECT, *let_in(answer)))
            link = links.get((pod.region, mesh_name(plan.region(name))))
            authorities = mesh.cluster(name).authorities
            shown = answers[number * len(_STRANGERS)]
            certificates.append(read_door(name, pod.region, address, shown, authorities, link))
    return certificates, trials, gaps


def read_door(
    region: str,
    seen_from: str,
    address: IPv4Address,
    answer: Mapping[str, Any],
    authorities: str,
    link: RemoteCluster | None,
) -> StoreCertificate:
    """The certificate of an API server.

    It is held against the authority of the server's own kubeconfig. What the other cluster was given to verify it by
    is known only by its consequence: a connection that fails over the certificate.
    """
    host = str(address)
    if not answer.get("certificate"):
        problem = str(answer.get("alert") or answer.get("detail") or f"TCP {answer['outcome']}")
        return StoreCertificate(region, seen_from, host, (), None, problem)
    seen = read_certificate(base64.b64decode(answer["certificate"]), host, read_authorities(authorities))
    distrusted = link.message if link is not None and _DISTRUST.search(link.message) else ""
    problem = seen.problem or distrusted
    return StoreCertificate(region, seen_from, host, seen.names, not problem, problem, seen.issuer, seen.not_after)
