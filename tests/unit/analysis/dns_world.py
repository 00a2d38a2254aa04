"""Cluster DNS as facts, for a lab of either profile: as planned, to be broken by tests."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from analysis.dns import zone_of
from analysis.facts import (
    DatabaseMember,
    DatabaseService,
    Dns,
    DnsAnswer,
    DnsConfiguration,
    DnsEntrance,
    DnsServer,
    Door,
    Endpoint,
    OutsideKnock,
    ProbeOutcome,
    ProbeProtocol,
    Purpose,
    Underlay,
)
from analysis.fleet import Stand
from provision.lab.topology import LabRegion, LabTopology

OPEN, DROPPED = ProbeOutcome.OPEN, ProbeOutcome.DROPPED
UDP, TCP = ProbeProtocol.UDP, ProbeProtocol.TCP
PIECE = "coredns/Corefile"


def corefile(lab: LabTopology, region: LabRegion) -> str:
    """The Corefile of a region as the guides write it."""
    text = """\
.:53 {
    errors
    kubernetes cluster.local in-addr.arpa {
        fallthrough in-addr.arpa
        ttl 30
    }
    forward . /etc/resolv.conf
    cache 30
}
"""
    for other in lab.regions:
        if other is not region:
            targets = " ".join(f"{address}:{port}" for address, port in targets_of(lab, other))
            text += f"{zone_of(lab.plan, other.name)}:53 {{\n    cache 10\n    forward . {targets}\n}}\n"
    return text


def targets_of(lab: LabTopology, region: LabRegion) -> list[tuple[IPv4Address, int]]:
    """Where other clusters ask a region's DNS."""
    if lab.plan.services_routed:
        return [(region.plan.dns_address, 53)]
    return [(node.address, region.dns_port) for node in region.nodes]


def replicas(lab: LabTopology) -> int:
    """Database pods in each of its regions."""
    assert lab.plan.database is not None
    return lab.plan.database.replicas


def perfect_dns(lab: LabTopology) -> Dns:
    """Everything as planned."""
    answers: list[DnsAnswer] = []
    members = [member for region in lab.regions for member in members_of(lab, region)]
    for region in lab.regions:
        answers += _asked_in(lab, region)
    return Dns(
        configurations=tuple(DnsConfiguration(r.name, ((PIECE, corefile(lab, r)),)) for r in lab.regions),
        servers=tuple(
            DnsServer(r.name, f"coredns-{n.number}", n.name, n.block[5], ready=True)
            for r in lab.regions
            for n in r.nodes[:2]
        ),
        answers=tuple(answers),
        members=tuple(members),
        services=tuple(
            service
            for r in lab.regions
            for service in (
                DatabaseService(r.name, r.name, "cockroachdb", True, True, None, (("grpc", 26257), ("http", 8080))),
                DatabaseService(r.name, r.name, "cockroachdb-public", False, False, r.plan.service_cidr[99]),
            )
        ),
        entrances=tuple(entrance for r in lab.regions for entrance in _entrances(lab, r)),
        namespaces=tuple((r.name, (r.name,)) for r in lab.regions),
        outside=tuple((r.name, n.public_address, 53, DROPPED) for r in lab.regions for n in r.nodes),
    )


def operator_gets_in(lab: LabTopology) -> Underlay:
    """The control of what is closed: the operator's SSH."""
    return Underlay(
        outside=tuple(
            OutsideKnock(Stand.OPERATOR, r.name, n.name, str(n.public_address), Door.SSH, TCP, 22, OPEN)
            for r in lab.regions
            for n in r.nodes
        )
    )


def members_of(lab: LabTopology, region: LabRegion) -> list[DatabaseMember]:
    """The database pods of a region, which see the join list as they should."""
    join = tuple(
        (f"cockroachdb-{number}.cockroachdb.{other.name}", other.nodes[number].block[7])
        for other in lab.regions
        for number in range(replicas(lab))
    )
    return [
        DatabaseMember(
            region.name,
            f"cockroachdb-{number}",
            region.name,
            region.nodes[number].block[7],
            ready=True,
            full_name=f"cockroachdb-{number}.cockroachdb.{zone_of(lab.plan, region.name)}",
            short_names=join,
            search=(zone_of(lab.plan, region.name), "svc.cluster.local", "cluster.local"),
            ndots=5,
        )
        for number in range(replicas(lab))
    ]


def change(dns: Dns, collection: str, where, **values) -> Dns:
    """With other values in the items that `where` picks; a test that changes nothing is none."""
    items = getattr(dns, collection)
    assert any(where(item) for item in items)
    return replace(dns, **{collection: tuple(replace(i, **values) if where(i) else i for i in items)})


def rewrite(dns: Dns, region: str, edit) -> Dns:
    """With another Corefile in a region."""
    found = next(each for each in dns.configurations if each.region == region)
    ((name, text),) = found.pieces
    assert edit(text) != text
    return change(dns, "configurations", lambda each: each.region == region, pieces=((name, edit(text)),))


def _entrances(lab: LabTopology, region: LabRegion) -> list[DnsEntrance]:
    found = [
        DnsEntrance(region.name, "kube-dns", region.plan.dns_address, 53, protocol, True) for protocol in (UDP, TCP)
    ]
    if not lab.plan.services_routed:
        found += [
            DnsEntrance(region.name, "kube-dns-lb", node.address, region.dns_port, protocol, False)
            for node in region.nodes
            for protocol in (UDP, TCP)
        ]
    return found


def _asked_in(lab: LabTopology, region: LabRegion) -> list[DnsAnswer]:
    source = Endpoint(region.name, region.nodes[-1].name, "probe", region.nodes[-1].block[20])
    own = region.plan.dns_address

    def answer(purpose, name, owner, *, kind="A", protocol=UDP, code="NOERROR", **more) -> DnsAnswer:
        return DnsAnswer(
            source, own, region.name, False, purpose, name, kind, protocol, owner, OPEN, code, seconds=0.01, **more
        )

    local = (region.plan.service_cidr[1],)
    found = [
        answer(Purpose.LOCAL, "kubernetes.default.svc.cluster.local", region.name, addresses=local),
        answer(Purpose.EXTERNAL, "www.example.net", "", addresses=(IPv4Address("198.51.100.10"),)),
    ]
    for other in lab.regions:
        zone, pods = f"cockroachdb.{zone_of(lab.plan, other.name)}", members_of(lab, other)
        everyone = tuple(pod.address for pod in pods)
        found += [answer(Purpose.DATABASE_POD, f"{p.pod}.{zone}", other.name, addresses=(p.address,)) for p in pods]
        found.append(answer(Purpose.DATABASE_MEMBERS, zone, other.name, addresses=everyone))
        hosts = tuple((f"{pod.pod}.{zone}", 26257) for pod in pods)
        found.append(answer(Purpose.DATABASE_PORTS, f"_grpc._tcp.{zone}", other.name, kind="SRV", targets=hosts))
        if other is region:
            continue
        for protocol in (UDP, TCP):
            found.append(
                answer(
                    Purpose.ABSENT,
                    f"nobody.{zone_of(lab.plan, other.name)}",
                    other.name,
                    protocol=protocol,
                    code="NXDOMAIN",
                )
            )
        found.append(answer(Purpose.PRIVATE, "host.kube-dns.kube-system", other.name, code="NXDOMAIN"))
        for address, port in targets_of(lab, other):
            direct = answer(Purpose.ABSENT, "nobody", other.name, code="NXDOMAIN")
            direct = replace(direct, server=address, port=port, direct=True, server_region=other.name)
            found += [direct, replace(direct, protocol=TCP)]
    return found
