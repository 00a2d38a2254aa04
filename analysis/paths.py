"""NET-POD, beyond the matrix: remote services, the internet, speed, and what earlier runs left behind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from ipaddress import IPv4Address

from analysis.facts import Inventory, PathQuality, Paths, ProbeOutcome, RegionPairQuality
from analysis.plan import Plan
from analysis.verdict import Finding, Verdict, conclude, not_applicable
from analysis.words import OUTCOME_WORDS, gap_findings, listed, place, together, unseen_regions


def judge_remote_services(plan: Plan, paths: Paths) -> Verdict:
    """NET-POD-008: where service ranges are routed, the DNS service of every other cluster answers at its ClusterIP.

    Where they are not, an address that the own service range holds too must lead to the own cluster, which is asked for
    what only it can know.
    """
    if not plan.services_routed:
        return _judge_services_stay_at_home(plan, paths)
    expected = "pods reach the kube-dns ClusterIP of every other cluster, over TCP and UDP"
    conclusive = [probe for probe in paths.services if probe.outcome is not ProbeOutcome.INCONCLUSIVE]
    tried = {(probe.source.region, probe.target_region) for probe in paths.services}
    failed = {
        (
            place(probe.source),
            (
                f"{probe.target_region} ({probe.address}:53)",
                f"{OUTCOME_WORDS[probe.outcome]} over {probe.protocol.value.upper()}",
            ),
        ): probe.detail
        for probe in conclusive
        if probe.outcome is not ProbeOutcome.OPEN
    }
    return conclude(
        expected=expected,
        examined=len(conclusive),
        what="queries to remote DNS services",
        violations=[
            Finding(
                f"{listed(sorted(sources))} -> kube-dns of {target}",
                "an answer",
                problem,
                "no route to the remote service range, or no node there translates the ClusterIP",
            )
            for sources, things in together(failed)
            for target, problem in things
        ],
        gaps=[
            *gap_findings(paths.gaps),
            *(
                Finding(
                    f"{place(probe.source)} -> kube-dns of {probe.target_region}", "a conclusive query", probe.detail
                )
                for probe in paths.services
                if probe.outcome is ProbeOutcome.INCONCLUSIVE
            ),
            *(
                Finding(f"{a.name} -> kube-dns of {b.name}", "a query", "none was made")
                for a, b in plan.ordered_pairs()
                if (a.name, b.name) not in tried
            ),
        ],
    )


def _judge_services_stay_at_home(plan: Plan, paths: Paths) -> Verdict:
    ranges = {region.name: region.service_cidr for region in plan.regions}
    probes = [probe for probe in paths.services if probe.source.region in ranges]
    tried = {probe.source.region for probe in probes}
    shared = [probe for probe in probes if probe.address in ranges[probe.source.region]]
    told = [probe for probe in shared if probe.outcome is not ProbeOutcome.INCONCLUSIVE]
    unclear = {
        (probe.source.region, probe.detail or "it could not be told which cluster answered")
        for probe in shared
        if probe.outcome is ProbeOutcome.INCONCLUSIVE
        or (probe.outcome is ProbeOutcome.OPEN and not probe.answered_by and probe.target_region == probe.source.region)
    }
    wrong: dict[tuple[str, tuple[str, str, str]], None] = {}
    for probe in told:
        where = f"{probe.address}:53 over {probe.protocol.value.upper()}"
        if probe.outcome is not ProbeOutcome.OPEN:
            cause = "no node there translates the ClusterIP, or the cluster's DNS is down"
            wrong[place(probe.source), (where, OUTCOME_WORDS[probe.outcome], cause)] = None
        elif probe.answered_by not in ("", probe.source.region):
            cause = "a route takes packets for a ClusterIP to another cluster"
            wrong[place(probe.source), (where, f"answered by the DNS of {probe.answered_by}", cause)] = None
    elsewhere = {
        f"{probe.source.region} reaches {probe.address}, a ClusterIP of {probe.target_region}, though none is routed"
        for probe in probes
        if probe.outcome is ProbeOutcome.OPEN
        and probe.address not in ranges[probe.source.region]
        and probe.target_region != probe.source.region
    }
    return conclude(
        expected="a ClusterIP, which is not routed between clusters, leads to the own cluster's service",
        examined=len(told) or len(probes),
        what="queries to DNS services",
        violations=[
            Finding(f"{listed(sorted(sources))} -> {where}", "an answer of the own cluster's DNS", observed, cause)
            for sources, things in together(wrong)
            for where, observed, cause in things
        ],
        gaps=[
            *gap_findings(paths.gaps),
            *(Finding(f"pods of {region}", "to learn whose DNS answers", why) for region, why in sorted(unclear)),
            *unseen_regions(plan, tried, "an answer of its DNS"),
        ],
        warnings=sorted(elsewhere),
    )


def judge_egress(plan: Plan, inventory: Inventory, paths: Paths) -> Verdict:
    """NET-POD-009: pods reach the internet, and are seen there under no pod's address.

    A node's address must be that of the pod's own; one that the plan does not know is the cloud's translation of it.
    """
    if plan.egress is None:
        return not_applicable("pods reach the internet under a node's address", "the plan names no host to knock at")
    nodes = {(node.region, node.name): node.internal_ip for node in inventory.nodes}
    violations: list[Finding] = []
    conclusive = [probe for probe in paths.egress if probe.outcome is not ProbeOutcome.INCONCLUSIVE]
    for probe in conclusive:
        subject = f"{place(probe.source)} -> {probe.address}:{probe.port}"
        own = nodes.get((probe.source.region, probe.source.node))
        if probe.outcome is not ProbeOutcome.OPEN:
            detail = f" ({probe.detail})" if probe.detail else ""
            violations.append(Finding(subject, "a connection", OUTCOME_WORDS[probe.outcome] + detail))
        elif probe.seen_source is not None and any(probe.seen_source in region.pod_cidr for region in plan.regions):
            violations.append(
                Finding(
                    subject,
                    "to be seen under the node's address",
                    f"seen under the pod address {probe.seen_source}",
                    "pods' outgoing traffic is not masqueraded (natOutgoing, enable-ipv4-masquerade), or not to there",
                )
            )
        elif probe.seen_source is not None and _of_a_node(plan, probe.seen_source) and own and probe.seen_source != own:
            violations.append(
                Finding(subject, f"to be seen under the node's address {own}", f"seen as {probe.seen_source}")
            )
    reached = {probe.source.region for probe in paths.egress}
    return conclude(
        expected=f"pods reach {plan.egress.address}:{plan.egress.port} under the address of their node",
        examined=len(conclusive),
        what="connections to the outside",
        violations=violations,
        gaps=[
            *gap_findings([*inventory.gaps, *paths.gaps]),
            *(
                Finding(place(probe.source), "a conclusive connection to the outside", probe.detail)
                for probe in paths.egress
                if probe.outcome is ProbeOutcome.INCONCLUSIVE
            ),
            *(
                Finding(
                    f"{place(probe.source)} -> {probe.address}", "the source seen outside", "the target did not say"
                )
                for probe in conclusive
                if probe.outcome is ProbeOutcome.OPEN and probe.seen_source is None
            ),
            *(
                Finding(f"pods of {region.name}", "a connection to the outside", "none was tried")
                for region in plan.regions
                if region.name not in reached
            ),
        ],
    )


def _of_a_node(plan: Plan, address: IPv4Address) -> bool:
    return any(address in cidr for region in plan.regions for cidr in (region.node_cidr, region.network) if cidr)


def judge_round_trips(plan: Plan, quality: PathQuality) -> Verdict:
    """NET-POD-012: the median round trip between pods of two regions is hardly above that between their nodes."""
    budget = plan.budgets.rtt_overhead
    violations: list[Finding] = []
    gaps = gap_findings(quality.gaps) + _unmeasured(plan, quality.pairs)
    examined = 0
    for pair in quality.pairs:
        if pair.pod_rtt is None or pair.node_rtt is None:
            gaps.append(Finding(_pair(pair), "round trips of pods and nodes", pair.detail or "not measured"))
            continue
        examined += 1
        overhead = timedelta(seconds=pair.pod_rtt - pair.node_rtt)
        if overhead > budget:
            violations.append(
                Finding(
                    _pair(pair),
                    f"at most {_ms(budget)} above the node-to-node time of {_ms(pair.node_rtt)}",
                    f"{_ms(pair.pod_rtt)} between pods, {_ms(overhead)} above, medians of {pair.samples} echoes",
                    "packets take a detour, or a node on the way is overloaded",
                )
            )
    return conclude(
        expected=f"round trips between pods of two regions take at most {_ms(budget)} more than those of their nodes",
        examined=examined,
        what="directions between regions",
        violations=violations,
        gaps=gaps,
    )


def judge_throughput(plan: Plan, quality: PathQuality) -> Verdict:
    """NET-POD-013: pods of two regions get the planned share of the throughput between their nodes."""
    share = plan.budgets.throughput_ratio
    violations: list[Finding] = []
    gaps = gap_findings(quality.gaps) + _unmeasured(plan, quality.pairs)
    examined = 0
    for pair in quality.pairs:
        if pair.pod_throughput is None or not pair.node_throughput:
            gaps.append(Finding(_pair(pair), "throughput of pods and nodes", pair.detail or "not measured"))
            continue
        examined += 1
        reached = pair.pod_throughput / pair.node_throughput
        if reached < share:
            violations.append(
                Finding(
                    _pair(pair),
                    f"at least {share:.0%} of the {_mb(pair.node_throughput)} between nodes",
                    f"{_mb(pair.pod_throughput)}, {reached:.0%}",
                    "encapsulation without offload, an MTU that fragments, or a shaped tunnel device",
                )
            )
    return conclude(
        expected=f"pods of two regions get at least {share:.0%} of the throughput between their nodes",
        examined=examined,
        what="directions between regions",
        violations=violations,
        gaps=gaps,
    )


def judge_no_leftovers(plan: Plan, inventory: Inventory) -> Verdict:
    """NET-POD-014: no test pod of an earlier run is there."""
    by_region: defaultdict[str, list[str]] = defaultdict(list)
    for pod in inventory.leftover_pods:
        by_region[pod.region].append(f"{pod.namespace}/{pod.name}")
    known = {node.region for node in inventory.nodes}
    return conclude(
        expected="no test pod of an earlier run is left in any cluster",
        examined=sum(region.name in known for region in plan.regions),
        what="clusters",
        violations=[
            Finding(f"cluster {region}", "no test pods of earlier runs", f"{len(names)}: {listed(sorted(names))}")
            for region, names in sorted(by_region.items())
        ],
        gaps=gap_findings(inventory.gaps) + unseen_regions(plan, known, "its pods"),
        cause="an earlier run ended before it could clean up" if by_region else None,
        remedy="delete the pods, or let the next run sweep them once they have expired",
    )


def _pair(pair: RegionPairQuality) -> str:
    return f"{pair.source_region} -> {pair.target_region}"


def _unmeasured(plan: Plan, pairs: Iterable[RegionPairQuality]) -> list[Finding]:
    measured = {(pair.source_region, pair.target_region) for pair in pairs}
    return [
        Finding(f"{a.name} -> {b.name}", "to be measured", "it was not")
        for a, b in plan.ordered_pairs()
        if (a.name, b.name) not in measured
    ]


def _ms(time: float | timedelta) -> str:
    seconds = time.total_seconds() if isinstance(time, timedelta) else time
    return f"{seconds * 1000:.2f} ms".replace(".00 ", " ")


def _mb(bytes_per_second: float) -> str:
    return f"{bytes_per_second / 1e6:.3g} MB/s"
