"""Outages are judged wherever their facts are: here, in a recording of a database in memory that lost its regions."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from xml.etree import ElementTree

import pytest

from analysis.facts import POSTGRESQL, Database, Placement, Replica
from analysis.fleet import Capability, ClusterHandle, Fleet, OutageMode
from fixtures.run import write_text
from fixtures.serial import to_json
from fixtures.survival.conduct import Campaign
from fixtures.survival.experiments import programme
from fixtures.survival.store import Experiments
from fixtures.verdicts import RequirementInconclusive
from tests.unit.fixtures.survival.double import PLAN, REGIONS, MemoryDatabase, stage

PROJECT = Path(__file__).parents[2]
WHOLE = Placement("instance", "instance", tuple(Replica(f"cockroachdb-0.{region}", region, True) for region in REGIONS))


@pytest.fixture
def judged(tmp_path):
    """Records all outages of a run on a database with these quirks, and judges the recording."""

    def judge(*quirks):
        recording = tmp_path / "recording"
        facts = recording / "facts"
        facts.mkdir(parents=True)
        clusters = tuple(ClusterHandle(region, "", region) for region in REGIONS)
        modes = frozenset(OutageMode)
        fleet = Fleet(PLAN, "double", clusters, frozenset(Capability), outage_modes=modes)
        write_text(recording / "fleet.json", to_json(fleet))
        write_text(
            facts / "database.json",
            to_json(Database(POSTGRESQL, "18.6", REGIONS, synchronous=True, placement=(WHOLE,))),
        )
        database = MemoryDatabase(*quirks)
        scene = stage(tmp_path / "histories", database)
        needed = programme(PLAN, modes, everything=False)

        @contextmanager
        def campaign(wanted):
            with Campaign(scene, wanted) as going:
                yield going.conduct

        experiments = Experiments(facts, needed, campaign)
        for experiment in needed:
            with suppress(RequirementInconclusive):
                experiments.read(experiment)
        command = [sys.executable, "-m", "pytest", "suites/survival", "-q", "-p", "no:cacheprovider", "-n", "0"]
        done = subprocess.run(
            [*command, f"--reports={tmp_path}", "--replay", str(recording)], cwd=PROJECT, capture_output=True, text=True
        )
        run = tmp_path / "latest"
        report = json.loads((run / "compliance.json").read_text(encoding="utf-8"))
        verdicts = {row["id"]: row["verdict"] for row in report["requirements"] if row["tests"]}
        reasons = {row["id"]: row["reason"] for row in report["requirements"] if row["tests"]}
        return run, report, verdicts, reasons, done.stdout

    return judge


def test_a_database_that_survives_is_met_with_figures_tables_and_times(judged):
    run, report, verdicts, reasons, told = judged()
    assert set(verdicts.values()) <= {"met"}, (reasons, told)
    names = [outage["name"] for outage in report["outages"]]
    assert names == ["control-plane-primary", "routing-primary", *(f"pods-{region}" for region in REGIONS),
                     "isolation-primary", "two-regions", "pod-each"]  # fmt: skip
    for outage in report["outages"]:
        assert len(outage["service"]) == 2 * len(REGIONS)
        figure, table = (run / file for file in outage["files"])
        assert ElementTree.parse(figure).getroot().tag.endswith("svg")
        with table.open(encoding="utf-8") as rows:
            assert len(list(csv.DictReader(rows))) > 50
    page = (run / "compliance.md").read_text(encoding="utf-8")
    assert "[isolation-primary](survival/isolation-primary.svg)" in page
    evidence = next(row["evidence"] for row in report["requirements"] if row["id"] == "DB-SURV-003")
    assert {Path(record["path"]).name for record in evidence} >= {
        "isolation-primary.svg",
        "outage-isolation-primary.json",
    }


@pytest.mark.parametrize(
    ("quirk", "requirement"),
    [
        ("split brain", "DB-SURV-003"),
        ("keeps ready", "DB-SURV-003"),
        ("loses what was acknowledged", "DB-SURV-005"),
        ("never whole again", "DB-SURV-004"),
    ],
)
def test_what_a_database_does_wrong_is_seen(judged, quirk, requirement):
    _, _, verdicts, reasons, told = judged(quirk)
    assert verdicts[requirement] == "violated", (reasons, told)
