"""What the measurements say, and what they say of mistakes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module("bench")
    finally:
        sys.path.remove(str(TOOLS))


def test_every_figure_is_measured_once(bench: ModuleType) -> None:
    assert [key for experiment in bench.EXPERIMENTS for key in experiment.keys] == list(bench.FIGURES)


def test_the_data_holds_medians_and_the_machine(bench: ModuleType) -> None:
    taken = {"aws-calico": bench.Taken({"lab_up_s": [4.0, 2.5, 3.0], "probes_per_s": [6000.4]})}
    data = bench.as_data(taken, {"cores": 2})
    assert data == {"lab_up_s": 3.0, "probes_per_s": 6000, "profiles": {}, "growth": {}, "machine": {"cores": 2}}


def test_other_profiles_and_stages_stand_beside_the_figures(bench: ModuleType) -> None:
    size = bench.Size(regions=2, nodes=3, per_node=4)
    taken = {
        "aws-calico": bench.Taken({"lab_up_s": [3.0]}, {size: {"facts_s": [1.0, 3.0], "execs": [90.0]}}),
        "azure-cilium": bench.Taken({"lab_up_s": [5.0]}),
    }
    data = bench.as_data(taken, {})
    assert (data["lab_up_s"], data["profiles"]) == (3.0, {"azure-cilium": {"lab_up_s": 5.0}})
    point = {"regions": 2, "nodes": 6, "pods": 24, "facts_s": 2.0, "execs": 90}
    assert data["growth"] == {"aws-calico": [point]}
    assert "| 2       | 6     | 24   | 2.0     | 90.0  |" in bench.as_markdown(taken, {})


def test_other_profiles_leave_out_what_tells_nothing_new(bench: ModuleType) -> None:
    keys = {key for experiment in bench.chosen(None, first=False) for key in experiment.keys}
    assert keys == set(bench.FIGURES) - {"agent_vs_exec", "suite_n0_s"}
    assert [experiment.keys for experiment in bench.chosen(["suite_n0_s"], first=False)] == [("suite_n0_s",)]


def test_the_table_tells_which_budgets_are_kept(bench: ModuleType) -> None:
    samples = {"lab_up_s": [3.5], "lab_down_s": [0.2], "probes_per_s": [12_000.0], "mesh_27_s": [1.0]}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in bench.as_table(samples).splitlines()]
    kept = {row[0]: row[-1] for row in rows[2:]}
    assert kept == {"lab_up_s": "NO", "lab_down_s": "yes", "probes_per_s": "yes", "mesh_27_s": "-"}


@pytest.mark.parametrize("arguments", [["--only", "lab_upp"], ["--runs", "0"], ["--fast"], ["--profile", "gcp"]])
def test_a_mistake_is_told_in_a_line(
    bench: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(arguments)
    assert ended.value.code == 4
    assert len(capsys.readouterr().err.splitlines()) == 1
