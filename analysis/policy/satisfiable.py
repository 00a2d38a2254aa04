"""Whether a selector can match anything at all, and whether one selector implies another.

An object's labels are a map from keys to texts, and every test speaks of one key. So a conjunction of tests splits by
key, and each key asks: may the label be absent, or is there a text that passes all tests on it? The tests of a text
(equal, starts with, ends with, contains, and their negations) are small automata, so a search through their product is
exact. Disjunctions are branched over; beyond a limit the answer is that it is undecided, never a guess.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import TypeAlias

from analysis.policy.endpoint_labels import (
    ACCOUNT_PREFIX,
    KUBERNETES,
    NAME,
    NAMESPACE,
    NAMESPACE_PREFIX,
    ORCHESTRATOR,
    SERVICE_ACCOUNT,
)
from analysis.policy.terms import (
    And,
    Comparison,
    Contains,
    Equal,
    Group,
    Has,
    In,
    LabelTest,
    Membership,
    Not,
    NotIn,
    Or,
    Selector,
    StartsWith,
    Unequal,
    both,
)

BRANCHES = 4096
"""Ways through a selector's disjunctions that are looked at before the question is left undecided."""

STATES = 5_000
"""Of the automata of one label's tests, likewise."""

Literals: TypeAlias = frozenset[Selector]


class _UndecidedError(Exception):
    """More work than the limits allow."""


def satisfiable(selector: Selector) -> bool | None:
    """Whether any labels at all match; None when it was not decided within the limits."""
    try:
        return _Search().holds((selector,), {})
    except _UndecidedError:
        return None


def implies(first: Selector, second: Selector) -> bool | None:
    """Whether everything that `first` matches is matched by `second`; None when it was not decided."""
    counterexample = satisfiable(both(first, Not(second)))
    return None if counterexample is None else not counterexample


@lru_cache(maxsize=65536)
def satisfiable_by_objects(selector: Selector) -> bool | None:
    """Whether a pod, a network set or a host endpoint could match, given the labels that Calico itself puts on them.

    Somebody could label a host endpoint or a network set by hand with a key that Calico keeps for pods.
    """
    answers = [satisfiable(each) for each in (_as_pod(selector), _as_network_set(selector), _as_global(selector))]
    if any(answers):
        return True
    return None if None in answers else False


def satisfiable_by_subjects(selector: Selector) -> bool | None:
    """Whether a pod or a host endpoint could match: what a policy itself selects, which is never a network set."""
    answers = [satisfiable(each) for each in (_as_pod(selector), _as_global(selector))]
    if any(answers):
        return True
    return None if None in answers else False


def _as_pod(selector: Selector) -> Selector:
    """A pod has a namespace, whose name is told twice, and so is that of its service account."""
    twice = {f"{NAMESPACE_PREFIX}{NAME}": NAMESPACE, f"{ACCOUNT_PREFIX}{NAME}": SERVICE_ACCOUNT}
    return And(
        (selector.rewritten(lambda test: _renamed(test, twice)), Has(NAMESPACE), Equal(ORCHESTRATOR, KUBERNETES))
    )


def _as_network_set(selector: Selector) -> Selector:
    same = selector.rewritten(lambda test: _renamed(test, {f"{NAMESPACE_PREFIX}{NAME}": NAMESPACE}))
    without = [Not(Has(key)) for key in _keys(same) if key in _OF_PODS or key.startswith(ACCOUNT_PREFIX)]
    return And((same, Has(NAMESPACE), *without))


def _as_global(selector: Selector) -> Selector:
    reserved = (NAMESPACE_PREFIX, ACCOUNT_PREFIX)
    without = [
        Not(Has(key)) for key in _keys(selector) if key in _OF_PODS or key == NAMESPACE or key.startswith(reserved)
    ]
    return And((selector, *without))


_OF_PODS = (ORCHESTRATOR, SERVICE_ACCOUNT)


def _renamed(test: Selector, names: dict[str, str]) -> Selector:
    match test:
        case Comparison(key, text) if key in names:
            return type(test)(names[key], text)
        case Membership(key, texts) if key in names:
            return type(test)(names[key], texts)
        case Has(key) if key in names:
            return Has(names[key])
    return test


def _keys(selector: Selector) -> set[str]:
    match selector:
        case LabelTest(key):
            return {key}
        case Not(term):
            return _keys(term)
        case Group(terms):
            return set().union(*map(_keys, terms))
    return set()


