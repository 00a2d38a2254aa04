"""A CockroachDB of answers, behind real TLS: servers on this machine's loopback, one for each entrance and pod."""

import ssl
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from analysis.facts import COCKROACHDB
from analysis.fleet import Capability, DatabaseAccess, Fleet
from probes.database.cockroachdb import CockroachDB
from provision.lab.database.certificates import node_names
from provision.lab.kube.pki import Authority
from provision.lab.topology import aws_calico
from tests.unit.probes.cockroachdb.cluster_double import REGIONS, RELEASES, ClusterDouble
from tests.unit.probes.cockroachdb.wire_double import WireDouble, free_port

BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


class Doors:
    """The `Dialer` of a test: each door is a server of its own."""

    def __init__(self, doors):
        self.doors = doors

    def door(self, region, host, port):
        del region  # every region reaches all
        return ("127.0.0.1", self.doors.get((host, port)) or free_port())

    def last_problem(self, region, host, port):
        return ""

    def close(self):
        pass


class Page(BaseHTTPRequestHandler):
    """A console: what the double has at that path."""

    def __init__(self, page, *args):
        self._page = page
        super().__init__(*args)

    def do_GET(self):
        status, body = self._page(self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def plan():
    return aws_calico("demo", engine=COCKROACHDB).plan


@pytest.fixture(scope="session")
def certificates(tmp_path_factory, plan):
    """Contexts of the nodes by region, and how root logs in."""
    folder = tmp_path_factory.mktemp("pki")
    authority = Authority("double", folder)
    contexts = {}
    for region in REGIONS:
        home = folder / region
        home.mkdir()
        pair = authority.issue("node", usages=BOTH, names=node_names(plan.database, region), folder=home)
        contexts[region] = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        context.load_verify_locations(authority.certificate_file)
        context.verify_mode = ssl.CERT_OPTIONAL
    root = authority.issue("root", usages=BOTH[1:], folder=folder)
    access = DatabaseAccess("root", str(authority.certificate_file), str(root.certificate), str(root.key))
    return contexts, access


@pytest.fixture(params=RELEASES)
def cluster(request, tmp_path):
    """A whole cluster of each release."""
    return ClusterDouble(request.param, tmp_path / "rows.sqlite")


@pytest.fixture
def servers(cluster, certificates):
    """Doors to the cluster's servers, by (host, port)."""
    contexts, _ = certificates
    doors, ends = {}, []
    for region in REGIONS:
        sql = WireDouble(contexts[region], partial(cluster.answer, region))
        ends.append(sql.close)
        doors[f"cockroachdb-public.{region}.svc.cluster.local", 26257] = sql.port
        for place in range(3):
            console = ThreadingHTTPServer(("127.0.0.1", 0), partial(Page, partial(cluster.page, region, place)))
            console.socket = contexts[region].wrap_socket(console.socket, server_side=True)
            threading.Thread(target=console.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            ends += [console.shutdown, console.server_close]
            doors[f"cockroachdb-{place}.cockroachdb.{region}.svc.cluster.local", 8080] = console.server_port
    yield doors
    for end in ends:
        end()


@pytest.fixture
def database(plan, servers, certificates):
    """The adapter, at work with the double."""
    return adapter(plan, servers, certificates)


def adapter(plan, doors, certificates):
    """An adapter that reaches these doors."""
    _, access = certificates
    return CockroachDB(Fleet(plan, "attach", (), frozenset({Capability.DATABASE}), database=access), Doors(doors))
