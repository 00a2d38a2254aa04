"""The catalogue is whole, and says clearly what is wrong with a bad entry."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from analysis.catalogue import CatalogueError, Level, parse_catalogue
from analysis.fleet import Capability

CATALOGUE_FILE = Path(__file__).parents[3] / "suites" / "requirements.yaml"


@pytest.fixture(scope="module")
def catalogue():
    return parse_catalogue(yaml.safe_load(CATALOGUE_FILE.read_text()))


def test_every_requirement_is_there_once(catalogue):
    assert len(catalogue.requirements) == 191
    assert len({requirement.id for requirement in catalogue.requirements}) == 191
    assert Counter(requirement.area for requirement in catalogue.requirements) == {
        "NET-ADDR": 13,
        "NET-UNDR": 20,
        "NET-ROUTE": 21,
        "NET-POD": 14,
        "NET-MTU": 11,
        "NET-DNS": 19,
        "DB-FORM": 23,
        "DB-SURV": 14,
        "NET-POL": 22,
        "SEC-TLS": 15,
        "MESH-CP": 19,
    }


def test_numbers_run_on_without_holes(catalogue):
    for area in {requirement.area for requirement in catalogue.requirements}:
        numbers = [int(item.id.rpartition("-")[2]) for item in catalogue.requirements if item.area == area]
        assert numbers == list(range(1, len(numbers) + 1))


def test_titles_are_sentences_of_their_own(catalogue):
    titles = [requirement.title for requirement in catalogue.requirements]
    assert len(set(titles)) == len(titles)
    assert all(title[0].isupper() and title.endswith(".") for title in titles)


def test_a_requirement_of_another_profile_does_not_apply(catalogue):
    reason = catalogue.get("NET-ROUTE-019").inapplicable("aws-calico", set(Capability))
    assert reason == "says something about azure-cilium only, and this is aws-calico"


def test_a_missing_capability_is_named(catalogue):
    requirement = catalogue.get("NET-ROUTE-020")
    assert requirement.inapplicable("aws-calico", {Capability.BGP}) == "this environment does not offer: federation"
    assert requirement.inapplicable("aws-calico", set(Capability)) is None


def test_a_profile_of_ones_own_rules_nothing_out(catalogue):
    assert catalogue.get("NET-ROUTE-019").inapplicable("on-premises", set(Capability)) is None


def test_recommendations_are_told_from_obligations(catalogue):
    assert catalogue.get("NET-ROUTE-004").level is Level.SHOULD
    assert catalogue.get("NET-ROUTE-005").level is Level.MUST


def test_selection_by_area_and_by_id(catalogue):
    chosen = catalogue.select(["NET-POD", "NET-ADDR-003"])
    assert [item.id for item in chosen][:2] == ["NET-ADDR-003", "NET-POD-001"]
    assert len(chosen) == 15
    assert catalogue.select([]) == catalogue.requirements


def test_a_misspelt_id_gets_the_nearest_right_one(catalogue):
    with pytest.raises(CatalogueError, match="did you mean 'NET-ROUTE-008'"):
        catalogue.get("NET-ROUT-008")
    with pytest.raises(CatalogueError, match="did you mean 'NET-ROUTE'"):
        catalogue.select(["NET-ROUTES"])


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"severity": "minor"}, "NET-X-001: title is missing"),
        ({"title": "A."}, "NET-X-001: severity is missing"),
        ({"title": "A.", "severity": "bad"}, "NET-X-001: 'bad' is not a valid Severity"),
        ({"title": "A.", "severity": "minor", "needs": ["magic"]}, "NET-X-001: 'magic' is not a valid Capability"),
        ({"title": "A.", "severity": "minor", "profiles": ["gcp"]}, "profiles are aws-calico, azure-cilium, not gcp"),
        ({"title": "A.", "severity": "minor", "sevrity": "minor"}, "unknown field sevrity"),
    ],
)
def test_a_bad_entry_is_refused_with_its_id(entry, complaint):
    with pytest.raises(CatalogueError, match=complaint):
        parse_catalogue({"NET-X": {"name": "X", "requirements": {"NET-X-001": entry}}})


def test_an_entry_in_the_wrong_area_is_refused():
    entry = {"title": "A.", "severity": "minor"}
    with pytest.raises(CatalogueError, match="NET-Y-001 stands under NET-X"):
        parse_catalogue({"NET-X": {"name": "X", "requirements": {"NET-Y-001": entry}}})
