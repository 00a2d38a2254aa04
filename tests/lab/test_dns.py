"""Cluster DNS in the lab: it does what the Corefile says, and answers as CoreDNS does where nobody answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kubernetes import client, config
from kubernetes.stream import stream
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from provision.lab.entry import Entry, environment

EAST, SECOND = "us-east-1", "us-east-2"
EAST_DNS, SECOND_DNS = "172.20.0.10", "172.21.0.10"
MEMBERS = f"cockroachdb.{SECOND}.svc.cluster.local"
NOBODY = "10.1.1.99"
DEADLINE_S = 15

ASK = """\
import sys
import dns.message, dns.query, dns.rcode
how, server, name, kind = sys.argv[1:]
answer = getattr(dns.query, how)(dns.message.make_query(name, kind), server, timeout=10)
print(dns.rcode.to_text(answer.rcode()), *sorted(each.to_text() for rows in answer.answer for each in rows), sep="\\n")
"""


def eventually(look):
    """The first value that `look` returns and that counts as true, or its last one."""
    attempts = Retrying(
        retry=retry_if_result(lambda value: not value),
        stop=stop_after_delay(DEADLINE_S),
        wait=wait_fixed(0.2),
        retry_error_callback=lambda state: state.outcome.result(),
    )
    return attempts(look)


class Cluster:
    """One region's cluster, with all rights."""

    def __init__(self, lab, region):
        settings = client.Configuration()
        config.load_kube_config(str(lab.folder.admin_kubeconfig), context=region, client_configuration=settings)
        self.core = client.CoreV1Api(client.ApiClient(settings))
        self._region = region

    def member(self, number):
        return self.core.read_namespaced_pod(f"cockroachdb-{number}", self._region)

    def run(self, number, *command):
        """What a command says in a database pod."""
        socket = stream(
            self.core.connect_get_namespaced_pod_exec,
            f"cockroachdb-{number}",
            self._region,
            command=list(command),
            stdout=True,
            stderr=True,
            _preload_content=False,
        )
        socket.run_forever(timeout=30)
        return socket.read_stdout()

    def dns_logs(self):
        pods = self.core.list_namespaced_pod("kube-system", label_selector="k8s-app=kube-dns").items
        return [self.core.read_namespaced_pod_log(pod.metadata.name, "kube-system") for pod in pods]

    @contextmanager
    def corefile(self, change) -> Iterator[None]:
        """The Corefile is changed in the body, and as before afterwards."""
        before = self.core.read_namespaced_config_map("coredns", "kube-system").data["Corefile"]
        after = change(before)
        assert after != before
        self._write(after)
        try:
            yield
        finally:
            self._write(before)

    def _write(self, text):
        self.core.patch_namespaced_config_map("coredns", "kube-system", {"data": {"Corefile": text}})


@pytest.fixture(scope="module")
def east(lab):
    return Cluster(lab, EAST)


@pytest.fixture(scope="module")
def second(lab):
    return Cluster(lab, SECOND)


@pytest.fixture
def ask(lab):
    """Code and records of an answer: `ask("name")`, from a node of the first region."""

    def asked(name, kind="A", *, how="udp", server=EAST_DNS):
        command = Entry(lab).command(f"{EAST}/node-2", [sys.executable, "-c", ASK, how, server, name, kind])
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
        code, *records = done.stdout.split("\n")[:-1] or [done.stderr.strip().rpartition("\n")[2]]
        return code, records

    return asked


@pytest.mark.parametrize("how", ["udp", "tcp"])
def test_names_of_another_cluster_lead_to_its_pods(ask, second, how):
    pods = [second.member(number).status.pod_ip for number in range(3)]
    assert ask(MEMBERS, how=how) == ("NOERROR", sorted(pods))
    assert ask(f"cockroachdb-2.{MEMBERS}", how=how) == ("NOERROR", [pods[2]])


def test_ports_of_another_cluster_are_told(ask):
    code, records = ask(f"_grpc._tcp.{MEMBERS}", "SRV", how="tcp")
    assert code == "NOERROR"
    assert [record.split()[2:] for record in records] == [
        ["26257", f"cockroachdb-{number}.{MEMBERS}."] for number in range(3)
    ]


def test_what_nobody_has_is_not_there(ask):
    for name in (f"cockroachdb-9.{MEMBERS}", f"cockroachdb.{EAST}.svc.cluster.local.cluster.local", "www.example.org"):
        assert ask(name) == ("NXDOMAIN", []), name


def test_names_outside_are_the_resolvers_on_the_internet(ask):
    assert ask("www.example.net") == ("NOERROR", ["198.51.100.10"])


def test_a_member_knows_its_full_name_and_finds_the_others_by_short_ones(east, second):
    assert east.run(1, "hostname", "-f").strip() == f"cockroachdb-1.cockroachdb.{EAST}.svc.cluster.local"
    found = east.run(1, "getent", "hosts", f"cockroachdb-0.cockroachdb.{SECOND}").split()
    assert found == [second.member(0).status.pod_ip, f"cockroachdb-0.{MEMBERS}"]


def test_a_member_that_is_made_anew_is_found_at_its_new_address(ask, second):
    before = second.member(1)
    second.core.delete_namespaced_pod("cockroachdb-1", SECOND, grace_period_seconds=0)

    def replaced():
        try:
            pod = second.member(1)
        except client.ApiException:
            return None
        return pod if pod.metadata.uid != before.metadata.uid and pod.status.pod_ip else None

    address = eventually(replaced).status.pod_ip
    assert address != before.status.pod_ip
    assert eventually(lambda: ask(f"cockroachdb-1.{MEMBERS}") == ("NOERROR", [address]))


def test_nobody_behind_a_forward_is_a_failure_and_no_silence(ask, east):
    with east.corefile(lambda text: text.replace(f"forward . {SECOND_DNS}", f"forward . {NOBODY}")):
        assert eventually(lambda: ask(f"cockroachdb-0.{MEMBERS}") == ("SERVFAIL", []))
        assert ask("kubernetes.default.svc.cluster.local") == ("NOERROR", ["172.20.0.1"])
    assert eventually(lambda: ask(f"cockroachdb-0.{MEMBERS}")[0] == "NOERROR")


def test_one_dead_upstream_of_two_is_passed_over(ask, east):
    with east.corefile(lambda text: text.replace(f"forward . {SECOND_DNS}", f"forward . {NOBODY} {SECOND_DNS}")):
        for name, code in [(0, "NOERROR"), (1, "NOERROR"), (2, "NOERROR"), (9, "NXDOMAIN")]:
            assert eventually(lambda name=name, code=code: ask(f"cockroachdb-{name}.{MEMBERS}")[0] == code), name


def test_a_zone_that_is_not_forwarded_is_the_own_clusters(ask, east):
    with east.corefile(lambda text: text.replace(f"{SECOND}.svc", "us-east-3.svc")):
        assert eventually(lambda: ask(f"cockroachdb-0.{MEMBERS}") == ("NXDOMAIN", []))
    assert eventually(lambda: ask(f"cockroachdb-0.{MEMBERS}")[0] == "NOERROR")


def test_a_broken_corefile_leaves_the_former_one_in_force_and_is_logged(ask, east):
    broken = f"lop\n}}\n{SECOND}.svc"

    def all_refuse():
        return all("[ERROR] Restart failed: " in log and "Corefile:" in log for log in east.dns_logs())

    with east.corefile(lambda text: text.replace(f"}}\n{SECOND}.svc", broken)):
        assert eventually(all_refuse), east.dns_logs()
        assert ask(f"cockroachdb-0.{MEMBERS}")[0] == "NOERROR"