class _Search:
    """A way through the disjunctions on which every label can be chosen, tried depth first."""

    def __init__(self) -> None:
        self._branches = 0

    def holds(self, pending: tuple[Selector, ...], chosen: dict[str, Literals]) -> bool:
        """Whether labels exist for the literals chosen so far together with the terms that are pending."""
        chosen = dict(chosen)
        splits: list[Or] = []
        queue = deque(pending)
        while queue:
            term = pushed(queue.popleft())
            match term:
                case And(terms):
                    queue.extendleft(reversed(terms))
                case Or():
                    splits.append(term)
                case LabelTest(key) | Not(LabelTest(key)):
                    literals = chosen.get(key, frozenset()) | {term}
                    if not _possible(key, literals):
                        return False
                    chosen[key] = literals
                case Not():  # of all() or global()
                    return False
        if not splits:
            return True
        split = min(splits, key=lambda each: len(each.terms))
        rest = tuple(each for each in splits if each is not split)
        for term in split.terms:
            self._branches += 1
            if self._branches > BRANCHES:
                raise _UndecidedError
            if self.holds((term, *rest), chosen):
                return True
        return False


def pushed(term: Selector) -> Selector:
    """The same condition with a negation of a group moved to the group's terms."""
    match term:
        case Not(Not(inner)):
            return pushed(inner)
        case Not(And(terms)):
            return Or(tuple(map(Not, terms)))
        case Not(Or(terms)):
            return And(tuple(map(Not, terms)))
    return term


@lru_cache(maxsize=65536)
def _possible(key: str, literals: Literals) -> bool:
    """Whether one label can be such that all tests on it hold: absent, or with some text."""
    if all(each.matches({}) for each in literals):
        return True
    if Not(Has(key)) in literals:
        return False
    finite = [texts for texts in map(_exact_texts, literals) if texts is not None]
    if finite:
        return any(all(each.matches({key: text}) for each in literals) for text in min(finite, key=len))
    return _some_text([automaton for each in literals for automaton in _automata(each)])


def _exact_texts(literal: Selector) -> frozenset[str] | None:
    """The texts to which a literal narrows its label, None where it leaves infinitely many."""
    match literal:
        case Equal(_, text) | Not(Unequal(_, text)):
            return frozenset({text})
        case In(_, texts) | Not(NotIn(_, texts)):
            return texts
    return None


@dataclass(frozen=True)
class _Automaton:
    """Reads a label's text letter by letter and knows then whether a test of it comes out as wanted.

    Its state is how much of the test's own text has been met, -1 when that can no longer be.
    """

    test: type[Selector]
    text: str
    wanted: bool

    def step(self, state: int, letter: str) -> int:
        """The state after one more letter."""
        if state < 0 or (state == len(self.text) and self.test in (StartsWith, Contains)):
            return state
        if self.test in (Equal, StartsWith):
            return state + 1 if self.text[state : state + 1] == letter else -1
        return _overlap(self.text, state, letter)

    def accepts(self, state: int) -> bool:
        """Whether the test comes out as wanted if the text ends here."""
        return (state == len(self.text)) is self.wanted


def _automata(literal: Selector) -> Iterator[_Automaton]:
    wanted = not isinstance(literal, Not)
    match literal.term if isinstance(literal, Not) else literal:
        case Equal(_, text):
            yield _Automaton(Equal, text, wanted)
        case Unequal(_, text):
            yield _Automaton(Equal, text, not wanted)
        case In(_, texts) | NotIn(_, texts):
            yield from (_Automaton(Equal, text, False) for text in texts)  # wanted ones are tried out one by one
        case Comparison(_, text) as test:
            yield _Automaton(type(test), text, wanted)


def _some_text(automata: Sequence[_Automaton]) -> bool:
    """Whether all automata accept one and the same text: a search through their product, letter by letter."""
    letters = {letter for each in automata for letter in each.text}
    fresh = next(letter for letter in map(chr, count(ord("a"))) if letter not in letters)
    start = (0,) * len(automata)
    seen = {start}
    queue = deque(seen)
    while queue:
        states = queue.popleft()
        if all(each.accepts(state) for each, state in zip(automata, states, strict=True)):
            return True
        for letter in (fresh, *letters):
            following = tuple(each.step(state, letter) for each, state in zip(automata, states, strict=True))
            if following not in seen:
                seen.add(following)
                queue.append(following)
        if len(seen) > STATES:
            raise _UndecidedError
    return False


@lru_cache(maxsize=4096)
def _overlap(text: str, met: int, letter: str) -> int:
    """How much of the text has been met after one more letter, if `met` of it had been met before it."""
    read = text[:met] + letter
    return next(length for length in range(min(len(read), len(text)), -1, -1) if read.endswith(text[:length]))
