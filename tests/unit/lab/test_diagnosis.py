"""The diagnosis of every fault that was tried: what turned in a trial leads to the layer that the fault sits in.

`what_turned.json` has, by profile and fault, the requirements that a trial found violated, with `@layer` where the
judge said where it sees the trouble. `tools/prove.py` tries the faults themselves.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.rootcause import Layer, Violation, root_cause
from provision.lab.faults import CATALOGUES

TURNED: dict[str, dict[str, list[str]]] = json.loads(Path(__file__).with_name("what_turned.json").read_text())
LEAST = 0.95


def named(turned: list[str]) -> Layer | None:
    """The layer that the diagnosis names first."""
    split = (text.partition("@") for text in turned)
    cause = root_cause([Violation(requirement, Layer(layer) if layer else None) for requirement, _, layer in split])
    return cause.layer if cause else None


@pytest.mark.parametrize("profile", sorted(TURNED))
def test_the_diagnosis_names_the_layer_of_the_fault(profile: str) -> None:
    layers = {fault.name: fault.layer for fault in CATALOGUES[profile]()}
    tried = {name: turned for name, turned in TURNED[profile].items() if name in layers}
    wrong = {
        name: f"{layers[name].value}, not {told.value if told else 'nothing'}"
        for name, turned in tried.items()
        if (told := named(turned)) is not layers[name]
    }
    assert len(tried) > 50
    assert len(wrong) <= (1 - LEAST) * len(tried), wrong
