"""Probe pods: how they are placed, found ready, and removed again, even after a crash.

Every object carries the label `meshproof/owned=true`, the label `meshproof/run`, and the time after which nobody needs
it any more in the annotation `meshproof/expires`. Pods end by themselves at that time; what is left of them is removed
by the next run. Nothing that lacks the label is ever touched.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from ipaddress import IPv4Address
from typing import TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from analysis.facts import Endpoint, Gap
from analysis.fleet import Capability, Fleet
from analysis.plan import CLIENT, PolicyPlan
from probes.client import Operation, run_agent
from probes.cluster import Cluster, KubeObject
from probes.errors import ApiError, ProbeError
from probes.mesh import Mesh

T = TypeVar("T")

OWNED, RUN, ROLE, EXPIRES = "meshproof/owned", "meshproof/run", "meshproof/probe", "meshproof/expires"
CONTAINER = "probe"
LIFE = timedelta(hours=1)
READY_WITHIN = timedelta(seconds=90)
LISTEN_WITHIN = timedelta(seconds=5)
ACCOUNT_WITHIN = timedelta(seconds=10)
GRACE_SECONDS = 1
UNPRIVILEGED_USER = 65532
TCP_PORT, UDP_PORT, SINK_PORT = 20257, 20257, 20258
"""Below the ranges of node ports and of ephemeral ports. A port that is taken is replaced by a free one."""

# The pod's first process: reaps what the agent leaves, ends at once on SIGTERM, and by itself when its time is over.
IDLE = (
    "import signal as s,sys;e=lambda *_:sys.exit(0);s.signal(s.SIGTERM,e);s.signal(s.SIGALRM,e);"
    "s.signal(s.SIGCHLD,s.SIG_IGN);s.alarm(int(sys.argv[1]))\nwhile True:s.pause()"
)


@dataclass(frozen=True)
class ProbePod:
    """A probe pod. Its address and ports are known once its listeners run.

    Attributes:
        on_host: it uses the node's network: it stands for the node.
        tcp_port: where its TCP listener is, 0 as long as it is not known; the others alike.
        sink_port: where bulk transfers go.
    """

    region: str
    node: str
    namespace: str
    name: str
    on_host: bool
    address: IPv4Address | None = None
    tcp_port: int = 0
    udp_port: int = 0
    sink_port: int = 0

    @property
    def identity(self) -> str:
        """What its listeners call themselves: unlike that of any other in the mesh."""
        return f"{self.region}/{self.name}"

    @property
    def listener_name(self) -> str:
        """What its listeners are addressed by inside their network namespace."""
        return self.name

    @property
    def ready(self) -> bool:
        """Its listeners run."""
        return self.address is not None and self.tcp_port > 0

    @property
    def control(self) -> tuple[str, int, str]:
        """Its own TCP listener, as the agent's control probe knocks at it."""
        return (str(self.address), self.tcp_port, self.identity)

    @property
    def endpoint(self) -> Endpoint:
        """The place that it probes from. It must be ready."""
        assert self.address is not None
        return Endpoint(self.region, self.node, self.node if self.on_host else self.name, self.address, self.on_host)


@dataclass(frozen=True)
class ProbeSet:
    """The probe pods of a run.

    Attributes:
        run: value of the run label.
        expires: when they end by themselves, RFC 3339.
        pods: those that run; before `wait_ready`, those that were created.
        created_namespaces: regions whose probe namespace did not exist before.
        gaps: nodes that have no probe, and why.
        retries: how often the instrument had to be tried again.
    """

    run: str
    namespace: str
    expires: str
    pods: tuple[ProbePod, ...]
    created_namespaces: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    retries: int = 0

    def on_pods(self) -> tuple[ProbePod, ...]:
        """The probes in the pod network."""
        return tuple(pod for pod in self.pods if not pod.on_host)

    def on_hosts(self) -> tuple[ProbePod, ...]:
        """The probes in the nodes' network."""
        return tuple(pod for pod in self.pods if pod.on_host)


