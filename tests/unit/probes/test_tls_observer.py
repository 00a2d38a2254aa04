"""What is made of Secrets, of files in pods, and of what the agent was told at the entrances."""

import base64
import os
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from analysis.facts import COCKROACHDB, Attempt, DatabaseDoor
from analysis.plan import DatabasePlan
from probes.certificates import describe, forged_credential, key_fingerprint, load_certificates
from probes.observers.database_members import Member, list_members
from probes.observers.tls import mark_authority_keys
from probes.observers.tls_entrances import (
    REPLICATOR,
    Credentials,
    Entry,
    Handshake,
    read_entry,
    read_handshake,
    read_words,
    target_of,
)
from probes.observers.tls_keys import FILES_SCRIPT, read_files, read_secrets
from provision.lab.database import patroni
from tests.unit.probes.certificate_authority import CertificateAuthority

PLAN = DatabasePlan(engine="postgresql")
AUTHORITY = CertificateAuthority()
NODE, ROOT = AUTHORITY.issue("node", names=("db.east", "*.db.east")), AUTHORITY.issue("root")
MEMBER = Member("east", "east", "cockroachdb-0", "cockroachdb-0.east", IPv4Address("192.168.0.5"), ("/certs",))
CREDENTIALS = Credentials(
    "root",
    ROOT,
    "",
    forged_credential(AUTHORITY.certificate, "root"),
    forged_credential(AUTHORITY.certificate, "node"),
    "",
)


def secret(name, **entries):
    data = {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in entries.items()}
    return {"metadata": {"name": name, "namespace": "east"}, "data": data}


def secrets_of(make_cluster, *secrets):
    cluster = make_cluster("east", {"/api/v1/namespaces/east/secrets": list(secrets)})
    return read_secrets(cluster, PLAN, [AUTHORITY.certificate])


def test_a_certificate_is_described_with_who_signed_it():
    (found,) = describe(load_certificates(NODE.certificate), [AUTHORITY.certificate])
    assert (found.subject, found.issuer, found.names) == ("node", "test-ca", ("db.east", "*.db.east"))
    assert found.addresses == (IPv4Address("127.0.0.1"),)
    assert (found.authority, found.server, found.client) == (False, True, True)
    assert found.issuer_key == describe([AUTHORITY.certificate])[0].key
    assert found.key == key_fingerprint(NODE.key)


def test_a_forged_certificate_names_the_authority_that_has_not_signed_it():
    forged = load_certificates(CREDENTIALS.forged_user.certificate)
    found = describe(forged[:1], [AUTHORITY.certificate])[0]
    assert found.issuer == "test-ca"
    assert found.issuer_key == ""


def test_secrets_are_read_with_their_keys_told_by_fingerprint(make_cluster):
    entries, gaps = secrets_of(make_cluster, secret("any", node_crt=NODE.certificate, node_key=NODE.key, note="hello"))
    by_name = {entry.entry: entry for entry in entries}
    assert by_name["node.key"].private_key == by_name["node.crt"].certificates[0].key
    assert by_name["note"].certificates == ()
    assert not gaps
    assert NODE.key.splitlines()[1] not in repr(entries)


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n",
    ],
)
def test_what_cannot_be_read_in_a_secret_is_a_gap_without_its_text(make_cluster, text):
    entries, gaps = secrets_of(make_cluster, secret("any", broken=text))
    assert not entries
    assert len(gaps) == 1
    assert "AAAA" not in repr(gaps)


def test_files_are_told_with_mode_and_owner_and_keys_by_fingerprint(tmp_path):
    for name, text, mode in (
        ("node.key", NODE.key, 0o400),
        ("ca.key", AUTHORITY.key_pem, 0o644),
        ("x.crt", "x", 0o644),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "hidden").write_text("hidden")
    done = subprocess.run(["sh", "-c", FILES_SCRIPT, "sh", str(tmp_path)], capture_output=True, text=True, check=True)
    files, gaps = read_files(MEMBER, done.stdout)
    told = {Path(file.path).name: (file.mode, file.owner, file.private_key) for file in files}
    owner = os.getuid()
    assert told == {"node.key": (0o400, owner, True), "ca.key": (0o644, owner, True), "x.crt": (0o644, owner, False)}
    assert not gaps
    marked = mark_authority_keys(files, describe([AUTHORITY.certificate]), ())
    assert [Path(file.path).name for file in marked if file.authority_key] == ["ca.key"]


