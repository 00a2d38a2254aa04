"""Attaching to clusters that are there: the suites say the same as when the lab is asked as a lab."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[2]

LAB_ONLY = "this environment does not offer"


def verdicts(environment, reports):
    """The verdicts and reasons of the addressing suite on that environment."""
    command = [sys.executable, "-m", "pytest", "suites/addressing", "-q", "-p", "no:cacheprovider", "-n", "0"]
    run = subprocess.run(
        [*command, "--env", str(environment), "--reports", str(reports)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    rows = json.loads((reports / "latest" / "compliance.json").read_text())["requirements"]
    return {row["id"]: (row["verdict"], row["reason"]) for row in rows if row["tests"]}


def test_attach_gives_the_same_verdicts(lab, tmp_path):
    described = yaml.safe_load(lab.folder.environment.read_text())
    del described["provider"]
    attached = tmp_path / "attached.yaml"
    attached.write_text(yaml.safe_dump(described))

    by_attach = verdicts(attached, tmp_path / "by-attach")
    by_lab = verdicts(lab.folder.environment, tmp_path / "by-lab")

    assert by_attach.keys() == by_lab.keys()
    for requirement, (verdict, reason) in by_attach.items():
        if verdict == "not-applicable":
            assert LAB_ONLY in reason
        else:
            assert verdict == by_lab[requirement][0] == "met"
