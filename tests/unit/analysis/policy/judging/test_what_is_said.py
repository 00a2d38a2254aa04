"""NET-POL by what objects and labels say: what turns each requirement, and what must be known before it is met."""

import json
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from analysis.facts import Admission, Gap, PolicyObject
from analysis.policy.judging.admission import judge_admission
from analysis.policy.judging.coverage import judge_present
from analysis.policy.judging.known import judge_remote_endpoints
from analysis.policy.judging.labels import judge_labels
from analysis.policy.judging.rules import judge_matching, judge_satisfiable
from analysis.policy.judging.scopes import judge_clusters_named, judge_namespaces_named
from analysis.policy.judging.self_test import judge_sample
from analysis.policy.sample import read_sample
from analysis.rootcause import Layer
from analysis.verdict import Outcome
from provision.lab.cilium.isolation import isolation_policy
from provision.lab.topology import azure_cilium
from tests.unit.analysis.policy.judging.policy_world import (
    EAST,
    PLAN,
    WEST,
    address,
    change,
    policies,
    policy_object,
    policy_spec,
    without,
)

JUDGES = (judge_satisfiable, judge_matching, judge_labels, judge_admission, judge_remote_endpoints, judge_present)
PARTS = {
    judge_satisfiable: "objects",
    judge_matching: "objects",
    judge_labels: "endpoints",
    judge_admission: "admissions",
    judge_remote_endpoints: "knowledge",
    judge_present: "objects",
}
AZURE = azure_cilium("demo")


def outcome(judge, facts, plan=PLAN):
    return judged(judge, facts, plan).outcome


def judged(judge, facts, plan=PLAN):
    return judge(facts) if judge is judge_admission else judge(plan, facts)


def in_east(fact):
    return fact.region == EAST


def member(fact):
    return in_east(fact) and fact.name == "cockroachdb-1"


@pytest.mark.parametrize("judge", JUDGES)
def test_what_is_as_planned_is_met(judge):
    verdict = judged(judge, policies())
    assert verdict.outcome is Outcome.MET, verdict


@pytest.mark.parametrize("judge", JUDGES)
def test_what_could_not_be_read_leaves_it_open(judge):
    gap = Gap(EAST, "globalnetworkpolicies", "forbidden", (PARTS[judge],))
    facts = without(policies(), PARTS[judge], in_east)
    verdict = judged(judge, replace(facts, gaps=(gap,)))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "forbidden" in verdict.observed


class TestLabels:
    def test_a_pod_without_its_label(self):
        facts = change(policies(), "endpoints", member, labels=(("app", "cockroachdb"),))
        verdict = judge_labels(PLAN, facts)
        assert verdict.outcome is Outcome.VIOLATED
        assert verdict.findings[0].subject == f"{EAST}/cockroachdb-1"
        assert "no label geography" in verdict.observed

    def test_a_label_that_only_the_living_pods_have(self):
        facts = change(
            policies(),
            "endpoints",
            lambda fact: in_east(fact) and fact.name.startswith("cockroachdb"),
            template_labels=(("app", "cockroachdb"),),
        )
        verdict = judge_labels(PLAN, facts)
        assert verdict.outcome is Outcome.VIOLATED
        assert verdict.findings[0].subject.startswith("the template of")
        assert EAST in verdict.findings[0].subject

    def test_another_regions_label(self):
        facts = change(policies(), "endpoints", member, labels=(("app", "cockroachdb"), ("geography", WEST)))
        assert f"geography={WEST}" in judge_labels(PLAN, facts).observed

    def test_a_template_that_could_not_be_read_leaves_it_open(self):
        assert (
            outcome(judge_labels, change(policies(), "endpoints", member, template_labels=None)) is Outcome.INCONCLUSIVE
        )

    def test_a_region_without_pods_leaves_it_open(self):
        facts = without(policies(), "endpoints", in_east)
        assert outcome(judge_labels, facts) is Outcome.INCONCLUSIVE

    def test_where_clusters_tell_regions_apart_no_label_is_asked_for(self):
        plan = replace(PLAN, policy=replace(PLAN.policy, region_label=""))
        assert outcome(judge_labels, policies(), plan) is Outcome.NOT_APPLICABLE


