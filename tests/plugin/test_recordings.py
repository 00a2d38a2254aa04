"""The recordings of this project are still judged as they were when they were made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_an_unharmed_lab_is_met_wherever_it_can_be_judged(tmp_path):
    command = [sys.executable, "-m", "pytest", "suites", "-q", "-p", "no:cacheprovider", f"--reports={tmp_path}"]
    done = subprocess.run(
        [*command, "--replay", "tests/recordings/aws-calico"], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "latest" / "compliance.json").read_text(encoding="utf-8"))
    assert report["environment"]["name"] == "recorded"
    assert report["counts"]["met"] > 30
    assert report["counts"]["violated"] == report["counts"]["inconclusive"] == 0
