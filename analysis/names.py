"""NET-DNS: do names lead to where they should, asked from every cluster?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from ipaddress import IPv4Address

from analysis.dns import ANSWERED, SERVICE_DOMAIN, namespace_of, told, zone_of
from analysis.facts import DatabaseMember, Dns, DnsAnswer, ProbeOutcome, ProbeProtocol, Purpose, Underlay
from analysis.fleet import Stand
from analysis.plan import DatabasePlan, Plan
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import count, gap_findings, listed

Deviation = tuple[str, str, str, str]
"""Who asked, the region of the name, what was asked for, and what came of it."""


def judge_members(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-006: the name of every database pod leads to its present address, wherever it is asked."""
    addresses = {
        (member.region, f"{member.pod}.{_service_name(plan, member.region)}"): member for member in dns.members
    }
    deviations: list[Deviation] = []
    examined = 0
    for answer in _asked(dns, Purpose.DATABASE_POD, ProbeProtocol.UDP):
        member = addresses.get((answer.region, answer.name))
        examined += 1
        if member is None or member.address is None:
            if answer.addresses:
                wanted = "no address: there is no such pod"
                deviations.append(
                    (answer.source.region, answer.region, f"{_first(answer.name)}: {wanted}", told(answer))
                )
        elif set(answer.addresses) != {member.address}:
            deviations.append((answer.source.region, answer.region, f"{member.pod}: {member.address}", told(answer)))
    return conclude(
        expected="the name of every database pod leads to the pod's present address in every cluster",
        examined=examined,
        what="answers",
        violations=_grouped(deviations, "names of database pods"),
        gaps=[*gap_findings(dns.gaps, "answers", "members"), *_unasked(plan, dns, Purpose.DATABASE_POD)],
        warnings=_truncated(dns),
    )


