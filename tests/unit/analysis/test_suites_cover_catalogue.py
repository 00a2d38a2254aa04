"""Checks and catalogue agree: no check speaks of an unknown requirement, and none of these areas has a hole."""

from __future__ import annotations

import ast
from pathlib import Path

import yaml

from analysis.catalogue import parse_catalogue

SUITES = Path(__file__).parents[3] / "suites"
COVERED_AREAS = ("NET-ADDR", "NET-ROUTE", "NET-POD")
WITHOUT_CHECK = {
    "NET-ROUTE-019": "tunnel-map",  # the list of nodes that a Cilium agent keeps
    "NET-ROUTE-020": "federation",  # identities of the other clusters
}


def catalogue():
    return parse_catalogue(yaml.safe_load((SUITES / "requirements.yaml").read_text()))


def checks():
    """Name, docstring and requirement of every check, read without importing it."""
    for path in sorted(SUITES.glob("*/test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = [
                    mark.args[0].value
                    for mark in node.decorator_list
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.requirement"
                ]
                yield f"{path.relative_to(SUITES)}::{node.name}", ast.get_docstring(node), marks


def test_every_check_speaks_of_one_known_requirement():
    known = {requirement.id for requirement in catalogue().requirements}
    for name, _, marks in checks():
        assert len(marks) == 1, name
        assert marks[0] in known, name


def test_every_check_promises_what_the_catalogue_says():
    titles = {requirement.id: requirement.title for requirement in catalogue().requirements}
    for name, docstring, (requirement,) in checks():
        assert docstring == titles[requirement], name


def test_every_requirement_of_these_areas_has_a_check_or_a_capability_it_waits_for():
    checked = {requirement for _, _, (requirement,) in checks()}
    for requirement in catalogue().requirements:
        if requirement.area not in COVERED_AREAS or requirement.id in checked:
            continue
        waits_for = WITHOUT_CHECK[requirement.id]
        assert waits_for in {capability.value for capability in requirement.needs}


def test_checks_do_not_ask_which_cni_or_provider_it_is():
    for path in sorted(SUITES.glob("*/test_*.py")):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not names & {"cni", "provider", "profile"}, path
