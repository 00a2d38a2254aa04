"""Objects that say one thing and packets that do another are told, and broken paths are not taken for it."""

from dataclasses import replace

from analysis.policy.judging.disagreement import find_disagreements
from tests.unit.analysis.policy.judging.policy_world import (
    CONSOLE,
    EAST,
    OTHER_PORT,
    PLAN,
    REGIONS,
    SQL,
    WEST,
    change,
    enforcement,
    opened,
    policies,
    policy_object,
    policy_spec,
    role,
    silenced,
    stranger,
)


def found(enforced, said=None):
    return find_disagreements(PLAN, said or policies(), enforced)


def test_where_all_agree_nothing_is_told():
    assert found(enforcement()) == ()


def test_a_policy_that_is_there_and_not_enforced():
    (told,) = found(opened(enforcement(), stranger(EAST), role(WEST), SQL))
    assert told.subject == f"pods of {EAST} without a role -> database pods of {WEST}"
    assert "the objects deny it" in told.control
    assert f"TCP {SQL} got through" in told.data
    assert "not enforced" in told.meaning


def test_a_flow_that_is_allowed_and_does_not_arrive():
    (told,) = found(silenced(enforcement(), role(EAST), role(WEST), SQL))
    assert "the objects allow it" in told.control
    assert "rule gnp/crdb-geography-isolation/egress/2" in told.control
    assert "did not arrive" in told.data


def test_a_broken_path_is_no_disagreement():
    facts = change(
        enforcement(),
        "trials",
        lambda trial: (
            enforcement().participants[trial.source].region == EAST
            and enforcement().participants[trial.target].region == WEST
        ),
        outcome=silenced(enforcement(), role(EAST), role(WEST), SQL).trials[0].outcome.__class__.DROPPED,
        heard=False,
    )
    assert found(facts) == ()


def test_objects_that_say_what_is_done_agree_however_wrong_they_are():
    west, east = policy_spec(WEST), policy_spec(EAST)
    west["ingress"][0]["destination"] = {"ports": [SQL, CONSOLE, OTHER_PORT]}
    east["egress"][2]["destination"] = east["egress"][2]["destination"] | {"ports": [SQL, CONSOLE, OTHER_PORT]}
    wrong = {WEST: west, EAST: east}
    objects = tuple(policy_object(name, wrong.get(name)) for name in REGIONS)
    facts = opened(enforcement(), role(EAST), role(WEST), OTHER_PORT)
    assert found(facts, replace(policies(), objects=objects)) == ()