def judge_lists(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-008: the headless Service lists every database pod of its region, its SRV record with their ports."""
    everyone: defaultdict[str, set[IPv4Address]] = defaultdict(set)
    for member in dns.members:
        if member.address:
            everyone[member.region].add(member.address)
    replicas = _database(plan).replicas
    ports = {(service.region, service.name): {port for _, port in service.ports} for service in dns.services}
    deviations: list[Deviation] = []
    examined = 0
    for answer in _asked(dns, Purpose.DATABASE_MEMBERS, ProbeProtocol.UDP):
        examined += 1
        if set(answer.addresses) != everyone[answer.region] or len(set(answer.addresses)) != replicas:
            wanted = f"the addresses of {count(replicas, 'pod')}: {listed(sorted(everyone[answer.region]))}"
            deviations.append((answer.source.region, answer.region, f"{_first(answer.name)}: {wanted}", told(answer)))
    for answer in _asked(dns, Purpose.DATABASE_PORTS, ProbeProtocol.UDP):
        examined += 1
        known = ports.get((answer.region, _database(plan).service), set())
        hosts = {host for host, _ in answer.targets}
        if len(hosts) != len(everyone[answer.region]) or not {port for _, port in answer.targets} <= known:
            seen = listed(f"{host}:{port}" for host, port in answer.targets) or told(answer)
            deviations.append((answer.source.region, answer.region, f"{answer.name}: all members by name", seen))
    return conclude(
        expected="the headless Service of every region lists all its database pods",
        examined=examined,
        what="answers",
        violations=_grouped(deviations, "headless Services"),
        gaps=[*gap_findings(dns.gaps, "answers", "members"), *_unasked(plan, dns, Purpose.DATABASE_MEMBERS)],
    )


def judge_short_names(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-007: the names of the join list resolve inside database pods as they are written there."""
    addresses = {
        f"{member.pod}.{_database(plan).service}.{namespace_of(plan, member.region)}": member.address
        for member in dns.members
    }
    violations: list[Finding] = []
    examined = 0
    warnings: list[str] = []
    for member in dns.members:
        examined += len(member.short_names)
        wrong = [
            f"{name} leads to {address or 'nothing'}"
            for name, address in member.short_names
            if address is None or address != addresses.get(name)
        ]
        where = f"pod {member.namespace}/{member.pod} of {member.region}"
        if wrong:
            cause = None if SERVICE_DOMAIN in member.search else f"its search list lacks {SERVICE_DOMAIN}"
            expected = "short names of the join list to lead to their pods"
            violations.append(Finding(where, expected, listed(wrong), cause if member.search else None))
        dots = min((name.count(".") for name, _ in member.short_names), default=0)
        if member.ndots is not None and member.short_names and member.ndots <= dots:
            warnings.append(
                f"{where}: with ndots:{member.ndots} its resolver asks for short names as they are first, and so the "
                "resolver outside, before it tries the search list"
            )
    unread = [
        Finding(f"pod {member.namespace}/{member.pod} of {member.region}", "its resolver to be asked", "it was not")
        for member in dns.members
        if not member.short_names
    ]
    return conclude(
        expected="the short names of the join list resolve inside database pods",
        examined=examined,
        what="short names",
        violations=violations,
        gaps=[*gap_findings(dns.gaps, "members"), *unread],
        warnings=warnings,
    )


def judge_before_ready(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-009: the headless Service publishes pods before they are Ready, and such a pod's name resolves.

    A database pod becomes Ready only when it has found the others, so that each would wait for all.
    """
    service = _database(plan).service
    found = [each for each in dns.services if each.name == service]
    violations = [
        Finding(
            f"Service {each.namespace}/{each.name} of {each.region}",
            "publishNotReadyAddresses: true" if each.headless else "to be headless (clusterIP: None)",
            "not set" if each.headless else f"it has the address {each.address}",
            "members wait for each other's names for ever when they all start at once",
        )
        for each in found
        if not (each.headless and each.unready_too)
    ]
    waiting = {
        f"{member.pod}.{_service_name(plan, member.region)}": member
        for member in dns.members
        if not member.ready and member.address
    }
    for answer in _asked(dns, Purpose.DATABASE_POD, ProbeProtocol.UDP):
        member = waiting.get(answer.name)
        if member and answer.code == "NXDOMAIN":
            where = f"{answer.name}, asked in {answer.source.region}"
            violations.append(Finding(where, f"{member.address}, although the pod is not Ready", told(answer)))
    missing = {region.name for region in plan.regions} - {each.region for each in found}
    told_of = {gap.region for gap in dns.gaps if not gap.parts or "services" in gap.parts}
    violations += [
        Finding(f"cluster {region}", f"a headless Service {service}", "there is none")
        for region in sorted(missing - told_of)
    ]
    return conclude(
        expected="the names of database pods resolve before the pods are Ready",
        examined=len(found),
        what="headless Services",
        violations=violations,
        gaps=gap_findings(dns.gaps, "services"),
    )


def judge_absent(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-010: a remote name that nobody has is answered with NXDOMAIN at once."""
    limit = plan.budgets.dns_answer
    deviations: list[Deviation] = []
    examined = 0
    for answer in _asked(dns, Purpose.ABSENT, ProbeProtocol.UDP):
        examined += 1
        wanted = f"NXDOMAIN within {limit.total_seconds():g} s"
        if answer.code != "NXDOMAIN":
            deviations.append((answer.source.region, answer.region, wanted, told(answer)))
        elif timedelta(seconds=answer.seconds) > limit:
            seen = f"NXDOMAIN after {answer.seconds:.1f} s"
            deviations.append((answer.source.region, answer.region, wanted, seen))
    return conclude(
        expected=f"a remote name that does not exist is answered with NXDOMAIN within {limit.total_seconds():g} s",
        examined=examined,
        what="answers",
        violations=_grouped(deviations, "names that nobody has"),
        gaps=[*gap_findings(dns.gaps, "answers"), *_unasked(plan, dns, Purpose.ABSENT)],
    )


def judge_usual_names(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-012: names of the own cluster, and those outside, resolve as ever."""
    services = {region.name: region.service_cidr for region in plan.regions}
    violations: list[Finding] = []
    examined = 0
    for answer in _asked(dns, Purpose.LOCAL, ProbeProtocol.UDP):
        examined += 1
        own = services[answer.source.region]
        if not answer.addresses or any(address not in own for address in answer.addresses):
            expected = f"an address of its own service range {own}"
            violations.append(Finding(f"{answer.name}, asked in {answer.source.region}", expected, told(answer)))
    for answer in _asked(dns, Purpose.EXTERNAL, ProbeProtocol.UDP):
        examined += 1
        if not answer.addresses:
            where = f"{answer.name}, asked in {answer.source.region}"
            cause = "the server block of '.' forwards to no resolver that answers"
            violations.append(Finding(where, "an address", told(answer), cause))
    unasked = _unasked(plan, dns, Purpose.EXTERNAL, remote=False) if plan.external_name else []
    remark = "no external name was asked for: the environment file names none (dns.external_name)"
    return conclude(
        expected="names of the own cluster and external ones resolve in every cluster",
        examined=examined,
        what="answers",
        violations=violations,
        gaps=[*gap_findings(dns.gaps, "answers"), *_unasked(plan, dns, Purpose.LOCAL, remote=False), *unasked],
        warnings=() if plan.external_name else (remark,),
    )


def judge_tcp(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-013: remote zones answer over TCP as over UDP: truncated answers are asked for again that way.

    The servers of the zone are asked themselves too, because not every server forwards over TCP what it heard that way.
    """
    udp_only = {
        (entrance.region, entrance.service)
        for entrance in dns.entrances
        if not entrance.internal and entrance.protocol is ProbeProtocol.UDP
    } - {(e.region, e.service) for e in dns.entrances if e.protocol is ProbeProtocol.TCP}
    deviations: list[Deviation] = []
    examined = 0
    directly = [
        answer
        for answer in dns.answers
        if answer.direct and answer.protocol is ProbeProtocol.TCP and answer.outcome is not ProbeOutcome.INCONCLUSIVE
    ]
    for answer in (*_asked(dns, Purpose.ABSENT, ProbeProtocol.TCP), *directly):
        examined += 1
        if answer.code not in ANSWERED:
            wanted = f"an answer over TCP{f' of {answer.server}:{answer.port}' if answer.direct else ''}"
            deviations.append((answer.source.region, answer.region, wanted, told(answer)))
    services = listed(f"{service} of {region}" for region, service in sorted(udp_only))
    return conclude(
        expected="remote zones can be asked over TCP",
        examined=examined,
        what="answers",
        violations=_grouped(deviations, "zones over TCP"),
        gaps=[*gap_findings(dns.gaps, "answers"), *_unasked(plan, dns, Purpose.ABSENT, protocol=ProbeProtocol.TCP)],
        cause=f"{services} publishes UDP only" if services else None,
        remedy="a second port of the Service, with protocol TCP",
    )


def judge_closed(dns: Dns, underlay: Underlay) -> Verdict:
    """NET-DNS-017: nobody on the internet gets an answer from a cluster's DNS.

    An address where the operator gets in proves that the internet leads there: only then is a silence a closed port.
    """
    expected = "cluster DNS answers nobody on the internet"
    reached = {
        knock.address
        for knock in underlay.outside
        if knock.stand is Stand.OPERATOR and knock.outcome in (ProbeOutcome.OPEN, ProbeOutcome.REFUSED)
    }
    answered = [asked for asked in dns.outside if asked[3] is ProbeOutcome.OPEN]
    unproved = {
        (region, address): outcome
        for region, address, _, outcome in dns.outside
        if outcome is ProbeOutcome.INCONCLUSIVE
        or (outcome is not ProbeOutcome.REFUSED and str(address) not in reached and outcome is not ProbeOutcome.OPEN)
    }
    return conclude(
        expected=expected,
        examined=len(dns.outside),
        what="questions from the internet",
        violations=[
            Finding(
                f"{region}: port {port} of {listed(dict.fromkeys(address for _, address, _, _ in asked))}",
                "no answer to anybody on the internet",
                "it answers",
                "a security group lets everybody in, or a load balancer is public",
            )
            for (region, port), asked in _by_port(answered).items()
        ],
        gaps=[
            *gap_findings(dns.gaps, "outside"),
            *(
                Finding(
                    f"{region} ({address})",
                    "an address that the internet leads to, as the operator's knock would show",
                    "the instrument failed" if outcome is ProbeOutcome.INCONCLUSIVE else "nobody was answered there",
                )
                for (region, address), outcome in unproved.items()
            ),
        ],
        remedy="limit the sources of these rules to the node subnets",
    )


def judge_private(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-018: names of remote clusters outside the shared namespaces do not resolve."""
    violations: list[Finding] = []
    unsure: list[Finding] = []
    examined = 0
    for answer in _asked(dns, Purpose.PRIVATE, ProbeProtocol.UDP):
        where = f"{answer.name} of {answer.region}, asked in {answer.source.region}"
        if answer.addresses:
            violations.append(
                Finding(where, "NXDOMAIN: kube-system is not shared", told(answer), "a zone too wide is forwarded")
            )
        elif answer.code in ("NXDOMAIN", "NOERROR"):
            examined += 1
        else:
            unsure.append(Finding(where, "NXDOMAIN: kube-system is not shared", told(answer)))
    return conclude(
        expected="of a remote cluster only the shared namespace resolves",
        examined=examined,
        what="names",
        violations=violations,
        gaps=[*gap_findings(dns.gaps, "answers"), *unsure, *_unasked(plan, dns, Purpose.PRIVATE)],
    )


def judge_full_names(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-019: every database pod knows itself by its full planned name, which it advertises to the others."""
    violations: list[Finding] = []
    gaps = gap_findings(dns.gaps, "members")
    for member in dns.members:
        where, planned = f"pod {member.namespace}/{member.pod} of {member.region}", _full_name(plan, member)
        if not member.full_name:
            gaps.append(Finding(where, f"`hostname -f` to say {planned}", "it could not be had"))
        elif member.full_name != planned:
            cause = "its hostname or subdomain is not set, or the Service has another name"
            violations.append(Finding(where, f"`hostname -f` to say {planned}", member.full_name, cause))
    return conclude(
        expected="every database pod knows itself by its full planned name",
        examined=sum(bool(member.full_name) for member in dns.members),
        what="database pods",
        violations=violations,
        gaps=gaps,
    )


# --- what answers come to -----------------------------------------------------------------------------------------


def _database(plan: Plan) -> DatabasePlan:
    return plan.database or DatabasePlan()


def _service_name(plan: Plan, region: str) -> str:
    """The full name of the headless Service."""
    return f"{_database(plan).service}.{zone_of(plan, region)}"


def _full_name(plan: Plan, member: DatabaseMember) -> str:
    return f"{member.pod}.{_service_name(plan, member.region)}"


OutsideAnswer = tuple[str, IPv4Address, int, ProbeOutcome]


def _by_port(answers: Iterable[OutsideAnswer]) -> Mapping[tuple[str, int], list[OutsideAnswer]]:
    """Answers to the internet, by region and port."""
    found: defaultdict[tuple[str, int], list[OutsideAnswer]] = defaultdict(list)
    for answer in answers:
        found[answer[0], answer[2]].append(answer)
    return found


def _first(name: str) -> str:
    return name.partition(".")[0]


def _asked(dns: Dns, purpose: Purpose, protocol: ProbeProtocol) -> Iterator[DnsAnswer]:
    """What the clusters' own DNS answered to such questions; those that the instrument could not ask are left out."""
    for answer in dns.answers:
        asked = answer.purpose is purpose and answer.protocol is protocol and not answer.direct
        if asked and answer.outcome is not ProbeOutcome.INCONCLUSIVE:
            yield answer


def _unasked(
    plan: Plan,
    dns: Dns,
    purpose: Purpose,
    *,
    remote: bool = True,
    protocol: ProbeProtocol = ProbeProtocol.UDP,
) -> list[Finding]:
    """Regions in which nobody asked such a question, of other regions' names or of any, though nothing tells why."""
    known = {gap.region for gap in dns.gaps}
    pairs = {(answer.source.region, answer.region) for answer in _asked(dns, purpose, protocol)}
    if remote:
        wanted = [(a.name, b.name) for a, b in plan.ordered_pairs()]
    else:
        wanted = [(region.name, "") for region in plan.regions]
        pairs = {(source, "") for source, _ in pairs}
    return [
        Finding(f"{source}{f' -> {target}' if target else ''}: {purpose.value} names", "to be asked for", "nobody did")
        for source, target in wanted
        if (source, target) not in pairs and source not in known
    ]


def _grouped(deviations: Iterable[Deviation], what: str) -> list[Finding]:
    """A finding for each asker and owner: what is wrong with one name is mostly wrong with all."""
    groups: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for asker, owner, wanted, seen in deviations:
        groups[asker, owner].append((wanted, seen))
    return [
        Finding(
            f"{what} of {owner}, asked in {asker}",
            listed(dict.fromkeys(wanted for wanted, _ in items)),
            listed(dict.fromkeys(seen for _, seen in items)),
        )
        for (asker, owner), items in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]


def _truncated(dns: Dns) -> list[str]:
    cut = sorted({answer.name for answer in dns.answers if answer.truncated and answer.protocol is ProbeProtocol.UDP})
    return [f"{listed(cut)} is too long for one UDP answer: it needs DNS over TCP"] if cut else []
