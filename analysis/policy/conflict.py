"""Why a selector can match nothing, in words."""

from __future__ import annotations

from itertools import combinations

from analysis.policy.satisfiable import pushed, satisfiable
from analysis.policy.terms import (
    And,
    Contains,
    EndsWith,
    Equal,
    Has,
    In,
    LabelTest,
    Not,
    NotIn,
    Or,
    Selector,
    StartsWith,
    Unequal,
    both,
)
from analysis.words import listed


def conflict(selector: Selector) -> str:
    """What in a selector that can match nothing rules everything out: the smallest contradiction on one label."""
    tests = _together(selector)
    if tests is None:
        return f"no labels whatever satisfy {selector.canonical}"
    for size in (1, 2, 3):
        for some in combinations(tests, size):
            if satisfiable(both(*some)) is False:
                return _told(some)
    return f"no labels whatever satisfy {selector.canonical}"


def _together(selector: Selector) -> list[Selector] | None:
    """The tests that all must hold; None where some are alternatives."""
    match pushed(selector):
        case And(terms):
            parts = [_together(term) for term in terms]
            return None if None in parts else [test for part in parts if part for test in part]
        case Or():
            return None
        case test:
            return [test]


def _told(tests: tuple[Selector, ...]) -> str:
    match tests:
        case (Equal(key, first), Equal(_, second)):
            return f'the label {key} cannot be "{first}" and "{second}" at once: a label has one value'
        case (In(key, _),):
            return f"the label {key} would have to be one of no values at all"
        case (LabelTest(key), *_) | (Not(LabelTest(key)), *_):
            wishes = [_wish(test) for test in tests]
            return f"the label {key} would have to {' and to '.join(wishes)} at once"
    return f"{both(*tests).canonical} matches nothing"


def _wish(test: Selector) -> str:
    """What a test wants of its label, as it goes on after "would have to"."""
    match test:
        case Equal(_, text) | Not(Unequal(_, text)):
            return f'be "{text}"'
        case Unequal(_, text) | Not(Equal(_, text)):
            return f'be other than "{text}"'
        case In(_, texts) | Not(NotIn(_, texts)):
            return f"be one of {_quoted(texts)}"
        case NotIn(_, texts) | Not(In(_, texts)):
            return f"be none of {_quoted(texts)}"
        case Has():
            return "be there"
        case Not(Has()):
            return "be absent"
        case Contains(_, text):
            return f'contain "{text}"'
        case Not(Contains(_, text)):
            return f'be without "{text}"'
        case StartsWith(_, text):
            return f'start with "{text}"'
        case Not(StartsWith(_, text)):
            return f'start otherwise than with "{text}"'
        case EndsWith(_, text):
            return f'end with "{text}"'
        case Not(EndsWith(_, text)):
            return f'end otherwise than with "{text}"'
    return test.canonical


def _quoted(texts: frozenset[str]) -> str:
    return listed([f'"{text}"' for text in sorted(texts)]) or "no values"
