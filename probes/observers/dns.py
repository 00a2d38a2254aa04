"""Cluster DNS: what it is told, who serves it, and what it answers to whom.

One pod of each region asks all questions in one run of the agent. Database pods are asked how they see themselves and
the join list by programs that every image with a C library has, because a real database image holds no Python.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from analysis.coredns import within as lies_within
from analysis.coredns import zone_forwards
from analysis.corefile import parse
from analysis.dns import SERVICE_DOMAIN, namespace_of, zone_of
from analysis.facts import (
    DatabaseMember,
    DatabaseService,
    Dns,
    DnsAnswer,
    DnsConfiguration,
    DnsEntrance,
    DnsForward,
    DnsServer,
    Gap,
    ProbeOutcome,
    ProbeProtocol,
    Purpose,
)
from analysis.fleet import Capability, Stand
from analysis.plan import DatabasePlan, Plan
from probes.client import run_agent
from probes.cluster import Cluster, KubeObject
from probes.deploy import ProbePod, ProbeSet, ipv4_of
from probes.errors import ApiError, ProbeError
from probes.mesh import Mesh
from probes.observers.database_members import is_member
from probes.observers.paths import first_on_each_node
from probes.outpost import outposts, run_agent_at
from probes.permissions import COREDNS_CONFIG, COREDNS_CUSTOM, DNS_NAMESPACE

TIMEOUT_S = 3.0
TRIES = 2
"""A resolver asks again too; the time is counted from the first question."""

SERVER_FAILURE = "SERVFAIL"

OUTSIDE_TIMEOUT_S = 1.5
WITHIN = timedelta(seconds=15)
MEMBER_WITHIN = timedelta(seconds=12)
LOG_LINES = 200
DNS_PORT = 53
DNS_LABEL = ("k8s-app", "kube-dns")
LOCAL_NAME = f"kubernetes.default.{SERVICE_DOMAIN}"
COMPLAINTS = ("[ERROR] Restart failed", "[ERROR] plugin/reload", "[FATAL]", "plugin/loop", "Corefile")
"""What log lines hold in which CoreDNS refuses a configuration or sees itself in a loop."""

MEMBER_SCRIPT = """
command -v timeout > /dev/null || timeout() { shift; "$@"; }
echo "$(timeout 6 hostname -f)"
cat /etc/resolv.conf
for name do echo "= $name $(timeout 6 getent ahostsv4 "$name")" & done
wait
"""
"""The full name, the resolver's settings, and a line for each name; what is late counts as not there."""


@dataclass(frozen=True)
class Question:
    """A question for a DNS server; the fields are those of the answer."""

    server: IPv4Address
    port: int
    server_region: str
    direct: bool
    purpose: Purpose
    name: str
    region: str
    kind: str = "A"
    protocol: ProbeProtocol = ProbeProtocol.UDP

    @property
    def spec(self) -> list[Any]:
        """As the agent takes it."""
        return [str(self.server), self.port, self.name, self.kind, self.protocol.value]


@dataclass(frozen=True)
class Listed:
    """What one cluster's API lists about its DNS and its database."""

    configuration: DnsConfiguration
    servers: tuple[DnsServer, ...]
    entrances: tuple[DnsEntrance, ...]
    services: tuple[DatabaseService, ...]
    members: tuple[DatabaseMember, ...]
    gaps: tuple[Gap, ...] = ()


