"""The underlay: what nodes see of each other without any overlay, and what the outside sees of them.

One run of the agent on each node does everything that is asked of it: echoes with a growing time to live to the nodes
of the other regions, knocks at ports, kernel settings, the time. What a reboot would make of the settings stands in
files, which only a shell on the node reads. From outside, the operator's own place and one without rights knock at the
public addresses that the cloud tells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any
from urllib.parse import urlsplit

from analysis.doors import Doors, Knocker, plan_doors
from analysis.facts import (
    ClockOffset,
    Door,
    Endpoint,
    Gap,
    Instance,
    Inventory,
    KernelSetting,
    Knock,
    Networks,
    OutsideKnock,
    ProbeOutcome,
    ProbeProtocol,
    Trace,
    Underlay,
)
from analysis.fleet import Outpost, Stand
from probes.client import AgentRun, Operation, column, run_agent
from probes.cluster import Cluster
from probes.deploy import ProbePod, ProbeSet
from probes.errors import ExecFailed, ProbeError
from probes.mesh import Mesh
from probes.observers.inventory import observe_inventory
from probes.observers.persistence import MODULE, SCRIPT, parse_persistence
from probes.outpost import outposts, run, run_agent_at, uses_ssh

HOPS = 8
"""More than any path between two regions of a cloud shows."""

MOST_TRACED = 20
"""Nodes of each other region that a node traces the way to."""

TRACE_TIMEOUT_S = 1.0
TRACE_TRIES = 2
KNOCK_TIMEOUT_S = 3.0
"""Time for one more SYN, which the kernel sends after one second, on a busy machine."""

CLOSED_TIMEOUT_S = 2.0
"""From where nothing should be answered, every knock takes all its time."""

WITHIN = timedelta(seconds=20)
SETTINGS_WITHIN = timedelta(seconds=20)
CLOCK_ROUNDS = 8
CLOCK_ENOUGH_S = 0.01
CLOCK_TIMEOUT_S = 3.0

IP_FORWARD = "net.ipv4.ip_forward"
BRIDGE_FILTER = "net.bridge.bridge-nf-call-iptables"
SETTINGS = (IP_FORWARD, BRIDGE_FILTER)


@dataclass(frozen=True)
class _Looked:
    """What one node told."""

    traces: tuple[Trace, ...] = ()
    knocks: tuple[Knock, ...] = ()
    settings: tuple[KernelSetting, ...] = ()
    clock: ClockOffset | None = None
    gaps: tuple[Gap, ...] = ()


def observe_underlay(mesh: Mesh, probe_set: ProbeSet) -> Underlay:
    """Look from every node, from the operator's place and from one without rights, all at once."""
    inventory = observe_inventory(mesh, probe_set)
    doors = plan_doors(mesh.fleet.plan, inventory)
    with ThreadPoolExecutor(max_workers=3, thread_name_prefix="underlay") as pool:
        inside = pool.submit(_look_from_nodes, mesh, probe_set, doors)
        outside = pool.submit(_look_from_outside, mesh, inventory, doors)
        files = pool.submit(_read_files, mesh)
        looked, (knocks, stands, outside_gaps), (persistent, admitted) = (
            inside.result(),
            outside.result(),
            files.result(),
        )
    return Underlay(
        traces=tuple(trace for look in looked for trace in look.traces),
        knocks=tuple(knock for look in looked for knock in look.knocks),
        outside=(*knocks, *admitted, *own_connections(mesh, inventory)),
        stands=stands,
        settings=tuple(
            with_persistence(setting, persistent.get((setting.region, setting.node)))
            for look in looked
            for setting in look.settings
        ),
        clocks=tuple(look.clock for look in looked if look.clock is not None),
        gaps=(*inventory.gaps, *probe_set.gaps, *(gap for look in looked for gap in look.gaps), *outside_gaps),
    )


# --- from nodes -----------------------------------------------------------------------------------------------------