class TestAdmission:
    def test_a_refused_object(self):
        facts = change(
            policies(), "admissions", in_east, accepted=False, message='strict decoding: unknown field "spec.tier"'
        )
        verdict = judge_admission(facts)
        assert verdict.outcome is Outcome.VIOLATED
        assert "spec.tier" in verdict.observed

    def test_a_dropped_field(self):
        verdict = judge_admission(change(policies(), "admissions", in_east, dropped=("spec.egresss",)))
        assert verdict.outcome is Outcome.VIOLATED
        assert "spec.egresss dropped" in verdict.observed

    def test_an_object_that_was_not_offered_leaves_it_open(self):
        assert outcome(judge_admission, without(policies(), "admissions", in_east)) is Outcome.INCONCLUSIVE

    def test_an_answer_that_could_not_be_had_leaves_it_open(self):
        assert (
            outcome(judge_admission, change(policies(), "admissions", in_east, accepted=None)) is Outcome.INCONCLUSIVE
        )


class TestRemoteEndpoints:
    def test_an_engine_that_knows_its_own_pods_only(self):
        facts = without(policies(), "knowledge", lambda fact: (fact.region, fact.remote) == (EAST, WEST))
        verdict = judge_remote_endpoints(PLAN, facts)
        assert verdict.outcome is Outcome.VIOLATED
        assert verdict.findings[0].subject == f"engine of {EAST}, pods of {WEST}"

    def test_a_federation_out_of_sync(self):
        facts = change(policies(), "knowledge", in_east, in_sync=False, detail="401 Unauthorized")
        verdict = judge_remote_endpoints(PLAN, facts)
        assert verdict.outcome is Outcome.VIOLATED
        assert "401" in verdict.observed
        assert verdict.layer is Layer.CONTROL

    def test_a_pod_that_moved_out_of_a_network_set(self):
        nets = tuple(IPv4Network(address(WEST, number)) for number in (50, 51, 71))
        facts = change(
            policies(),
            "knowledge",
            lambda fact: (fact.region, fact.remote) == (EAST, WEST),
            source="network-set",
            in_sync=None,
            networks=nets,
        )
        verdict = judge_remote_endpoints(PLAN, facts)
        assert verdict.outcome is Outcome.VIOLATED
        assert "cockroachdb-2" in verdict.observed

    def test_a_network_set_for_each_pod_is_as_good_as_one_for_all(self):
        one = next(fact for fact in policies().knowledge if (fact.region, fact.remote) == (EAST, WEST))
        sets = tuple(
            replace(one, source="network-set", in_sync=None, networks=(IPv4Network(address(WEST, number)),))
            for number in (50, 51, 52)
        )
        rest = tuple(fact for fact in policies().knowledge if fact != one)
        assert outcome(judge_remote_endpoints, replace(policies(), knowledge=(*rest, *sets))) is Outcome.MET
        assert outcome(judge_remote_endpoints, replace(policies(), knowledge=(*rest, *sets[1:]))) is Outcome.VIOLATED

    def test_an_address_of_a_network_set_that_is_anothers_now(self):
        nets = tuple(IPv4Network(address(WEST, number)) for number in (50, 51, 52, 71))
        facts = change(
            policies(),
            "knowledge",
            lambda fact: (fact.region, fact.remote) == (EAST, WEST),
            source="network-set",
            in_sync=None,
            networks=nets,
        )
        verdict = judge_remote_endpoints(PLAN, facts)
        assert verdict.outcome is Outcome.VIOLATED
        assert "web/other" in verdict.observed

    def test_agents_that_hold_no_pod_of_a_cluster_do_not_know_it(self):
        facts = change(policies(), "knowledge", in_east, source="identity", node="node-1", networks=())
        verdict = judge_remote_endpoints(PLAN, facts)
        assert verdict.outcome is Outcome.VIOLATED
        assert "identity on node-1 lacks cockroachdb-0" in verdict.observed

    def test_an_engine_that_does_not_tell_leaves_it_open(self):
        facts = change(policies(), "knowledge", in_east, in_sync=None, networks=())
        assert outcome(judge_remote_endpoints, facts) is Outcome.INCONCLUSIVE