def observe_dns(mesh: Mesh, probe_set: ProbeSet) -> Dns:
    """Read what the clusters list, then ask from everywhere at once."""
    plan = mesh.fleet.plan
    gaps: list[Gap] = []
    listed: dict[str, Listed] = {}
    for region, read in mesh.each_region(lambda cluster: list_dns(cluster, plan)):
        if isinstance(read, ProbeError):
            gaps.append(Gap(region, "DNS configuration, servers and database pods", str(read)))
        else:
            listed[region] = read
            gaps += read.gaps
    members = [member for read in listed.values() for member in read.members]
    with ThreadPoolExecutor(max_workers=3, thread_name_prefix="dns") as pool:
        namespaces = pool.submit(_see_namespaces, mesh, listed)
        outside = pool.submit(_ask_from_outside, mesh, listed)
        inside = pool.submit(_ask_members, mesh, members)
        answers, answer_gaps = _ask(mesh, probe_set, listed)
        (there, namespace_gaps), (knocked, outside_gaps), (asked, member_gaps) = (
            namespaces.result(),
            outside.result(),
            inside.result(),
        )
    return Dns(
        configurations=tuple(read.configuration for read in listed.values()),
        servers=tuple(server for read in listed.values() for server in read.servers),
        answers=answers,
        members=asked,
        services=tuple(service for read in listed.values() for service in read.services),
        entrances=tuple(entrance for read in listed.values() for entrance in read.entrances),
        namespaces=there,
        outside=knocked,
        gaps=(*gaps, *answer_gaps, *namespace_gaps, *outside_gaps, *member_gaps),
    )


def observe_forwards(mesh: Mesh) -> tuple[tuple[DnsForward, ...], tuple[Gap, ...]]:
    """Where every region's DNS sends on what it cannot answer itself."""
    forwards: list[DnsForward] = []
    gaps: list[Gap] = []
    for region, read in mesh.each_region(read_configuration):
        if isinstance(read, ProbeError):
            gaps.append(Gap(region, "DNS configuration", str(read)))
        else:
            found = zone_forwards(parse(read.pieces))
            forwards += (DnsForward(region, forward.zone, forward.forward.targets) for forward in found)
    return tuple(forwards), tuple(gaps)


# --- what the API lists -------------------------------------------------------------------------------------------


def list_dns(cluster: Cluster, plan: Plan) -> Listed:
    """Configuration, servers and entrances of a cluster's DNS, Services and pods of the database. Raises ApiError."""
    database = plan.database or DatabasePlan()
    namespace = database.namespace(cluster.region)
    services = cluster.items("/api/v1/services")
    pods = cluster.items("/api/v1/pods")
    nodes = cluster.items("/api/v1/nodes")
    servers = [
        pod
        for pod in pods
        if pod["metadata"]["namespace"] == DNS_NAMESPACE and DNS_LABEL in (pod["metadata"].get("labels") or {}).items()
    ]
    logs = [_complaints(cluster, pod["metadata"]["name"]) for pod in servers]
    return Listed(
        configuration=read_configuration(cluster),
        servers=tuple(
            read_server(cluster.region, pod, log if isinstance(log, tuple) else ())
            for pod, log in zip(servers, logs, strict=True)
        ),
        entrances=tuple(read_entrances(cluster.region, services, nodes)),
        services=tuple(
            read_service(cluster.region, service)
            for service in services
            if service["metadata"]["namespace"] == namespace
            and service["metadata"]["name"] in (database.service, database.public_service)
        ),
        members=tuple(
            DatabaseMember(cluster.region, pod["metadata"]["name"], namespace, ipv4_of(pod), ready=is_ready(pod))
            for pod in pods
            if is_member(pod, database, cluster.region) and not pod["metadata"].get("deletionTimestamp")
        ),
        gaps=tuple(
            Gap(cluster.region, f"log of {pod['metadata']['name']}", str(log), ("servers",))
            for pod, log in zip(servers, logs, strict=True)
            if isinstance(log, ProbeError)
        ),
    )


def read_configuration(cluster: Cluster) -> DnsConfiguration:
    """The pieces of the configuration: those of `coredns`, the Corefile first, and those of `coredns-custom`.

    Raises:
        ApiError: the first of the two could not be read; the second need not be there.
    """
    path = f"/api/v1/namespaces/{DNS_NAMESPACE}/configmaps"
    own = cluster.get(f"{path}/{COREDNS_CONFIG}").get("data") or {}
    try:
        custom = cluster.get(f"{path}/{COREDNS_CUSTOM}").get("data") or {}
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        custom = {}
    pieces = [
        ("coredns/Corefile", own.get("Corefile") or ""),
        *((f"{COREDNS_CONFIG}/{key}", text) for key, text in sorted(own.items()) if key != "Corefile"),
        *((f"{COREDNS_CUSTOM}/{key}", text) for key, text in sorted(custom.items())),
    ]
    return DnsConfiguration(cluster.region, tuple(pieces))


