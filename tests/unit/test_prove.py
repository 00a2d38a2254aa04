"""What the proof says of its trials, and how it shares the faults out among labs."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from analysis.rootcause import Layer
from provision.faults import Fault
from tools import proof
from tools.proof import Past, Record, Revision, Trial

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def prove() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module("prove")
    finally:
        sys.path.remove(str(TOOLS))


def fault(name: str, requirement: str = "NET-POD-001") -> Fault:
    return Fault(name, f"{name} is broken", Layer.POLICY, requirement, (), lambda _: True, frozenset({"NET-POD-005"}))


def test_each_profile_has_its_own_figures_and_gaps() -> None:
    trials = [
        Trial(fault("a"), "aws-calico", killed=True, verdicts={"NET-POD-001": "violated"}, layer_named="policy"),
        Trial(
            fault("b", "NET-POD-002"),
            "azure-cilium",
            verdicts={"NET-POD-004": "inconclusive"},
            unexpected=("NET-POD-004",),
        ),
    ]
    unharmed = {
        ("aws-calico", False): {"NET-POD-001"},
        ("aws-calico", True): {"NET-POD-003"},
        ("azure-cilium", False): {"NET-POD-001", "NET-POD-002"},
    }
    data = proof.as_data(trials, unharmed, 12.34)
    assert (data["kill_rate"], data["false_alarms"], data["seconds"]) == (0.5, 1, 12.3)
    assert data["profiles"]["aws-calico"] == {
        "tried": 1,
        "kill_rate": 1.0,
        "false_alarms": 0,
        "layers_right": 1.0,
        "uncovered": ["NET-POD-003"],
    }
    assert data["profiles"]["azure-cilium"]["uncovered"] == ["NET-POD-001", "NET-POD-002"]
    assert data["uncovered"] == ["NET-POD-001", "NET-POD-002", "NET-POD-003"]
    assert data["layers_right"] == 0.5
    page = proof.as_markdown(trials, data)
    assert "names the layer of 1 of 2 faults (50%)" in page
    assert "| policy | the same |" in page
    assert "| policy | NONE |" in page
    assert page.index("## aws-calico") < page.index("| a |") < page.index("## azure-cilium") < page.index("| b |")


def test_a_trial_is_flawless_only_if_killed_without_false_alarm_and_without_trouble() -> None:
    assert Trial(fault("a"), "aws-calico", killed=True).flawless
    assert not Trial(fault("a"), "aws-calico").flawless
    assert not Trial(fault("a"), "aws-calico", killed=True, unexpected=("NET-POD-004",)).flawless
    assert not Trial(fault("a"), "aws-calico", killed=True, error="the lab did not heal").flawless


def test_labs_go_where_most_is_waiting_and_only_the_first_of_a_profile_looks_at_it_unharmed(prove: ModuleType) -> None:
    backlog = prove.Backlog({"aws-calico": [fault(f"a{n}") for n in range(6)], "azure-cilium": [fault("b")]})
    assert [backlog.join() for _ in range(3)] == [("aws-calico", True), ("aws-calico", False), ("aws-calico", False)]
    backlog.give_up("aws-calico")
    assert backlog.join() == ("azure-cilium", True)
    assert backlog.take("azure-cilium").name == "b"
    assert backlog.take("azure-cilium") is None
    assert backlog.join() is None


NOW = Revision("c0ffee", "this-code")


def written(folder: Path) -> dict[str, dict[str, Any]]:
    data = json.loads((folder / "proof.json").read_text())
    return {entry["name"]: entry for entry in data["faults"]}


def test_every_trial_is_on_the_disk_as_soon_as_it_was_held(tmp_path: Path) -> None:
    record = Record(tmp_path, {"aws-calico": [fault("a"), fault("b")]}, NOW)
    record.add(Trial(fault("a"), "aws-calico", killed=True, unlooked=("NET-ROUTE-017",)))
    entries = written(tmp_path)
    assert (entries["a"]["killed"], entries["a"]["tries"], entries["a"]["commit"]) == (True, 1, "c0ffee")
    assert entries["a"]["not_looked_at"] == ["NET-ROUTE-017"]
    assert (entries["b"]["killed"], entries["b"]["tries"]) == (False, 0)
    assert entries["b"]["error"].startswith("not tried")
    assert "1 of 2 faults were planted, 1 killed" in (tmp_path / "proof.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"proof.json", "proof.md"}


def test_a_proof_goes_on_where_it_was_broken_off_and_tells_of_each_try(tmp_path: Path) -> None:
    catalogues = {"aws-calico": [fault("a"), fault("b"), fault("c")]}
    broken_off = Record(tmp_path, catalogues, NOW)
    broken_off.add_unharmed(("aws-calico", False), {"NET-POD-001"})
    broken_off.add(Trial(fault("a"), "aws-calico", killed=True, verdicts={"NET-POD-001": "violated"}))
    broken_off.add(Trial(fault("b"), "aws-calico", error="the lab did not heal"))

    record = Record(tmp_path, catalogues, NOW, proof.read(tmp_path, catalogues, NOW.code, narrow=False))
    assert [name for name in "abc" if not record.clean("aws-calico", fault(name))] == ["b", "c"]
    assert record.knows_unharmed(("aws-calico", False))
    assert not record.knows_unharmed(("aws-calico", True))
    record.add(Trial(fault("b"), "aws-calico", killed=True, verdicts={"NET-POD-001": "violated"}))
    entries = written(tmp_path)
    assert entries["a"]["tries"] == 1
    assert (entries["b"]["killed"], entries["b"]["tries"]) == (True, 2)
    assert entries["b"]["earlier"] == ["survived, the lab did not heal"]
    assert "- b (aws-calico): survived, the lab did not heal; then killed" in (tmp_path / "proof.md").read_text()


@pytest.mark.parametrize(("code", "narrow"), [("other-code", False), ("this-code", True)])
def test_what_other_code_or_a_narrower_look_found_is_tried_anew(tmp_path: Path, code: str, narrow: bool) -> None:
    catalogues = {"aws-calico": [fault("a")]}
    Record(tmp_path, catalogues, NOW).add(Trial(fault("a"), "aws-calico", killed=True))
    assert not proof.read(tmp_path, catalogues, code, narrow=narrow).trials


def test_results_of_other_code_count_when_told_so_and_keep_its_name(tmp_path: Path) -> None:
    catalogues = {"aws-calico": [fault("a")]}
    killed = Trial(fault("a"), "aws-calico", killed=True, verdicts={"NET-POD-001": "violated"})
    Record(tmp_path, catalogues, NOW).add(killed)
    past = proof.read(tmp_path, catalogues, None, narrow=False)
    Record(tmp_path, catalogues, Revision("beef", "later-code"), past).write()
    assert written(tmp_path)["a"]["commit"] == "c0ffee"
    assert written(tmp_path)["a"]["killed"]


def test_there_is_nothing_to_go_on_with_at_first(tmp_path: Path) -> None:
    assert proof.read(tmp_path, {}, None, narrow=False) == Past()


def test_a_file_that_is_no_proof_is_named(tmp_path: Path) -> None:
    (tmp_path / "proof.json").write_text('{"faults": [{}]}')
    with pytest.raises(ValueError, match=r"proof\.json is no proof"):
        proof.read(tmp_path, {}, None, narrow=False)


def test_code_that_is_in_no_commit_makes_another_revision(tmp_path: Path) -> None:
    (tmp_path / "probes").mkdir()
    module = tmp_path / "probes" / "client.py"
    module.write_text("before")
    before = proof.revision_of(tmp_path)
    (tmp_path / "README.md").write_text("no code")
    assert proof.revision_of(tmp_path) == before
    module.write_text("after")
    assert proof.revision_of(tmp_path).code != before.code
