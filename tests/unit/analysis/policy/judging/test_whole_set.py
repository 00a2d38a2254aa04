"""What the objects say of every port is compared with the intent, and told by role and region."""

from __future__ import annotations

from dataclasses import replace

from analysis.plan import DATABASE
from analysis.policy.judging.whole_set import said_apart
from tests.unit.analysis.policy.judging.policy_world import PLAN, policies


def between_database(source, target):
    return source == target == DATABASE


def into_database(source, target):
    return target == DATABASE


def test_the_objects_of_a_mesh_that_is_well_say_what_was_meant() -> None:
    assert said_apart(PLAN, policies(), into_database) == []


def test_one_port_too_many_is_told_with_its_rule() -> None:
    facts = policies()
    changed = tuple(with_another_port(each) for each in facts.objects)
    found = said_apart(PLAN, replace(facts, objects=changed), between_database)
    assert found
    assert all("TCP 22 open" in each.observed and "crdb-geography-isolation" in each.observed for each in found)


def test_without_policies_everything_is_open() -> None:
    found = said_apart(PLAN, replace(policies(), objects=()), between_database)
    assert found
    assert all("all of UDP" in each.observed for each in found)
    assert len({each.subject for each in found}) == len(found)


def with_another_port(each):
    return replace(each, document=each.document.replace("8080]", "8080, 22]"))
