"""What can match at all, decided exactly: against the vectors, and against a search through small texts."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.policy.satisfiable import (
    implies,
    satisfiable,
    satisfiable_by_objects,
    satisfiable_by_subjects,
)
from analysis.policy.selector import parse_selector
from analysis.policy.terms import (
    All,
    And,
    Contains,
    EndsWith,
    Equal,
    Global,
    Has,
    In,
    Not,
    NotIn,
    Or,
    Selector,
    StartsWith,
    Unequal,
)
from tests.unit.analysis.policy.vectors import relation_vectors, selector_vectors

KEYS = ("a", "b")
TEXTS = ("", "x", "y", "xy", "xx")
LONGEST = 6
"""Texts that two tests of at most two letters each, wanted or not, can ask for are not longer than that."""


@pytest.mark.parametrize("vector", [v for v in selector_vectors() if v["valid"]], ids=lambda vector: vector["id"])
def test_selectors_that_can_match_are_told_from_those_that_cannot(vector):
    assert satisfiable(parse_selector(vector["selector"])) is vector["satisfiable"]


@pytest.mark.parametrize("vector", relation_vectors(), ids=lambda vector: vector["id"])
def test_relations_of_selectors(vector):
    left, right = parse_selector(vector["left"]), parse_selector(vector["right"])
    there, back = implies(left, right), implies(right, left)
    assert there is vector["left_implies_right"]
    assert (there and back) is vector["equivalent"]


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ('a starts with "ab" && a ends with "bc" && a != "abc"', True),
        ('a starts with "ab" && a ends with "bc" && !(a contains "c")', False),
        ('a contains "foo" && a contains "oob" && !(a contains "foob")', True),
        ('a starts with "x" && !(a contains "x")', False),
        ('has(a) && a not in {"", "a", "b"}', True),
        ('a starts with "abc" && !(a starts with "ab")', False),
        ('a contains "" && !has(a)', False),
    ],
)
def test_conflicts_between_parts_of_a_text(text, possible):
    assert satisfiable(parse_selector(text)) is possible


def test_beyond_its_limits_it_is_undecided():
    """Every pair of labels forbids what another pair allows: as many ways through as 2 to the power of 14."""
    clauses = [f'(k{i} == "x" || k{i} starts with "y")' for i in range(14)]
    never = '(a == "1" || b == "1") && (a == "2" || b == "2") && (a == "3" || b == "3")'
    assert satisfiable(parse_selector(" && ".join([*clauses, never]))) is None


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ('projectcalico.org/orchestrator == "k8s" && !has(projectcalico.org/namespace)', False),
        ('projectcalico.org/namespace == "web" && pcns.projectcalico.org/name == "db"', False),
        ('projectcalico.org/namespace == "web" && pcns.projectcalico.org/name starts with "w"', True),
        ('pcsa.projectcalico.org/name == "x" && projectcalico.org/serviceaccount != "x"', False),
        ('!has(projectcalico.org/namespace) && pcns.team == "front"', False),
        ('has(projectcalico.org/namespace) && zone == "corp"', True),
        ('!has(projectcalico.org/namespace) && zone == "corp"', True),
    ],
)
def test_the_labels_that_calico_gives_can_rule_a_selector_out(text, possible):
    selector = parse_selector(text)
    assert satisfiable(selector) is True
    assert satisfiable_by_objects(selector) is possible


def test_a_policy_selects_no_network_set():
    of_a_set = parse_selector("has(projectcalico.org/namespace) && !has(projectcalico.org/orchestrator)")
    assert satisfiable_by_objects(of_a_set) is True
    assert satisfiable_by_subjects(of_a_set) is False


keys = st.sampled_from(KEYS)
texts = st.sampled_from(TEXTS)
tests = st.one_of(
    st.sampled_from([All(), Global()]),
    st.builds(Has, keys),
    *(st.builds(kind, keys, texts) for kind in (Equal, Unequal, Contains, StartsWith, EndsWith)),
    *(st.builds(kind, keys, st.frozensets(texts, max_size=2)) for kind in (In, NotIn)),
)
selectors = st.recursive(
    tests,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        *(st.builds(kind, st.lists(inner, min_size=2, max_size=3).map(tuple)) for kind in (And, Or)),
    ),
    max_leaves=5,
)

WORDS = ["".join(letters) for length in range(LONGEST) for letters in product("xyz", repeat=length)]
CHOICES = [None, *WORDS]


def found_by_search(selector: Selector) -> bool:
    used = [key for key in KEYS if f"{key} " in selector.canonical or f"({key})" in selector.canonical]
    return any(
        selector.matches({key: text for key, text in zip(used, choice, strict=True) if text is not None})
        for choice in product(CHOICES if len(used) < 2 else CHOICES[:122], repeat=len(used))
    )


@settings(max_examples=150, deadline=None)
@given(selectors)
def test_it_agrees_with_a_search_through_all_small_texts(selector):
    assert satisfiable(selector) is found_by_search(selector)


@settings(max_examples=200, deadline=None)
@given(selectors)
def test_the_canonical_text_means_the_same(selector):
    again = parse_selector(selector.canonical)
    assert implies(selector, again) is implies(again, selector) is True
    labels = [{}, {"a": ""}, {"a": "x"}, {"a": "xy", "b": "y"}, {"b": "xx"}]
    assert [selector.matches(each) for each in labels] == [again.matches(each) for each in labels]