class TestPresent:
    def test_a_cluster_without_a_policy(self):
        verdict = judge_present(PLAN, without(policies(), "objects", in_east))
        assert verdict.outcome is Outcome.VIOLATED
        assert verdict.findings[0].subject == f"cluster {EAST}"
        assert "no policy in it at all" in verdict.observed

    def test_the_policy_of_another_region(self):
        objects = tuple(
            policy_object(EAST, policy_spec(WEST)) if in_east(item) else item for item in policies().objects
        )
        verdict = judge_present(PLAN, replace(policies(), objects=objects))
        assert verdict.outcome is Outcome.VIOLATED
        assert f"selects the labels of {WEST}" in verdict.observed

    def test_a_policy_of_one_direction(self):
        spec = policy_spec(EAST) | {"types": ["Ingress"]}
        objects = tuple(policy_object(EAST, spec) if in_east(item) else item for item in policies().objects)
        verdict = judge_present(PLAN, replace(policies(), objects=objects))
        assert verdict.outcome is Outcome.VIOLATED
        assert "egress" in verdict.observed


def edited(change_spec):
    """The policies with the spec of the one in EAST changed."""
    spec = policy_spec(EAST)
    change_spec(spec)
    objects = tuple(policy_object(EAST, spec) if in_east(item) else item for item in policies().objects)
    return replace(policies(), objects=objects)


class TestSatisfiable:
    def test_one_label_with_two_values(self):
        both = "geography == 'us-east-2' && geography == 'us-west-1'"
        facts = edited(lambda spec: spec["ingress"][0].update(source={"selector": both}))
        verdict = judge_satisfiable(PLAN, facts)
        assert verdict.outcome is Outcome.VIOLATED
        assert "a label has one value" in verdict.observed
        assert verdict.findings[0].subject == f"{EAST}: gnp/crdb-geography-isolation"
        assert outcome(judge_matching, facts) is Outcome.MET

    def test_what_is_never_asked_is_told_beside(self):
        facts = edited(lambda spec: spec.update(types=["Ingress"]))
        verdict = judge_satisfiable(PLAN, facts)
        assert verdict.outcome is Outcome.MET
        assert any("egress/0 never decides anything" in warning for warning in verdict.warnings)

    def test_two_values_in_an_expression_of_cilium(self):
        def both(region, document):
            peer = document["spec"]["ingress"][0]["fromEndpoints"][0]
            peer["matchExpressions"] = [
                {"key": "geography", "operator": "In", "values": [value]} for value in ("eastus", "westus")
            ]

        assert outcome(judge_satisfiable, cilium(both), AZURE.plan) is Outcome.VIOLATED
        assert outcome(judge_satisfiable, cilium(), AZURE.plan) is Outcome.MET


class TestMatching:
    def test_a_rule_about_nobody(self):
        facts = edited(lambda spec: spec["egress"][2]["destination"].update(selector="app == 'cockroach'"))
        verdict = judge_matching(PLAN, facts)
        assert verdict.outcome is Outcome.VIOLATED
        assert 'nobody has app == "cockroach"' in verdict.observed
        assert outcome(judge_satisfiable, facts) is Outcome.MET

    def test_a_policy_about_nobody(self):
        facts = edited(lambda spec: spec.update(selector="app == 'cockroach'"))
        assert "selects no endpoint" in judge_matching(PLAN, facts).observed

    def test_pods_that_lost_their_labels_are_matched_by_nothing(self):
        facts = change(policies(), "endpoints", lambda pod: pod.name.startswith("cockroachdb"), labels=())
        assert outcome(judge_matching, facts) is Outcome.VIOLATED

    def test_a_role_of_the_intent_need_not_have_come_yet(self):
        facts = without(policies(), "endpoints", lambda pod: pod.name in ("front", "etcd-0"))
        assert outcome(judge_matching, facts) is Outcome.MET

    def test_a_policy_of_cilium_about_nobody(self):
        def misspell(region, document):
            document["spec"]["endpointSelector"]["matchLabels"]["app"] = "cockroach"

        verdict = judge_matching(AZURE.plan, cilium(misspell))
        assert verdict.outcome is Outcome.VIOLATED
        assert any("no pod of its cluster has" in finding.observed for finding in verdict.findings)


