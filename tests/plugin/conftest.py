"""A small project around the plugins: a catalogue, a template, a double in the environment's place."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2  # noqa: F401 - a run in this process forgets what it imported: these two are dear
import pydantic  # noqa: F401
import pytest

PROJECT = Path(__file__).parents[2]

CATALOGUE = """
NET-ADDR:
  name: Addressing plan
  requirements:
    NET-ADDR-001: {title: Networks do not overlap., severity: blocker}
    NET-ADDR-002: {title: Subnets are inside., severity: critical}
    NET-ADDR-003: {title: Pod ranges do not overlap., severity: blocker}
NET-ROUTE:
  name: Route exchange
  requirements:
    NET-ROUTE-005: {title: Sessions are up., severity: critical, needs: [bgp]}
    NET-ROUTE-008: {title: Every block has a route., severity: critical}
    NET-ROUTE-021: {title: Routes come back., severity: normal, needs: [disruption]}
NET-POD:
  name: Reachability
  requirements:
    NET-POD-001: {title: Pods answer., severity: blocker}
    NET-POD-013: {title: Throughput is fair., severity: minor, level: should}
"""

CONFTEST = """
import sys
from pathlib import Path

import pytest

from analysis.fleet import Capability

sys.path.insert(0, {tests!r})
{plugins}

@pytest.hookimpl
def pytest_meshproof_source(config):
    if config.option.replay or config.option.env:
        return None
    from double import DoubleSource

    return DoubleSource(Path({log!r}), **{settings})
"""

HEAD = """
import os
import pytest
from analysis.fleet import Capability
from analysis.verdict import Finding, Outcome, Verdict, conclude, not_applicable

def met():
    return conclude(expected="two things are right", examined=2)

def violated(number=1):
    wrong = [Finding(f"us-east-1/node-{k}", "192.168.0.0/26", "10.9.9.0/26", "a typing error") for k in range(number)]
    return conclude(expected="every node has its block", examined=number, violations=wrong)

def unclear():
    return conclude(expected="every node answers", examined=0, what="nodes")
"""


@dataclass
class Project:
    """A project in a folder of its own, and what its runs leave there."""

    pytester: pytest.Pytester
    log: Path

    def settings(self, text: str = "{}") -> None:
        """What the double is told, as a Python dictionary display."""
        plugins = (PROJECT / "conftest.py").read_text(encoding="utf-8")
        self.pytester.makeconftest(
            CONFTEST.format(tests=str(Path(__file__).parent), plugins=plugins, log=str(self.log), settings=text)
        )

    def suite(self, body: str, name: str = "addressing/test_it.py") -> None:
        path = self.pytester.path / "suites" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEAD + body, encoding="utf-8")

    def run(self, *args: str, apart: bool = False) -> pytest.RunResult:
        """Run pytest in this process, or apart in its own where workers or signals are the subject."""
        run = self.pytester.runpytest_subprocess if apart else self.pytester.runpytest_inprocess
        return run("-p", "no:cacheprovider", *args)

    @property
    def events(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []

    @property
    def folder(self) -> Path:
        return self.pytester.path / "reports" / "latest"

    @property
    def compliance(self) -> dict[str, Any]:
        return json.loads((self.folder / "compliance.json").read_text(encoding="utf-8"))

    def row(self, requirement: str) -> dict[str, Any]:
        return next(row for row in self.compliance["requirements"] if row["id"] == requirement)

    def verdict(self, requirement: str) -> str:
        return self.row(requirement)["verdict"]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(pytester.path))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    # These tests may run in a worker themselves; what they start does not.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    shutil.copy(PROJECT / "pytest.ini", pytester.path / "pytest.ini")
    shutil.copytree(PROJECT / "reports" / "templates", pytester.path / "reports" / "templates")
    (pytester.path / "suites").mkdir()
    (pytester.path / "suites" / "requirements.yaml").write_text(CATALOGUE, encoding="utf-8")
    made = Project(pytester, pytester.path / "events.log")
    made.settings()
    return made