def _look_from_nodes(mesh: Mesh, probe_set: ProbeSet, doors: Doors) -> list[_Looked]:
    """Ask the probe of every node; where none is allowed in the nodes' network, a pod at least tells the time."""
    hosts = probe_set.on_hosts()
    covered = {(pod.region, pod.node) for pod in hosts}
    stand_ins = {(pod.region, pod.node): pod for pod in probe_set.on_pods() if (pod.region, pod.node) not in covered}
    places = [*hosts, *stand_ins.values()]
    asked: defaultdict[tuple[str, str], list[Knocker]] = defaultdict(list)
    for knocker in doors.knockers:
        asked[knocker.source.region, knocker.source.node].append(knocker)

    def look(cluster: Cluster, pod: ProbePod) -> _Looked:
        knocks = asked.get((pod.region, pod.node), []) if pod.on_host else []
        targets = choose_traced(doors.endpoints, pod) if pod.on_host else []
        operations = _operations(knocks, targets)
        run = run_agent(cluster, pod.namespace, pod.name, operations, within=WITHIN, control=pod.control)
        if run.control_failure:
            raise ProbeError(f"{pod.identity}: {run.control_failure}")
        return read_run(pod, run, knocks, targets)

    return [
        _Looked(gaps=(Gap(pod.region, f"node {pod.node}: the underlay", str(seen)),))
        if isinstance(seen, ProbeError)
        else seen
        for pod, seen in mesh.each(places, lambda pod: pod.region, look)
    ]


