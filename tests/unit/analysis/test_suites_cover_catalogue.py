"""Checks and catalogue agree: no check speaks of an unknown requirement, and none of these areas has a hole."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from analysis.catalogue import PROFILES, parse_catalogue
from analysis.fleet import Capability

SUITES = Path(__file__).parents[3] / "suites"
COVERED_AREAS = ("NET-ADDR", "NET-ROUTE", "NET-POD", "NET-POL", "MESH-CP", "DB-FORM")
NOT_OFFERED = {"aws-calico": {"tunnel-map"}, "azure-cilium": {"bgp"}}
"""Capabilities that no environment of a profile has."""

WITHOUT_CHECK = {
    ("NET-ROUTE-020", "aws-calico"),  # Typha's federation of identities can only be seen with a tool of the vendor's
    ("MESH-CP-018", "aws-calico"),  # likewise its federated services
}


def catalogue():
    return parse_catalogue(yaml.safe_load((SUITES / "requirements.yaml").read_text()))


def checks():
    """Name, docstring, requirement and needs of every check, read without importing it."""
    for path in sorted(SUITES.glob("*/test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = {"pytest.mark.requirement": [], "pytest.mark.needs": []}
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) in marks:
                        marks[ast.unparse(mark.func)] += [argument.value for argument in mark.args]
                name = f"{path.relative_to(SUITES)}::{node.name}"
                yield name, ast.get_docstring(node), marks["pytest.mark.requirement"], set(marks["pytest.mark.needs"])


def test_every_check_speaks_of_one_known_requirement():
    known = {requirement.id for requirement in catalogue().requirements}
    for name, _, marks, _ in checks():
        assert len(marks) == 1, name
        assert marks[0] in known, name


def test_every_check_promises_what_the_catalogue_says():
    titles = {requirement.id: requirement.title for requirement in catalogue().requirements}
    for name, docstring, (requirement,), _ in checks():
        assert docstring == titles[requirement], name


@pytest.mark.parametrize("profile", PROFILES)
def test_every_requirement_of_these_areas_has_a_check_for_each_profile_it_speaks_about(profile):
    missing, found = set(), list(checks())
    for requirement in catalogue().requirements:
        needs = {capability.value for capability in requirement.needs}
        if requirement.area not in COVERED_AREAS or profile not in requirement.profiles or needs & NOT_OFFERED[profile]:
            continue
        if not any(marks == [requirement.id] and not wanted & NOT_OFFERED[profile] for _, _, marks, wanted in found):
            missing.add((requirement.id, profile))
    assert missing == {(requirement, spoken) for requirement, spoken in WITHOUT_CHECK if spoken == profile}


def test_checks_need_capabilities_that_there_are():
    known = {capability.value for capability in Capability}
    for name, _, _, needs in checks():
        assert needs <= known, name


def test_checks_do_not_ask_which_cni_or_provider_it_is():
    for path in sorted(SUITES.glob("*/test_*.py")):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not names & {"cni", "provider", "profile"}, path