def _complaints(cluster: Cluster, pod: str) -> tuple[str, ...] | ProbeError:
    """Lines of a server's log in which it refuses its configuration, each once; the newest configuration counts."""
    path = f"/api/v1/namespaces/{DNS_NAMESPACE}/pods/{pod}/log"
    try:
        return read_complaints(cluster.text(path, tailLines=str(LOG_LINES)).splitlines())
    except ProbeError as error:
        return error


def read_complaints(lines: Sequence[str]) -> tuple[str, ...]:
    """What a server complains about since it last took a configuration."""
    complaints: dict[str, None] = {}
    for line in lines:
        if "Reloading complete" in line or line.startswith("CoreDNS-"):
            complaints.clear()
        elif any(word in line for word in COMPLAINTS):
            complaints[line.strip()] = None
    return tuple(complaints)


def read_server(region: str, pod: KubeObject, errors: tuple[str, ...]) -> DnsServer:
    """A pod that serves DNS."""
    states = pod.get("status", {}).get("containerStatuses") or []
    return DnsServer(
        region,
        pod["metadata"]["name"],
        pod["spec"].get("nodeName") or "",
        ipv4_of(pod),
        is_ready(pod),
        sum(state.get("restartCount", 0) for state in states),
        errors,
    )


def is_ready(pod: KubeObject) -> bool:
    """Whether the pod says that it is Ready."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def read_entrances(region: str, services: Iterable[KubeObject], nodes: Iterable[KubeObject]) -> Iterator[DnsEntrance]:
    """Where the Services in front of the DNS servers can be asked: ClusterIP, ports of nodes, load balancers."""
    addresses = [
        address
        for node in nodes
        for item in node.get("status", {}).get("addresses") or []
        if item["type"] == "InternalIP" and (address := _address(item["address"]))
    ]
    for service in services:
        spec, name = service["spec"], service["metadata"]["name"]
        selected = DNS_LABEL in (spec.get("selector") or {}).items()
        if service["metadata"]["namespace"] != DNS_NAMESPACE or not selected:
            continue
        balancers = (service.get("status", {}).get("loadBalancer") or {}).get("ingress") or []
        for port in spec.get("ports") or []:
            if port.get("targetPort", port["port"]) not in (DNS_PORT, "dns", "dns-tcp") and port["port"] != DNS_PORT:
                continue
            protocol = ProbeProtocol(port.get("protocol", "TCP").lower())
            if own := _address(spec.get("clusterIP")):
                yield DnsEntrance(region, name, own, port["port"], protocol, internal=True)
            for address in addresses if port.get("nodePort") else ():
                yield DnsEntrance(region, name, address, port["nodePort"], protocol, internal=False)
            for balancer in balancers:
                if public := _address(balancer.get("ip")):
                    yield DnsEntrance(region, name, public, port["port"], protocol, internal=False)


def read_service(region: str, service: KubeObject) -> DatabaseService:
    """A Service of the database."""
    spec = service["spec"]
    address = _address(spec.get("clusterIP"))
    return DatabaseService(
        region,
        service["metadata"]["namespace"],
        service["metadata"]["name"],
        headless=spec.get("clusterIP") == "None",
        unready_too=bool(spec.get("publishNotReadyAddresses")),
        address=address,
        ports=tuple((port.get("name", ""), port["port"]) for port in spec.get("ports") or []),
    )


def _address(text: str | None) -> IPv4Address | None:
    try:
        return IPv4Address(text) if text else None
    except AddressValueError:
        return None


# --- what is asked from pods --------------------------------------------------------------------------------------


def _ask(
    mesh: Mesh, probe_set: ProbeSet, listed: Mapping[str, Listed]
) -> tuple[tuple[DnsAnswer, ...], tuple[Gap, ...]]:
    """All questions of every region, from one of its pods."""
    plan = mesh.fleet.plan
    askers = {pod.region: pod for pod in reversed(first_on_each_node(probe_set))}
    gaps = [
        Gap(region, "DNS", "no probe pod runs there", ("answers",)) for region in mesh.regions if region not in askers
    ]
    databases = Capability.DATABASE_PODS in mesh.fleet.capabilities
    questions = {region: list(questions_of(plan, region, listed, databases=databases)) for region in askers}

    def ask(cluster: Cluster, pod: ProbePod) -> list[DnsAnswer]:
        return _ask_patiently(cluster, pod, questions[pod.region])

    answers: list[DnsAnswer] = []
    for pod, told in mesh.each(askers.values(), lambda pod: pod.region, ask):
        if isinstance(told, ProbeError):
            gaps.append(Gap(pod.region, f"answers of DNS to {pod.name}", str(told), ("answers",)))
        else:
            answers += told
    return tuple(answers), tuple(gaps)


def ask_names(
    cluster: Cluster, pod: ProbePod, questions: Sequence[Question], *, timeout: float = TIMEOUT_S
) -> list[DnsAnswer]:
    """Ask from a pod, all at once.

    Raises:
        ProbeError: the agent did not answer, or must not be believed.
    """
    operation = {"op": "dns", "questions": [each.spec for each in questions], "timeout": timeout, "tries": TRIES}
    run = run_agent(cluster, pod.namespace, pod.name, [operation], within=WITHIN, control=pod.control)
    if run.control_failure or "error" in run.operations[0]:
        raise ProbeError(f"{pod.identity}: {run.control_failure or run.operations[0]['error']}")
    return [read_answer(pod, each, told) for each, told in zip(questions, run.operations[0]["answers"], strict=True)]


def _ask_patiently(cluster: Cluster, pod: ProbePod, questions: Sequence[Question]) -> list[DnsAnswer]:
    """Ask as `ask_names`, and again what a server failed to find out: it may have lost a packet of its own."""
    answers = ask_names(cluster, pod, questions)
    failed = [place for place, answer in enumerate(answers) if answer.code == SERVER_FAILURE]
    again = ask_names(cluster, pod, [questions[place] for place in failed]) if failed else []
    for place, answer in zip(failed, again, strict=True):
        answers[place] = answer
    return answers


def questions_of(plan: Plan, region: str, listed: Mapping[str, Listed], *, databases: bool) -> Iterator[Question]:
    """What is asked from a region.

    Args:
        plan: whose names.
        region: the asker's.
        listed: what the clusters list.
        databases: whether there are database pods to ask for.
    """
    own = plan.region(region).dns_address
    nobody = secrets.token_hex(4)  # a name that nobody has asked for yet, so that no cache knows it

    def local(purpose: Purpose, name: str, owner: str, **more: Any) -> Question:
        return Question(own, DNS_PORT, region, False, purpose, name, owner, **more)

    yield local(Purpose.LOCAL, LOCAL_NAME, region)
    if plan.external_name:
        yield local(Purpose.EXTERNAL, plan.external_name, "")
    for other in plan.regions:
        zone = zone_of(plan, other.name)
        if databases:
            yield from _database_questions(plan, other.name, local)
        if other.name == region:
            continue
        # Another name for each protocol: servers keep answers, whichever way they came.
        for protocol in (ProbeProtocol.UDP, ProbeProtocol.TCP):
            name = f"nobody-{nobody}-{protocol.value}.{zone}"
            yield local(Purpose.ABSENT, name, other.name, protocol=protocol)
        known = (
            next((server for server in listed[other.name].servers if server.address), None)
            if other.name in listed
            else None
        )
        if known:
            host = str(known.address).replace(".", "-")
            yield local(Purpose.PRIVATE, f"{host}.kube-dns.{DNS_NAMESPACE}.{SERVICE_DOMAIN}", other.name)
    if region in listed:
        yield from _direct_questions(plan, listed[region], f"nobody-{nobody}")


def _database_questions(plan: Plan, owner: str, local: Callable[..., Question]) -> Iterator[Question]:
    database, zone = plan.database or DatabasePlan(), zone_of(plan, owner)
    for number in range(database.replicas):
        yield local(Purpose.DATABASE_POD, f"{database.service}-{number}.{database.service}.{zone}", owner)
    yield local(Purpose.DATABASE_MEMBERS, f"{database.service}.{zone}", owner)
    yield local(Purpose.DATABASE_PORTS, f"_grpc._tcp.{database.service}.{zone}", owner, kind="SRV")


def _direct_questions(plan: Plan, own: Listed, host: str) -> Iterator[Question]:
    """The targets of the region's forwards are asked themselves."""
    regions = {zone_of(plan, region.name): region.name for region in plan.regions}
    seen: set[tuple[IPv4Address, int]] = set()
    for found in zone_forwards(parse(own.configuration.pieces)):
        if found.zone not in regions:
            continue
        for address, port in found.forward.targets:
            if (address, port) in seen:
                continue
            seen.add((address, port))
            region = regions[found.zone]
            for protocol in (ProbeProtocol.UDP, ProbeProtocol.TCP):
                name = f"{host}.{found.zone}"
                yield Question(address, port, region, True, Purpose.ABSENT, name, region, protocol=protocol)


