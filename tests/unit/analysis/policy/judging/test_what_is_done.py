"""NET-POL by what was tried: what turns each requirement, and what a silence must have beside it to prove anything."""

from dataclasses import replace

import pytest

from analysis.facts import FlowTrial, Gap, Party, ProbeOutcome, Sweep, Way
from analysis.plan import CLIENT, AllowedFlow
from analysis.policy.judging.kept_out import judge_destinations, judge_other_ports, judge_strangers
from analysis.policy.judging.let_in import (
    judge_clients,
    judge_console_port,
    judge_database_ports,
    judge_dns,
    judge_inside_regions,
)
from analysis.policy.judging.over_time import judge_baseline, judge_lift, judge_new_connections
from analysis.verdict import Outcome
from provision.lab.topology import STORE
from tests.unit.analysis.policy.judging.policy_world import (
    CONSOLE,
    EAST,
    ETCD,
    MIDDLE,
    OTHER_PORT,
    PARTICIPANTS,
    PLAN,
    REGIONS,
    SQL,
    WEST,
    between,
    change,
    enforcement,
    find,
    lift,
    member,
    opened,
    policies,
    policy_object,
    policy_spec,
    role,
    silenced,
    stranger,
    without,
)

LETTING_IN = (judge_database_ports, judge_console_port, judge_inside_regions, judge_dns, judge_clients, judge_baseline)
KEEPING_OUT = (judge_other_ports, judge_strangers, judge_destinations)
JUDGES = (*LETTING_IN, *KEEPING_OUT, judge_new_connections)

OPENED = {
    "another port": (judge_other_ports, (role(EAST), role(WEST), OTHER_PORT)),
    "UDP on a listed number": (judge_other_ports, (role(EAST), role(WEST), SQL, "UDP")),
    "a stranger of another region": (judge_strangers, (stranger(EAST), role(WEST), SQL)),
    "a stranger at a member": (judge_strangers, (stranger(EAST), member(WEST), CONSOLE)),
    "a node": (judge_strangers, (find(EAST, Party.NODE), role(WEST), SQL, None, Way.NODE)),
    "somebody's address": (judge_strangers, (stranger(EAST), role(EAST), SQL, None, Way.SPOOFED)),
    "fragments": (judge_strangers, (stranger(EAST), role(EAST), SQL, None, Way.FRAGMENTED)),
    "a way out to a stranger": (judge_destinations, (role(EAST), stranger(WEST), OTHER_PORT)),
    "a way out of all regions": (judge_destinations, (role(EAST), find("", Party.OUTSIDE))),
    "a label that came later": (judge_new_connections, (stranger(EAST), role(EAST), SQL, None, Way.AFTER_RESTART)),
}
SILENCED = {
    "SQL": (judge_database_ports, (role(EAST), role(WEST), SQL)),
    "the console": (judge_console_port, (role(EAST), role(WEST), CONSOLE)),
    "inside a region": (judge_inside_regions, (role(EAST), role(EAST, index=1), SQL)),
    "what the database depends on": (judge_inside_regions, (role(EAST), role(EAST, STORE), ETCD)),
    "DNS over UDP": (judge_dns, (role(EAST), find(EAST, Party.DNS), 53, "UDP")),
    "DNS over TCP": (judge_dns, (role(EAST), find(EAST, Party.DNS), 53, "TCP")),
    "a client": (judge_clients, (role(EAST, CLIENT), role(EAST), SQL)),
    "pods that no policy is about": (judge_baseline, (stranger(EAST), stranger(WEST), SQL)),
    "a pod made anew": (judge_new_connections, (role(EAST), role(EAST, index=1), SQL, None, Way.AFTER_RESTART)),
}


def judged(judge, facts, plan=PLAN):
    return judge(plan, policies(), facts)


@pytest.mark.parametrize("judge", JUDGES)
def test_what_is_as_meant_is_met(judge):
    assert judged(judge, enforcement()).outcome is Outcome.MET