def deploy(mesh: Mesh, per_node: int = 1) -> ProbeSet:
    """Place probes on every node that is ready, start their listeners, and wait until they listen.

    A node where that does not work becomes a gap. When it works nowhere, what was made is removed again.

    Args:
        mesh: the clusters.
        per_node: pods in the pod network on each node; one more in the node's own where that is allowed.

    Raises:
        ProbeError: nothing could be placed anywhere.
    """
    placed = place(mesh, per_node)
    try:
        return wait_ready(mesh, placed)
    except BaseException:
        with suppress(ProbeError):  # the first failure is the one to tell
            remove(mesh, placed)
        raise


def place(mesh: Mesh, per_node: int = 1) -> ProbeSet:
    """Create the probe pods without waiting for them. Raises ProbeError when a cluster lets none be created."""
    run = run_label(mesh.run_id)
    expires = (datetime.now(UTC) + LIFE).isoformat(timespec="seconds")
    gaps: list[Gap] = []
    wanted: list[ProbePod] = []
    created_namespaces = []
    for region, prepared in mesh.each_region(lambda cluster: _prepare(mesh.fleet, cluster, run, expires)):
        if isinstance(prepared, ProbeError):
            gaps.append(Gap(region, "probe pods", str(prepared)))
            continue
        if prepared.namespace_created:
            created_namespaces.append(region)
        gaps += (Gap(region, f"probe pods on node {node}", "the node is not Ready") for node in prepared.unready)
        for node in prepared.nodes:
            wanted += _pods_for(mesh.fleet, region, node, run, per_node)
    created = []
    for pod, outcome in mesh.each(
        wanted,
        lambda pod: pod.region,
        lambda cluster, pod: create(cluster, pod, pod_manifest(mesh.fleet, pod, run, expires)),
    ):
        if isinstance(outcome, ProbeError):
            gaps.append(Gap(pod.region, f"probe pod {pod.name} on node {pod.node}", str(outcome)))
        else:
            created.append(pod)
    placed = ProbeSet(run, mesh.fleet.probe_namespace, expires, tuple(created), tuple(created_namespaces), tuple(gaps))
    if not created:
        with suppress(ProbeError):
            remove(mesh, placed)
        raise ProbeError("no probe pod could be created anywhere: " + (gaps[0].error if gaps else "there is no node"))
    return placed


def wait_ready(mesh: Mesh, probe_set: ProbeSet, within: timedelta = READY_WITHIN) -> ProbeSet:
    """Wait until every pod runs and its listeners listen; a set that is ready already is given back as it is.

    Raises:
        ProbeError: not one became ready in time; the message holds what the first one is waiting for.
    """
    if all(pod.ready for pod in probe_set.pods):
        return probe_set
    ready: list[ProbePod] = []
    gaps = list(probe_set.gaps)
    retries = probe_set.retries
    for region, outcome in mesh.each_region(lambda cluster: _listening(cluster, mesh, probe_set, within)):
        if isinstance(outcome, ProbeError):
            gaps.append(Gap(region, "probe pods", str(outcome)))
            continue
        for pod, listening in outcome:
            if isinstance(listening, _Listening):
                ready.append(listening.pod)
                retries += listening.retries
            else:
                gaps.append(Gap(region, f"probe pod {pod.name} on node {pod.node}", listening))
    if not ready:
        why = gaps[-1].error if gaps else "none was created"
        raise ProbeError(f"no probe pod became ready within {within.total_seconds():g} s: {why}")
    order = {pod.identity: place for place, pod in enumerate(probe_set.pods)}
    ready.sort(key=lambda pod: order[pod.identity])
    return replace(probe_set, pods=tuple(ready), gaps=tuple(gaps), retries=retries)


def remove(mesh: Mesh, probe_set: ProbeSet) -> None:
    """Remove the pods of a run, and the namespace where this run made it. Everything is tried.

    Raises:
        ProbeError: a cluster did not let something be removed; it ends by itself when it expires.
    """
    selector = f"{OWNED}=true,{RUN}={probe_set.run}"

    def clear(cluster: Cluster) -> None:
        # Asked rather than remembered: a create whose answer was lost has made a pod all the same.
        for place in namespaces(mesh.fleet):
            for pod in cluster.items(_pods_path(place), labelSelector=selector):
                cluster.delete(_pod_path(place, pod["metadata"]["name"]), grace_seconds=GRACE_SECONDS)
        if cluster.region in probe_set.created_namespaces:
            cluster.delete(f"/api/v1/namespaces/{probe_set.namespace}")

    failures = [error for _region, error in mesh.each_region(clear) if isinstance(error, ProbeError)]
    if failures:
        raise failures[0]


