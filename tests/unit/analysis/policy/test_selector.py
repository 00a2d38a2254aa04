"""Calico's selectors mean what its documentation says."""

from __future__ import annotations

import pytest

from analysis.policy.selector import SelectorError, parse_selector
from analysis.policy.terms import Not
from tests.unit.analysis.policy.vectors import selector_vectors

REFLECTOR = {"route-reflector": "true", "kubernetes.io/os": "linux", "zone": "us-east-1a"}


@pytest.mark.parametrize(
    ("selector", "labels", "chosen"),
    [
        ("", {}, True),
        ("all()", {}, True),
        ("global()", {}, True),
        ("route-reflector == 'true'", REFLECTOR, True),
        ('route-reflector == "true"', REFLECTOR, True),
        ("route-reflector == 'true'", {}, False),
        ("route-reflector != 'true'", {}, True),
        ("route-reflector != 'true'", REFLECTOR, False),
        ("has(route-reflector)", REFLECTOR, True),
        ("has(route-reflector)", {}, False),
        ("!has(route-reflector)", {}, True),
        ("zone in {'us-east-1a', 'us-east-1b'}", REFLECTOR, True),
        ("zone in {}", REFLECTOR, False),
        ("zone not in {'us-east-1a'}", REFLECTOR, False),
        ("zone not in {'us-east-1a'}", {}, True),
        ("zone contains 'east'", REFLECTOR, True),
        ("zone contains 'east'", {}, False),
        ("zone starts with 'us-'", REFLECTOR, True),
        ("zone ends with '1b'", REFLECTOR, False),
        ("has(zone) && kubernetes.io/os == 'linux'", REFLECTOR, True),
        ("has(nothing) || has(zone)", REFLECTOR, True),
        ("has(nothing) && has(zone) || has(zone)", REFLECTOR, True),
        ("has(nothing) && (has(zone) || has(zone))", REFLECTOR, False),
        ("!has(nothing) && has(zone)", REFLECTOR, True),
        ("!(has(zone) && has(nothing))", REFLECTOR, True),
        ("!!has(zone)", REFLECTOR, True),
    ],
)
def test_a_selector_chooses(selector, labels, chosen):
    assert parse_selector(selector).matches(labels) is chosen


@pytest.mark.parametrize("text", ["zone ==", "zone = 'a'", "zone 'a'", "(has(zone)", "has()", "&& has(a)", "zone == a"])
def test_what_is_no_selector_is_refused_with_its_text(text):
    with pytest.raises(SelectorError) as caught:
        parse_selector(text)
    assert repr(text) in str(caught.value)


VALID = [each for each in selector_vectors() if each["valid"]]
INVALID = [each for each in selector_vectors() if not each["valid"]]


@pytest.mark.parametrize("vector", VALID, ids=lambda each: each["id"])
def test_a_valid_selector_has_its_canonical_text_and_matches(vector):
    selector = parse_selector(vector["selector"])
    assert selector.canonical == vector["canonical"]
    for case in vector["cases"]:
        assert selector.matches(case["labels"]) is case["match"], case["labels"]


@pytest.mark.parametrize("vector", INVALID, ids=lambda each: each["id"])
def test_an_invalid_selector_is_refused(vector):
    with pytest.raises(SelectorError):
        parse_selector(vector["selector"])


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ('zone = "a"', 6, "=="),
        ("zone", 5, "not in"),
        ('zone == "a" && ', 16, "a label's name"),
        ('zone == "a"\n', 12, "&&"),
        ('zone in {"a"', 13, "}"),
    ],
)
def test_a_refusal_says_where_and_what_may_stand_there(text, column, expected):
    with pytest.raises(SelectorError) as caught:
        parse_selector(text)
    assert caught.value.column == column
    assert expected in caught.value.expected
    assert f"column {column}" in str(caught.value)


@pytest.mark.parametrize(
    "text", [f'{"k" * 512} == "v"', "a\t==\t'x'", "a in{'x'}", "a contains'x'", "has( a )", "all( )"]
)
def test_odd_spellings_that_calico_reads(text):
    parse_selector(text)


@pytest.mark.parametrize("text", [f'{"k" * 513} == "v"', "has (a)", "all ()", "a == 'x' || b", "()", "a in {'x',,}"])
def test_odd_spellings_that_calico_refuses(text):
    with pytest.raises(SelectorError):
        parse_selector(text)


def test_a_run_of_negations_is_one_or_none():
    assert parse_selector("!!!has(a)") == parse_selector("! ! !has(a)") == Not(parse_selector("has(a)"))
    assert parse_selector("!!has(a)") == parse_selector("has(a)")
