"""A lab ends with whoever wanted it, and nothing of it stays."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from provision.lab import state
from provision.lab.launcher import await_stage, launch
from provision.lab.paths import LabFolder
from provision.lab.stages import Stage
from provision.lab.topology import aws_calico
from provision.provider import NoProgress

LAUNCH_AND_WAIT = """
import signal, sys
from provision.lab import state
from provision.lab.launcher import await_stage, launch
from provision.lab.stages import Stage
from provision.lab.topology import aws_calico
from provision.provider import NoProgress

topology = aws_calico(sys.argv[1], regions=2, nodes=2)
lab = launch(topology, state.claim(topology.name), progress=NoProgress())
await_stage(lab, Stage.FABRIC, progress=NoProgress())
print("up", flush=True)
signal.pause()
"""


def start(name):
    topology = aws_calico(name, regions=2, nodes=2)
    lab = launch(topology, state.claim(name), progress=NoProgress())
    await_stage(lab, Stage.FABRIC, progress=NoProgress())
    return lab


def descendants(pid):
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *descendants(child)]
    return found


def host_network():
    show = lambda *what: subprocess.run(["ip", *what], capture_output=True, text=True).stdout  # noqa: E731
    return show("-br", "link"), show("route"), show("netns"), Path("/etc/resolv.conf").read_text()


@retry(stop=stop_after_delay(10), wait=wait_fixed(0.02), retry=retry_if_exception_type(AssertionError), reraise=True)
def assert_gone(processes):
    assert [each for each in processes if each.alive] == []


def all_processes(lab):
    outer = lab.state.process
    processes = [outer]
    for pid in descendants(outer.pid):
        with suppress(ProcessLookupError):  # some end by themselves
            processes.append(state.Process.of(pid))
    assert len(processes) > 3
    return processes


def test_killing_the_launching_process_ends_the_lab(home, provision, pytestconfig):
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCH_AND_WAIT, "orphaned"],
        cwd=pytestconfig.rootpath,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert launcher.stdout.readline() == "up\n"
        processes = all_processes(state.find_lab("orphaned"))
    finally:
        launcher.kill()
        launcher.communicate()

    assert_gone(processes)
    assert state.find_lab("orphaned").stage == "dead"
    assert provision("down", "orphaned").returncode == 0
    assert not (home / "labs" / "orphaned").exists()


def test_killing_the_outer_process_ends_the_lab(home):
    lab = start("beheaded")
    processes = all_processes(lab)

    os.kill(lab.state.process.pid, signal.SIGKILL)

    assert_gone(processes)
    state.remove(lab)


def test_the_host_sees_nothing_of_a_lab(home):
    before = host_network()
    lab = start("invisible")
    try:
        assert host_network() == before
    finally:
        state.remove(lab)
    assert host_network() == before
    assert not lab.folder.path.exists()


def test_four_labs_stand_side_by_side(home, provision):
    labs = [start(name) for name in ("north", "east", "south", "west")]
    try:
        for lab in labs:
            done = provision("exec", lab.state.name, "us-east-1/node-1", "--", "ping", "-c1", "-W2", "10.1.1.11")
            assert done.returncode == 0
    finally:
        for lab in labs:
            state.remove(lab)


def test_a_part_that_dies_takes_the_lab_with_it_and_is_named(home):
    lab = start("half")
    parts = descendants(lab.container.pid)
    victim = next(pid for pid in parts if b"provision.lab.agents" in Path(f"/proc/{pid}/cmdline").read_bytes())
    processes = all_processes(lab)

    os.kill(victim, signal.SIGKILL)

    assert_gone(processes)
    assert lab.stage == "failed"
    with pytest.raises(state.ProvisionError, match="agents ended with SIGKILL"):
        await_stage(lab, Stage.READY, progress=NoProgress())
    state.remove(lab)


def test_up_stays_and_down_leaves_nothing(home, provision):
    up = provision("up", "lab:aws-calico", "--name", "kept", "--regions", "2", "--nodes", "2")
    assert up.returncode == 0, up.stderr
    lab = state.find_lab("kept")
    processes = all_processes(lab)

    assert lab.stage == "ready"
    assert str(lab.folder.environment) in up.stdout
    assert provision("down", "kept").returncode == 0
    assert_gone(processes)
    assert state.all_labs() == () or "kept" not in {each.state.name for each in state.all_labs()}


def test_a_lab_that_is_only_claimed_cannot_be_entered_and_is_removed_with_its_launcher_alive(home, provision):
    state.claim("claimed")

    entered = provision("exec", "claimed", "us-east-1/node-1", "--", "true")
    state.remove(state.find_lab("claimed"))

    assert (entered.returncode, entered.stderr) == (4, "claimed: this lab is only just being started\n")
    assert "claimed" not in {lab.state.name for lab in state.all_labs()}


def test_a_half_written_state_is_no_lab(home, tmp_path):
    folder = LabFolder(tmp_path)
    folder.state.write_text('{"name": "torn"')

    assert state.read_lab(folder) is None
