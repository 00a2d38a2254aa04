"""NET-ROUTE, the ranges that a cluster was told of: pools of the other clusters, NAT, and accepted tunnel sources."""

from __future__ import annotations

from collections import Counter, defaultdict
from ipaddress import IPv4Network

from analysis.facts import Addressing, Components, Forwarding, MeshConfiguration, Pool, ReachabilityMatrix
from analysis.plan import Encapsulation, Plan, RegionPlan
from analysis.rootcause import Layer
from analysis.verdict import Finding, Verdict, conclude
from analysis.words import NodeKey, gap_findings, listed, qualified, together, unseen_regions

TUNNEL_SOURCE_SETS = {
    Encapsulation.IPIP: frozenset({"cali40all-hosts-net"}),
    Encapsulation.VXLAN: frozenset({"cali40all-vxlan-net"}),
}
"""Felix's sets of hosts from which tunnel packets are accepted, by encapsulation."""


def judge_remote_pools(plan: Plan, addressing: Addressing) -> Verdict:
    """NET-ROUTE-013: every remote pod and service range is a disabled pool without NAT, encapsulated as at home."""
    violations: list[Finding] = []
    examined = 0
    pools: defaultdict[str, list[Pool]] = defaultdict(list)
    for pool in addressing.pools:
        pools[pool.region].append(pool)
    for region in plan.regions:
        local = pools[region.name]
        if not local:
            continue
        wanted = {
            cidr: (kind, other)
            for other in plan.others(region.name)
            for kind, cidr in (("pod", other.pod_cidr), ("service", other.service_cidr))
            if kind == "pod" or plan.services_routed
        }
        for cidr, (kind, other) in wanted.items():
            examined += 1
            subject = f"{region.name}: pool for {cidr}, the {kind} range of {other.name}"
            present = [pool for pool in local if pool.cidr == cidr]
            if not present:
                violations.append(
                    Finding(
                        subject,
                        "a disabled pool",
                        "there is no such pool",
                        "without it packets to the range leave bare, under the node's address, and routes are filtered",
                    )
                )
            violations += [
                Finding(f"{subject} ({pool.name})", wish, seen, cause, layer)
                for pool in present
                for layer, wish, seen, cause in _deviations(pool, _encapsulation(plan, other, addressing))
            ]
        violations += [
            Finding(
                f"{region.name}: pool {pool.name}, {pool.cidr}",
                "no disabled pools but those of the other clusters' ranges",
                "the plan has no such range in another cluster",
                "routes for it are accepted and exported, and traffic to it is not masqueraded",
            )
            for pool in local
            if pool.disabled and pool.cidr not in wanted and not pool.cidr.subnet_of(region.pod_cidr)
        ]
    return conclude(
        expected="each cluster knows the pod and service ranges of the others as disabled pools without NAT, "
        "encapsulated as in their own cluster",
        examined=examined,
        what="remote ranges",
        violations=violations,
        gaps=gap_findings(addressing.gaps) + _unknown_pools(plan, addressing),
        remedy="apply the IPPool objects of the plan",
    )


def judge_outgoing_nat(plan: Plan, addressing: Addressing) -> Verdict:
    """NET-ROUTE-014: only pools inside a cluster's own pod range masquerade outgoing traffic."""
    ranges = {region.name: region.pod_cidr for region in plan.regions}
    pools = [pool for pool in addressing.pools if pool.region in ranges]
    return conclude(
        expected="only a cluster's own pool has natOutgoing",
        examined=len(pools),
        what="pools",
        violations=[
            Finding(
                f"{pool.region}: pool {pool.name}, {pool.cidr}",
                "natOutgoing off, for the range is not the cluster's own",
                "natOutgoing on",
                "traffic that enters from the other cluster can leave under a node's address",
            )
            for pool in pools
            if pool.nat_outgoing and not pool.cidr.subnet_of(ranges[pool.region])
        ],
        gaps=gap_findings(addressing.gaps) + _unknown_pools(plan, addressing),
        remedy="set natOutgoing: false on the pool",
    )


def judge_masquerading(plan: Plan, components: Components, matrix: ReachabilityMatrix) -> Verdict:
    """NET-ROUTE-014: nodes leave the source of packets between pods of different clusters as it is.

    Where packets leave by the tunnel, before the node would rewrite them, only a listener can tell; elsewhere the node
    must spare the other clusters' pod ranges by name as well.
    """
    nodes = {(item.region, item.node): item for item in components.datapaths}
    seen: Counter[tuple[NodeKey, str]] = Counter()
    rewritten: dict[tuple[NodeKey, tuple[str, str]], None] = {}
    for probe in matrix.probes:
        source, target = matrix.endpoints[probe.source], matrix.endpoints[probe.target]
        if probe.seen_source is None or source.on_host or target.on_host or source.region == target.region:
            continue
        key = source.region, source.node
        seen[key, target.region] += 1
        if probe.seen_source != source.address:
            rewritten[key, (target.region, str(probe.seen_source))] = None
    deviations: list[tuple[NodeKey, tuple[str, str, str]]] = []
    gaps = gap_findings([*components.gaps, *matrix.gaps])
    examined = 0
    planned = {region.name for region in plan.regions}
    for key, item in sorted(nodes.items()):
        for other in plan.others(key[0]) if key[0] in planned else ():
            examined += 1
            named = any(other.pod_cidr.subnet_of(spared) for spared in item.not_masqueraded)
            where = f"{other.pod_cidr}, pods of {other.name}"
            if item.masquerades and item.routing != "tunnel" and not named:
                spared = listed(item.not_masqueraded) or "nothing"
                deviations.append((key, (where, f"spares {spared} only", "ipv4-native-routing-cidr is too narrow")))
            elif not seen[key, other.name] and not named and item.masquerades is not False:
                gaps.append(
                    Finding(f"{qualified(key)} -> {other.name}", "the source that a listener sees", "none was told")
                )
    return conclude(
        expected="packets from pods to pods of another cluster are not masqueraded",
        examined=examined,
        what="pod ranges, as nodes treat them",
        violations=[
            *(
                Finding(f"{listed(sorted(map(qualified, where)))} -> {cidr}", "not to be masqueraded", observed, cause)
                for where, things in together(deviations)
                for cidr, observed, cause in things
            ),
            *(
                Finding(
                    f"{listed(sorted(map(qualified, where)))} -> pods of {region}",
                    "to be seen under the pods' own addresses",
                    f"seen as {address}",
                    "the node rewrites the source of packets that should go into the tunnel as they are",
                )
                for where, things in together(rewritten)
                for region, address in things
            ),
        ],
        gaps=gaps + unseen_regions(plan, (region for region, _ in nodes), "how its nodes masquerade"),
    )


