"""Calico's selector language, read into terms.

A word is a label's name or an operator by where it stands, so the grammar is read with a lexer that knows the parser's
state: `in == "x"` compares a label that is called `in`. White space is blank and tab alone; a line break is a mistake,
which a folded YAML block easily makes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken, v_args

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

_GRAMMAR = r"""
?start: either
?either: both ("||" both)*
?both: negated ("&&" negated)*
?negated: BANG+ primary             -> negation
        | primary
?primary: "(" either ")"
        | ALL                       -> everything
        | GLOBAL                    -> outside
        | HAS NAME ")"              -> has
        | NAME "==" TEXT            -> equal
        | NAME "!=" TEXT            -> unequal
        | NAME CONTAINS TEXT        -> contains
        | NAME STARTS_WITH TEXT     -> starts_with
        | NAME ENDS_WITH TEXT       -> ends_with
        | NAME IN texts             -> among
        | NAME NOT_IN texts         -> not_among
texts: "{" (TEXT ("," TEXT)* ","?)? "}"

BANG: "!"
ALL.1: /all\([ \t]*\)/
GLOBAL.1: /global\([ \t]*\)/
HAS.1: /has\(/
CONTAINS: /contains(?![A-Za-z0-9_.\/-])/
STARTS_WITH: /starts[ \t]*with(?![A-Za-z0-9_.\/-])/
ENDS_WITH: /ends[ \t]*with(?![A-Za-z0-9_.\/-])/
IN: /in(?![A-Za-z0-9_.\/-])/
NOT_IN: /not[ \t]*in(?![A-Za-z0-9_.\/-])/
NAME: /[A-Za-z0-9_.\/-]{1,512}(?![A-Za-z0-9_.\/-])/
TEXT: /'[^']*'|"[^"]*"/
%ignore /[ \t]+/
"""

_WORDS = {
    "NAME": "a label's name",
    "TEXT": "a quoted text",
    "HAS": "has(",
    "ALL": "all()",
    "GLOBAL": "global()",
    "BANG": "!",
    "EQUAL": "==",
    "CONTAINS": "contains",
    "STARTS_WITH": "starts with",
    "ENDS_WITH": "ends with",
    "IN": "in",
    "NOT_IN": "not in",
    "LPAR": "(",
    "RPAR": ")",
    "LBRACE": "{",
    "RBRACE": "}",
    "COMMA": ",",
    "$END": "the end",
}
"""What the parser's terminals are called to a reader; the others have names of lark's own making (`_sign`)."""


class SelectorError(ValueError):
    """The text is no selector.

    Attributes:
        text: the selector.
        column: where reading stopped, counted from 1.
        expected: what may stand there.
    """

    def __init__(self, text: str, column: int, expected: tuple[str, ...]) -> None:
        self.text = text
        self.column = column
        self.expected = expected
        found = repr(text[column - 1]) if column <= len(text) else "the end"
        super().__init__(
            f"selector {text!r} cannot be read at column {column}: found {found}, expected {' or '.join(expected)}"
        )


@lru_cache(maxsize=16384)
def parse_selector(text: str) -> Selector:
    """The selector that the text says. An empty or blank text selects everything.

    Raises:
        SelectorError: the text is not in the grammar.
    """
    if not text.strip(" \t"):
        return All()
    try:
        selector: Selector = _parser().parse(text)  # type: ignore[assignment]  # the transformer makes a Selector
    except UnexpectedInput as error:
        raise SelectorError(text, _place(error, text), _expected(error)) from error
    return selector


def _place(error: UnexpectedInput, text: str) -> int:
    at_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
    return len(text) + 1 if at_end or error.pos_in_stream is None else error.pos_in_stream + 1


def _expected(error: UnexpectedInput) -> tuple[str, ...]:
    names: set[str] = set()
    if isinstance(error, UnexpectedCharacters):
        names = set(error.allowed or ())
    elif isinstance(error, UnexpectedToken):
        names = set(error.accepts or error.expected)
    return tuple(sorted({_sign(name) for name in names - {"__IGNORE_0"}}))


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", transformer=_Reader())


def _sign(name: str) -> str:
    """A terminal as its reader knows it: the signs in quotes have names that lark made up."""
    if name in _WORDS:
        return _WORDS[name]
    return next(str(each.pattern.value) for each in _parser().terminals if each.name == name)


@v_args(inline=True)
class _Reader(Transformer):  # type: ignore[type-arg]
    """Makes selectors of what the parser finds, leaves first."""

    def TEXT(self, token: Token) -> str:  # noqa: N802  lark calls it by the terminal's name
        return str(token)[1:-1]

    def NAME(self, token: Token) -> str:  # noqa: N802
        return str(token)

    def texts(self, *texts: str) -> frozenset[str]:
        return frozenset(texts)

    def either(self, *terms: Selector) -> Selector:
        return Or(terms)

    def both(self, *terms: Selector) -> Selector:
        return And(terms)

    def negation(self, *parts: Any) -> Selector:
        """A run of `!` is one or none, as in Calico's own reader."""
        *bangs, term = parts
        selector: Selector = term
        return Not(selector) if len(bangs) % 2 else selector

    def everything(self, word: Token) -> Selector:
        return All()

    def outside(self, word: Token) -> Selector:
        return Global()

    def has(self, word: Token, key: str) -> Selector:
        return Has(key)

    def equal(self, key: str, text: str) -> Selector:
        return Equal(key, text)

    def unequal(self, key: str, text: str) -> Selector:
        return Unequal(key, text)

    def contains(self, key: str, word: Token, text: str) -> Selector:
        return Contains(key, text)

    def starts_with(self, key: str, word: Token, text: str) -> Selector:
        return StartsWith(key, text)

    def ends_with(self, key: str, word: Token, text: str) -> Selector:
        return EndsWith(key, text)

    def among(self, key: str, word: Token, texts: frozenset[str]) -> Selector:
        return In(key, texts)

    def not_among(self, key: str, word: Token, texts: frozenset[str]) -> Selector:
        return NotIn(key, texts)
