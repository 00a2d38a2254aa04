"""The catalogue of faults agrees with the catalogue of requirements, and leaves few checks unproven."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from analysis.catalogue import parse_catalogue
from provision.lab.faults import CATALOGUES

ROOT = Path(__file__).parents[3]
FAULTS = CATALOGUES["aws-calico"]()
UNPROVEN: set[str] = set()
"""Checked, and not to be broken in a lab; docs/proof.md says why."""

NOT_CHECKED_HERE = {"NET-ROUTE-019", "NET-ROUTE-020"}


@pytest.fixture(scope="module")
def requirements():
    return parse_catalogue(yaml.safe_load((ROOT / "suites/requirements.yaml").read_text()))


def test_names_are_unique():
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 20


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_names_requirements_that_exist(fault, requirements):
    for requirement in {fault.requirement, *fault.follows}:
        requirements.get(requirement)
    assert fault.steps


def test_every_check_has_a_fault_of_its_own_but_for_the_known_few(requirements):
    checked = {each.id for each in requirements.select(["NET-ADDR", "NET-ROUTE", "NET-POD"])} - NOT_CHECKED_HERE
    assert checked - {fault.requirement for fault in FAULTS} == UNPROVEN


def test_the_page_about_the_proof_names_what_is_unproven():
    page = (ROOT / "docs/proof.md").read_text()
    assert all(requirement in page for requirement in UNPROVEN)
