"""DB-FORM: have all nodes found each other, as one database that knows where each of them is?"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import permutations

from analysis.facts import Database, DatabaseNode, NodeRole
from analysis.members import (
    called,
    database_of,
    has_primary,
    home_of,
    host_of,
    is_stand_in,
    lacking,
    member_of,
    planned_members,
    untold,
)
from analysis.nearest import did_you_mean
from analysis.plan import Plan
from analysis.verdict import Finding, Verdict, conclude, not_applicable
from analysis.words import count, gap_findings, listed

NOT_READY = 503
OFFSET_SHARE = 0.8
"""Of the greatest offset: where half of the others are further away than that, a node of CockroachDB stops itself."""


def judge_live_nodes(plan: Plan, database: Database) -> Verdict:
    """DB-FORM-001: as many nodes are live as were planned, in each region."""
    replicas = database_of(plan).replicas
    expected = f"{count(replicas, 'live node')} in each of {len(plan.regions)} regions"
    homes = {node.name: home_of(plan, node) for node in database.nodes}
    live = Counter(homes[node.name] for node in database.nodes if node.live)
    unclear = [node for node in database.nodes if node.live is None]
    gaps = gap_findings(database.gaps, "nodes")
    gaps += [Finding(called(plan, node), "to be known as live or not", "the database does not say") for node in unclear]
    violations, warnings = [], []
    for region in plan.regions if database.nodes else ():
        dead = [node for node in database.nodes if node.live is False and homes[node.name] == region.name]
        if live[region.name] == replicas:
            warnings += [f"{called(plan, node)} is listed and not live: decommission it" for node in dead]
        elif live[region.name] > replicas or region.name not in {homes[node.name] for node in unclear}:
            names = f"; {listed(called(plan, node) for node in dead)} not live" if dead else ""
            violations.append(
                Finding(
                    f"database in {region.name}",
                    f"{count(replicas, 'live node')}",
                    f"{count(live[region.name], 'live node')}{names}",
                    "a pod does not run, or cannot reach the others" if live[region.name] < replicas else None,
                )
            )
    violations += [
        Finding(called(plan, node), f"to be in one of {_regions(plan)}", f"its region is {node.region!r}")
        for node in database.nodes
        if node.live and homes[node.name] not in {region.name for region in plan.regions}
    ]
    return conclude(
        expected=expected,
        examined=len(database.nodes),
        what="nodes",
        violations=violations,
        gaps=gaps,
        warnings=warnings,
        remedy="see whether the pod runs, and what its log says of the others",
    )


def judge_one_cluster(plan: Plan, database: Database) -> Verdict:
    """DB-FORM-002: a client finds the same database cluster in every region."""
    ids: defaultdict[str, list[str]] = defaultdict(list)
    for gateway in database.gateways:
        if gateway.cluster and gateway.region not in ids[gateway.cluster]:
            ids[gateway.cluster].append(gateway.region)
    most = max(ids, key=lambda cluster: len(ids[cluster]), default="")
    told = {region for regions in ids.values() for region in regions}
    return conclude(
        expected="all nodes belong to one database cluster",
        examined=len(told),
        what="regions",
        violations=[
            Finding(
                f"database in {listed(regions)}",
                f"cluster {most}, as in {listed(ids[most])}",
                f"cluster {cluster}",
                "it was initialised on its own, before it had found the others",
            )
            for cluster, regions in ids.items()
            if cluster != most
        ],
        gaps=gap_findings(database.gaps, "gateways") or untold(plan, told, "its cluster id"),
        remedy="empty the volumes of the smaller one, mend its join list, and do not initialise it again",
    )


def judge_localities(plan: Plan, database: Database) -> Verdict:
    """DB-FORM-003: every node states the region it runs in, and the database knows exactly the planned ones."""
    names = [region.name for region in plan.regions]
    violations = []
    for node in database.nodes:
        member = member_of(plan, node)
        if node.region != member.region if member else node.region not in names:
            stated = f"region {node.region!r}{did_you_mean(node.region, names)}" if node.region else "no region"
            violations.append(
                Finding(
                    called(plan, node),
                    f"region {member.region}" if member else f"one of {listed(names)}",
                    f"{stated} (locality {node.locality!r})",
                    "--locality of that region's StatefulSet" if node.region else "the region tier is missing",
                )
            )
    known = set(database.regions)
    gaps = gap_findings(database.gaps, "nodes", "regions")
    if not known and not gaps:
        gaps.append(Finding("the database", "to say which regions it knows", "it named none"))
    strange = sorted(known - set(names))
    if known and known != set(names):
        missing = [name for name in names if name not in known]
        parts = [f"{listed(missing)} missing"] if missing else []
        parts += [f"{name} unknown to the plan{did_you_mean(name, names)}" for name in strange]
        subject = f"the database's regions ({listed([*missing, *strange])})"
        violations.append(Finding(subject, f"exactly {listed(names)}", "; ".join(parts)))
    return conclude(
        expected=f"every node states its region, and the database knows exactly {listed(names)}",
        examined=len(database.nodes),
        what="nodes",
        violations=violations,
        gaps=gaps,
        remedy="start the nodes with --locality=region=REGION,..., the same tiers in the same order everywhere",
    )


def judge_initialised_once(database: Database) -> Verdict:
    """DB-FORM-005: another attempt to initialise the database is turned down."""
    expected = "the database was initialised once, and turns a second attempt down"
    if is_stand_in(database):
        return not_applicable(expected, lacking("init: whoever comes first creates the database, under a lock in etcd"))
    return conclude(
        expected=expected,
        examined=sum(trial.refused is not None for trial in database.init),
        what="attempts",
        violations=[
            Finding(f"{trial.region}/{trial.pod}", "to refuse a second init", f"took it: {trial.detail}")
            for trial in database.init
            if trial.refused is False
        ],
        gaps=[
            *gap_findings(database.gaps, "init"),
            *(
                Finding(f"{trial.region}/{trial.pod}", "to be asked for a second init", trial.detail)
                for trial in database.init
                if trial.refused is None
            ),
        ],
    )


def judge_before_init(database: Database) -> Verdict:
    """DB-FORM-006: pods that wait for initialisation run, are not Ready, and say so on their health address."""
    expected = f"before initialisation pods run, are not Ready, and answer {NOT_READY}"
    if is_stand_in(database):
        return not_applicable(expected, lacking("state in which it waits for an init"))
    return conclude(
        expected=expected,
        examined=len(database.first_starts),
        what="pods at their first start",
        violations=[
            Finding(
                f"{seen.region}/{seen.pod}",
                f"Running, not Ready, {NOT_READY} from its health address",
                f"{seen.phase}, {'Ready' if seen.ready else 'not Ready'}, {seen.status or 'no answer'}",
                "it was initialised before, or its readiness probe asks something else",
            )
            for seen in database.first_starts
            if (seen.phase, seen.ready, seen.status) != ("Running", False, NOT_READY)
        ],
        gaps=gap_findings(database.gaps, "first_starts"),
    )


def judge_advertised_names(plan: Plan, database: Database) -> Verdict:
    """DB-FORM-008: every node advertises the full name of its pod."""
    names = [member.name for member in planned_members(plan)]
    port = database_of(plan).sql_port
    violations = []
    advertised: defaultdict[str, list[DatabaseNode]] = defaultdict(list)
    for node in database.nodes:
        host, told_port = host_of(node.advertised), node.advertised.rpartition(":")[2]
        if node.live is not False:
            advertised[node.advertised].append(node)
        if host not in names:
            subject = f"{node.region}: node {node.name}" if node.region else f"node {node.name}"
            observed = f"advertises {node.advertised or 'nothing'}{did_you_mean(host, names)}"
            cause = "--advertise-host is not $(hostname -f), or the pod does not know its full name"
            violations.append(Finding(subject, "the full name of its pod", observed, cause))
        elif told_port != str(port):
            violations.append(Finding(called(plan, node), f"port {port}", f"advertises {node.advertised}"))
    violations += [
        Finding(f"nodes {listed(node.name for node in nodes)}", "a name each", f"all advertise {name}")
        for name, nodes in advertised.items()
        if name and len(nodes) > 1
    ]
    return conclude(
        expected="every node advertises the full name of its pod, on the SQL port",
        examined=len(database.nodes),
        what="nodes",
        violations=violations,
        gaps=gap_findings(database.gaps, "nodes"),
        remedy="start the nodes with --advertise-host $(hostname -f), in pods of the headless Service",
    )


def judge_links(plan: Plan, database: Database) -> Verdict:
    """DB-FORM-010: every node has a healthy connection to every other one, both ways.

    Where one node takes all writes, its connections with those that follow it are what counts.
    """
    nodes = {node.name: node for node in database.nodes}
    known = {(link.source, link.target): link for link in database.links}
    pairs: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for source, target in expected_links(database):
        pairs[home_of(plan, nodes[source]), home_of(plan, nodes[target])].append((source, target))
    violations, missing = [], []
    for (here, there), links in pairs.items():
        subject = f"nodes of {here} -> nodes of {there}"
        told = [known.get(link) for link in links]
        broken = [link for link in told if link and link.healthy is False]
        silent = sum(link is None or link.healthy is None for link in told)
        if broken:
            observed = f"{len(broken)} of {count(len(links), 'connection')} not healthy"
            detail = f": {broken[0].detail}" if broken[0].detail else ""
            cause = "what lies between them lets this direction not through, or a node does not run"
            violations.append(Finding(subject, "healthy connections", observed + detail, cause))
        elif silent:
            missing.append(Finding(subject, "connections to be observed", f"{silent} of {len(links)} were not"))
    return conclude(
        expected="every node has a healthy connection to every other, both ways",
        examined=sum(map(len, pairs.values())),
        what="connections",
        violations=violations,
        gaps=[*gap_findings(database.gaps, "links", "nodes"), *missing],
        remedy="check routes, policy and certificates between the two regions, in the direction that is named",
    )


def expected_links(database: Database) -> list[tuple[str, str]]:
    """The ordered pairs of nodes that must be connected.

    All of them; where there is a primary, each standby with it in one direction, and whatever else was reported.
    """
    if not has_primary(database):
        return list(permutations((node.name for node in database.nodes), 2))
    names = {node.name for node in database.nodes}
    pairs = [(link.source, link.target) for link in database.links if {link.source, link.target} <= names]
    primaries = [node.name for node in database.nodes if node.role is NodeRole.PRIMARY]
    for primary in primaries:
        for standby in names.difference(primaries):
            if (primary, standby) not in pairs and (standby, primary) not in pairs:
                pairs.append((primary, standby))
    return pairs


def judge_clock_offsets(plan: Plan, database: Database) -> Verdict:
    """DB-FORM-022: the offsets that nodes measure of each other's clocks are far from where nodes stop themselves.

    Nodes of an engine that has no such limit are held to the plan's budget for clocks.
    """
    gaps = gap_findings(database.gaps, "nodes", "maximum_offset")
    limit, whose = plan.budgets.clock_offset.total_seconds(), "the budget for clocks"
    if database.maximum_offset is not None:
        limit, whose = database.maximum_offset * OFFSET_SHARE, f"{OFFSET_SHARE:.0%} of the maximum"
    elif not is_stand_in(database):
        gaps.append(Finding("the database", "its greatest clock offset (--max-offset)", "it does not tell"))
    measured = [(node, abs(node.clock_offset)) for node in database.nodes if node.clock_offset is not None]
    gaps += [
        Finding(called(plan, node), "its clock offset", "it does not tell")
        for node in database.nodes
        if node.clock_offset is None and node.live is not False
    ]
    return conclude(
        expected=f"clock offsets below {limit * 1000:.0f} ms, {whose}",
        examined=len(measured),
        what="nodes",
        violations=[
            Finding(
                called(plan, node),
                f"an offset below {limit * 1000:.0f} ms",
                f"{offset * 1000:.0f} ms",
                "its host's clock is not synchronised",
            )
            for node, offset in measured
            if offset >= limit
        ],
        gaps=gaps,
        remedy="make NTP or chrony run on that node, with the same source as the others",
    )


def _regions(plan: Plan) -> str:
    return listed(region.name for region in plan.regions)