@pytest.mark.parametrize("judge", JUDGES)
def test_of_nothing_nothing_is_said(judge):
    assert judged(judge, replace(enforcement(), trials=(), sweeps=())).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("judge", JUDGES)
def test_what_could_not_be_tried_is_told(judge):
    verdict = judged(judge, replace(enforcement(), gaps=(Gap(EAST, "role pods", "quota exceeded", ("trials",)),)))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "quota exceeded" in verdict.observed


@pytest.mark.parametrize("name", OPENED)
def test_what_got_through_and_must_not_is_a_violation(name):
    judge, flow = OPENED[name]
    verdict = judged(judge, opened(enforcement(), *flow))
    assert verdict.outcome is Outcome.VIOLATED
    assert EAST in verdict.findings[0].subject
    others = {each for each in JUDGES if judged(each, opened(enforcement(), *flow)).outcome is Outcome.VIOLATED}
    assert others == {judge}


@pytest.mark.parametrize("name", SILENCED)
def test_what_must_get_through_and_did_not_is_a_violation(name):
    judge, flow = SILENCED[name]
    facts = silenced(enforcement(), *flow)
    assert {each for each in JUDGES if judged(each, facts).outcome is Outcome.VIOLATED} == {judge}


@pytest.mark.parametrize("name", OPENED)
@pytest.mark.parametrize(
    "weakness", [{"control": None}, {"control": False}, {"outcome": ProbeOutcome.INCONCLUSIVE, "heard": None}]
)
def test_a_silence_without_its_control_proves_nothing(name, weakness):
    judge, flow = OPENED[name]
    facts = change(enforcement(), "trials", lambda trial: between(*flow)(trial) and trial.control, **weakness)
    assert judged(judge, facts).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("judge", KEEPING_OUT)
def test_a_pod_whose_listeners_are_dead_proves_nothing(judge):
    silent = tuple(replace(each, healthy=False) for each in PARTICIPANTS)
    assert judged(judge, replace(enforcement(), participants=silent)).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("judge", KEEPING_OUT)
def test_a_listener_that_could_not_be_asked_proves_nothing(judge):
    facts = change(enforcement(), "trials", lambda trial: trial.heard is False, heard=None)
    assert judged(judge, facts).outcome is Outcome.INCONCLUSIVE


def test_silence_over_udp_without_a_listener_proves_nothing():
    facts = enforcement()
    deaf = tuple(replace(each, listening=()) for each in PARTICIPANTS)
    facts = change(facts, "trials", lambda trial: trial.heard is False, heard=None)
    assert judged(judge_other_ports, replace(facts, participants=deaf)).outcome is Outcome.INCONCLUSIVE


def test_a_packet_that_was_heard_got_through_even_if_the_answer_did_not():
    facts = change(enforcement(), "trials", between(stranger(EAST), role(EAST), SQL, None, Way.SPOOFED), heard=True)
    assert judged(judge_strangers, facts).outcome is Outcome.VIOLATED


def test_who_gets_in_by_a_node_port_is_let_in():
    facts = enforcement()
    by_node = FlowTrial(stranger(EAST), role(EAST), "TCP", SQL, ProbeOutcome.OPEN, Way.NODE_PORT, heard=True)
    verdict = judged(judge_strangers, replace(facts, trials=(*facts.trials, by_node)))
    assert verdict.outcome is Outcome.VIOLATED
    assert f"TCP {SQL} (node-port)" in verdict.observed


def test_detours_that_nobody_could_try_are_told_and_leave_the_verdict_as_it_is():
    gap = Gap(WEST, "ports of node n1", "from pods of east they lead to no pod", ("node-ports",))
    for facts, told in (
        (enforcement(), "no way by node ports was tried"),
        (replace(enforcement(), gaps=(gap,)), "ports of node n1"),
        (replace(enforcement(), ipv6=(WEST,)), "nothing was tried over IPv6"),
    ):
        verdict = judged(judge_strangers, facts)
        assert verdict.outcome is Outcome.MET
        assert any(told in warning for warning in verdict.warnings)


