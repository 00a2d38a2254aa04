"""What the judges of DNS say of made-up facts, on both meshes: met when all is as planned, and what when it is not."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from analysis import dns as told
from analysis import names
from analysis.facts import Dns, Gap, ProbeOutcome, ProbeProtocol, Purpose, Underlay
from analysis.plan import Budgets
from analysis.verdict import Outcome
from provision.lab.topology import aws_calico, azure_cilium
from tests.unit.analysis.dns_world import change, corefile, operator_gets_in, perfect_dns, rewrite, targets_of

MET, VIOLATED, INCONCLUSIVE = Outcome.MET, Outcome.VIOLATED, Outcome.INCONCLUSIVE
JUDGES = {
    "NET-DNS-001": told.judge_zones,
    "NET-DNS-002": told.judge_own_zone,
    "NET-DNS-003": told.judge_spelling,
    "NET-DNS-004": told.judge_servers,
    "NET-DNS-005": told.judge_targets,
    "NET-DNS-006": names.judge_members,
    "NET-DNS-007": names.judge_short_names,
    "NET-DNS-008": names.judge_lists,
    "NET-DNS-009": names.judge_before_ready,
    "NET-DNS-010": names.judge_absent,
    "NET-DNS-011": told.judge_caches,
    "NET-DNS-012": names.judge_usual_names,
    "NET-DNS-013": names.judge_tcp,
    "NET-DNS-014": told.judge_spare_upstreams,
    "NET-DNS-018": names.judge_private,
    "NET-DNS-019": names.judge_full_names,
}


@pytest.fixture(params=[aws_calico, azure_cilium], ids=["calico", "cilium"])
def lab(request):
    return request.param("demo")


@pytest.fixture
def plan(lab):
    """The lab's, with the time that the published Corefiles ask for."""
    return replace(lab.plan, budgets=Budgets())


@pytest.fixture
def dns(lab):
    return perfect_dns(lab)


def findings(verdict):
    return [f"{finding.subject}: {finding.observed}" for finding in verdict.findings]


@pytest.mark.parametrize("requirement", JUDGES)
def test_dns_as_planned_keeps_every_promise(plan, dns, requirement):
    verdict = JUDGES[requirement](plan, dns)
    assert (verdict.outcome, findings(verdict)) == (MET, [])


@pytest.mark.parametrize("requirement", JUDGES)
def test_without_facts_nothing_is_met_nor_violated(plan, requirement):
    gaps = tuple(Gap(region.name, "DNS", "the API did not answer") for region in plan.regions)
    assert JUDGES[requirement](plan, Dns(gaps=gaps)).outcome is INCONCLUSIVE


# --- what servers are told ----------------------------------------------------------------------------------------


def regions(lab):
    return [region.name for region in lab.regions]


def test_a_missing_zone_is_told_with_who_answers_instead(lab, plan, dns):
    a, _, c = regions(lab)
    broken = rewrite(dns, a, lambda text: text[: text.index(f"{c}.svc")])
    verdict = told.judge_zones(plan, broken)
    assert verdict.outcome is VIOLATED
    assert findings(verdict) == [f"cluster {a}: zone {c}.svc.cluster.local: no server block has it"]
    assert "kubernetes answers it as its own" in verdict.cause


def test_a_zone_that_leaks_to_the_outside_is_told_with_the_line(lab, plan, dns):
    a, _, c = regions(lab)
    broken = rewrite(
        dns, a, lambda text: text[: text.index(f"{c}.svc")].replace("fallthrough in-addr.arpa", "fallthrough")
    )
    assert "it leaks to /etc/resolv.conf" in told.judge_zones(plan, broken).cause
    assert "coredns/Corefile:7" in told.judge_zones(plan, broken).cause


def test_a_zone_that_nobody_planned_is_told(lab, plan, dns):
    a, b, _ = regions(lab)
    block = "kube-system.svc.cluster.local {\n forward . 10.0.0.1\n}\n"
    broken = rewrite(dns, a, lambda text: text + block)
    assert told.judge_zones(plan, broken).outcome is VIOLATED
    assert told.judge_zones(plan, rewrite(dns, b, lambda text: text + "# a remark\n")).outcome is MET


def test_an_own_zone_that_is_forwarded_is_told_and_so_is_the_circle(lab, plan, dns):
    a, b, _ = lab.regions
    targets = " ".join(f"{address}:{port}" for address, port in targets_of(lab, b))
    block = f"{a.name}.svc.cluster.local {{\n    forward . {targets}\n}}\n"
    verdict = told.judge_own_zone(plan, rewrite(dns, a.name, lambda text: text + block))
    assert verdict.outcome is VIOLATED
    assert any("its own zone" in line for line in findings(verdict))
    assert any(f"goes round: {a.name} -> {b.name} -> {a.name}" in line for line in findings(verdict)) or any(
        f"goes round: {b.name} -> {a.name} -> {b.name}" in line for line in findings(verdict)
    )


