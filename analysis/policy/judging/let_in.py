"""NET-POL: does what must get through get through, over new connections?"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from analysis.facts import Enforcement, Policies
from analysis.members import database_of
from analysis.plan import CLIENT, DATABASE, Plan
from analysis.policy.judging.flows import flows_of, judge_passing, ports_words
from analysis.policy.judging.meant import DNS_PORT, DNS_PROTOCOLS, asks_own_dns, intent_of, meant
from analysis.policy.judging.tried import Tried, flow_words, role_of
from analysis.verdict import Verdict, not_applicable


def judge_database_ports(plan: Plan, policies: Policies, enforcement: Enforcement) -> Verdict:
    """NET-POL-005: database pods of all regions reach each other on the ports of SQL and of the members' traffic."""
    console = database_of(plan).console_port
    wanted = {(a, b, port) for a, b, port in _declared(plan, DATABASE, DATABASE) if a != b and port != console}
    return _judge_between_database_pods(plan, policies, enforcement, wanted)


def judge_console_port(plan: Plan, policies: Policies, enforcement: Enforcement) -> Verdict:
    """NET-POL-006: database pods of all regions reach each other on the port of the console."""
    console = database_of(plan).console_port
    wanted = {(a, b, port) for a, b, port in _declared(plan, DATABASE, DATABASE) if a != b and port == console}
    return _judge_between_database_pods(plan, policies, enforcement, wanted)


def judge_inside_regions(plan: Plan, policies: Policies, enforcement: Enforcement) -> Verdict:
    """NET-POL-008: inside a region the database's own traffic goes on: between its pods, and to what they depend on."""
    intent = intent_of(plan)
    wanted = {(a, b, port) for a, b, port in _declared(plan, DATABASE, DATABASE) if a == b}
    others = {role.name for role in intent.roles} - {DATABASE}
    return judge_passing(
        plan,
        policies,
        enforcement,
        [
            tried
            for tried in _meant(plan, enforcement)
            if role_of(tried.source) == DATABASE
            and (role_of(tried.target) in others or (role_of(tried.target) == DATABASE and not tried.crosses))
        ],
        expected="inside its region every database pod reaches the others, and what it depends on",
        key=lambda tried: (tried.source.region, tried.target.region, tried.trial.port),
        required=_named(wanted, DATABASE, DATABASE),
        remedy="allow the region's own database pods too: a rule about the other regions leaves them out",
    )


def judge_dns(plan: Plan, policies: Policies, enforcement: Enforcement) -> Verdict:
    """NET-POL-009: database pods can ask the DNS of their cluster, over UDP and over TCP."""
    return judge_passing(
        plan,
        policies,
        enforcement,
        [tried for tried in flows_of(enforcement) if asks_own_dns(tried) and role_of(tried.source) == DATABASE],
        expected="database pods can ask their own cluster's DNS, over UDP and TCP",
        key=lambda tried: (tried.source.region, tried.trial.protocol),
        required={
            (
                region.name,
                protocol,
            ): f"{flow_words(protocol, DNS_PORT)} from {DATABASE} pods of {region.name} to its DNS"
            for region in plan.regions
            for protocol in DNS_PROTOCOLS
        },
        remedy="allow egress to the pods of kube-dns in kube-system on UDP and TCP 53: policy is asked after the "
        "Service's address has become a pod's",
    )


def judge_clients(plan: Plan, policies: Policies, enforcement: Enforcement) -> Verdict:
    """NET-POL-012: whoever was declared a client reaches the database, at least where it is declared."""
    intent = intent_of(plan)
    sources = [role.name for role in intent.roles if role.name != DATABASE]
    wanted = {(a, b, port) for a, b, port in _declared(plan, CLIENT, DATABASE) if a == b}
    if not any(_declared(plan, source, DATABASE) for source in sources):
        return not_applicable("declared clients reach the database", "the intent declares no clients of the database")
    return judge_passing(
        plan,
        policies,
        enforcement,
        [
            tried
            for tried in _meant(plan, enforcement)
            if role_of(tried.source) in sources and role_of(tried.target) == DATABASE
        ],
        expected="declared clients reach the database on the ports that they were given",
        key=lambda tried: (tried.source.region, tried.target.region, tried.trial.port),
        required=_named(wanted, CLIENT, DATABASE),
        remedy="allow ingress from the clients' own label, in every cluster that has database pods",
    )


def _judge_between_database_pods(
    plan: Plan, policies: Policies, enforcement: Enforcement, wanted: set[tuple[str, str, int]]
) -> Verdict:
    ports = {port for _, _, port in wanted}
    if not ports:
        return not_applicable("database pods of all regions reach each other", "the intent lists no such port")
    return judge_passing(
        plan,
        policies,
        enforcement,
        [
            tried
            for tried in _meant(plan, enforcement)
            if tried.between(DATABASE, DATABASE) and tried.crosses and tried.trial.port in ports
        ],
        expected=f"database pods of every region reach those of every other on {ports_words(ports)}",
        key=lambda tried: (tried.source.region, tried.target.region, tried.trial.port),
        required=_named(wanted, DATABASE, DATABASE),
        remedy="allow these ports from and to the database pods of all regions, in every cluster; the engine must know "
        "remote pods by their labels (federation, network sets, mesh identities)",
    )


def _meant(plan: Plan, enforcement: Enforcement) -> list[Tried]:
    """Ordinary new connections that must get through."""
    intent = intent_of(plan)
    return [tried for tried in flows_of(enforcement) if tried.direct and meant(intent, tried)]


def _declared(plan: Plan, source: str, target: str) -> set[tuple[str, str, int]]:
    """Regions and ports that the intent opens from one role to another."""
    intent, names = intent_of(plan), [region.name for region in plan.regions]
    return {(a, b, port) for a in names for b in names for port in intent.ports((source, a), (target, b))}


def _named(wanted: Iterable[tuple[str, str, int]], source: str, target: str) -> dict[Hashable, str]:
    return {
        (a, b, port): f"{flow_words('TCP', port)}, {source} pods of {a} -> {target} pods of {b}"
        for a, b, port in sorted(wanted)
    }
