"""The published sample policy is seen for what it is, and policies that work are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.policy.effects import DnsEffect, Effect, effects_of
from analysis.policy.model import Engine, Policy, PolicyKind, Tier, World
from analysis.policy.sample import SAMPLE, SAMPLE_REGION, read_sample
from tests.unit.analysis.policy.vectors import dead_rule_vectors, document, library_policy


def test_the_sample_isolates_everything_and_the_reading_says_why():
    reading = read_sample()
    assert reading.isolates_everything
    assert len(reading.dead) == reading.rules == 4
    assert reading.sentence == (
        "4 of 4 rules dead; ingress deny-all, egress deny-all, DNS blocked: its source is nobody, ever: the label "
        'geography cannot be "us-east-2" and "us-west-1" at once: a label has one value'
    )


def test_the_sample_is_that_of_the_vectors():
    assert dict(SAMPLE.specs[0]) == document()["library"]["seed-s1"]["spec"]


@pytest.mark.parametrize(
    ("name", "egress", "dns"),
    [("seed-or", Effect.RESTRICTED, DnsEffect.BLOCKED), ("good-a", Effect.RESTRICTED, DnsEffect.OPEN)],
)
def test_policies_that_let_something_through_are_not_mistaken_for_it(name, egress, dns):
    reading = read_sample(replace(library_policy(name), cluster=SAMPLE_REGION))
    assert not reading.isolates_everything
    assert not reading.dead
    assert (reading.effects.egress, reading.effects.dns) == (egress, dns)


@pytest.mark.parametrize(
    "vector",
    [each for each in dead_rule_vectors(Engine.CALICO) if "effect" in each.fields["expect"]],
    ids=lambda vector: vector.id,
)
def test_effects_are_those_of_the_vector(vector):
    effects = effects_of(vector.world, "a")
    told = {"ingress": effects.ingress.value, "egress": effects.egress.value, "dns": effects.dns.value}
    assert told == vector.fields["expect"]["effect"]


def test_a_direction_that_no_policy_speaks_of_is_unchanged():
    policy = Policy("us-east-1", PolicyKind.GLOBAL_NETWORK_POLICY, "p", ({"selector": 'app == "cockroachdb"'},))
    effects = read_sample(policy).effects
    assert (effects.ingress, effects.egress) == (Effect.DENY_ALL, Effect.UNCHANGED)
    assert effects.dns is DnsEffect.OPEN


def test_a_tier_that_passes_at_its_end_denies_nothing():
    world = next(iter(dead_rule_vectors(Engine.CALICO))).world
    policy = Policy("a", PolicyKind.GLOBAL_NETWORK_POLICY, "p", ({"selector": "all()", "tier": "soft"},))
    soft = replace(world, policies=(policy,), tiers=(Tier("a", "soft", 1, "Pass"),))
    assert effects_of(soft, "a").ingress is Effect.RESTRICTED


def test_without_a_dns_server_nothing_is_said_of_dns():
    assert effects_of(World(Engine.CALICO, (), (SAMPLE,)), SAMPLE_REGION).dns is DnsEffect.UNKNOWN
