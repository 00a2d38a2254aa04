"""Calico's label selectors."""

import pytest

from provision.lab.calico.selector import SelectorError, parse_selector

REFLECTOR = {"route-reflector": "true", "kubernetes.io/os": "linux"}
WORKER = {"kubernetes.io/os": "linux"}


@pytest.mark.parametrize(
    ("selector", "reflector", "worker"),
    [
        ("", True, True),
        ("all()", True, True),
        ("!all()", False, False),
        ("route-reflector == 'true'", True, False),
        ('route-reflector == "true"', True, False),
        ("route-reflector=='true'", True, False),
        ("route-reflector != 'true'", False, True),
        ("has(route-reflector)", True, False),
        ("!has(route-reflector)", False, True),
        ("kubernetes.io/os in {'linux', 'windows'}", True, True),
        ("route-reflector in { 'true' }", True, False),
        ("route-reflector not in {'true'}", False, True),
        ("kubernetes.io/os contains 'inu'", True, True),
        ("route-reflector contains 'ru'", True, False),
        ("kubernetes.io/os starts with 'lin'", True, True),
        ("route-reflector starts with 'rue'", False, False),
        ("route-reflector ends with 'rue'", True, False),
        ("has(route-reflector) && kubernetes.io/os == 'linux'", True, False),
        ("has(route-reflector) || kubernetes.io/os == 'linux'", True, True),
        ("has(a) && has(b) || kubernetes.io/os == 'linux'", True, True),
        ("has(a) && (has(b) || kubernetes.io/os == 'linux')", False, False),
        ("!(has(route-reflector) && all())", False, True),
    ],
)
def test_a_selector_chooses_by_labels(selector, reflector, worker):
    chooses = parse_selector(selector)
    assert (chooses(REFLECTOR), chooses(WORKER)) == (reflector, worker)


@pytest.mark.parametrize(
    "selector",
    [
        "route-reflector",
        "k ==",
        "k == v",
        "has(k",
        "k in {}",
        "&& has(k)",
        "k == 'v' k",
        "k == 'v",
        "(all()",
        "k starts 'v'",
    ],
)
def test_a_broken_selector_is_quoted_in_the_error(selector):
    with pytest.raises(SelectorError) as error:
        parse_selector(selector)
    assert repr(selector) in str(error.value)
