"""What the proof says of its trials, and how it shares the faults out among labs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from analysis.rootcause import Layer
from provision.faults import Fault

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


def test_each_profile_has_its_own_figures_and_gaps(prove: ModuleType) -> None:
    trials = [
        prove.Trial(fault("a"), "aws-calico", killed=True, verdicts={"NET-POD-001": "violated"}, layer_named="policy"),
        prove.Trial(
            fault("b", "NET-POD-002"),
            "azure-cilium",
            verdicts={"NET-POD-004": "inconclusive"},
            unexpected=("NET-POD-004",),
        ),
    ]
    checked = {"aws-calico": {"NET-POD-001", "NET-POD-003"}, "azure-cilium": {"NET-POD-001", "NET-POD-002"}}
    data = prove.as_data(trials, checked, 12.34)
    assert (data["kill_rate"], data["false_alarms"], data["seconds"]) == (0.5, 1, 12.3)
    assert data["profiles"]["aws-calico"] == {
        "kill_rate": 1.0,
        "false_alarms": 0,
        "layers_right": 1.0,
        "uncovered": ["NET-POD-003"],
    }
    assert data["profiles"]["azure-cilium"]["uncovered"] == ["NET-POD-001", "NET-POD-002"]
    assert data["uncovered"] == ["NET-POD-001", "NET-POD-002", "NET-POD-003"]
    assert data["layers_right"] == 0.5
    page = prove.as_markdown(trials, data)
    assert "names the layer of 1 of 2 faults (50%)" in page
    assert "| policy | the same |" in page
    assert "| policy | NONE |" in page
    assert page.index("## aws-calico") < page.index("| a |") < page.index("## azure-cilium") < page.index("| b |")


def test_a_trial_is_flawless_only_if_killed_without_false_alarm_and_without_trouble(prove: ModuleType) -> None:
    assert prove.Trial(fault("a"), "aws-calico", killed=True).flawless
    assert not prove.Trial(fault("a"), "aws-calico").flawless
    assert not prove.Trial(fault("a"), "aws-calico", killed=True, unexpected=("NET-POD-004",)).flawless
    assert not prove.Trial(fault("a"), "aws-calico", killed=True, error="the lab did not heal").flawless


def test_labs_go_where_most_is_waiting_and_only_the_first_of_a_profile_looks_at_it_unharmed(prove: ModuleType) -> None:
    backlog = prove.Backlog({"aws-calico": [fault(f"a{n}") for n in range(6)], "azure-cilium": [fault("b")]})
    assert [backlog.join() for _ in range(3)] == [("aws-calico", True), ("aws-calico", False), ("aws-calico", False)]
    backlog.give_up("aws-calico")
    assert backlog.join() == ("azure-cilium", True)
    assert backlog.take("azure-cilium").name == "b"
    assert backlog.take("azure-cilium") is None
    assert backlog.join() is None
