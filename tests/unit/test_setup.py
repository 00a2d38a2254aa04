"""Set-up installs what changed and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FAKE_PYTHON = """\
#!/bin/sh
[ "$1" = -c ] && exit 0
echo "$@" >>"$(dirname "$0")/../../calls"
[ ! -e "$(dirname "$0")/../../offline" ]
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose virtual environment has a Python that only notes what it is asked to do."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "setup.sh", tmp_path / "tools")
    (tmp_path / "requirements.txt").write_text("a==1\n")
    (tmp_path / "requirements-dev.txt").write_text("b==1\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    return tmp_path


def set_up(checkout: Path, *arguments: str) -> tuple[int, list[str]]:
    """Run set-up; its exit code and what it had pip do."""
    calls = checkout / "calls"
    calls.unlink(missing_ok=True)
    # All system tools are there, whatever this machine has, so that nothing is installed on it.
    tools = checkout / "bin"
    tools.mkdir(exist_ok=True)
    for name in ("ip", "nft", "bird", "birdc", "ping", "dnsmasq", "pdns_recursor", "unshare", "nsenter", "setpriv"):
        (tools / name).touch(mode=0o755)
    done = subprocess.run(
        [checkout / "tools" / "setup.sh", *arguments],
        env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return done.returncode, calls.read_text().splitlines() if calls.exists() else []


def test_a_second_run_installs_nothing(checkout: Path) -> None:
    code, calls = set_up(checkout, "--dev")
    assert code == 0
    assert [call.rpartition(" ")[2] for call in calls] == ["requirements.txt", "requirements-dev.txt"]
    assert set_up(checkout, "--dev") == (0, [])


def test_verifying_needs_no_development_tools(checkout: Path) -> None:
    _, calls = set_up(checkout)
    assert [call.rpartition(" ")[2] for call in calls] == ["requirements.txt"]


def test_a_changed_pin_is_installed(checkout: Path) -> None:
    set_up(checkout, "--dev")
    (checkout / "requirements-dev.txt").write_text("b==2\n")
    _, calls = set_up(checkout, "--dev")
    assert [call.rpartition(" ")[2] for call in calls] == ["requirements-dev.txt"]


def test_an_installation_that_failed_is_tried_again(checkout: Path) -> None:
    (checkout / "offline").touch()
    code, calls = set_up(checkout)
    assert (code != 0, len(calls)) == (True, 1)
    (checkout / "offline").unlink()
    code, calls = set_up(checkout)
    assert (code, len(calls)) == (0, 1)


def test_every_installed_package_is_pinned() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = [line.partition("#")[0].partition(";")[0].strip() for line in (ROOT / name).read_text().splitlines()]
        assert [line for line in lines if line and line.count("==") != 1] == []