def sweep(mesh: Mesh) -> tuple[str, ...]:
    """Remove what crashed runs left behind: owned pods, and namespaces that we made, past their expiry.

    Pods of a run that is still alive have not expired. Names of the removed things are given back.

    Raises:
        ProbeError: a cluster did not let something be removed.
    """
    namespace = mesh.fleet.probe_namespace

    def clear(cluster: Cluster) -> list[str]:
        removed = []
        for place in namespaces(mesh.fleet):
            for pod in cluster.items(_pods_path(place), labelSelector=f"{OWNED}=true"):
                if expired(pod):
                    cluster.delete(_pod_path(place, pod["metadata"]["name"]))
                    removed.append(f"{cluster.region}/{place}/{pod['metadata']['name']}")
        try:
            found = cluster.get(f"/api/v1/namespaces/{namespace}")
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return removed
            raise
        if EXPIRES in (found["metadata"].get("annotations") or {}) and expired(found):
            cluster.delete(f"/api/v1/namespaces/{namespace}")
            removed.append(f"{cluster.region}/{namespace}")
        return removed

    swept: list[str] = []
    for _region, outcome in mesh.each_region(clear):
        if isinstance(outcome, ProbeError):
            raise outcome
        swept += outcome
    return tuple(swept)


def namespaces(fleet: Fleet) -> tuple[str, ...]:
    """Where pods of ours may be: the probe namespace, and that of the pods that wear the roles of policy."""
    policy = fleet.plan.policy if Capability.POLICY in fleet.capabilities else None
    own = (policy.namespace,) if policy and policy.namespace else ()
    return tuple(dict.fromkeys((fleet.probe_namespace, *own)))


def expired(found: KubeObject, now: datetime | None = None) -> bool:
    """Whether an owned object's time is over. One that is marked as ours without a readable time has none left."""
    text = (found["metadata"].get("annotations") or {}).get(EXPIRES, "")
    try:
        expires = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return True
    if expires.tzinfo is None:
        return True
    return expires < (now or datetime.now(UTC))


def run_label(run_id: str) -> str:
    """The run's id as a label value: at most 63 characters, beginning and ending with a letter or digit."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", run_id)[-63:].strip("._-")


def pod_name(run: str, node: str, suffix: str) -> str:
    """A pod name that tells the node, unique in the run and within the 63 characters of a host name."""
    short = re.sub(r"[^a-z0-9]", "", run.lower())[-6:]
    name = f"probe-{short}-{re.sub(r'[^a-z0-9-]', '-', node.lower())}-{suffix}"
    if len(name) <= 63 and "." not in node:
        return name
    digest = hashlib.sha256(node.encode()).hexdigest()[:6]
    return f"probe-{short}-{re.sub(r'[^a-z0-9-]', '-', node.lower())[:36].strip('-')}-{digest}-{suffix}"


def pod_manifest(fleet: Fleet, pod: ProbePod, run: str, expires: str) -> KubeObject:
    """The pod: bound to its node, within PodSecurity "restricted" unless it uses the node's network.

    A probe on the host is root with no capability but NET_RAW, which ICMP needs there: a pod in the host's network
    may not set `ping_group_range`.
    """
    container: KubeObject = {
        "name": CONTAINER,
        "image": fleet.probe_image,
        "command": ["python3", "-I", "-S", "-c", IDLE, str(int(LIFE.total_seconds()))],
        # No limit on the CPU: throttling would be measured as latency of the network.
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    spec: KubeObject = {
        "nodeName": pod.node,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": int(LIFE.total_seconds()),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
    }
    seccomp = {"seccompProfile": {"type": "RuntimeDefault"}}
    if pod.on_host:
        spec["hostNetwork"] = True
        spec["dnsPolicy"] = "Default"
        spec["securityContext"] = {"runAsUser": 0, **seccomp}
        container["securityContext"]["capabilities"]["add"] = ["NET_RAW"]
    else:
        spec["securityContext"] = {
            "runAsNonRoot": True,
            "runAsUser": UNPRIVILEGED_USER,
            "runAsGroup": UNPRIVILEGED_USER,
            "sysctls": [{"name": "net.ipv4.ping_group_range", "value": "0 2147483647"}],
            **seccomp,
        }
    if fleet.probe_pull_secret:
        spec["imagePullSecrets"] = [{"name": fleet.probe_pull_secret}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "labels": _client_labels(fleet.plan.policy, pod.region)
            | {OWNED: "true", RUN: run, ROLE: "host" if pod.on_host else "pod"},
            "annotations": {EXPIRES: expires},
        },
        "spec": spec,
    }


def _client_labels(policy: PolicyPlan | None, region: str) -> dict[str, str]:
    """What policy asks of the database's clients: probes are some."""
    known = policy is not None and any(role.name == CLIENT for role in policy.roles)
    return policy.labels(CLIENT, region) if policy and known else {}


