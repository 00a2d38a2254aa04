"""The catalogues of faults agree with the catalogue of requirements, and leave few checks unproven."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from analysis.catalogue import parse_catalogue
from provision.lab.faults import CATALOGUES

ROOT = Path(__file__).parents[3]
CATALOGUE = {profile: faults() for profile, faults in CATALOGUES.items()}
FAULTS = [pytest.param(fault, id=f"{profile}-{fault.name}") for profile in CATALOGUE for fault in CATALOGUE[profile]]
NOT_OFFERED = {"aws-calico": {"tunnel-map"}, "azure-cilium": {"bgp"}}
OF_THE_DATABASE = {
    "DB-FORM-005",
    "DB-FORM-006",
    "DB-FORM-007",
    "DB-FORM-013",
}
UNPROVEN = {
    "aws-calico": {"NET-MTU-007", "NET-POL-018", *OF_THE_DATABASE},
    "azure-cilium": {"NET-ROUTE-017", "NET-ROUTE-021", *OF_THE_DATABASE},
}
"""Checked, and not broken by any fault; docs/proof.md says why."""


@pytest.fixture(scope="module")
def requirements():
    return parse_catalogue(yaml.safe_load((ROOT / "suites/requirements.yaml").read_text()))


def checked(profile, requirements):
    """The requirements that have a check which a lab of that profile lets run."""
    for path in sorted((ROOT / "suites").glob("*/test_*.py")):
        for node in ast.parse(path.read_text()).body:
            marks = [mark for mark in getattr(node, "decorator_list", ()) if isinstance(mark, ast.Call)]
            told = {ast.unparse(mark.func).rpartition(".")[2]: [each.value for each in mark.args] for mark in marks}
            for requirement in map(requirements.get, told.get("requirement", ())):
                needs = {*told.get("needs", ()), *(capability.value for capability in requirement.needs)}
                if profile in requirement.profiles and not needs & NOT_OFFERED[profile]:
                    yield requirement.id


def test_there_are_enough_of_them():
    assert sum(len(faults) for faults in CATALOGUE.values()) >= 45


@pytest.mark.parametrize("profile", CATALOGUE)
def test_names_are_unique(profile):
    names = [fault.name for fault in CATALOGUE[profile]]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_requirements_that_exist(fault, requirements):
    for requirement in {fault.requirement, *fault.follows}:
        requirements.get(requirement)
    assert fault.steps


@pytest.mark.parametrize("profile", CATALOGUE)
def test_a_fault_breaks_what_is_checked(profile, requirements):
    assert {fault.requirement for fault in CATALOGUE[profile]} <= set(checked(profile, requirements))


@pytest.mark.parametrize("profile", CATALOGUE)
def test_every_check_has_a_fault_of_its_own_but_for_the_known_few(profile, requirements):
    proven = {fault.requirement for fault in CATALOGUE[profile]}
    assert set(checked(profile, requirements)) - proven == UNPROVEN[profile]


def test_the_page_about_the_proof_names_what_is_unproven():
    page = (ROOT / "docs/proof.md").read_text()
    assert all(requirement in page for unproven in UNPROVEN.values() for requirement in unproven)
