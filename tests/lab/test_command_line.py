"""`python -m provision`: what scripts rely on, and what people read when they have made a mistake."""

import json
import os
import pty
import subprocess
import sys

import pytest


def test_exec_passes_streams_and_exit_code_through(at):
    done = at("us-east-1/node-1", "sh", "-c", "cat; echo aside >&2; exit 7", input="hello\n")

    assert (done.returncode, done.stdout, done.stderr) == (7, "hello\n", "aside\n")


@pytest.mark.parametrize(("command", "code"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_exec_of_what_cannot_be_run_ends_as_a_shell_would(at, command, code):
    assert at("us-east-1/node-1", command).returncode == code


def test_exec_is_root_of_the_lab(at):
    assert at("us-east-1/vpc", "ip", "link", "add", "planted", "type", "bridge").returncode == 0
    assert "planted" in at("us-east-1/vpc", "ip", "-br", "link").stdout
    assert at("us-east-1/vpc", "ip", "link", "delete", "planted").returncode == 0


def test_exec_enters_a_pods_network(at, lab, provision):
    address = next(
        pod["address"]
        for pod in json.loads(provision("status", lab.state.name, "--json").stdout)["regions"]["us-east-1"]["pods"]
        if pod["name"] == "demo-1-1"
    )

    assert f"{address}/32" in at("us-east-1/demo-1-1", "ip", "-br", "address", "show", "eth0").stdout
    assert f"{address}/32" in at("us-east-1/default/demo-1-1", "ip", "-br", "address", "show", "eth0").stdout


def test_bird_answers_on_a_node_where_calico_puts_its_socket(at):
    shown = at("us-east-1/node-1", "birdcl", "-s", "/var/run/calico/bird.ctl", "show", "protocols")

    assert "Established" in shown.stdout


def test_shell_works_on_a_terminal(lab, pytestconfig):
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        [sys.executable, "-m", "provision", "shell", lab.state.name, "us-east-1/node-2"],
        cwd=pytestconfig.rootpath,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, b"ip -br address show eth0; exit 3\n")
    said = b""
    try:
        while chunk := os.read(ours, 4096):
            said += chunk
    except OSError:  # Linux says EIO when the other end of a terminal has gone
        pass
    os.close(ours)

    assert shell.wait(30) == 3
    assert b"10.0.1.11/24" in said


def test_list_says_what_is_there(lab, provision):
    listed = {each["name"]: each for each in json.loads(provision("list", "--json").stdout)}

    assert listed[lab.state.name]["state"] == "ready"
    assert listed[lab.state.name]["environment"] == str(lab.folder.environment)
    assert lab.state.name in provision("list").stdout


def test_status_describes_every_node(lab, provision):
    described = json.loads(provision("status", lab.state.name, "--json").stdout)

    assert described["state"] == "ready"
    assert described["kubeconfig"] == str(lab.folder.admin_kubeconfig)
    assert described["regions"]["us-east-2"]["nodes"][1] == {
        "name": "us-east-2-node-2",
        "alias": "node-2",
        "address": "10.1.1.11",
        "reflector": False,
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["up", "lab:aws-calco", "--name", "x"], "did you mean 'lab:aws-calico'?"),
        (["up", "lab:aws-calico", "--name", "X y"], "small letters"),
        (["up", "lab:aws-calico", "--name", "x", "--regions", "9"], "2 to 8 regions, not 9"),
        (["up", "lab:aws-calico"], "--name"),
        (["down", "nobody"], "no lab of that name"),
        (["frobnicate"], "invalid choice"),
    ],
)
def test_a_mistake_is_explained_and_exits_with_4(home, arguments, told, provision):
    done = provision(*arguments)

    assert done.returncode == 4
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("us-est-1/node-1", "us-east-1, us-east-2"),
        ("us-east-1/node-9", "did you mean 'node-"),
        ("us-east-1/demo-1-2", "default/demo-1-1"),
    ],
)
def test_a_place_that_is_not_there_is_answered_with_those_that_are(at, place, told):
    done = at(place, "true")

    assert done.returncode == 4
    assert told in done.stderr


def test_a_second_lab_of_the_same_name_is_refused(lab, provision):
    done = provision("up", "lab:aws-calico", "--name", lab.state.name)

    assert done.returncode == 4
    assert "there already" in done.stderr
