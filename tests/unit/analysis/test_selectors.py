"""Calico's selectors mean what its documentation says."""

from __future__ import annotations

import pytest

from analysis.selectors import SelectorError, parse_selector

REFLECTOR = {"route-reflector": "true", "kubernetes.io/os": "linux", "zone": "us-east-1a"}


@pytest.mark.parametrize(
    ("selector", "labels", "chosen"),
    [
        ("", {}, True),
        ("all()", {}, True),
        ("global()", {}, False),
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
    assert parse_selector(selector)(labels) is chosen


@pytest.mark.parametrize("text", ["zone ==", "zone = 'a'", "zone 'a'", "(has(zone)", "has()", "&& has(a)", "zone == a"])
def test_what_is_no_selector_is_refused_with_its_text(text):
    with pytest.raises(SelectorError) as caught:
        parse_selector(text)
    assert repr(text) in str(caught.value)