def choose_traced(endpoints: Sequence[Endpoint], pod: ProbePod) -> list[Endpoint]:
    """Whom a node traces the way to: every node of the other regions, or of many every so manieth of each.

    Which ones that are differs from node to node, so that together they trace more.
    """
    others: defaultdict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in endpoints:
        others[endpoint.region].append(endpoint)
    own = [endpoint.node for endpoint in others.pop(pod.region, [])]
    start = own.index(pod.node) if pod.node in own else 0
    chosen: list[Endpoint] = []
    for nodes in others.values():
        step = -(-len(nodes) // MOST_TRACED)
        chosen += nodes[start % step :: step]
    return chosen


def _operations(knockers: Sequence[Knocker], targets: Sequence[Endpoint]) -> list[Operation]:
    traces = [
        {
            "kind": "icmp",
            "targets": [[str(target.address), 0, ""] for target in targets],
            "timeout": TRACE_TIMEOUT_S,
            "tries": TRACE_TRIES,
            "ttl": hops,
        }
        for hops in range(1, HOPS + 1)
    ]
    knocks = {
        "kind": "knock",
        "targets": [[str(knocker.target.address), knocker.port, ""] for knocker in knockers],
        "timeout": KNOCK_TIMEOUT_S,
    }
    return [
        {"op": "clock", "rounds": CLOCK_ROUNDS, "enough": CLOCK_ENOUGH_S, "timeout": CLOCK_TIMEOUT_S},
        {"op": "read", "files": [f"/proc/sys/{name.replace('.', '/')}" for name in SETTINGS]},
        {"op": "probe", "batches": [*traces, knocks]},
    ]


def read_run(pod: ProbePod, run: AgentRun, knockers: Sequence[Knocker], targets: Sequence[Endpoint]) -> _Looked:
    """What the agent of a node answered; an operation that failed is a gap."""
    clock, files, probes = run.operations
    gaps = [
        Gap(pod.region, f"node {pod.node}: {what}", answer["error"])
        for what, answer in (("its clock", clock), ("kernel settings", files), ("paths and ports", probes))
        if "error" in answer
    ]
    settings: tuple[KernelSetting, ...] = ()
    traces: tuple[Trace, ...] = ()
    knocks: tuple[Knock, ...] = ()
    if "error" not in files and pod.on_host:
        settings = tuple(read_settings(pod, files["contents"]))
    if "error" not in probes and pod.on_host:
        *by_hops, last = probes["batches"]
        traces = tuple(
            read_trace(pod.endpoint, target, [_answer(batch, place) for batch in by_hops])
            for place, target in enumerate(targets)
        )
        knocks = tuple(
            Knock(knocker.source, knocker.target, knocker.door, knocker.port, ProbeOutcome(outcome), detail or "")
            for knocker, outcome, detail in zip(knockers, column(last, "outcome"), column(last, "detail"), strict=True)
        )
    offset = None if "error" in clock else read_clock(pod, clock["rounds"])
    return _Looked(traces, knocks, settings, offset, tuple(gaps))


def _answer(batch: dict[str, Any], place: int) -> tuple[ProbeOutcome, str | None, str]:
    """Outcome, who ended the packet on its way, and what the instrument said."""
    outcome, offender, detail = (column(batch, name)[place] for name in ("outcome", "offender", "detail"))
    return ProbeOutcome(outcome), offender, detail or ""


def read_trace(source: Endpoint, target: Endpoint, answers: Sequence[tuple[ProbeOutcome, str | None, str]]) -> Trace:
    """Put a trace together from what came of packets that may take one hop, two hops, and so on."""
    hops: list[IPv4Address | None] = []
    detail = ""
    for outcome, offender, said in answers:
        if outcome is ProbeOutcome.OPEN:
            return Trace(source, target, (*hops, target.address), reached=True)
        hops.append(IPv4Address(offender) if offender else None)
        detail = said
    while hops and hops[-1] is None:
        hops.pop()
    return Trace(source, target, tuple(hops), reached=False, detail=detail)


def read_settings(pod: ProbePod, contents: Sequence[str | None]) -> Iterable[KernelSetting]:
    """The settings as they are; the module is there when its settings are."""
    values = dict(zip(SETTINGS, contents, strict=True))
    for name, value in values.items():
        yield KernelSetting(pod.region, pod.node, name, (value or "").strip())
    yield KernelSetting(pod.region, pod.node, MODULE, "" if values[BRIDGE_FILTER] is None else "loaded")


def with_persistence(setting: KernelSetting, files: dict[str, str] | None) -> KernelSetting:
    """The setting with what files will make of it; None when they could not be read."""
    persistent = None if files is None else files.get(setting.name)
    return KernelSetting(setting.region, setting.node, setting.name, setting.value, persistent, files is not None)


def read_clock(pod: ProbePod, rounds: Sequence[Sequence[float]]) -> ClockOffset:
    """The offset by the round that took least: the runner's time lies between the node's before and after."""
    before, theirs, after = min(rounds, key=lambda times: times[2] - times[0])
    return ClockOffset(pod.region, pod.node, (before + after) / 2 - theirs, (after - before) / 2)


# --- files on nodes -------------------------------------------------------------------------------------------------

NodeFiles = dict[tuple[str, str], dict[str, str]]


def _read_files(mesh: Mesh) -> tuple[NodeFiles, tuple[OutsideKnock, ...]]:
    """What a reboot would set, by node; and, where nodes are entered by SSH, that the operator gets in."""
    nodes = [post for post in outposts(mesh.fleet, Stand.NODE) if post.region in mesh.regions]
    found: NodeFiles = {}
    admitted: list[OutsideKnock] = []

    def read(_cluster: Cluster, post: Outpost) -> dict[str, str]:
        done = run(post, ["sh", "-c", SCRIPT], within=SETTINGS_WITHIN)
        return parse_persistence(done.stdout.decode("utf-8", "replace"))

    for post, files in mesh.each(nodes, lambda post: post.region, read):
        if not isinstance(files, ProbeError):
            found[post.region, post.name] = files
        if uses_ssh(post):
            admitted.append(ssh_knock(post, files if isinstance(files, ProbeError) else None))
    return found, tuple(admitted)


def ssh_knock(post: Outpost, error: ProbeError | None) -> OutsideKnock:
    """Getting in by SSH proves its port; not getting in proves something only where the network says so itself."""
    said = str(error or "")
    outcome = ProbeOutcome.INCONCLUSIVE
    if error is None:
        outcome = ProbeOutcome.OPEN
    elif isinstance(error, ExecFailed) and "refused" in said:
        outcome = ProbeOutcome.REFUSED
    elif isinstance(error, ExecFailed) and "timed out" in said:
        outcome = ProbeOutcome.DROPPED
    address = str(post.address or post.name)
    return OutsideKnock(Stand.OPERATOR, post.region, post.name, address, Door.SSH, ProbeProtocol.TCP, 22, outcome, said)


# --- from outside ---------------------------------------------------------------------------------------------------

OutsideLook = tuple[tuple[OutsideKnock, ...], tuple[Stand, ...], tuple[Gap, ...]]


def own_connections(mesh: Mesh, inventory: Inventory) -> Iterable[OutsideKnock]:
    """Where the runner is the operator's place, that it has asked an API server proves the way there."""
    if not any(not post.command for post in outposts(mesh.fleet, Stand.OPERATOR)):
        return
    for region in mesh.regions:
        url = urlsplit(mesh.cluster(region).server)
        if url.hostname and not any(gap.region == region for gap in inventory.gaps):
            door, port = Door.API_SERVER, url.port or 443
            stand, protocol, opened = Stand.OPERATOR, ProbeProtocol.TCP, ProbeOutcome.OPEN
            yield OutsideKnock(stand, region, "", url.hostname, door, protocol, port, opened)


def public_nodes(told: Networks, inventory: Inventory) -> list[Instance]:
    """Nodes with their public addresses, by the cloud's word or else the cluster's."""
    by_cloud = {(each.region, each.address): each.public_address for each in told.instances}
    found = []
    for node in inventory.nodes:
        if node.internal_ip is not None:
            public = by_cloud.get((node.region, node.internal_ip)) or node.external_ip
            found.append(Instance(node.region, node.name, node.internal_ip, public))
    return [each for each in found if each.public_address is not None]


def _look_from_outside(mesh: Mesh, inventory: Inventory, doors: Doors) -> OutsideLook:
    """Knock at public addresses from wherever there is an outpost outside."""
    posts = [*outposts(mesh.fleet, Stand.OPERATOR)[:1], *outposts(mesh.fleet, Stand.INTERNET)[:1]]
    if not posts:
        return (), (), ()
    told = mesh.networks()
    public = public_nodes(told, inventory)
    gaps = [*told.gaps]
    knocks: list[OutsideKnock] = []
    stands: list[Stand] = []

    def knock(post: Outpost) -> list[OutsideKnock]:
        wanted = [
            (instance, door, port) for instance in public for door, port in doors.outside(post.stand, instance.address)
        ]
        return _knock_from(post, wanted)

    with ThreadPoolExecutor(max_workers=len(posts), thread_name_prefix="outside") as pool:
        for post, future in [(post, pool.submit(knock, post)) for post in posts]:
            try:
                knocks += future.result()
                stands.append(post.stand)
            except ProbeError as error:
                gaps.append(Gap("", f"knocks from {post.name}", str(error)))
    return tuple(knocks), tuple(stands), tuple(gaps)


def _knock_from(post: Outpost, wanted: Sequence[tuple[Instance, Door, int]]) -> list[OutsideKnock]:
    batch: dict[str, Any] = {
        "kind": "knock",
        "targets": [[str(instance.public_address), port, ""] for instance, _door, port in wanted],
        "timeout": CLOSED_TIMEOUT_S if post.stand is Stand.INTERNET else KNOCK_TIMEOUT_S,
    }
    if post.address is not None:
        batch["source"] = str(post.address)
    done = run_agent_at(post, [{"op": "probe", "batches": [batch]}], within=WITHIN)
    answer = done.operations[0]
    if "error" in answer:
        raise ProbeError(f"{post.name}: {answer['error']}")
    (seen,) = answer["batches"]
    return [
        OutsideKnock(
            post.stand,
            instance.region,
            instance.node,
            str(instance.public_address),
            door,
            ProbeProtocol.TCP,
            port,
            ProbeOutcome(outcome),
            detail or "",
        )
        for (instance, door, port), outcome, detail in zip(
            wanted, column(seen, "outcome"), column(seen, "detail"), strict=True
        )
    ]
