"""SSH on the nodes: a client that checks the host key gets in with the lab's key, and nobody else does."""

import json
import subprocess
import sys

import asyncssh
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from provision.lab.entry import Entry, environment
from provision.lab.topology import OPERATOR

CLIENT = """
import asyncio, json, sys
import asyncssh

async def main(host, source, known_hosts, keys, command, terminal):
    options = {"known_hosts": known_hosts, "client_keys": keys, "config": []}
    async with asyncssh.connect(host, username="ubuntu", local_addr=(source, 0), **options) as there:
        done = await there.run(command, input="from here", term_type=terminal)
        return {"code": done.exit_status, "out": done.stdout, "err": done.stderr}

try:
    print(json.dumps(asyncio.run(main(*json.loads(sys.argv[1])))))
except asyncssh.Error as error:
    print(json.dumps({"refused": type(error).__name__}))
"""


HOST = "198.18.1.11"
UNTIL_IT_LISTENS = {"stop": stop_after_delay(30), "wait": wait_fixed(0.05), "reraise": True}


def foreign_key(file):
    """A key that the lab has never heard of."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(file)
    file.chmod(0o600)
    return key


@pytest.fixture(scope="module")
def keys(lab):
    """Where the lab keeps what a client needs; the server is the last part of a lab to come up."""

    @retry(
        stop=stop_after_delay(30), wait=wait_fixed(0.05), retry=retry_if_exception_type(AssertionError), reraise=True
    )
    def listening():
        argv = Entry(lab).command("us-east-1/node-1", ["ss", "-Htln", "sport = :22"])
        assert subprocess.run(argv, env=environment(), capture_output=True, text=True).stdout

    listening()
    return lab.folder.ssh


@pytest.fixture
def ssh(at, keys):
    """Run a command over SSH, as the operator would: from the internet, at the node's public address."""

    def run(command, *, key=keys / "id_ed25519", known_hosts=keys / "known_hosts", terminal=None):
        asked = [HOST, str(OPERATOR), str(known_hosts), [str(key)], command, terminal]
        done = at("internet", sys.executable, "-c", CLIENT, json.dumps(asked))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_command_runs_on_the_node_with_its_streams_and_exit_code(ssh):
    done = ssh("cat; hostname -I; echo aside >&2; exit 3")

    assert done["code"] == 3
    assert done["out"].startswith("from here")
    assert "10.1.1.11" in done["out"]
    assert done["err"] == "aside\n"


def test_a_command_may_have_a_terminal(ssh):
    assert "/dev/pts/" in ssh("tty", terminal="xterm")["out"]


def test_the_host_key_is_checked(ssh, keys, tmp_path):
    other = tmp_path / "known_hosts"
    other.write_text(f"{HOST} {foreign_key(tmp_path / 'key').export_public_key().decode()}")

    assert ssh("true", known_hosts=other) == {"refused": "HostKeyNotVerifiable"}


def test_another_key_does_not_open(ssh, tmp_path):
    foreign_key(tmp_path / "key")

    assert ssh("true", key=tmp_path / "key") == {"refused": "PermissionDenied"}


def test_the_client_key_is_its_owners_alone(keys):
    assert (keys / "id_ed25519").stat().st_mode & 0o077 == 0