def test_two_clusters_that_ask_each_other_are_a_circle(lab, plan, dns):
    a, b, c = lab.regions

    def forwards(owner):
        return f"forward . {' '.join(f'{address}:{port}' for address, port in targets_of(lab, owner))}"

    broken = rewrite(dns, a.name, lambda text: text.replace(forwards(c), forwards(b)))
    broken = rewrite(broken, b.name, lambda text: text.replace(forwards(c), forwards(a)))
    verdict = told.judge_own_zone(plan, broken)
    assert verdict.outcome is VIOLATED
    assert c.name in verdict.findings[0].subject
    assert told.judge_targets(plan, broken).outcome is VIOLATED


def test_a_forward_to_the_own_dns_is_a_circle_too(lab, plan, dns):
    a, _, c = lab.regions
    own = f"forward . {a.plan.dns_address}"
    targets = " ".join(f"{address}:{port}" for address, port in targets_of(lab, c))
    broken = rewrite(dns, a.name, lambda text: text.replace(f"forward . {targets}", own))
    assert told.judge_own_zone(plan, broken).outcome is VIOLATED


def test_the_typo_of_the_guides_is_told_with_what_was_meant_and_its_line(lab, plan, dns):
    a, _, c = regions(lab)
    typo = c.replace("ope", "poe") if "ope" in c else c.replace("west", "wset")
    broken = rewrite(dns, a, lambda text: text.replace(f"{c}.svc", f"{typo}.svc"))
    verdict = told.judge_spelling(plan, broken)
    line = corefile(lab, lab.regions[0]).splitlines().index(f"{c}.svc.cluster.local:53 {{") + 1
    assert findings(verdict) == [
        f"cluster {a}: zone {typo}.svc.cluster.local (coredns/Corefile:{line}): "
        f"no region shares a namespace {typo!r}, did you mean {c!r}?"
    ]


def test_a_namespace_that_is_not_there_is_told(lab, plan, dns):
    broken = replace(dns, namespaces=tuple((region, ()) for region, _ in dns.namespaces))
    assert told.judge_spelling(plan, broken).outcome is VIOLATED
    assert told.judge_spelling(plan, replace(dns, namespaces=())).outcome is INCONCLUSIVE


def test_the_extra_brace_of_the_guides_is_told_with_its_line(lab, plan, dns):
    a, _, c = regions(lab)
    broken = rewrite(dns, a, lambda text: text.replace(f"{c}.svc", f"}}\n{c}.svc"))
    verdict = told.judge_servers(plan, broken)
    assert verdict.outcome is VIOLATED
    assert "a closing brace too many" in verdict.findings[0].observed
    assert "coredns/Corefile:" in verdict.findings[0].subject
    assert told.judge_zones(plan, broken).outcome is MET


def test_servers_that_are_not_ready_or_refused_their_configuration_are_told(lab, plan, dns):
    refused = "[ERROR] plugin/reload: Corefile changed but reload failed: Corefile:12"
    one = dns.servers[0].pod
    for values in ({"errors": (refused,)}, {"ready": False, "restarts": 3}):
        broken = change(dns, "servers", lambda server: server.pod == one, **values)
        assert told.judge_servers(plan, broken).outcome is VIOLATED
    assert told.judge_servers(plan, replace(dns, servers=dns.servers[2:])).outcome is VIOLATED


def test_a_stale_target_is_told_with_the_present_ones(lab, plan, dns):
    a, _, c = lab.regions
    address, port = targets_of(lab, c)[0]
    broken = rewrite(dns, a.name, lambda text: text.replace(f"{address}:{port}", f"{address}:{port + 7}"))
    verdict = told.judge_targets(plan, broken)
    assert (
        f"DNS is at port {port} there, not {port + 7}" in findings(verdict)[0]
        or "no cluster's DNS" in findings(verdict)[0]
    )
    assert str(port) in verdict.findings[0].expected


def test_a_cluster_ip_is_no_target_where_services_are_not_routed(dns):
    lab = azure_cilium("demo")
    a, _, c = lab.regions
    targets = " ".join(f"{address}:{port}" for address, port in targets_of(lab, c))
    broken = rewrite(perfect_dns(lab), a.name, lambda text: text.replace(targets, "10.43.0.10"))
    assert told.judge_targets(lab.plan, broken).outcome is VIOLATED


