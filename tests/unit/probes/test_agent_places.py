"""The agent as it looks at nodes: paths hop by hop, where packets start, settings, and what time it is."""

import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest

from probes.client import run_agent
from probes.cluster import Completed

WITHIN = timedelta(seconds=10)

CHAIN = """
set -e
mount -t tmpfs tmpfs /run; mount --make-rshared /run; ip link set lo up
ip netns add hop; ip netns add far
ip link add near0 type veth peer name hop0 netns hop
ip -n hop link add hop1 type veth peer name far0 netns far
ip address add 10.9.1.1/24 dev near0; ip address add 10.9.1.9/32 dev near0; ip link set near0 up
ip route add default via 10.9.1.2
ip -n hop address add 10.9.1.2/24 dev hop0; ip -n hop link set hop0 up
ip -n hop address add 10.9.2.1/24 dev hop1; ip -n hop link set hop1 up
ip -n far address add 10.9.2.2/24 dev far0; ip -n far link set far0 up; ip -n far route add default via 10.9.2.1
ip netns exec hop sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
ip netns exec far nft -f - <<EOF
table ip t { chain i { type filter hook input priority 0; ip saddr 10.9.1.9 tcp dport 1 drop; }; }
EOF
exec "$@"
"""
"""Here, a router, and a host behind it that does not take TCP from our second address."""


@pytest.fixture
def traveller(make_local_pod):
    return make_local_pod("unshare", "-Urnm", "sh", "-c", CHAIN, "sh")


@pytest.fixture
def make_local_pod(pod):
    return type(pod)


def test_one_batch_for_each_number_of_hops_is_a_trace(traveller):
    batches = [{"kind": "icmp", "targets": [["10.9.2.2", 0, ""]], "timeout": 2.0, "ttl": ttl} for ttl in (1, 2, 3)]
    run = traveller.run({"op": "probe", "batches": batches})
    outcomes = [batch["columns"] for batch in run.operations[0]["batches"]]
    assert [columns["outcome"]["values"] for columns in outcomes] == [["prohibited"], ["open"], ["open"]]
    assert [columns["offender"]["values"] for columns in outcomes] == [["10.9.1.2"], [None], [None]]


def test_probes_leave_from_the_address_that_is_asked_for(traveller):
    assert [row["outcome"] for row in traveller.probe("knock", ["10.9.2.2", 1, ""], timeout=0.3)] == ["refused"]
    (row,) = traveller.probe("knock", ["10.9.2.2", 1, ""], timeout=0.3, source="10.9.1.9")
    assert row["outcome"] == "dropped"


def test_datagrams_too(traveller):
    (row,) = traveller.probe("icmp", ["10.9.2.2", 0, ""], source="10.9.1.9")
    assert row["outcome"] == "open"


@pytest.mark.parametrize("kind", ["knock", "icmp"])
def test_an_address_that_is_not_the_places_own_says_nothing_about_the_target(pod, kind):
    (row,) = pod.probe(kind, ["127.0.0.1", 1, ""], source="192.0.2.1")
    assert row["outcome"] == "inconclusive"


def test_small_files_are_read_and_missing_ones_told(pod, tmp_path):
    (tmp_path / "ip_forward").write_text("1\n")
    run = pod.run({"op": "read", "files": [str(tmp_path / "ip_forward"), str(tmp_path / "nothing")]})
    assert run.operations[0] == {"contents": ["1\n", None]}


class Talking:
    """Runs commands here and gives them answers, as a cluster's exec does."""

    retries = 0

    def __init__(self, ahead=0.0):
        self.ahead = ahead

    def exec(self, namespace, pod, command, *, within, stdin=b"", container=None, answer=None):
        process = subprocess.Popen(
            [sys.executable, *command[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        errors = []
        reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
        reader.start()
        process.stdin.write(stdin)
        process.stdin.flush()
        heard = b""
        while data := process.stdout.read1():
            heard += data
            if b"\x1eENDED" in heard:  # as when the exec ends: nobody has a further plan
                process.stdin.close()
                continue
            if answer is not None and (said := answer(data)):
                process.stdin.write(b"%.6f\n" % (float(said) + self.ahead))
                process.stdin.flush()
        reader.join()
        return Completed(process.wait(), heard, errors[0])


@pytest.mark.parametrize("ahead", [0.0, 100.0])
def test_the_runners_clock_is_asked_over_the_exec(ahead):
    question = {"op": "clock", "rounds": 3, "enough": 0.0, "timeout": 5.0}
    run = run_agent(Talking(ahead), "meshproof", "pod", [question], within=WITHIN)
    rounds = run.operations[0]["rounds"]
    assert len(rounds) == 3
    for before, theirs, after in rounds:
        assert before + ahead - 0.001 <= theirs <= after + ahead + 0.001
    assert run.clock["wall"] == pytest.approx(time.time(), abs=60)


def test_a_clock_that_nobody_answers_is_an_error_of_that_operation_alone(pod):
    question = {"op": "clock", "rounds": 3, "enough": 0.0, "timeout": 0.2}
    silent = Talking()
    silent_exec = silent.exec
    silent.exec = lambda *arguments, answer=None, **options: silent_exec(*arguments, **options)
    run = run_agent(silent, "meshproof", "pod", [question, {"op": "read", "files": []}], within=WITHIN)
    assert "did not tell its time" in run.operations[0]["error"]
    assert run.operations[1] == {"contents": []}
