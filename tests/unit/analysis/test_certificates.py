"""SEC-TLS at rest: what turns each requirement on Secrets, files and certificates."""

from dataclasses import replace
from datetime import timedelta

import pytest

from analysis.certificates import (
    judge_authority_key,
    judge_key_modes,
    judge_one_authority,
    judge_own_certificates,
    judge_planned_names,
    judge_root_key,
    judge_secrets,
    judge_subjects,
    judge_validity,
)
from analysis.facts import Gap, SecretEntry
from analysis.verdict import Outcome
from tests.unit.analysis.tls_world import (
    AT,
    CLIENT_SECRET,
    EAST,
    NODE_SECRET,
    NODES,
    OTHER,
    PLAN,
    ROOT,
    certificate,
    change,
    digest,
    perfect_tls,
    serve,
    without,
)

JUDGES = (
    judge_authority_key,
    judge_key_modes,
    judge_one_authority,
    judge_own_certificates,
    judge_planned_names,
    judge_root_key,
    judge_secrets,
    judge_subjects,
    judge_validity,
)


def verdict_of(judge, tls):
    return judge(PLAN, tls)


def violated(judge, tls):
    """What is said of a violation."""
    verdict = judge(PLAN, tls)
    assert verdict.outcome is Outcome.VIOLATED, verdict
    return f"{verdict.findings[0].subject} | {verdict.findings[0].observed}"


def at(region, entry, secret=NODE_SECRET):
    return lambda found: (found.region, found.secret, found.entry) == (region, secret, entry)


@pytest.mark.parametrize("judge", JUDGES)
def test_what_is_as_planned_is_met(judge):
    assert verdict_of(judge, perfect_tls()).outcome is Outcome.MET


@pytest.mark.parametrize("judge", JUDGES)
def test_of_nothing_nothing_is_said(judge):
    nothing = replace(perfect_tls(), secrets=(), files=(), presented=(), gaps=(Gap(EAST, "all", "forbidden"),))
    assert verdict_of(judge, nothing).outcome is not Outcome.MET


@pytest.mark.parametrize("judge", [judge for judge in JUDGES if judge is not judge_key_modes])
def test_secrets_that_may_not_be_read_leave_it_open(judge):
    tls = without(perfect_tls(), "secrets", lambda entry: entry.region == EAST)
    gap = Gap(EAST, "Secrets", "403: forbidden", ("secrets",))
    assert verdict_of(judge, replace(tls, gaps=(gap,))).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("judge", [judge_authority_key, judge_key_modes, judge_root_key])
def test_files_that_could_not_be_seen_leave_it_open(judge):
    tls = without(perfect_tls(), "files", lambda file: file.region == EAST)
    assert verdict_of(judge, tls).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("secret", [NODE_SECRET, CLIENT_SECRET])
def test_one_region_trusts_another_authority(secret):
    foreign = certificate("ca", owner="another", authority=True)
    tls = change(perfect_tls(), "secrets", at(OTHER, "ca.crt", secret), certificates=(foreign,))
    assert OTHER in violated(judge_one_authority, tls)


def test_all_regions_may_trust_two_while_they_are_exchanged():
    both = (*perfect_tls().authorities, certificate("ca", owner="next", authority=True))
    tls = change(perfect_tls(), "secrets", lambda entry: entry.entry == "ca.crt", certificates=both)
    assert verdict_of(judge_one_authority, replace(tls, authorities=both)).outcome is Outcome.MET
    assert verdict_of(judge_one_authority, tls).outcome is Outcome.VIOLATED


@pytest.mark.parametrize("name", NODES[EAST].names)
def test_a_planned_name_is_missing(name):
    lacking = replace(NODES[EAST], names=tuple(other for other in NODES[EAST].names if other != name))
    assert f"{name} missing" in violated(judge_planned_names, serve(perfect_tls(), EAST, lacking))


def test_the_loopback_address_is_missing():
    lacking = replace(NODES[EAST], addresses=())
    assert "127.0.0.1 missing" in violated(judge_planned_names, serve(perfect_tls(), EAST, lacking))


def test_a_pod_serves_another_certificate_than_its_secret_holds():
    old = replace(NODES[EAST], fingerprint="old", names=("localhost",))
    tls = change(perfect_tls(), "presented", lambda shown: shown.region == EAST, chain=(old,))
    assert "serves" in violated(judge_planned_names, tls)


def test_two_regions_share_a_certificate():
    shared = replace(NODES[OTHER], key=NODES[EAST].key)
    assert "one for all" in violated(judge_own_certificates, serve(perfect_tls(), OTHER, shared))


