"""NET-DNS: are the clusters' DNS servers told the right things about each other?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from ipaddress import IPv4Address

from analysis.coredns import Forward, Handling, ZoneForward, handling, kept_for, load, own_ttl, within, zone_forwards
from analysis.corefile import Corefile
from analysis.facts import Dns, DnsAnswer, DnsEntrance, ProbeOutcome, ProbeProtocol
from analysis.nearest import did_you_mean
from analysis.plan import Plan, RegionPlan
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import count, gap_findings, listed

CLUSTER_DOMAIN = "cluster.local"
SERVICE_DOMAIN = f"svc.{CLUSTER_DOMAIN}"
ANSWERED = ("NOERROR", "NXDOMAIN")
"""Codes by which a server shows that it knows what it says."""

SPARE_UPSTREAMS = 2
"""So many nodes must be asked that the loss of one leaves another."""


def namespace_of(plan: Plan, region: str) -> str:
    """The namespace that a region shares with the others: that of its database, named like the region by default."""
    return plan.database.namespace(region) if plan.database else region


def zone_of(plan: Plan, region: str) -> str:
    """The zone of that namespace."""
    return f"{namespace_of(plan, region)}.{SERVICE_DOMAIN}"


def judge_zones(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-001: every cluster forwards the zones of exactly the other regions, and to nobody outside."""
    corefiles = _corefiles(dns)
    violations: list[Finding] = []
    for region in plan.regions:
        if region.name not in corefiles:
            continue
        corefile = corefiles[region.name]
        planned = {zone_of(plan, other.name): other.name for other in plan.others(region.name)}
        forwarded = _zones_of_clusters(corefile)
        for zone, owner in planned.items():
            found = handling(corefile, f"name.{zone}")
            if found.zone != zone and not (found.forward and found.forward.base == zone):
                violations.append(
                    Finding(
                        f"cluster {region.name}: zone {zone}",
                        f"to be forwarded to {owner}",
                        "no server block has it",
                        _fate(found),
                    )
                )
            elif found.forward is None:
                violations.append(
                    Finding(f"cluster {region.name}: zone {zone}", f"to be forwarded to {owner}", _fate(found))
                )
        violations += [
            Finding(
                f"cluster {region.name}: zone {zone}",
                f"only the zones {listed(sorted(planned))} to be forwarded",
                f"forwarded too ({found.forward.position})",
            )
            for zone, found in forwarded.items()
            if zone not in planned and zone != zone_of(plan, region.name)
        ]
    return conclude(
        expected="every cluster forwards the zones of exactly the other regions",
        examined=len(corefiles),
        what="DNS configurations",
        violations=violations,
        gaps=_unread(plan, dns),
        remedy="a server block for each other region's zone in ConfigMap kube-system/coredns, or coredns-custom",
    )


