"""However a run of the suites ends, its lab ends with it."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from provision.environment import lab_environment

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def small_run(home, tmp_path):
    """Begin to verify a small lab of one's own, in a copy of the project's suites; gives back the process."""
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy(PROJECT / name, tmp_path / name)
    shutil.copytree(PROJECT / "suites", tmp_path / "suites")
    shutil.copytree(PROJECT / "reports" / "templates", tmp_path / "reports" / "templates")
    environment = tmp_path / "small.yaml"
    environment.write_text(lab_environment("aws-calico", name="small", regions=2, nodes=2).to_yaml())
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", "--env", str(environment)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(("ending", "exit_code"), [(signal.SIGTERM, 2), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_run_that_is_ended_takes_its_lab_with_it(small_run, tmp_path, ending, exit_code):
    for line in small_run.stdout:
        if line.startswith("small is up after"):
            break
    assert _processes_of(tmp_path / "reports")

    small_run.send_signal(ending)

    small_run.communicate()
    assert small_run.returncode == exit_code
    assert _in_the_end(tmp_path / "reports") == []
    if ending != signal.SIGKILL:
        assert (tmp_path / "reports" / "latest" / "compliance.json").is_file()


@retry(
    retry=retry_if_result(bool),
    wait=wait_fixed(0.05),
    stop=stop_after_delay(5),
    retry_error_callback=lambda state: state.outcome.result(),
)
def _in_the_end(reports):
    return _processes_of(reports)


def _processes_of(reports):
    """Command lines that name a folder of the run: the lab's processes do."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if f"{reports}/" in command:
                    found.append(command)
    return found
