"""What a person at a terminal sees, and what a log file is spared."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

pytest_plugins = ["pytester"]

SLOW = """
@pytest.mark.requirement("NET-ADDR-001")
def test_it(facts, require):
    assert facts.inventory.nodes
    require(met())
"""


def test_a_terminal_is_kept_company(project):
    project.settings("{'slow': 2}")
    project.suite(SLOW)
    screen = _on_a_terminal(project, "-p", "no:cacheprovider")
    assert "environment: double (nothing real)" in screen
    assert "double: nothing" in screen
    assert "gathering facts: inventory …" in screen
    assert "stand-ins: encapsulation: VXLAN for IPIP" in screen
    assert "1 met" in screen


def test_a_log_is_not_filled_with_progress(project):
    project.suite(SLOW)
    result = project.run(apart=True)
    result.stdout.fnmatch_lines(["double is up after * s: 3 regions (us-east-1, us-east-2, us-west-1)"])
    result.stdout.no_fnmatch_line("*gathering*")
    assert "\x1b" not in result.stdout.str()


def _on_a_terminal(project, *args):
    """The screen of a run whose standard output is a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *args],
        cwd=project.pytester.path,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    screen = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # Linux says so when the other side is closed
            break
        if not chunk:
            break
        screen += chunk
    os.close(ours)
    assert process.wait() == 0
    return screen.decode(errors="replace")