def judge_tunnel_sources(plan: Plan, configuration: MeshConfiguration, forwarding: Forwarding) -> Verdict:
    """NET-ROUTE-015: tunnel packets are accepted from the node subnets of the other regions, and from no other.

    The setting is judged in every cluster; the packet filter's own set too, on nodes where it could be read.
    """
    planned = {region.name: region for region in plan.regions}
    violations: list[Finding] = []
    known = set()
    for identity in configuration.identities:
        if identity.region not in planned:
            continue
        known.add(identity.region)
        accepted = identity.accepted_tunnel_sources
        subnets = {other.node_cidr: other.name for other in plan.others(identity.region)}
        violations += _source_deviations(
            f"cluster {identity.region}", accepted, subnets, own=planned[identity.region].node_cidr
        )
    seen = 0
    names = TUNNEL_SOURCE_SETS.get(plan.encapsulation, frozenset())
    by_deviation: defaultdict[tuple[str, str, str | None], list[NodeKey]] = defaultdict(list)
    for members in forwarding.filter_sets:
        if members.name not in names or members.region not in planned:
            continue
        seen += 1
        subnets = {other.node_cidr: other.name for other in plan.others(members.region)}
        own = planned[members.region].node_cidr
        for finding in _source_deviations("", members.members, subnets, own=own):
            by_deviation[finding.expected, finding.observed, finding.cause].append((members.region, members.node))
    violations += [
        Finding(f"the packet filter of {listed(sorted(map(qualified, nodes)))}", expected, observed, cause)
        for (expected, observed, cause), nodes in by_deviation.items()
    ]
    return conclude(
        expected="tunnel packets are accepted from the node subnets of the other regions, and from no other",
        examined=len(known) + seen,
        what="lists of tunnel sources",
        violations=violations,
        gaps=gap_findings(configuration.gaps) + unseen_regions(plan, known, "its accepted tunnel sources"),
        remedy="set externalNodesList in FelixConfiguration/default to the remote node subnets",
    )


def _deviations(pool: Pool, encapsulation: tuple[str, str]) -> list[tuple[Layer, str, str, str]]:
    """What a pool for a remote range should be, what it is, what comes of it, and in which layer."""
    found = []
    if not pool.disabled:
        cause = "the cluster hands out addresses that belong to another one"
        found.append((Layer.ADDRESSING, "disabled: true", "enabled", cause))
    if pool.nat_outgoing:
        cause = "traffic from the range can leave under a node's address"
        found.append((Layer.POLICY, "natOutgoing: false", "natOutgoing: true", cause))
    if (pool.encapsulation, pool.encapsulation_mode) != encapsulation:
        found.append(
            (
                Layer.ENCAPSULATION,
                "{} {}, as in its own cluster".format(*encapsulation),
                f"{pool.encapsulation} {pool.encapsulation_mode}",
                "packets leave in a form that the other cluster or the underlay does not take",
            )
        )
    return found


def _encapsulation(plan: Plan, region: RegionPlan, addressing: Addressing) -> tuple[str, str]:
    """Kind and mode of encapsulation of a cluster's own pool; as planned when that pool was not seen."""
    for pool in addressing.pools:
        if pool.region == region.name and pool.cidr == region.pod_cidr and not pool.disabled:
            return pool.encapsulation, pool.encapsulation_mode
    return plan.encapsulation.value, "always"


def _source_deviations(
    subject: str, accepted: tuple[IPv4Network, ...], wanted: dict[IPv4Network, str], *, own: IPv4Network
) -> list[Finding]:
    missing = [
        Finding(
            subject,
            f"to accept tunnel packets from {subnet}, the nodes of {name}",
            f"accepts them from {listed(accepted) or 'no foreign host'}",
            "every packet from that region is dropped on arrival",
        )
        for subnet, name in wanted.items()
        if not any(subnet.subnet_of(source) for source in accepted)
    ]
    excess = [
        Finding(
            subject,
            "to accept tunnel packets from no other hosts",
            f"accepts them from {source} too",
            "hosts outside the mesh can put packets into it",
        )
        for source in accepted
        if not any(source.subnet_of(subnet) for subnet in (*wanted, own))
    ]
    return missing + excess


def _unknown_pools(plan: Plan, addressing: Addressing) -> list[Finding]:
    return unseen_regions(plan, (pool.region for pool in addressing.pools), "its pools")
