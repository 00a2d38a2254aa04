"""SEC-TLS at the entrances: what turns each requirement, and what a refusal must have beside it to prove anything."""

from dataclasses import replace
from datetime import timedelta

import pytest

from analysis.entrances import (
    covers,
    judge_console,
    judge_credentials,
    judge_demonstration_users,
    judge_foreign_node,
    judge_names_served,
    judge_plaintext,
    leads_to,
)
from analysis.facts import Attempt, DatabaseDoor, Gap
from analysis.verdict import Outcome
from tests.unit.analysis.tls_world import (
    AT,
    EAST,
    NODES,
    OTHER,
    PLAN,
    certificate,
    change,
    digest,
    perfect_tls,
    without,
)

REFUSALS = {
    Attempt.PLAINTEXT: judge_plaintext,
    Attempt.WITHOUT_CREDENTIALS: judge_credentials,
    Attempt.FOREIGN_CERTIFICATE: judge_credentials,
    Attempt.PUBLISHED_PASSWORD: judge_demonstration_users,
    Attempt.FOREIGN_NODE: judge_foreign_node,
}
JUDGES = (*dict.fromkeys(REFUSALS.values()), judge_console, judge_names_served)
REFUSING = tuple(dict.fromkeys(REFUSALS.values()))


def outcome(judge, tls):
    return judge(PLAN, tls).outcome


def console(fact):
    return fact.door is DatabaseDoor.CONSOLE


@pytest.mark.parametrize("judge", JUDGES)
def test_what_is_as_planned_is_met(judge):
    assert outcome(judge, perfect_tls()) is Outcome.MET


@pytest.mark.parametrize("judge", JUDGES)
def test_of_nothing_nothing_is_said(judge):
    assert outcome(judge, replace(perfect_tls(), presented=(), logins=())) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("judge", JUDGES)
def test_a_region_that_nobody_knocked_from_leaves_it_open(judge):
    gap = Gap(EAST, "a probe", "no probe runs there", ("presented", "logins"))
    assert outcome(judge, replace(perfect_tls(), gaps=(gap,))) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("attempt", REFUSALS)
def test_one_pod_lets_in_whom_it_must_not_from_one_region(attempt):
    tls = change(
        perfect_tls(),
        "logins",
        lambda login: (
            (login.attempt, login.source, login.region, login.door) == (attempt, OTHER, EAST, DatabaseDoor.SQL)
        ),
        accepted=True,
    )
    verdict = REFUSALS[attempt](PLAN, tls)
    assert verdict.outcome is Outcome.VIOLATED
    assert verdict.findings[0].subject == f"{EAST}/cockroachdb-0"
    others = [judge for judge in REFUSING if judge is not REFUSALS[attempt]]
    assert {outcome(judge, tls) for judge in others} == {Outcome.MET}


@pytest.mark.parametrize("attempt", REFUSALS)
def test_an_attempt_that_could_not_be_made_leaves_it_open(attempt):
    tls = change(perfect_tls(), "logins", lambda login: login.attempt is attempt, accepted=None, detail="dropped")
    assert outcome(REFUSALS[attempt], tls) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("judge", REFUSING)
@pytest.mark.parametrize("accepted", [False, None])
def test_a_refusal_proves_nothing_where_the_rightful_user_is_refused_too(judge, accepted):
    where = lambda login: login.attempt is Attempt.RIGHTFUL and login.region == EAST  # noqa: E731
    assert outcome(judge, change(perfect_tls(), "logins", where, accepted=accepted)) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("judge", REFUSING)
def test_a_refusal_proves_nothing_without_a_control(judge):
    tls = without(perfect_tls(), "logins", lambda login: login.attempt is Attempt.RIGHTFUL)
    assert outcome(judge, tls) is Outcome.INCONCLUSIVE


def test_who_lets_anybody_in_is_found_without_a_control():
    tls = without(perfect_tls(), "logins", lambda login: login.attempt is Attempt.RIGHTFUL)
    tls = change(tls, "logins", lambda login: login.attempt is Attempt.PLAINTEXT, accepted=True)
    assert outcome(judge_plaintext, tls) is Outcome.VIOLATED


def test_the_console_shows_a_certificate_of_another_authority():
    foreign = certificate("node", owner="foreign", names=NODES[EAST].names, issuer="another")
    tls = change(
        perfect_tls(), "presented", lambda s: console(s) and s.region == EAST, chain=(foreign,), verified=False
    )
    assert outcome(judge_console, tls) is Outcome.VIOLATED
    assert outcome(judge_names_served, tls) is Outcome.MET


def test_the_console_speaks_no_tls():
    tls = change(perfect_tls(), "presented", console, chain=(), verified=False, detail="wrong version number")
    assert outcome(judge_console, tls) is Outcome.VIOLATED


def test_the_console_tells_things_in_the_clear():
    tls = change(perfect_tls(), "logins", console, accepted=True, detail="HTTP/1.1 200 OK")
    assert outcome(judge_console, tls) is Outcome.VIOLATED


def test_a_console_that_does_not_answer_leaves_it_open():
    tls = change(perfect_tls(), "presented", console, chain=(), verified=None, detail="TCP refused")
    assert outcome(judge_console, tls) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("door", DatabaseDoor)
def test_the_advertised_name_is_not_in_the_certificate(door):
    served = replace(NODES[EAST], names=("localhost", f"cockroachdb-0.{EAST}.svc.cluster.local"))
    where = lambda shown: shown.region == EAST and shown.door is door  # noqa: E731
    tls = change(perfect_tls(), "presented", where, chain=(served,), verified=False)
    verdict = judge_names_served(PLAN, tls)
    assert verdict.outcome is Outcome.VIOLATED
    assert door.value in verdict.findings[0].subject.lower()


def test_a_certificate_with_the_name_that_nobody_believes_for_no_known_reason():
    tls = change(perfect_tls(), "presented", lambda s: bool(s.verified), verified=False, detail="unsupported purpose")
    assert outcome(judge_names_served, tls) is Outcome.VIOLATED


@pytest.mark.parametrize(
    "fields",
    [{"not_after": AT - timedelta(days=1)}, {"issuer_key": digest("another")}, {"server": False}],
)
def test_what_another_requirement_speaks_of_is_not_a_matter_of_names(fields):
    served = replace(NODES[EAST], **fields)
    tls = change(perfect_tls(), "presented", lambda s: s.region == EAST, chain=(served,), verified=False)
    assert outcome(judge_names_served, tls) is Outcome.MET


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("cockroachdb-0.cockroachdb.east.svc.cluster.local", True),
        ("COCKROACHDB-0.cockroachdb.east.svc.cluster.local", True),
        ("cockroachdb.east.svc.cluster.local", False),
        ("a.b.cockroachdb.east.svc.cluster.local", False),
        ("localhost", True),
    ],
)
def test_a_wildcard_stands_for_one_label(name, covered):
    served = certificate("node", owner="x", names=("localhost", "*.cockroachdb.east.svc.cluster.local"))
    assert covers(served, name) is covered


def test_a_chain_leads_to_the_authority_over_what_is_presented_with_it():
    middle = certificate("middle", owner="middle", authority=True)
    leaf = certificate("node", owner="leaf", issuer="middle")
    assert leads_to((leaf, middle), {digest("ca")})
    assert not leads_to((leaf,), {digest("ca")})
    assert not leads_to((certificate("ca", owner="own", issuer="own"),), {digest("ca")})