def cilium(edit=lambda region, document: None, kind="CiliumClusterwideNetworkPolicy"):
    """The lab's own policies of its Cilium profile, edited."""
    objects = []
    for region in AZURE.regions:
        document = json.loads(json.dumps(isolation_policy(AZURE, region)))
        edit(region.name, document)
        objects.append(
            PolicyObject(region.name, kind, "cilium.io/v2", "", document["metadata"]["name"], json.dumps(document))
        )
    return replace(policies(), objects=tuple(objects), namespaces=())


def unsay(key):
    def edit(region, document):
        for rule in document["spec"]["ingress"]:
            for peer in rule["fromEndpoints"]:
                peer["matchExpressions"] = [each for each in peer["matchExpressions"] if not each["key"].endswith(key)]

    return edit


class TestSelfTest:
    def test_the_published_sample_is_read_for_what_it_is(self):
        verdict = judge_sample()
        assert verdict.outcome is Outcome.MET
        assert verdict.examined == 4
        assert "4 of 4 rules dead" in verdict.warnings[0]

    def test_a_reader_that_takes_it_for_something_else_is_told(self):
        reading = read_sample()
        assert judge_sample(replace(reading, dead=reading.dead[1:])).outcome is Outcome.VIOLATED


class TestScopes:
    JUDGES = ((judge_clusters_named, "policy.cluster"), (judge_namespaces_named, "pod.namespace"))

    @pytest.mark.parametrize(("judge", "key"), JUDGES)
    def test_peers_that_say_it_are_met(self, judge, key):
        verdict = judge(AZURE.plan, cilium())
        assert verdict.outcome is Outcome.MET, verdict
        assert verdict.examined

    @pytest.mark.parametrize(("judge", "key"), JUDGES)
    def test_peers_that_do_not_say_it(self, judge, key):
        verdict = judge(AZURE.plan, cilium(unsay(key)))
        assert verdict.outcome is Outcome.VIOLATED
        assert "ingress rule 1" in verdict.findings[0].subject

    @pytest.mark.parametrize(("judge", "key"), JUDGES)
    def test_without_objects_nothing_is_said(self, judge, key):
        assert outcome(judge, replace(cilium(), objects=()), AZURE.plan) is Outcome.INCONCLUSIVE

    @pytest.mark.parametrize(("judge", "key"), JUDGES)
    def test_other_meshes_have_no_such_defaults(self, judge, key):
        assert outcome(judge, policies()) is Outcome.NOT_APPLICABLE

    def test_what_is_left_out_is_told_with_what_it_means_there(self):
        facts = replace(
            cilium(unsay("policy.cluster")), settings=((AZURE.regions[0].name, "policy-default-local-cluster", "true"),)
        )
        assert "the own cluster only" in judge_clusters_named(AZURE.plan, facts).observed

    def test_a_cluster_that_there_is_not(self):
        def misspell(region, document):
            rows = document["spec"]["ingress"][0]["fromEndpoints"][0]["matchExpressions"]
            next(row for row in rows if row["key"].endswith("policy.cluster"))["values"][0] += "x"

        assert outcome(judge_clusters_named, cilium(misspell), AZURE.plan) is Outcome.VIOLATED


def test_an_admission_of_a_namespaced_object_is_told_by_namespace():
    told = Admission(EAST, "NetworkPolicy", "web", "front", False, message="no")
    verdict = judge_admission(replace(policies(), admissions=(*policies().admissions, told)))
    assert verdict.findings[0].subject == f"{EAST}: NetworkPolicy web/front"