@pytest.mark.parametrize("values", [{"outcome": ProbeOutcome.DROPPED, "code": ""}, {"code": "SERVFAIL"}])
def test_a_target_that_does_not_answer_is_told(lab, plan, dns, values):
    a, _, c = lab.regions
    target = targets_of(lab, c)[-1]
    broken = change(
        dns,
        "answers",
        lambda answer: (
            answer.direct
            and answer.protocol is ProbeProtocol.UDP
            and answer.source.region == a.name
            and (answer.server, answer.port) == target
        ),
        **values,
    )
    verdict = told.judge_targets(plan, broken)
    assert verdict.outcome is VIOLATED
    assert len(verdict.findings) == 1
    assert f"{target[0]}:{target[1]}" in verdict.findings[0].subject


def test_a_single_node_is_not_enough_where_nodes_are_asked():
    lab = azure_cilium("demo")
    a, _, c = lab.regions
    first, *rest = targets_of(lab, c)
    gone = "".join(f" {address}:{port}" for address, port in rest)
    broken = rewrite(perfect_dns(lab), a.name, lambda text: text.replace(gone, ""))
    verdict = told.judge_spare_upstreams(lab.plan, broken)
    assert verdict.outcome is VIOLATED
    assert str(first[0]) in verdict.findings[0].observed


def test_a_single_server_is_not_enough_anywhere(lab, plan, dns):
    c = lab.regions[2].name
    broken = change(dns, "servers", lambda server: server.region == c, node=lab.regions[2].nodes[0].name)
    verdict = told.judge_spare_upstreams(plan, broken)
    assert findings(verdict) == [f"cluster {c}: on {lab.regions[2].nodes[0].name} only"]


def test_answers_that_are_kept_for_too_long_are_told(lab, plan, dns):
    a, _, c = regions(lab)
    broken = rewrite(dns, a, lambda text: text.replace("ttl 30", "ttl 3600"))
    broken = rewrite(broken, c, lambda text: text.replace("cache 10", "cache 3600"))
    verdict = told.judge_caches(plan, broken)
    assert any(f"{a} may keep them for 30 s, {c} for further 3600 s" in line for line in findings(verdict))


# --- what names lead to -------------------------------------------------------------------------------------------


def pod_answer(lab):
    a, _, c = regions(lab)
    return lambda answer: answer.purpose is Purpose.DATABASE_POD and answer.source.region == a and answer.region == c


def test_an_old_address_of_a_pod_is_told(lab, plan, dns):
    a, _, c = regions(lab)
    broken = change(dns, "answers", pod_answer(lab), addresses=(IPv4Address("10.99.99.99"),))
    verdict = names.judge_members(plan, broken)
    assert verdict.outcome is VIOLATED
    assert findings(verdict) == [f"names of database pods of {c}, asked in {a}: NOERROR 10.99.99.99"]


def test_a_name_that_is_not_there_and_silence_are_told_apart(lab, plan, dns):
    absent = change(dns, "answers", pod_answer(lab), addresses=(), code="NXDOMAIN")
    assert "NXDOMAIN" in names.judge_members(plan, absent).observed
    silent = change(dns, "answers", pod_answer(lab), addresses=(), code="", outcome=ProbeOutcome.DROPPED)
    assert "no answer" in names.judge_members(plan, silent).observed


def test_what_the_instrument_could_not_ask_is_no_violation(lab, plan, dns):
    unsure = change(dns, "answers", pod_answer(lab), outcome=ProbeOutcome.INCONCLUSIVE, code="", addresses=())
    assert names.judge_members(plan, unsure).outcome is INCONCLUSIVE


def test_a_list_without_a_member_and_one_with_a_stranger_are_told(lab, plan, dns):
    def lists(answer):
        return answer.purpose is Purpose.DATABASE_MEMBERS

    few = replace(dns, answers=tuple(replace(a, addresses=a.addresses[1:]) if lists(a) else a for a in dns.answers))
    many = replace(
        dns,
        answers=tuple(
            replace(a, addresses=(*a.addresses, IPv4Address("10.9.9.9"))) if lists(a) else a for a in dns.answers
        ),
    )
    assert names.judge_lists(plan, few).outcome is VIOLATED
    assert names.judge_lists(plan, many).outcome is VIOLATED


def test_services_without_their_hosts_are_told(lab, plan, dns):
    broken = change(dns, "answers", lambda answer: answer.kind == "SRV", targets=())
    assert names.judge_lists(plan, broken).outcome is VIOLATED


def test_short_names_that_do_not_resolve_are_told_with_the_search_list(lab, plan, dns):
    member = dns.members[0]
    lost = tuple((name, None) for name, _ in member.short_names)
    broken = change(dns, "members", lambda each: each == member, short_names=lost, search=("example.net",))
    verdict = names.judge_short_names(plan, broken)
    assert verdict.outcome is VIOLATED
    assert verdict.cause == "its search list lacks svc.cluster.local"


