"""The terms that selectors are made of: what they match, and the text that Calico gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

Labels: TypeAlias = Mapping[str, str]
Predicate: TypeAlias = Callable[[Labels], bool]


@dataclass(frozen=True)
class Selector:
    """A condition on the labels of one object. Selectors are equal when they are written alike."""

    @cached_property
    def matches(self) -> Predicate:
        """Tells of labels whether they meet the condition."""
        return _predicate(self)

    @cached_property
    def canonical(self) -> str:
        """The text that Calico gives it: double quotes, sorted sets, every group in brackets."""
        return _canonical(self)

    def rewritten(self, change: Callable[[Selector], Selector]) -> Selector:
        """The same condition with `change` made to each of its tests (the leaves)."""
        return change(self)


@dataclass(frozen=True)
class All(Selector):
    """`all()`: everything."""


@dataclass(frozen=True)
class Global(Selector):
    """`global()`: true for the parser. Only a rule's namespaceSelector gives it a meaning, by rewriting it."""


@dataclass(frozen=True)
class LabelTest(Selector):
    """A test of one label."""

    key: str


@dataclass(frozen=True)
class Has(LabelTest):
    """`has(key)`: the label is there, be it empty."""


@dataclass(frozen=True)
class Comparison(LabelTest):
    """A test of a label's value against a text."""

    text: str


class Equal(Comparison):
    """`key == "text"`."""


class Unequal(Comparison):
    """`key != "text"`: a label that is absent matches too."""


class Contains(Comparison):
    """`key contains "text"`."""


class StartsWith(Comparison):
    """`key starts with "text"`."""


class EndsWith(Comparison):
    """`key ends with "text"`."""


@dataclass(frozen=True)
class Membership(LabelTest):
    """A test of a label's value against a set of texts."""

    texts: frozenset[str]


class In(Membership):
    """`key in {"a", "b"}`; the empty set matches nothing."""


class NotIn(Membership):
    """`key not in {"a", "b"}`: a label that is absent matches too."""


@dataclass(frozen=True)
class Not(Selector):
    """`!term`."""

    term: Selector

    def rewritten(self, change: Callable[[Selector], Selector]) -> Selector:
        """With `change` made to each of its tests."""
        return Not(self.term.rewritten(change))


@dataclass(frozen=True)
class Group(Selector):
    """Two or more terms with the same word between them."""

    terms: tuple[Selector, ...]

    def rewritten(self, change: Callable[[Selector], Selector]) -> Selector:
        """With `change` made to each of its tests."""
        return type(self)(tuple(term.rewritten(change) for term in self.terms))


class And(Group):
    """`a && b`."""


class Or(Group):
    """`a || b`."""


_OPERATORS = {
    Equal: "==",
    Unequal: "!=",
    Contains: "contains",
    StartsWith: "starts with",
    EndsWith: "ends with",
    In: "in",
    NotIn: "not in",
    And: " && ",
    Or: " || ",
}


def _predicate(selector: Selector) -> Predicate:
    match selector:
        case Has(key):
            return lambda labels: key in labels
        case Equal(key, text):
            return lambda labels: labels.get(key) == text
        case Unequal(key, text):
            return lambda labels: labels.get(key) != text
        case Contains(key, text):
            return lambda labels: (value := labels.get(key)) is not None and text in value
        case StartsWith(key, text):
            return lambda labels: (value := labels.get(key)) is not None and value.startswith(text)
        case EndsWith(key, text):
            return lambda labels: (value := labels.get(key)) is not None and value.endswith(text)
        case In(key, texts):
            return lambda labels: labels.get(key) in texts
        case NotIn(key, texts):
            return lambda labels: labels.get(key) not in texts
        case Not(term):
            matches = term.matches
            return lambda labels: not matches(labels)
        case And(terms):
            tests = [term.matches for term in terms]
            return lambda labels: all(test(labels) for test in tests)
        case Or(terms):
            tests = [term.matches for term in terms]
            return lambda labels: any(test(labels) for test in tests)
    return lambda labels: True


def _canonical(selector: Selector) -> str:
    match selector:
        case Has(key):
            return f"has({key})"
        case Comparison(key, text):
            return f"{key} {_OPERATORS[type(selector)]} {_quoted(text)}"
        case Membership(key, texts):
            return f"{key} {_OPERATORS[type(selector)]} {{{', '.join(map(_quoted, sorted(texts)))}}}"
        case Not(term):
            return f"!{term.canonical}"
        case Group(terms):
            return f"({_OPERATORS[type(selector)].join(term.canonical for term in terms)})"
        case Global():
            return "global()"
    return "all()"


def both(*terms: Selector) -> Selector:
    """All of them: the term itself when there is one, `all()` when there is none."""
    return terms[0] if len(terms) == 1 else And(terms) if terms else All()


def _quoted(text: str) -> str:
    return f"'{text}'" if '"' in text else f'"{text}"'
