"""How the agent knocks at other people's doors: bare connections, and TLS with and without a client certificate."""

import base64
import socket
import ssl
import threading
from contextlib import closing

import pytest

from probes.tls import throwaway_credential

REQUEST = b"hello"


@pytest.fixture(scope="module")
def server():
    """Answers "welcome" to clients that show the certificate which it trusts, and to REQUEST."""
    own, client = throwaway_credential("store"), throwaway_credential("remote")
    return own, client


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def port(server, tmp_path, request):
    own, client = server
    (tmp_path / "own").write_text(own.certificate + own.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion[request.param]
    context.load_cert_chain(tmp_path / "own")
    context.load_verify_locations(cadata=client.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve, args=(listener, context), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def serve(listener, context):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        try:
            with context.wrap_socket(connection, server_side=True) as secured:
                if secured.recv(100) == REQUEST:
                    secured.sendall(b"welcome")
        except OSError:
            connection.close()


def handshake(pod, port, credential=None, **options):
    request = base64.b64encode(REQUEST).decode()
    target = {"address": "127.0.0.1", "port": port, "name": "store", "protocols": ["h2"], "request": request}
    if credential:
        target |= {"certificate": credential.certificate, "key": credential.key}
    plan = {"op": "tls", "timeout": 5.0, "patience": 0.3, "targets": [{**target, **options}]}
    return pod.run(plan).operations[0]["targets"][0]


def test_whom_the_server_trusts_gets_an_answer_and_sees_its_certificate(pod, port, server):
    own, client = server
    answer = handshake(pod, port, client)
    assert base64.b64decode(answer["heard"]) == b"welcome"
    assert base64.b64decode(answer["certificate"]) == ssl.PEM_cert_to_DER_cert(own.certificate)


def test_who_shows_no_certificate_is_refused_also_when_that_comes_after_the_handshake(pod, port):
    answer = handshake(pod, port)
    assert "ALERT" in answer["alert"]
    assert not answer.get("heard")


def test_who_is_refused_has_seen_the_server_s_certificate_all_the_same(pod, port, server):
    answer = handshake(pod, port)
    assert base64.b64decode(answer["certificate"]) == ssl.PEM_cert_to_DER_cert(server[0].certificate)


def test_who_shows_a_foreign_certificate_is_refused(pod, port):
    answer = handshake(pod, port, throwaway_credential("remote"))
    assert "ALERT" in answer["alert"]


def test_who_speaks_no_tls_gets_no_welcome(pod, port):
    answer = handshake(pod, port, plain=True)
    assert b"welcome" not in base64.b64decode(answer.get("heard", ""))
    assert "secured" not in answer


def test_a_knock_is_open_once_it_is_connected(pod, port):
    (row,) = pod.probe("knock", ["127.0.0.1", port, ""])
    assert row["outcome"] == "open"
    assert row["rtt_us"] >= 0


def test_a_knock_at_a_closed_port_is_refused(pod):
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        closed = listener.getsockname()[1]
    (row,) = pod.probe("knock", ["127.0.0.1", closed, ""])
    assert row["outcome"] == "refused"
    assert handshake(pod, closed)["outcome"] == "refused"