@dataclass(frozen=True)
class _Prepared:
    """A cluster that is ready to take probes."""

    nodes: tuple[str, ...]
    unready: tuple[str, ...]
    namespace_created: bool


@dataclass(frozen=True)
class _Listening:
    """A probe whose listeners run."""

    pod: ProbePod
    retries: int


def _prepare(fleet: Fleet, cluster: Cluster, run: str, expires: str) -> _Prepared:
    nodes: list[str] = []
    unready: list[str] = []
    for node in cluster.items("/api/v1/nodes"):
        conditions = {item["type"]: item["status"] for item in node.get("status", {}).get("conditions") or []}
        (nodes if conditions.get("Ready") == "True" else unready).append(node["metadata"]["name"])
    return _Prepared(tuple(sorted(nodes)), tuple(sorted(unready)), _ensure_namespace(fleet, cluster, run, expires))


def _ensure_namespace(fleet: Fleet, cluster: Cluster, run: str, expires: str) -> bool:
    """Make the probe namespace if it is not there; whether it was made."""
    if cluster.has_namespace(fleet.probe_namespace):
        return False
    host = Capability.NODE_PROBES in fleet.capabilities
    labels = {
        OWNED: "true",
        RUN: run,
        "pod-security.kubernetes.io/enforce": "privileged" if host else "restricted",
    }
    metadata = {"name": fleet.probe_namespace, "labels": labels, "annotations": {EXPIRES: expires}}
    cluster.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return True


def _pods_for(fleet: Fleet, region: str, node: str, run: str, per_node: int) -> Iterable[ProbePod]:
    for number in range(1, per_node + 1):
        yield ProbePod(region, node, fleet.probe_namespace, pod_name(run, node, str(number)), on_host=False)
    if Capability.NODE_PROBES in fleet.capabilities:
        yield ProbePod(region, node, fleet.probe_namespace, pod_name(run, node, "host"), on_host=True)


def create(cluster: Cluster, pod: ProbePod, manifest: KubeObject) -> KubeObject:
    """Create a pod of ours, which may be there already because an answer was lost. Raises ApiError."""

    def account_missing(error: BaseException) -> bool:
        # A new namespace has no service account for a moment; servers say 403 or 500 until it has.
        return isinstance(error, ApiError) and "serviceaccount" in error.reason.lower()

    attempts = Retrying(
        stop=stop_after_delay(ACCOUNT_WITHIN.total_seconds()),
        wait=wait_fixed(0.2),
        retry=retry_if_exception(account_missing),
        reraise=True,
    )
    try:
        return attempts(cluster.create, _pods_path(pod.namespace), manifest)
    except ApiError as error:
        # The name is ours alone: it is there because an answer of ours was lost and the request was made again.
        if error.status != HTTPStatus.CONFLICT:
            raise
        return cluster.get(pod_path(pod))


def _listening(
    cluster: Cluster, mesh: Mesh, probe_set: ProbeSet, within: timedelta
) -> list[tuple[ProbePod, _Listening | str]]:
    """The region's pods with their listeners, or what each is still waiting for."""
    pods = [pod for pod in probe_set.pods if pod.region == cluster.region]
    life = min(datetime.fromisoformat(probe_set.expires) - datetime.now(UTC), LIFE)
    return start_in(cluster, mesh, pods, probe_set.run, within, partial(_start_listeners, life=life))