def read_answer(pod: ProbePod, question: Question, told: Mapping[str, Any]) -> DnsAnswer:
    """What came of a question."""
    records = [*told.get("answers", ()), *(told.get("additional", ()) if question.kind == "SRV" else ())]
    addresses = [address for _, kind, _, value in records if kind == "A" and (address := _address(value))]
    services = [value.split() for _, kind, _, value in told.get("answers", ()) if kind == "SRV"]
    return DnsAnswer(
        source=pod.endpoint,
        server=question.server,
        server_region=question.server_region,
        direct=question.direct,
        purpose=question.purpose,
        name=question.name,
        kind=question.kind,
        protocol=question.protocol,
        region=question.region,
        outcome=ProbeOutcome(told["outcome"]),
        code=told.get("code", ""),
        addresses=tuple(sorted(addresses)),
        targets=tuple(sorted((host, int(port)) for _priority, _weight, port, host in services)),
        ttl=min((ttl for _, _, ttl, _ in told.get("answers", ())), default=None),
        seconds=round(told["seconds"], 4),
        truncated=bool(told.get("truncated")),
        detail=told["detail"],
        port=question.port,
    )


# --- what database pods say ---------------------------------------------------------------------------------------


def _ask_members(mesh: Mesh, members: Sequence[DatabaseMember]) -> tuple[tuple[DatabaseMember, ...], tuple[Gap, ...]]:
    """How each database pod sees itself and the join list."""
    if Capability.DATABASE_PODS not in mesh.fleet.capabilities:
        return (), ()
    plan = mesh.fleet.plan
    names = join_list(plan)

    def ask(cluster: Cluster, member: DatabaseMember) -> str:
        command = ["/bin/sh", "-c", MEMBER_SCRIPT, "sh", *names]
        done = cluster.exec(member.namespace, member.pod, command, within=MEMBER_WITHIN)
        return done.stdout.decode("utf-8", "replace")

    seen: list[DatabaseMember] = []
    gaps: list[Gap] = []
    for member, told in mesh.each(members, lambda member: member.region, ask):
        if isinstance(told, ProbeError):
            gaps.append(Gap(member.region, f"names inside {member.namespace}/{member.pod}", str(told), ("members",)))
            seen.append(member)
        else:
            seen.append(read_member(member, told.splitlines()))
    return tuple(seen), tuple(gaps)


