"""Run the suites again and again without starting Python each time: a process that has everything imported, and forks.

Starting an interpreter and importing pytest, the Kubernetes client and the rest costs as much as many a run. The server
reads requests as JSON lines from its standard input, runs each in a process of its own, as `python -m pytest` would,
and answers with JSON lines: first the process, then its exit code and the processor time that it took.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

LIBRARIES = (
    "pytest",
    "_pytest.junitxml",
    "_pytest.skipping",
    "allure_pytest",
    "xdist.plugin",
    "pytest_timeout",
    "jinja2",
)
PACKAGES = ("analysis", "probes", "provision.providers")
"""Whose modules the runs need. Those with checks and fixtures are left for pytest, which rewrites their assertions."""


class SuitesTimeoutError(Exception):
    """A run took too long and was ended."""


@dataclass(frozen=True)
class Ended:
    """A run that came to its end.

    Attributes:
        code: its exit code.
        output: what it printed.
        cpu: processor time of the run itself, in seconds.
    """

    code: int
    output: str
    cpu: float


class SuiteServer:
    """A server and the way to it. It ends with whoever started it, and may be used by one thread at a time."""

    def __init__(self, scratch: Path) -> None:
        self._output = scratch / "output.txt"
        self._process = subprocess.Popen(
            [sys.executable, __file__], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._answers = b""

    def pytest(self, arguments: Sequence[str], within: timedelta) -> Ended:
        """Run pytest with those arguments, in the project's folder.

        Raises:
            SuitesTimeoutError: it did not end in time; it has been ended.
        """
        assert self._process.stdin is not None
        end = time.monotonic() + within.total_seconds()
        request = {"arguments": list(arguments), "output": str(self._output)}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        pid = self._answer(end)["pid"]
        try:
            ended = self._answer(end)
        except SuitesTimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            self._answer(time.monotonic() + within.total_seconds())
            raise
        return Ended(ended["code"], self._output.read_text(errors="replace"), ended["cpu"])

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self, end: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._answers:
                if not ready.select(max(0.0, end - time.monotonic())):
                    raise SuitesTimeoutError("the suites did not come to an end")
                said = os.read(self._process.stdout.fileno(), 1 << 16)
                if not said:
                    raise RuntimeError(f"the server of the suites ended with {self._process.wait()}")
                self._answers += said
        line, _, self._answers = self._answers.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def serve() -> None:
    """Answer requests until there are no more."""
    sys.path.insert(0, str(ROOT))
    _prepare()
    gc.collect()
    gc.freeze()  # what was imported is never looked at again, nor copied into every run for that
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(request)
        _say({"pid": pid})
        _, status, usage = os.wait4(pid, 0)
        _say({"code": os.waitstatus_to_exitcode(status), "cpu": usage.ru_utime + usage.ru_stime})


def _run(request: dict[str, Any]) -> None:
    """Be a run of pytest: this never returns."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except FileNotFoundError:  # whoever asked is gone, and has cleared up
        os._exit(3)
    for here, there in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(here, there)
    import pytest

    try:
        code = int(pytest.main(request["arguments"]))
    except BaseException as error:
        print(f"{type(error).__name__}: {error}")
        code = 3
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _prepare() -> None:
    """Import everything, and make what pods are sent: each run would do it again."""
    for name in LIBRARIES:
        importlib.import_module(name)
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    from probes.client import agent_program

    agent_program()


def _say(answer: dict[str, Any]) -> None:
    os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # whoever asked is gone
        serve()