def judge_own_zone(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-002: no cluster forwards its own zone, and no question goes round in a circle of clusters."""
    corefiles = _corefiles(dns)
    violations: list[Finding] = []
    for region in plan.regions:
        zone = zone_of(plan, region.name)
        corefile = corefiles.get(region.name)
        found = handling(corefile, f"name.{zone}").forward if corefile else None
        if found:
            violations.append(
                Finding(
                    f"cluster {region.name}: its own zone {zone}",
                    "to be answered by the kubernetes plugin",
                    f"forwarded to {_named(found)} ({found.position})",
                    "the cluster does not find its own pods, or only by way of others",
                )
            )
    violations += _circles(plan, dns, corefiles)
    return conclude(
        expected="no cluster forwards its own zone, and no question goes round between clusters",
        examined=len(corefiles),
        what="DNS configurations",
        violations=violations,
        gaps=_unread(plan, dns),
        remedy="leave a region's own zone out of its Corefile",
    )


def judge_spelling(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-003: every forwarded zone of a cluster is named like a namespace that is there, in the right cluster."""
    corefiles, there = _corefiles(dns), {region: set(names) for region, names in dns.namespaces}
    owners = {namespace_of(plan, region.name): region.name for region in plan.regions}
    violations: list[Finding] = []
    gaps: list[Finding] = []
    examined = 0
    for region, corefile in corefiles.items():
        for zone, found in _zones_of_clusters(corefile).items():
            examined += 1
            name = zone.removesuffix(SERVICE_DOMAIN).rstrip(".").rpartition(".")[2]
            where = f"cluster {region}: zone {zone} ({found.address.position})"
            owner = owners.get(name)
            if owner is None:
                observed = f"no region shares a namespace {name!r}{did_you_mean(name, owners)}"
                violations.append(Finding(where, "to be named like a namespace of another region", observed))
            elif owner not in there:
                gaps.append(Finding(where, f"the namespaces of {owner} to be observed", "nothing was observed"))
            elif name not in there[owner]:
                observed = f"{owner} has no namespace {name!r}"
                violations.append(Finding(where, "to be named like a namespace that exists", observed))
    return conclude(
        expected="every forwarded zone is named like a namespace that exists in the cluster that it stands for",
        examined=examined,
        what="forwarded zones",
        violations=violations,
        gaps=gaps or _unread(plan, dns, "namespaces"),
        remedy="spell zones as the namespaces: a name that no zone holds is asked of the wrong server",
    )


def judge_servers(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-004: the DNS configuration parses, servers are ready, and none has refused it."""
    violations: list[Finding] = []
    warnings: list[str] = []
    for region, corefile in _corefiles(dns).items():
        for problem in corefile.problems:
            if problem.fatal:
                where, cause = f"cluster {region}: {problem.position}", "a server that starts now will not come up"
                violations.append(Finding(where, "a configuration that CoreDNS accepts", problem.text, cause))
            else:
                warnings.append(f"cluster {region}: {problem}")
    served = {server.region for server in dns.servers}
    unseen = {gap.region for gap in dns.gaps if not gap.parts or "servers" in gap.parts}
    violations += [
        Finding(f"cluster {region.name}", "pods that serve DNS", "there is none")
        for region in plan.regions
        if region.name not in served | unseen
    ]
    for server in dns.servers:
        where = f"DNS server {server.region}/{server.pod}"
        if not server.ready:
            restarts = f", restarted {count(server.restarts, 'time')}" if server.restarts else ""
            violations.append(Finding(where, "to be Ready", f"it is not{restarts}", next(iter(server.errors), None)))
        elif server.errors:
            violations.append(
                Finding(where, "to run with its configuration", server.errors[0], "it goes on with the former one")
            )
    return conclude(
        expected="the DNS configuration of every cluster parses, and its servers run with it",
        examined=len(dns.servers),
        what="DNS servers",
        violations=violations,
        gaps=_unread(plan, dns, "servers"),
        warnings=warnings,
    )


def judge_targets(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-005: zones are forwarded to where the other cluster's DNS can be asked now, and there it answers."""
    violations: list[Finding] = []
    gaps: list[Finding] = []
    examined = 0
    heard = _heard(dns)
    for region, other, found in _planned_forwards(plan, dns):
        where = f"cluster {region.name}: zone {found.zone} ({found.forward.position})"
        usable = {(entrance.address, entrance.port) for entrance in _entrances(plan, dns, other.name)}
        if not usable:
            gaps.append(Finding(where, f"the DNS addresses of {other.name} to be observed", "none was found"))
        for target in found.forward.targets:
            examined += 1
            shown = _address(target)
            if usable and target not in usable:
                places = listed(map(_address, sorted(usable)))
                violations.append(
                    Finding(f"{where} to {shown}", f"a DNS address of {other.name}: {places}", _whose(dns, target))
                )
                continue
            answers = heard.get((region.name, target), [])
            good = [answer for answer in answers if answer.code in ANSWERED]
            if answers and not good:
                violations.append(
                    Finding(f"{where} to {shown}", "to answer when it is asked directly", told(answers[0]))
                )
            elif not answers:
                gaps.append(Finding(f"{where} to {shown}", "to be asked directly", "it was not"))
        odd = [upstream.text for upstream in found.forward.upstreams if upstream.address is None]
        violations += [Finding(where, f"addresses of {other.name}", f"forwarded to {text} too") for text in odd]
    return conclude(
        expected="zones are forwarded to present DNS addresses of the other clusters, and each of these answers",
        examined=examined,
        what="targets of forwards",
        violations=violations,
        gaps=[*gaps, *_unread(plan, dns, "answers", "entrances")],
        remedy="compare the Corefile with `kubectl -n kube-system get services` and `get nodes -o wide` over there",
    )


def judge_spare_upstreams(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-014: the loss of one node leaves both an upstream to ask and a server that answers behind it.

    A service address that is routed between clusters stands for all servers behind it; nodes are asked one by one.
    """
    violations: list[Finding] = []
    examined = 0
    for region, other, found in _planned_forwards(plan, dns):
        nodes = {each.address for each in dns.entrances if each.region == other.name and not each.internal}
        shared = {entrance.address for entrance in _entrances(plan, dns, other.name) if entrance.internal}
        asked = {address for address, _ in found.forward.targets}
        examined += 1
        if asked & shared or len(asked & nodes) >= min(SPARE_UPSTREAMS, len(nodes)):
            continue
        violations.append(
            Finding(
                f"cluster {region.name}: zone {found.zone} ({found.forward.position})",
                f"several of {count(len(nodes), 'node')} of {other.name} to be asked",
                f"only {listed(sorted(asked & nodes)) or 'none of them'}",
                "with that node goes all resolution of the zone",
            )
        )
    unseen = {gap.region for gap in dns.gaps}
    for region in plan.regions:
        hosts = {server.node for server in dns.servers if server.region == region.name and server.ready}
        if len(hosts) < min(SPARE_UPSTREAMS, region.node_count) and region.name not in unseen:
            violations.append(
                Finding(
                    f"cluster {region.name}",
                    "DNS servers that are ready on several nodes",
                    f"on {listed(sorted(hosts)) or 'none'} only",
                    "with that node goes all resolution of its names, until a server runs elsewhere",
                )
            )
    return conclude(
        expected="every forwarded zone has upstreams, and every cluster DNS servers, on several nodes",
        examined=examined,
        what="forwards",
        violations=violations,
        gaps=_unread(plan, dns, "entrances", "servers"),
        remedy="several nodes in `forward`; two replicas of the Deployment coredns, which k3s makes one of",
    )


def judge_caches(plan: Plan, dns: Dns) -> Verdict:
    """NET-DNS-011: answers are not kept for longer than a changed address may take to be seen (T-DNS)."""
    corefiles, limit = _corefiles(dns), plan.budgets.dns_change.total_seconds()
    violations: list[Finding] = []
    examined = 0
    for region, other, found in _planned_forwards(plan, dns):
        if other.name not in corefiles:
            continue
        examined += 1
        name = f"name.{found.zone}"
        there, here = handling(corefiles[other.name], name), handling(corefiles[region.name], name)
        ttl = own_ttl(corefiles[other.name], name)
        kept_there = kept_for(there.block, ttl, name) if there.block else 0
        kept_here = kept_for(here.block, ttl, name) if here.block else 0
        if kept_there + kept_here > limit:
            violations.append(
                Finding(
                    f"cluster {region.name}: zone {found.zone}",
                    f"answers to be kept for at most {limit:g} s",
                    f"{other.name} may keep them for {kept_there} s, {region.name} for further {kept_here} s",
                    f"their time to live is {ttl} s, and the caches allow that much",
                )
            )
    return conclude(
        expected=f"a changed address is seen within {limit:g} s, as far as caches are concerned",
        examined=examined,
        what="forwards",
        violations=violations,
        gaps=_unread(plan, dns),
        remedy="`cache 10` in the forwarding server blocks; `ttl` of the kubernetes plugin",
    )


def told(answer: DnsAnswer) -> str:
    """What came of a question, in words."""
    if answer.outcome is not ProbeOutcome.OPEN:
        words = f"{answer.outcome.value}: {answer.detail}" if answer.detail else answer.outcome.value
        return f"no answer ({words})"
    addresses = f" {listed(sorted(set(answer.addresses)))}" if answer.addresses else ""
    return f"{answer.code}{addresses or (' without an address' if answer.code == 'NOERROR' else '')}"


# --- what the configurations come to ------------------------------------------------------------------------------


def _corefiles(dns: Dns) -> dict[str, Corefile]:
    return {found.region: load(found.pieces) for found in dns.configurations}


def _unread(plan: Plan, dns: Dns, *parts: str) -> list[Finding]:
    """What is missing of the configurations, and of the named parts beside them."""
    known = {found.region for found in dns.configurations}
    gaps = gap_findings(dns.gaps, "configurations", *parts)
    told_of = {gap.region for gap in dns.gaps}
    return gaps + [
        Finding(f"cluster {region.name}", "its DNS configuration to be observed", "nothing was observed")
        for region in plan.regions
        if region.name not in known | told_of
    ]


def _zones_of_clusters(corefile: Corefile) -> dict[str, ZoneForward]:
    """The forwarded zones that lie in the domain of clusters' services, each with its first forward."""
    found: dict[str, ZoneForward] = {}
    for forward in zone_forwards(corefile):
        if within(forward.zone, CLUSTER_DOMAIN):
            found.setdefault(forward.zone, forward)
    return found


def _planned_forwards(plan: Plan, dns: Dns) -> Iterator[tuple[RegionPlan, RegionPlan, ZoneForward]]:
    """Each forward of another region's zone: who forwards, whose zone, and the forward."""
    corefiles = _corefiles(dns)
    for region, other in plan.ordered_pairs():
        if region.name in corefiles:
            found = _zones_of_clusters(corefiles[region.name]).get(zone_of(plan, other.name))
            if found:
                yield region, other, found


def _fate(found: Handling) -> str:
    """What becomes of a question that is not forwarded as it should be."""
    if found.forward:
        return f"it leaks to {_named(found.forward)}, by the server block of {found.zone!r} ({found.forward.position})"
    if found.authority:
        return f"{found.authority.name} answers it as its own, in the server block of {found.zone!r}"
    return "it is refused" if found.zone is None else f"nobody answers it in the server block of {found.zone!r}"


def _named(forward: Forward) -> str:
    return listed(upstream.text for upstream in forward.upstreams)


def _entrances(plan: Plan, dns: Dns, region: str) -> list[DnsEntrance]:
    """Where a region's DNS can be asked from other regions."""
    return [
        entrance
        for entrance in dns.entrances
        if entrance.region == region and (plan.services_routed or not entrance.internal)
    ]


def _heard(dns: Dns) -> Mapping[tuple[str, tuple[IPv4Address, int]], Sequence[DnsAnswer]]:
    """What targets answered directly over UDP, by the region that asked and the target."""
    heard: defaultdict[tuple[str, tuple[IPv4Address, int]], list[DnsAnswer]] = defaultdict(list)
    for answer in dns.answers:
        if answer.direct and answer.protocol is ProbeProtocol.UDP:
            heard[answer.source.region, (answer.server, answer.port)].append(answer)
    return heard


def _owners(dns: Dns, target: tuple[IPv4Address, int], asker: str) -> set[str]:
    """The regions whose DNS a cluster reaches at that address; its own, where all have the same service range."""
    found = {entrance.region for entrance in dns.entrances if (entrance.address, entrance.port) == target}
    return {asker} if asker in found else found


def _whose(dns: Dns, target: tuple[IPv4Address, int]) -> str:
    """What is known of an address that is none of those that it should be."""
    address, port = target
    here = sorted({entrance.region for entrance in dns.entrances if (entrance.address, entrance.port) == target})
    if here:
        return f"it is an address of the DNS of {listed(here)}"
    ports = sorted({entrance.port for entrance in dns.entrances if entrance.address == address})
    if ports:
        return f"DNS is at port {listed(ports)} there, not {port}"
    return "no cluster's DNS has this address"


def _circles(plan: Plan, dns: Dns, corefiles: Mapping[str, Corefile]) -> Iterator[Finding]:
    """Zones that go round: one cluster forwards them to the next, and the last one to the first again."""
    shared = {zone_of(plan, region.name) for region in plan.regions}
    known: set[frozenset[str]] = set()
    for zone in sorted(shared | {found.zone for corefile in corefiles.values() for found in zone_forwards(corefile)}):
        name = zone if zone == "." else f"name.{zone}"
        ways: dict[str, set[str]] = {}
        for region, corefile in corefiles.items():
            forward = handling(corefile, name).forward
            targets = forward.targets if forward else ()
            ways[region] = {owner for target in targets for owner in _owners(dns, target, region)}
        try:
            TopologicalSorter(ways).prepare()
        except CycleError as error:
            circle = list(reversed(error.args[1]))  # it names the one who is asked before the one who asks
            if frozenset(circle) not in known:
                known.add(frozenset(circle))
                observed = f"goes round: {' -> '.join(circle)}"
                yield Finding(f"zone {zone}", "to reach the cluster that knows it", observed, "nobody ever answers it")


def _address(target: tuple[IPv4Address, int]) -> str:
    return f"{target[0]}:{target[1]}"