def join_list(plan: Plan) -> list[str]:
    """The names by which members look for each other, as the published manifests write them."""
    database = plan.database or DatabasePlan()
    return [
        f"{database.service}-{number}.{database.service}.{namespace_of(plan, region.name)}"
        for region in plan.regions
        for number in range(database.replicas)
    ]


def read_member(member: DatabaseMember, lines: Sequence[str]) -> DatabaseMember:
    """What the script said in a database pod."""
    words = [line.split() for line in lines[1:]]
    options = [option for line in words if line[:1] == ["options"] for option in line[1:]]
    dots = [option.partition(":")[2] for option in options if option.startswith("ndots:")]
    return replace(
        member,
        full_name=lines[0].strip() if lines else "",
        short_names=tuple((line[1], _address("".join(line[2:3]))) for line in words if line[:1] == ["="]),
        search=tuple(name for line in words if line[:1] == ["search"] for name in line[1:]),
        ndots=int(dots[-1]) if dots and dots[-1].isdigit() else 1,
    )


# --- namespaces, and the outside ----------------------------------------------------------------------------------


def _see_namespaces(
    mesh: Mesh, listed: Mapping[str, Listed]
) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], tuple[Gap, ...]]:
    """Which of the namespaces that zones are named after are there, in each cluster."""
    plan = mesh.fleet.plan
    names = {namespace_of(plan, region.name) for region in plan.regions}
    for read in listed.values():
        for found in zone_forwards(parse(read.configuration.pieces)):
            if lies_within(found.zone, SERVICE_DOMAIN) and found.zone != SERVICE_DOMAIN:
                names.add(found.zone.removesuffix(f".{SERVICE_DOMAIN}").rpartition(".")[2])

    def look(cluster: Cluster) -> tuple[str, ...]:
        return tuple(name for name in sorted(names) if cluster.has_namespace(name))

    there: list[tuple[str, tuple[str, ...]]] = []
    gaps: list[Gap] = []
    for region, seen in mesh.each_region(look):
        if isinstance(seen, ProbeError):
            gaps.append(Gap(region, "namespaces", str(seen), ("namespaces",)))
        else:
            there.append((region, seen))
    return tuple(there), tuple(gaps)


