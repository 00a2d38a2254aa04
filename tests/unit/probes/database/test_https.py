"""Questions over HTTPS through a door: answers, and every way of getting none."""

import http.server
import socket
import ssl
import threading
from datetime import timedelta

import pytest

from probes.database.https import ask

NAME = "cockroachdb-0.cockroachdb.us-east-1.svc.cluster.local"
WITHIN = timedelta(seconds=10)


class Loopback:
    """A dialer whose only door leads to a port of this machine."""

    def __init__(self, port, problem=""):
        self.port = port
        self.problem = problem

    def door(self, region, host, port):
        return "127.0.0.1", self.port

    def last_problem(self, region, host, port):
        return self.problem


class Console(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/liveness" else 503)
        self.end_headers()
        self.wfile.write(self.headers["Host"].encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def console(certificates):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Console)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "node.crt", certificates / "node.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join(10)


def question(dialer, authority, path="/liveness", name=NAME, within=WITHIN):
    return ask(dialer, "us-east-1", name, 8080, path, str(authority), within=within)


def test_an_answer_has_its_status_and_body(console, certificates):
    reply = question(Loopback(console), certificates / "ca.crt")
    assert (reply.status, reply.body, reply.detail) == (200, f"{NAME}:8080".encode(), "")
    assert question(Loopback(console), certificates / "ca.crt", "/readiness").status == 503


def test_a_server_of_another_name_is_not_believed(console, certificates):
    reply = question(Loopback(console), certificates / "ca.crt", name="cockroachdb-0.elsewhere")
    assert reply.status is None
    assert "Hostname mismatch" in reply.detail


def test_a_server_of_another_authority_is_not_believed(console, certificates):
    reply = question(Loopback(console), certificates / "root.crt")
    assert reply.status is None
    assert "unable to get" in reply.detail


def test_what_happened_at_the_far_end_is_told(certificates):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert question(Loopback(port, "Connection refused in the region"), certificates / "ca.crt").detail == (
        "Connection refused in the region"
    )


def test_silence_ends_in_time(certificates):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reply = question(Loopback(listener.getsockname()[1]), certificates / "ca.crt", within=timedelta(seconds=0.3))
    assert (reply.status, reply.detail) == (None, "no answer within 0.3 s")