def test_few_dots_are_remarked_on(lab, plan, dns):
    verdict = names.judge_short_names(plan, change(dns, "members", lambda each: True, ndots=2))
    assert verdict.outcome is MET
    assert "ndots:2" in verdict.warnings[0]


def test_pods_must_be_published_before_they_are_ready(lab, plan, dns):
    broken = change(dns, "services", lambda service: service.headless, unready_too=False)
    assert names.judge_before_ready(plan, broken).outcome is VIOLATED
    broken = change(dns, "services", lambda service: service.headless, headless=False)
    assert names.judge_before_ready(plan, broken).outcome is VIOLATED


def test_an_unready_pod_without_a_name_is_told(lab, plan, dns):
    c = regions(lab)[2]
    unready = change(dns, "members", lambda member: member.region == c, ready=False)
    assert names.judge_before_ready(plan, unready).outcome is MET
    nameless = change(unready, "answers", pod_answer(lab), addresses=(), code="NXDOMAIN")
    assert names.judge_before_ready(plan, nameless).outcome is VIOLATED


@pytest.mark.parametrize(
    "values", [{"code": "SERVFAIL"}, {"seconds": 3.0}, {"outcome": ProbeOutcome.DROPPED, "code": ""}]
)
def test_absent_names_must_be_denied_at_once(lab, plan, dns, values):
    def absent(answer):
        return answer.purpose is Purpose.ABSENT and not answer.direct and answer.protocol is ProbeProtocol.UDP

    assert names.judge_absent(plan, change(dns, "answers", absent, **values)).outcome is VIOLATED


@pytest.mark.parametrize("purpose", [Purpose.LOCAL, Purpose.EXTERNAL])
def test_usual_names_that_are_lost_are_told(lab, plan, dns, purpose):
    broken = change(dns, "answers", lambda answer: answer.purpose is purpose, addresses=(), code="SERVFAIL")
    assert names.judge_usual_names(plan, broken).outcome is VIOLATED


def test_without_an_external_name_the_rest_is_judged_with_a_remark(plan, dns):
    verdict = names.judge_usual_names(replace(plan, external_name=None), dns)
    assert verdict.outcome is MET
    assert "dns.external_name" in verdict.warnings[0]


def test_a_zone_that_is_silent_over_tcp_is_told_with_the_service(plan):
    lab = azure_cilium("demo")
    c = lab.regions[2].name
    dns = perfect_dns(lab)
    dns = replace(
        dns,
        entrances=tuple(
            e for e in dns.entrances if (e.region, e.service, e.protocol) != (c, "kube-dns-lb", ProbeProtocol.TCP)
        ),
    )
    silent = change(
        dns,
        "answers",
        lambda a: a.protocol is ProbeProtocol.TCP and a.region == c,
        outcome=ProbeOutcome.DROPPED,
        code="",
    )
    verdict = names.judge_tcp(lab.plan, silent)
    assert verdict.outcome is VIOLATED
    assert verdict.cause == f"kube-dns-lb of {c} publishes UDP only"


def test_the_internet_gets_no_answer_where_the_operator_gets_in(lab, dns):
    assert names.judge_closed(dns, operator_gets_in(lab)).outcome is MET
    assert names.judge_closed(dns, Underlay()).outcome is INCONCLUSIVE
    region, address, port, _ = dns.outside[0]
    leaky = replace(dns, outside=((region, address, port, ProbeOutcome.OPEN), *dns.outside[1:]))
    verdict = names.judge_closed(leaky, operator_gets_in(lab))
    assert verdict.outcome is VIOLATED
    assert str(address) in verdict.findings[0].subject


def test_private_names_that_resolve_are_told(lab, plan, dns):
    private = change(
        dns, "answers", lambda answer: answer.purpose is Purpose.PRIVATE, addresses=(IPv4Address("10.1.1.1"),)
    )
    assert names.judge_private(plan, private).outcome is VIOLATED
    broken = change(dns, "answers", lambda answer: answer.purpose is Purpose.PRIVATE, code="SERVFAIL")
    assert names.judge_private(plan, broken).outcome is INCONCLUSIVE


def test_a_pod_that_does_not_know_its_full_name_is_told(lab, plan, dns):
    broken = change(dns, "members", lambda member: member == dns.members[0], full_name="cockroachdb-0")
    assert names.judge_full_names(plan, broken).outcome is VIOLATED
    unread = change(dns, "members", lambda member: member == dns.members[0], full_name="")
    assert names.judge_full_names(plan, unread).outcome is INCONCLUSIVE