OutsideAnswers = tuple[tuple[str, IPv4Address, int, ProbeOutcome], ...]


def _ask_from_outside(mesh: Mesh, listed: Mapping[str, Listed]) -> tuple[OutsideAnswers, tuple[Gap, ...]]:
    """Ask every public address of a node for a name, at port 53 and at the ports of DNS on nodes."""
    places = outposts(mesh.fleet, Stand.INTERNET)[:1]
    if not places:
        return (), ()
    networks = mesh.networks()
    targets = [
        (instance.region, instance.public_address, port)
        for instance in networks.instances
        if instance.public_address is not None
        for port in sorted(_public_ports(listed.get(instance.region)))
    ]
    questions = [
        [str(address), port, LOCAL_NAME, "A", protocol.value]
        for _, address, port in targets
        for protocol in (ProbeProtocol.UDP, ProbeProtocol.TCP)
    ]
    operation: dict[str, Any] = {
        "op": "dns",
        "questions": questions,
        "timeout": OUTSIDE_TIMEOUT_S,
        "tries": TRIES,
    }
    if places[0].address is not None:
        operation["source"] = str(places[0].address)
    try:
        (told,) = run_agent_at(places[0], [operation], within=WITHIN).operations
        if "error" in told:
            raise ProbeError(f"{places[0].name}: {told['error']}")
    except ProbeError as error:
        return (), (Gap("", f"DNS questions from {places[0].name}", str(error), ("outside",)),)
    outcomes = [ProbeOutcome(answer["outcome"]) for answer in told["answers"]]
    rows = [target for target in targets for _ in range(2)]
    gaps = [replace(gap, parts=("outside",)) for gap in networks.gaps]
    return tuple((*row, outcome) for row, outcome in zip(rows, outcomes, strict=True)), tuple(gaps)


def _public_ports(read: Listed | None) -> set[int]:
    """Ports at which a node could answer DNS questions."""
    entrances = read.entrances if read else ()
    return {DNS_PORT} | {entrance.port for entrance in entrances if not entrance.internal}