def test_a_folder_that_is_not_there_has_no_files(tmp_path):
    argv = ["sh", "-c", FILES_SCRIPT, "sh", str(tmp_path / "nowhere")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert read_files(MEMBER, done.stdout) == ([], [])


def test_a_key_that_its_pod_may_not_read_is_a_gap():
    _files, gaps = read_files(MEMBER, "\x1e600 0 /certs/node.key\n?")
    assert [gap.subject for gap in gaps] == ["cockroachdb-0: /certs/node.key"]


def test_members_are_the_pods_of_the_stateful_set_with_all_mounts_but_their_volume(make_cluster):
    mounts = [
        {"name": "certs", "mountPath": "/cockroach/cockroach-certs/"},
        {"name": "data", "mountPath": "/data"},
        {"name": "more", "mountPath": "/more"},
    ]
    spec = {
        "containers": [{"volumeMounts": mounts}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    }
    pods = [
        {"metadata": {"name": name, "namespace": "east", **extra}, "spec": spec, "status": {"podIP": "192.168.0.5"}}
        for name, extra in (
            ("cockroachdb-0", {}),
            ("cockroachdb-1", {"deletionTimestamp": "now"}),
            ("cockroachdb-client", {}),
        )
    ]
    (found,) = list_members(make_cluster("east", {"/api/v1/namespaces/east/pods": pods}), PLAN)
    assert found.folders == ("/cockroach/cockroach-certs", "/more")
    assert found.full_name == "cockroachdb-0.cockroachdb.east.svc.cluster.local"


def entry(attempt, door=DatabaseDoor.SQL, user="root"):
    return Entry(MEMBER, door, attempt, user)


def test_only_the_rightful_user_shows_his_key():
    for attempt in Attempt:
        target = target_of(entry(attempt), PLAN, CREDENTIALS)
        assert (target.get("key") == ROOT.key) is (attempt is Attempt.RIGHTFUL)


def test_a_password_is_said_only_to_a_verified_server():
    credentials = Credentials("app", None, "secret", CREDENTIALS.forged_user, CREDENTIALS.forged_node, AUTHORITY.pem)
    for attempt in Attempt:
        target = target_of(entry(attempt), PLAN, credentials)
        if target.get("password") == "secret":
            assert attempt is Attempt.RIGHTFUL
            assert target["authority"] == AUTHORITY.pem


def test_nodes_speak_as_their_engine_does():
    stand_in = target_of(entry(Attempt.FOREIGN_NODE), PLAN, CREDENTIALS)
    assert stand_in["startup"] == {"user": REPLICATOR, "replication": "true"}
    assert patroni._REPLICATION == REPLICATOR
    real = target_of(entry(Attempt.FOREIGN_NODE), DatabasePlan(engine=COCKROACHDB), CREDENTIALS)
    assert (real["upgrade"], real["protocols"]) == (False, ["h2"])


def heard(text):
    return {"outcome": "open", "heard": base64.b64encode(text).decode(), "closed": not text}


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 307 Temporary Redirect\r\n", False),
        (b"HTTP/1.0 400 Bad Request\r\n", False),
        (b"\0\0\x12\x04\0\0\0\0\0", True),
        (b"", False),
        (b"\x15\x03\x01", False),
    ],
)
def test_an_answer_in_the_clear_is_one_that_tells_something(words, accepted):
    assert read_words(heard(words))[0] is accepted


def test_who_does_not_listen_was_not_tried():
    answer = {"outcome": "refused", "detail": "Connection refused"}
    assert read_entry("west", entry(Attempt.PLAINTEXT), answer).accepted is None
    assert read_handshake("west", Handshake(MEMBER, DatabaseDoor.SQL, "x"), answer, []).verified is None


def test_a_server_without_tls_is_not_believed():
    answer = {"outcome": "open", "declined": "N", "chain": []}
    shown = read_handshake("west", Handshake(MEMBER, DatabaseDoor.SQL, "x"), answer, [])
    assert shown.verified is False
    assert "no TLS" in shown.detail