def test_a_refusal_of_the_target_itself_shows_that_policy_let_it_through():
    facts = change(enforcement(), "trials", between(stranger(EAST), member(WEST), SQL), outcome=ProbeOutcome.REFUSED)
    assert judged(judge_strangers, facts).outcome is Outcome.VIOLATED


def cut_off(here, there):
    """Nothing arrives from one region in another."""
    regions = [each.region for each in PARTICIPANTS]
    return change(
        enforcement(),
        "trials",
        lambda trial: (regions[trial.source], regions[trial.target]) == (here, there),
        outcome=ProbeOutcome.DROPPED,
        heard=False,
        control=False,
    )


@pytest.mark.parametrize("judge", JUDGES)
def test_a_broken_path_is_not_laid_at_the_door_of_policy(judge):
    verdict = judged(judge, cut_off(EAST, WEST))
    assert verdict.outcome in (Outcome.INCONCLUSIVE, Outcome.MET)
    if judge in (judge_database_ports, judge_baseline):
        assert "nothing at all gets through" in verdict.observed


def test_a_policy_that_denies_everything_is():
    spec = policy_spec(WEST) | {"ingress": []}
    objects = tuple(policy_object(WEST, spec) if item.region == WEST else item for item in policies().objects)
    said = replace(policies(), objects=objects)
    assert judge_database_ports(PLAN, said, cut_off(EAST, WEST)).outcome is Outcome.VIOLATED


def test_a_flow_that_nobody_tried_leaves_it_open():
    facts = without(enforcement(), "trials", between(role(MIDDLE), role(WEST), SQL, "TCP"))
    verdict = judged(judge_database_ports, facts)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert MIDDLE in verdict.observed
    assert WEST in verdict.observed


def test_a_sweep_that_finds_another_port_is_a_violation():
    facts = replace(enforcement(), sweeps=(Sweep(role(EAST), role(WEST), "TCP", 1, 65535, (22, 23, CONSOLE, SQL)),))
    verdict = judged(judge_other_ports, facts)
    assert verdict.outcome is Outcome.VIOLATED
    assert "22-23" in verdict.observed


@pytest.mark.parametrize("reached", [(), (SQL,)])
def test_a_sweep_that_misses_a_listed_port_proves_nothing(reached):
    facts = replace(enforcement(), sweeps=(Sweep(role(EAST), role(WEST), "TCP", 1, 65535, reached),))
    assert judged(judge_other_ports, facts).outcome is Outcome.INCONCLUSIVE


def test_a_sweep_by_chance_need_not_hit_a_listed_port():
    facts = replace(enforcement(), sweeps=(Sweep(role(EAST), role(WEST), "TCP", 1, 65535, (), ports=(7, 99)),))
    assert judged(judge_other_ports, facts).outcome is Outcome.MET
    facts = replace(facts, sweeps=(replace(facts.sweeps[0], reached=(99,)),))
    assert "2 of TCP 1-65535" in judged(judge_other_ports, facts).observed


def test_sweeps_of_strangers_are_about_strangers():
    facts = replace(enforcement(), sweeps=(Sweep(stranger(EAST), role(WEST), "TCP", 1, 65535, (SQL,)),))
    assert judged(judge_strangers, facts).outcome is Outcome.VIOLATED
    assert judged(judge_other_ports, facts).outcome is Outcome.MET


def test_a_node_reaches_its_own_pods_whatever_the_intent():
    own = find(EAST, Party.NODE)
    there = replace(PARTICIPANTS[role(EAST)], node=PARTICIPANTS[own].name)
    participants = tuple(there if number == role(EAST) else each for number, each in enumerate(PARTICIPANTS))
    trial = replace(enforcement().trials[0], source=own, target=role(EAST), way=Way.NODE)
    facts = replace(enforcement(), participants=participants)
    assert judged(judge_strangers, replace(facts, trials=(*facts.trials, trial))).outcome is Outcome.MET


