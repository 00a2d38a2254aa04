"""How the agent tries a database's entrances: TLS that is verified, and logins of every kind."""

import base64
import ssl

import pytest

from analysis.facts import Attempt
from probes.certificates import forged_credential
from probes.observers.tls_entrances import read_login
from tests.unit.probes.certificate_authority import CertificateAuthority
from tests.unit.probes.pgwire_server import PgServer, server_context

AUTHORITY = CertificateAuthority()
NODE, ROOT = AUTHORITY.issue("node", names=("db.east",)), AUTHORITY.issue("root")
FORGED = forged_credential(AUTHORITY.certificate, "root")


def enter(pod, port, **options):
    target = {"address": "127.0.0.1", "port": port, "name": "db.east", "upgrade": True, "protocols": [], **options}
    run = pod.run({"op": "enter", "timeout": 5.0, "targets": [target]})
    return run.operations[0]["targets"][0]


def log_in(pod, port, credential=None, user="root", **options):
    shown = {"certificate": credential.certificate, "key": credential.key} if credential else {}
    return enter(pod, port, startup={"user": user, "database": "postgres"}, **shown, **options)


def served(answer):
    """The server's own certificate, PEM."""
    return ssl.DER_cert_to_PEM_cert(base64.b64decode(answer["chain"][0]))


def accepted(answer, attempt=Attempt.WITHOUT_CREDENTIALS):
    return read_login(answer, plain=attempt is Attempt.PLAINTEXT)[0]


@pytest.fixture
def serve():
    servers = []

    def start(*args, **options):
        servers.append(PgServer(*args, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def secure(serve):
    """A server as it should be: certificates for everybody, both ways."""
    return serve(server_context(NODE, AUTHORITY.pem), "cert")


def test_the_chain_is_seen_and_believed_for_its_name(pod, secure):
    answer = enter(pod, secure.port, authority=AUTHORITY.pem)
    assert answer["secured"]
    assert served(answer) == NODE.certificate
    assert answer["protocol"].startswith("TLSv1.")


@pytest.mark.parametrize("wrong", [{"name": "db.west"}, {"authority": CertificateAuthority("other").pem}])
def test_who_is_not_believed_is_seen_all_the_same(pod, secure, wrong):
    answer = enter(pod, secure.port, **{"authority": AUTHORITY.pem, **wrong})
    assert answer["distrust"]
    assert served(answer) == NODE.certificate
    assert not answer.get("secured")


def test_all_of_a_chain_is_seen(pod, serve):
    server = serve(server_context(forged_credential(AUTHORITY.certificate, "db.east")))
    assert len(enter(pod, server.port)["chain"]) == 2


def test_the_rightful_user_is_let_in(pod, secure):
    answer = log_in(pod, secure.port, ROOT)
    assert answer["ready"]
    assert accepted(answer) is True
    assert secure.startups == [{"user": "root", "database": "postgres"}]


def test_who_has_no_certificate_is_not(pod, secure):
    answer = log_in(pod, secure.port)
    assert answer["code"] == "28P01"
    assert accepted(answer) is False


def test_an_authority_of_the_same_name_is_told_apart(pod, secure):
    answer = log_in(pod, secure.port, FORGED)
    assert accepted(answer) is False
    assert secure.startups == []


@pytest.mark.parametrize("asks", ["password", "md5", "scram"])
@pytest.mark.parametrize(("password", "expected"), [("cockroach", True), ("guess", False), ("", False)])
def test_passwords_are_said_in_every_way(pod, serve, asks, password, expected):
    server = serve(server_context(NODE), asks, password="cockroach")
    answer = log_in(pod, server.port, user="craig", password=password)
    assert accepted(answer) is expected
    assert answer["asked"] == ["SCRAM-SHA-256" if asks == "scram" else asks]


def test_no_password_is_said_to_a_server_that_is_not_believed(pod, serve):
    server = serve(server_context(AUTHORITY.issue("node", names=("elsewhere",))), "password")
    answer = log_in(pod, server.port, password="secret", authority=AUTHORITY.pem)
    assert answer["distrust"]
    assert accepted(answer) is None
    assert server.startups == []


def test_plaintext_that_is_turned_away(pod, secure):
    answer = log_in(pod, secure.port, plain=True, upgrade=False)
    assert accepted(answer, Attempt.PLAINTEXT) is False
    assert "no encryption" in answer["message"]


@pytest.mark.parametrize("asks", ["trust", "password", "scram"])
def test_plaintext_counts_as_let_in_as_soon_as_a_password_is_asked_for(pod, serve, asks):
    server = serve(None, asks, plain=True)
    assert accepted(log_in(pod, server.port, plain=True, upgrade=False), Attempt.PLAINTEXT) is True


def test_a_server_without_tls_says_so(pod, serve):
    answer = log_in(pod, serve().port)
    assert answer["declined"] == "N"
    assert accepted(answer) is None


@pytest.mark.parametrize(("code", "expected"), [("3D000", True), ("28000", False), ("53300", None), ("57P03", None)])
def test_what_is_said_behind_the_authentication(pod, serve, code, expected):
    server = serve(server_context(NODE))
    server.afterwards = (code, "no")
    assert accepted(log_in(pod, server.port)) is expected


def test_who_does_not_speak_the_protocol_is_told(pod, listeners):
    answer = enter(pod, listeners["tcp"])
    assert not answer.get("secured")
    assert accepted(answer) is not True


def test_who_does_not_listen_is_told(pod):
    answer = enter(pod, 1)
    assert answer["outcome"] == "refused"


def test_many_attempts_at_one_address_answer_in_their_places(pod, secure):
    startup = {"user": "root"}
    target = {"address": "127.0.0.1", "port": secure.port, "name": "db.east", "upgrade": True, "protocols": []}
    shown = {"certificate": ROOT.certificate, "key": ROOT.key}
    targets = [target | {"startup": startup}, target | {"startup": startup} | shown] * 3
    answers = pod.run({"op": "enter", "timeout": 5.0, "targets": targets}).operations[0]["targets"]
    assert [accepted(answer) for answer in answers] == [False, True] * 3


def test_words_are_heard_after_the_handshake(pod, serve):
    request = base64.b64encode(b"\0\0\0\x08\0\x03\0\0").decode()
    answer = enter(pod, serve(server_context(NODE)).port, request=request)
    assert base64.b64decode(answer["heard"]).startswith(b"R")
