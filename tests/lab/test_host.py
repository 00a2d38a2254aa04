"""Machines of other kinds, played by a user namespace with fewer rights: what the lab does on them, what it says."""

import os
import subprocess
import sys

import pytest

from provision.lab.host import USER_NAMESPACE_OPTION, LabUnavailableError, isolation

WITHOUT_USER_NAMESPACES = "echo 0 > /proc/sys/user/max_user_namespaces && "
WITHOUT_RIGHTS = "exec setpriv --bounding-set=-all --inh-caps=-all "


@pytest.fixture
def elsewhere(home, pytestconfig):
    """Run `python -m provision` as root of a machine that is prepared by a shell script."""
    if USER_NAMESPACE_OPTION not in isolation():
        pytest.skip("this machine has no user namespaces to play other machines with")

    def run(preparation, *arguments):
        command = [sys.executable, "-m", "provision", *arguments]
        return subprocess.run(
            ["unshare", "--user", "--map-root-user", "sh", "-c", f'{preparation} "$@"', "sh", *command],
            cwd=pytestconfig.rootpath,
            capture_output=True,
            text=True,
            timeout=90,
        )

    return run


def test_root_needs_no_user_namespaces(elsewhere):
    up = ["up", "lab:aws-calico", "--name", "rooted", "--regions", "2", "--nodes", "1", "--pods", "0"]
    try:
        done = elsewhere(WITHOUT_USER_NAMESPACES, *up)
    finally:
        down = elsewhere("", "down", "rooted")

    assert done.returncode == 0, done.stderr
    assert down.returncode == 0, down.stderr


def test_a_machine_that_allows_nothing_is_told_apart_and_the_reader_told_what_to_do(elsewhere):
    done = elsewhere(WITHOUT_USER_NAMESPACES + WITHOUT_RIGHTS, "up", "lab:aws-calico", "--name", "nowhere")

    assert done.returncode == 4
    assert "does not let the lab make its network namespaces" in done.stderr
    assert "allow user namespaces, or run as root" in done.stderr
    assert "nowhere" not in elsewhere("", "list").stdout


def test_missing_tools_are_named_with_their_packages(monkeypatch, tmp_path):
    for tool in ("unshare", "nsenter", "ip", "nft", "dnsmasq", "pdns_recursor"):
        (tmp_path / tool).touch(mode=0o755)
    monkeypatch.setattr("provision.lab.host.search_path", lambda: os.fspath(tmp_path))

    with pytest.raises(LabUnavailableError, match="not installed: bird, ping") as refusal:
        isolation.__wrapped__()
    assert "apt-get install bird2 iputils-ping" in str(refusal.value)