def start_in(
    cluster: Cluster,
    mesh: Mesh,
    pods: Sequence[ProbePod],
    run: str,
    within: timedelta,
    start: Callable[[Cluster, ProbePod], T],
) -> list[tuple[ProbePod, T | str]]:
    """Start something in each pod as soon as it runs.

    Args:
        cluster: where the pods are.
        mesh: all clusters.
        pods: those that were created, of one namespace. Their addresses are not known yet.
        run: value of their run label.
        within: how long they may take until they run.
        start: what to do with each, once it has its address.

    Returns:
        What came of it for each pod, or in words what it is still waiting for.
    """
    waiting = {pod.name: pod for pod in pods}
    if not waiting:
        return []
    states = dict.fromkeys(waiting, PodState("not seen by the API yet"))
    starting: list[tuple[ProbePod, Future[T]]] = []
    selector = f"{OWNED}=true,{RUN}={run}"

    def begin(pod: ProbePod) -> Future[T]:
        return mesh.submit(cluster.region, lambda there: start(there, pod))

    for kind, found in cluster.watch(_pods_path(pods[0].namespace), within=within, labelSelector=selector):
        name = found["metadata"]["name"]
        if name in waiting:
            state = PodState("deleted by somebody else", final=True) if kind == "DELETED" else pod_state(found)
            states[name] = state
            if state.address is not None:
                pod = replace(waiting.pop(name), address=state.address)
                starting.append((pod, begin(pod)))
        if all(states[name].final for name in waiting):
            break
    outcomes: list[tuple[ProbePod, T | str]] = [(pod, states[name].text) for name, pod in waiting.items()]
    for pod, future in starting:
        try:
            outcomes.append((pod, future.result()))
        except ProbeError as error:
            outcomes.append((pod, str(error)))
    return outcomes


def _start_listeners(cluster: Cluster, pod: ProbePod, *, life: timedelta) -> _Listening:
    operation: Operation = {
        "op": "listen",
        "name": pod.listener_name,
        "identity": pod.identity,
        "address": str(pod.address),
        "tcp": [TCP_PORT],
        "udp": [UDP_PORT],
        "sink": [SINK_PORT],
        "life": life.total_seconds(),
    }
    run = run_agent(cluster, pod.namespace, pod.name, [operation], within=LISTEN_WITHIN)
    answer = run.operations[0]
    if "error" in answer:
        raise ProbeError(f"{pod.identity}: {answer['error']}")
    ports = {kind: bound[0] for kind, bound in answer["ports"].items()}
    return _Listening(replace(pod, tcp_port=ports["tcp"], udp_port=ports["udp"], sink_port=ports["sink"]), run.retries)


@dataclass(frozen=True)
class PodState:
    """How far a pod has come. `address` is there once it runs; `final` says that waiting does not help."""

    text: str
    final: bool = False
    address: IPv4Address | None = None


def pod_state(found: KubeObject) -> PodState:
    """How far this pod has come, in the words of its status."""
    status = found.get("status", {})
    phase = status.get("phase", "Pending")
    containers = status.get("containerStatuses") or []
    reasons = [
        f"{state.get('reason', kind)}: {state.get('message', '')}".rstrip(": ")
        for container in containers
        for kind, state in (container.get("state") or {}).items()
        if kind != "running"
    ]
    if phase == "Running" and containers and all(container.get("ready") for container in containers):
        address = ipv4_of(found)
        return PodState("ready", address=address) if address else PodState("it runs, but has no IPv4 address yet")
    if phase in ("Failed", "Succeeded"):
        told = "; ".join(reasons) or status.get("message") or status.get("reason") or "no reason given"
        return PodState(f"it has ended ({phase}): {told}", final=True)
    return PodState(f"it is {phase}" + (f": {'; '.join(reasons)}" if reasons else ""))


def ipv4_of(pod: KubeObject) -> IPv4Address | None:
    """The pod's first IPv4 address."""
    status = pod.get("status", {})
    for text in [*(item.get("ip") for item in status.get("podIPs") or []), status.get("podIP")]:
        if text and ":" not in text:
            return IPv4Address(text)
    return None


def _pods_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def _pod_path(namespace: str, name: str) -> str:
    return f"{_pods_path(namespace)}/{name}"


def pod_path(pod: ProbePod) -> str:
    """Where the API has that pod."""
    return _pod_path(pod.namespace, pod.name)