def test_a_certificate_has_another_region_s_names():
    greedy = replace(NODES[EAST], names=(*NODES[EAST].names, *NODES[OTHER].names))
    assert f".{OTHER}." in violated(judge_own_certificates, serve(perfect_tls(), EAST, greedy))


def test_a_server_is_believed_under_another_region_s_name():
    posing = PLAN.database.pod_name(OTHER, "cockroachdb-0")
    tls = change(
        perfect_tls(),
        "presented",
        lambda shown: (shown.region, shown.source, shown.name) == (EAST, OTHER, posing),
        verified=True,
    )
    assert "believed" in violated(judge_own_certificates, tls)


def test_a_server_that_says_nothing_under_a_false_name_proves_nothing():
    tls = change(perfect_tls(), "presented", lambda shown: not shown.verified, verified=None, chain=())
    assert verdict_of(judge_own_certificates, tls).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("fields", [{"subject": "cockroach"}, {"server": False}, {"client": False}])
def test_a_node_certificate_is_for_something_else(fields):
    tls = serve(perfect_tls(), EAST, replace(NODES[EAST], **fields))
    assert "node.crt" in violated(judge_subjects, tls)


@pytest.mark.parametrize("fields", [{"subject": "admin"}, {"client": False}])
def test_the_client_certificate_is_for_somebody_else(fields):
    where = at(EAST, "client.root.crt", CLIENT_SECRET)
    tls = change(perfect_tls(), "secrets", where, certificates=(replace(ROOT, **fields),))
    assert "client.root.crt" in violated(judge_subjects, tls)


def test_the_authority_s_key_is_in_a_secret_of_any_name():
    held = SecretEntry(EAST, EAST, "backup", "notes.txt", (), digest("ca"))
    tls = replace(perfect_tls(), secrets=(*perfect_tls().secrets, held))
    assert "backup" in violated(judge_authority_key, tls)


def test_the_authority_s_key_is_in_a_pod():
    tls = change(
        perfect_tls(), "files", lambda file: (file.region, file.private_key) == (EAST, True), authority_key=True
    )
    assert "node.key" in violated(judge_authority_key, tls)


def test_a_search_that_finds_no_key_at_all_is_no_search():
    tls = without(perfect_tls(), "secrets", lambda entry: entry.private_key and entry.region == EAST)
    assert verdict_of(judge_authority_key, tls).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("secret", [NODE_SECRET, CLIENT_SECRET])
def test_a_secret_is_missing(secret):
    tls = without(perfect_tls(), "secrets", lambda entry: (entry.region, entry.secret) == (EAST, secret))
    assert "not there" in violated(judge_secrets, tls)


def test_a_secret_lacks_an_entry():
    tls = without(perfect_tls(), "secrets", at(EAST, "node.key"))
    assert "node.key missing" in violated(judge_secrets, tls)


def test_a_secret_holds_another_s_key():
    tls = change(perfect_tls(), "secrets", at(EAST, "node.key"), private_key=digest("stranger"))
    assert "another's key" in violated(judge_secrets, tls)


@pytest.mark.parametrize("mode", [0o440, 0o444, 0o600, 0o640, 0o644])
def test_a_key_may_be_read_by_others(mode):
    tls = change(perfect_tls(), "files", lambda file: file.region == EAST and file.private_key, mode=mode)
    assert f"{mode:04o}" in violated(judge_key_modes, tls)


def test_certificates_may_be_read_by_everybody():
    tls = change(perfect_tls(), "files", lambda file: not file.private_key, mode=0o644)
    assert verdict_of(judge_key_modes, tls).outcome is Outcome.MET


def test_root_s_key_is_mounted_under_any_name():
    mounted = replace(perfect_tls().files[1], path="/cockroach/cockroach-certs/x", key=digest("root"))
    tls = replace(perfect_tls(), files=(*perfect_tls().files, mounted))
    assert "root logs in" in violated(judge_root_key, tls)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"not_after": AT - timedelta(minutes=1)}, "expired"),
        ({"not_after": AT + timedelta(days=29)}, "ends"),
        ({"not_before": AT + timedelta(minutes=1)}, "not valid before"),
    ],
)
def test_a_certificate_is_not_valid_for_long_enough(fields, words):
    assert words in violated(judge_validity, serve(perfect_tls(), EAST, replace(NODES[EAST], **fields)))


def test_the_authority_expires_first():
    ending = replace(perfect_tls().authorities[0], not_after=AT + timedelta(days=3))
    assert "ends" in violated(judge_validity, replace(perfect_tls(), authorities=(ending,)))
