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
        ("global()", True, True),
        ("has( route-reflector )", True, False),
        ("route-reflector in {}", False, False),
        ("route-reflector notin {'true',}", False, True),
        ("kubernetes.io/os startswith 'lin'", True, True),
        ("all == 'x' || has == 'y' || in in {'z'}", False, False),
        ("inside != 'x'", True, True),
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
        "k in {,}",
        "k = 'v'",
        "k == 'v'\n&& all()",
        "has (k)",
        "k containsx 'v'",
        "'v' == k",
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


def test_keys_may_be_those_that_a_pod_inherits_and_all_those_that_have_a_namespace():
    inherited = parse_selector("team == 'db' && all()", prefix="pcns.", within="projectcalico.org/namespace")
    assert inherited({"pcns.team": "db", "projectcalico.org/namespace": "web"})
    assert not inherited({"team": "db", "projectcalico.org/namespace": "web"})
    assert not inherited({"pcns.team": "db"})
    outside = parse_selector("global()", within="projectcalico.org/namespace")
    assert outside({})
    assert not outside({"projectcalico.org/namespace": "web"})