def test_an_intent_without_clients_promises_them_nothing():
    intent = replace(PLAN.policy, allow=tuple(flow for flow in PLAN.policy.allow if flow.source != CLIENT))
    verdict = judged(judge_clients, enforcement(), replace(PLAN, policy=intent))
    assert verdict.outcome is Outcome.NOT_APPLICABLE


def test_a_third_port_of_the_intent_is_asked_for_like_the_first():
    intent = replace(PLAN.policy, allow=(*PLAN.policy.allow, AllowedFlow("database", "database", (OTHER_PORT,))))
    assert judged(judge_database_ports, enforcement(), replace(PLAN, policy=intent)).outcome is Outcome.VIOLATED


def test_said_and_done_disagree_in_the_finding():
    verdict = judged(judge_strangers, opened(enforcement(), stranger(EAST), role(WEST), SQL))
    assert "the objects deny it" in verdict.observed
    assert "yet it got through" in verdict.observed
    assert "what is enforced is not what the objects say" in (verdict.cause or "")


def test_what_is_allowed_and_stopped_names_the_rule_that_allows_it():
    verdict = judged(judge_database_ports, silenced(enforcement(), role(EAST), role(WEST), SQL))
    assert f"rule gnp/crdb-geography-isolation/ingress/0 of {WEST}" in verdict.observed
    assert "yet nothing came through" in verdict.observed


def test_established_connections_are_told_and_not_judged():
    verdict = judged(judge_new_connections, enforcement())
    assert verdict.outcome is Outcome.MET
    assert any("went on" in warning for warning in verdict.warnings)


def test_a_label_that_came_later_needs_the_time_before_it_as_its_control():
    facts = change(
        enforcement(),
        "trials",
        lambda trial: trial.detail.startswith("before"),
        outcome=ProbeOutcome.DROPPED,
        heard=False,
    )
    assert judged(judge_new_connections, facts).outcome is Outcome.INCONCLUSIVE


class TestLift:
    def test_what_opens_and_closes_again_is_met(self):
        assert judge_lift(PLAN, policies(), enforcement(), lift()).outcome is Outcome.MET

    def test_of_nothing_nothing_is_said(self):
        assert (
            judge_lift(PLAN, policies(), enforcement(), replace(lift(), without=(), again=())).outcome
            is Outcome.INCONCLUSIVE
        )

    def test_what_stays_closed_without_a_policy_is_a_violation(self):
        facts = change(
            lift(), "without", lambda trial: trial.source == stranger(EAST), outcome=ProbeOutcome.DROPPED, heard=False
        )
        assert judge_lift(PLAN, policies(), enforcement(), facts).outcome is Outcome.VIOLATED

    def test_what_stays_open_once_it_is_back_is_a_violation(self):
        facts = change(
            lift(), "again", lambda trial: trial.source == stranger(EAST), outcome=ProbeOutcome.OPEN, heard=True
        )
        assert judge_lift(PLAN, policies(), enforcement(), facts).outcome is Outcome.VIOLATED

    def test_what_was_open_before_is_no_matter_of_the_removal(self):
        facts = change(
            lift(),
            "again",
            lambda trial: (trial.source, trial.target) == (stranger(EAST), role(WEST)),
            outcome=ProbeOutcome.OPEN,
            heard=True,
        )
        before = opened(enforcement(), stranger(EAST), role(WEST), SQL)
        assert judge_lift(PLAN, policies(), before, facts).outcome is Outcome.MET
        assert judge_lift(PLAN, policies(), enforcement(), facts).outcome is Outcome.VIOLATED

    def test_a_region_whose_policy_stayed_leaves_it_open(self):
        facts = replace(lift(), removed=lift().removed[1:])
        verdict = judge_lift(PLAN, policies(), enforcement(), facts)
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert REGIONS[0] in verdict.observed
