"""Commands at the end of a prefix: how they are spelt, how they end, and the agent there."""

import os
import shlex
import stat
import sys
import time
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from analysis.fleet import Outpost, Stand
from probes.errors import AgentCrashed, DeadlineExceeded, ExecFailed
from probes.outpost import command_line, run, run_agent_at

WITHIN = timedelta(seconds=20)
HERE = Outpost(Stand.OPERATOR, "the runner", ())


def program(tmp_path, name, text):
    """A program of that name, to be put into a prefix."""
    path = tmp_path / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_command_is_run_behind_its_prefix_with_standard_input(tmp_path):
    prefix = program(tmp_path, "enter", 'echo entered >&2; exec "$@"')
    done = run(Outpost(Stand.NODE, "n", (prefix,)), ["cat"], stdin=b"\0\xff words", within=WITHIN)
    assert (done.exit_code, done.stdout, done.stderr) == (0, b"\0\xff words", b"entered\n")


def test_the_exit_code_is_the_commands():
    assert run(HERE, ["sh", "-c", "exit 7"], within=WITHIN).exit_code == 7


def test_ssh_gets_words_that_survive_its_shell(tmp_path):
    # As sshd does it: the words that follow the host, joined by spaces, are read by a shell.
    ssh = program(tmp_path, "ssh", 'shift; exec sh -c "$*"')
    words = ["printf", "%s|", "a b", "$HOME", "it's", ""]
    node = Outpost(Stand.NODE, "n", (ssh, "host"))
    assert run(node, words, within=WITHIN).stdout == b"a b|$HOME|it's||"
    behind = Outpost(Stand.NODE, "n", (ssh, "bastion", ssh, "host"))
    assert run(behind, words, within=WITHIN).stdout == b"a b|$HOME|it's||"


def test_words_behind_the_host_belong_to_the_remote_shell():
    node = Outpost(Stand.NODE, "n", ("ssh", "host", "sudo", "-n"))
    assert command_line(node, ["cat", "a b"]) == ["ssh", "host", "sudo", "-n", shlex.join(["cat", "a b"])]


def test_ssh_that_does_not_get_through_is_a_failure_of_the_instrument(tmp_path):
    ssh = program(tmp_path, "ssh", "echo 'Connection refused' >&2; exit 255")
    with pytest.raises(ExecFailed, match="n1: ssh did not get through: Connection refused"):
        run(Outpost(Stand.NODE, "n1", (ssh, "host")), ["true"], within=WITHIN)


def test_a_prefix_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ExecFailed, match=r"n1: .*nowhere cannot be run: No such file"):
        run(Outpost(Stand.NODE, "n1", (str(tmp_path / "nowhere"),)), ["true"], within=WITHIN)


def test_what_takes_too_long_is_ended_with_its_children(tmp_path):
    note = tmp_path / "child"
    script = f"sleep 600 & echo $! > {note}; wait"
    with pytest.raises(DeadlineExceeded, match=r"the runner: no end within 0\.5 s"):
        run(HERE, ["sh", "-c", script], within=timedelta(seconds=0.5))
    child = int(note.read_text())
    end = time.monotonic() + 10
    while _lives(child) and time.monotonic() < end:
        time.sleep(0.01)
    assert not _lives(child)


def _lives(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("prefix", [(), (sys.executable, "-c", "import os,sys; os.execvp(sys.argv[1], sys.argv[1:])")])
def test_the_agent_answers_at_an_outpost(prefix):
    outpost = Outpost(Stand.OPERATOR, "here", prefix, address=IPv4Address("127.0.0.1"))
    run_of_agent = run_agent_at(outpost, [{"op": "counters", "name": "none of that name"}], within=WITHIN)
    assert "counters" in run_of_agent.operations[0]["error"]
    assert run_of_agent.clock["wall"] == pytest.approx(time.time(), abs=60)


def test_without_python_there_the_agent_has_crashed_and_the_shells_words_are_told(tmp_path):
    prefix = program(tmp_path, "enter", "echo 'python3: not found' >&2; exit 127")
    with pytest.raises(AgentCrashed, match="bare: the agent ended with 127: python3: not found"):
        run_agent_at(Outpost(Stand.NODE, "bare", (prefix,)), [], within=WITHIN)


def test_the_instrument_is_tried_again_and_that_is_counted(tmp_path):
    mark = tmp_path / "tried"
    ssh = program(tmp_path, "ssh", f'[ -e {mark} ] || {{ touch {mark}; exit 255; }}; shift; exec sh -c "$*"')
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    outpost = Outpost(Stand.NODE, "n", ("env", f"PATH={path}", ssh, "host"))
    assert run_agent_at(outpost, [], within=WITHIN).retries == 1
