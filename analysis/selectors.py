"""Calico's label selectors, as the judge reads them: which nodes a `nodeSelector` or `peerSelector` means.

The grammar is that of Calico's documentation: `==`, `!=`, `in`, `not in`, `has()`, `contains`, `starts with`,
`ends with`, `all()`, `global()`, `!`, `&&`, `||` and brackets; `&&` binds closer than `||`. A comparison with a label
that is absent is false, except for `!=` and `not in`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeAlias

from lark import Lark, LarkError, Transformer, v_args

Labels: TypeAlias = Mapping[str, str]
Selector: TypeAlias = Callable[[Labels], bool]

_GRAMMAR = r"""
?start: any
?any: all ("||" all)*              -> any_of
?all: term ("&&" term)*            -> all_of
?term: "!" term                    -> negation
     | "(" any ")"
     | "all" "(" ")"               -> everything
     | "global" "(" ")"            -> nothing
     | "has" "(" KEY ")"           -> has
     | KEY "==" TEXT               -> equal
     | KEY "!=" TEXT               -> unequal
     | KEY "contains" TEXT         -> contains
     | KEY "starts" "with" TEXT    -> starts_with
     | KEY "ends" "with" TEXT      -> ends_with
     | KEY "in" texts              -> among
     | KEY "not" "in" texts        -> not_among
texts: "{" [TEXT ("," TEXT)*] "}"
KEY: /[A-Za-z0-9_.\/-]+/
TEXT: /'[^']*'|"[^"]*"/
%ignore /\s+/
"""


class SelectorError(ValueError):
    """The text is no selector."""


@lru_cache(maxsize=256)
def parse_selector(text: str) -> Selector:
    """The selector as a predicate over labels. An empty text selects everything.

    Raises:
        SelectorError: the text is not in the grammar; the message quotes it.
    """
    if not text.strip():
        return lambda labels: True
    try:
        selector: Selector = _parser().parse(text)  # type: ignore[assignment]  # the transformer makes a Selector
    except LarkError as error:
        place = getattr(error, "column", None)
        where = f" at column {place}" if isinstance(place, int) and place > 0 else ""
        raise SelectorError(f"selector {text!r} cannot be read{where}") from error
    return selector


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", transformer=_Predicates())


@v_args(inline=True)
class _Predicates(Transformer):  # type: ignore[type-arg]
    """Turns the tree, leaves first, into predicates."""

    def KEY(self, token: str) -> str:  # noqa: N802  lark calls it by the terminal's name
        return str(token)

    def TEXT(self, token: str) -> str:  # noqa: N802
        return str(token)[1:-1]

    def texts(self, *texts: str | None) -> frozenset[str]:
        return frozenset(text for text in texts if text is not None)

    def any_of(self, *terms: Selector) -> Selector:
        return lambda labels: any(term(labels) for term in terms)

    def all_of(self, *terms: Selector) -> Selector:
        return lambda labels: all(term(labels) for term in terms)

    def negation(self, term: Selector) -> Selector:
        return lambda labels: not term(labels)

    def everything(self) -> Selector:
        return lambda labels: True

    def nothing(self) -> Selector:
        return lambda labels: False

    def has(self, key: str) -> Selector:
        return lambda labels: key in labels

    def equal(self, key: str, text: str) -> Selector:
        return lambda labels: labels.get(key) == text

    def unequal(self, key: str, text: str) -> Selector:
        return lambda labels: labels.get(key) != text

    def contains(self, key: str, text: str) -> Selector:
        return lambda labels: key in labels and text in labels[key]

    def starts_with(self, key: str, text: str) -> Selector:
        return lambda labels: key in labels and labels[key].startswith(text)

    def ends_with(self, key: str, text: str) -> Selector:
        return lambda labels: key in labels and labels[key].endswith(text)

    def among(self, key: str, texts: frozenset[str]) -> Selector:
        return lambda labels: labels.get(key) in texts

    def not_among(self, key: str, texts: frozenset[str]) -> Selector:
        return lambda labels: labels.get(key) not in texts
