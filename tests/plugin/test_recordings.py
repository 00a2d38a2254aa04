"""The recordings of this project are still judged as they were when they were made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("profile", ["aws-calico", "azure-cilium"])
def test_an_unharmed_lab_is_met_wherever_it_can_be_judged(profile, tmp_path):
    command = [sys.executable, "-m", "pytest", "suites", "-q", "-p", "no:cacheprovider", f"--reports={tmp_path}"]
    done = subprocess.run(
        [*command, "--replay", f"tests/recordings/{profile}"], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "latest" / "compliance.json").read_text(encoding="utf-8"))
    assert report["environment"]["profile"] == profile
    assert report["counts"]["met"] > 30
    assert report["counts"]["violated"] == report["counts"]["inconclusive"] == 0
