"""The agent's doors tell who knocked at which, sweeps find every port that answers, and connections are held."""

import json
import secrets
import subprocess
import sys

import pytest

from probes.client import COMMAND, ROUND_MARK, agent_program, framed, read_result
from probes.cluster import Completed


@pytest.fixture
def doors(pod):
    """Doors on loopback on two free ports; closed at the end."""
    name = f"doors-{secrets.token_hex(6)}"
    operation = {"op": "doors", "name": name, "identity": "east/alpha", "address": "127.0.0.1", "life": 30}
    opened = pod.run({**operation, "tcp": [0], "udp": [0]}).operations[0]
    yield {"name": name, "tcp": opened["ports"]["tcp"][0], "udp": opened["ports"]["udp"][0]}
    pod.run({"op": "stop", "name": name})


def account(pod, doors):
    return pod.run({"op": "account", "name": doors["name"]}).operations[0]["seen"]


def test_doors_tell_port_and_source_of_a_connection_and_forget_it_when_it_was_told(pod, doors):
    (row,) = pod.probe("tcp", ["127.0.0.1", doors["tcp"], "east/alpha"])
    assert row["outcome"] == "open"
    assert account(pod, doors)["tcp"] == {f"{doors['tcp']} 127.0.0.1": 1}
    assert account(pod, doors)["tcp"] == {}


@pytest.mark.parametrize("kind", ["udp", "udp-fragments"])
def test_doors_know_a_datagram_by_its_mark_whoever_it_seems_to_come_from(pod, doors, kind):
    mark = secrets.token_hex(8)
    (row,) = pod.probe(kind, ["127.0.0.1", doors["udp"], "east/alpha"], mark=mark)
    assert row["outcome"] == "open"
    assert account(pod, doors)["udp"] == {f"{mark} 0": 1}


def test_a_door_that_cannot_be_had_is_told_and_the_others_open(pod, doors):
    name = f"doors-{secrets.token_hex(6)}"
    operation = {"op": "doors", "name": name, "identity": "east/beta", "address": "127.0.0.1", "life": 30}
    opened = pod.run({**operation, "tcp": [doors["tcp"], 0]}).operations[0]
    try:
        assert opened["failed"] == {f"tcp {doors['tcp']}": "Address already in use"}
        assert len(opened["ports"]["tcp"]) == 1
    finally:
        pod.run({"op": "stop", "name": name})


def test_a_sweep_finds_listeners_and_refusals_alike(pod, doors):
    port = doors["tcp"]
    operation = {"op": "sweep", "address": "127.0.0.1", "timeout": 1.0, "window": 64}
    swept = pod.run({**operation, "ports": [[port - 40, port + 40]]}).operations[0]
    assert swept["reached"] == list(range(port - 40, port + 41))
    assert swept["undecided"] == []


def test_a_held_connection_goes_on_until_a_line_is_said(listeners):
    operation = {"op": "hold", "target": ["127.0.0.1", listeners["sink"], "east/alpha"], "every": 0.02, "seconds": 20}
    plan = json.dumps({"deadline": 20, "control": None, "operations": [operation]}).encode()
    with subprocess.Popen(
        [sys.executable, *COMMAND[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as agent:
        agent.stdin.write(agent_program() + framed(plan))
        said = b""
        while said.count(ROUND_MARK) < 3:
            said += agent.stdout.read(256)
        agent.stdin.write(b"\n")
        while b"ENDED" not in said:
            said += agent.stdout.read(4096)
        agent.stdin.close()
    told = read_result("pod", Completed(0, said.partition(b"\x1eENDED")[0], b""))["operations"][0]
    assert told["seconds"] < 20
    assert told["last"] > 0
